"""Where moto's other services are unlike AWS, or lack what the playbooks call."""

from __future__ import annotations

import datetime
import hashlib
import re
import uuid

from botocore.exceptions import ClientError

from .server import Fault

ANSWERS = {}


def answers(service, operation):
    def register(function):
        ANSWERS[service, operation] = function
        return function

    return register


@answers("sts", "GetCallerIdentity")
def identity(emulator, call):
    account = emulator.control("account", emulator.account)
    return {"UserId": "AIDAEXAMPLEEXAMPLEEX", "Account": account, "Arn": f"arn:aws:iam::{account}:user/deployer"}


@answers("ecr", "PutImage")
def put_image(emulator, call):
    """The digest is that of the manifest; moto's would be the same for all images of the same layers."""
    digest = "sha256:" + hashlib.sha256(call.arguments["imageManifest"].encode()).hexdigest()
    if call.arguments.setdefault("imageDigest", digest) != digest:
        raise Fault("ImageDigestDoesNotMatchException", f"the manifest's digest is {digest}")
    return emulator.forward(call)


@answers("elbv2", "DeleteLoadBalancer")
def delete_load_balancer(emulator, call):
    arn = call.arguments["LoadBalancerArn"]
    found = emulator.moto("elbv2", call.region, "describe_load_balancer_attributes", LoadBalancerArn=arn)
    if {"Key": "deletion_protection.enabled", "Value": "true"} in found["Attributes"]:
        raise Fault("OperationNotPermitted",
                    f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled")
    return emulator.forward(call)


@answers("application-autoscaling", "RegisterScalableTarget")
def register_scalable_target(emulator, call):
    """Scaling brings a service to its bounds at once."""
    answer = emulator.forward(call)
    a = call.arguments
    if a["ServiceNamespace"] == "ecs":
        _, cluster, service = a["ResourceId"].split("/")
        found = emulator.moto("ecs", call.region, "describe_services", cluster=cluster, services=[service])["services"]
        if not found:
            raise Fault("ValidationException", f"ECS service doesn't exist: {a['ResourceId']}")
        count = max(a.get("MinCapacity", 0), min(found[0]["desiredCount"], a.get("MaxCapacity", 10**6)))
        if count != found[0]["desiredCount"]:
            emulator.aws("ecs", call.region, "update_service", cluster=cluster, service=service, desiredCount=count)
    return answer


# -- alarms: moto knows no composite ones -----------------------------------------------------------


class Alarms:
    def __init__(self):
        self.composite: dict[tuple, dict] = {}  # by region and name
        self.forced: dict[tuple, str] = {}  # states set by hand


MENTIONED = re.compile(r"""(ALARM|OK|INSUFFICIENT_DATA)\(\s*["']?([^"')]+?)["']?\s*\)""")


@answers("cloudwatch", "PutCompositeAlarm")
def put_composite_alarm(emulator, call):
    a, region = call.arguments, call.region
    states = _states(emulator, region)
    missing = [name for _, name in MENTIONED.findall(a["AlarmRule"]) if name.split(":alarm:")[-1] not in states]
    if missing:
        raise Fault("ValidationError", f"Could not save the composite alarm as alarms {missing} in the alarm rule "
                    "do not exist")
    if len(a.get("AlarmDescription", "")) > 1024 or len(a["AlarmRule"]) > 10240:
        raise Fault("ValidationError", "AlarmDescription or AlarmRule is too long")
    emulator.alarms.composite[region, a["AlarmName"]] = {
        **{key: value for key, value in a.items() if key != "Tags"},
        "AlarmArn": f"arn:aws:cloudwatch:{region}:{emulator.account}:alarm:{a['AlarmName']}",
        "ActionsEnabled": a.get("ActionsEnabled", True),
        "AlarmConfigurationUpdatedTimestamp": datetime.datetime.now(datetime.UTC),
    }
    _evaluate(a["AlarmRule"], states)
    return {}


def _metric_alarms(emulator, region):
    pages = emulator.moto.client("cloudwatch", region).get_paginator("describe_alarms").paginate()
    return [alarm for page in pages for alarm in page["MetricAlarms"]]


def _states(emulator, region):
    """The state of every alarm: of composite ones by their rule, unless it was set by hand."""
    states = {alarm["AlarmName"]: alarm["StateValue"] for alarm in _metric_alarms(emulator, region)}
    ours = {name: alarm for (where, name), alarm in emulator.alarms.composite.items() if where == region}
    states |= {name: state for (where, name), state in emulator.alarms.forced.items() if where == region}
    waiting = [name for name in ours if name not in states]
    states |= dict.fromkeys(waiting, "OK")
    for _ in waiting:  # rules may name composite alarms: as often as there can be steps
        for name in waiting:
            states[name] = "ALARM" if _evaluate(ours[name]["AlarmRule"], states) else "OK"
    return states


def _evaluate(rule, states):
    text = MENTIONED.sub(lambda found: str(states.get(found[2].split(":alarm:")[-1]) == found[1]), rule)
    text = re.sub(r"\b(AND|OR|NOT|TRUE|FALSE)\b", lambda found: found[1].lower() if found[1] in ("AND", "OR", "NOT")
                  else found[1].capitalize(), text)
    if not re.fullmatch(r"(True|False|and|or|not|[()\s])+", text):
        raise Fault("ValidationError", f"Error in AlarmRule: {rule}")
    try:
        return eval(" ".join(text.split()))  # noqa: S307, of five words and brackets
    except SyntaxError:
        raise Fault("ValidationError", f"Error in AlarmRule: {rule}") from None


@answers("cloudwatch", "DescribeAlarms")
def describe_alarms(emulator, call):
    """AWS shows metric alarms only, unless asked, and takes filters together; moto takes one of them."""
    a, region = call.arguments, call.region
    if a.get("AlarmNames") and a.get("AlarmNamePrefix"):
        raise Fault("InvalidParameterCombination", "AlarmNames and AlarmNamePrefix cannot be given together")
    states = _states(emulator, region)
    kinds = a.get("AlarmTypes") or ["MetricAlarm"]

    def asked_for(alarm):
        name = alarm["AlarmName"]
        return ((not a.get("AlarmNames") or name in a["AlarmNames"]) and name.startswith(a.get("AlarmNamePrefix", ""))
                and a.get("StateValue", states[name]) == states[name])

    ours = [{**alarm, "StateValue": states[name], "StateReason": "by its rule"}
            for (where, name), alarm in emulator.alarms.composite.items() if where == region]
    return {
        "MetricAlarms": [alarm for alarm in _metric_alarms(emulator, region) if asked_for(alarm)]
        if "MetricAlarm" in kinds else [],
        "CompositeAlarms": [alarm for alarm in ours if asked_for(alarm)] if "CompositeAlarm" in kinds else [],
    }


@answers("cloudwatch", "SetAlarmState")
def set_alarm_state(emulator, call):
    key = (call.region, call.arguments["AlarmName"])
    if key in emulator.alarms.composite:
        emulator.alarms.forced[key] = call.arguments["StateValue"]
        return {}
    if key[1] not in _states(emulator, call.region):
        raise Fault("ResourceNotFound", f"Alarm {key[1]} does not exist")
    return emulator.forward(call)


@answers("cloudwatch", "DeleteAlarms")
def delete_alarms(emulator, call):
    names = set(call.arguments["AlarmNames"])
    for (where, name), alarm in emulator.alarms.composite.items():
        used = names & {found.split(":alarm:")[-1] for _, found in MENTIONED.findall(alarm["AlarmRule"])}
        if where == call.region and name not in names and used:
            raise Fault("ValidationError", f"Cannot delete {', '.join(sorted(used))} as composite alarm {name} "
                        "depends on it")
    for name in names:
        emulator.alarms.composite.pop((call.region, name), None)
        emulator.alarms.forced.pop((call.region, name), None)
    return emulator.forward(call)


# -- connections to a Git host: they exist in stacks only -------------------------------------------


def _get_connection(emulator, call):
    arn = call.arguments["ConnectionArn"]
    for stack in emulator.cloudformation.stacks:
        for resource in stack.resources.values():
            if resource.id == arn and resource.kind.endswith("::Connection") and not stack.deleted:
                return {"Connection": {
                    "ConnectionArn": arn,
                    "ConnectionName": resource.properties["ConnectionName"],
                    "ProviderType": resource.properties.get("ProviderType", "GitHub"),
                    "OwnerAccountId": emulator.account,
                    "ConnectionStatus": emulator.control("connection_status", "PENDING"),
                }}
    raise Fault("ResourceNotFoundException", f"Connection {arn} not found")


ANSWERS["codeconnections", "GetConnection"] = _get_connection
ANSWERS["codestar-connections", "GetConnection"] = _get_connection


# -- AWS Backup: what is in a region has one recovery point, of five hours ago -----------------------


def _recovery_points(emulator, region):
    for cluster in emulator.moto("rds", region, "describe_db_clusters")["DBClusters"]:
        name = "awsbackup:job-" + hashlib.sha256(cluster["DBClusterArn"].encode()).hexdigest()[:16]
        where = {"DBClusterSnapshotIdentifier": name}
        try:
            found = emulator.moto("rds", region, "describe_db_cluster_snapshots", **where)["DBClusterSnapshots"][0]
        except ClientError:
            found = emulator.moto("rds", region, "create_db_cluster_snapshot", **where,
                                  DBClusterIdentifier=cluster["DBClusterIdentifier"])["DBClusterSnapshot"]
        yield found["DBClusterSnapshotArn"], cluster["DBClusterArn"], "Aurora"
    for system in emulator.moto("efs", region, "describe_file_systems")["FileSystems"]:
        identity = uuid.uuid5(uuid.NAMESPACE_URL, system["FileSystemArn"])
        yield (f"arn:aws:backup:{region}:{emulator.account}:recovery-point:{identity}",
               system["FileSystemArn"], "EFS")


@answers("backup", "ListRecoveryPointsByBackupVault")
def list_recovery_points(emulator, call):
    a = call.arguments
    vault = emulator.moto("backup", call.region, "describe_backup_vault", BackupVaultName=a["BackupVaultName"])
    made = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=5)
    return {"RecoveryPoints": [
        {"RecoveryPointArn": point, "ResourceArn": resource, "ResourceType": kind, "Status": "COMPLETED",
         "BackupVaultName": a["BackupVaultName"], "BackupVaultArn": vault["BackupVaultArn"], "CreationDate": made,
         "CompletionDate": made + datetime.timedelta(minutes=9), "IsEncrypted": True}
        for point, resource, kind in _recovery_points(emulator, call.region)
        if a.get("ByResourceArn", resource) == resource and a.get("ByResourceType", kind) == kind
    ]}


