"""What the templates' policies allow, and whether the playbooks get by with it."""

from __future__ import annotations

import fnmatch
import functools
import re

import templates
import wiring
from cfnlint.data import AdditionalSpecs
from cfnlint.helpers import load_resource

ACCOUNT = wiring.ACCOUNT
EVERYTHING = re.compile(r"\*|[\w-]+:\*|\*:\*")
READING = re.compile(r"[\w-]+:(Describe|Get|List)\w*\*")


@functools.cache
def actions():
    """Every action that IAM knows, in small letters, with the types of resources that it can be limited to."""
    services = load_resource(AdditionalSpecs, "Policies.json")
    return {f"{service}:{name}": body.get("Resources", []) for service, known in services.items()
            for name, body in known["Actions"].items()}


def listed(value):
    return value if isinstance(value, list) else [value]


# ---- The policies of a template ----------------------------------------------------------------


class Statement:
    """A statement of a policy, as it is written."""

    def __init__(self, template, path, body):
        self.template, self.path, self.body = template, path, body
        self.logical = path[1]

    def __str__(self):
        return f"{self.template} {self.logical} {self.body.get('Sid') or '/'.join(self.actions)}"

    @property
    def actions(self):
        return listed(self.body.get("Action", []))

    @property
    def allows(self):
        return self.body.get("Effect") == "Allow"

    @property
    def resources(self):
        return listed(self.body.get("Resource", []))

    @property
    def conditions(self):
        """Keys of conditions, in small letters."""
        return {key.lower() for keys in self.body.get("Condition", {}).values() for key in keys}

    @property
    def services(self):
        principal = self.body.get("Principal", {})
        return listed(principal.get("Service", [])) if isinstance(principal, dict) else []

    @property
    def trusts(self):
        """It says who may take a role."""
        return "AssumeRolePolicyDocument" in self.path

    @property
    def of_a_resource(self):
        """It stands at what it is about, as the policy of a key or a bucket does."""
        return not self.trusts and ("Principal" in self.body or "NotPrincipal" in self.body)


def statements(name, template):
    for path, value in templates.walk(template["Resources"], ("Resources",)):
        if isinstance(value, dict) and "Effect" in value:
            yield Statement(name, path, value)


# ---- What no policy may have -------------------------------------------------------------------

# Statements of roles for all resources, although an action could be limited, and why.
FOR_ALL = {
    "account Look": "reads; composite alarms are shown to those only who may see all",
    "account Make": "limited by the tag App of the request: what is made has no name yet",
    "account ChangeAndRemove": "limited by the tag App of the resource: its names are AWS's",
    "account ListTasks": "limited by the cluster: tasks on Fargate have no other name",
    "account WithoutResources": "reads, and what has no resources or those of AWS",
    "pipeline cloudwatch:DescribeAlarms": "reads; composite alarms are shown to those only who may see all",
}
# Services that come without a word of whom they come for, and why that has to do.
UNCONDITIONAL = {
    "network Events": "EventBridge tells a key no source",
    "monitoring sns:Publish": "EventBridge tells a topic no source",
    "platform s3:PutObject": "the path that it may write to holds the account",
}
# Who may come from anywhere, and why.
ANYBODY = {"network LayersOfImages": "the endpoint of the network, and the bucket is AWS's"}


def faults(name, template):
    """What is too wide in a template's policies."""
    for statement in statements(name, template):
        for fault in _faults(statement):
            yield f"{statement}: {fault}"
    for logical, body in template["Resources"].items():
        if body["Type"] != "AWS::IAM::Role":
            continue
        properties = body.get("Properties", {})
        # The roles of account.yml are what the boundary is there to be kept from, and an administrator makes them.
        own = {"Fn::Sub": "/${App}/"} if name != "account" else {"Fn::Sub": "/${App}-account/"}
        if properties.get("Path") != own:
            yield f"{name} {logical}: its path is not {own['Fn::Sub']}"
        if name != "account" and properties.get("PermissionsBoundary") != {"Ref": "BoundaryArn"}:
            yield f"{name} {logical}: it has no boundary"
        if "RoleName" in properties:
            yield f"{name} {logical}: it has a name"
        if "ManagedPolicyArns" in properties:
            yield f"{name} {logical}: its policies are not ours"


