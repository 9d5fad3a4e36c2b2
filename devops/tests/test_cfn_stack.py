"""The module cfn_stack, run as Ansible runs it, against a stand-in of CloudFormation that plays what goes wrong."""

import importlib.util
import json
import os

import botocore.exceptions
import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from cloudformation import REGION, CloudFormation, refusal
from templates import ROOT, Loader

spec = importlib.util.spec_from_file_location("cfn_stack", ROOT / "devops" / "ansible" / "library" / "cfn_stack.py")
cfn_stack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cfn_stack)

BODY = """
Parameters:
  Env: {Type: String}
  Days: {Type: Number, Default: 14}
Resources:
  Table: {Type: AWS::Test::Thing, DeletionPolicy: Retain}
  Service:
    Type: AWS::Test::Thing
    Properties: {Name: !Sub "${Env}-people", Since: 2012-10-17, Days: [!Ref Days]}
Outputs:
  Url: {Value: !GetAtt Service.Url}
"""
SECRET_BODY = BODY.replace("Resources:", '  Hook: {Type: String, NoEcho: true, Default: ""}\nResources:')
WITHOUT_TABLE = BODY.replace("  Table: {Type: AWS::Test::Thing, DeletionPolicy: Retain}\n", "")
WITHOUT_KEEPING = BODY.replace(", DeletionPolicy: Retain", "")
DEPLOYED = {"outputs": {"Url": "https://people"}, "tags": {"App": "people", "Env": "test"}, "Env": "test", "Days": "14"}
USUAL = {"name": "people", "template_body": BODY, "parameters": {"Env": "test"},
         "tags": {"App": "people", "Env": "test"}}
ROLE = "arn:aws:iam::123456789012:role/cloudformation"
BROKEN = [("Service", "CREATE_IN_PROGRESS"), ("Service", "CREATE_FAILED", "no such image"),
          ("Table", "CREATE_FAILED", "Resource creation cancelled"),
          ("Logs", "CREATE_FAILED", "also wrong")]


class Time:
    """Goes on by sleeping only."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def cfn():
    return CloudFormation()


@pytest.fixture
def time(monkeypatch):
    time = Time()
    monkeypatch.setattr(cfn_stack, "sleep", time.sleep)
    monkeypatch.setattr(cfn_stack, "clock", lambda: time.now)
    return time


@pytest.fixture
def run(cfn, monkeypatch, capsys, time):
    """Runs the module's main with such options, and gives what Ansible would get."""

    def client(service, region_name, config):
        assert (service, region_name) == ("cloudformation", REGION)
        assert config.retries == {"mode": "standard", "total_max_attempts": 10}
        return cfn

    def run(check=False, **options):
        warnings = []  # Ansible's own list is one for the whole process
        monkeypatch.setattr(cfn_stack.AnsibleModule, "warn", lambda module, warning: warnings.append(warning))
        monkeypatch.setattr(cfn_stack.boto3, "client", client)
        return {**main(capsys, check, **{"region": REGION, **options}), "warnings": warnings}

    return run


def main(capsys, check=False, **options):
    options = {name: value for name, value in options.items() if value is not ...}
    with patch_module_args({**options, "_ansible_check_mode": check}), pytest.raises(SystemExit) as ended:
        cfn_stack.main()
    result = json.loads(capsys.readouterr().out)
    assert bool(ended.value.code) == bool(result.get("failed"))
    return result


def unchanged(result):
    """It went well, and there was nothing to do."""
    assert "failed" not in result, result["msg"]
    assert result["changed"] is False
    return True


def fails(result, *words):
    """It failed, and says all that."""
    assert result.get("failed"), result
    assert [word for word in words if word not in result["msg"]] == [], result["msg"]
    return result


def leaves_nothing(cfn, state, *wrote):
    """Those calls were made, no change set is left, and the stack is in that state."""
    assert (cfn.wrote(), cfn.change_sets, cfn.state) == (list(wrote), {}, state)


# ---- Creation ---------------------------------------------------------------------------------------------------


def test_creates_a_stack(cfn, run):
    cfn.new_outputs = {"Url": "https://people"}
    result = run(**USUAL, role_arn=ROLE, termination_protection=True)
    assert cfn.wrote() == ["create_change_set", "execute_change_set", "update_termination_protection"]
    asked = cfn.called("create_change_set")[0]
    assert asked.pop("ChangeSetName").startswith("ansible-")
    assert asked == {
        "StackName": "people", "ChangeSetType": "CREATE", "Description": "Made by Ansible's cfn_stack",
        "TemplateBody": BODY, "Parameters": [{"ParameterKey": "Env", "ParameterValue": "test"}],
        "Tags": [{"Key": "App", "Value": "people"}, {"Key": "Env", "Value": "test"}],
        "Capabilities": ["CAPABILITY_IAM"], "RoleARN": ROLE,
    }
    assert cfn.protected
    assert {key: result[key] for key in ("changed", "status", "stack_id", "outputs", "events", "previous")} == {
        "changed": True, "status": "CREATE_COMPLETE", "stack_id": cfn.id, "outputs": {"Url": "https://people"},
        "events": [], "previous": None}


