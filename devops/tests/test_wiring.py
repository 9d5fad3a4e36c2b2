"""Variables, playbooks and templates fit together, for each environment and storage."""

import functools
import re

import jinja2
import pytest
import templates
import wiring
from ansible.errors import AnsibleUndefinedVariable
from ansible.template import trust_as_template
from emulator import schemas
from emulator.evaluation import Refused

COMBINATIONS = [(env, storage) for env in wiring.environments() for storage in wiring.STORAGES]
STACKS = wiring.read("vars/common.yml")["stacks"]
EVERY = pytest.mark.parametrize(("env", "storage"), COMBINATIONS)

# Outputs that no playbook passes on, and who wants them.
FOR_PEOPLE = {
    "account DeployRoleName": "whoever gives people the right to take the role",
    "birthday-demo AlarmNames": "whoever asks what can take a release back",
    "data-postgres ReaderEndpoint": "reports, which should not load the writer",
    "monitoring DashboardUrl": "whoever wants to look",
    "monitoring PageAlarm": "whoever connects another pager",
    "monitoring PageTopicArn": "whoever connects another pager",
    "backup PlanId": "whoever starts a backup by hand",
    "pipeline TopicArn": "whoever subscribes",
    "platform AccessLogBucket": "whoever reads access logs, or removes them",
    "platform ClusterArn": "other stacks in the same cluster",
    "platform LoadBalancerArn": "whoever shifts a zone away",
    "platform Url": "whoever wants to use it",
}


@functools.cache
def deployment(env, storage, filled=False):
    settings = wiring.ALL_FILLED_IN if filled else {}
    return wiring.Deployment(env, storage, **{name: value for name, value in settings.items()
                                              if name != "snapshot_arn" or storage == "postgres"})


# ---- Everything resolves ---------------------------------------------------------------------


def check(stack):
    stack.check()
    faults = [f"{logical} {fault}" for logical, body in stack.resources().items()
              for fault in schemas.faults(stack.region, body["Type"],
                                          schemas.coerced(stack.region, body["Type"], body["Properties"]))]
    assert faults == []


@EVERY
@pytest.mark.parametrize("filled", [False, True], ids=["least", "all"])
def test_every_stack_resolves(env, storage, filled):
    for stack in deployment(env, storage, filled).stacks.values():
        check(stack)


@EVERY
def test_the_service_resolves_without_an_image(env, storage):
    check(deployment(env, storage)["service"].with_(Image=""))
    check(deployment(env, storage)["service"].with_(Image="", MigrationImage=""))


@EVERY
def test_monitoring_resolves_where_health_checks_report(env, storage):
    check(deployment(env, storage)["monitoring"].with_(region="us-east-1"))


@EVERY
def test_stacks_are_taken_off_in_the_other_order(env, storage):
    teardown = next(task for task in wiring.tasks("birthday_demo_teardown.yml", storage) if task["name"] == "Remove the stacks")
    removed = [name.replace("{{ storage }}", storage) for name in teardown["vars"]["all_stacks"]]
    made = wiring.order("birthday_demo_deploy.yml", storage)
    assert removed == [name for name in reversed(made) if name != "account"]


@pytest.mark.parametrize("env", wiring.environments())
def test_the_drill_resolves(env):
    real = deployment(env, "postgres")
    drill = next(task["vars"]["of_the_drill"] for task in wiring.tasks("birthday_demo_restore.yml", "postgres")
                 if "of_the_drill" in task.get("vars", {}))
    variables = {"env": env, "point": {"RecoveryPointArn": wiring.ALL_FILLED_IN["snapshot_arn"]}}
    check(real["data"].with_(**wiring.rendered(drill, variables)))


# ---- And what does not is found --------------------------------------------------------------


@pytest.mark.parametrize(("storage", "settings", "said"), [
    ("bolt", {"max_tasks": 2}, "one writer"),
    ("bolt", {"min_tasks": 2, "max_tasks": 2}, "one writer"),
    ("postgres", {"cpu": 256, "memory": 4096}, "Fargate gives 256"),
    ("postgres", {"cpu": 300}, "AllowedValues"),
    ("postgres", {"keep_days": 3}, "7 days at least"),
    ("postgres", {"auto_pause_seconds": 300}, "MinCapacity 0 and no readers"),
    ("postgres", {"min_capacity": 0}, "AutoPauseSeconds is needed"),
    ("postgres", {"cidr": "8.8.0.0/16"}, "private range"),
    ("postgres", {"log_days": 10}, "AllowedValues"),
    ("postgres", {"requests_per_client": 1}, "not less than 10"),
    ("postgres", {"zone_id": "example.com"}, "HostedZone"),
    ("postgres", {"service_image": "registry.example.com/birthday-demo:latest"}, "must match pattern"),
    ("postgres", {"pipeline_environments": ["prod", "prod"]}, "are two"),
])
def test_a_bad_setting_is_refused(storage, settings, said):
    with pytest.raises(Refused, match=said):
        wiring.Deployment("prod", storage, **settings)


