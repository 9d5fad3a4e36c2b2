"""The 25 details: the kit gets each of them right, and whatever breaks one of them is noticed."""

import copy

import details
import pytest
import wiring
from details import mutation
from details.rule import entry
from emulator.evaluation import Refused

RULES = [details.RULES[number] for number in sorted(details.RULES)]


@pytest.fixture(scope="module")
def kit():
    return details.Kit()


def test_there_are_25():
    assert sorted(details.RULES) == list(range(1, 26))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_kit_gets_it_right(kit, rule):
    assert rule.faults(kit) == []


# ---- Breaking one at a time --------------------------------------------------------------------


class Break:
    """A change for the worse, that the rule of this number has to notice."""

    def __init__(self, number, what):
        self.number, self.what = number, what

    def __str__(self):
        return f"{self.number:02} {self.what}"


class In(Break):
    """In a template: a property becomes another one, or is taken away."""

    def __init__(self, number, name, path, value=mutation.NOTHING):
        super().__init__(number, f"{name} {path}" + ("" if value is mutation.NOTHING else f"={value}"))
        self.name, self.path, self.value = name, path, value

    def apply(self, kit):
        body = copy.deepcopy(wiring.load(self.name))
        logical, *steps = self.path.split("/")
        node, last = body["Resources"][logical], steps.pop()
        if steps or last not in ("DeletionPolicy", "UpdateReplacePolicy", "Condition"):
            node = node["Properties"]
        for step in steps:
            node = entry(node, step) if isinstance(node, list) else node[step]
        if isinstance(node, list):
            last = node.index(entry(node, last))
        if self.value is mutation.NOTHING:
            del node[last]
        else:
            node[last] = self.value
        return kit.with_template(self.name, body)


class Set(Break):
    """In vars/<env>.yml."""

    def __init__(self, number, env, **settings):
        super().__init__(number, f"{env} {settings}")
        self.env, self.settings = env, settings

    def apply(self, kit):
        return kit.with_settings(self.env, **self.settings)


class Text(Break):
    """In another file."""

    def __init__(self, number, path, old, new=""):
        super().__init__(number, f"{path} {old!r}")
        self.path, self.old, self.new = path, old, new

    def apply(self, kit):
        assert self.old in kit.text(self.path)
        return kit.with_text(self.path, kit.text(self.path).replace(self.old, self.new))