def test_change_sets_have_names_of_their_own(cfn, run):
    for days in (1, 2):
        run(**{**USUAL, "parameters": {"Env": "test", "Days": days}})
    first, second = (call["ChangeSetName"] for call in cfn.called("create_change_set"))
    assert first != second


def test_reads_the_template_from_a_file(cfn, run, tmp_path):
    (tmp_path / "people.yml").write_text(BODY + "# größer\n", encoding="utf-8")
    assert run(**{**USUAL, "template_body": ..., "template": str(tmp_path / "people.yml")})["changed"]
    assert cfn.called("create_change_set")[0]["TemplateBody"] == BODY + "# größer\n"


def test_waits_for_the_change_set_and_the_stack(cfn, run, time):
    cfn.change_set_states = ["CREATE_PENDING", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"]
    cfn.then("execute_change_set", *["CREATE_IN_PROGRESS"] * 6, "CREATE_COMPLETE")
    assert run(**USUAL)["status"] == "CREATE_COMPLETE"
    assert time.slept == [1, 2, 1, 2, 4, 5, 5, 5]


def test_a_failed_creation_tells_the_first_cause_first(cfn, run):
    cfn.then("execute_change_set", "CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE", events=[
        *BROKEN, ("people", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [Service]")])
    result = fails(run(**USUAL), "people: ended in ROLLBACK_COMPLETE",
                   "- Service (AWS::Test::Thing) CREATE_FAILED: no such image\n- Logs", "Mend the cause and run again")
    assert result["events"] == [
        {"resource": "Service", "type": "AWS::Test::Thing", "status": "CREATE_FAILED", "reason": "no such image"},
        {"resource": "Logs", "type": "AWS::Test::Thing", "status": "CREATE_FAILED", "reason": "also wrong"}]
    assert (result["status"], result["stack_id"]) == ("ROLLBACK_COMPLETE", cfn.id)


def test_a_failure_without_a_failed_resource_tells_the_reason_of_the_stack(cfn, run):
    cfn.then("execute_change_set", "ROLLBACK_COMPLETE", events=[
        ("people", "CREATE_IN_PROGRESS", "User Initiated"),
        ("people", "ROLLBACK_IN_PROGRESS", "Output Url is malformed")])
    fails(run(**USUAL), "- people (AWS::CloudFormation::Stack) ROLLBACK_IN_PROGRESS: Output Url is malformed")


# ---- Nothing to do ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [
    pytest.param({}, id="a parameter left to its default"),
    pytest.param({"parameters": {"Env": "test", "Days": 14}}, id="the default given"),
    pytest.param({"template_body": "# A comment.\n" + BODY.replace("Days:", "Days:   ")}, id="comments and layout"),
    pytest.param({"template_body": json.dumps(cfn_stack.parse(BODY))}, id="the same in JSON"),
    pytest.param({"tags": {"Env": "test", "App": "people"}}, id="tags in another order"),
    pytest.param({"tags": ...}, id="no tags given"),
    pytest.param({"termination_protection": True}, id="already protected"),
    pytest.param({"template_body": ..., "keep_template": True}, id="the template kept"),
    pytest.param({"parameters": {}, "keep_parameters": True}, id="the parameters kept"),
])
@pytest.mark.parametrize("check", [False, True])
def test_leaves_what_is_deployed_already(cfn, run, options, check):
    cfn.deployed(BODY, "UPDATE_ROLLBACK_COMPLETE", protected=True, **DEPLOYED)
    result = run(check, **{**USUAL, **options})
    assert unchanged(result)
    assert cfn.wrote() == []
    assert (result["status"], result["outputs"], result["changes"]) == (
        "UPDATE_ROLLBACK_COMPLETE", {"Url": "https://people"}, [])


def test_knows_a_template_that_boto3_has_parsed(cfn, run):
    parsed = yaml.load(BODY, Loader)
    parsed["Resources"]["Service"]["Properties"]["Days"] = ["{{ not a date: 2012-10-17 }}"]
    cfn.deployed("", **DEPLOYED).body = parsed
    cfn._shown = lambda key, value: value
    assert unchanged(run(**{**USUAL, "template_body": json.dumps(parsed)}))


def test_an_empty_change_set_is_no_change(cfn, run):
    cfn.deployed(BODY, **DEPLOYED)
    cfn.change_set_states = ["CREATE_IN_PROGRESS", "FAILED"]
    for reason in ("The submitted information didn't contain changes. Submit different information",
                   "No updates are to be performed."):
        cfn.calls, cfn.change_set_reason = [], reason
        assert unchanged(run(**{**USUAL, "template_body": "Description: New words\n" + BODY}))
        leaves_nothing(cfn, "CREATE_COMPLETE", "create_change_set", "delete_change_set")


# ---- Updates ----------------------------------------------------------------------------------------------------


def test_updates_a_stack(cfn, run):
    cfn.deployed(BODY, **DEPLOYED).lists(
        ("Modify", "Service", "False", "Image"), ("Add", "Alarm"), ("Remove", "Logs"),
        ("Modify", "Role", "True", "Path"))
    cfn.new_outputs = {"Url": "https://new"}
    result = run(**{**USUAL, "parameters": {"Env": "test", "Days": 30}})
    assert cfn.wrote() == ["create_change_set", "execute_change_set"]
    assert cfn.parameters == {"Env": "test", "Days": "30"}
    assert (result["changed"], result["status"], result["outputs"]) == (True, "UPDATE_COMPLETE", {"Url": "https://new"})
    assert result["changes"][0] == {"action": "Modify", "resource": "Service", "type": "AWS::Test::Thing",
                                    "replacement": "False", "properties": ["Image"]}
    assert result["diff"]["prepared"].splitlines() == [
        "~ Modify Service AWS::Test::Thing (replacement: False): Image",
        "+ Add Alarm AWS::Test::Thing",
        "- Remove Logs AWS::Test::Thing",
        "~ Modify Role AWS::Test::Thing (replacement: True): Path"]
    assert result["previous"] == {
        "template": BODY, "parameters": {"Env": "test", "Days": "14"}, "tags": {"App": "people", "Env": "test"},
        "outputs": {"Url": "https://people"}}


def test_executes_a_change_set_that_lists_nothing(cfn, run):
    cfn.deployed(BODY, **DEPLOYED)
    assert run(**{**USUAL, "template_body": BODY.replace("Service.Url", "Service.Arn")})["changed"]
    assert cfn.wrote() == ["create_change_set", "execute_change_set"]


@pytest.mark.parametrize(("tags", "expected"), [
    ({"App": "people", "Env": "test", "Version": 3}, {"App": "people", "Env": "test", "Version": "3"}),
    ({"App": "people"}, {"App": "people"}),
    ({}, {}),
])
def test_changes_tags_alone(cfn, run, tags, expected):
    cfn.deployed(BODY, **DEPLOYED)
    assert run(**{**USUAL, "tags": tags})["changed"]
    assert cfn.tags == expected


def test_keeps_tags_that_are_not_given(cfn, run):
    cfn.deployed(BODY, **DEPLOYED)
    assert run(**{**USUAL, "tags": ..., "parameters": {"Env": "test", "Days": 30}})["changed"]
    assert cfn.tags == {"App": "people", "Env": "test"}


def test_a_parameter_that_is_not_given_goes_back_to_its_default(cfn, run):
    cfn.deployed(BODY, **{**DEPLOYED, "Days": "30"})
    assert run(**USUAL)["changed"]
    assert cfn.parameters == {"Env": "test", "Days": "14"}


def test_keeps_template_and_parameters(cfn, run):
    cfn.deployed(BODY, **{**DEPLOYED, "Days": "30"})
    assert run(name="people", keep_template=True, keep_parameters=True, parameters={"Env": "other"})["changed"]
    asked = cfn.called("create_change_set")[0]
    assert asked["UsePreviousTemplate"] is True
    assert asked["Parameters"] == [{"ParameterKey": "Env", "ParameterValue": "other"},
                                   {"ParameterKey": "Days", "UsePreviousValue": True}]
    assert (cfn.parameters, cfn.tags) == ({"Env": "other", "Days": "30"}, {"App": "people", "Env": "test"})


def test_keeps_parameters_under_a_new_template(cfn, run):
    cfn.deployed(BODY, **{**DEPLOYED, "Days": "30"})
    new = BODY.replace("Resources:", "  Size: {Type: Number, Default: 1}\nResources:").replace(
        "  Days: {Type: Number, Default: 14}\n", "").replace("!Ref Days", "!Ref Size")
    assert run(name="people", template_body=new, keep_parameters=True)["changed"]
    assert cfn.parameters == {"Env": "test", "Size": "1"}


def test_nothing_is_kept_of_a_stack_that_is_not_there(cfn, run):
    fails(run(name="people", keep_template=True), "people: there is no deployed template to keep")
    fails(run(name="people", template_body=BODY, keep_parameters=True), "Env must be given")
    assert cfn.wrote() == []


def test_hidden_parameters_cannot_be_compared_and_are_passed_along(cfn, run):
    cfn.deployed(SECRET_BODY, **DEPLOYED, Hook="https://old")
    options = {**USUAL, "template_body": SECRET_BODY}
    assert unchanged(run(**{**options, "parameters": {"Env": "test", "Hook": "https://new"}}))
    assert unchanged(run(**options))
    assert run(**{**options, "parameters": {"Env": "test", "Days": 2, "Hook": "https://new"}})["changed"]
    assert cfn.parameters == {"Env": "test", "Days": "2", "Hook": "https://new"}


def test_the_stars_of_a_hidden_parameter_are_not_its_value(cfn, run):
    cfn.deployed(SECRET_BODY, **DEPLOYED, Hook="https://old")
    read = run(**{**USUAL, "template_body": SECRET_BODY})["previous"]["parameters"]
    assert read == {"Env": "test", "Days": "14", "Hook": "****"}
    assert run(**{**USUAL, "template_body": SECRET_BODY, "parameters": {**read, "Days": 3}})["changed"]
    assert cfn.parameters == {"Env": "test", "Days": "3", "Hook": "https://old"}


def test_a_failed_update_is_put_back_and_told(cfn, run):
    cfn.deployed(BODY, "UPDATE_COMPLETE", **DEPLOYED).lists(("Modify", "Service", "False", "Image")).then(
        "execute_change_set", "UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE",
        events=[("Service", "UPDATE_FAILED", "circuit breaker"),
                ("Role", "UPDATE_FAILED", "Resource update cancelled")])
    cfn.event("Service", "UPDATE_FAILED", "of an older update")
    result = fails(run(**{**USUAL, "parameters": {"Env": "test", "Days": 2}}), "ended in UPDATE_ROLLBACK_COMPLETE",
                   "circuit breaker", "The stack is as it was")
    assert [event["reason"] for event in result["events"]] == ["circuit breaker"]
    assert result["changes"][0]["resource"] == "Service"
    assert result["previous"]["parameters"]["Days"] == "14"


def test_waits_for_the_clean_up_after_an_update(cfn, run):
    cfn.deployed(BODY, **DEPLOYED).then(
        "execute_change_set", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE")
    assert run(**{**USUAL, "tags": {}})["status"] == "UPDATE_COMPLETE"


@pytest.mark.parametrize("asked", [True, False])
def test_changes_termination_protection_alone(cfn, run, asked):
    cfn.deployed(BODY, protected=not asked, **DEPLOYED)
    result = run(**USUAL, termination_protection=asked)
    assert (result["changed"], cfn.protected, cfn.wrote()) == (True, asked, ["update_termination_protection"])
    assert result["diff"]["prepared"] == f"~ Termination protection: {'on' if asked else 'off'}\n"


# ---- What is protected ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new", "change", "options"), [
    pytest.param(BODY, BODY, ("Modify", "Table", "True", "Name"), {}, id="replaced"),
    pytest.param(BODY, BODY, ("Modify", "Table", "Conditional", "Name"), {}, id="replaced perhaps"),
    pytest.param(BODY, WITHOUT_TABLE, ("Remove", "Table"), {}, id="removed"),
    pytest.param(WITHOUT_KEEPING, BODY, ("Modify", "Table", "True", "Name"), {}, id="protected by the new template"),
    pytest.param(BODY, WITHOUT_KEEPING, ("Modify", "Table", "True", "Name"), {}, id="protected by the old template"),
    pytest.param(BODY, BODY, ("Modify", "Service", "True", "Name"), {"protected": ["Service"]}, id="protected by name"),
    pytest.param(BODY, BODY, ("Modify", "Table", "True", "Name"), {"allow_replace": ["Role"]}, id="other is allowed"),
    *(pytest.param(body, body, ("Modify", "Table", "True", "Name"), {}, id=policy)
      for policy in ("Snapshot", "RetainExceptOnCreate") for body in [BODY.replace("Retain", policy)]),
])
@pytest.mark.parametrize("check", [False, True])
def test_refuses_to_lose_what_is_protected(cfn, run, old, new, change, options, check):
    cfn.deployed(old, **DEPLOYED).lists(("Modify", "Service", "False", "Image"), ("Add", "Alarm"), change)
    result = fails(run(check, **{**USUAL, "template_body": new, "tags": {}}, **options),
                   f"{change[0]} {change[1]} AWS::Test::Thing", f"allow_replace: [{change[1]}]", "Nothing was changed")
    assert "Image" not in result["msg"]
    assert len(result["changes"]) == 3
    leaves_nothing(cfn, "CREATE_COMPLETE", "create_change_set", "delete_change_set")


@pytest.mark.parametrize(("change", "options"), [
    pytest.param(("Modify", "Table", "True", "Name"), {"allow_replace": ["Table"]}, id="a replacement that is allowed"),
    pytest.param(("Remove", "Table"), {"allow_replace": ["Table", "Other"]}, id="a removal that is allowed"),
    pytest.param(("Modify", "Table", "False", "Name"), {}, id="a change in place"),
    pytest.param(("Remove", "Service"), {}, id="a removal of what is not protected"),
    pytest.param(("Modify", "Service", "True", "Name"), {}, id="a replacement of what is not protected"),
])
def test_lets_pass(cfn, run, change, options):
    cfn.deployed(BODY, **DEPLOYED).lists(change)
    assert run(**{**USUAL, "tags": {}}, **options)["changed"]
    assert cfn.wrote() == ["create_change_set", "execute_change_set"]


# ---- States that a stack can be found in ------------------------------------------------------------------------


@pytest.mark.parametrize("state", [
    "CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"])
def test_updates_a_stack_that_rests(cfn, run, state):
    cfn.deployed(BODY, state, **DEPLOYED)
    assert run(**{**USUAL, "tags": {}})["status"] == "UPDATE_COMPLETE"


@pytest.mark.parametrize("state", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "REVIEW_IN_PROGRESS", "DELETE_FAILED"])
def test_deletes_what_a_failed_creation_left(cfn, run, state):
    cfn.deployed(BODY, state, Env="broken")
    result = run(**USUAL, role_arn=ROLE)
    assert cfn.wrote() == ["delete_stack", "create_change_set", "execute_change_set"]
    assert cfn.called("delete_stack")[0]["RoleARN"] == ROLE
    assert cfn.called("create_change_set")[0]["ChangeSetType"] == "CREATE"
    assert (result["status"], result["previous"]) == ("CREATE_COMPLETE", None)
    assert result["warnings"] == [f"people was {state}, what a failed creation left: it was deleted first"]


