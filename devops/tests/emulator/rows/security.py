"""IAM, KMS, Secrets Manager, certificates, parameters."""

from __future__ import annotations

import json

from ..kinds import KINDS, Kind, made_up

# -- IAM ------------------------------------------------------------------------------------------


def _policies(properties):
    return {policy["PolicyName"]: policy["PolicyDocument"] for policy in properties.get("Policies", [])}


def _role(work):
    """Sets what the role may do to what its properties say."""
    name, old = work.id, work.old or {}
    for policy in _policies(old).keys() - _policies(work.p).keys():
        work.call("delete_role_policy", RoleName=name, PolicyName=policy)
    for policy, document in _policies(work.p).items():
        if _policies(old).get(policy) != document:
            work.call("put_role_policy", RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document))
    before, after = set(old.get("ManagedPolicyArns", [])), set(work.p.get("ManagedPolicyArns", []))
    for arn in before - after:
        work.call("detach_role_policy", RoleName=name, PolicyArn=arn)
    for arn in after - before:
        work.call("attach_role_policy", RoleName=name, PolicyArn=arn)


def _change_role(work):
    work.call("update_assume_role_policy", RoleName=work.id,
              PolicyDocument=json.dumps(work.p["AssumeRolePolicyDocument"]))


def _delete_role(work):
    for policy in work.call("list_role_policies", RoleName=work.id)["PolicyNames"]:
        work.call("delete_role_policy", RoleName=work.id, PolicyName=policy)
    for policy in work.call("list_attached_role_policies", RoleName=work.id)["AttachedPolicies"]:
        work.call("detach_role_policy", RoleName=work.id, PolicyArn=policy["PolicyArn"])
    work.call("delete_role", RoleName=work.id)


KINDS["AWS::IAM::Role"] = Kind(
    service="iam", create="create_role", id="{p[RoleName]}", name="RoleName", without=("Policies", "ManagedPolicyArns"),
    attributes={"Arn": "{answer[Role][Arn]}", "RoleId": "{answer[Role][RoleId]}"},
    then=_role, update=_change_role, delete=_delete_role,
)


def _attach(work):
    old = work.old or {}
    for role in set(old.get("Roles", [])) - set(work.p.get("Roles", [])):
        work.call("detach_role_policy", RoleName=role, PolicyArn=work.id)
    for role in set(work.p.get("Roles", [])) - set(old.get("Roles", [])):
        work.call("attach_role_policy", RoleName=role, PolicyArn=work.id)


def _new_version(work):
    versions = work.call("list_policy_versions", PolicyArn=work.id)["Versions"]
    if len(versions) == 5:  # as many as IAM keeps
        oldest = min((each for each in versions if not each["IsDefaultVersion"]), key=lambda each: each["CreateDate"])
        work.call("delete_policy_version", PolicyArn=work.id, VersionId=oldest["VersionId"])
    work.call("create_policy_version", PolicyArn=work.id, PolicyDocument=json.dumps(work.p["PolicyDocument"]),
              SetAsDefault=True)


def _delete_policy(work):
    for role in work.call("list_entities_for_policy", PolicyArn=work.id).get("PolicyRoles", []):
        work.call("detach_role_policy", RoleName=role["RoleName"], PolicyArn=work.id)
    for version in work.call("list_policy_versions", PolicyArn=work.id)["Versions"]:
        if not version["IsDefaultVersion"]:
            work.call("delete_policy_version", PolicyArn=work.id, VersionId=version["VersionId"])
    work.call("delete_policy", PolicyArn=work.id)


KINDS["AWS::IAM::ManagedPolicy"] = Kind(
    service="iam", create="create_policy", id="{answer[Policy][Arn]}", name="ManagedPolicyName", longest=128,
    rename={"ManagedPolicyName": "PolicyName"}, without=("Roles", "Users", "Groups"), then=_attach,
    attributes={"PolicyArn": "{id}"}, update=_new_version, delete=_delete_policy,
)


def _inline(work):
    for role in work.p.get("Roles", []):
        work.call("put_role_policy", RoleName=role, PolicyName=work.p["PolicyName"],
                  PolicyDocument=json.dumps(work.p["PolicyDocument"]))
    return work.fill("{stack}-{logical}-{random}")


def _no_inline(work):
    for role in work.p.get("Roles", []):
        work.call("delete_role_policy", RoleName=role, PolicyName=work.p["PolicyName"])


KINDS["AWS::IAM::Policy"] = KINDS["AWS::IAM::RolePolicy"] = Kind(
    service="iam", create=_inline, update=lambda work: _inline(work) and None, delete=_no_inline,
)
KINDS["AWS::IAM::OIDCProvider"] = Kind(
    service="iam", create="create_open_id_connect_provider", id="{answer[OpenIDConnectProviderArn]}",
    attributes={"Arn": "{id}"}, delete="delete_open_id_connect_provider", key={"OpenIDConnectProviderArn": "{id}"},
)
KINDS["AWS::IAM::ServiceLinkedRole"] = Kind(id="AWSServiceRole-{random}")

