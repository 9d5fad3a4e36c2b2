"""CloudFormation's API of change sets."""

from __future__ import annotations

import uuid

from .changes import changes
from .cloudformation import check_updatable, differs, operation, shown
from .evaluation import Refused
from .server import Fault
from .stacks import now

NO_CHANGES = ("The submitted information didn't contain changes. "
              "Submit different information to create a change set.")


@operation
def create_change_set(cfn, call, a):
    with cfn.lock:
        name, kind = a["StackName"], a.get("ChangeSetType", "UPDATE")
        exists = cfn.exists(call, name) or name.startswith("arn:")
        stack = cfn.find(call, name, "Stack [{name}] does not exist") if exists or kind != "CREATE" else None
        if kind == "CREATE":
            if stack and stack.status != "REVIEW_IN_PROGRESS":
                raise Refused(f"Stack [{name}] already exists and cannot be created again with the changeSet "
                              f"[{a['ChangeSetName']}].")
            stack = stack or cfn.new(call, name)
        else:
            check_updatable(stack)
        if a["ChangeSetName"] in stack.change_sets:
            raise Fault("AlreadyExistsException", f"ChangeSet {a['ChangeSetName']} already exists")
        wanted = cfn.wanted(stack, a)
        if stack not in cfn.stacks:
            stack.event("REVIEW_IN_PROGRESS", "User Initiated", token=a.get("ClientToken"))
            cfn.stacks.append(stack)
        listed = changes(cfn.engine, stack, wanted)
        empty = not listed and stack.wanted and not differs(cfn, stack, wanted)
        identity = (f"arn:aws:cloudformation:{call.region}:{cfn.emulator.account}:changeSet/"
                    f"{a['ChangeSetName']}/{uuid.uuid4()}")
        stack.change_sets[a["ChangeSetName"]] = {
            "ChangeSetId": identity,
            "ChangeSetName": a["ChangeSetName"],
            "StackId": stack.id,
            "StackName": stack.name,
            "Description": a.get("Description"),
            "Parameters": shown(wanted),
            "CreationTime": now(),
            "ExecutionStatus": "UNAVAILABLE" if empty else "AVAILABLE",
            "Status": "FAILED" if empty else "CREATE_COMPLETE",
            "StatusReason": NO_CHANGES if empty else None,
            "Capabilities": a.get("Capabilities", []),
            "Tags": [{"Key": key, "Value": value} for key, value in wanted.tags.items()],
            "Changes": listed,
            "OnStackFailure": a.get("OnStackFailure"),
            "wanted": wanted,
        }
    return {"Id": identity, "StackId": stack.id}


def _change_set(stack, name):
    for found in stack.change_sets.values():
        if name in (found["ChangeSetName"], found["ChangeSetId"]):
            return found
    if stack.executed and name == stack.executed["ChangeSetId"]:
        return stack.executed
    raise Fault("ChangeSetNotFound", f"ChangeSet [{name}] does not exist")


def _of_change_set(cfn, call, a):
    name = a["ChangeSetName"]
    if "StackName" in a:
        stack = cfn.find(call, a["StackName"], "Stack [{name}] does not exist")
        return stack, _change_set(stack, name)
    for stack in cfn.stacks:
        known = [*stack.change_sets.values(), *([stack.executed] if stack.executed else [])]
        if any(found["ChangeSetId"] == name for found in known):
            return stack, _change_set(stack, name)
    raise Fault("ChangeSetNotFound", f"ChangeSet [{name}] does not exist")


@operation
def describe_change_set(cfn, call, a):
    _, found = _of_change_set(cfn, call, a)
    return {key: value for key, value in found.items() if key != "wanted" and value is not None}


@operation
def list_change_sets(cfn, call, a):
    stack = cfn.find(call, a["StackName"], "Stack [{name}] does not exist")
    return {"Summaries": [{key: value for key, value in found.items() if key != "wanted" and value is not None}
                          for found in stack.change_sets.values()]}


@operation
def delete_change_set(cfn, call, a):
    try:
        stack, found = _of_change_set(cfn, call, a)
    except Fault:
        return  # of a stack that is there, a change set that is not may be deleted
    stack.change_sets.pop(found["ChangeSetName"], None)


@operation
def execute_change_set(cfn, call, a):
    with cfn.lock:
        stack, found = _of_change_set(cfn, call, a)
        if found["ExecutionStatus"] != "AVAILABLE":
            raise Fault("InvalidChangeSetStatus", f"ChangeSet [{found['ChangeSetId']}] cannot be executed in its "
                        f"current status of [{found['Status']}]")
        # A change set is good for the state it was made for: they are all gone. The executed one can be described.
        stack.change_sets, stack.executed = {}, found
        found["ExecutionStatus"] = "EXECUTE_IN_PROGRESS"
        stack.capabilities = found["Capabilities"]
        keep = a.get("DisableRollback") or found["OnStackFailure"] == "DO_NOTHING"
        done = cfn.engine.apply(stack, found["wanted"], a.get("ClientRequestToken"), rollback=not keep)
        found["ExecutionStatus"] = "EXECUTE_COMPLETE" if done else "EXECUTE_FAILED"
        if not done and found["OnStackFailure"] == "DELETE" and stack.status == "ROLLBACK_COMPLETE":
            cfn.engine.delete(stack)
