"""CloudFormation's API of stacks: what a caller may ask of them, and how it is refused."""

from __future__ import annotations

import functools
import threading
import uuid

import templates
import yaml
from botocore.exceptions import ClientError

from .changes import changes
from .checks import BODY_LIMIT, check_template, parameters
from .evaluation import Refused
from .server import Fault
from .stacks import Engine, Stack, Wanted, now

IAM_NAMES = ("RoleName", "ManagedPolicyName", "UserName", "GroupName", "InstanceProfileName")
CAN_UPDATE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}

ANSWERS = {}


def operation(function):
    """Registers an operation: describe_stacks answers DescribeStacks."""

    @functools.wraps(function)
    def answer(emulator, call):
        try:
            return function(emulator.cloudformation, call, call.arguments or {}) or {}
        except Refused as refused:
            raise Fault(refused.code, refused.message) from refused

    name = "".join(part.capitalize() for part in function.__name__.split("_"))
    ANSWERS["cloudformation", name] = answer
    return answer


class CloudFormation:
    """All stacks of the account."""

    def __init__(self, emulator):
        self.engine, self.emulator = Engine(emulator), emulator
        self.stacks: list[Stack] = []  # the deleted ones as well, as AWS shows them for 90 days
        self.lock = threading.RLock()  # one change at a time; readers see it halfway

    def find(self, call, name, message="Stack with id {name} does not exist"):
        for stack in self.stacks:
            if stack.region == call.region and (stack.id == name or stack.name == name and not stack.deleted):
                return stack
        raise Refused(message.format(name=name))

    def exists(self, call, name):
        return any(stack.region == call.region and stack.name == name and not stack.deleted for stack in self.stacks)

    def new(self, call, name):
        account = self.emulator.account
        identity = f"arn:aws:cloudformation:{call.region}:{account}:stack/{name}/{uuid.uuid4()}"
        return Stack(name, identity, call.region)

    def check_role(self, arn):
        """The role that CloudFormation is to take has to be there; it may be another stack's."""
        try:
            if arn:
                self.emulator.moto("iam", "us-east-1", "get_role", RoleName=arn.rsplit("/", 1)[1])
        except ClientError:
            raise Refused(f"Role {arn} is invalid or cannot be assumed") from None

    def wanted(self, stack, a):
        """What a call wants a stack to be, checked."""
        old = stack.wanted
        if a.get("UsePreviousTemplate"):
            if old is None:
                raise Refused("There is no previous template")
            body = old.body
        elif "TemplateBody" in a:
            body = a["TemplateBody"]
        else:
            raise Refused("Either Template URL or Template Body must be specified.")
        template = read(body)
        check_template(template, stack.region)
        tags = {tag["Key"]: tag["Value"] for tag in a["Tags"]} if "Tags" in a else old.tags if old else {}
        texts = parameters(template, a.get("Parameters", []), old.parameters if old else None)
        wanted = Wanted(body, template, texts, tags, a.get("RoleARN") or (old.role if old else None))
        _check_capabilities(template, a.get("Capabilities", []))
        self.check_role(wanted.role)
        self.engine.check(stack, wanted)
        return wanted


def read(body):
    if len(body.encode()) > BODY_LIMIT:
        raise Refused("1 validation error detected: Value at 'templateBody' failed to satisfy constraint: "
                      f"Member must have length less than or equal to {BODY_LIMIT}")
    try:
        return templates.parse(body)
    except yaml.YAMLError as error:
        raise Refused(f"Template format error: YAML not well-formed. {error}") from error


def _check_capabilities(template, given):
    ours = [body for body in template["Resources"].values() if body["Type"].startswith("AWS::IAM::")]
    named = any(name in body.get("Properties", {}) for body in ours for name in IAM_NAMES)
    if ours and "CAPABILITY_NAMED_IAM" not in given and (named or "CAPABILITY_IAM" not in given):
        need = "CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM"
        raise Refused(f"Requires capabilities : [{need}]", "InsufficientCapabilitiesException")


