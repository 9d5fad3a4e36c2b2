#!/usr/bin/python
"""Ansible module: brings one CloudFormation stack to its state, by a change set that is looked at first."""

from __future__ import annotations

import datetime
import json
import re
import time
import uuid

import yaml
from ansible.module_utils.basic import AnsibleModule

try:
    import boto3
    import botocore.config
    import botocore.exceptions as errors
except ImportError:
    boto3 = None

DOCUMENTATION = """
module: cfn_stack
short_description: Brings one CloudFormation stack to its state
description:
  - Makes a change set, looks at it, executes it and waits until the stack rests.
  - A stack that has this template, these parameters and these tags already is left alone, without a change
    set. Templates that differ in comments and layout only are the same.
  - A change set that would remove or replace a protected resource is refused.
  - What a failed creation left behind (C(ROLLBACK_COMPLETE), C(ROLLBACK_FAILED), C(REVIEW_IN_PROGRESS), or
    C(DELETE_FAILED) of a stack that never was complete) is deleted first.
  - In check mode the change set is made, shown and deleted again. Where none can be made, as parameters come
    from stacks that are not there yet, the changes are those that the templates tell.
  - Values of C(NoEcho) parameters cannot be compared. They are passed along when something else changes.
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  state:
    description: Whether the stack should be there.
    type: str
    choices: [present, absent]
    default: present
  region:
    description: Region of the stack; that of the environment or of the profile when absent.
    type: str
  template:
    description: Path of the template. One of this, C(template_body) and C(keep_template) is needed.
    type: path
  template_body:
    description: Text of the template.
    type: str
  keep_template:
    description: Keep the template that is deployed.
    type: bool
    default: false
  parameters:
    description: Values of the template's parameters. Booleans become true and false, lists are joined by commas.
    type: dict
    default: {}
  keep_parameters:
    description: Parameters that are not given keep the value that is deployed, instead of the template's default.
    type: bool
    default: false
  tags:
    description: Tags of the stack, and so of its resources; those that it has when absent.
    type: dict
  role_arn:
    description: Role that CloudFormation changes the resources with; the one it used last when absent.
    type: str
  protected:
    description: >-
      Logical ids that may not be removed or replaced, beside those whose C(DeletionPolicy) is C(Retain),
      C(Snapshot) or C(RetainExceptOnCreate) in the deployed template or in the new one.
    type: list
    elements: str
    default: []
  allow_replace:
    description: Logical ids of protected resources that may be removed or replaced all the same.
    type: list
    elements: str
    default: []
  termination_protection:
    description: Whether the stack should refuse to be deleted; as it is when absent.
    type: bool
  timeout:
    description: Seconds until the module stops waiting. CloudFormation goes on.
    type: int
    default: 3600
  continue_rollback:
    description: Let a stack that is C(UPDATE_ROLLBACK_FAILED) roll back first, and go on from there.
    type: bool
    default: false
  retain:
    description: Logical ids to leave behind. Only heeded when an earlier delete has failed (C(DELETE_FAILED)).
    type: list
    elements: str
    default: []
  unprotect:
    description: Turn termination protection off before a delete.
    type: bool
    default: false
author: birthday-demo
"""

EXAMPLES = """
- name: Network
  cfn_stack:
    name: birthday-demo-network-prod
    template: ../cloudformation/network.yml
    parameters: {App: birthday-demo, Env: prod, Cidr: 10.20.0.0/16}
    tags: {App: birthday-demo, Env: prod}
    termination_protection: true
  register: network

- name: Change one parameter and nothing else
  cfn_stack:
    name: birthday-demo-prod
    keep_template: true
    keep_parameters: true
    parameters: {MigrationImage: "{{ image }}"}

- name: Remove a stack
  cfn_stack:
    name: birthday-demo-prod
    state: absent
    unprotect: true
"""