@pytest.mark.parametrize("state", ["ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"])
def test_check_mode_leaves_it_there(cfn, run, state):
    cfn.deployed(BODY, state, Env="broken")
    result = run(True, **USUAL)
    leaves_nothing(cfn, state)
    assert (result["changed"], result["outputs"]) == (True, {"Url": "<Url: not yet created>"})
    assert f"the stack is {state} and would be deleted first" in result["diff"]["prepared"]
    assert [change["action"] for change in result["changes"]] == ["Add", "Add"]


def test_a_leftover_that_cannot_be_deleted(cfn, run):
    cfn.deployed(BODY, "ROLLBACK_COMPLETE").then(
        "delete_stack", "DELETE_IN_PROGRESS", "DELETE_FAILED", events=[("Bucket", "DELETE_FAILED", "not empty")])
    fails(run(**USUAL), "ended in DELETE_FAILED", "Bucket", "not empty", "retain")
    assert cfn.wrote() == ["delete_stack"]


@pytest.mark.parametrize("history", [["CREATE_COMPLETE"], []])
def test_does_not_delete_again_what_was_once_complete(cfn, run, history):
    cfn.deployed(BODY, "DELETE_FAILED")
    for status in history:
        cfn.event("people", status)
    if not history:
        cfn.history = []  # CloudFormation keeps events for 90 days
    fails(run(**USUAL), "people: is DELETE_FAILED", "state: absent")
    assert cfn.wrote() == []