def check_updatable(stack):
    if stack.status not in CAN_UPDATE:
        raise Refused(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")


# -- stacks -----------------------------------------------------------------------------------------


@operation
def create_stack(cfn, call, a):
    with cfn.lock:
        if cfn.exists(call, a["StackName"]):
            raise Fault("AlreadyExistsException", f"Stack [{a['StackName']}] already exists")
        stack = cfn.new(call, a["StackName"])
        wanted = cfn.wanted(stack, a)
        stack.protected = bool(a.get("EnableTerminationProtection"))
        stack.capabilities = a.get("Capabilities", [])
        cfn.stacks.append(stack)
        cfn.engine.apply(stack, wanted, a.get("ClientRequestToken"), rollback=not a.get("DisableRollback"))
    return {"StackId": stack.id}


@operation
def update_stack(cfn, call, a):
    with cfn.lock:
        stack = cfn.find(call, a["StackName"], "Stack [{name}] does not exist")
        check_updatable(stack)
        wanted = cfn.wanted(stack, a)
        if not differs(cfn, stack, wanted):
            raise Refused("No updates are to be performed.")
        stack.capabilities = a.get("Capabilities", [])
        cfn.engine.apply(stack, wanted, a.get("ClientRequestToken"), rollback=not a.get("DisableRollback"))
    return {"StackId": stack.id}


def differs(cfn, stack, wanted):
    return changes(cfn.engine, stack, wanted) or wanted.template.get("Outputs") != stack.wanted.template.get("Outputs")


@operation
def delete_stack(cfn, call, a):
    with cfn.lock:
        try:
            stack = cfn.find(call, a["StackName"])
        except Refused:
            return  # AWS takes it in silence
        if stack.deleted:
            return
        if stack.protected:
            raise Refused(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        cfn.check_role(a.get("RoleARN") or (stack.wanted.role if stack.wanted else None))
        cfn.engine.delete(stack, a.get("RetainResources", []), a.get("ClientRequestToken"))


@operation
def update_termination_protection(cfn, call, a):
    stack = cfn.find(call, a["StackName"])
    stack.protected = a["EnableTerminationProtection"]
    return {"StackId": stack.id}


@operation
def set_stack_policy(cfn, call, a):
    cfn.find(call, a["StackName"]).policy = a["StackPolicyBody"]


@operation
def get_stack_policy(cfn, call, a):
    return {"StackPolicyBody": cfn.find(call, a["StackName"]).policy}


@operation
def describe_stacks(cfn, call, a):
    if "StackName" in a:
        return {"Stacks": [_described(cfn.find(call, a["StackName"]))]}
    return {"Stacks": [_described(stack) for stack in _newest(cfn, call) if not stack.deleted]}


def _newest(cfn, call):
    return [stack for stack in reversed(cfn.stacks) if stack.region == call.region]


def _described(stack):
    wanted = stack.wanted
    found = {
        "StackId": stack.id,
        "StackName": stack.name,
        "CreationTime": stack.created,
        "LastUpdatedTime": stack.updated,
        "DeletionTime": stack.deleted,
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason or None,
        "DisableRollback": False,
        "NotificationARNs": [],
        "RollbackConfiguration": {},
        "Capabilities": stack.capabilities,
        "EnableTerminationProtection": stack.protected,
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
        "Tags": [],
        "Outputs": stack.outputs,
    }
    if wanted:
        found |= {
            "Description": wanted.template.get("Description"),
            "RoleARN": wanted.role,
            "Tags": [{"Key": key, "Value": value} for key, value in wanted.tags.items()],
            "Parameters": shown(wanted),
        }
    return {key: value for key, value in found.items() if value is not None}


def shown(wanted):
    secret = {name for name, body in (wanted.template.get("Parameters") or {}).items()
              if str(body.get("NoEcho", "")).lower() == "true"}
    return [{"ParameterKey": name, "ParameterValue": "****" if name in secret else text}
            for name, text in wanted.parameters.items()]


@operation
def list_stacks(cfn, call, a):
    states = a.get("StackStatusFilter")
    return {"StackSummaries": [
        {key: value for key, value in _described(stack).items()
         if key in ("StackId", "StackName", "CreationTime", "LastUpdatedTime", "DeletionTime", "StackStatus",
                    "StackStatusReason", "DriftInformation")}
        for stack in _newest(cfn, call) if not states or stack.status in states
    ]}


@operation
def describe_stack_events(cfn, call, a):
    return {"StackEvents": cfn.find(call, a["StackName"], "Stack [{name}] does not exist").events}


def _resource(stack, resource):
    return {
        "StackName": stack.name,
        "StackId": stack.id,
        "LogicalResourceId": resource.logical,
        "PhysicalResourceId": resource.id,
        "ResourceType": resource.kind,
        "ResourceStatus": resource.status,
        "Timestamp": resource.at or now(),
        "LastUpdatedTimestamp": resource.at or now(),
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }


@operation
def describe_stack_resources(cfn, call, a):
    stacks = cfn.stacks if "StackName" not in a else [cfn.find(call, a["StackName"])]
    return {"StackResources": [
        _resource(stack, resource) for stack in stacks for resource in stack.resources.values()
        if a.get("LogicalResourceId", resource.logical) == resource.logical
        and a.get("PhysicalResourceId", resource.id) == resource.id
    ]}


@operation
def describe_stack_resource(cfn, call, a):
    stack = cfn.find(call, a["StackName"], "Stack '{name}' does not exist")
    if a["LogicalResourceId"] not in stack.resources:
        raise Refused(f"Resource {a['LogicalResourceId']} does not exist for stack {stack.name}")
    return {"StackResourceDetail": _resource(stack, stack.resources[a["LogicalResourceId"]])}


@operation
def list_stack_resources(cfn, call, a):
    stack = cfn.find(call, a["StackName"])
    return {"StackResourceSummaries": [_resource(stack, resource) for resource in stack.resources.values()]}


@operation
def list_exports(cfn, call, a):
    return {"Exports": [
        {"ExportingStackId": stack.id, "Name": output["ExportName"], "Value": output["OutputValue"]}
        for stack in _newest(cfn, call) if not stack.deleted for output in stack.outputs if "ExportName" in output
    ]}


# -- templates --------------------------------------------------------------------------------------


@operation
def get_template(cfn, call, a):
    stack = cfn.find(call, a["StackName"])
    return {"TemplateBody": stack.wanted.body if stack.wanted else "", "StagesAvailable": ["Original", "Processed"]}


def _summary(template):
    declared = [
        {"ParameterKey": name, "ParameterType": body["Type"], "NoEcho": str(body.get("NoEcho", "")).lower() == "true",
         **({"DefaultValue": str(body["Default"])} if "Default" in body else {}),
         **({"Description": body["Description"]} if "Description" in body else {})}
        for name, body in (template.get("Parameters") or {}).items()
    ]
    iam = any(body["Type"].startswith("AWS::IAM::") for body in template["Resources"].values())
    return {"Parameters": declared, "Description": template.get("Description", ""),
            "Capabilities": ["CAPABILITY_IAM"] if iam else []}


@operation
def validate_template(cfn, call, a):
    template = read(a["TemplateBody"])
    check_template(template, call.region)
    return _summary(template)


@operation
def get_template_summary(cfn, call, a):
    template = read(a["TemplateBody"]) if "TemplateBody" in a else cfn.find(call, a["StackName"]).wanted.template
    check_template(template, call.region)
    types = sorted({body["Type"] for body in template["Resources"].values()})
    return {**_summary(template), "ResourceTypes": types}


def unknown(emulator, call):
    raise Fault("InvalidAction", f"the emulator does not know {call.operation}")


ANSWERS["cloudformation", "*"] = unknown
