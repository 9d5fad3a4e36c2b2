"""Rules about what is kept: the store, its backups, its secrets."""

from __future__ import annotations

import re

import templates
import wiring

from .rule import at, containers, environment, expect, holds, part, refuses, rule, seconds, secrets, within

APP = "birthday-demo"
CONTAINER = f"{APP} TaskDefinition ContainerDefinitions/0"
MIGRATION = f"{APP} MigrationTaskDefinition ContainerDefinitions/0"
STORE = "/data/birthday.db"
NFS = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientRootAccess", "elasticfilesystem:ClientWrite"]
ACCESS_POINTS = f"arn:aws:elasticfilesystem:eu-west-1:{wiring.ACCOUNT}:access-point/*"
REFUSALS = {
    "NothingInTheClear": (NFS, {"Bool": {"aws:SecureTransport": "false"}}),
    "NothingPastTheAccessPoint": (NFS, {"StringNotLike": {"elasticfilesystem:AccessPointArn": ACCESS_POINTS}}),
    "NobodyIsRoot": ("elasticfilesystem:ClientRootAccess", None),
}


@rule(7, "a bolt file has one writer, which reaches it safely",
      f"{APP} TaskDefinition Volumes", f"{CONTAINER}/MountPoints", f"{CONTAINER}/Environment/BIRTHDAY_STORE",
      "data-bolt FileSystem Encrypted", "data-bolt FileSystem KmsKeyId", "data-bolt FileSystem FileSystemPolicy/Statement",
      "data-bolt AccessPoint PosixUser", "data-bolt AccessPoint RootDirectory", "data-bolt MountTarget1 SecurityGroups",
      "data-bolt MountTarget2 SecurityGroups", "data-bolt MountTarget3 SecurityGroups", "data-bolt FileSystemIngress",
      f"{APP} ScalableTarget Condition")
def has_one_writer(kit):
    for each in kit.with_storage("bolt"):
        stack, data = each["service"], each["data"]
        yield from expect("tasks of bolt", [each.setting("min_tasks"), each.setting("max_tasks")], [1, 1])
        yield from holds(refuses(stack, MaxTasks=2) and refuses(stack, MinTasks=2, MaxTasks=2), "bolt may have two tasks")
        yield from holds(not stack.resources("AWS::ApplicationAutoScaling::ScalableTarget"), "bolt is scaled")
        yield from holds("Strategy" not in (part(each, "service", "Service", "DeploymentConfiguration") or {}),
                         "bolt is deployed beside the old task")
        system, point = data.outputs["FileSystemId"], data.outputs["AccessPointId"]
        yield from expect("its volume", part(each, "service", "TaskDefinition", "Volumes"), [{
            "Name": "data", "EFSVolumeConfiguration": {
                "FilesystemId": system, "TransitEncryption": "ENABLED",
                "AuthorizationConfig": {"AccessPointId": point, "IAM": "ENABLED"}}}])
        app = containers(each).get("app", {})
        yield from expect("its mount", app.get("MountPoints"),
                          [{"SourceVolume": "data", "ContainerPath": "/data", "ReadOnly": False}])
        yield from expect("its file", environment(app).get("BIRTHDAY_STORE"), STORE)
        files = part(each, "data", "FileSystem")
        yield from expect("its encryption", [files.get("Encrypted"), files.get("KmsKeyId")], [True, data.parameters["KeyArn"]])
        yield from holds("LifecyclePolicies" not in files, "parts of the file move to slower storage")
        yield from _refusals(at(files, "FileSystemPolicy/Statement") or [])
        user = {"Uid": "65532", "Gid": "65532"}
        owner = {"OwnerUid": "65532", "OwnerGid": "65532", "Permissions": "0700"}
        yield from expect("who comes in", part(each, "data", "AccessPoint", "PosixUser"), user)
        yield from expect("what it sees", part(each, "data", "AccessPoint", "RootDirectory"),
                          {"Path": "/birthday", "CreationInfo": owner})
        group = data.attribute("FileSystemSecurityGroup", "GroupId")
        targets = data.resources("AWS::EFS::MountTarget")
        yield from expect("mount targets", len(targets), each.setting("zones"))
        for target in targets.values():
            yield from expect("who reaches them", target["Properties"].get("SecurityGroups"),
                              [data.ref("FileSystemSecurityGroup")])
        yield from expect("what is let in", part(each, "data", "FileSystemIngress"), {
            "GroupId": group, "IpProtocol": "tcp", "FromPort": 2049, "ToPort": 2049, "Description": "NFS",
            "SourceSecurityGroupId": data.outputs["ClientSecurityGroup"]})
    yield from within("the wait for the file's lock", kit.duration("app/store/bolt/bolt.go", "lockTimeout"), 1, 20)
    gap = " ".join(kit.text("docs/deploy.md").split())
    yield from holds(re.search(r"[Ee]ach deploy is a gap", gap), "docs/deploy.md does not say that each deploy is a gap")