@pytest.mark.parametrize("state", ["CREATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "DELETE_IN_PROGRESS",
                                   "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"])
@pytest.mark.parametrize("check", [False, True])
def test_leaves_a_stack_alone_that_another_deploy_is_at(cfn, run, state, check):
    cfn.deployed(BODY, state, **DEPLOYED)
    result = fails(run(check, **USUAL), f"people: is {state}", "another deploy is at work; wait for it")
    assert result["status"] == state
    assert cfn.wrote() == []


@pytest.mark.parametrize(("state", "advice"), [
    ("UPDATE_ROLLBACK_FAILED", "continue_rollback: true"),
    ("CREATE_FAILED", "delete it"),
    ("UPDATE_FAILED", "rollback-stack"),
    ("IMPORT_ROLLBACK_FAILED", "console"),
])
def test_leaves_other_states_to_people(cfn, run, state, advice):
    cfn.deployed(BODY, state, **DEPLOYED)
    fails(run(**USUAL), f"people: is {state}", advice)
    assert cfn.wrote() == []


def test_continues_a_failed_rollback_when_asked(cfn, run):
    cfn.deployed(BODY, "UPDATE_ROLLBACK_FAILED", **DEPLOYED)
    result = run(**{**USUAL, "tags": {}}, continue_rollback=True, role_arn=ROLE)
    assert cfn.wrote() == ["continue_update_rollback", "create_change_set", "execute_change_set"]
    assert cfn.called("continue_update_rollback")[0]["RoleARN"] == ROLE
    assert result["status"] == "UPDATE_COMPLETE"


