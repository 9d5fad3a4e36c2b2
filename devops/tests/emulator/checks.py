"""What CloudFormation refuses before it makes anything: wrong templates, parameters, rules.

It is told as CloudFormation tells it, as a ValidationError.
"""

from __future__ import annotations

import re

from . import schemas
from .evaluation import VARIABLE, Refused, as_text

BODY_LIMIT = 51200
SECTIONS = {
    "AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Mappings",
    "Conditions", "Transform", "Resources", "Outputs",
}
RESOURCE_KEYS = {
    "Type", "Properties", "DependsOn", "Condition", "DeletionPolicy", "UpdateReplacePolicy",
    "Metadata", "CreationPolicy", "UpdatePolicy",
}
DELETION_POLICIES = {"Delete", "Retain", "RetainExceptOnCreate", "Snapshot"}
WITH_SNAPSHOTS = {"AWS::EC2::Volume", "AWS::RDS::DBCluster", "AWS::RDS::DBInstance"}  # and others that nobody uses here


def check_template(template, region):
    """What CloudFormation finds wrong in a template before it knows any parameter."""
    if not isinstance(template, dict):
        raise Refused("Template format error: unsupported structure.")
    wrong = sorted(set(template) - SECTIONS)
    if wrong:
        raise Refused(f"Invalid template property or properties [{', '.join(wrong)}]")
    if "Transform" in template:
        raise Refused("Requires capabilities : [CAPABILITY_AUTO_EXPAND]", "InsufficientCapabilitiesException")
    resources = template.get("Resources") or {}
    if not resources:
        raise Refused("Template format error: At least one Resources member must be defined.")
    for logical, body in resources.items():
        if not re.fullmatch("[A-Za-z0-9]+", logical):
            raise Refused(f"Template format error: Resource name {logical} is non alphanumeric.")
        wrong = sorted(set(body) - RESOURCE_KEYS)
        if wrong:
            raise Refused(f"Invalid template resource property '{wrong[0]}'")
        for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
            if body.get(policy, "Delete") not in DELETION_POLICIES:
                raise Refused(f"Template error: {policy} of {logical} is {body[policy]}")
            if body.get(policy) == "Snapshot" and body.get("Type") not in WITH_SNAPSHOTS:
                raise Refused(f"Template error: resource type {body.get('Type')} does not support {policy} Snapshot")
    types = {body.get("Type") for body in resources.values()}
    unheard = sorted(str(kind) for kind in types if not schemas.known(region, kind))
    if unheard:
        raise Refused(f"Template format error: Unrecognized resource types: [{', '.join(unheard)}]")
    _check_names(template, region)


def _check_names(template, region):
    """Every name that a function uses has to be one, also in branches not taken."""
    resources = template["Resources"]
    names = set(resources) | set(template.get("Parameters") or {})
    for section in ("Resources", "Outputs", "Conditions"):
        for name, args in _functions(template.get(section) or {}):
            used = set()
            if name == "Ref" and not args.startswith("AWS::"):
                used = {args}
            elif name == "Fn::GetAtt":
                _check_attribute(resources, region, *args)
            elif name == "Fn::Sub":
                text, own = args if isinstance(args, list) else (args, {})
                variables = {found.strip() for literal, found in VARIABLE.findall(text) if not literal}
                for variable in variables - set(own):
                    if "." in variable:
                        _check_attribute(resources, region, *variable.split(".", 1))
                    elif not variable.startswith("AWS::"):
                        used.add(variable)
            elif name in ("Fn::If", "Condition"):
                condition = args[0] if name == "Fn::If" else args
                if isinstance(condition, str) and condition not in (template.get("Conditions") or {}):
                    # "Condition" is a section of a policy's statement as well, where it is no text.
                    raise Refused(f"Template format error: Unresolved condition dependency {condition} "
                                  f"in the {section} block of the template")
            if used - names:
                raise Refused(f"Template format error: Unresolved resource dependencies "
                              f"[{', '.join(sorted(used - names))}] in the {section} block of the template")
            if section == "Conditions" and used & set(resources):
                raise Refused("Template format error: Unresolved dependencies "
                              f"[{', '.join(sorted(used & set(resources)))}]. "
                              "Cannot reference resources in the Conditions block of the template")