def _refusals(statements):
    """Nobody is let in, and these are kept out whatever their role says."""
    found = {statement.get("Sid"): statement for statement in statements}
    yield from expect("what the file system refuses", sorted(map(str, found)), sorted(REFUSALS))
    for sid, (actions, condition) in REFUSALS.items():
        told = dict(found.get(sid, {}))
        told.pop("Sid", None)
        wanted = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": actions}
        yield from expect(sid, told, {**wanted, "Condition": condition} if condition else wanted)


@rule(8, "backups of a bolt file hold copies that are whole",
      f"{CONTAINER}/Environment/BIRTHDAY_BACKUP_DIR", "backup Selection BackupSelection/Resources")
def copies_are_whole(kit):
    for each in kit.with_storage("bolt"):
        folder = environment(containers(each).get("app", {})).get("BIRTHDAY_BACKUP_DIR")
        yield from holds(re.fullmatch(r"/data/\w+", str(folder)), f"copies are in {folder}, and not beside the file")
        yield from expect("what is backed up", part(each, "backup", "Selection", "BackupSelection/Resources"),
                          [each["data"].outputs["DataArn"]])
    every = re.search(r'"backup-every", (\d* ?\*? ?)time\.Hour', kit.text("app/settings.go"))
    yield from holds(every and int(every[1].strip(" *") or 1) <= 24, "copies are not made once a day")
    yield from holds("tx.WriteTo(w)" in kit.text("app/store/bolt/copy.go"), "a copy is not of one moment")
    yield from holds("file.Sync()" in kit.text("app/copies/schedule.go"), "a copy is not on disk when it is called one")


@rule(18, "the service has its own user and password, and no secret is where it can be read",
      f"{CONTAINER}/Secrets", f"{MIGRATION}/Secrets", f"{MIGRATION}/Environment/BIRTHDAY_APP_USER",
      f"{MIGRATION}/Environment/BIRTHDAY_STORE", "data-postgres Cluster ManageMasterUserPassword",
      "data-postgres Cluster MasterUserSecret", "data-postgres ClusterParameters Parameters/rds.force_ssl",
      "data-postgres AppSecret GenerateSecretString", "data-postgres AppSecret KmsKeyId",
      "platform WriteTokens GenerateSecretString", "platform WriteTokens KmsKeyId")