def _faults(statement):
    where = f"{statement.template} {statement.body.get('Sid') or statement.actions[0]}"
    for key in ("NotAction", "NotPrincipal", "NotResource"):
        if key in statement.body:
            yield f"{key} allows what nobody thought of"
    for action in statement.actions:
        if EVERYTHING.fullmatch(action):
            yield f"allows {action}"
        elif "*" in action and not READING.fullmatch(action):
            yield f"{action} is more than reading"
        elif not _exists(action.lower()):
            yield f"there is no action {action}"
    if not statement.allows:
        return
    if statement.trusts or statement.of_a_resource:
        if statement.services and not _tells_whom(statement) and UNCONDITIONAL.get(where) is None:
            yield f"{', '.join(map(str, statement.services))} may come for anybody"
        if statement.body.get("Principal") in ("*", {"AWS": "*"}) and where not in ANYBODY:
            yield "everybody may"
        return
    if "*" in statement.resources:
        narrow = [action for action in statement.actions if "*" not in action and actions().get(action.lower())]
        if narrow and where not in FOR_ALL:
            yield f"{', '.join(narrow)} could be limited to resources"
    if "iam:PassRole" in statement.actions:
        if any(not isinstance(resource, dict) for resource in statement.resources):
            yield "may pass any role"
        if "iam:passedtoservice" not in statement.conditions:
            yield "may pass roles to any service"


@functools.cache
def _exists(action):
    return action in actions() or "*" in action and bool(fnmatch.filter(actions(), action))


def _tells_whom(statement):
    """A service acts for one account: ours, the log groups of ours, or whoever the other service came for."""
    return statement.conditions & {"aws:sourceaccount", "kms:encryptioncontext:aws:logs:arn", "kms:viaservice"}


# ---- What a role may do ------------------------------------------------------------------------


@functools.cache
def account():
    """The account's stack, with everything in it resolved."""
    return wiring.Deployment(wiring.environments()[0], "postgres")["account"]


def policies_of(role):
    """The statements of the account's managed policies that are attached to a role."""
    attached = account().ref(role)
    for body in account().resources("AWS::IAM::ManagedPolicy").values():
        if attached in body["Properties"].get("Roles", []):
            yield from body["Properties"]["PolicyDocument"]["Statement"]


def allowed(policies, action, resource="*", context=None):
    """Whether policies allow an action on a resource.

    The context holds condition keys, None for those that the request surely lacks. A key that is not in it is not
    known, and its condition counts as met.
    """
    context = {key.lower(): value for key, value in (context or {}).items()}
    matching = [each["Effect"] for each in policies if _matches(each, action, resource, context)]
    return "Allow" in matching and "Deny" not in matching


def _matches(statement, action, resource, context):
    return (any(fnmatch.fnmatchcase(action.lower(), each.lower()) for each in listed(statement["Action"]))
            and any(fnmatch.fnmatchcase(resource, each) for each in listed(statement["Resource"]))
            and all(_holds(operator, context[key.lower()], listed(wanted))
                    for operator, keys in statement.get("Condition", {}).items() for key, wanted in keys.items()
                    if key.lower() in context))


def _holds(operator, value, wanted):
    operator = operator.rpartition(":")[2]
    if value is None:
        return operator.endswith("IfExists") or "Not" in operator
    operator = operator.removesuffix("IfExists")
    same = {"Bool": str.__eq__, "StringEquals": str.__eq__, "StringNotEquals": str.__eq__,
            "StringLike": fnmatch.fnmatchcase, "ArnLike": fnmatch.fnmatchcase, "ArnEquals": fnmatch.fnmatchcase}[operator]
    return any(same(value, each) for each in wanted) != ("Not" in operator)


# ---- What the playbooks ask for ----------------------------------------------------------------


def own_role(arn):
    """A role of the account's stack by the name that it has here: recordings have another end of it."""
    for logical in account().resources("AWS::IAM::Role"):
        if arn.rpartition("-")[0] == account().attribute(logical, "Arn").rpartition("-")[0]:
            return account().attribute(logical, "Arn")
    return arn


