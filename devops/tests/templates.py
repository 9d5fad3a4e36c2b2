"""Reads CloudFormation templates into plain values.

CloudFormation's YAML has short forms of its functions, as tags: `!Ref Key`. They become
the long forms, {"Ref": "Key"}, so that who looks at a template has one form to know.
Everything else is as CloudFormation reads it: dates stay text, a key given twice is refused.
"""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "devops" / "cloudformation"


class Loader(yaml.SafeLoader):
    """YAML as CloudFormation reads it."""


# "2012-10-17" is the version of a policy, not a day.
Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _function(loader, suffix, node):
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":  # only the first dot ends the resource's name
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {name: value}


def _mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice", node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Loader.add_multi_constructor("!", _function)
Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str) -> dict:
    """A template's text, YAML or JSON, as plain values."""
    return yaml.load(text, Loader=Loader)  # noqa: S506, a safe loader


def load(name: str) -> dict:
    """The template devops/cloudformation/<name>, with or without .yml."""
    return parse(text(name))


def text(name: str) -> str:
    return (TEMPLATES / name).with_suffix(".yml").read_text(encoding="utf-8")


def names() -> list[str]:
    """All templates, without .yml."""
    return sorted(path.stem for path in TEMPLATES.glob("*.yml"))


def walk(value, path=()):
    """Every value inside, with the path that leads to it; the outer ones first."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from walk(inner, (*path, index))


def functions(value, name):
    """The arguments of every function of that name inside, like functions(template, "Ref")."""
    return [inner[name] for _, inner in walk(value) if isinstance(inner, dict) and set(inner) == {name}]