APP = "birthday-demo"
CONTAINER = "TaskDefinition/ContainerDefinitions/0"
FIRST, LAST = wiring.read("vars/common.yml")["pipeline_environments"]
BREAKS = [
    In(1, APP, f"{CONTAINER}/Environment/BIRTHDAY_DRAIN_DELAY/Value", "0s"),
    Text(1, "app/serve.go", "public.Drain(ctx, s.DrainDelay)", "public.Shutdown(ctx)"),
    Text(1, "app/serve.go", "turn readiness red", "leave readiness green"),
    Text(1, "devops/Dockerfile", "STOPSIGNAL SIGTERM", "STOPSIGNAL SIGKILL"),
    In(2, APP, "TargetGroup/TargetGroupAttributes/deregistration_delay.timeout_seconds"),
    In(2, APP, f"{CONTAINER}/StopTimeout", 25),
    In(2, APP, f"{CONTAINER}/Environment/BIRTHDAY_SHUTDOWN_TIMEOUT/Value", "40s"),
    Text(2, "app/serve.go", "WriteTimeout:   10", "WriteTimeout:   30"),
    In(3, "platform", "LoadBalancer/LoadBalancerAttributes/idle_timeout.timeout_seconds/Value", "120"),
    Text(3, "app/serve.go", "IdleTimeout:    75", "IdleTimeout:    30"),
    In(4, APP, "TargetGroup/Matcher/HttpCode", "200-499"),
    In(4, APP, "TargetGroup/HealthCheckPath", "/readyz"),
    In(4, APP, "TargetGroup/HealthCheckPort", "traffic-port"),
    In(4, APP, "TaskSecurityGroup/SecurityGroupIngress/1/CidrIp", "0.0.0.0/0"),
    Text(4, "app/admin/admin.go", 'return say(w, "ok")', "return getReady(w)"),
    In(5, APP, "Service/HealthCheckGracePeriodSeconds"),
    In(6, APP, "Service/DeploymentConfiguration/MinimumHealthyPercent", 50),
    In(6, APP, "Service/DeploymentConfiguration/MaximumPercent", 200),
    In(7, APP, "ScalableTarget/Condition", "HasImage"),
    In(7, APP, "Service/DeploymentConfiguration/Strategy", "BLUE_GREEN"),
    In(7, "data-bolt", "FileSystem/LifecyclePolicies", [{"TransitionToIA": "AFTER_7_DAYS"}]),
    In(7, "data-bolt", "FileSystem/FileSystemPolicy"),
    In(7, "data-bolt", "FileSystem/Encrypted", False),
    Set(7, FIRST, max_tasks=2),
    Text(7, "app/store/bolt/bolt.go", "lockTimeout = 5 * time.Second", "lockTimeout = 0 * time.Second"),
    In(8, "backup", "Selection/BackupSelection/Resources", []),
    Text(8, "app/store/bolt/copy.go", "tx.WriteTo(w)", "io.Copy(w, file)"),
    In(9, APP, "Service/DeploymentConfiguration/DeploymentCircuitBreaker"),
    In(9, APP, "Service/DeploymentConfiguration/DeploymentCircuitBreaker/Rollback", False),
    In(10, APP, "Service/DeploymentConfiguration/Alarms"),
    In(10, APP, "ErrorsAlarm/Metrics/ratio/Expression", "100 * errors / answers"),
    In(10, APP, "LatencyAlarm/TreatMissingData", "breaching"),
    In(11, APP, "Service/DesiredCount", 2),
    In(11, APP, "Service/ServiceName", "birthday-demo"),
    In(11, APP, "ScalableTarget/MinCapacity", 1),
    Set(11, LAST, min_tasks=1),
    In(12, "account", "Repository/ImageTagMutability", "MUTABLE"),
    In(12, APP, f"{CONTAINER}/DockerLabels"),
    In(13, "platform", "LoadBalancer/LoadBalancerAttributes/routing.http.drop_invalid_header_fields.enabled"),
    In(13, "platform", "HttpsListener/SslPolicy"),
    In(13, "platform", "FirewallAssociation/ResourceArn", "other"),
    Set(13, LAST, requests_per_client=100),
    In(14, "platform", "AddressV6/AliasTarget/EvaluateTargetHealth", False),
    In(14, "platform", "LoadBalancer/IpAddressType", "ipv4"),
    In(15, APP, f"{CONTAINER}/LogConfiguration/Options/mode"),
    In(15, APP, "MigrationTaskDefinition/ContainerDefinitions/0/LogConfiguration/Options/max-buffer-size"),
    In(16, "network", "FlowLogGroup/RetentionInDays"),
    In(16, "data-postgres", "LogGroup/KmsKeyId"),
    In(16, "network", "Key/KeyPolicy/Statement/Logs/Condition"),
    In(17, APP, f"{CONTAINER}/ReadonlyRootFilesystem", False),
    In(17, APP, f"{CONTAINER}/User", "0:0"),
    In(17, APP, f"{CONTAINER}/Privileged", True),
    In(17, APP, "Service/EnableExecuteCommand", True),
    Text(17, "devops/Dockerfile", "USER 65532:65532", "USER 0:0"),
    In(18, APP, "MigrationTaskDefinition/ContainerDefinitions/0/Secrets/PGUSER/ValueFrom", {"Ref": "AppSecretArn"}),
    In(18, APP, f"{CONTAINER}/Environment/0", {"Name": "PGPASSWORD", "Value": "secret"}),
    In(18, "data-postgres", "ClusterParameters/Parameters/rds.force_ssl", "0"),
    In(18, "data-postgres", "Cluster/ManageMasterUserPassword"),
    In(19, "data-postgres", "Reader/AvailabilityZone", {"Fn::Select": [0, {"Fn::GetAZs": ""}]}),
    In(19, "data-postgres", "Reader/PromotionTier", 15),
    Set(19, LAST, readers=0),
    Set(19, LAST, max_tasks=50),
    Set(19, FIRST, min_capacity=0.5, auto_pause_seconds=0),
    In(20, "data-postgres", "Cluster/UpdateReplacePolicy"),
    In(20, "data-bolt", "FileSystem/DeletionPolicy", "Delete"),
    Set(20, LAST, protected=False),
    Set(20, LAST, keep_days=7),
    Text(20, "devops/ansible/library/cfn_stack.py", '("Retain", "Snapshot", "RetainExceptOnCreate")', '("Retain",)'),
    In(21, "network", "S3Endpoint/VpcEndpointType", "Interface"),
    In(21, "network", "DataSubnet1Routes/RouteTableId", {"Ref": "PublicRouteTable"}),
    Set(21, LAST, nat="single"),
    In(22, APP, "TaskDefinition/RuntimePlatform"),
    In(22, APP, "Service/PlatformVersion", "1.3.0"),
    Text(22, "devops/tools/image.sh", "linux/arm64,"),
    In(23, APP, "TaskDefinition/TaskRoleArn", {"Fn::GetAtt": ["ExecutionRole", "Arn"]}),
    In(23, APP, "TaskRole/PermissionsBoundary"),
    In(23, APP, "ExecutionRole/Policies/0/PolicyDocument/Statement/3/Resource", "*"),
    In(23, APP, "ExecutionRole/Policies/0/PolicyDocument/Statement/3/Resource", {"Ref": "MasterSecretArn"}),
    In(23, APP, "TaskSecurityGroup/SecurityGroupEgress"),
    In(23, "account", "DeployService/PolicyDocument/Statement/PassRoles/Resource", "*"),
    In(23, "account", "StacksIdentity/PolicyDocument/Statement/RolesWithinTheBoundary/Condition"),
    In(24, "monitoring", "BurnFastLong/Threshold", 1),
    In(24, "monitoring", "BurnSlowShort/TreatMissingData"),
    In(24, "monitoring", "PageAlarm/AlarmRule", 'ALARM("other")'),
    In(24, "monitoring", "CpuAlarm/OKActions"),
    In(24, "monitoring", "FilesAlarm/AlarmDescription", "Too much"),
    In(24, "pipeline", "Notifications/EventTypeIds", []),
    Text(24, "docs/operations.md", "### page-latency", "### latency"),
    In(25, "backup", "Plan/BackupPlan/BackupPlanRule/nightly/CopyActions"),
    In(25, "backup", "Vault/LockConfiguration"),
    In(25, "backup", "RestoreTest/ScheduleExpression", "cron(0 8 1 * ? *)"),
    Set(25, LAST, lock_days=0),
    Text(25, "docs/operations.md", "RTO"),
]