class Asked:
    """The permissions that calls ask for, read from their arguments."""

    def __init__(self):
        self.change_sets = {}  # whose they are: their own names do not tell

    def of(self, call):
        """Every (action, resource, context) that a call needs."""
        action, arguments, region = call["action"], call["arguments"] or {}, call["region"]
        if not action:
            return
        arn = f"arn:aws:{action.split(':')[0]}:{region}:{ACCOUNT}:"
        reader = getattr(self, "_" + action.split(":")[0].replace("-", "_"), None)
        if reader is not None:
            yield from reader(call["operation"], arguments, arn, region)
        elif actions().get(action.lower()):
            raise LookupError(f"iam.py does not know the resource of {action}")
        else:
            yield action, "*", {}

    def _cloudformation(self, operation, arguments, arn, _):
        change_set = arguments.get("ChangeSetName", "").split("/")[-2 if "/" in arguments.get("ChangeSetName", "") else -1]
        stack = arguments.get("StackName") or self.change_sets[change_set]
        if operation == "CreateChangeSet":
            self.change_sets[change_set] = stack
        resource = stack if stack.startswith("arn:") else f"{arn}stack/{stack}/0"
        role = own_role(arguments["RoleARN"]) if "RoleARN" in arguments else None
        yield f"cloudformation:{operation}", resource, {"cloudformation:RoleArn": role}
        if arguments.get("Tags"):
            yield "cloudformation:TagResource", resource, {}
        if role:
            yield "iam:PassRole", role, {"iam:PassedToService": "cloudformation.amazonaws.com"}

    def _ssm(self, operation, arguments, arn, _):
        yield f"ssm:{operation}", f"{arn}parameter/{arguments['Name'].lstrip('/')}", {}

    def _ecr(self, operation, arguments, arn, _):
        yield f"ecr:{operation}", f"{arn}repository/{arguments['repositoryName']}" if arguments else "*", {}

    def _ecs(self, operation, arguments, arn, _):
        cluster = arguments.get("cluster")
        context = {"ecs:cluster": f"{arn}cluster/{cluster}"}
        resources = {
            "DescribeServices": [f"{arn}service/{cluster}/{name}" for name in arguments.get("services", [])],
            "DescribeTasks": arguments.get("tasks"), "RunTask": [arguments.get("taskDefinition")],
        }.get(operation, ["*"])
        for resource in resources:
            yield f"ecs:{operation}", resource, context
        if operation == "RunTask":
            yield "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/birthday-demo/a-task's", {
                "iam:PassedToService": "ecs-tasks.amazonaws.com"}

    def _secretsmanager(self, operation, arguments, arn, region):
        yield f"secretsmanager:{operation}", arguments["SecretId"], {}
        yield from _key("kms:Decrypt", "secretsmanager", region)

    def _sns(self, operation, arguments, _, region):
        yield f"sns:{operation}", arguments["TopicArn"], {}
        yield from _key("kms:GenerateDataKey", "sns", region)
        yield from _key("kms:Decrypt", "sns", region)

    def _route53(self, operation, arguments, *_):
        yield f"route53:{operation}", f"arn:aws:route53:::hostedzone/{arguments['Id']}", {}

    def _logs(self, operation, arguments, arn, _):
        yield f"logs:{operation}", f"{arn}log-group:{arguments['logGroupName']}:log-stream:{arguments['logStreamName']}", {}

    def _cloudwatch(self, operation, *_):
        yield f"cloudwatch:{operation}", "*", {}

    def _rds(self, operation, arguments, arn, _):
        for key, kind in (("DBClusterIdentifier", "cluster"), ("DBClusterSnapshotIdentifier", "cluster-snapshot")):
            if key in arguments:
                yield f"rds:{operation}", f"{arn}{kind}:{arguments[key]}", {}

    def _backup(self, operation, arguments, arn, _):
        resource = arguments.get("RecoveryPointArn") or "*"
        if "BackupVaultName" in arguments:
            resource = f"{arn}backup-vault:{arguments['BackupVaultName']}"
        yield f"backup:{operation}", resource, {}
        if "IamRoleArn" in arguments:
            yield "iam:PassRole", arguments["IamRoleArn"], {"iam:PassedToService": "backup.amazonaws.com"}

    def _elasticfilesystem(self, operation, arguments, arn, _):
        yield f"elasticfilesystem:{operation}", f"{arn}file-system/{arguments['FileSystemId']}", {}

    def _codeconnections(self, operation, arguments, *_):
        yield f"codeconnections:{operation}", arguments["ConnectionArn"], {}


def _key(action, service, region):
    yield action, f"arn:aws:kms:{region}:{ACCOUNT}:key/0", {"kms:ViaService": f"{service}.{region}.amazonaws.com"}


CHANGING = {"CreateChangeSet", "ExecuteChangeSet", "DeleteChangeSet", "DeleteStack", "ContinueUpdateRollback",
            "UpdateTerminationProtection", "DescribeChangeSet"}


def refused(calls):
    """What recorded calls ask for and the deploy role may not do.

    Changes of the account's own stack are left out: an administrator makes them, and the role is not to.
    """
    policies, asked, found = list(policies_of("DeployRole")), Asked(), []
    own = re.compile(rf"(.*stack/)?{account().name}(/.*)?")
    for call in calls:
        wanted = list(asked.of(call))
        if call["service"] == "cloudformation" and call["operation"] in CHANGING:
            change_set = (call["arguments"].get("ChangeSetName") or "/").split("/")
            stack = call["arguments"].get("StackName") or asked.change_sets[change_set[-2]]
            if own.fullmatch(stack):
                continue
        found += [f"{action} on {resource} ({context})" for action, resource, context in wanted
                  if not allowed(policies, action, resource, context)]
    return list(dict.fromkeys(found))


def assert_allowed(calls):
    """The deploy role may do everything that the playbooks did."""
    found = refused(calls)
    assert not found, "\n".join(["The deploy role may not", *found])
