"""A stand-in for boto3's client of CloudFormation: one stack, that goes through the states a test scripts.

It takes only calls that the real client takes (their arguments are checked by boto3's own model), refuses what AWS
refuses, and writes every call down. The emulator is the other way round: it knows resources, and cannot be told to
fail halfway.
"""

import functools
import types

import botocore.session
import templates
from botocore.exceptions import ClientError, ParamValidationError
from botocore.validate import ParamValidator

REGION = "eu-west-1"
MODEL = botocore.session.get_session().get_service_model("cloudformation")
UPDATABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE",
             "IMPORT_ROLLBACK_COMPLETE")
PAGE = 2  # of whatever is listed


def operation(method):
    """Checks and writes down the calls of a method."""
    name = "".join(part.capitalize() for part in method.__name__.split("_"))

    @functools.wraps(method)
    def call(self, **arguments):
        report = ParamValidator().validate(arguments, MODEL.operation_model(name).input_shape)
        if report.has_errors():
            raise ParamValidationError(report=report.generate_report())
        self.calls.append((method.__name__, arguments))
        if method.__name__ in self.errors:
            raise self.errors[method.__name__]
        return method(self, **arguments)

    return call


def refusal(message, code="ValidationError", operation="DescribeStacks"):
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


def page(items, key, token):
    start = int(token or 0)
    answer = {key: items[start:start + PAGE]}
    return answer | ({"NextToken": str(start + PAGE)} if start + PAGE < len(items) else {})


