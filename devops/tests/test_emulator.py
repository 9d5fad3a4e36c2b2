"""The emulator does what AWS does where the kit's other tests rely on it, and where moto does not."""

import hashlib
import json

import pytest
import templates
from botocore.exceptions import ClientError
from kit import Account

KEY_POLICY = """
        Version: 2012-10-17
        Statement:
          - {Effect: Allow, Principal: {AWS: !Sub "arn:aws:iam::${AWS::AccountId}:root"}, Action: kms:*, Resource: "*"}
"""
NETWORK = """
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  A:
    Type: AWS::EC2::Subnet
    Properties:
      VpcId: !Ref Vpc
      CidrBlock: !Select [0, !Cidr [!GetAtt Vpc.CidrBlock, 2, 8]]
      AvailabilityZone: !Select [0, !GetAZs ""]
  B:
    Type: AWS::EC2::Subnet
    Properties:
      VpcId: !Ref Vpc
      CidrBlock: !Select [1, !Cidr [!GetAtt Vpc.CidrBlock, 2, 8]]
      AvailabilityZone: !Select [1, !GetAZs ""]
  Group: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: tasks, VpcId: !Ref Vpc}}
Outputs:
  Vpc: {Value: !Ref Vpc}
  Subnets: {Value: !Join [",", [!Ref A, !Ref B]]}
  Group: {Value: !GetAtt Group.GroupId}
"""
SERVICE = """
Parameters:
  Image: {Type: String}
  Subnets: {Type: List<AWS::EC2::Subnet::Id>}
  Group: {Type: AWS::EC2::SecurityGroup::Id}
Resources:
  Cluster: {Type: AWS::ECS::Cluster, Properties: {ClusterName: !Ref AWS::StackName}}
  Logs: {Type: AWS::Logs::LogGroup, Properties: {RetentionInDays: 7}}
  Definition:
    Type: AWS::ECS::TaskDefinition
    Properties:
      Family: !Ref AWS::StackName
      RequiresCompatibilities: [FARGATE]
      NetworkMode: awsvpc
      Cpu: "256"
      Memory: "512"
      ContainerDefinitions:
        - Name: app
          Image: !Ref Image
          Command: [migrate, up]
          LogConfiguration:
            LogDriver: awslogs
            Options: {awslogs-group: !Ref Logs, awslogs-region: !Ref AWS::Region, awslogs-stream-prefix: app}
  Service:
    Type: AWS::ECS::Service
    Properties:
      Cluster: !Ref Cluster
      TaskDefinition: !Ref Definition
      LaunchType: FARGATE
      NetworkConfiguration: {AwsvpcConfiguration: {Subnets: !Ref Subnets, SecurityGroups: [!Ref Group]}}
  Scaling:
    Type: AWS::ApplicationAutoScaling::ScalableTarget
    Properties:
      ServiceNamespace: ecs
      ScalableDimension: ecs:service:DesiredCount
      ResourceId: !Sub service/${Cluster}/${Service.Name}
      MinCapacity: 2
      MaxCapacity: 4
Outputs:
  Service: {Value: !GetAtt Service.Name}
  Definition: {Value: !Ref Definition}
  Logs: {Value: !Ref Logs}
"""
TOPIC = """
Parameters:
  Name: {Type: String, AllowedPattern: "[a-z]+"}
  Size: {Type: String, Default: small, AllowedValues: [small, large]}
  Secret: {Type: String, Default: none, NoEcho: true}
Rules:
  LargeIsNamedSo:
    RuleCondition: !Equals [!Ref Size, large]
    Assertions:
      - Assert: !Not [!Equals [!Ref Name, small]]
        AssertDescription: what is large is not named small
Conditions:
  IsLarge: !Equals [!Ref Size, large]
Resources:
  Topic:
    Type: AWS::SNS::Topic
    Properties: {TopicName: !Ref Name, DisplayName: !If [IsLarge, much, !Ref AWS::NoValue]}
  More: {Type: AWS::SNS::Topic, Condition: IsLarge}
Outputs:
  Arn: {Value: !Ref Topic}
  More: {Condition: IsLarge, Value: !GetAtt More.TopicArn}
"""


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    account = Account(tmp_path_factory.mktemp("account"))
    yield account
    account.close()


@pytest.fixture(scope="module")
def cfn(account):
    return account.client("cloudformation")


