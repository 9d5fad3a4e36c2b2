"""Where data lies: RDS, EFS, S3, ECR, AWS Backup."""

from __future__ import annotations

from botocore.exceptions import ClientError

from ..kinds import KINDS, Kind, made_up

# -- RDS ------------------------------------------------------------------------------------------

KINDS["AWS::RDS::DBSubnetGroup"] = Kind(
    service="rds", create="create_db_subnet_group", id="{p[DBSubnetGroupName]}", name="DBSubnetGroupName",
    longest=255, update="modify_db_subnet_group", delete="delete_db_subnet_group",
    key={"DBSubnetGroupName": "{id}"}, attributes={"DBSubnetGroupArn": "{answer[DBSubnetGroup][DBSubnetGroupArn]}"},
)


def _parameters(work, group):
    changed = work.p.get("Parameters", {})
    if changed:
        work.call(f"modify_{group}_parameter_group", **{_group_name(group): work.id}, Parameters=[
            {"ParameterName": name, "ParameterValue": str(value), "ApplyMethod": "pending-reboot"}
            for name, value in changed.items()
        ])


def _group_name(group):
    return {"db_cluster": "DBClusterParameterGroupName", "db": "DBParameterGroupName"}[group]


for _kind, _group in (("AWS::RDS::DBClusterParameterGroup", "db_cluster"), ("AWS::RDS::DBParameterGroup", "db")):
    _name = _group_name(_group)
    KINDS[_kind] = Kind(
        service="rds", create=f"create_{_group}_parameter_group", id=f"{{p[{_name}]}}", name=_name, longest=255,
        rename={"Family": "DBParameterGroupFamily"}, without=("Parameters",),
        then=lambda work, group=_group: _parameters(work, group),
        delete=f"delete_{_group}_parameter_group", key={_name: "{id}"},
    )

CLUSTER_NAMES = {
    "PerformanceInsightsEnabled": "EnablePerformanceInsights",
    "PerformanceInsightsKmsKeyId": "PerformanceInsightsKMSKeyId",
}
# Moto fails at Aurora's type of storage; the others are no argument of the call.
NOT_PASSED = ("StorageType", "MasterUserSecret", "AssociatedRoles", "DeleteAutomatedBackups", "RestoreType")


def _cluster(work):
    properties = {CLUSTER_NAMES.get(name, name): value for name, value in work.p.items() if name not in NOT_PASSED}
    properties.setdefault("DBClusterIdentifier", made_up(work.stack.name, work.resource.logical, 63).lower())
    if "KmsKeyId" in work.p.get("MasterUserSecret", {}):
        properties["MasterUserSecretKmsKeyId"] = work.p["MasterUserSecret"]["KmsKeyId"]
    snapshot = properties.pop("SnapshotIdentifier", None)
    if snapshot:
        # Moto restores little more than the name. So look that the snapshot exists, and make a cluster like others.
        name = snapshot.split(":cluster-snapshot:")[-1]
        origin = work.call("describe_db_cluster_snapshots", DBClusterSnapshotIdentifier=name)["DBClusterSnapshots"][0]
        properties = {"MasterUsername": origin.get("MasterUsername", "master"), **properties}
        properties["DatabaseName"] = origin.get("DatabaseName") or properties.get("DatabaseName", "postgres")
        if not properties.get("ManageMasterUserPassword"):
            properties.setdefault("MasterUserPassword", "out-of-the-snapshot")
    work.answer = work.call("create_db_cluster", **work.api("create_db_cluster", properties))["DBCluster"]
    found = work.answer
    work.resource.attributes |= {
        "DBClusterArn": found["DBClusterArn"],
        "DBClusterResourceId": found["DbClusterResourceId"],
        "Endpoint.Address": found["Endpoint"],
        "Endpoint.Port": str(found["Port"]),
        "ReadEndpoint.Address": found["ReaderEndpoint"],
    }
    if "MasterUserSecret" in found:
        work.resource.attributes["MasterUserSecret.SecretArn"] = found["MasterUserSecret"]["SecretArn"]
    return found["DBClusterIdentifier"]


def _change_cluster(work):
    changed = {CLUSTER_NAMES.get(name, name): value for name, value in work.p.items()
               if work.old.get(name) != value and name not in (*NOT_PASSED, "Tags")}
    if changed:
        work.call("modify_db_cluster", DBClusterIdentifier=work.id, ApplyImmediately=True,
                  **work.api("modify_db_cluster", changed))


def _delete_cluster(work):
    if work.resource.body.get("DeletionPolicy", "Snapshot") == "Snapshot":  # for a cluster, it is the default
        name = made_up(work.stack.name, f"snapshot-{work.resource.logical}", 255).lower()
        work.call("delete_db_cluster", DBClusterIdentifier=work.id, FinalDBSnapshotIdentifier=name)
    else:
        work.call("delete_db_cluster", DBClusterIdentifier=work.id, SkipFinalSnapshot=True)