def keeps_secrets(kit):
    for each in kit.deployments:
        stack = each["service"]
        given = stack.parameters
        sentry = {"SENTRY_DSN": given["SentrySecretArn"]} if given["SentrySecretArn"] else {}
        wanted = {"BIRTHDAY_WRITE_TOKENS": each["platform"].outputs["WriteTokensSecretArn"], **sentry}
        if each.storage == "postgres":
            wanted["PGPASSWORD"] = each["data"].outputs["AppSecretArn"] + ":password::"
        found = containers(each)
        yield from expect(f"{each.storage}: secrets of the service", sorted(map(str, secrets(found.get("app", {})).items())),
                          sorted(map(str, wanted.items())))
        for name, container in found.items():
            for key in environment(container):
                yield from holds(not re.search("PASSWORD|TOKEN|DSN|SECRET", str(key)), f"{name} has {key} in the clear")
        tokens = part(each, "platform", "WriteTokens")
        yield from expect("tokens", tokens.get("GenerateSecretString"),
                          {"PasswordLength": 48, "ExcludePunctuation": True, "IncludeSpace": False})
        yield from expect("their key", tokens.get("KmsKeyId"), each["network"].outputs["KeyArn"])
    for each in kit.with_storage("postgres"):
        yield from _own_user(each)
    yield from holds("/etc/ssl/certs/database.pem" in kit.text("devops/Dockerfile"),
                     "the image lacks the database's authorities")
    # A password of a variable is read at the start: who changes it must be told to deploy.
    yield from holds("force-new-deployment" in kit.text("docs/operations.md"), "nobody is told how tasks read a new password")
    for name in templates.names():
        for parameter, body in wiring.load(name)["Parameters"].items():
            secret = re.search("Password|Token|Secret|Webhook|Dsn", parameter) and not parameter.endswith("Arn")
            yield from holds(not secret or body.get("NoEcho"), f"{name} shows what {parameter} is")


def _own_user(each):
    data, found = each["data"], containers(each)
    outputs = data.outputs
    address = f"{outputs['Endpoint']}:{outputs['Port']}/{outputs['DatabaseName']}"
    safe = "?sslmode=verify-full&sslrootcert=/etc/ssl/certs/database.pem"
    own = environment(found.get("app", {})).get("BIRTHDAY_STORE", "")
    yield from holds(str(own).startswith(f"postgres://{outputs['AppUser']}@{address}{safe}"), f"the store is {own}")
    migration = found.get("migrate", {})
    yield from expect("the store of migrations", environment(migration).get("BIRTHDAY_STORE"), f"postgres://{address}{safe}")
    yield from expect("whom migrations make", environment(migration).get("BIRTHDAY_APP_USER"), outputs["AppUser"])
    master = outputs["MasterSecretArn"]
    yield from expect("secrets of migrations", secrets(migration), {
        "PGUSER": f"{master}:username::", "PGPASSWORD": f"{master}:password::",
        "BIRTHDAY_APP_PASSWORD": f"{outputs['AppSecretArn']}:password::"})
    cluster = part(each, "data", "Cluster")
    yield from holds("MasterUserPassword" not in cluster, "the master's password is in the template")
    yield from expect("the master's password", cluster.get("ManageMasterUserPassword"), True)
    yield from expect("its key", cluster.get("MasterUserSecret"), {"KmsKeyId": data.parameters["KeyArn"]})
    yield from expect("TLS", part(each, "data", "ClusterParameters", "Parameters/rds.force_ssl"), "1")
    secret = part(each, "data", "AppSecret")
    yield from expect("the user's key", secret.get("KmsKeyId"), data.parameters["KeyArn"])
    yield from expect("the user's password", secret.get("GenerateSecretString"), {
        "SecretStringTemplate": f'{{"username": "{outputs["AppUser"]}"}}', "GenerateStringKey": "password",
        "PasswordLength": 48, "ExcludePunctuation": True})


CONNECTIONS_PER_ACU = 189


@rule(19, "the database sleeps where nobody is, and has a second zone where people are",
      "data-postgres Cluster ServerlessV2ScalingConfiguration",
      *(f"data-postgres {instance} {path}" for instance in ("Writer", "Reader")
        for path in ("AvailabilityZone", "PromotionTier", "DBInstanceClass", "PubliclyAccessible")),
      f"{CONTAINER}/Environment/BIRTHDAY_STORE")