def _functions(value):
    """Name and arguments of every function inside."""
    if isinstance(value, dict):
        for key, inner in value.items():
            single = len(value) == 1 and (key == "Ref" or key.startswith("Fn::"))
            if single or key == "Condition" and not isinstance(inner, dict):
                yield key, inner
            yield from _functions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _functions(inner)


def _check_attribute(resources, region, logical, name):
    if logical not in resources:
        raise Refused("Template error: instance of Fn::GetAtt references undefined resource " + logical)
    kind = resources[logical]["Type"]
    if isinstance(name, str) and not schemas.has_attribute(region, kind, name):
        raise Refused(f"Template error: resource {logical} does not support attribute type {name} in Fn::GetAtt")


def check_rules(scope):
    """The Rules section: assertions that hold before anything is made."""
    for rule in (scope.template.get("Rules") or {}).values():
        if "RuleCondition" in rule and not scope.holds(_rule(rule["RuleCondition"])):
            continue
        for assertion in rule["Assertions"]:
            if not scope.holds(_rule(assertion["Assert"])):
                raise Refused("Template validation error: Assertion failed: "
                              + assertion.get("AssertDescription", str(assertion["Assert"])))


RULE_FUNCTIONS = {"Fn::And", "Fn::Contains", "Fn::EachMemberEquals", "Fn::EachMemberIn", "Fn::Equals",
                  "Fn::Not", "Fn::Or", "Ref"}


def _rule(test):
    """Rules have a few functions only, and know no conditions."""
    for name, _ in _functions(test):
        if name not in RULE_FUNCTIONS:
            raise Refused(f"Template format error: {name} is not allowed in the Rules block of the template")
    return test


# -- parameters -----------------------------------------------------------------------------


def parameters(template, given, previous=None):
    """The text of every parameter, of what was passed and the defaults."""
    declared = template.get("Parameters") or {}
    unheard = [item["ParameterKey"] for item in given if item["ParameterKey"] not in declared]
    if unheard:
        raise Refused(f"Parameters: [{', '.join(unheard)}] do not exist in the template")
    texts = {name: as_text(body["Default"]) for name, body in declared.items() if "Default" in body}
    for item in given:
        name = item["ParameterKey"]
        if not item.get("UsePreviousValue"):
            texts[name] = item["ParameterValue"]
        elif previous is None or name not in previous:
            raise Refused(f"Invalid input for parameter key {name}. Cannot specify usePreviousValue as true "
                          "for a parameter key not in the previous template")
        else:
            texts[name] = previous[name]
    missing = [name for name in declared if name not in texts]
    if missing:
        raise Refused(f"Parameters: [{', '.join(missing)}] must have values")
    for name, text in texts.items():
        _check_parameter(name, declared[name], text)
    return texts


def _check_parameter(name, body, text):
    members = text.split(",") if is_list(body) else [text]
    members = [member.strip() for member in members]

    def refuse(what):
        if "ConstraintDescription" in body:
            raise Refused(f"Parameter {name} failed to satisfy constraint: {body['ConstraintDescription']}")
        raise Refused(f"Parameter '{name}' {what}")

    for member in members:
        allowed = [as_text(value) for value in body.get("AllowedValues", [])]
        if allowed and member not in allowed:
            refuse(f"must be one of AllowedValues: [{', '.join(allowed)}]")
        if "AllowedPattern" in body and not re.fullmatch(body["AllowedPattern"], member):
            refuse(f"must match pattern {body['AllowedPattern']}")
        if body["Type"] in ("Number", "List<Number>"):
            if not re.fullmatch(r"-?\d+(\.\d+)?", member):
                refuse("must be a number.")
            if float(member) < float(body.get("MinValue", member)):
                refuse(f"must be a number not less than {body['MinValue']}")
            if float(member) > float(body.get("MaxValue", member)):
                refuse(f"must be a number not greater than {body['MaxValue']}")
    if len(text) < int(body.get("MinLength", 0)):
        refuse(f"must contain at least {body['MinLength']} characters")
    if len(text) > int(body.get("MaxLength", len(text))):
        refuse(f"must contain at most {body['MaxLength']} characters")


def is_list(body):
    return body["Type"] == "CommaDelimitedList" or body["Type"].startswith("List<")


def typed(template, texts):
    """Parameters as functions see them: lists are lists, all else is text."""
    declared = template.get("Parameters") or {}
    return {
        name: [part.strip() for part in text.split(",")] if is_list(declared[name]) else text
        for name, text in texts.items()
    }
