"""What an update would change: what a change set lists, and what an update does not leave alone."""

from __future__ import annotations

from . import kinds, schemas
from .evaluation import VARIABLE, Unknown, unknown_in

# Of a resource's body, what counts as a change beside its properties.
ATTRIBUTES = ("CreationPolicy", "DeletionPolicy", "Metadata", "UpdatePolicy", "UpdateReplacePolicy")


def changes(engine, stack, wanted):
    """What executing would do, as a change set lists it."""
    old = stack.resources
    added, replaced, modified, result = set(), set(), set(), []

    def ref(name):
        return Unknown() if name in added | replaced else old[name].id

    def attribute(name, attr):
        if name in added | replaced:
            return Unknown(sure=name in added)
        return kinds.attribute(engine.work(stack, old[name]), attr)

    scope = engine.scope(stack, wanted, ref, attribute)
    order = scope.order()
    for logical in order:
        body = wanted.template["Resources"][logical]
        if logical not in old:
            added.add(logical)
            result.append(_change("Add", logical, body["Type"]))
            continue
        resource = old[logical]
        found = details(stack, resource, body, engine.properties(stack, wanted, scope, body))
        found += _perhaps(stack, scope, body, modified, {detail["Target"].get("Name") for detail in found})
        if not found:
            continue
        verdicts = {detail["Target"]["RequiresRecreation"] for detail in found}
        replacement = "True" if "Always" in verdicts else "Conditional" if "Conditionally" in verdicts else "False"
        if replacement == "True":
            replaced.add(logical)
        if {detail["Target"]["Attribute"] for detail in found} - {"Tags"}:
            modified.add(logical)
        result.append(_change("Modify", logical, body["Type"], body, resource.id, replacement, found))
    result += [_change("Remove", logical, resource.kind, resource.body, resource.id)
               for logical, resource in old.items() if logical not in order]
    return result


def _perhaps(stack, scope, body, modified, static):
    """CloudFormation cannot tell before whether attributes of what it changes in place will be other ones."""
    for name, value in body.get("Properties", {}).items():
        for other in sorted(_attributes_of(scope, value) & modified) if name not in static else ():
            createonly = any(path[0] == name for path in schemas.create_only(stack.region, body["Type"]))
            yield _detail("Properties", name, "Conditionally" if createonly else "Never", "Dynamic",
                          "ResourceAttribute", other)


def _attributes_of(scope, value):
    """The resources whose attributes a value uses, in the branches taken."""
    if isinstance(value, list):
        return set().union(*(_attributes_of(scope, inner) for inner in value))
    if not isinstance(value, dict):
        return set()
    if set(value) == {"Fn::GetAtt"}:
        return {value["Fn::GetAtt"][0]}
    if set(value) == {"Fn::If"}:
        name, yes, no = value["Fn::If"]
        return _attributes_of(scope, yes if scope.condition(name) else no)
    if set(value) == {"Fn::Sub"}:
        text, own = value["Fn::Sub"] if isinstance(value["Fn::Sub"], list) else (value["Fn::Sub"], {})
        dotted = {name.strip().split(".")[0] for literal, name in VARIABLE.findall(text) if not literal and "." in name}
        return dotted - set(own) | _attributes_of(scope, own)
    return set().union(*(_attributes_of(scope, inner) for inner in value.values()))


def _change(action, logical, kind, body=None, identity=None, replacement=None, found=()):
    change = {"Action": action, "LogicalResourceId": logical, "ResourceType": kind,
              "Scope": sorted({detail["Target"]["Attribute"] for detail in found}), "Details": list(found)}
    if identity:
        change["PhysicalResourceId"] = identity
    if replacement:
        change["Replacement"] = replacement
    if action == "Remove":
        change["PolicyAction"] = deletion_policy(body)
    elif replacement == "True":
        change["PolicyAction"] = "ReplaceAnd" + body.get("UpdateReplacePolicy", "Delete")
    return {"Type": "Resource", "ResourceChange": change}


def details(stack, resource, body, new):
    """What of a resource changes, when these are its new properties."""
    if body["Type"] != resource.kind:
        return [_detail("Properties", "Type", "Always")]
    tags = schemas.tags_property(stack.region, resource.kind)
    found = []
    for name in sorted(resource.properties.keys() | new.keys()):
        before, after = resource.properties.get(name), new.get(name)
        if before == after:
            continue
        if tags and name == tags[0]:
            found.append(_detail("Tags", None, "Never"))
        else:
            source = "DirectModification" if unknown_in(after) is None else "ResourceReference"
            found.append(_detail("Properties", name, _recreation(stack, resource.kind, name, before, after),
                                 source=source))
    return found + [_detail(name, None, "Never") for name in ATTRIBUTES if resource.body.get(name) != body.get(name)]


def _recreation(stack, kind, name, before, after):
    """Does a change of the property need a new resource: Always, Conditionally, Never?"""

    def differ(paths):
        return any(path[0] == name and _at(before, path[1:]) != _at(after, path[1:]) for path in paths)

    if differ(schemas.create_only(stack.region, kind)):
        unknown = unknown_in(after)
        return "Always" if unknown is None or unknown.sure else "Conditionally"
    return "Conditionally" if differ(schemas.maybe_create_only(stack.region, kind)) else "Never"


def _detail(attribute, name, recreation, evaluation="Static", source="DirectModification", causing=None):
    target = {"Attribute": attribute, "RequiresRecreation": recreation, **({"Name": name} if name else {})}
    return {"Target": target, "Evaluation": evaluation, "ChangeSource": source,
            **({"CausingEntity": causing} if causing else {})}


def _at(value, path):
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def deletion_policy(body, rolled_back=False):
    """What becomes of a resource that leaves its stack: Retain, Snapshot or Delete."""
    policy = body.get("DeletionPolicy", "Delete")
    if policy == "RetainExceptOnCreate":
        return "Delete" if rolled_back else "Retain"
    return policy
