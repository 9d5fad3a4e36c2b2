"""The stacks of an environment as a deploy would make them, without making anything.

vars/*.yml go through Ansible's own templating, the templates through the emulator's
evaluation. What only AWS can know, ids and ARNs, is made up in the shape that it has there.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import re

import templates
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from emulator import checks
from emulator.evaluation import Refused, Scope, as_text

load = functools.cache(templates.load)  # nobody changes what it gives

ANSIBLE = templates.ROOT / "devops" / "ansible"
ACCOUNT = "123456789012"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMAGE = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/birthday-demo@sha256:{'5' * 64}"
STORAGES = ("bolt", "postgres")

# What each team fills in.
FILLED_IN = {
    "account_id": ACCOUNT, "domain": "hello.example.com", "zone_id": "Z0123456789ABCDEFGHIJ",
    "mail": "team@example.com", "repository": "example/birthday-demo",
}
# What may be left empty, filled in as well.
ALL_FILLED_IN = {
    "webhook_url": "https://chat.example.com/hook", "access_logs": True, "connected": True,
    "sentry_secret_arn": f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:sentry-AbCdEf",
    "snapshot_arn": f"arn:aws:rds:eu-west-1:{ACCOUNT}:cluster-snapshot:awsbackup:job-1",
}


def environments():
    return sorted(path.stem for path in (ANSIBLE / "vars").glob("*.yml") if path.stem != "common")


# ---- The order of stacks -------------------------------------------------------------------


@functools.cache
def read(path):
    """A file of devops/ansible, as Ansible reads it."""
    return DataLoader().load_from_file(str(ANSIBLE / path), trusted_as_template=True)


def tasks(path, storage):
    """Every task that a playbook or a file of tasks leads to, in the order of their names."""
    for entry in read(path):
        for key in ("tasks", "block", "rescue", "always"):
            yield from _inner(entry.get(key, []), storage)
        if "tasks" not in entry:
            yield from _inner([entry], storage)


def _inner(listed, storage):
    for task in listed:
        yield task
        for key in ("block", "rescue", "always"):
            yield from _inner(task.get(key, []), storage)
        included = task.get("ansible.builtin.import_tasks") or task.get("ansible.builtin.include_tasks")
        if included:
            path = included["file"] if isinstance(included, dict) else included
            path = path.replace("{{ storage }}", storage)
            yield from _inner(read(path), storage)


def order(playbook, storage):
    """The stacks that a playbook brings up, as it comes to them first."""
    names = [task["vars"]["stack"].replace("{{ storage }}", storage) for task in tasks(playbook, storage)
             if "stack" in task.get("vars", {})]
    return list(dict.fromkeys(names))


# ---- Variables -----------------------------------------------------------------------------


def rendered(value, variables):
    """A value with its expressions evaluated, as the playbook has it."""
    return _plain(Templar(loader=DataLoader(), variables=variables).template(value))


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, str) else value


# ---- What AWS would answer -------------------------------------------------------------------

ARN = f"arn:aws:{{}}:{{region}}:{ACCOUNT}:{{}}".format  # service, resource
SHAPES = {
    "AWS::Backup::BackupVault BackupVaultArn": ("backup", "backup-vault:{name}"),
    "AWS::CertificateManager::Certificate Ref": ("acm", "certificate/{id}"),
    "AWS::CodeBuild::Project Arn": ("codebuild", "project/{name}"),
    "AWS::CodeConnections::Connection Ref": ("codeconnections", "connection/{uuid}"),
    "AWS::EC2::EIP AllocationId": "eipalloc-{id}",
    "AWS::EC2::InternetGateway Ref": "igw-{id}",
    "AWS::EC2::NatGateway Ref": "nat-{id}",
    "AWS::EC2::RouteTable Ref": "rtb-{id}",
    "AWS::EC2::SecurityGroup GroupId": "sg-{id}",
    "AWS::EC2::SecurityGroup Ref": "sg-{id}",
    "AWS::EC2::Subnet Ref": "subnet-{id}",
    "AWS::EC2::VPC Ipv6CidrBlocks": ["2001:db8:1200::/56"],
    "AWS::EC2::VPC Ref": "vpc-{id}",
    "AWS::ECR::Repository Arn": ("ecr", "repository/{name}"),
    "AWS::ECR::Repository RepositoryUri": ACCOUNT + ".dkr.ecr.{region}.amazonaws.com/{name}",
    "AWS::ECS::Cluster Arn": ("ecs", "cluster/{name}"),
    "AWS::ECS::Service Name": "{name}",
    "AWS::ECS::TaskDefinition Ref": ("ecs", "task-definition/{name}:1"),
    "AWS::EFS::AccessPoint Ref": "fsap-{id}",
    "AWS::EFS::FileSystem Arn": ("elasticfilesystem", "file-system/fs-{id}"),
    "AWS::EFS::FileSystem Ref": "fs-{id}",
    "AWS::ElasticLoadBalancingV2::Listener Ref": ("elasticloadbalancing", "listener/app/{short}/{id}/{id}"),
    "AWS::ElasticLoadBalancingV2::LoadBalancer CanonicalHostedZoneID": "Z32O12XQLNTSW2",
    "AWS::ElasticLoadBalancingV2::LoadBalancer DNSName": "{short}-1234567890.{region}.elb.amazonaws.com",
    "AWS::ElasticLoadBalancingV2::LoadBalancer LoadBalancerFullName": "app/{short}/{id}",
    "AWS::ElasticLoadBalancingV2::LoadBalancer Ref": ("elasticloadbalancing", "loadbalancer/app/{short}/{id}"),
    "AWS::ElasticLoadBalancingV2::TargetGroup Ref": ("elasticloadbalancing", "targetgroup/{short}/{id}"),
    "AWS::ElasticLoadBalancingV2::TargetGroup TargetGroupFullName": "targetgroup/{short}/{id}",
    "AWS::IAM::ManagedPolicy Ref": f"arn:aws:iam::{ACCOUNT}:policy{{path}}{{name}}",
    "AWS::IAM::Role Arn": f"arn:aws:iam::{ACCOUNT}:role{{path}}{{name}}",
    "AWS::KMS::Key Arn": ("kms", "key/{uuid}"),
    "AWS::KMS::Key Ref": "{uuid}",
    "AWS::Logs::LogGroup Arn": ("logs", "log-group:{name}:*"),
    "AWS::RDS::DBCluster DBClusterArn": ("rds", "cluster:{lower}"),
    "AWS::RDS::DBCluster Endpoint.Address": "{lower}.cluster-abc.{region}.rds.amazonaws.com",
    "AWS::RDS::DBCluster Endpoint.Port": "5432",
    "AWS::RDS::DBCluster MasterUserSecret.SecretArn": ("secretsmanager", "secret:rds!cluster-{uuid}-AbCdEf"),
    "AWS::RDS::DBCluster ReadEndpoint.Address": "{lower}.cluster-ro-abc.{region}.rds.amazonaws.com",
    "AWS::RDS::DBCluster Ref": "{lower}",
    "AWS::RDS::DBClusterParameterGroup Ref": "{lower}",
    "AWS::RDS::DBSubnetGroup Ref": "{lower}",
    "AWS::Route53::HealthCheck HealthCheckId": "{uuid}",
    "AWS::S3::Bucket Arn": "arn:aws:s3:::{lower}",
    "AWS::S3::Bucket Ref": "{lower}",
    "AWS::SNS::Topic Ref": ("sns", "{name}"),
    "AWS::SNS::Topic TopicName": "{name}",
    "AWS::SecretsManager::Secret Ref": ("secretsmanager", "secret:{name}-AbCdEf"),
    "AWS::WAFv2::WebACL Arn": ("wafv2", "regional/webacl/{name}/{uuid}"),
}
# A Ref of any other type gives its name.
NAMES = ("AlarmName", "BackupVaultName", "ClusterName", "DashboardName", "Family", "LogGroupName", "Name",
         "RepositoryName", "RestoreTestingPlanName", "TopicName")
# Parameters of AWS's own types must name what is there.
OWN_TYPES = {
    "AWS::EC2::VPC::Id": "vpc-[0-9a-f]{17}", "AWS::EC2::Subnet::Id": "subnet-[0-9a-f]{17}",
    "AWS::EC2::SecurityGroup::Id": "sg-[0-9a-f]{17}", "AWS::Route53::HostedZone::Id": "Z[0-9A-Z]{1,31}",
}


class Stack:
    """One stack: a template with its parameters, everything in it resolved."""

    def __init__(self, name, region, template, parameters):
        self.name, self.region, self.template, self.given = name, region, template, parameters
        listed = [{"ParameterKey": key, "ParameterValue": text(value)} for key, value in parameters.items()]
        self.parameters = checks.parameters(template, listed)
        for key, body in template.get("Parameters", {}).items():
            kind = body["Type"].removeprefix("List<").rstrip(">")
            for value in self.parameters[key].split(",") if kind in OWN_TYPES else []:
                if not re.fullmatch(OWN_TYPES[kind], value):
                    raise Refused(f"Parameter {key}: {value!r} is no {kind}")
        pseudo = {
            "AWS::AccountId": ACCOUNT, "AWS::Region": region, "AWS::Partition": "aws", "AWS::StackName": name,
            "AWS::StackId": f"arn:aws:cloudformation:{region}:{ACCOUNT}:stack/{name}/{self._uuid('')}",
            "AWS::URLSuffix": "amazonaws.com",
        }
        self.scope = Scope(template, checks.typed(template, self.parameters), pseudo, self.ref, self.attribute)
        self._resources = {}
        checks.check_rules(self.scope)

    def with_(self, template=None, region=None, **parameters):
        """The same stack, but for these."""
        return Stack(self.name, region or self.region, template or self.template, {**self.given, **parameters})

    def check(self):
        """Raises what CloudFormation would refuse before it makes anything."""
        checks.check_template(self.template, self.region)
        active = self.scope.order()
        for name, body in self.template.get("Outputs", {}).items():
            missing = self.scope.needs(body["Value"]) - set(active)
            if missing:
                raise Refused(f"Output {name} needs {', '.join(missing)}, which is not there")

    @functools.cached_property
    def outputs(self):
        return {name: as_text(self.scope.value(body["Value"])) for name, body in self.template.get("Outputs", {}).items()
                if "Condition" not in body or self.scope.condition(body["Condition"])}

    def resource(self, logical):
        """A resource with its properties resolved; None when a condition keeps it away, or it is not in the template."""
        if logical not in self._resources:
            body = self.template["Resources"].get(logical)
            there = body is not None and self.scope.active(logical)
            self._resources[logical] = {**body, "Properties": self.scope.value(body.get("Properties", {}))} if there else None
        return self._resources[logical]

    def part(self, logical):
        """The properties of a resource; none when it is not there."""
        return (self.resource(logical) or {}).get("Properties", {})

    def resources(self, *kinds):
        """Those of these types, or all, by logical id."""
        found = {logical: self.resource(logical) for logical, body in self.template["Resources"].items()
                 if not kinds or body["Type"] in kinds}
        return {logical: body for logical, body in found.items() if body}

    def ref(self, logical):
        return self.attribute(logical, "Ref")

    def attribute(self, logical, attribute):
        body = self.template["Resources"].get(logical)
        if body is None:
            raise Refused(f"Template format error: Unresolved resource dependencies [{logical}]")
        properties = body.get("Properties", {})
        own = next((self.scope.value(properties[key]) for key in NAMES if key in properties), None)
        digest = hashlib.sha256(f"{self.name} {logical}".encode()).hexdigest()
        name = own or f"{self.name}-{logical}-{digest[:12].upper()}"
        parts = {
            "region": self.region, "name": name, "lower": name.lower(), "short": name[:25].rstrip("-"),
            "id": digest[:17], "uuid": self._uuid(logical), "path": self.scope.value(properties.get("Path", "/")),
        }
        shape = SHAPES.get(f"{body['Type']} {attribute}", "{name}" if attribute == "Ref" else None)
        if shape is None:
            raise LookupError(f"SHAPES does not say what {attribute} of a {body['Type']} looks like")
        if isinstance(shape, list):
            return shape
        return (ARN(*shape, region="{region}") if isinstance(shape, tuple) else shape).format(**parts)

    def _uuid(self, logical):
        digest = hashlib.sha256(f"{self.name} {logical} uuid".encode()).hexdigest()
        return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


def text(value):
    """A parameter as the module passes it."""
    return ",".join(map(text, value)) if isinstance(value, list) else as_text(value)


class Deployment:
    """All stacks of an environment with one storage, each made of the outputs of those before it.

    `changed` replaces variables of vars/*.yml, like {"prod": {"zones": 2}}; `settings` are those that -e gives.
    """

    def __init__(self, env, storage, changed=None, **settings):
        self.env, self.storage = env, storage
        changed = changed or {}
        self.variables = {
            **read("vars/common.yml"), **changed.get("common", {}), **read(f"vars/{env}.yml"), **changed.get(env, {}), **FILLED_IN,
            "env": env, "storage": storage, "playbook_dir": str(ANSIBLE), "outputs": {}, "connected": False,
            # Set by the playbook once they are known.
            "service_version": COMMIT, "service_image": IMAGE, "migration_image": IMAGE if storage == "postgres" else "",
            **settings,
        }
        self.stacks = {}
        for key in order("birthday_demo_deploy.yml", storage):
            self._bring_up(key)
        if env == self.setting("pipeline_environments")[-1]:
            # By another playbook, which may count on no more than this one output.
            self.variables["outputs"] = {"account": self.stacks["account"].outputs}
            self._bring_up("pipeline")

    def _bring_up(self, key):
        listed = self.listed(key)
        entry = rendered({name: listed[name] for name in ("name", "template", "parameters")}, self.variables)
        region = rendered(listed.get("region", self.variables["region"]), self.variables)
        body = load(entry["template"].removesuffix(".yml"))
        self.stacks[key] = Stack(entry["name"], region, body, entry["parameters"])
        self.variables["outputs"] = {name: stack.outputs for name, stack in self.stacks.items()}

    def with_template(self, name, body):
        """The same deployment with another template of that name."""
        other = copy.copy(self)
        same = {key for key, listed in self.variables["stacks"].items() if listed["template"] == f"{name}.yml"}
        other.stacks = {key: stack.with_(body) if key in same else stack for key, stack in self.stacks.items()}
        return other

    def listed(self, key):
        """A stack's entry in the table of stacks, as it is written."""
        return self.variables["stacks"][key]

    def setting(self, name):
        """The value of a variable, as a playbook has it."""
        return rendered(self.variables[name], self.variables)

    def __getitem__(self, key):
        return self.stacks["data-" + self.storage if key == "data" else key]

    def __str__(self):
        return f"{self.env} with {self.storage}"