def test_continues_no_rollback_of_a_stack_that_rests(cfn, run):
    cfn.deployed(BODY, **DEPLOYED)
    assert unchanged(run(**USUAL, continue_rollback=True))
    assert cfn.wrote() == []


def test_a_rollback_that_fails_again(cfn, run):
    cfn.deployed(BODY, "UPDATE_ROLLBACK_FAILED", **DEPLOYED).then(
        "continue_update_rollback", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED",
        events=[("Service", "UPDATE_FAILED", "still broken")])
    fails(run(**USUAL, continue_rollback=True), "ended in UPDATE_ROLLBACK_FAILED", "still broken")
    assert cfn.wrote() == ["continue_update_rollback"]


def test_check_mode_continues_no_rollback(cfn, run):
    cfn.deployed(BODY, "UPDATE_ROLLBACK_FAILED", **DEPLOYED)
    result = run(True, **{**USUAL, "tags": {}}, continue_rollback=True)
    leaves_nothing(cfn, "UPDATE_ROLLBACK_FAILED")
    assert "rollback would be continued first" in result["diff"]["prepared"]


# ---- Deadlines --------------------------------------------------------------------------------------------------


def test_stops_waiting_at_the_deadline(cfn, run, time):
    cfn.then("execute_change_set", "CREATE_IN_PROGRESS", events=[
        ("Table", "CREATE_IN_PROGRESS"), ("Table", "CREATE_COMPLETE"), ("Service", "CREATE_IN_PROGRESS"),
        ("Logs", "CREATE_FAILED", "denied")])
    result = fails(run(**USUAL, timeout=60), "is still CREATE_IN_PROGRESS after 60 s", "CloudFormation goes on",
                   "At work: Service (AWS::Test::Thing, CREATE_IN_PROGRESS).",
                   f"aws cloudformation describe-stack-events --stack-name people --region {REGION}")
    assert time.now == 1060
    assert (result["status"], [event["resource"] for event in result["events"]]) == ("CREATE_IN_PROGRESS", ["Logs"])