RETURN = """
status:
  description: State of the stack at the end, like C(UPDATE_COMPLETE); null when there is no stack.
  type: str
stack_id:
  description: ARN of the stack; null when there is no stack.
  type: str
outputs:
  description: >-
    Outputs by name. In check mode those that are not there yet are C(<Name: not yet created>).
  type: dict
changes:
  description: >-
    What the change set does: C(action), C(resource), C(type), C(replacement) (C(True), C(Conditional),
    C(False) or null) and C(properties) of each change.
  type: list
  elements: dict
events:
  description: What failed meanwhile, the first cause first. Each has C(resource), C(type), C(status), C(reason).
  type: list
  elements: dict
previous:
  description: >-
    The C(template), C(parameters), C(tags) and C(outputs) of the stack before; null when there was none.
  type: dict
"""

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "region": {"type": "str"},
    "template": {"type": "path"},
    "template_body": {"type": "str"},
    "keep_template": {"type": "bool", "default": False},
    "parameters": {"type": "dict", "default": {}},
    "keep_parameters": {"type": "bool", "default": False},
    "tags": {"type": "dict"},
    "role_arn": {"type": "str"},
    "protected": {"type": "list", "elements": "str", "default": []},
    "allow_replace": {"type": "list", "elements": "str", "default": []},
    "termination_protection": {"type": "bool"},
    "timeout": {"type": "int", "default": 3600},
    "continue_rollback": {"type": "bool", "default": False},
    "retain": {"type": "list", "elements": "str", "default": []},
    "unprotect": {"type": "bool", "default": False},
}

LARGEST_BODY = 51200  # bytes, as long as the template is not in a bucket
HIDDEN = "****"  # what CloudFormation shows of a NoEcho parameter
NOT_YET = ": not yet created>"
KEEPING = ("Retain", "Snapshot", "RetainExceptOnCreate")
UPDATABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE",
             "IMPORT_ROLLBACK_COMPLETE")
LEFTOVERS = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "REVIEW_IN_PROGRESS")
NOTHING_TO_DO = ("didn't contain changes", "No updates are to be performed")
NOISE = re.compile("Resource (creation|update|deletion) cancelled", re.IGNORECASE)
STALE = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "RequestExpired", "SignatureDoesNotMatch",
         "UnrecognizedClientException")

# What to do about a stack in such a state.
NEXT = {
    "ROLLBACK_COMPLETE": "Nothing of it runs. Mend the cause and run again: the rest is deleted first then.",
    "ROLLBACK_FAILED": "Part of it could not be removed. Mend the cause and run again: the rest is deleted first then.",
    "UPDATE_ROLLBACK_COMPLETE": "The stack is as it was. Mend the cause and run again.",
    "UPDATE_ROLLBACK_FAILED": "It is neither old nor new. Mend what keeps it from rolling back, then run again with "
                              "continue_rollback: true.",
    "DELETE_FAILED": "Remove what holds these resources and delete the stack again (state: absent); what is to stay "
                     "behind is named in retain.",
    "CREATE_FAILED": "It was made with rollback turned off. Look at it, and delete it (state: absent).",
    "UPDATE_FAILED": "It was updated with rollback turned off. Roll it back: aws cloudformation rollback-stack.",
}
ELSE = "Look at it in the console."

sleep = time.sleep
clock = time.monotonic


class Refusal(Exception):
    """Ends the module: says what is wrong and what to do."""


# ---- What is wanted ----------------------------------------------------------------------------------------------


class Loader(yaml.SafeLoader):
    """YAML with the short forms of CloudFormation's functions: !Ref Key is {"Ref": "Key"}."""

    # "2012-10-17" is the version of a policy, not a day.
    yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def function(self, suffix, node):
        deep = {} if isinstance(node, yaml.ScalarNode) else {"deep": True}
        value = getattr(self, f"construct_{node.id}")(node, **deep)
        return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", Loader.function)


def parse(body):
    """A template as plain values."""
    try:
        template = yaml.load(body, Loader=Loader)  # noqa: S506, a safe loader
    except yaml.YAMLError as error:
        raise Refusal(f"the template is no YAML: {error}") from error
    if not isinstance(template, dict) or not isinstance(template.get("Resources"), dict):
        raise Refusal("the template has no Resources")
    return template


def section(template, name):
    """A section of a template that may be missing or empty."""
    return template.get(name) or {}


