"""Policies: who may deploy may do what the playbooks do, and nobody may do just anything.

That the recorded calls of the playbooks are allowed is looked at where they are recorded:
kit.py hands them to iam.assert_allowed.
"""

import copy
import functools
import json
import re

import botocore.session
import iam
import pytest
import templates
import wiring
from botocore import xform_name

OWN = f"arn:aws:cloudformation:eu-west-1:{iam.ACCOUNT}:stack/birthday-demo-"
STACK = f"{OWN}network-prod/0"


def by(logical):
    """The condition that a stack is changed with one of the account's roles."""
    return {"cloudformation:RoleArn": iam.account().attribute(logical, "Arn") if logical else None}


# ---- What the deploy role may do ---------------------------------------------------------------


@pytest.mark.parametrize(("action", "resource", "context"), [
    ("cloudformation:CreateChangeSet", STACK, by("CloudFormationRole")),
    ("cloudformation:DeleteStack", STACK, by("CloudFormationRole")),
    ("cloudformation:DescribeStacks", f"{OWN}account/0", {}),
    ("ecr:PutImage", f"arn:aws:ecr:eu-west-1:{iam.ACCOUNT}:repository/birthday-demo", {}),
    ("ssm:PutParameter", f"arn:aws:ssm:eu-west-1:{iam.ACCOUNT}:parameter/birthday-demo/prod/lock", {}),
    ("iam:PassRole", f"arn:aws:iam::{iam.ACCOUNT}:role/birthday-demo/x", {"iam:PassedToService": "ecs-tasks.amazonaws.com"}),
    ("secretsmanager:GetSecretValue",
     f"arn:aws:secretsmanager:eu-west-1:{iam.ACCOUNT}:secret:birthday-demo-prod-write-tokens-1-AbCdEf", {}),
])
def test_it_may(action, resource, context):
    assert iam.allowed(list(iam.policies_of("DeployRole")), action, resource, context)


@pytest.mark.parametrize(("action", "resource", "context"), [
    # Whatever changes a stack does so with the role that is kept within the boundary.
    ("cloudformation:CreateChangeSet", STACK, by(None)),
    ("cloudformation:CreateChangeSet", STACK, by("DeployRole")),
    ("cloudformation:DeleteStack", STACK, by(None)),
    ("cloudformation:CreateStack", STACK, by("CloudFormationRole")),
    ("cloudformation:UpdateStack", STACK, by("CloudFormationRole")),
    # Its own stack, and those of others.
    ("cloudformation:CreateChangeSet", f"{OWN}account/0", by("CloudFormationRole")),
    ("cloudformation:ExecuteChangeSet", f"{OWN}account/0", {}),
    ("cloudformation:DeleteStack", STACK.replace("birthday-demo", "payroll"), by("CloudFormationRole")),
    ("ecr:DeleteRepository", f"arn:aws:ecr:eu-west-1:{iam.ACCOUNT}:repository/birthday-demo", {}),
    ("iam:PassRole", f"arn:aws:iam::{iam.ACCOUNT}:role/birthday-demo-account/x", {"iam:PassedToService": "ecs-tasks.amazonaws.com"}),
    ("iam:PassRole", f"arn:aws:iam::{iam.ACCOUNT}:role/birthday-demo/x", {"iam:PassedToService": "ec2.amazonaws.com"}),
    ("iam:CreateRole", f"arn:aws:iam::{iam.ACCOUNT}:role/birthday-demo/x", {}),
    ("secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:eu-west-1:{iam.ACCOUNT}:secret:rds!cluster-0-AbCdEf", {}),
    ("elasticfilesystem:DeleteFileSystem", f"arn:aws:elasticfilesystem:eu-west-1:{iam.ACCOUNT}:file-system/fs-0",
     {"aws:ResourceTag/App": "payroll"}),
    ("backup:DeleteRecoveryPoint", f"arn:aws:backup:eu-west-1:{iam.ACCOUNT}:recovery-point:0", {}),
    ("rds:DeleteDBCluster", f"arn:aws:rds:eu-west-1:{iam.ACCOUNT}:cluster:birthday-demo-data-postgres-prod-cluster-0", {}),
])
def test_it_may_not(action, resource, context):
    assert not iam.allowed(list(iam.policies_of("DeployRole")), action, resource, context)


def call(operation, **arguments):
    return {"service": "cloudformation", "operation": operation, "action": f"cloudformation:{operation}",
            "region": "eu-west-1", "arguments": arguments}


def test_recorded_calls_are_judged():
    role = f"arn:aws:iam::{iam.ACCOUNT}:role/birthday-demo-account/birthday-demo-account-CloudFormationRole-ABCDEFGHIJKL"
    made = call("CreateChangeSet", StackName="birthday-demo-network-prod", ChangeSetName="ansible-1", RoleARN=role)
    executed = call("ExecuteChangeSet", ChangeSetName=f"arn:aws:cloudformation:eu-west-1:{iam.ACCOUNT}:changeSet/ansible-1/0")
    iam.assert_allowed([made, executed])
    made["arguments"].pop("RoleARN")
    assert iam.refused([made]) == [f"cloudformation:CreateChangeSet on {STACK} ({{'cloudformation:RoleArn': None}})"]
    made["arguments"]["StackName"] = "birthday-demo-account"
    iam.assert_allowed([made, executed])  # an administrator's
    with pytest.raises(AssertionError, match="payroll"):
        iam.assert_allowed([call("DescribeStacks", StackName="payroll-prod")])


