"""The real playbook from the first deploy on, against an emulated account: each test
goes on where the one before it ended."""

import json
import re
import shlex

import pytest
from kit import ROOT, Kit

# What the README shows: a look at what would happen, and the deploy.
LOOK, DEPLOY = [shlex.split(line)[1:] for line in re.findall(r"^\./birthday_demo_deploy\.yml .*$", (ROOT / "README.md").read_text(), re.M)]

LASTING = ["birthday-demo-account", "birthday-demo-network-prod", "birthday-demo-data-postgres-prod", "birthday-demo-platform-prod"]
OTHERS = ["birthday-demo-prod", "birthday-demo-monitoring-prod", "birthday-demo-backup-prod"]
SERVICE = "birthday-demo-prod"


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    kit = Kit(tmp_path_factory.mktemp("prod"))
    yield kit
    kit.close()


def running(kit):
    """The image that the tasks of the service run."""
    ecs = kit.account.client("ecs")
    cluster = kit.account.outputs("birthday-demo-platform-prod")["ClusterName"]
    tasks = ecs.list_tasks(cluster=cluster, serviceName=kit.account.outputs(SERVICE)["ServiceName"])["taskArns"]
    definitions = {task["taskDefinitionArn"] for task in ecs.describe_tasks(cluster=cluster, tasks=tasks)["tasks"]}
    assert len(definitions) == 1
    return ecs.describe_task_definition(taskDefinition=definitions.pop())["taskDefinition"]["containerDefinitions"][0]["image"]


def digest_of(kit, commit):
    images = kit.account.client("ecr").describe_images(repositoryName="birthday-demo", imageIds=[{"imageTag": commit}])
    return images["imageDetails"][0]["imageDigest"]


def changed(kit, since):
    """The stacks that change sets were made for."""
    return {call["arguments"]["StackName"] for call in kit.account.calls(since) if call["operation"] == "CreateChangeSet"}


def test_check_on_an_empty_account_leaves_nothing(kit):
    run = kit.play("deploy", *LOOK)
    assert run.code == 0, run
    assert set(kit.account.writes()) <= {"cloudformation:CreateChangeSet", "cloudformation:DeleteChangeSet", "cloudformation:DeleteStack"}
    assert kit.account.stacks() == {}
    assert "would deploy nothing -> " in run.text
    for name in LASTING + OTHERS:
        assert name in run.text
    assert "AWS::RDS::DBCluster" in run.text, "--diff names what would be made"


def test_the_first_deploy_makes_everything(kit):
    run = kit.play("deploy", *DEPLOY)
    assert run.code == 0, run
    assert kit.account.stacks() == dict.fromkeys(LASTING + OTHERS, "CREATE_COMPLETE") | {SERVICE: "UPDATE_COMPLETE"}
    assert kit.account.stacks("eu-central-1") == {"birthday-demo-backup-prod": "CREATE_COMPLETE"}
    head = kit.checkout.head()
    assert running(kit).endswith("@" + digest_of(kit, head))
    assert kit.account.outputs(SERVICE)["Version"] == head
    assert kit.service.people == {}, "the smoke test leaves nobody behind"
    assert ("PUT", "/hello/deploymentsmoketest") in kit.service.requests
    tags = {tag["Key"]: tag["Value"] for tag in kit.account.stack(SERVICE)["Tags"]}
    assert tags["Version"] == head
    for name in LASTING:
        assert "Version" not in {tag["Key"] for tag in kit.account.stack(name)["Tags"]}
        assert kit.account.stack(name)["EnableTerminationProtection"]


def test_it_migrated_before_there_was_a_service(kit):
    calls = kit.account.calls()
    migrated = [call["operation"] for call in calls].index("RunTask")
    made = [n for n, call in enumerate(calls) if call["operation"] == "CreateChangeSet" and call["arguments"]["StackName"] == SERVICE]
    assert made[0] < migrated < made[1]


def test_what_was_deployed_is_kept(kit):
    record = json.loads(kit.account.client("ssm").get_parameter(Name="/birthday-demo/prod/deployment")["Parameter"]["Value"])
    assert record["outcome"] == "succeeded"
    assert record["to"] == kit.checkout.head()
    assert "sns:Publish" in kit.account.writes()


def test_a_second_run_changes_nothing(kit):
    before, builds = len(kit.account.calls()), kit.builds()
    run = kit.deploy("prod")
    assert run.code == 0, run
    assert run.changed == 0
    assert kit.account.writes(before) == ["ssm:PutParameter", "ssm:DeleteParameter"], "the lock, taken and let go"
    assert kit.builds() == builds, "the image is not built again"


def test_tags_choose_the_steps(kit):
    before = len(kit.account.calls())
    kit.service.requests.clear()
    run = kit.deploy("prod", "--tags", "smoke")
    assert run.code == 0, run
    assert kit.account.writes(before) == ["ssm:PutParameter", "ssm:DeleteParameter"]
    assert changed(kit, before) == set()
    assert ("PUT", "/hello/deploymentsmoketest") in kit.service.requests


def test_check_on_a_deployed_account_leaves_nothing(kit):
    kit.checkout.commit()
    before, stacks = len(kit.account.calls()), kit.account.stacks()
    run = kit.deploy("prod", "--check", "--diff")
    assert run.code == 0, run
    assert set(kit.account.writes(before)) <= {"cloudformation:CreateChangeSet", "cloudformation:DeleteChangeSet"}
    assert kit.account.stacks() == stacks
    for name in stacks:
        assert kit.account.change_sets(name) == []
    assert re.search(r"Modify TaskDefinition", run.text)


