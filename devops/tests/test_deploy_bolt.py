"""The small shape: bolt, and staging; and all that stops a deploy before anything is
written."""

import json
import os
import subprocess
import urllib.error
import urllib.request

import pytest
from conftest import needs
from kit import ROOT, Kit, free_port


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    kit = Kit(tmp_path_factory.mktemp("bolt"))
    yield kit
    kit.close()


@pytest.fixture
def untouched(kit):
    """Whatever the test does must write nothing."""
    before = len(kit.account.calls())
    yield
    assert kit.account.writes(before) == []


def refused(run, *texts):
    assert run.code != 0, run
    for text in texts:
        assert text in run.text, run


def test_no_environment(kit, untouched):
    refused(kit.play("deploy"), "No environment is named. Say one of: -e env=prod, -e env=staging.")


def test_an_unknown_environment(kit, untouched):
    refused(kit.deploy("production"), 'There is no environment "production"')


def test_an_unknown_storage(kit, untouched):
    refused(kit.deploy("prod", storage="mysql"), "storage=postgres or storage=bolt")


def test_everything_that_is_missing_at_once(kit, untouched):
    empty = {key: value for key, value in kit.environment().items() if not key.startswith("AWS_")}
    empty |= {"AWS_EC2_METADATA_DISABLED": "true", "IMAGE_TOOL": "buildah", "PATH": f"{kit.bin}/none:{empty['PATH'].split(':')[1]}:/usr/bin:/bin"}
    run = kit.deploy("prod", "--check", environment=empty, without=("account_id", "domain", "zone_id", "mail", "repository"))
    refused(run, "No AWS credentials were found", "aws sso login", "account_id:", "domain:", "zone_id:", "mail:", "repository:")
    assert len(run.screen.splitlines()) < 80, "one screen, or nearly"


def test_the_wrong_account(kit, untouched):
    refused(kit.deploy("prod", account_id="210987654321"), "these credentials are of account 123456789012")


def test_a_zone_that_is_not_the_domains(kit, untouched):
    refused(kit.deploy("prod", domain="hello.example.net"), "hello.example.net is not in it")


def test_a_dirty_tree(kit, untouched):
    readme = kit.checkout.path / "devops/authorities/README.md"
    text = readme.read_text()
    readme.write_text("changed")
    try:
        refused(kit.deploy("prod"), "The tree has changes that are not committed")
    finally:
        readme.write_text(text)


def test_a_commit_that_is_not_pushed(kit, untouched):
    kit.checkout.commit(push=False)
    refused(kit.deploy("prod"), "is on no remote branch")
    kit.checkout.push()


def test_a_closed_window(kit, untouched):
    never = {"days": [], "from": "09:00", "until": "16:00", "zone": "Europe/Berlin"}
    refused(kit.deploy("prod", release_window=never), "The release window is closed", "-e force=true")


def test_bolt_takes_one_task(kit, untouched):
    refused(kit.deploy("prod", storage="bolt", max_tasks=2), "storage=bolt takes exactly one task")


def test_an_image_that_was_never_built(kit):
    refused(kit.deploy("staging", version="0" * 40, storage="bolt"), "There is no image of 000000")
    assert "birthday-demo-staging" not in kit.account.stacks()


def test_an_alarm_that_pages(kit):
    cloudwatch = kit.account.client("cloudwatch")
    alarm = {"AlarmName": "birthday-demo-prod-page-latency", "ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 1,
             "MetricName": "x", "Namespace": "x", "Period": 60, "Statistic": "Sum", "Threshold": 1}
    cloudwatch.put_metric_alarm(**alarm)
    cloudwatch.set_alarm_state(AlarmName=alarm["AlarmName"], StateValue="ALARM", StateReason="a test")
    before = len(kit.account.calls())
    refused(kit.deploy("prod"), "These alarms are on: birthday-demo-prod-page-latency")
    assert kit.account.writes(before) == []
    cloudwatch.delete_alarms(AlarmNames=[alarm["AlarmName"]])


def test_another_deploy(kit):
    ssm = kit.account.client("ssm")
    ssm.put_parameter(Name="/birthday-demo/staging/lock", Value="abc by somebody", Type="String")
    before = len(kit.account.calls())
    refused(kit.deploy("staging", storage="bolt"), "Another deploy is at work: abc by somebody")
    assert kit.account.writes(before) == []
    assert ssm.get_parameter(Name="/birthday-demo/staging/lock"), "the other one keeps its lock"
    ssm.delete_parameter(Name="/birthday-demo/staging/lock")


def test_staging_with_bolt(kit):
    run = kit.deploy("staging", storage="bolt")
    assert run.code == 0, run
    names = {"network", "data-bolt", "platform", "monitoring", "backup"}
    assert set(kit.account.stacks()) == {"birthday-demo-account", "birthday-demo-staging"} | {f"birthday-demo-{name}-staging" for name in names}
    calls = [call["operation"] for call in kit.account.calls()]
    assert "RunTask" not in calls, "bolt has nothing to migrate"


def test_staging_with_bolt_again(kit):
    run = kit.deploy("staging", storage="bolt")
    assert run.code == 0, run
    assert run.changed == 0


def test_the_smoke_test_likes_the_real_service(kit, tmp_path):
    needs("go", "golang")
    subprocess.run(["go", "build", "-o", tmp_path / "birthday-demo", "./app"], cwd=ROOT, check=True)
    secret = kit.account.outputs("birthday-demo-platform-staging")["WriteTokensSecretArn"]
    token = kit.account.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
    url = f"http://127.0.0.1:{free_port()}"
    settings = {
        "BIRTHDAY_LISTEN": url.removeprefix("http://"), "BIRTHDAY_ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
        "BIRTHDAY_STORE": str(tmp_path / "birthday.db"), "BIRTHDAY_WRITE_TOKENS": token,
    }
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        service = subprocess.Popen([tmp_path / "birthday-demo"], env={**os.environ, **settings}, stderr=log)
    try:
        run = kit.deploy("staging", "--tags", "smoke", storage="bolt", url=url)
        assert run.code == 0, run
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/hello/deploymentsmoketest")
    finally:
        service.terminate()
        service.wait(30)
    assert '"method":"PUT"' in (tmp_path / "log").read_text()


def test_a_first_deploy_that_fails_has_nothing_to_put_back(kit):
    kit.service.broken = lambda: True
    run = kit.deploy("prod", storage="bolt")
    kit.service.broken = lambda: False
    refused(run, "There was no old version to put back")
    assert json.loads(kit.account.client("ssm").get_parameter(Name="/birthday-demo/prod/deployment")["Parameter"]["Value"])["outcome"] == "failed"


def test_prod_with_bolt(kit):
    run = kit.deploy("prod", storage="bolt")
    assert run.code == 0, run
    assert "birthday-demo-data-bolt-prod" in kit.account.stacks()


def test_the_restore_drill_of_bolt(kit):
    run = kit.play("restore", env="staging", storage="bolt")
    assert run.code == 0, run
    assert "restored_in_seconds" in run.text


def test_the_pipeline_waits_for_a_person(kit):
    run = kit.play("pipeline", release_window={"days": [1, 2, 3, 4], "from": "09:00", "until": "16:00", "zone": "Europe/Berlin"})
    assert run.code == 0, run
    assert "One step is left, by hand" in run.text
    assert "birthday-demo-pipeline" in kit.account.stacks()