@answers("backup", "StartRestoreJob")
def start_restore_job(emulator, call):
    a, region = call.arguments, call.region
    found = next((each for each in _recovery_points(emulator, region) if each[0] == a["RecoveryPointArn"]), None)
    if found is None:
        raise Fault("ResourceNotFoundException", f"Cannot find recovery point {a['RecoveryPointArn']}")
    if found[2] != "EFS" or a["Metadata"].get("newFileSystem") != "true":
        raise Fault("InvalidParameterValueException", "the emulator restores file systems into new ones, and no more")
    emulator.moto("iam", region, "get_role", RoleName=a["IamRoleArn"].rsplit("/", 1)[1])
    made = emulator.aws("efs", region, "create_file_system", CreationToken=str(uuid.uuid4()), Encrypted=True)
    job = str(uuid.uuid4())
    emulator.restores[job] = {
        "AccountId": emulator.account, "RestoreJobId": job, "RecoveryPointArn": a["RecoveryPointArn"],
        "ResourceType": "EFS", "CreatedResourceArn": made["FileSystemArn"], "PercentDone": "100.00%",
        "CreationDate": datetime.datetime.now(datetime.UTC), "IamRoleArn": a["IamRoleArn"],
    }
    return {"RestoreJobId": job}


@answers("backup", "DescribeRestoreJob")
def describe_restore_job(emulator, call):
    job = emulator.restores.get(call.arguments["RestoreJobId"])
    if job is None:
        raise Fault("ResourceNotFoundException", "Cannot find the restore job")
    status = emulator.control("restore_status", "COMPLETED")
    return {**job, "Status": status, "StatusMessage": "" if status == "COMPLETED" else "set by the test"}