def test_a_change_set_that_is_never_ready_is_tidied_up(cfn, run, time):
    cfn.change_set_states = ["CREATE_IN_PROGRESS"]
    cfn.then("delete_stack", "DELETE_IN_PROGRESS", "DELETE_IN_PROGRESS", "DELETE_COMPLETE")
    fails(run(**USUAL, timeout=60), "change set is still CREATE_IN_PROGRESS after 60 s", "Nothing was changed")
    leaves_nothing(cfn, "DELETE_COMPLETE", "create_change_set", "delete_change_set", "delete_stack")


# ---- Check mode -------------------------------------------------------------------------------------------------


def test_check_mode_of_a_stack_that_is_not_there(cfn, run):
    cfn.lists(("Add", "Table"), ("Add", "Service"), ("Add", "Logs"))
    result = run(True, **USUAL, termination_protection=True, role_arn=ROLE)
    leaves_nothing(cfn, "DELETE_COMPLETE", "create_change_set", "delete_change_set", "delete_stack")
    assert cfn.called("delete_stack")[0]["RoleARN"] == ROLE
    assert [change["resource"] for change in result["changes"]] == ["Table", "Service", "Logs"]
    assert {key: result[key] for key in ("changed", "status", "stack_id", "outputs")} == {
        "changed": True, "status": None, "stack_id": None, "outputs": {"Url": "<Url: not yet created>"}}
    assert result["diff"]["prepared"].splitlines()[-1] == "~ Termination protection: on"


def test_check_mode_of_a_stack_that_is_there(cfn, run):
    cfn.deployed(BODY, **DEPLOYED).lists(("Modify", "Service", "False", "Image"))
    new = BODY + "  Arn: {Value: !Ref Service}\n"
    result = run(True, **{**USUAL, "template_body": new}, termination_protection=True)
    leaves_nothing(cfn, "CREATE_COMPLETE", "create_change_set", "delete_change_set")
    assert not cfn.protected
    assert (result["changed"], result["status"]) == (True, "CREATE_COMPLETE")
    assert result["outputs"] == {"Url": "https://people", "Arn": "<Arn: not yet created>"}
    assert result["previous"]["outputs"] == {"Url": "https://people"}


def test_check_mode_names_no_output_that_a_condition_keeps_away(cfn, run):
    cfn.deployed(BODY, **{**DEPLOYED, "outputs": {}}).lists(("Modify", "Service", "False", "Image"))
    assert run(True, **{**USUAL, "tags": {}})["outputs"] == {}


def test_check_mode_goes_on_without_what_earlier_stacks_would_give(cfn, run):
    result = run(True, **{**USUAL, "parameters": {"Env": "<Env: not yet created>"}})
    leaves_nothing(cfn, None)
    assert result["changed"]
    assert result["outputs"] == {"Url": "<Url: not yet created>"}
    assert result["diff"]["prepared"].splitlines() == [
        "as the templates tell, without a change set: Env not known yet",
        "+ Add Table AWS::Test::Thing", "+ Add Service AWS::Test::Thing"]


def test_check_mode_does_so_without_the_role_too(cfn, run):
    assert run(True, **USUAL, role_arn="<RoleArn: not yet created>")["changed"]
    assert cfn.wrote() == []


def test_only_check_mode_knows_such_values(cfn, run):
    assert run(**{**USUAL, "parameters": {"Env": "<Env: not yet created>"}})["status"] == "CREATE_COMPLETE"
    assert cfn.parameters["Env"] == "<Env: not yet created>"  # for CloudFormation to judge


def test_what_the_templates_tell_of_a_deployed_stack(cfn, run):
    cfn.deployed(BODY, **DEPLOYED)
    new = BODY.replace("  Table: {", "  Alarm: {").replace("people", "persons")
    unknown = {**USUAL, "template_body": new, "parameters": {"Env": ["a", "<Env: not yet created>"]}}
    fails(run(True, **unknown), "- Remove Table AWS::Test::Thing", "allow_replace: [Table]")
    result = run(True, **unknown, allow_replace=["Table"])
    assert {change["resource"]: change["action"] for change in result["changes"]} == {
        "Table": "Remove", "Service": "Modify", "Alarm": "Add"}
    assert cfn.wrote() == []


# ---- Faults before anything is called ---------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    pytest.param({"parameters": {"Nev": 1, "Cidr": 2}}, ["template has no Cidr, Nev; Env must be given"], id="names"),
    pytest.param({"parameters": {"Env": None, "Days": [1, None]}}, ["without a value: Days, Env"], id="null"),
    pytest.param({"parameters": {"Env": {"a": 1}}}, ["parameters without a value: Env"], id="a mapping"),
    pytest.param({"tags": {"App": None}}, ["tags without a value: App"], id="a tag"),
    pytest.param({"parameters": {"Nev": 1}, "keep_parameters": True}, ["template has no Nev."], id="none is missing"),
    pytest.param({"template_body": BODY + "#" * (51201 - len(BODY))}, ["51201 bytes", "51200 at most"], id="too large"),
    pytest.param({"template_body": "{"}, ["the template is no YAML"], id="no YAML"),
    pytest.param({"template_body": "Outputs: {}"}, ["the template has no Resources"], id="no resources"),
    pytest.param({"template_body": "people.yml"}, ["the template has no Resources"], id="no template"),
    pytest.param({"template_body": ..., "template": "/no/such.yml"}, ["cannot be read", "/no/such.yml"], id="no file"),
    pytest.param({"template_body": ...}, ["give one of template, template_body"], id="no template given"),
    pytest.param({"keep_template": True}, ["give one of template, template_body"], id="two templates given"),
])
def test_faults_are_found_before_any_call(cfn, run, options, words):
    cfn.deployed(BODY, **DEPLOYED)
    fails(run(**{**USUAL, **options}), "people: ", *words)
    assert cfn.calls == []