def sleeps_or_stands_by(kit):
    for each in kit.with_storage("postgres"):
        data = each["data"]
        scaling = part(each, "data", "Cluster", "ServerlessV2ScalingConfiguration") or {}
        least, most, pause = (each.setting(name) for name in ("min_capacity", "max_capacity", "auto_pause_seconds"))
        wanted = {"MinCapacity": str(least), "MaxCapacity": str(most), **({"SecondsUntilAutoPause": str(pause)} if pause else {})}
        yield from expect(f"{each.env}: the capacity", scaling, wanted)
        instances = data.resources("AWS::RDS::DBInstance")
        yield from expect(f"{each.env}: instances", len(instances), 1 + each.setting("readers"))
        for tier, (logical, body) in enumerate(sorted(instances.items(), reverse=True)):
            found = body["Properties"]
            yield from expect(f"the class of {logical}", found.get("DBInstanceClass"), "db.serverless")
            yield from expect(f"the tier of {logical}", found.get("PromotionTier"), tier)
            yield from expect(f"the zone of {logical}", found.get("AvailabilityZone"), data.region + "abc"[tier])
            yield from expect(f"whether {logical} is public", found.get("PubliclyAccessible"), False)
        yield from holds(not data.resources("AWS::RDS::DBProxy"), "a proxy keeps the database awake")
        yield from _connections(each, most, pause)
    last = kit.last
    yield from within("the least capacity where people are", last.setting("min_capacity"), 0.5, 8)
    yield from within("the readers where people are", last.setting("readers"), 1, 1)
    first = next(each for each in kit.with_storage("postgres") if each.env != last.env)
    yield from expect("the least capacity elsewhere", first.setting("min_capacity"), 0)
    yield from within("the seconds to sleep elsewhere", first.setting("auto_pause_seconds"), 300, 3600)
    asked = next(task for task in wiring.tasks("birthday_demo_deploy.yml", "postgres") if task.get("until") == "kept is succeeded")
    yield from within("the seconds that the smoke test waits for a database that wakes",
                      asked["retries"] * wiring.read("vars/common.yml")["poll_seconds"], 30, 300)


def _connections(each, capacity, pause):
    """Tasks take no more connections than there are, and let go of them for the database to sleep."""
    url = str(environment(containers(each).get("app", {})).get("BIRTHDAY_STORE"))
    pool = re.search(r"[?&]pool_max_conns=(\d+)", url)
    yield from holds(pool, "the pool has no end")
    if pool:
        taken = 2 * int(pool[1]) * each.setting("max_tasks")  # while a deploy overlaps
        yield from within(f"{each.env}: connections", taken, 1, 0.8 * CONNECTIONS_PER_ACU * capacity)
    idle = re.search(r"[?&]pool_max_conn_idle_time=(\d+[smh])", url)
    yield from holds(idle and seconds(idle[1]) <= (pause or 600), "connections keep the database awake")
    yield from holds("pool_min" not in url, "connections that are always there keep the database awake")


# Types that hold what cannot be made again.
LASTING = {
    "AWS::Backup::BackupVault", "AWS::ECR::Repository", "AWS::EFS::FileSystem", "AWS::KMS::Key", "AWS::Logs::LogGroup",
    "AWS::RDS::DBCluster", "AWS::S3::Bucket", "AWS::SecretsManager::Secret",
}
# Logs and secrets that need not outlive their stack, and why.
PASSING = {
    "data-postgres AppSecret": "the migration sets it anew",
    "data-postgres LogGroup": "says nothing without its database",
    "pipeline CheckLog": "of tests, which can run again",
    "pipeline DeployLog": "the deploys themselves are recorded elsewhere",
}


@rule(20, "what cannot be made again is neither removed nor replaced by a change",
      *(f"{name} {logical} {policy}" for name in templates.names() for logical, body in wiring.load(name)["Resources"].items()
        if body["Type"] in LASTING and f"{name} {logical}" not in PASSING for policy in ("DeletionPolicy", "UpdateReplacePolicy")),
      "data-postgres Cluster DeletionProtection")