KINDS["AWS::RDS::DBCluster"] = Kind(service="rds", create=_cluster, update=_change_cluster, delete=_delete_cluster)

KINDS["AWS::RDS::DBInstance"] = Kind(
    service="rds", create="create_db_instance", id="{p[DBInstanceIdentifier]}", name="DBInstanceIdentifier", longest=63,
    rename={"PerformanceInsightsEnabled": "EnablePerformanceInsights", "VPCSecurityGroups": "VpcSecurityGroupIds",
            "PerformanceInsightsKMSKeyId": "PerformanceInsightsKMSKeyId"},
    without=("DeleteAutomatedBackups", "AllowMajorVersionUpgrade"),
    update="modify_db_instance", key={"DBInstanceIdentifier": "{id}"},
    attributes={"DBInstanceArn": "{answer[DBInstance][DBInstanceArn]}",
                "DbiResourceId": "{answer[DBInstance][DbiResourceId]}"},
    delete=lambda work: work.call("delete_db_instance", DBInstanceIdentifier=work.id, SkipFinalSnapshot=True),
)

# -- EFS ------------------------------------------------------------------------------------------


def _file_system(work):
    if "LifecyclePolicies" in work.p:
        work.call("put_lifecycle_configuration", FileSystemId=work.id, LifecyclePolicies=work.p["LifecyclePolicies"])
    if "FileSystemPolicy" in work.p:
        work.call("put_file_system_policy", FileSystemId=work.id,
                  Policy=work.api("put_file_system_policy", work.p["FileSystemPolicy"], "Policy"))


KINDS["AWS::EFS::FileSystem"] = Kind(
    service="efs", create="create_file_system", id="{answer[FileSystemId]}", extra={"CreationToken": "{random}"},
    without=("LifecyclePolicies", "FileSystemPolicy", "BackupPolicy", "FileSystemProtection",
             "BypassPolicyLockoutSafetyCheck", "ReplicationConfiguration"),
    then=_file_system, attributes={"Arn": "{answer[FileSystemArn]}", "FileSystemId": "{id}"},
    delete="delete_file_system", key={"FileSystemId": "{id}"},
)
KINDS["AWS::EFS::MountTarget"] = Kind(
    service="efs", create="create_mount_target", id="{answer[MountTargetId]}",
    attributes={"Id": "{id}", "IpAddress": "{answer[IpAddress]}"},
    delete="delete_mount_target", key={"MountTargetId": "{id}"},
)
KINDS["AWS::EFS::AccessPoint"] = Kind(
    service="efs", create="create_access_point", id="{answer[AccessPointId]}", extra={"ClientToken": "{random}"},
    attributes={"Arn": "{answer[AccessPointArn]}", "AccessPointId": "{id}"},
    delete="delete_access_point", key={"AccessPointId": "{id}"},
)

# -- S3 -------------------------------------------------------------------------------------------


def _create_bucket(work):
    name = work.p.get("BucketName") or made_up(work.stack.name, work.resource.logical, 63).lower()
    place = {} if work.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": work.region}}
    work.call("create_bucket", Bucket=name, **place)
    return name


def _settings(work):
    def put(operation, argument, value):
        work.call(operation, Bucket=work.id, **{argument: work.api(operation, value, argument)})

    p = work.p
    if "PublicAccessBlockConfiguration" in p:
        put("put_public_access_block", "PublicAccessBlockConfiguration", p["PublicAccessBlockConfiguration"])
    if "VersioningConfiguration" in p:
        put("put_bucket_versioning", "VersioningConfiguration", p["VersioningConfiguration"])
    if "OwnershipControls" in p:
        put("put_bucket_ownership_controls", "OwnershipControls", p["OwnershipControls"])
    if "BucketEncryption" in p:
        rules = [{"ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"],
                  "BucketKeyEnabled": rule.get("BucketKeyEnabled", False)}
                 for rule in p["BucketEncryption"]["ServerSideEncryptionConfiguration"]]
        put("put_bucket_encryption", "ServerSideEncryptionConfiguration", {"Rules": rules})
    if "LifecycleConfiguration" in p:
        rules = [_lifecycle(rule) for rule in p["LifecycleConfiguration"]["Rules"]]
        put("put_bucket_lifecycle_configuration", "LifecycleConfiguration", {"Rules": rules})
    if p.get("Tags"):
        work.call("put_bucket_tagging", Bucket=work.id, Tagging={"TagSet": p["Tags"]})