def test_the_largest_template_that_is_taken(cfn, run):
    assert run(**{**USUAL, "template_body": BODY + "#" * (51200 - len(BODY))})["changed"]


def test_parameters_of_a_kept_template_are_checked_before_any_write(cfn, run):
    cfn.deployed(BODY, **DEPLOYED)
    fails(run(name="people", keep_template=True, parameters={"Nev": 1}), "the template has no Nev; Env must be given")
    assert cfn.wrote() == []


@pytest.mark.parametrize(("value", "expected"), [
    (True, "true"), (False, "false"), (7, "7"), (0, "0"), (0.5, "0.5"), ("", ""), ("1.0", "1.0"), ([], ""),
    (["a", 1, True], "a,1,true"),
])
def test_parameters_become_text(cfn, run, value, expected):
    run(**{**USUAL, "parameters": {"Env": value}})
    assert cfn.parameters["Env"] == expected


# ---- Removal ----------------------------------------------------------------------------------------------------


def test_absent_already(cfn, run):
    result = run(name="people", state="absent")
    assert unchanged(result)
    assert (result["status"], cfn.wrote()) == (None, [])


@pytest.mark.parametrize("state", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_FAILED", "REVIEW_IN_PROGRESS"])
def test_deletes_a_stack(cfn, run, state):
    cfn.deployed(BODY, state, **DEPLOYED)
    result = run(name="people", state="absent", retain=["Table"], role_arn=ROLE)
    assert cfn.called("delete_stack") == [{"StackName": cfn.id, "RoleARN": ROLE}]
    assert (result["changed"], result["status"], result["diff"]["prepared"]) == (True, None, "- Delete people\n")
    assert cfn.wrote() == ["delete_stack"]


def test_waits_for_a_delete_that_is_at_work(cfn, run, time):
    cfn.deployed(BODY, "DELETE_IN_PROGRESS").states = ["DELETE_IN_PROGRESS"] * 4 + ["DELETE_COMPLETE"]
    assert run(name="people", state="absent")["changed"]
    assert (cfn.wrote(), cfn.state, time.slept) == ([], "DELETE_COMPLETE", [1, 2])


@pytest.mark.parametrize("check", [False, True])
def test_termination_protection_is_refused(cfn, run, check):
    cfn.deployed(BODY, protected=True)
    fails(run(check, name="people", state="absent"), "people: has termination protection", "unprotect: true")
    assert cfn.wrote() == []


def test_termination_protection_is_turned_off_when_asked(cfn, run):
    cfn.deployed(BODY, protected=True)
    assert run(name="people", state="absent", unprotect=True)["changed"]
    assert cfn.wrote() == ["update_termination_protection", "delete_stack"]


def test_a_delete_in_check_mode_calls_nothing(cfn, run):
    cfn.deployed(BODY, protected=True)
    assert run(True, name="people", state="absent", unprotect=True)["changed"]
    leaves_nothing(cfn, "CREATE_COMPLETE")


def test_a_failed_delete(cfn, run):
    cfn.deployed(BODY).then("delete_stack", "DELETE_IN_PROGRESS", "DELETE_FAILED", events=[
        ("Group", "DELETE_FAILED", "in use"), ("people", "DELETE_FAILED", "failed to delete: [Group]")])
    result = fails(run(name="people", state="absent"), "ended in DELETE_FAILED",
                   "Group (AWS::Test::Thing) DELETE_FAILED: in use", "retain")
    assert (len(result["events"]), result["status"]) == (1, "DELETE_FAILED")


def test_leaves_behind_what_could_not_be_deleted(cfn, run):
    cfn.deployed(BODY, "DELETE_FAILED")
    run(name="people", state="absent", retain=["Group"])
    assert cfn.called("delete_stack") == [{"StackName": cfn.id, "RetainResources": ["Group"]}]


def test_deletes_nothing_that_another_deploy_is_at(cfn, run):
    cfn.deployed(BODY, "UPDATE_IN_PROGRESS")
    fails(run(name="people", state="absent"), "is UPDATE_IN_PROGRESS", "wait for it")
    assert cfn.wrote() == []


# ---- What AWS and boto3 say -------------------------------------------------------------------------------------


@pytest.mark.parametrize("deployed", [False, True])
def test_a_change_set_that_cannot_be_made(cfn, run, deployed):
    if deployed:
        cfn.deployed(BODY, **DEPLOYED)
    cfn.change_set_states, cfn.change_set_reason = ["FAILED"], "Parameter Env is nonsense"
    fails(run(**{**USUAL, "tags": {}}), "no change set could be made: Parameter Env is nonsense", "Nothing was changed")
    if deployed:
        leaves_nothing(cfn, "CREATE_COMPLETE", "create_change_set", "delete_change_set")
    else:
        leaves_nothing(cfn, "DELETE_COMPLETE", "create_change_set", "delete_change_set", "delete_stack")
    assert cfn.called("describe_events") == []


def test_tells_what_the_early_validation_found(cfn, run):
    cfn.change_set_states = ["FAILED"]
    cfn.change_set_reason = "Validation failed. To troubleshoot, use the DescribeEvents API."
    cfn.validation = [
        {"EventType": "STACK_EVENT"}, {"EventType": "STACK_EVENT"},
        {"LogicalResourceId": "Service", "ValidationStatusReason": "extraneous key [Nmae] is not permitted"}]
    fails(run(**USUAL), "- Service: extraneous key [Nmae] is not permitted")
    cfn.errors["describe_events"] = refusal("not authorized", "AccessDenied", "DescribeEvents")
    fails(run(**USUAL), "Validation failed.", "not told why: ", "not authorized")


def test_an_execution_that_is_refused_leaves_nothing(cfn, run):
    cfn.errors["execute_change_set"] = refusal("It is gone", "InvalidChangeSetStatus", "ExecuteChangeSet")
    fails(run(**USUAL), "(InvalidChangeSetStatus)", "ExecuteChangeSet", "It is gone")
    leaves_nothing(cfn, "DELETE_COMPLETE",
                   "create_change_set", "execute_change_set", "delete_change_set", "delete_stack")


def test_an_execution_that_began_is_not_tidied_up(cfn, run):
    class LateError(dict):
        """The answer is lost, after the stack has begun to change."""

        def __contains__(self, name):
            if name == "execute_change_set":
                cfn.states = ["CREATE_IN_PROGRESS"]
            return super().__contains__(name)

    cfn.errors = LateError(execute_change_set=botocore.exceptions.ReadTimeoutError(endpoint_url="https://aws"))
    fails(run(**USUAL), "AWS cannot be reached")
    assert "delete_stack" not in cfn.wrote()


@pytest.mark.parametrize(("error", "words"), [
    (refusal("Rate exceeded", "Throttling"), ["slows us down", "Rate exceeded"]),
    (refusal("Request limit exceeded.", "RequestLimitExceeded"), ["slows us down"]),
    *((refusal("Not you", code), ["log in again", "Not you"])
      for code in ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "RequestExpired",
                   "SignatureDoesNotMatch", "UnrecognizedClientException")),
    (refusal("User: x is not authorized to perform: cloudformation:DescribeStacks", "AccessDenied"),
     ["(AccessDenied)", "is not authorized"]),
    (botocore.exceptions.EndpointConnectionError(endpoint_url="https://aws"), ["cannot be reached", "https://aws"]),
    (botocore.exceptions.SSLError(endpoint_url="https://aws", error="no"), ["cannot be reached"]),
    (botocore.exceptions.UnauthorizedSSOTokenError(), ["aws sso login"]),
    (botocore.exceptions.DataNotFoundError(data_path="x"), ["Unable to load data for: x"]),
])
def test_errors_are_one_readable_line(cfn, run, error, words):
    cfn.errors["describe_stacks"] = error
    result = fails(run(**USUAL), "people: ", *words)
    assert "\n" not in result["msg"]
    assert "exception" not in result


