"""The buildspecs do what the Makefile can do, with what the pipeline hands to them."""

import json
import os
import re
import subprocess

import pytest
import templates
import wiring
import yaml

BUILDSPECS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
              for path in sorted((templates.ROOT / "devops/buildspecs").glob("*.yml"))}
MAKEFILE = (templates.ROOT / "Makefile").read_text(encoding="utf-8")
# Stands in for make: writes down what it was asked for.
MAKE = """#!/bin/sh
for argument; do printf '%s\\n' "$argument"; done >>"$CALLED"
echo >>"$CALLED"
"""


def commands(spec):
    return [command for phase in spec["phases"].values() for command in phase.get("commands", [])]


@pytest.fixture
def call(tmp_path):
    """Runs a buildspec as CodeBuild does, in one shell, and gives the arguments of each call of make."""
    make = tmp_path / "make"
    make.write_text(MAKE)
    make.chmod(0o755)

    def run(name, **variables):
        spec, called = BUILDSPECS[name], tmp_path / "called"
        called.write_text("")
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CALLED": str(called), **spec["env"]["variables"], **variables}
        script = "set -e\n" + "\n".join(commands(spec))
        subprocess.run(["/bin/sh", "-c", script], cwd=templates.ROOT, env=environment, check=True)
        return [block.split("\n") for block in called.read_text().strip("\n").split("\n\n")]

    return run


def test_check(call):
    assert call("check", COVERAGE_FLOOR="71") == [["setup"], ["lint"], ["cover", "floor=71"]]


def test_deploy(call):
    assert call("deploy", ENVIRONMENT="blue") == [["setup"], ["deploy", "env=blue", "tags="]]
    assert call("deploy", ENVIRONMENT="blue", TAGS="smoke") == [["setup"], ["deploy", "env=blue", "tags=smoke"]]


def test_a_failure_ends_the_build(call, tmp_path):
    (tmp_path / "make").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(subprocess.CalledProcessError):
        call("deploy", ENVIRONMENT="blue")


# ---- The Makefile ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDSPECS)
def test_every_target_exists(name):
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    for command in commands(BUILDSPECS[name]):
        assert command.startswith("make "), "any other CI can do the same"
        assert command.split()[1] in targets


def recipe(*arguments):
    """What make would do, without doing it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(["make", "--dry-run", *arguments], cwd=templates.ROOT, env=kept, check=True, capture_output=True,
                          text=True).stdout


def test_deploy_runs_the_playbook():
    assert re.search(r"./birthday_demo_deploy.yml -e env=blue\s*\n", recipe("deploy", "env=blue", "tags="))
    assert "./birthday_demo_deploy.yml -e env=blue --tags smoke" in recipe("deploy", "env=blue", "tags=smoke")


def test_reports_are_those_that_are_written():
    told = recipe("cover", "floor=71")
    written = set(re.findall(r"(?:=|>)(reports/[\w.-]+\.xml)", told))
    assert "< 71" in told
    found = set()
    for name, report in BUILDSPECS["check"]["reports"].items():
        kind = {"tests": "JUNITXML", "coverage": "COBERTURAXML"}[name]
        assert report["file-format"] == kind
        matching = {path for path in written for pattern in report["files"]
                    if re.fullmatch(pattern.replace(".", r"\.").replace("*", ".*"), path)}
        assert matching, f"nothing writes {report['files']}"
        found |= matching
    assert found == written


# ---- The pipeline ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline():
    environment = wiring.read("vars/common.yml")["pipeline_environments"][-1]
    return wiring.Deployment(environment, "postgres", connected=True)["pipeline"]


def projects(pipeline):
    """The projects with the buildspec of each, by name."""
    found = pipeline.resources("AWS::CodeBuild::Project")
    return {body["Properties"]["Name"]: (body["Properties"], os.path.basename(body["Properties"]["Source"]["BuildSpec"]))
            for body in found.values()}


def actions(pipeline):
    """What the pipeline starts each project with."""
    for stage in pipeline.resource("Pipeline")["Properties"]["Stages"]:
        for action in stage["Actions"]:
            if action["ActionTypeId"]["Provider"] == "CodeBuild":
                variables = json.loads(action["Configuration"].get("EnvironmentVariables", "[]"))
                yield action["Configuration"]["ProjectName"], {variable["name"]: variable["value"] for variable in variables}


def test_every_buildspec_is_used(pipeline):
    for properties, _ in projects(pipeline).values():
        assert (templates.ROOT / properties["Source"]["BuildSpec"]).is_file()
    assert {spec for _, spec in projects(pipeline).values()} == {f"{name}.yml" for name in BUILDSPECS}


OPTIONAL = {"TAGS"}  # without it all steps run


def test_builds_are_given_what_they_use(pipeline):
    started = list(actions(pipeline)) + [(name, {}) for name in projects(pipeline) if name.endswith("pull-request")]
    assert {name for name, _ in started} == set(projects(pipeline))
    for name, variables in started:
        properties, spec = projects(pipeline)[name]
        used = set(re.findall(r"\$\{?([A-Z_]+)", "\n".join(commands(BUILDSPECS[spec.removesuffix(".yml")]))))
        given = {variable["Name"] for variable in properties["Environment"].get("EnvironmentVariables", [])} | set(variables)
        assert used - OPTIONAL <= given <= used, name


def test_the_pipeline_deploys_to_the_environments_in_turn(pipeline):
    started = [variables for name, variables in actions(pipeline) if name.endswith("-deploy")]
    first, last = wiring.read("vars/common.yml")["pipeline_environments"]
    assert started == [{"ENVIRONMENT": first}, {"ENVIRONMENT": first, "TAGS": "smoke"}, {"ENVIRONMENT": last}]


def test_report_groups_have_the_names_that_codebuild_gives(pipeline):
    groups = {body["Properties"]["Name"] for body in pipeline.resources("AWS::CodeBuild::ReportGroup").values()}
    assert groups == {f"{name}-{report}" for name, (_, spec) in projects(pipeline).items()
                      for report in BUILDSPECS[spec.removesuffix(".yml")].get("reports", {})}


def test_tags_are_those_of_the_playbook(pipeline):
    tags = {tag for task in wiring.tasks("birthday_demo_deploy.yml", "postgres") for tag in task.get("tags", [])}
    assert {variables["TAGS"] for _, variables in actions(pipeline) if "TAGS" in variables} <= tags
