"""Templates, playbooks and all other YAML pass their linters, in their strictest form."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import templates
import wiring
import yaml

BIN = Path(sys.executable).parent
PLAYBOOKS = sorted(path.name for path in wiring.ANSIBLE.glob("*.yml"))


def run(*command, folder=templates.ROOT, **environment):
    """A tool that is installed beside this Python."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    process = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**kept, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1", **environment})
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout + process.stderr


def test_cfn_lint():
    run("cfn-lint", "--include-checks", "I", "--non-zero-exit-code", "informational",
        "--regions", "us-east-1", "eu-west-1", "eu-central-1", "--", *sorted(map(str, templates.TEMPLATES.glob("*.yml"))))


def test_yamllint():
    run("yamllint", "--strict", "-c", ".yamllint.yml", "devops")


def test_ansible_lint(tmp_path):
    said = run("ansible-lint", folder=wiring.ANSIBLE, ANSIBLE_HOME=str(tmp_path))
    looked_at = re.search(r"in (\d+) files processed", said)
    assert int(looked_at[1]) >= len(list(wiring.ANSIBLE.glob("**/*.yml"))), said


def test_the_syntax_of_playbooks(tmp_path):
    run("ansible-playbook", "--syntax-check", *PLAYBOOKS, folder=wiring.ANSIBLE, ANSIBLE_HOME=str(tmp_path))


@pytest.mark.parametrize("name", templates.names())
def test_cloudformation_takes_the_template(name):
    text = templates.text(name)
    assert len(text.encode()) <= 51200, "longer ones must lie in a bucket"
    aliases = [token for token in yaml.scan(text) if isinstance(token, yaml.AliasToken | yaml.AnchorToken)]
    assert not aliases, "CloudFormation knows no aliases"


def test_there_are_four_playbooks():
    assert PLAYBOOKS == [f"birthday_demo_{name}.yml" for name in ("deploy", "pipeline", "restore", "teardown")]


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_playbooks_are_programs(name):
    path = wiring.ANSIBLE / name
    assert os.access(path, os.X_OK)
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env ansible-playbook\n")