# ---- Every call that the playbooks could make ----------------------------------------------------


@functools.cache
def operations(service):
    """The actions of IAM by the names that Python calls them by."""
    model = botocore.session.get_session().get_service_model(service)
    prefix = {"monitoring": "cloudwatch"}.get(model.signing_name, model.signing_name)
    return {xform_name(name): f"{prefix}:{name}" for name in model.operation_names}


def called():
    for path in sorted(wiring.ANSIBLE.glob("**/*.yml")):
        for _, value in templates.walk(wiring.read(path.relative_to(wiring.ANSIBLE))):
            if isinstance(value, dict) and "aws_call" in value:
                yield value["aws_call"]["service"], value["aws_call"]["operation"]
    module = (wiring.ANSIBLE / "library/cfn_stack.py").read_text(encoding="utf-8")
    for operation in re.findall(r'\bapi\.(\w+)|get_paginator\("(\w+)"', module):
        operation = "".join(operation)
        if operation not in ("get_paginator", "get_waiter", "meta", "exceptions"):
            yield "cloudformation", operation


@pytest.mark.parametrize(("service", "operation"), sorted(set(called())))
def test_the_deploy_role_may_call(service, operation):
    action = operations(service)[operation]
    granted = [each for policy in iam.policies_of("DeployRole") if policy["Effect"] == "Allow"
               for each in iam.listed(policy["Action"])]
    assert action in granted


# ---- Every policy --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", templates.names())
def test_no_policy_is_too_wide(name):
    assert list(iam.faults(name, wiring.load(name))) == []


def test_every_exception_is_needed(monkeypatch):
    for exceptions in (iam.FOR_ALL, iam.UNCONDITIONAL, iam.ANYBODY):
        for where in list(exceptions):
            with monkeypatch.context() as without:
                without.delitem(exceptions, where)
                assert list(iam.faults(where.split()[0], wiring.load(where.split()[0]))), f"{where} needs no exception"


@pytest.mark.parametrize(("change", "said"), [
    ({"Action": "*"}, "allows *"),
    ({"Action": ["ecs:RunTask", "ecs:*"]}, "allows ecs:*"),
    ({"Action": "ecs:Run*"}, "more than reading"),
    ({"Action": "ecs:LaunchTask"}, "no action ecs:LaunchTask"),
    ({"Action": "iam:PassRole", "Resource": "*"}, "any role"),
    ({"Action": "iam:PassRole", "Resource": {"Ref": "Role"}}, "any service"),
    ({"Action": "ecs:RunTask", "Resource": "*"}, "could be limited"),
    ({"NotAction": "iam:CreateRole"}, "NotAction"),
])
def test_a_statement_that_is_too_wide_is_found(change, said):
    template = copy.deepcopy(wiring.load("birthday-demo"))
    statement = next(iam.statements("birthday-demo", {"Resources": {
        "Role": template["Resources"]["TaskRole"]["Properties"]["Policies"]}}))
    statement.body.update(change)
    assert said in "\n".join(iam.faults("birthday-demo", template))


@pytest.mark.parametrize(("part", "said"), [
    ("Path", "path"), ("PermissionsBoundary", "boundary"), ("Condition", "may come for anybody"),
])
def test_a_role_that_is_too_wide_is_found(part, said):
    template = copy.deepcopy(wiring.load("birthday-demo"))
    role = template["Resources"]["TaskRole"]["Properties"]
    role.pop(part, role["AssumeRolePolicyDocument"]["Statement"][0].pop(part, None))
    assert said in "\n".join(iam.faults("birthday-demo", template))


def of_roles():
    """The actions that roles of stacks below the account are given."""
    for name in templates.names():
        for statement in iam.statements(name, wiring.load(name)) if name != "account" else ():
            if statement.allows and not statement.trusts and not statement.of_a_resource:
                yield from statement.actions


def test_the_boundary_is_what_roles_need():
    """More would be no boundary; what is missing in it would be refused on AWS, and nowhere before."""
    boundary = iam.account().resource("Boundary")["Properties"]["PolicyDocument"]["Statement"]
    assert {action for statement in boundary for action in iam.listed(statement["Action"])} == set(of_roles())


def test_managed_policies_are_short_enough():
    """IAM counts 6,144 characters, blanks left out."""
    for logical, body in iam.account().resources("AWS::IAM::ManagedPolicy").items():
        assert len(re.sub(r"\s", "", json.dumps(body["Properties"]["PolicyDocument"]))) <= 6144, logical