class CloudFormation:
    def __init__(self, name="people"):
        self.name, self.id, self.calls, self.errors = name, None, [], {}
        self.meta = types.SimpleNamespace(region_name=REGION)
        self.states, self.reason = [], ""  # the first is the present one; each look at the stack goes on to the next
        self.body, self.parameters, self.tags, self.outputs, self.protected = "", {}, {}, {}, False
        self.history = []  # events, the newest first
        self.change_sets = {}
        # What happens next, as the test has it.
        self.change_set_states, self.change_set_reason, self.changes = ["CREATE_COMPLETE"], None, []
        self.validation = []
        self.plays = {}  # operation -> (states, events)
        self.new_outputs = {}

    # -- what a test says

    def deployed(self, body, state="CREATE_COMPLETE", outputs=(), tags=(), protected=False, **parameters):
        """There is such a stack."""
        self.id = f"arn:aws:cloudformation:{REGION}:123456789012:stack/{self.name}/1"
        self.body, self.states, self.protected = body, [state], protected
        self.parameters, self.tags, self.outputs = parameters, dict(tags), dict(outputs)
        self.event(self.name, "CREATE_IN_PROGRESS", "User Initiated")
        return self

    def then(self, operation, *states, events=()):
        """After that call the stack goes through these states, and these events happen: (resource, status, reason)."""
        self.plays[operation] = (states, events)
        return self

    def lists(self, *changes):
        """The next change set lists these: (action, resource, replacement, property)."""
        self.changes = [self._change(*change) for change in changes]
        return self

    def event(self, resource, status, reason=None):
        own = resource == self.name
        event = {
            "StackId": self.id, "StackName": self.name, "EventId": str(len(self.history)),
            "LogicalResourceId": resource, "PhysicalResourceId": self.id if own else f"{resource}-1",
            "ResourceType": "AWS::CloudFormation::Stack" if own else "AWS::Test::Thing", "ResourceStatus": status,
        }
        self.history.insert(0, event | ({"ResourceStatusReason": reason} if reason else {}))

    # -- what a test asks

    @property
    def state(self):
        return self.states[0] if self.states else None

    def called(self, operation):
        """The arguments of each call of an operation."""
        return [arguments for name, arguments in self.calls if name == operation]

    def wrote(self):
        """The operations called, in order, without those that only look."""
        return [name for name, _ in self.calls if not name.startswith(("describe_", "get_"))]

    # -- what the module calls

    @operation
    def describe_stacks(self, StackName):
        if len(self.states) > 1:
            self.states.pop(0)
        by_id = StackName == self.id
        if not self.states or not by_id and (StackName != self.name or self.state == "DELETE_COMPLETE"):
            raise refusal(f"Stack with id {StackName} does not exist")
        return {"Stacks": [{
            "StackId": self.id, "StackName": self.name, "StackStatus": self.state,
            "EnableTerminationProtection": self.protected,
            "Parameters": [{"ParameterKey": key, "ParameterValue": self._shown(key, value)}
                           for key, value in self.parameters.items()],
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()],
            "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in self.outputs.items()],
        }]}

    @operation
    def get_template(self, StackName, TemplateStage):
        assert TemplateStage == "Original"
        return {"TemplateBody": self.body}

    @operation
    def describe_stack_events(self, StackName, NextToken=None):
        assert StackName == self.id  # a deleted stack has no events by its name
        return page(self.history, "StackEvents", NextToken)

    @operation
    def create_change_set(self, StackName, ChangeSetName, ChangeSetType, Description, Parameters, Tags, Capabilities,
                          TemplateBody=None, UsePreviousTemplate=False, RoleARN=None):
        there = self.state not in (None, "DELETE_COMPLETE")
        if ChangeSetType == "CREATE":
            if there:
                raise refusal(f"Stack [{StackName}] already exists", operation="CreateChangeSet")
            self.deployed("", "REVIEW_IN_PROGRESS")
        elif not there or self.state not in UPDATABLE:
            raise refusal(f"{StackName} is in {self.state} state and can not be updated.", operation="CreateChangeSet")
        assert (TemplateBody is None) == UsePreviousTemplate
        body = self.body if UsePreviousTemplate else TemplateBody
        identity = f"arn:aws:cloudformation:{REGION}:123456789012:changeSet/{ChangeSetName}/1"
        self.change_sets[identity] = {
            "states": list(self.change_set_states), "kind": ChangeSetType, "body": body,
            "parameters": self._values(body, Parameters), "tags": {tag["Key"]: tag["Value"] for tag in Tags},
        }
        return {"Id": identity, "StackId": self.id}

    @operation
    def describe_change_set(self, ChangeSetName, NextToken=None):
        states = self.change_sets[ChangeSetName]["states"]
        status = states.pop(0) if len(states) > 1 else states[0]
        reason = {"StatusReason": self.change_set_reason} if status == "FAILED" else {}
        return {"Status": status, **reason, **page(self.changes, "Changes", NextToken)}

    @operation
    def describe_events(self, ChangeSetName, Filters, NextToken=None):
        assert ChangeSetName in self.change_sets
        return page(self.validation, "OperationEvents", NextToken)

    @operation
    def delete_change_set(self, ChangeSetName):
        del self.change_sets[ChangeSetName]
        return {}

    @operation
    def execute_change_set(self, ChangeSetName):
        made = self.change_sets.pop(ChangeSetName)
        if made["states"] != ["CREATE_COMPLETE"]:
            raise refusal("cannot be executed", "InvalidChangeSetStatus", "ExecuteChangeSet")
        verb = "CREATE" if made["kind"] == "CREATE" else "UPDATE"
        self._play("execute_change_set", f"{verb}_IN_PROGRESS", f"{verb}_COMPLETE")
        if self.states[-1] == f"{verb}_COMPLETE":
            self.body, self.parameters, self.tags = made["body"], made["parameters"], made["tags"]
            self.outputs = self.outputs | self.new_outputs
        return {}

    @operation
    def continue_update_rollback(self, StackName, RoleARN=None):
        assert self.state == "UPDATE_ROLLBACK_FAILED"
        self._play("continue_update_rollback", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE")
        return {}

    @operation
    def delete_stack(self, StackName, RoleARN=None, RetainResources=()):
        if self.protected:
            raise refusal("cannot be deleted while TerminationProtection is enabled", operation="DeleteStack")
        if RetainResources and self.state != "DELETE_FAILED":
            raise refusal("RetainResources only of a stack in DELETE_FAILED", operation="DeleteStack")
        self._play("delete_stack", "DELETE_IN_PROGRESS", "DELETE_COMPLETE")
        if self.states[-1] == "DELETE_COMPLETE":
            self.change_sets.clear()
        return {}

    @operation
    def update_termination_protection(self, StackName, EnableTerminationProtection):
        self.protected = EnableTerminationProtection
        return {"StackId": self.id}

    # -- inside

    def _play(self, operation, *usual):
        states, events = self.plays.get(operation, (usual, ()))
        self.states = [self.state, *states]
        for event in events:
            self.event(*event)

    def _values(self, body, given):
        """The parameters that the stack would have."""
        declared = templates.parse(body).get("Parameters") or {}
        values = {name: str(spec["Default"]) for name, spec in declared.items() if "Default" in spec}
        for item in given:
            name = item["ParameterKey"]
            if name not in declared or item.get("UsePreviousValue") and name not in self.parameters:
                raise refusal(f"Parameters: [{name}] do not exist in the template", operation="CreateChangeSet")
            values[name] = self.parameters[name] if item.get("UsePreviousValue") else item["ParameterValue"]
        return values

    def _shown(self, key, value):
        spec = (templates.parse(self.body).get("Parameters") or {}).get(key, {}) if self.body else {}
        return "****" if spec.get("NoEcho") else value

    def _change(self, action, resource, replacement=None, name=None):
        change = {"Action": action, "LogicalResourceId": resource, "ResourceType": "AWS::Test::Thing",
                  "Details": [{"Target": {"Attribute": "Properties", "Name": name}}] if name else []}
        return {"Type": "Resource", "ResourceChange": change | ({"Replacement": replacement} if replacement else {})}
