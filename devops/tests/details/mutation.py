"""Changes for the worse: each property that rules are about is taken away, and made another."""

from __future__ import annotations

import copy

import wiring

from .rule import entry


def mutants(rule):
    """Every (name, template, changed body) of a rule."""
    gone = set()
    for about in rule.about:
        name, logical, path = (about.split(" ", 2) + [""])[:3]
        body = wiring.load(name)
        targets = [logical] if "::" not in logical else [
            each for each, resource in body["Resources"].items() if resource["Type"] == logical]
        for target in targets:
            if (name, target) not in gone:
                gone.add((name, target))
                yield f"{name} {target}: taken away", name, _changed(body, ("Resources", target))
            steps = ["Resources", target, *filter(None, path.split("/"))]
            if len(steps) == 2 or steps[2] not in ("DeletionPolicy", "UpdateReplacePolicy", "Condition"):
                steps.insert(2, "Properties")
            places = list(dict.fromkeys(place for place in spots(body, steps)))
            if not places:
                raise LookupError(f"{rule}: there is no {about}")
            for place in places:
                for way, change in changes(body, place):
                    yield f"{name} {'/'.join(map(str, place[1:]))}: {way}", name, change


def spots(node, steps, path=()):
    """The places that a path leads to, through both branches of an Fn::If."""
    if isinstance(node, dict) and set(node) == {"Fn::If"}:
        for branch in (1, 2):
            yield from spots(node["Fn::If"][branch], steps, (*path, "Fn::If", branch))
    elif not steps:
        yield from leaves(node, path)
        yield path
    elif isinstance(node, dict) and steps[0] in node:
        yield from spots(node[steps[0]], steps[1:], (*path, steps[0]))
    elif isinstance(node, list):
        for index, each in enumerate(node):
            for choice, branch in ((each, (index,)), *(((each["Fn::If"][n], (index, "Fn::If", n)) for n in (1, 2))
                                                       if isinstance(each, dict) and "Fn::If" in each else ())):
                if entry([choice], steps[0]) is not None or steps[0] == str(index):
                    yield from spots(choice, steps[1:], (*path, *branch))


def leaves(node, path):
    """The places of everything inside that holds nothing else. A function is one."""
    if isinstance(node, dict) and len(node) == 1 and next(iter(node)).startswith(("Ref", "Fn::")):
        if "Fn::If" in node:
            for branch in (1, 2):
                yield from leaves(node["Fn::If"][branch], (*path, "Fn::If", branch))
        elif path:
            yield path
    elif isinstance(node, dict | list) and node:
        for key, inner in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(inner, (*path, key))
    else:
        yield path


def changes(body, place):
    """What becomes of a template when the value at a place is taken away, and when it is another one."""
    value = _value(body, place)
    if value == {"Ref": "AWS::NoValue"}:
        return
    yield "taken away", _changed(body, place)
    for other in others(value):
        yield f"{other!r}", _changed(body, place, other)


def others(value):
    if isinstance(value, bool):
        return [not value]
    if value in ("true", "false"):
        return ["true" if value == "false" else "false"]
    if isinstance(value, int | float):
        return [0 if value else 99, value * 100 + 1]
    if isinstance(value, str) and value.isdigit():
        return ["0", value + "00"]
    return [] if isinstance(value, list | dict) and not _is_function(value) else ["other"]


def _is_function(value):
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))


def _value(node, place):
    for key in place:
        node = node[key]
    return node


NOTHING = object()


def _changed(body, place, value=NOTHING):
    """A copy, with what is not on the way shared."""
    body = copy.deepcopy(body)
    parent, key = _value(body, place[:-1]), place[-1]
    if value is not NOTHING:
        parent[key] = value
    elif len(place) > 1 and place[-2] == "Fn::If":
        parent[key] = {"Ref": "AWS::NoValue"}
    else:
        del parent[key]
    return body