def test_a_new_commit_changes_the_service_only(kit):
    before, head = len(kit.account.calls()), kit.checkout.head()
    kit.service.requests.clear()
    run = kit.deploy("prod")
    assert run.code == 0, run
    assert changed(kit, before) == {SERVICE}
    assert running(kit).endswith("@" + digest_of(kit, head))
    assert "rds:CreateDBClusterSnapshot" in kit.account.writes(before)
    assert re.search(r"(\d+) requests during the deploy, 0 failed", run.text)
    assert len(kit.service.requests) > 10, "somebody asked all through it"
    assert kit.service.people == {}


def test_a_failing_migration_leaves_the_service_untouched(kit):
    old = running(kit)
    kit.checkout.commit()
    kit.account.control(migration_exit_code=6)
    before = len(kit.account.calls())
    run = kit.deploy("prod")
    kit.account.control()
    assert run.code != 0
    assert "The migration failed (exit code 6" in run.text
    assert running(kit) == old
    assert kit.account.outputs(SERVICE)["Image"] == old
    assert "ssm:DeleteParameter" in kit.account.writes(before), "the lock is let go"


def test_a_failing_smoke_test_puts_the_old_digest_back(kit):
    old, version = running(kit), kit.account.outputs(SERVICE)["Version"]
    head = kit.checkout.commit()
    kit.service.broken = lambda: running(kit) != old
    run = kit.deploy("prod")
    kit.service.broken = lambda: False
    assert run.code != 0
    assert running(kit) == old
    assert kit.account.outputs(SERVICE)["Version"] == version
    assert {tag["Key"]: tag["Value"] for tag in kit.account.stack(SERVICE)["Tags"]}["Version"] == version
    assert "It is greeted" in run.text
    assert f"The old version {version} runs again." in run.text
    assert kit.service.people == {}, "nobody is left behind"
    assert head in str(kit.account.client("ecr").list_images(repositoryName="birthday-demo"))


def test_requests_that_fail_meanwhile_put_the_old_digest_back(kit):
    old = running(kit)
    calls = iter(range(10**6))
    kit.service.broken = lambda: next(calls) == 3
    run = kit.deploy("prod")
    kit.service.broken = lambda: False
    assert run.code != 0
    assert "1 of" in run.text and "requests failed from outside during the deploy" in run.text
    assert running(kit) == old


def test_a_roll_out_that_fails_puts_the_old_digest_back(kit):
    old = running(kit)
    kit.account.control(rollout="FAILED")
    run = kit.deploy("prod")
    kit.account.control()
    assert run.code != 0
    assert "The service should run" in run.text
    assert running(kit) == old
    assert f"The old version {kit.account.outputs(SERVICE)['Version']} runs again" in run.text


def test_a_stack_that_fails_ends_the_run(kit):
    template = kit.checkout.path / "devops/cloudformation/network.yml"
    text = template.read_text()
    template.write_text(text.replace("Resources:\n", "Resources:\n  Another:\n    Type: AWS::EC2::EIP\n", 1))
    kit.account.control(fail_resource="Another")
    before = len(kit.account.calls())
    run = kit.deploy("prod", must_be_pushed=False)
    kit.account.control()
    template.write_text(text)
    assert run.code != 0
    assert "Another" in run.text
    assert changed(kit, before) == {"birthday-demo-network-prod"}
    assert kit.account.stacks()["birthday-demo-network-prod"] == "UPDATE_ROLLBACK_COMPLETE"


def test_an_old_image_is_deployed_again(kit):
    commits = [detail["imageTags"][0] for detail in kit.account.client("ecr").describe_images(repositoryName="birthday-demo")["imageDetails"]]
    old = next(commit for commit in commits if commit != kit.account.outputs(SERVICE)["Version"])
    builds = kit.builds()
    run = kit.deploy("prod", "--tags", "migrate,deploy,smoke", version=old)
    assert run.code == 0, run
    assert running(kit).endswith("@" + digest_of(kit, old))
    assert kit.builds() == builds


def test_a_protected_resource_is_not_replaced(kit):
    template = kit.checkout.path / "devops/cloudformation/data-postgres.yml"
    text = template.read_text()
    template.write_text(text.replace("NoValue, !FindInMap [Names, Database, Name]]", "NoValue, another]"))
    assert template.read_text() != text
    before = len(kit.account.calls())
    run = kit.deploy("prod", must_be_pushed=False)
    template.write_text(text)
    assert run.code != 0
    assert "ExecuteChangeSet" not in str(kit.account.writes(before))
    assert "allow_replace" in run.text


def test_the_restore_drill_measures_the_time(kit):
    run = kit.play("restore", env="prod")
    assert run.code == 0, run
    assert "restored_in_seconds" in run.text
    assert kit.account.stack("birthday-demo-data-postgres-proddrill") is None


def test_teardown_wants_the_name_typed(kit):
    before = len(kit.account.calls())
    run = kit.play("teardown", env="prod", confirm="staging")
    assert run.code != 0
    assert "Nothing was removed" in run.text
    assert kit.account.writes(before) == []


def test_teardown_keeps_the_data(kit):
    run = kit.play("teardown", env="prod", confirm="prod")
    assert run.code == 0, run
    kept = {"birthday-demo-account", "birthday-demo-network-prod", "birthday-demo-data-postgres-prod", "birthday-demo-backup-prod"}
    assert set(kit.account.stacks()) == kept
    assert kit.account.client("rds").describe_db_clusters()["DBClusters"]
    for name in kept:
        assert name in run.text, "it says what still costs money"


def test_teardown_removes_the_data_when_told(kit):
    run = kit.play("teardown", env="prod", confirm="prod", data="delete")
    assert run.code == 0, run
    assert set(kit.account.stacks()) == {"birthday-demo-account"}