# -- KMS ------------------------------------------------------------------------------------------


def _rotation(work):
    if work.p.get("EnableKeyRotation"):
        work.call("enable_key_rotation", KeyId=work.id)
    if work.old is not None:
        work.call("put_key_policy", KeyId=work.id, PolicyName="default", Policy=json.dumps(work.p["KeyPolicy"]))


def _delete_key(work):
    work.call("schedule_key_deletion", KeyId=work.id, PendingWindowInDays=int(work.p.get("PendingWindowInDays", 30)))


KINDS["AWS::KMS::Key"] = Kind(
    service="kms", create="create_key", id="{answer[KeyMetadata][KeyId]}", rename={"KeyPolicy": "Policy"},
    without=("EnableKeyRotation", "PendingWindowInDays", "Enabled", "RotationPeriodInDays"), then=_rotation,
    attributes={"Arn": "{answer[KeyMetadata][Arn]}", "KeyId": "{id}"}, delete=_delete_key,
)
KINDS["AWS::KMS::Alias"] = Kind(
    service="kms", create="create_alias", id="{p[AliasName]}",
    update=lambda work: work.call("update_alias", AliasName=work.id, TargetKeyId=work.p["TargetKeyId"]),
    delete="delete_alias", key={"AliasName": "{id}"},
)

# -- secrets and parameters -----------------------------------------------------------------------


def _secret(work):
    properties = dict(work.p)
    made = properties.pop("GenerateSecretString", None)
    # CloudFormation's own names for secrets: Logical-random.
    properties.setdefault("Name", made_up(work.resource.logical, "", 40).replace("--", "-"))
    if made is not None:
        made = dict(made)
        around = json.loads(made.pop("SecretStringTemplate", "{}"))
        key = made.pop("GenerateStringKey", None)
        text = work.call("get_random_password", **work.api("get_random_password", made))["RandomPassword"]
        properties["SecretString"] = json.dumps({**around, key: text}) if key else text
    return work.call("create_secret", **work.api("create_secret", properties))["ARN"]


def _change_secret(work):
    changed = {name: work.p[name] for name in ("Description", "KmsKeyId", "SecretString")
               if work.p.get(name) != work.old.get(name) and name in work.p}
    if changed:
        work.call("update_secret", SecretId=work.id, **changed)


KINDS["AWS::SecretsManager::Secret"] = Kind(
    service="secretsmanager", create=_secret, update=_change_secret, attributes={"Id": lambda work: work.id},
    delete=lambda work: work.call("delete_secret", SecretId=work.id, ForceDeleteWithoutRecovery=True),
)
KINDS["AWS::SecretsManager::ResourcePolicy"] = Kind(
    service="secretsmanager", create="put_resource_policy", id="{p[SecretId]}", attributes={"Id": "{id}"},
    update="put_resource_policy", delete="delete_resource_policy", key={"SecretId": "{p[SecretId]}"},
)


def _attach_secret(work):
    """Writes host and port of the database into the secret, as the real one does."""
    secret = work.p["SecretId"]
    known = json.loads(work.call("get_secret_value", SecretId=secret)["SecretString"])
    cluster = work.of("rds", "describe_db_clusters", DBClusterIdentifier=work.p["TargetId"])["DBClusters"][0]
    known |= {"engine": "postgres", "host": cluster["Endpoint"], "port": cluster["Port"],
              "dbClusterIdentifier": cluster["DBClusterIdentifier"]}
    work.call("put_secret_value", SecretId=secret, SecretString=json.dumps(known))
    return secret


KINDS["AWS::SecretsManager::SecretTargetAttachment"] = Kind(
    service="secretsmanager", create=_attach_secret, attributes={"Id": lambda work: work.id},
)
KINDS["AWS::SecretsManager::RotationSchedule"] = Kind(id="{p[SecretId]}", attributes={"Id": "{id}"})

KINDS["AWS::SSM::Parameter"] = Kind(
    service="ssm", create="put_parameter", id="{p[Name]}", name="Name", longest=1011,
    update=lambda work: work.call("put_parameter", **work.api("put_parameter", work.p), Overwrite=True),
    delete="delete_parameter", key={"Name": "{id}"},
)

KINDS["AWS::CertificateManager::Certificate"] = Kind(
    service="acm", create="request_certificate", id="{answer[CertificateArn]}",
    without=("DomainValidationOptions", "CertificateTransparencyLoggingPreference"),  # the records are made by AWS
    delete="delete_certificate", key={"CertificateArn": "{id}"}, attributes={"CertificateArn": "{id}"},
)