def test_each_detail_is_broken():
    assert {each.number for each in BREAKS} == set(details.RULES)


def notices(rule, kit, change):
    """Whether a rule has a fault to tell, or nothing could be made of it at all."""
    try:
        return rule.notices(change(kit))
    except Refused:
        return True


@pytest.mark.parametrize("broken", BREAKS, ids=str)
def test_what_breaks_it_is_noticed(kit, broken):
    assert notices(details.RULES[broken.number], kit, broken.apply)


# ---- Breaking everything -----------------------------------------------------------------------


def is_noticed(rule, kit, name, body):
    """By the rule that it is about, or by another one, or since the template no longer holds together."""
    if any(notices(each, kit, lambda kit: kit.with_template(name, body)) for each in (rule, *RULES)):
        return True
    try:
        for each in kit.with_template(name, body).deployments:
            for stack in each.stacks.values():
                if stack.template is body:
                    stack.check()
    except Refused:
        return True
    return False


def test_whatever_is_taken_away_or_weakened_is_noticed(kit):
    total, survivors = 0, []
    for rule in RULES:
        for what, name, body in mutation.mutants(rule):
            total += 1
            if not is_noticed(rule, kit, name, body):
                survivors.append(f"{rule.number:02} {what}")
    print(f"{total} changes, {len(survivors)} not noticed", *survivors, sep="\n")
    assert total >= 1000
    assert len(survivors) <= 0.01 * total, survivors