def read_body(options):
    """The text of the new template; None when the deployed one is kept."""
    if sum(map(bool, (options["template"], options["template_body"], options["keep_template"]))) != 1:
        raise Refusal("give one of template, template_body and keep_template")
    body = options["template_body"]
    if options["template"]:
        try:
            with open(options["template"], encoding="utf-8") as file:
                body = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise Refusal(f"the template cannot be read: {error}") from error
    size = len((body or "").encode())
    if size > LARGEST_BODY:
        raise Refusal(f"the template has {size} bytes, and CloudFormation takes {LARGEST_BODY} at most: split it")
    return body


def text(value):
    """A value as CloudFormation takes it; None when it cannot be one."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        items = [text(item) for item in value]
        return None if None in items else ",".join(items)
    return str(value) if isinstance(value, str | int | float) else None


def texts(what, values):
    """All of them as text; refuses those that have no value, as an undefined variable may end in one."""
    converted = {str(name): text(value) for name, value in values.items()}
    empty = sorted(name for name, value in converted.items() if value is None)
    if empty:
        raise Refusal(f"{what} without a value: {', '.join(empty)}. It is text, a number, a boolean or a list of them.")
    return converted


class Wanted:
    """What the stack should be."""

    def __init__(self, options):
        self.options, self.body = options, read_body(options)
        self.given = texts("parameters", options["parameters"])
        self.tags = None if options["tags"] is None else texts("tags", options["tags"])
        self.old = {}  # values of the deployed stack that stay
        if self.body is not None:
            self.template = parse(self.body)
            # What is deployed is not known yet: it may have all that is not given.
            self._check(section(self.template, "Parameters") if options["keep_parameters"] else ())

    def _check(self, kept):
        """Names all parameters at once that the template does not have, or that have no value."""
        declared = section(self.template, "Parameters")
        unknown = sorted(set(self.given) - set(declared))
        needed = {name for name, body in declared.items() if "Default" not in body}
        missing = sorted(needed - set(self.given) - set(kept))
        faults = [f"the template has no {', '.join(unknown)}"] if unknown else []
        faults += [f"{', '.join(missing)} must be given"] if missing else []
        if faults:
            raise Refusal(f"parameters: {'; '.join(faults)}. Nothing was changed.")

    def complete(self, before):
        """Fills in what comes from the deployed stack, which may be None."""
        if self.options["keep_template"]:
            if before is None:
                raise Refusal("there is no deployed template to keep: give one")
            self.body, self.template = before.body, before.template
        if before:
            self.tags = before.tags if self.tags is None else self.tags
            # Who gives back what was read means the value that was hidden then.
            same = {name for name, value in self.given.items() if value == HIDDEN == before.parameters.get(name)}
            self.given = {name: value for name, value in self.given.items() if name not in same}
            self.old = {name: value for name, value in before.parameters.items()
                        if name in same or self.options["keep_parameters"]}
        self._check(self.old)

    def values(self):
        """The value that every parameter would have."""
        defaults = {name: text(body.get("Default")) for name, body in section(self.template, "Parameters").items()}
        return {name: self.given.get(name, self.old.get(name, default)) for name, default in defaults.items()}

    def is_deployed(self, before):
        """Is there nothing for CloudFormation to do?"""
        return (
            (self.body == before.body or self.template == before.template)
            and all(before.parameters.get(name) in (value, HIDDEN) for name, value in self.values().items())
            and self.tags == before.tags
        )

    def unknown(self):
        """Values that come from stacks which are not there yet, as only check mode has them."""
        values = {**self.values(), "role_arn": self.options["role_arn"]}
        return [name for name, value in values.items() if NOT_YET in (value or "")]

    def arguments(self):
        """Those of a change set."""
        call = {
            "Capabilities": ["CAPABILITY_IAM"],
            "Parameters": [
                {"ParameterKey": name, **({"ParameterValue": self.given[name]} if name in self.given
                                          else {"UsePreviousValue": True})}
                for name in section(self.template, "Parameters") if name in self.given or name in self.old
            ],
            "Tags": [{"Key": key, "Value": value} for key, value in (self.tags or {}).items()],
        }
        return call | ({"UsePreviousTemplate": True} if self.options["keep_template"] else {"TemplateBody": self.body})

    def protected(self, before):
        """The resources that may not be lost."""
        resources = [section(template, "Resources") for template in (self.template, before.template if before else {})]
        kept = {name for some in resources for name, body in some.items() if body.get("DeletionPolicy") in KEEPING}
        return (kept | set(self.options["protected"])) - set(self.options["allow_replace"])


class Before:
    """The stack as it is deployed."""

    def __init__(self, found, body):
        self.body = body if isinstance(body, str) else json.dumps(body, indent=2)  # boto3 parses JSON by itself
        self.template = parse(self.body)
        self.parameters = {item["ParameterKey"]: item.get("ParameterValue", "") for item in found.get("Parameters", [])}
        self.tags = {item["Key"]: item["Value"] for item in found.get("Tags", [])}
        self.guarded = found.get("EnableTerminationProtection", False)


# ---- CloudFormation ----------------------------------------------------------------------------------------------


def pages(call, key, **arguments):
    """What a call lists, from all its pages."""
    while True:
        answer = call(**arguments)
        yield from answer.get(key) or []
        if not answer.get("NextToken"):
            return
        arguments["NextToken"] = answer["NextToken"]


def at_work(status):
    """Is it not at rest? Change sets can also be pending."""
    return status.endswith(("_IN_PROGRESS", "_PENDING"))


class Stack:
    """One stack by its name, the time there is for it, and the module's result, which tells how far it came."""

    def __init__(self, api, options):
        self.api, self.name, self.timeout = api, options["name"], options["timeout"]
        self.role = {"RoleARN": options["role_arn"]} if options["role_arn"] else {}
        self.deadline = clock() + self.timeout
        self.result = {"changed": False, "status": None, "stack_id": None, "outputs": {}, "changes": [], "events": [],
                       "previous": None, "diff": {"prepared": ""}}

    def find(self, identity=None):
        """The stack's description, or None when there is none; while it is deleted it is found by its id only."""
        try:
            found = self.api.describe_stacks(StackName=identity or self.name)["Stacks"][0]
        except errors.ClientError as error:
            if "does not exist" not in str(error):
                raise
            found = {"StackStatus": "DELETE_COMPLETE"}
        gone = found["StackStatus"] == "DELETE_COMPLETE"
        self.result.update(
            status=None if gone else found["StackStatus"], stack_id=None if gone else found["StackId"],
            outputs={} if gone else {item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", [])})
        return None if gone else found

    def before(self, found):
        """The stack as it is deployed; None when there is none."""
        if found is None:
            return None
        body = self.api.get_template(StackName=found["StackId"], TemplateStage="Original")["TemplateBody"]
        before = Before(found, body)
        self.result["previous"] = {"template": before.body, "parameters": before.parameters, "tags": before.tags,
                                   "outputs": dict(self.result["outputs"])}
        return before

    def events(self, identity, since=None):
        """What happened after that event, the oldest first."""
        happened = []
        for event in pages(self.api.describe_stack_events, "StackEvents", StackName=identity):
            if event["EventId"] == since:
                break
            happened.append(event)
        return happened[::-1]

    def last_event(self, identity):
        return next((event["EventId"] for event in
                     self.api.describe_stack_events(StackName=identity)["StackEvents"]), None)

    def pause(self, tried):
        """Waits a little longer each time; False when the time is up."""
        left = self.deadline - clock()
        if left > 0:
            sleep(min(left, 5, 2**tried))
        return left > 0

    def wait(self, identity, since, *good):
        """Waits until CloudFormation rests, and refuses any other state than these."""
        tried = 0
        while (found := self.find(identity)) and at_work(found["StackStatus"]):
            if not self.pause(tried):
                self._late(found, since)
            tried += 1
        status = found["StackStatus"] if found else "DELETE_COMPLETE"
        events = self.result["events"] = failures(self.events(identity, since), identity)
        if status not in good:
            causes = ["- {resource} ({type}) {status}: {reason}".format(**event) for event in events]
            raise Refusal("\n".join([f"ended in {status}.", *causes, NEXT.get(status, ELSE)]))
        return found

    def _late(self, found, since):
        """Says what CloudFormation is at when the time is up."""
        events = self.events(found["StackId"], since)
        self.result["events"] = failures(events, found["StackId"])
        latest = {event["LogicalResourceId"]: brief(event) for event in events
                  if event["PhysicalResourceId"] != found["StackId"]}
        waiting = [event for event in latest.values() if at_work(event["status"])]
        names = ", ".join("{resource} ({type}, {status})".format(**event) for event in waiting)
        raise Refusal(
            f"is still {found['StackStatus']} after {self.timeout} s, and CloudFormation goes on with it. "
            f"At work: {names or 'no resource'}. Look with `aws cloudformation describe-stack-events --stack-name "
            f"{self.name} --region {self.api.meta.region_name}`, and run again when it rests.")

    def delete(self, found, **arguments):
        """Deletes the stack and waits until it is gone; one that goes already is waited for."""
        since = self.last_event(found["StackId"])
        if found["StackStatus"] != "DELETE_IN_PROGRESS":
            self.api.delete_stack(StackName=found["StackId"], **self.role, **arguments)
        self.wait(found["StackId"], since, "DELETE_COMPLETE")

    def roll_back(self, found):
        """Goes on with a rollback that has failed."""
        since = self.last_event(found["StackId"])
        self.api.continue_update_rollback(StackName=found["StackId"], **self.role)
        return self.wait(found["StackId"], since, "UPDATE_ROLLBACK_COMPLETE")

    def never_was(self, found):
        """Was its creation never complete? Events of older stacks have expired, and tell nothing."""
        own = {event["ResourceStatus"] for event in self.events(found["StackId"])
               if event["PhysicalResourceId"] == found["StackId"]}
        return "CREATE_IN_PROGRESS" in own and not own & {"CREATE_COMPLETE", "IMPORT_COMPLETE"}

    def read_change_set(self, identity):
        """Its changes, once it is complete; None when there is nothing to change."""
        tried = 0
        while at_work((found := self.api.describe_change_set(ChangeSetName=identity))["Status"]):
            if not self.pause(tried):
                raise Refusal(f"its change set is still {found['Status']} after {self.timeout} s. Nothing was changed.")
            tried += 1
        if found["Status"] == "CREATE_COMPLETE":
            listed = pages(self.api.describe_change_set, "Changes", ChangeSetName=identity)
            return [change(item["ResourceChange"]) for item in listed if "ResourceChange" in item]
        reason = found.get("StatusReason", "no reason given")
        if any(words in reason for words in NOTHING_TO_DO):
            return None
        raise Refusal("\n".join([f"no change set could be made: {reason}", *self._validation(identity, reason),
                                 "Nothing was changed."]))

    def _validation(self, identity, reason):
        """What CloudFormation found in the template: it only refers to it, and it goes with the change set."""
        if "DescribeEvents" not in reason:
            return
        try:
            for event in pages(self.api.describe_events, "OperationEvents", ChangeSetName=identity,
                               Filters={"FailedEvents": True}):
                if "ValidationStatusReason" in event:
                    yield f"- {event.get('LogicalResourceId', 'template')}: {event['ValidationStatusReason']}"
        except errors.ClientError as error:
            yield f"- not told why: {error}"

    def discard(self, made, new):
        """Deletes a change set, and the empty stack that it made when there was none."""
        self.api.delete_change_set(ChangeSetName=made["Id"])
        found = self.find(made["StackId"]) if new else None
        if found and found["StackStatus"] == "REVIEW_IN_PROGRESS":
            self.deadline = max(self.deadline, clock() + 60)  # to tidy up is allowed after it too
            self.delete(found)


def change(item):
    """One change as the module shows it."""
    targets = [detail["Target"] for detail in item.get("Details", [])]
    return {"action": item["Action"], "resource": item["LogicalResourceId"], "type": item["ResourceType"],
            "replacement": item.get("Replacement"),
            "properties": sorted({target.get("Name") or target["Attribute"] for target in targets})}


def brief(event):
    """One event as the module shows it."""
    return {"resource": event["LogicalResourceId"], "type": event["ResourceType"], "status": event["ResourceStatus"],
            "reason": event.get("ResourceStatusReason", "no reason given")}


def failures(events, identity):
    """What tells why it failed, the first cause first; the stack's own words only when no resource has any."""
    resources, own = [], []
    for event in events:
        status, reason = event["ResourceStatus"], event.get("ResourceStatusReason", "")
        if event["PhysicalResourceId"] == identity:
            if reason and (status.endswith("_FAILED") or "ROLLBACK_IN_PROGRESS" in status):
                own.append(brief(event))
        elif status.endswith("_FAILED") and not NOISE.match(reason):
            resources.append(brief(event))
    return resources or own


# ---- What is done ------------------------------------------------------------------------------------------------


def present(stack, options, check, warn):
    """Brings the stack to what is wanted."""
    wanted = Wanted(options)
    found, obstacle = clear_the_way(stack, stack.find(), options, check, warn)
    before = stack.before(found)
    wanted.complete(before)
    if check and wanted.unknown():
        obstacle = f"{', '.join(wanted.unknown())} not known yet"
    if before is None or not wanted.is_deployed(before):
        if obstacle:
            show(stack.result, foresee(wanted, before), f"as the templates tell, without a change set: {obstacle}")
            refuse_losses(stack.result["changes"], wanted, before)
        elif not apply(stack, wanted, before, check):
            return
        stack.result["changed"] = True
        if check:
            name_outputs(stack.result["outputs"], wanted, before)
    guard(stack, options["termination_protection"], before.guarded if before else False, check)


def clear_the_way(stack, found, options, check, warn):
    """Gives the stack to update, None to create one; and why check mode cannot try a change set."""
    if found is None:
        return None, None
    status = found["StackStatus"]
    if status in LEFTOVERS or status == "DELETE_FAILED" and stack.never_was(found):
        if check:
            return None, f"the stack is {status} and would be deleted first"
        stack.delete(found)
        warn(f"{stack.name} was {status}, what a failed creation left: it was deleted first")
        return None, None
    refuse_busy(status)
    if status == "UPDATE_ROLLBACK_FAILED" and options["continue_rollback"]:
        return (found, "its rollback would be continued first") if check else (stack.roll_back(found), None)
    if status not in UPDATABLE:
        raise Refusal(f"is {status}. {NEXT.get(status, ELSE)}")
    return found, None


def refuse_busy(status):
    if at_work(status):
        raise Refusal(f"is {status}: another deploy is at work; wait for it")


def apply(stack, wanted, before, check):
    """Makes a change set, looks at it, and executes it unless in check mode; False when it is empty."""
    name = f"ansible-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"
    made = stack.api.create_change_set(
        StackName=stack.name, ChangeSetName=name, ChangeSetType="UPDATE" if before else "CREATE",
        Description="Made by Ansible's cfn_stack", **wanted.arguments(), **stack.role)
    executed = False
    try:
        changes = stack.read_change_set(made["Id"])
        if changes is None:
            return False
        show(stack.result, changes)
        refuse_losses(changes, wanted, before)
        if check:
            return True
        since = stack.last_event(made["StackId"])
        stack.api.execute_change_set(ChangeSetName=made["Id"])
        executed = True
    finally:
        if not executed:
            stack.discard(made, new=before is None)
    stack.wait(made["StackId"], since, "UPDATE_COMPLETE" if before else "CREATE_COMPLETE")
    return True


def refuse_losses(changes, wanted, before):
    """Refuses to remove or replace what is protected, also when it is only possible."""
    protected = wanted.protected(before)
    lost = [item for item in changes if item["resource"] in protected
            and (item["action"] == "Remove" or item["replacement"] in ("True", "Conditional"))]
    if lost:
        raise Refusal("\n".join([
            "refused, as this would lose what is protected:", *lines(lost),
            f"Nothing was changed. If it is meant, allow_replace: [{', '.join(item['resource'] for item in lost)}]"]))


def foresee(wanted, before):
    """The changes as the templates tell them, without conditions; what would be replaced is not known."""
    new, old = wanted.template["Resources"], before.template["Resources"] if before else {}
    actions = {name: "Add" if name not in old else "Remove" if name not in new else "Modify" for name in (new | old)
               if new.get(name) != old.get(name)}
    return [{"action": action, "resource": name, "type": (old | new)[name].get("Type"), "replacement": None,
             "properties": []} for name, action in actions.items()]


def lines(changes):
    """The changes for people."""
    signs = {"Add": "+", "Remove": "-"}
    for item in changes:
        line = "{sign} {action} {resource} {type}".format(sign=signs.get(item["action"], "~"), **item)
        line += f" (replacement: {item['replacement']})" if item["replacement"] else ""
        yield line + (f": {', '.join(item['properties'])}" if item["properties"] else "")


def show(result, changes, *remarks):
    result["changes"] = changes
    result["diff"]["prepared"] = "".join(f"{line}\n" for line in (*remarks, *lines(changes)))


def name_outputs(outputs, wanted, before):
    """Stands in for outputs that the new template adds."""
    for name in section(wanted.template, "Outputs"):
        if before is None or name not in section(before.template, "Outputs"):
            outputs.setdefault(name, f"<{name}{NOT_YET}")


def guard(stack, asked, now, check):
    """Turns termination protection on or off where it is asked for."""
    if asked is None or asked == now:
        return
    if not check:
        stack.api.update_termination_protection(StackName=stack.name, EnableTerminationProtection=asked)
    stack.result["changed"] = True
    stack.result["diff"]["prepared"] += f"~ Termination protection: {'on' if asked else 'off'}\n"


def absent(stack, options, check):
    """Deletes the stack."""
    found = stack.find()
    if found is None:
        return
    status, guarded = found["StackStatus"], found.get("EnableTerminationProtection", False)
    if status not in ("REVIEW_IN_PROGRESS", "DELETE_IN_PROGRESS"):
        refuse_busy(status)
    if guarded and not options["unprotect"]:
        raise Refusal("has termination protection. If it is meant to go, set unprotect: true.")
    stack.result.update(changed=True, diff={"prepared": f"- Delete {stack.name}\n"})
    if not check:
        guard(stack, False, guarded, check)
        # CloudFormation takes such a list only after a delete has failed.
        retain = options["retain"] if status == "DELETE_FAILED" else []
        stack.delete(found, **({"RetainResources": retain} if retain else {}))


def advice(error):
    """What boto3 or AWS said, and what to do about it, in one line."""
    said = " ".join(str(error).split())
    code = error.response["Error"]["Code"] if isinstance(error, errors.ClientError) else ""
    if isinstance(error, errors.NoRegionError):
        return "no region: give `region`, or set AWS_REGION."
    if isinstance(error, errors.NoCredentialsError | errors.PartialCredentialsError | errors.CredentialRetrievalError
                  | errors.TokenRetrievalError | errors.ProfileNotFound | errors.SSOError):
        return ("no AWS credentials. Log in, for example with `aws sso login` and AWS_PROFILE, or set "
                f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. ({said})")
    if code in STALE:
        return f"AWS does not take these credentials: log in again. ({said})"
    if isinstance(error, errors.ConnectionError | errors.HTTPClientError):
        return f"AWS cannot be reached: look at the network, the region and AWS_ENDPOINT_URL. ({said})"
    if "Throttl" in code or code == "RequestLimitExceeded":
        return f"AWS slows us down: run again in some minutes. ({said})"
    return said


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if boto3 is None:
        module.fail_json(msg="boto3 is missing for this Python: run `make setup` and put .venv/bin first on PATH.")
    options, result = module.params, {}
    config = botocore.config.Config(retries={"mode": "standard", "total_max_attempts": 10}, connect_timeout=10)
    try:
        stack = Stack(boto3.client("cloudformation", region_name=options["region"], config=config), options)
        result = stack.result
        if options["state"] == "present":
            present(stack, options, module.check_mode, module.warn)
        else:
            absent(stack, options, module.check_mode)
    except Refusal as refusal:
        module.fail_json(msg=f"{options['name']}: {refusal}", **result)
    except (errors.BotoCoreError, errors.ClientError) as error:
        module.fail_json(msg=f"{options['name']}: {advice(error)}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
