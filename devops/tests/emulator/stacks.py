"""Stacks: making them what they are to be, and putting back what was when that fails."""

from __future__ import annotations

import dataclasses
import datetime
import json
import traceback
import uuid

from botocore.exceptions import BotoCoreError, ClientError

from . import kinds, schemas
from .changes import deletion_policy, details
from .checks import check_rules, typed
from .evaluation import Refused, Scope, unknown_in
from .kinds import KINDS, Resource, Trouble, Work


def now():
    return datetime.datetime.now(datetime.UTC)


@dataclasses.dataclass
class Wanted:
    """What a stack is to become."""

    body: str
    template: dict
    parameters: dict  # as text
    tags: dict
    role: str | None = None


@dataclasses.dataclass
class Stack:
    name: str
    id: str
    region: str
    status: str = "REVIEW_IN_PROGRESS"
    reason: str = ""
    wanted: Wanted | None = None  # what it is: None before the first execution
    resources: dict[str, Resource] = dataclasses.field(default_factory=dict)
    outputs: list[dict] = dataclasses.field(default_factory=list)
    events: list[dict] = dataclasses.field(default_factory=list)
    change_sets: dict[str, dict] = dataclasses.field(default_factory=dict)
    executed: dict | None = None  # the last change set that was
    protected: bool = False
    policy: str | None = None
    created: datetime.datetime = dataclasses.field(default_factory=now)
    updated: datetime.datetime | None = None
    deleted: datetime.datetime | None = None
    capabilities: list[str] = dataclasses.field(default_factory=list)

    def event(self, status, reason="", resource=None, token=None):
        self.events.insert(0, {
            "StackId": self.id,
            "StackName": self.name,
            "EventId": str(uuid.uuid4()),
            "LogicalResourceId": resource.logical if resource else self.name,
            "PhysicalResourceId": resource.id if resource else self.id,
            "ResourceType": resource.kind if resource else "AWS::CloudFormation::Stack",
            "Timestamp": now(),
            "ResourceStatus": status,
            **({"ResourceStatusReason": reason} if reason else {}),
            **({"ResourceProperties": json.dumps(resource.properties)} if resource else {}),
            **({"ClientRequestToken": token} if token else {}),
        })
        if resource:
            resource.status, resource.reason, resource.at = status, reason, now()
        else:
            self.status, self.reason = status, reason


