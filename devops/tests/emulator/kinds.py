"""How a resource of a template is made, changed and removed: by the API call that its type stands for.

A type is one row, a Kind. Properties become arguments by AWS's own model of the call: the names are nearly the
same, in another case; text becomes numbers and documents become text where the call wants it. What differs is said in
the row. What moto lacks altogether is a row without a service: nothing is called, and it has a name and attributes
like the real thing.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import string
import uuid
from collections.abc import Callable
from typing import Any

from moto.core.utils import get_service_model

from . import schemas


class Trouble(Exception):
    """The resource cannot be made: the reason stands in the stack's events."""


@dataclasses.dataclass
class Resource:
    """One resource of a stack."""

    logical: str
    kind: str
    body: dict  # as the template has it
    properties: dict = dataclasses.field(default_factory=dict)  # resolved
    id: str = ""
    made_up: str = ""  # its name, where the template gives none
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    status: str = "CREATE_COMPLETE"
    reason: str = ""
    at: Any = None


@dataclasses.dataclass(frozen=True)
class Kind:
    # Formats below know {p[Name]} (properties), {answer[Name]} (of create), {id}, {region}, {account}, {stack},
    # {logical}, {random}.
    service: str = ""
    create: str | Callable[[Work], str] = ""  # the operation, or a function that gives the id
    id: str = "{random}"
    attributes: dict[str, str | Callable[[Work], Any]] = dataclasses.field(default_factory=dict)
    update: str | Callable[[Work], None] = ""  # nothing to call: the change is only noted
    delete: str | Callable[[Work], None] = ""
    key: dict[str, str] = dataclasses.field(default_factory=dict)  # arguments of update and delete that tell which one
    name: str = ""  # the property that CloudFormation makes up when it is absent
    longest: int = 64
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)  # arguments of create that are no property
    rename: dict[str, str] = dataclasses.field(default_factory=dict)
    without: tuple[str, ...] = ()  # properties that the call does not know
    then: Callable[[Work], None] | None = None  # calls that follow create and update


class Work:
    """One resource at work: what functions of a row are given."""

    def __init__(self, resource, stack, aws, region, account, old=None):
        self.resource, self.stack, self.region, self.account = resource, stack, region, account
        self.p, self.old = dict(resource.properties), old
        self.answer = {}
        self._aws = aws
        self.kind = KINDS[resource.kind]
        if self.kind.name and resource.made_up:
            self.p.setdefault(self.kind.name, resource.made_up)

    @property
    def id(self):
        return self.resource.id

    def call(self, operation, /, **arguments):
        """A call of the type's own service."""
        return self.of(self.kind.service, operation, **arguments)

    def of(self, service, operation, /, **arguments):
        return self._aws(service, self.region, operation, **arguments)

    def fill(self, text):
        return text.format_map(_Words(
            p=self.p, answer=self.answer, id=self.resource.id, region=self.region, account=self.account,
            stack=self.stack.name, logical=self.resource.logical,
        ))

    def api(self, operation, value, *path):
        """A value in the form of an operation's arguments, or of the one that the path leads to."""
        shape = _input(self.kind.service, operation)
        for name in path:
            shape = shape.members[name]
        return converted(shape, value, "/".join(path))


class _Words(dict):
    def __missing__(self, word):
        if word == "random":
            return uuid.uuid4().hex[:12]
        raise KeyError(word)


def _input(service, operation):
    model = get_service_model(service)
    name = _api_names(service)[operation.replace("_", "").lower()]
    return model.operation_model(name).input_shape


@functools.cache
def _api_names(service):
    return {name.lower(): name for name in get_service_model(service).operation_names}