def change_set(cfn, name, body, kind, tags=(), **parameters):
    made = cfn.create_change_set(
        StackName=name, ChangeSetName="change", ChangeSetType=kind, Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Tags=[{"Key": key, "Value": value} for key, value in dict(tags).items()],
        **({"TemplateBody": body} if body else {"UsePreviousTemplate": True}),
    )
    return cfn.describe_change_set(ChangeSetName=made["Id"])


def bring(cfn, name, body, kind="CREATE", **more):
    """Executes a change set; gives what it lists and what the stack is then."""
    found = change_set(cfn, name, body, kind, **more)
    cfn.execute_change_set(ChangeSetName=found["ChangeSetId"])
    stack = cfn.describe_stacks(StackName=found["StackId"])["Stacks"][0]
    stack["Outputs"] = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    return changes(found), stack


def changes(found):
    listed = [change["ResourceChange"] for change in found["Changes"]]
    return {each["LogicalResourceId"]: (each["Action"], each.get("Replacement")) for each in listed}


def failures(cfn, stack):
    return {event["LogicalResourceId"]: event.get("ResourceStatusReason", "")
            for event in cfn.describe_stack_events(StackName=stack)["StackEvents"]
            if event["ResourceStatus"].endswith("_FAILED")}


def refused(text):
    return pytest.raises(ClientError, match=text)


# -- templates and parameters -----------------------------------------------------------------------


def test_short_forms_become_long_ones():
    text = "A: !GetAtt B.C.D\nE: 2012-10-17\nF: !If [G, !Ref H, !Sub 'x']\nI: {Condition: J}"
    assert templates.parse(text) == {
        "A": {"Fn::GetAtt": ["B", "C.D"]}, "E": "2012-10-17",
        "F": {"Fn::If": ["G", {"Ref": "H"}, {"Fn::Sub": "x"}]}, "I": {"Condition": "J"},
    }


@pytest.mark.parametrize(("parameters", "reason"), [
    ({}, r"Parameters: \[Name\] must have values"),
    ({"Name": "a", "Colour": "red"}, r"Parameters: \[Colour\] do not exist in the template"),
    ({"Name": "A1"}, "Parameter 'Name' must match pattern"),
    ({"Name": "a", "Size": "middle"}, "Parameter 'Size' must be one of AllowedValues"),
    ({"Name": "small", "Size": "large"}, "what is large is not named small"),
])
def test_parameters_and_rules_are_checked_before_anything_is_made(cfn, parameters, reason):
    with refused(reason):
        change_set(cfn, "refused", TOPIC, "CREATE", **parameters)
    with refused("does not exist"):
        cfn.describe_stacks(StackName="refused")


@pytest.mark.parametrize(("resource", "reason"), [
    ("{Type: AWS::No::Such}", r"Unrecognized resource types: \[AWS::No::Such\]"),
    ("{Type: AWS::SNS::Topic, Properties: {TopicName: !Ref Nobody}}", r"Unresolved resource dependencies \[Nobody\]"),
    ("{Type: AWS::SNS::Topic, Properties: {TopicName: !GetAtt X.TopicName}}", r"Circular dependency .*\[X\]"),
    ("{Type: AWS::SNS::Topic, Properties: {TopicName: !GetAtt X.Colour}}", "does not support attribute type Colour"),
    ("{Type: AWS::IAM::Role, Properties: {RoleName: r, AssumeRolePolicyDocument: {}}}", "CAPABILITY_NAMED_IAM"),
    ("{Type: AWS::SNS::Topic, Condition: Nowhere}", "Unresolved condition dependency Nowhere"),
])
def test_templates_are_checked_before_anything_is_made(cfn, resource, reason):
    with refused(reason):
        change_set(cfn, "refused", f"Resources:\n  X: {resource}", "CREATE")


def test_parameters_of_aws_types_name_what_is_there(cfn):
    with refused("parameter value vpc-0123 for parameter name Vpc does not exist"):
        body = "Parameters: {Vpc: {Type: AWS::EC2::VPC::Id}}\nResources: {T: {Type: AWS::SNS::Topic}}"
        change_set(cfn, "refused", body, "CREATE", Vpc="vpc-0123")