class Engine:
    """Makes stacks of one account."""

    def __init__(self, emulator):
        self.emulator = emulator

    def pseudo(self, stack):
        return {
            "AWS::AccountId": self.emulator.account, "AWS::Region": stack.region, "AWS::Partition": "aws",
            "AWS::StackId": stack.id, "AWS::StackName": stack.name, "AWS::URLSuffix": "amazonaws.com",
            "AWS::NotificationARNs": [],
        }

    def scope(self, stack, wanted, ref=None, attribute=None):
        return Scope(wanted.template, typed(wanted.template, wanted.parameters), self.pseudo(stack), ref, attribute)

    def check(self, stack, wanted):
        """Refuses what CloudFormation refuses before it touches anything, once parameters are known."""
        scope = self.scope(stack, wanted)
        self._check_existing(stack, wanted)
        check_rules(scope)
        order = scope.order()
        for name, output in (wanted.template.get("Outputs") or {}).items():
            if "Condition" not in output or scope.condition(output["Condition"]):
                missing = scope.needs(output["Value"]) - set(order)
                if missing:
                    raise Refused(f"Unresolved resource dependencies [{', '.join(sorted(missing))}] in the Outputs "
                                  f"block of the template ({name})")

    def _check_existing(self, stack, wanted):
        """Parameters of AWS's own types name things that are there."""
        lookups = {
            "AWS::EC2::VPC::Id": ("ec2", "describe_vpcs", "VpcIds"),
            "AWS::EC2::Subnet::Id": ("ec2", "describe_subnets", "SubnetIds"),
            "AWS::EC2::SecurityGroup::Id": ("ec2", "describe_security_groups", "GroupIds"),
            "AWS::Route53::HostedZone::Id": ("route53", "get_hosted_zone", "Id"),
        }
        for name, body in (wanted.template.get("Parameters") or {}).items():
            kind = body["Type"].removeprefix("List<").rstrip(">")
            if kind not in lookups:
                continue
            service, operation, argument = lookups[kind]
            for value in wanted.parameters[name].split(","):
                try:
                    self.emulator.moto(service, stack.region, operation,
                                       **{argument: value.strip() if argument == "Id" else [value.strip()]})
                except ClientError:
                    raise Refused(f"Template validation error: Parameter validation failed: parameter value {value} "
                                  f"for parameter name {name} does not exist") from None

    def properties(self, stack, wanted, scope, body):
        """A resource's properties, resolved, in the types of its schema, with the stack's tags."""
        kind = body["Type"]
        resolved = scope.value(body.get("Properties", {}))
        if unknown_in(resolved) is None:
            resolved = _dynamic(self.emulator, stack.region, resolved)
        resolved = schemas.coerced(stack.region, kind, resolved)
        tags = schemas.tags_property(stack.region, kind)
        if tags and wanted.tags:
            name, as_list = tags
            own = resolved.get(name) or ([] if as_list else {})
            if as_list:
                names = {tag["Key"] for tag in own}
                resolved[name] = [*own, *({"Key": key, "Value": value} for key, value in wanted.tags.items()
                                          if key not in names)]
            else:
                resolved[name] = {**wanted.tags, **own}
        return resolved

    def work(self, stack, resource, old=None):
        return Work(resource, stack, self.emulator.aws, stack.region, self.emulator.account, old)

    # -- making it so -----------------------------------------------------------------------------

    def apply(self, stack, wanted, token=None, rollback=True):
        """Creates or updates: True when it went well, else the stack is back at what it was."""
        action = "CREATE" if stack.wanted is None else "UPDATE"
        before = (stack.wanted, dict(stack.resources), list(stack.outputs))
        stack.event(f"{action}_IN_PROGRESS", "User Initiated", token=token)
        if action == "UPDATE":
            stack.updated = now()
        undo, doomed = [], []
        scope = self.scope(stack, wanted, lambda name: stack.resources[name].id,
                           lambda name, attr: kinds.attribute(self.work(stack, stack.resources[name]), attr))
        try:
            order = scope.order()
            for logical in order:
                self._one(stack, wanted, scope, logical, undo, doomed, token)
            outputs = self._outputs(wanted, scope)
        except (Trouble, Refused) as error:
            if not rollback:
                stack.wanted = wanted
                stack.event(f"{action}_FAILED", str(error), token=token)
                return False
            self._roll_back(stack, wanted, before, undo, str(error), token)
            return False
        doomed += [(resource, deletion_policy(resource.body))
                   for logical, resource in stack.resources.items() if logical not in order]
        stack.wanted, stack.outputs = wanted, outputs
        if action == "UPDATE":
            stack.event("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", token=token)
        self._remove(stack, doomed, token)
        stack.resources = {logical: stack.resources[logical] for logical in order}
        stack.event(f"{action}_COMPLETE", token=token)
        return True

    def _one(self, stack, wanted, scope, logical, undo, doomed, token):
        """Brings one resource to what it is to be; `undo` gets the way back."""
        body = wanted.template["Resources"][logical]
        old = stack.resources.get(logical)
        new = Resource(logical, body["Type"], body)
        try:
            new.properties = self.properties(stack, wanted, scope, body)
        except (Trouble, Refused) as error:
            self._failed(stack, old or new, "UPDATE" if old else "CREATE", str(error), token)
        if old is None:
            undo.append((new, None))
            self._create(stack, new, token)
            return
        found = details(stack, old, body, new.properties)
        if not found:
            old.body = body
            return
        if any(detail["Target"]["RequiresRecreation"] == "Always" for detail in found):
            name = KINDS[new.kind].name if new.kind in KINDS else ""
            if name and name in new.properties and new.properties[name] == old.properties.get(name):
                self._failed(stack, old, "UPDATE", "CloudFormation cannot update a stack when a custom-named resource "
                             f"requires replacing. Rename {new.properties[name]} and update the stack again.", token)
            stack.event("UPDATE_IN_PROGRESS",
                        "Requested update requires the creation of a new physical resource; hence creating one.",
                        old, token)
            undo.append((new, old))
            doomed.append((old, "Retain" if body.get("UpdateReplacePolicy") == "Retain" else "Delete"))
            self._create(stack, new, token, "UPDATE")
            return
        # Change it in place. The way back is the same, the other way round.
        new.id, new.attributes, new.made_up = old.id, old.attributes, old.made_up
        undo.append((new, old))
        stack.resources[logical] = new
        stack.event("UPDATE_IN_PROGRESS", "", new, token)
        self._try(stack, new, "UPDATE", token, lambda: kinds.update(self.work(stack, new, old.properties)))
        stack.event("UPDATE_COMPLETE", "", new, token)

    def _create(self, stack, new, token, action="CREATE"):
        stack.resources[new.logical] = new
        stack.event(f"{action}_IN_PROGRESS", "", new, token)

        self._try(stack, new, action, token, lambda: kinds.create(self.work(stack, new)))
        stack.event(f"{action}_IN_PROGRESS", "Resource creation Initiated", new, token)
        stack.event(f"{action}_COMPLETE", "", new, token)

    def _try(self, stack, resource, action, token, attempt):
        try:
            faults = schemas.faults(stack.region, resource.kind, resource.properties)
            if faults:
                raise Trouble("\n".join([f"Properties validation failed for resource {resource.logical} with message:",
                                         *faults]))
            if resource.kind not in KINDS:
                raise Trouble(f"the emulator does not know {resource.kind}")
            if self.emulator.control("fail_resource") == resource.logical:
                raise Trouble(f'Resource handler returned message: "{resource.logical} is to fail" '
                              "(HandlerErrorCode: GeneralServiceException)")
            attempt()
        except Exception as error:  # noqa: BLE001, whatever it is, the resource failed
            self._failed(stack, resource, action, _reason(error), token)

    def _failed(self, stack, resource, action, reason, token):
        stack.event(f"{action}_FAILED", reason, resource, token)
        raise Trouble(f"The following resource(s) failed to {action.lower()}: [{resource.logical}]. ")

    def _outputs(self, wanted, scope):
        outputs = []
        for name, body in (wanted.template.get("Outputs") or {}).items():
            if "Condition" in body and not scope.condition(body["Condition"]):
                continue
            value = scope.value(body["Value"])
            if isinstance(value, list | dict):
                raise Trouble(f"Template format error: Output {name} is malformed. The Value field of every Outputs "
                              "member must evaluate to a String.")
            output = {"OutputKey": name, "OutputValue": str(value)}
            if "Description" in body:
                output["Description"] = body["Description"]
            if "Export" in body:
                output["ExportName"] = scope.value(body["Export"]["Name"])
            outputs.append(output)
        return outputs

    def _roll_back(self, stack, wanted, before, undo, reason, token):
        """Undoes in reverse: what was made is removed, what was changed is changed back."""
        action = "CREATE" if before[0] is None else "UPDATE"
        name = "ROLLBACK" if action == "CREATE" else "UPDATE_ROLLBACK"
        stack.event(f"{name}_IN_PROGRESS", reason + ("Rollback requested by user." if action == "CREATE" else ""),
                    token=token)
        backs = [self._back(stack, new, old, token) for new, old in reversed(undo) if old and old.id == new.id]
        made = [(new, deletion_policy(new.body, rolled_back=True)) for new, old in undo
                if new.id and (old is None or old.id != new.id)]
        stack.wanted, stack.outputs = before[0] or wanted, before[2]
        if action == "UPDATE":
            stack.event("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", token=token)
        self._remove(stack, made, token)
        stack.resources = before[1]
        stack.event(f"{name}_COMPLETE" if all(backs) else f"{name}_FAILED", token=token)

    def _back(self, stack, new, old, token):
        """Changes a resource back to what it was; False when that fails."""
        stack.event("UPDATE_IN_PROGRESS", "", old, token)
        try:
            kinds.update(self.work(stack, old, new.properties))
            stack.event("UPDATE_COMPLETE", "", old, token)
            return True
        except Exception as error:  # noqa: BLE001, told in the event
            stack.event("UPDATE_FAILED", _reason(error), old, token)
            return False

    def _remove(self, stack, doomed, token):
        """Removes, the last made first; who is in use is tried again. Gives those that would not go."""
        waiting = []
        for resource, policy in doomed:
            if policy == "Retain":
                stack.event("DELETE_SKIPPED", "", resource, token)
            else:
                waiting.append(resource)
        waiting.reverse()
        while waiting:
            stuck = []
            for resource in waiting:
                stack.event("DELETE_IN_PROGRESS", "", resource, token)
                try:
                    if resource.id:
                        kinds.delete(self.work(stack, resource))
                    stack.event("DELETE_COMPLETE", "", resource, token)
                except Exception as error:  # noqa: BLE001, told in the event
                    resource.reason = _reason(error)
                    stuck.append(resource)
            if len(stuck) == len(waiting):
                for resource in stuck:
                    stack.event("DELETE_FAILED", resource.reason, resource, token)
                return stuck
            waiting = stuck
        return []

    def delete(self, stack, retain=(), token=None):
        stack.event("DELETE_IN_PROGRESS", "User Initiated", token=token)
        doomed = [(resource, "Retain" if resource.logical in retain else deletion_policy(resource.body))
                  for resource in stack.resources.values()]
        stuck = self._remove(stack, doomed, token)
        if stuck:
            stack.resources = {resource.logical: resource for resource in stuck}
            stack.event("DELETE_FAILED", "The following resource(s) failed to delete: "
                        f"[{', '.join(resource.logical for resource in stuck)}]. ", token=token)
            return
        stack.deleted = now()
        stack.event("DELETE_COMPLETE", token=token)


# -- small things -----------------------------------------------------------------------------------


def _reason(error):
    """Why something failed. What is no refusal of a call is a mistake of ours: in full on stderr."""
    if not isinstance(error, Trouble | ClientError | BotoCoreError):
        traceback.print_exception(error)
    return str(error) or repr(error)


def _dynamic(emulator, region, value):
    """{{resolve:secretsmanager:…}} and {{resolve:ssm:…}} inside text."""
    if isinstance(value, list):
        return [_dynamic(emulator, region, inner) for inner in value]
    if isinstance(value, dict):
        return {key: _dynamic(emulator, region, inner) for key, inner in value.items()}
    if not isinstance(value, str) or not value.startswith("{{resolve:"):
        return value
    _, service, reference = value.strip("{}").split(":", 2)
    if service.startswith("ssm"):
        return emulator.aws("ssm", region, "get_parameter", Name=reference.split(":")[0])["Parameter"]["Value"]
    secret, _, key = reference.partition(":SecretString")
    text = emulator.aws("secretsmanager", region, "get_secret_value", SecretId=secret)["SecretString"]
    key = key.strip(":").split(":")[0]
    return json.loads(text)[key] if key else text