def converted(shape, value, where="", lenient=False):
    """A value of CloudFormation in the form that an API call takes."""
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict):
        names = {name.lower(): name for name in shape.members}
        result = {}
        for key, inner in value.items():
            name = names.get(key.lower())
            if name is None:
                if lenient:
                    continue
                raise Trouble(f"the emulator does not know how to pass on {where}/{key}")
            result[name] = converted(shape.members[name], inner, f"{where}/{key}", lenient)
        return result
    if kind == "list":
        if isinstance(value, dict):  # a map of tags where the call takes a list
            value = [{"Key": key, "Value": inner} for key, inner in value.items()]
        if _is_tags(value) and shape.member.type_name == "structure":
            key = next(name for name in shape.member.members if name.lower().endswith("key"))
            text = next(name for name in shape.member.members if name.lower().endswith("value"))
            return [{key: tag["Key"], text: str(tag["Value"])} for tag in value]
        value = value if isinstance(value, list) else [value]
        return [converted(shape.member, inner, f"{where}/{index}", lenient) for index, inner in enumerate(value)]
    if kind == "map":
        if _is_tags(value):
            value = {tag["Key"]: tag["Value"] for tag in value}
        return {key: converted(shape.value, inner, f"{where}/{key}", lenient) for key, inner in value.items()}
    if kind == "string":
        if isinstance(value, dict | list):
            return json.dumps(value)
        return str(value).lower() if isinstance(value, bool) else str(value)
    if kind in ("integer", "long"):
        return int(value)
    if kind in ("float", "double"):
        return float(value)
    if kind == "boolean":
        return value if isinstance(value, bool) else str(value).lower() == "true"
    return value


def _is_tags(value):
    return isinstance(value, list) and value and all(isinstance(tag, dict) and set(tag) == {"Key", "Value"}
                                                     for tag in value)


# -- make, change, remove -----------------------------------------------------------------------


KINDS: dict[str, Kind] = {}


def made_up(stack, logical, longest):
    """A name as CloudFormation makes them: stack-Logical-RANDOM, cut where it is too long."""
    tail = "-" + "".join(random.choices(string.ascii_uppercase + string.digits, k=12))
    return f"{stack}-{logical}"[: longest - len(tail)].rstrip("-") + tail


def create(work):
    kind = work.kind
    if kind.name and kind.name not in work.p:
        work.resource.made_up = made_up(work.stack.name, work.resource.logical, kind.longest)
        work.p[kind.name] = work.resource.made_up
    if callable(kind.create):
        work.resource.id = kind.create(work)
    else:
        if kind.create:
            work.answer = work.call(kind.create, **_arguments(work, kind.create, kind.extra))
        work.resource.id = work.fill(kind.id)
    for name, source in kind.attributes.items():
        if isinstance(source, str):
            work.resource.attributes[name] = work.fill(source)
    _tag(work)
    if kind.then:
        kind.then(work)


def update(work):
    kind = work.kind
    if callable(kind.update):
        kind.update(work)
    elif kind.update:
        key = {name: work.fill(text) for name, text in kind.key.items()}
        work.call(kind.update, **{**_arguments(work, kind.update, {}, lenient=True), **key})
    if kind.then:
        kind.then(work)


def delete(work):
    kind = work.kind
    if callable(kind.delete):
        kind.delete(work)
    elif kind.delete:
        arguments = {name: work.fill(text) for name, text in kind.key.items()}
        work.call(kind.delete, **_only_known(work, kind.delete, arguments))


def attribute(work, name):
    source = work.kind.attributes.get(name)
    if callable(source):
        return source(work)
    if name in work.resource.attributes:
        return work.resource.attributes[name]
    if name in work.resource.properties:  # some attributes only repeat a property
        return work.resource.properties[name]
    raise Trouble(f"the emulator has no attribute {name} of {work.resource.kind}")


def _arguments(work, operation, extra, lenient=False):
    kind = work.kind
    shape = _input(kind.service, operation)
    properties = {kind.rename.get(name, name): value for name, value in work.p.items() if name not in kind.without}
    given = {name: work.fill(value) if isinstance(value, str) else value for name, value in extra.items()}
    tags = _tags_of(work)
    if tags:  # under whatever name the type has them; the call has the usual one, or none
        values = properties.pop(tags)
        usual = next((name for name in shape.members if name.lower() == "tags"), None)
        if usual and kind.service != "ec2":
            given[usual] = converted(shape.members[usual], values)
    return {**converted(shape, properties, "", lenient), **given}


def _only_known(work, operation, arguments):
    known = _input(work.kind.service, operation).members
    return {name: value for name, value in arguments.items() if name in known}


def _tags_of(work):
    found = schemas.tags_property(work.region, work.resource.kind)
    return found[0] if found and found[0] in work.p else None


def _tag(work):
    """EC2 takes tags by a call of its own."""
    tags = _tags_of(work)
    if work.kind.service == "ec2" and tags and "-" in work.id:
        work.call("create_tags", Resources=[work.id], Tags=work.p[tags])