def lasts(kit):
    for each in kit.deployments:
        for key, stack in each.stacks.items():
            yield from _policies(each.listed(key)["template"].removesuffix(".yml"), stack.template)
    for each in kit.with_storage("postgres"):
        yield from expect(f"{each.env}: deletion protection", part(each, "data", "Cluster", "DeletionProtection"),
                          each.setting("protected"))
    last = kit.last
    yield from expect("protection where people are", last.setting("protected"), True)
    for key in ("account", "network", "data-postgres", "data-bolt", "platform", "backup", "copies"):
        guarded = wiring.rendered(last.listed(key)["protect"], last.variables)
        yield from holds(guarded is True, f"the stack {key} can be deleted by one call")
    yield from within("the days of backups where people are", last.setting("keep_days"), 30, 35)
    module = kit.text("devops/ansible/library/cfn_stack.py")
    yield from holds('KEEPING = ("Retain", "Snapshot", "RetainExceptOnCreate")' in module, "changes are not refused")


def _policies(name, template):
    for logical, body in template["Resources"].items():
        if body["Type"] not in LASTING:
            continue
        kept = {"Retain", "Snapshot", "RetainExceptOnCreate"}
        either = kept | {"Delete"} if f"{name} {logical}" in PASSING else kept
        yield from holds(body.get("DeletionPolicy") in either, f"{name}: {logical} goes with its stack")
        yield from holds(body.get("UpdateReplacePolicy") in either, f"{name}: {logical} goes when it is replaced")


@rule(25, "backups are made every night, copied far away, kept from deletion, restored every week",
      "backup Plan BackupPlan/BackupPlanRule", "backup Selection BackupSelection", "backup Vault EncryptionKeyArn",
      "backup Vault LockConfiguration", "backup Vault AccessPolicy/Statement/NobodyDeletesBackups",
      "backup RestoreTest ScheduleExpression", "backup RestoreTest RecoveryPointSelection",
      "backup RestoreTestSelection ProtectedResourceType", "backup RestoreTestSelection ProtectedResourceArns",
      "backup RestoreTestSelection RestoreMetadataOverrides", "backup RestoreTestSelection IamRoleArn",
      "backup FailedRule EventPattern", "backup FailedRule Targets/notify/Arn")
def backs_up(kit):
    for each in kit.deployments:
        yield from _plan(each)
        yield from _restore_test(each)
        home, copies = each["backup"], each["copies"]
        yield from holds(home.region != copies.region, "copies are in the same region")
        for stack in (home, copies):
            vault = stack.part("Vault")
            yield from expect("the vault's key", vault.get("EncryptionKeyArn"), stack.attribute("Key", "Arn"))
            lock = each.setting("lock_days")
            yield from expect(f"{each.env}: the lock", vault.get("LockConfiguration"),
                              {"MinRetentionDays": str(lock)} if lock else None)
            yield from expect("who deletes backups", at(vault, "AccessPolicy/Statement/NobodyDeletesBackups"), {
                "Sid": "NobodyDeletesBackups", "Effect": "Deny", "Principal": "*", "Resource": "*",
                "Action": ["backup:DeleteRecoveryPoint", "backup:DisassociateRecoveryPoint",
                           "backup:UpdateRecoveryPointLifecycle"],
                "Condition": {"ArnNotEquals": {"aws:PrincipalArn": f"arn:aws:iam::{wiring.ACCOUNT}:root"},
                              "Bool": {"aws:PrincipalIsAWSService": "false"}}})
        roles = [home.attribute(role, "Arn") for role in ("BackupRole", "RestoreRole")]
        yield from expect("what is told", part(each, "backup", "FailedRule", "EventPattern"), {
            "source": ["aws.backup"],
            "detail-type": ["Backup Job State Change", "Copy Job State Change", "Restore Job State Change"],
            "detail": {"iamRoleArn": roles, "$or": [{"state": ["ABORTED", "EXPIRED", "FAILED", "PARTIAL"]},
                                                    {"status": ["ABORTED", "FAILED"]}]}})
        yield from expect("who is told", part(each, "backup", "FailedRule", "Targets/notify/Arn"),
                          each["monitoring"].outputs["NotifyTopicArn"])
    last = kit.last
    yield from within("the days of the lock where people are", last.setting("lock_days"), 1, last.setting("keep_days"))
    yield from within("the days of copies where people are", last.setting("copy_keep_days"), 30, 400)
    recovery = kit.text("docs/operations.md")
    yield from holds(re.search(r"\bRPO\b", recovery) and re.search(r"\bRTO\b", recovery) and "24 hours" in recovery
                     and "1 hour" in recovery, "docs/operations.md does not tell RPO and RTO")
    yield from holds("restored_in_seconds" in kit.text("devops/ansible/birthday_demo_restore.yml"), "nobody measures a restore")