def test_the_role_of_a_stack_is_there(cfn, account):
    body = "Resources: {T: {Type: AWS::SNS::Topic}}"
    with refused("role/nobody is invalid or cannot be assumed"):
        cfn.create_stack(StackName="role", TemplateBody=body, RoleARN="arn:aws:iam::123456789012:role/nobody")
    iam = account.client("iam")
    role = iam.create_role(RoleName="maker", Path="/x/", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    cfn.create_stack(StackName="role", TemplateBody=body, RoleARN=role)
    assert cfn.describe_stacks(StackName="role")["Stacks"][0]["RoleARN"] == role
    iam.delete_role(RoleName="maker")
    with refused("cannot be assumed"):
        cfn.delete_stack(StackName="role")


def test_a_type_that_the_emulator_lacks_fails_the_stack(cfn):
    _, stack = bring(cfn, "lacking", "Resources: {X: {Type: AWS::Bedrock::Agent, Properties: {AgentName: a}}}")
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert failures(cfn, "lacking") == {"X": "the emulator does not know AWS::Bedrock::Agent"}


def test_a_wrong_property_fails_the_stack(cfn):
    _, stack = bring(cfn, "wrong", "Resources: {X: {Type: AWS::SNS::Topic, Properties: {Colour: red}}}")
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "Colour" in failures(cfn, "wrong")["X"]


def test_functions(cfn):
    body = """
Parameters: {Names: {Type: CommaDelimitedList, Default: "a, b"}}
Conditions: {Holds: !And [!Equals [!Select [1, !Ref Names], b], !Not [!Equals [x, y]]]}
Mappings: {Map: {Key: {Value: found}}}
Resources:
  Six: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  Block: {Type: AWS::EC2::VPCCidrBlock, Properties: {VpcId: !Ref Six, AmazonProvidedIpv6CidrBlock: true}}
  Subnet:
    Type: AWS::EC2::Subnet
    DependsOn: Block
    Properties:
      VpcId: !Ref Six
      CidrBlock: !If [Holds, !Select [3, !Cidr [10.0.0.0/16, 4, 4]], 10.0.0.0/24]
      Ipv6CidrBlock: !Select [1, !Cidr [!Select [0, !GetAtt Six.Ipv6CidrBlocks], 2, 64]]
Outputs:
  Joined:
    Value: !Join
      - "-"
      - !Split ["/", !Sub ["${One}/${AWS::Region}/${!Literal}", {One: !FindInMap [Map, Key, Value]}]]
  Cidr: {Value: !GetAtt Subnet.CidrBlock}
"""
    _, stack = bring(cfn, "functions", body)
    assert stack["Outputs"] == {"Joined": "found-eu-west-1-${Literal}", "Cidr": "10.0.0.48/28"}


# -- stacks and change sets -------------------------------------------------------------------------


def test_a_stack_and_its_changes(cfn):
    listed, stack = bring(cfn, "topics", TOPIC, Name="first", Secret="hidden", tags={"App": "x"})
    assert listed == {"Topic": ("Add", None)}
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert stack["Outputs"] == {"Arn": "arn:aws:sns:eu-west-1:123456789012:first"}
    assert {"ParameterKey": "Secret", "ParameterValue": "****"} in stack["Parameters"]
    assert stack["Tags"] == [{"Key": "App", "Value": "x"}]
    assert cfn.get_template(StackName="topics", TemplateStage="Original")["TemplateBody"] == TOPIC
    assert cfn.list_change_sets(StackName="topics")["Summaries"] == []

    found = change_set(cfn, "topics", TOPIC, "UPDATE", Name="first", Secret="hidden", tags={"App": "x"})
    assert (found["Status"], found["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert "didn't contain changes" in found["StatusReason"]
    cfn.delete_change_set(ChangeSetName=found["ChangeSetId"])

    found = change_set(cfn, "topics", TOPIC, "UPDATE", Name="first", Secret="hidden", tags={"App": "y"})
    assert found["Changes"][0]["ResourceChange"]["Scope"] == ["Tags"], "tags of the stack reach every resource"
    cfn.delete_change_set(ChangeSetName=found["ChangeSetId"])

    more = {"Secret": "hidden", "tags": {"App": "x"}}
    listed, stack = bring(cfn, "topics", TOPIC, "UPDATE", Name="second", Size="large", **more)
    assert listed == {"Topic": ("Modify", "True"), "More": ("Add", None)}
    assert stack["StackStatus"] == "UPDATE_COMPLETE"
    assert stack["Outputs"]["Arn"].endswith(":second")
    assert ":topics-More-" in stack["Outputs"]["More"]

    listed, stack = bring(cfn, "topics", None, "UPDATE", Name="second", Size="small", **more)
    assert listed == {"Topic": ("Modify", "False"), "More": ("Remove", None)}
    assert list(stack["Outputs"]) == ["Arn"]


def test_what_is_replaced_reaches_those_who_name_it(cfn):
    body = """
Parameters: {Text: {Type: String}, Policy: {Type: String}}
Resources:
  Key:
    Type: AWS::KMS::Key
    Properties:
      Description: !Ref Text
      KeyPolicy: %s
  Secret: {Type: AWS::SecretsManager::Secret, Properties: {Name: !Ref Policy}}
  Rule:
    Type: AWS::SecretsManager::ResourcePolicy
    Properties: {SecretId: !Ref Secret, ResourcePolicy: {Version: 2012-10-17, Statement: []}}
  Alias: {Type: AWS::KMS::Alias, Properties: {AliasName: alias/a, TargetKeyId: !GetAtt Key.Arn}}
""" % KEY_POLICY
    bring(cfn, "names", body, Text="a", Policy="a")
    found = change_set(cfn, "names", body, "UPDATE", Text="b", Policy="b")
    # An attribute of what is changed in place may change too, as far as CloudFormation knows.
    assert changes(found) == {"Key": ("Modify", "False"), "Alias": ("Modify", "False"),
                              "Secret": ("Modify", "True"), "Rule": ("Modify", "True")}
    evaluation = {change["ResourceChange"]["LogicalResourceId"]: change["ResourceChange"]["Details"][0]["Evaluation"]
                  for change in found["Changes"]}
    assert evaluation["Alias"] == "Dynamic"


def test_a_failed_creation_is_rolled_back(cfn, account):
    account.control(fail_resource="B")
    body = """
Resources:
  A: {Type: AWS::SNS::Topic, Properties: {TopicName: gone}}
  Kept: {Type: AWS::SNS::Topic, DeletionPolicy: RetainExceptOnCreate, Properties: {TopicName: gone-too}}
  B: {Type: AWS::SNS::Topic, DependsOn: [A, Kept]}
"""
    _, stack = bring(cfn, "fails", body)
    account.control()
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "B is to fail" in failures(cfn, "fails")["B"]
    topics = [topic["TopicArn"] for topic in account.client("sns").list_topics()["Topics"]]
    assert not [topic for topic in topics if ":gone" in topic]
    with refused("ROLLBACK_COMPLETE state and can not be updated"):
        change_set(cfn, "fails", body, "UPDATE")
    with refused("already exists"):
        change_set(cfn, "fails", body, "CREATE")


def test_a_failed_update_puts_back_what_was(cfn, account):
    body = """
Parameters: {Text: {Type: String}}
Resources:
  A: {Type: AWS::SNS::Topic, Properties: {DisplayName: !Ref Text}}
  B: {Type: AWS::SNS::Topic, DependsOn: A, Properties: {DisplayName: !Ref Text}}
Outputs: {Text: {Value: !Ref Text}, A: {Value: !Ref A}}
"""
    _, before = bring(cfn, "updated", body, Text="old")
    account.control(fail_resource="B")
    _, after = bring(cfn, "updated", body, "UPDATE", Text="new")
    account.control()
    assert after["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert (after["Outputs"], after["Parameters"]) == (before["Outputs"], before["Parameters"])
    topic = account.client("sns").get_topic_attributes(TopicArn=before["Outputs"]["A"])
    assert topic["Attributes"]["DisplayName"] == "old"


def test_protection_and_what_stays(cfn, account):
    body = """
Resources:
  Kept: {Type: AWS::SNS::Topic, DeletionPolicy: Retain, Properties: {TopicName: kept}}
  Gone: {Type: AWS::SNS::Topic, Properties: {TopicName: went}}
"""
    _, stack = bring(cfn, "protected", body)
    cfn.update_termination_protection(StackName="protected", EnableTerminationProtection=True)
    with refused("TerminationProtection is enabled"):
        cfn.delete_stack(StackName="protected")
    cfn.update_termination_protection(StackName="protected", EnableTerminationProtection=False)
    cfn.delete_stack(StackName="protected")
    with refused("Stack with id protected does not exist"):
        cfn.describe_stacks(StackName="protected")
    assert cfn.describe_stacks(StackName=stack["StackId"])["Stacks"][0]["StackStatus"] == "DELETE_COMPLETE"
    deleted = cfn.list_stacks(StackStatusFilter=["DELETE_COMPLETE"])["StackSummaries"]
    assert "protected" in [each["StackName"] for each in deleted]
    topics = " ".join(topic["TopicArn"] for topic in account.client("sns").list_topics()["Topics"])
    assert ":kept" in topics
    assert ":went" not in topics


def test_a_full_bucket_cannot_be_deleted(cfn, account):
    bring(cfn, "bucket", "Resources: {Bucket: {Type: AWS::S3::Bucket, Properties: {BucketName: a-full-bucket}}}")
    account.client("s3").put_object(Bucket="a-full-bucket", Key="a", Body=b"a")
    cfn.delete_stack(StackName="bucket")
    assert cfn.describe_stacks(StackName="bucket")["Stacks"][0]["StackStatus"] == "DELETE_FAILED"
    assert "not empty" in failures(cfn, "bucket")["Bucket"]


def test_a_database_leaves_a_snapshot(cfn, account):
    body = """
Resources:
  Cluster:
    Type: AWS::RDS::DBCluster
    Properties:
      Engine: aurora-postgresql
      EngineVersion: "16.11"
      MasterUsername: master
      ManageMasterUserPassword: true
      DeletionProtection: "%s"
Outputs:
  Id: {Value: !Ref Cluster}
  Secret: {Value: !GetAtt Cluster.MasterUserSecret.SecretArn}
"""
    _, stack = bring(cfn, "database", body % "true")
    secret = account.client("secretsmanager").get_secret_value(SecretId=stack["Outputs"]["Secret"])
    assert "password" in json.loads(secret["SecretString"])
    cfn.delete_stack(StackName="database")
    assert cfn.describe_stacks(StackName="database")["Stacks"][0]["StackStatus"] == "DELETE_FAILED"

    _, stack = bring(cfn, "second", body % "false")
    cfn.delete_stack(StackName="second")
    rds = account.client("rds")
    made = rds.describe_db_cluster_snapshots(DBClusterIdentifier=stack["Outputs"]["Id"], SnapshotType="manual")
    assert [snapshot["Status"] for snapshot in made["DBClusterSnapshots"]] == ["available"]


# -- ECS --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(cfn):
    return bring(cfn, "network", NETWORK)[1]["Outputs"]


def deploy(cfn, network, image, kind="UPDATE"):
    return bring(cfn, "service", SERVICE, kind, Image=image, Subnets=network["Subnets"], Group=network["Group"])


def running(account, outputs):
    """How the service is, and what its tasks run."""
    ecs = account.client("ecs")
    service = ecs.describe_services(cluster="service", services=[outputs["Service"]])["services"][0]
    arns = ecs.list_tasks(cluster="service", serviceName=outputs["Service"])["taskArns"]
    tasks = ecs.describe_tasks(cluster="service", tasks=arns)["tasks"]
    assert [task["lastStatus"] for task in tasks] == ["RUNNING"] * service["desiredCount"]
    assert service["runningCount"] == service["desiredCount"] == 2, "the scalable target's minimum"
    return service["deployments"][0]["rolloutState"], {task["containers"][0]["image"] for task in tasks}


def test_deployments(cfn, account, network):
    _, stack = deploy(cfn, network, "app@sha256:one", "CREATE")
    assert running(account, stack["Outputs"]) == ("COMPLETED", {"app@sha256:one"})

    listed, stack = deploy(cfn, network, "app@sha256:two")
    assert listed["Definition"] == ("Modify", "True")
    assert listed["Service"] == ("Modify", "False")
    assert stack["Outputs"]["Definition"].endswith(":2")
    assert running(account, stack["Outputs"]) == ("COMPLETED", {"app@sha256:two"})

    account.control(rollout="FAILED")
    _, stack = deploy(cfn, network, "app@sha256:three")
    assert running(account, stack["Outputs"]) == ("FAILED", {"app@sha256:two"})
    _, stack = deploy(cfn, network, "app@sha256:two")
    assert running(account, stack["Outputs"]) == ("COMPLETED", {"app@sha256:two"}), "back to what runs"

    account.control(running_definition="old")
    _, stack = deploy(cfn, network, "app@sha256:three")
    assert running(account, stack["Outputs"]) == ("COMPLETED", {"app@sha256:two"})

    account.control(fail_resource="Service")
    _, stack = deploy(cfn, network, "app@sha256:four")
    account.control()
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"


def test_a_task_that_is_run_once(cfn, account, network):
    outputs = {output["OutputKey"]: output["OutputValue"]
               for output in cfn.describe_stacks(StackName="service")["Stacks"][0]["Outputs"]}
    account.control(migration_exit_code=6)
    ecs = account.client("ecs")
    where = {"awsvpcConfiguration": {"subnets": network["Subnets"].split(","), "securityGroups": [network["Group"]]}}
    task = ecs.run_task(cluster="service", taskDefinition=outputs["Definition"], launchType="FARGATE",
                        networkConfiguration=where)["tasks"][0]
    account.control()
    ended = ecs.describe_tasks(cluster="service", tasks=[task["taskArn"]])["tasks"][0]
    assert (ended["lastStatus"], ended["containers"][0]["exitCode"]) == ("STOPPED", 6)
    log = account.client("logs").get_log_events(logGroupName=outputs["Logs"],
                                                logStreamName="app/app/" + task["taskArn"].rsplit("/", 1)[1])
    assert [event["message"] for event in log["events"]] == ["migrate up: failed (6)"]


# -- other services ---------------------------------------------------------------------------------


def test_composite_alarms_follow_their_rule(cfn, account):
    body = """
Resources:
  One:
    Type: AWS::CloudWatch::Alarm
    Properties: {AlarmName: x-one, Namespace: n, MetricName: m, Statistic: Sum, Period: 60, EvaluationPeriods: 1,
      ComparisonOperator: LessThanThreshold, Threshold: 1}
  Both:
    Type: AWS::CloudWatch::CompositeAlarm
    Properties: {AlarmName: x-both, AlarmRule: !Sub 'ALARM("${One}") AND NOT FALSE'}
"""
    bring(cfn, "alarms", body)
    cloudwatch = account.client("cloudwatch")

    def ringing(**filters):
        found = cloudwatch.describe_alarms(StateValue="ALARM", **filters)
        return [alarm["AlarmName"] for alarm in found["MetricAlarms"] + found["CompositeAlarms"]]

    everything = {"AlarmTypes": ["MetricAlarm", "CompositeAlarm"]}
    assert ringing(AlarmNamePrefix="x-", **everything) == []
    cloudwatch.set_alarm_state(AlarmName="x-one", StateValue="ALARM", StateReason="test")
    assert ringing(AlarmNamePrefix="x-", **everything) == ["x-one", "x-both"]
    assert ringing(AlarmNamePrefix="x-") == ["x-one"], "composite ones only when they are asked for"
    assert ringing(AlarmNamePrefix="y-", **everything) == []


def test_certificates_are_issued_and_balancers_protected(cfn, account, network):
    body = """
Parameters: {Subnets: {Type: List<AWS::EC2::Subnet::Id>}}
Resources:
  Certificate:
    Type: AWS::CertificateManager::Certificate
    Properties: {DomainName: hello.example.com, ValidationMethod: DNS}
  Balancer:
    Type: AWS::ElasticLoadBalancingV2::LoadBalancer
    Properties: {Subnets: !Ref Subnets, LoadBalancerAttributes: [{Key: deletion_protection.enabled, Value: "true"}]}
Outputs: {Certificate: {Value: !Ref Certificate}}
"""
    _, stack = bring(cfn, "balancer", body, Subnets=network["Subnets"])
    found = account.client("acm").describe_certificate(CertificateArn=stack["Outputs"]["Certificate"])
    assert found["Certificate"]["Status"] == "ISSUED"
    cfn.delete_stack(StackName="balancer")
    assert "deletion protection is enabled" in failures(cfn, "balancer")["Balancer"]


def test_a_lock_is_taken_once(account):
    ssm = account.client("ssm")
    ssm.put_parameter(Name="/lock", Value="me", Type="String", Overwrite=False)
    with refused("ParameterAlreadyExists"):
        ssm.put_parameter(Name="/lock", Value="you", Type="String", Overwrite=False)


def test_images_are_known_by_the_digest_of_their_manifest(cfn, account):
    body = """
Resources:
  Repository: {Type: AWS::ECR::Repository, Properties: {RepositoryName: images, ImageTagMutability: IMMUTABLE}}
Outputs: {Uri: {Value: !GetAtt Repository.RepositoryUri}}
"""
    _, stack = bring(cfn, "images", body)
    assert stack["Outputs"]["Uri"] == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/images"
    ecr = account.client("ecr")
    for tag in ("one", "two"):
        manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                               "config": {"digest": tag}, "layers": []})
        ecr.put_image(repositoryName="images", imageTag=tag, imageManifest=manifest)
        found = ecr.describe_images(repositoryName="images", imageIds=[{"imageTag": tag}])["imageDetails"]
        assert found[0]["imageDigest"] == "sha256:" + hashlib.sha256(manifest.encode()).hexdigest()
    with refused("AlreadyExistsException"):
        ecr.put_image(repositoryName="images", imageTag="one", imageManifest=manifest.replace("two", "three"))
    cfn.delete_stack(StackName="images")
    assert "RepositoryNotEmptyException" in failures(cfn, "images")["Repository"]


def test_backups_can_be_restored(cfn, account):
    body = """
Resources:
  Vault: {Type: AWS::Backup::BackupVault, Properties: {BackupVaultName: vault}}
  Files: {Type: AWS::EFS::FileSystem}
  Role: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: {Version: 2012-10-17, Statement: []}}}
Outputs: {Files: {Value: !GetAtt Files.Arn}, Role: {Value: !GetAtt Role.Arn}}
"""
    _, stack = bring(cfn, "backup", body)
    backup = account.client("backup")
    point = backup.list_recovery_points_by_backup_vault(
        BackupVaultName="vault", ByResourceArn=stack["Outputs"]["Files"])["RecoveryPoints"][0]
    job = backup.start_restore_job(RecoveryPointArn=point["RecoveryPointArn"], IamRoleArn=stack["Outputs"]["Role"],
                                   ResourceType="EFS", Metadata={"newFileSystem": "true"})
    restored = backup.describe_restore_job(RestoreJobId=job["RestoreJobId"])
    assert restored["Status"] == "COMPLETED"
    account.client("efs").delete_file_system(FileSystemId=restored["CreatedResourceArn"].rsplit("/", 1)[1])


def test_the_account_and_the_zone(account):
    sts = account.client("sts")
    assert sts.get_caller_identity()["Account"] == "123456789012"
    account.control(account="210987654321")
    assert sts.get_caller_identity()["Account"] == "210987654321"
    account.control()
    assert account.client("route53").get_hosted_zone(Id=account.zone)["HostedZone"]["Name"] == "example.com."


# -- the record -------------------------------------------------------------------------------------


def test_calls_are_recorded(account):
    account.client("s3").list_buckets()
    account.client("cloudwatch").describe_alarms(AlarmNamePrefix="none")
    account.client("efs", "eu-central-1").describe_file_systems(MaxItems=7)
    with refused("ResourceNotFoundException"):
        account.client("secretsmanager").get_secret_value(SecretId="none")
    calls = [json.loads(line) for line in account.calls_file.read_text().splitlines()][-4:]
    assert [(call["service"], call["operation"], call["action"], call["status"]) for call in calls] == [
        ("s3", "ListBuckets", "s3:ListAllMyBuckets", 200),
        ("cloudwatch", "DescribeAlarms", "cloudwatch:DescribeAlarms", 200),
        ("efs", "DescribeFileSystems", "elasticfilesystem:DescribeFileSystems", 200),
        ("secretsmanager", "GetSecretValue", "secretsmanager:GetSecretValue", 404),
    ]
    assert {call["principal"] for call in calls} == {"looks-on"}
    assert calls[2]["region"] == "eu-central-1"
    assert calls[2]["arguments"] == {"MaxItems": 7}
    assert not any(call["internal"] for call in calls)


def test_calls_of_stacks_are_told_apart(account):
    calls = [json.loads(line) for line in account.calls_file.read_text().splitlines()]
    made = [call for call in calls if call["operation"] == "CreateTopic"]
    assert made
    assert all(call["internal"] and call["principal"] == "EMULATORSOWNCALLSKEY" for call in made)
