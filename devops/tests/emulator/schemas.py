"""CloudFormation's own schemas of resource types, out of cfn-lint: what a type may hold,
what GetAtt gives, and which properties cannot change without a new resource."""

from __future__ import annotations

import functools
import re

import jsonschema


@functools.cache
def _manager():
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER  # takes a second: only when it is needed

    return PROVIDER_SCHEMA_MANAGER


@functools.cache
def known(region, kind):
    return isinstance(kind, str) and kind in _manager().get_resource_types(region)


@functools.cache
def schema(region, kind):
    return _manager().get_resource_schema(region, kind).schema


def has_attribute(region, kind, name):
    attributes = _manager().get_type_getatts(kind, region)
    return any(name == each or re.fullmatch(each, name) for each in attributes)


def tags_property(region, kind):
    """The property that stack-level tags go to, and whether it is a list of Key and Value; None when there is none."""
    tagging = schema(region, kind).get("tagging", {})
    if tagging.get("taggable") is False:
        return None
    name = tagging.get("tagProperty", "/properties/Tags").rsplit("/", 1)[1]
    body = schema(region, kind)["properties"].get(name)
    if body is None:
        return None
    return name, _resolved(schema(region, kind), body).get("type") == "array"


def create_only(region, kind):
    """Paths of the properties whose change needs a new resource, like ("Cluster",)."""
    return [_path(pointer) for pointer in schema(region, kind).get("createOnlyProperties", [])]


def maybe_create_only(region, kind):
    return [_path(pointer) for pointer in schema(region, kind).get("conditionalCreateOnlyProperties", [])]


def _path(pointer):
    return tuple(part for part in pointer.split("/")[2:] if part != "*")


def _resolved(whole, body):
    while "$ref" in body:
        target = whole
        for part in body["$ref"].lstrip("#/").split("/"):
            target = target[part]
        body = target
    return body


def coerced(region, kind, properties):
    """Properties with the types of the schema: functions give text where a number or a truth value belongs."""
    whole = schema(region, kind)
    return _coerced(whole, whole, properties)


def _coerced(whole, body, value):
    body = _resolved(whole, body)
    kinds = body.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(value, dict):
        members = body.get("properties", {})
        others = next(iter(body.get("patternProperties", {}).values()), {})
        for choice in body.get("oneOf", []) + body.get("anyOf", []):
            members = {**_resolved(whole, choice).get("properties", {}), **members}
        return {key: _coerced(whole, members.get(key, others), inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_coerced(whole, body.get("items", {}), inner) for inner in value]
    if isinstance(value, str) and kinds and "string" not in kinds:
        if "boolean" in kinds and value in ("true", "false"):
            return value == "true"
        if {"integer", "number"} & set(kinds) and re.fullmatch(r"-?\d+(\.\d+)?", value):
            return float(value) if "." in value else int(value)
        if kinds == ["array"]:
            return [value]
    if isinstance(value, bool | int | float) and kinds == ["string"]:
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value


def faults(region, kind, properties):
    """What the schema does not allow, as CloudFormation tells it."""
    return ["/".join(["#", *map(str, error.absolute_path)]) + f": {error.message}"
            for error in _validator(region, kind).iter_errors(properties)]


def _pattern(validator, pattern, value, _):
    try:
        fits = not isinstance(value, str) or re.search(pattern, value)
    except re.error:  # of another dialect
        return
    if not fits:
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


_Validator = jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": _pattern})


@functools.cache
def _validator(region, kind):
    return _Validator(schema(region, kind))