def _lifecycle(rule):
    result = {"Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "Id" in rule:
        result["ID"] = rule["Id"]
    if "ExpirationInDays" in rule:
        result["Expiration"] = {"Days": rule["ExpirationInDays"]}
    if "NoncurrentVersionExpiration" in rule:
        result["NoncurrentVersionExpiration"] = rule["NoncurrentVersionExpiration"]
    if "AbortIncompleteMultipartUpload" in rule:
        result["AbortIncompleteMultipartUpload"] = rule["AbortIncompleteMultipartUpload"]
    return result


KINDS["AWS::S3::Bucket"] = Kind(
    service="s3", create=_create_bucket, then=_settings, update=lambda work: None,
    delete="delete_bucket", key={"Bucket": "{id}"},
    attributes={
        "Arn": lambda work: f"arn:aws:s3:::{work.id}",
        "DomainName": lambda work: f"{work.id}.s3.amazonaws.com",
        "RegionalDomainName": lambda work: f"{work.id}.s3.{work.region}.amazonaws.com",
    },
)
KINDS["AWS::S3::BucketPolicy"] = Kind(
    service="s3", create="put_bucket_policy", id="{p[Bucket]}", rename={"PolicyDocument": "Policy"},
    update="put_bucket_policy", delete="delete_bucket_policy", key={"Bucket": "{p[Bucket]}"},
)

# -- ECR ------------------------------------------------------------------------------------------


def _repository(work):
    if "LifecyclePolicyText" in work.p.get("LifecyclePolicy", {}):
        work.call("put_lifecycle_policy", repositoryName=work.id,
                  lifecyclePolicyText=work.p["LifecyclePolicy"]["LifecyclePolicyText"])
    if "RepositoryPolicyText" in work.p:
        work.call("set_repository_policy", repositoryName=work.id,
                  policyText=work.api("set_repository_policy", work.p["RepositoryPolicyText"], "policyText"))


KINDS["AWS::ECR::Repository"] = Kind(
    service="ecr", create="create_repository", id="{p[RepositoryName]}", name="RepositoryName", longest=256,
    without=("LifecyclePolicy", "RepositoryPolicyText", "EmptyOnDelete"), then=_repository,
    attributes={"Arn": "{answer[repository][repositoryArn]}", "RepositoryUri": "{answer[repository][repositoryUri]}"},
    delete=lambda work: work.call("delete_repository", repositoryName=work.id,
                                  force=bool(work.p.get("EmptyOnDelete", False))),
)

# -- AWS Backup -----------------------------------------------------------------------------------


def _lock(work):
    if "LockConfiguration" in work.p:
        work.call("put_backup_vault_lock_configuration", BackupVaultName=work.id,
                  **work.api("put_backup_vault_lock_configuration", work.p["LockConfiguration"]))


KINDS["AWS::Backup::BackupVault"] = Kind(
    service="backup", create="create_backup_vault", id="{p[BackupVaultName]}",
    without=("LockConfiguration", "AccessPolicy", "Notifications"), then=_lock,
    attributes={"BackupVaultArn": "{answer[BackupVaultArn]}", "BackupVaultName": "{id}"},
    delete="delete_backup_vault", key={"BackupVaultName": "{id}"},
)


def _plan(work):
    plan = dict(work.p["BackupPlan"])
    rules = [{**{name: value for name, value in rule.items() if name != "TargetBackupVault"},
              "TargetBackupVaultName": rule["TargetBackupVault"]} for rule in plan.pop("BackupPlanRule")]
    plan = work.api("create_backup_plan", {**plan, "Rules": rules}, "BackupPlan")
    work.answer = work.call("create_backup_plan", BackupPlan=plan)
    work.resource.attributes |= {name: work.answer[name] for name in ("BackupPlanArn", "VersionId")}
    return work.answer["BackupPlanId"]


def _delete_plan(work):
    try:
        work.call("delete_backup_plan", BackupPlanId=work.id)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise


KINDS["AWS::Backup::BackupPlan"] = Kind(
    service="backup", create=_plan, delete=_delete_plan, attributes={"BackupPlanId": lambda work: work.id},
)
# Moto has no more of AWS Backup.
KINDS["AWS::Backup::BackupSelection"] = Kind(
    id="{random}", attributes={"SelectionId": "{id}", "BackupPlanId": "{p[BackupPlanId]}", "Id": "{id}"},
)
KINDS["AWS::Backup::RestoreTestingPlan"] = Kind(
    id="{p[RestoreTestingPlanName]}",
    attributes={"RestoreTestingPlanArn": "arn:aws:backup:{region}:{account}:restore-testing-plan:{id}-{random}"},
)
KINDS["AWS::Backup::RestoreTestingSelection"] = Kind(id="{p[RestoreTestingPlanName]}|{p[RestoreTestingSelectionName]}")