@pytest.mark.parametrize(("variables", "region", "words"), [
    ({}, REGION, ["no AWS credentials", "aws sso login", "AWS_ACCESS_KEY_ID"]),
    ({"AWS_PROFILE": "nobody"}, REGION, ["no AWS credentials", "nobody"]),
    ({}, ..., ["no region", "AWS_REGION"]),
])
def test_says_what_is_missing_to_call_aws(monkeypatch, capsys, tmp_path, variables, region, words):
    """With the real boto3."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": str(tmp_path / "config"),
                        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cfn_stack.boto3, "DEFAULT_SESSION", None)
    result = fails(main(capsys, **USUAL, region=region), "people: ", *words)
    assert "\n" not in result["msg"]


def test_says_when_boto3_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(cfn_stack, "boto3", None)
    fails(main(capsys, **USUAL), "boto3 is missing", "make setup")


# ---- The module's own papers ------------------------------------------------------------------------------------


def test_its_documentation_is_its_arguments():
    documented = yaml.safe_load(cfn_stack.DOCUMENTATION)["options"]
    assert all(option.pop("description") for option in documented.values())
    assert documented == cfn_stack.ARGUMENTS


def test_its_examples_use_its_options(cfn):
    for task in yaml.safe_load(cfn_stack.EXAMPLES):
        assert set(task["cfn_stack"]) <= set(cfn_stack.ARGUMENTS)


def test_it_returns_what_it_documents(run):
    assert set(run(**USUAL)) - {"changed", "diff", "invocation", "warnings"} == set(yaml.safe_load(cfn_stack.RETURN))


def test_unknown_options_are_refused(run):
    fails(run(**USUAL, tempalte="x"), "Unsupported parameters", "tempalte")