def _plan(each):
    rules = part(each, "backup", "Plan", "BackupPlan/BackupPlanRule") or []
    yield from expect("rules of the plan", len(rules), 1)
    told = {key: value for key, value in (rules or [{}])[0].items()}
    yield from holds(re.fullmatch(r"cron\(\d+ \d+ \? \* \* \*\)", str(told.get("ScheduleExpression"))), "it is not every night")
    yield from expect("its zone", told.get("ScheduleExpressionTimezone"), "UTC")
    yield from expect("its name", told.get("RuleName"), "nightly")
    yield from within("its start", told.get("StartWindowMinutes"), 60, 480)
    yield from within("its end", told.get("CompletionWindowMinutes"), 120, 1440)
    yield from expect("its vault", told.get("TargetBackupVault"), each["backup"].ref("Vault"))
    yield from expect("how long it is kept", told.get("Lifecycle"), {"DeleteAfterDays": str(each.setting("keep_days"))})
    yield from expect("its copies", told.get("CopyActions"), [{
        "DestinationBackupVaultArn": each["copies"].outputs["VaultArn"],
        "Lifecycle": {"DeleteAfterDays": str(each.setting("copy_keep_days"))}}])
    yield from expect("what is backed up", part(each, "backup", "Selection", "BackupSelection"), {
        "SelectionName": "data", "IamRoleArn": each["backup"].attribute("BackupRole", "Arn"),
        "Resources": [each["data"].outputs["DataArn"]]})


def _restore_test(each):
    stack = each["backup"]
    schedule = part(each, "backup", "RestoreTest", "ScheduleExpression")
    yield from holds(re.fullmatch(r"cron\(\d+ \d+ \? \* \w{3} \*\)", str(schedule)), "restores are not tried every week")
    yield from expect("which one is tried", part(each, "backup", "RestoreTest", "RecoveryPointSelection"), {
        "Algorithm": "LATEST_WITHIN_WINDOW", "IncludeVaults": [stack.outputs["VaultArn"]], "RecoveryPointTypes": ["SNAPSHOT"],
        "SelectionWindowDays": 7})
    told = part(each, "backup", "RestoreTestSelection") or {}
    yield from expect("what is restored", [told.get("ProtectedResourceType"), told.get("ProtectedResourceArns")],
                      [{"bolt": "EFS", "postgres": "Aurora"}[each.storage], [each["data"].outputs["DataArn"]]])
    yield from expect("who restores it", told.get("IamRoleArn"), stack.attribute("RestoreRole", "Arn"))
    # Else people's data goes into the default network.
    group = {"dbSubnetGroupName": each["data"].outputs["SubnetGroup"]} if each.storage == "postgres" else None
    yield from expect("where to", told.get("RestoreMetadataOverrides"), group)