def with_parameter(stack, name, value):
    stacks = dict(STACKS)
    stacks[stack] = {**stacks[stack], "parameters": {**stacks[stack]["parameters"], name: trust_as_template(value)}}
    return {"common": {"stacks": stacks}}


@pytest.mark.parametrize("value", ["{{ outputs.service.Version }}", "{{ outputs.account.Nothing }}", "{{ nothing }}"])
def test_what_is_not_there_yet_is_found(value):
    with pytest.raises(AnsibleUndefinedVariable):
        wiring.Deployment("prod", "postgres", changed=with_parameter("network", "Cidr", value))


def test_an_unknown_parameter_is_found():
    with pytest.raises(Refused, match="do not exist"):
        wiring.Deployment("prod", "postgres", changed=with_parameter("network", "Sidr", "10.0.0.0/16"))


# ---- Nothing is missing, nothing is left over ------------------------------------------------


def test_every_template_is_brought_up():
    used = {entry["template"] for entry in STACKS.values()}
    assert used == {f"{name}.yml" for name in templates.names()}


@pytest.mark.parametrize("key", STACKS)
def test_every_parameter_is_passed(key):
    """Even those with a default, which would hide that one was forgotten."""
    stacks = [found.stacks[key] for env, storage in COMBINATIONS if key in (found := deployment(env, storage)).stacks]
    passed = set().union(*(stack.given for stack in stacks))
    assert passed == set(stacks[0].template["Parameters"])


def strings(path):
    """Every string of a file of YAML, comments left out; conditions as the expressions that they are."""
    for where, value in templates.walk(wiring.read(path)):
        if isinstance(value, str):
            bare = any(part in ("when", "that", "until", "failed_when", "changed_when", "var") for part in where)
            yield "{{ " + value + " }}" if bare else value


FILES = sorted(str(path.relative_to(wiring.ANSIBLE)) for folder in ("", "tasks", "vars")
               for path in (wiring.ANSIBLE / folder).glob("*.yml"))


def uses_of_outputs():
    """Like ("data-postgres", "Port"); the stack is None where an expression does not tell."""
    pattern = re.compile(r"outputs(?:\.([a-z]\w*)|\[([^\]]+)\])?\.([A-Z]\w+)")
    for path in FILES:
        for text in strings(path):
            for dotted, indexed, name in pattern.findall(text):
                stack = dotted or indexed.strip("'\"")
                yield (stack if re.fullmatch(r"[a-z-]+", stack) and "'" not in stack else None), name


def test_every_output_is_used():
    used = set(uses_of_outputs())
    known = {f"{entry['template'].removesuffix('.yml')} {name}" for key, entry in STACKS.items()
             for stack, name in used if stack in (key, None)}
    outputs = {f"{name} {output}" for name in templates.names() for output in wiring.load(name)["Outputs"]}
    assert outputs - known == set(FOR_PEOPLE)


def test_every_output_that_is_used_exists():
    everywhere = {output for name in templates.names() for output in wiring.load(name)["Outputs"]}
    for stack, name in uses_of_outputs():
        there = wiring.load(STACKS[stack]["template"].removesuffix(".yml"))["Outputs"] if stack else everywhere
        assert name in there, f"{stack} has no output {name}"


def names_in(text):
    """The names that the expressions in a text use."""
    for expression in re.findall(r"{{(.*?)}}", text, re.DOTALL):
        for _, kind, value in jinja2.Environment().lex("{{" + expression + "}}"):
            if kind == "name":
                yield value


def test_every_variable_is_used():
    used = {name for path in FILES for text in strings(path) for name in names_in(text)}
    defined = {name for path in FILES if path.startswith("vars/") for name in wiring.read(path)}
    assert defined - used == set()


def test_environments_define_the_same():
    defined = {env: set(wiring.read(f"vars/{env}.yml")) for env in wiring.environments()}
    assert len({frozenset(names) for names in defined.values()}) == 1, defined
    assert not set.union(*defined.values()) & set(wiring.read("vars/common.yml")), "what differs is not in common.yml"


def test_environments_are_named_in_vars_only():
    named = re.compile(rf"\b({'|'.join(wiring.environments())})\b")
    for name in templates.names():
        # A bucket of AWS's own has one of the words in its name.
        text = templates.text(name).replace("prod-${AWS::Region}-starport-layer-bucket", "")
        assert not named.findall(text), name
    for path in FILES:
        if not path.startswith("vars/"):
            assert not [text for text in strings(path) if named.search(text)], path
