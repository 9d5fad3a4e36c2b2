"""What the pages say is so: alarms have their entries, commands and variables exist, links lead
somewhere, and the sums of the prices are those of the settings."""

import functools
import json
import os
import re
import shlex
from pathlib import Path

import botocore.exceptions
import botocore.session
import jinja2
import pytest
import templates
import yaml
from botocore import xform_name

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = ROOT / "devops/ansible"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
DEPLOY = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")

VARS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ANSIBLE / "vars").glob("*.yml")}
ENVIRONMENTS = sorted(set(VARS) - {"common"})
PLAYBOOKS = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in ANSIBLE.glob("birthday_demo_*.yml")}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))


load = functools.cache(templates.load)


def named(page):
    return page.relative_to(ROOT).as_posix()


# ---- Reading Markdown -----------------------------------------------------------------------------------------------


def unfenced(text):
    """The text without its fenced blocks, as `# comment` in them is no heading."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.M | re.S)


def headings(text, level=None):
    return [title for marks, title in re.findall(r"^(#+) (.*)$", unfenced(text), re.M) if level in (None, len(marks))]


def anchor(heading):
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")


def section(text, heading):
    """What stands below a heading, up to the next one of its level or above."""
    marks, = re.findall(rf"^(#+) {re.escape(heading)}$", text, re.M)
    return re.search(rf"^{marks} {re.escape(heading)}$\n(.*?)(?=^#{{1,{len(marks)}}} |\Z)", text, re.M | re.S)[1]


def table(text):
    """The first table: its header, and its rows."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.M)]
    width = len(lines[0])
    rows = []
    for line in lines[2:]:
        if len(line) != width:
            break
        rows.append(line)
    return lines[0], rows


def commands(text):
    """The commands of the fenced blocks for a shell, each as its words."""
    found = []
    for body in re.findall(r"^ *```(?:console|sh)\n(.*?)^ *```$", text, re.M | re.S):
        pending = ""
        for line in body.replace("\\\n", " ").splitlines():
            pending += line.strip().removeprefix("$ ") + "\n"
            try:
                words = shlex.split(pending)
            except ValueError:  # a quote goes on in the next line
                continue
            pending = ""
            if words:
                found.append(words)
        assert not pending, f"a quote is not closed: {pending}"
    return found


# ---- Alarms and alerts ----------------------------------------------------------------------------------------------


def alarms():
    """The anchor that each alarm and event rule links to, by its name without application and environment."""
    found = {}
    for template in (load("monitoring"), load("backup")):
        for resource in template["Resources"].values():
            properties = resource["Properties"]
            if resource["Type"] in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"):
                name, text = properties["AlarmName"], properties["AlarmDescription"]
            elif resource["Type"] == "AWS::Events::Rule":
                name, text = properties["Name"], properties["Targets"][0]["InputTransformer"]["InputTemplate"]
            else:
                continue
            link, = re.findall(r"\$\{RunbookUrl\}#([a-z0-9-]+)", text["Fn::Sub"])
            found[name["Fn::Sub"].removeprefix("${App}-${Env}-")] = link
    return found


def alerts():
    groups = yaml.safe_load((ROOT / "devops/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["annotations"]["runbook"].partition("#")[2]
            for group in groups for rule in group["rules"] if "alert" in rule}


ON_AWS = section(OPERATIONS, "Alarms and events on AWS")
OF_PROMETHEUS = section(OPERATIONS, "Alerts of Prometheus")


def test_alarms_link_to_their_own_entry():
    for name, link in alarms().items():
        assert link == name or name.startswith("window-"), f"{name} links to #{link}"


def test_every_alarm_has_an_entry_and_every_entry_an_alarm():
    assert sorted(headings(ON_AWS, 3)) == sorted(set(alarms().values()))


def test_every_alert_has_an_entry_and_every_entry_an_alert():
    assert sorted(map(anchor, headings(OF_PROMETHEUS, 3))) == sorted(set(alerts().values()))


@pytest.mark.parametrize("alert", alerts())
def test_the_entry_names_the_alert(alert):
    entry = next(heading for heading in headings(OF_PROMETHEUS, 3) if anchor(heading) == alerts()[alert])
    assert f"`{alert}`" in section(OPERATIONS, entry)


@pytest.mark.parametrize("entry", headings(ON_AWS, 3) + headings(OF_PROMETHEUS, 3))
def test_an_entry_says_what_to_do(entry):
    assert re.findall(r"^- \*\*(.*?):\*\* .", section(OPERATIONS, entry), re.M) == ["Means", "Look at", "Do"]


def test_alarms_that_take_a_release_back_are_explained():
    names = [resource["Properties"]["AlarmName"]["Fn::Sub"].removeprefix("${App}-${Env}-")
             for resource in load("birthday-demo")["Resources"].values()
             if resource["Type"] == "AWS::CloudWatch::Alarm"]
    assert names
    for name in names:
        assert f"`{name}`" in section(OPERATIONS, "deployment-failed")


def test_links_of_alarms_lead_to_the_page():
    assert VARS["common"]["runbook_url"].endswith("/docs/operations.md")
    assert len(headings(OPERATIONS)) == len({anchor(heading) for heading in headings(OPERATIONS)}), "anchors are unique"


# ---- Commands -------------------------------------------------------------------------------------------------------


def variables(playbook):
    """What may be given to it by -e."""
    known = {"env"}.union(*VARS.values())
    for play in playbook:
        known |= set(play.get("vars", ())) | {prompt["name"] for prompt in play.get("vars_prompt", ())}
    return known


def tags(tasks):
    for task in tasks:
        yield from task.get("tags", ())
        for inner in ("block", "rescue", "always"):
            yield from tags(task.get(inner, ()))


def fault_of_play(name, *words):
    if name not in PLAYBOOKS or not os.access(ANSIBLE / name, os.X_OK):
        return f"there is no {name}"
    known, words, given = variables(PLAYBOOKS[name]), iter(words), []
    for word in words:
        if word in ("-e", "--extra-vars"):
            value = next(words)
            given += json.loads(value) if value.startswith("{") else [value.partition("=")[0]]
        elif word == "--tags":
            wrong = set(next(words).split(",")) - {tag for play in PLAYBOOKS[name] for tag in tags(play["tasks"])}
            if wrong:
                return f"{name} has no tag {', '.join(wrong)}"
        elif word not in ("--check", "--diff"):
            return f"what is {word}?"
    unknown = set(given) - known
    return f"nothing is called {', '.join(unknown)}" if unknown else None


def fault_of_make(*words):
    for word in words:
        name, is_variable, _ = word.partition("=")
        if is_variable and not re.search(rf"\$\({name}\)", MAKEFILE):
            return f"the Makefile does not use {name}"
        if not is_variable and word not in TARGETS:
            return f"there is no target {word}"
    return None


# What the AWS CLI has beside the operations of AWS, with the options that we use of it.
CUSTOM = {("configure", "export-credentials"): {"profile", "format"}, ("logs", "tail"): {"since", "follow"}}
GLOBAL = {"region", "profile", "query", "output"}


@functools.cache
def model_of(service):
    return botocore.session.get_session().get_service_model(service)


def waiters(service):
    """The operation that each waiter asks, by its name on the command line."""
    model = botocore.session.get_session().get_waiter_model(service)
    return {xform_name(name, "-"): xform_name(model.get_waiter(name).operation, "-") for name in model.waiter_names}


def fault_of_aws(service, operation, *words):
    options = {word.removeprefix("--") for word in words if word.startswith("--")} - GLOBAL
    if (service, operation) in CUSTOM:
        wrong = options - CUSTOM[service, operation]
        return f"no option of it: {wrong}" if wrong else None
    try:
        model = model_of(service)
    except botocore.exceptions.UnknownServiceError:
        return f"AWS has no {service}"
    if operation == "wait":
        if words[0] not in waiters(service):
            return f"{service} cannot wait for {words[0]}"
        operation = waiters(service)[words[0]]
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    if operation not in operations:
        return f"{service} has no {operation}"
    shape = model.operation_model(operations[operation]).input_shape
    takes = {xform_name(name, "-") for name in shape.members}
    needs = {xform_name(name, "-") for name in shape.required_members}
    given = {option.removeprefix("no-") if option not in takes else option for option in options}
    if given - takes:
        return f"{operation} does not take {', '.join(given - takes)}"
    return f"{operation} needs {', '.join(needs - given)}" if needs - given else None


def fault(words):
    """What is wrong with a command, if anything is, or if it is one of those that can be looked at."""
    program, *rest = words
    if "&&" in rest:
        first = words.index("&&")
        return fault(words[:first]) or fault(words[first + 1:])
    if program.startswith("./birthday_demo_"):
        return fault_of_play(program.removeprefix("./"), *rest)
    if program == "make":
        return fault_of_make(*rest)
    if program == "aws":
        return fault_of_aws(*rest)
    if program == "eval":
        return fault(shlex.split(rest[0].removeprefix("$(").removesuffix(")")))
    return None


COMMANDS = {f"{named(page)}: {shlex.join(words)[:90]}": words
            for page in PAGES for words in commands(page.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_can_be_run(name):
    assert fault(COMMANDS[name]) is None


def test_commands_are_found():
    found = {words[0] for words in COMMANDS.values()}
    assert {"./birthday_demo_deploy.yml", "./birthday_demo_teardown.yml", "./birthday_demo_restore.yml",
            "./birthday_demo_pipeline.yml", "make", "aws"} <= found


@pytest.mark.parametrize("command", [
    "./birthday_demo_deploi.yml -e env=prod",
    "./birthday_demo_deploy.yml -e environment=prod",
    """./birthday_demo_deploy.yml -e '{"allow_replacing": []}'""",
    "./birthday_demo_deploy.yml --tags deploi",
    "./birthday_demo_deploy.yml --chek",
    "make deploi env=prod",
    "make build && make deploi",
    "make deploy environment=prod",
    "aws cloudformatoin describe-stacks",
    "aws cloudformation describe-stack",
    "aws cloudformation describe-stacks --name x",
    "aws cloudformation delete-stack",
    "aws rds wait db-cluster-there --db-cluster-identifier x",
    'eval "$(aws configure export --profile x)"',
])
def test_wrong_command_is_noticed(command):
    words, = commands(f"```console\n{command}\n```\n")
    assert fault(words)


def test_commands_may_go_on_in_the_next_line():
    assert commands("1. x\n\n   ```console\n   a b \\\n     c\n   $ d 'e\n   f'\n   ```\n") == [["a", "b", "c"], ["d", "e\nf"]]


# ---- Names in the text ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_is_named_exists(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"birthday_demo_\w+\.yml", text):
        assert name in PLAYBOOKS
    for code in re.findall(r"`([^`\n]+)`", unfenced(text)):
        if target := re.match(r"(?:\w+=\S+ )?make ([a-z]+)\b", code):
            assert target[1] in TARGETS, code
        if re.fullmatch(r"(app|devops|docs)/[\w./-]+", code):
            assert (ROOT / code).exists(), code
        if code.startswith(("-e ", "--tags ")):
            assert fault_of_play("birthday_demo_deploy.yml", *shlex.split(code)) is None


# Words of others that look like our variables.
OTHERS = {"role_arn", "mfa_serial", "duration_seconds", "cfn_stack", "json"}


@pytest.mark.parametrize("text", [DEPLOY, OPERATIONS], ids=["deploy", "operations"])
def test_variables_exist(text):
    known = set().union(*VARS.values()) | OTHERS
    for code in re.findall(r"`([a-z]+(?:_[a-z]+)+)(?:: [^`]*|=[^`]*)?`", unfenced(text)):
        assert code in known, code


def test_what_is_to_be_filled_in_is_listed():
    """Every setting that is empty in the repository, and that nothing else fills in."""
    _, rows = table(section(DEPLOY, "The first time"))
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    empty = {name for name, value in VARS["common"].items() if value == ""}
    assert listed >= empty - {"version", "snapshot_arn"}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    text = unfenced(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, fragment = target.partition("#")
        file = page.parent / path if path else page
        assert file.is_file(), target
        if fragment:
            assert fragment in map(anchor, headings(file.read_text(encoding="utf-8"))), target


# ---- What it costs --------------------------------------------------------------------------------------------------


def settings(env, **others):
    """The settings of an environment, with what Ansible would fill in."""
    values = {**VARS["common"], **VARS[env], **others}
    fill = jinja2.Environment(undefined=jinja2.StrictUndefined)
    return values | {name: fill.from_string(str(values[name])).render(values) for name in ("min_tasks", "max_tasks")}


SMALL = yaml.safe_load(re.search(r"^```yaml\n(.*?)^```$", section(DEPLOY, "The small shape"), re.M | re.S)[1])
SHAPES = {env: settings(env) for env in ENVIRONMENTS} | {"small": settings("prod", **SMALL)}
HEADER, LINES = table(section(DEPLOY, "What it costs"))
PRICES = {line[0]: dict(zip(HEADER[2:], line[2:], strict=True)) for line in LINES}


def quantity(cell):
    return float(cell.split(" × ")[0])


def price(cell):
    return float(cell.split(" × ")[1]) if " × " in cell else None


def amount(cell):
    return quantity(cell) * (price(cell) or 1)


def line(beginning):
    found, = [cells for name, cells in PRICES.items() if name.startswith(beginning)]
    return found


def resources(storage):
    """The resources of all stacks of an environment."""
    stacks = ["network", f"data-{storage}", "platform", "birthday-demo", "monitoring", "backup", "backup"]
    holds = {"UsesPostgres": storage == "postgres", "UsesBolt": storage == "bolt", "IsWhereHealthChecksReport": False}
    for name in stacks:
        for resource in load(name)["Resources"].values():
            if holds.get(resource.get("Condition"), True):
                yield resource


def count(storage, kind):
    return sum(resource["Type"] == kind for resource in resources(storage))


def test_columns_are_the_environments():
    assert sorted(HEADER[2:]) == sorted([*ENVIRONMENTS, "small"])


@pytest.mark.parametrize("shape", SHAPES)
def test_quantities_are_those_of_the_settings(shape):
    of = SHAPES[shape]
    tasks, zones = int(of["min_tasks"]), of["zones"]
    instances = 1 + of["readers"]
    bolt = of["storage"] == "bolt"
    metrics = sum(
        sum("MetricStat" in metric for metric in resource["Properties"].get("Metrics", [{"MetricStat": 1}]))
        for resource in resources(of["storage"]) if resource["Type"] == "AWS::CloudWatch::Alarm")
    # RDS makes the secret of the master user.
    secrets = count(of["storage"], "AWS::SecretsManager::Secret") + count(of["storage"], "AWS::RDS::DBCluster")
    assert {
        "tasks of": tasks,
        "public addresses of the tasks": tasks if of["nat"] == "none" else 0,
        "its public addresses": zones,
        "NAT gateways": {"none": 0, "single": 1, "per-zone": zones}[of["nat"]],
        "metrics that alarms": metrics,
        "composite alarms": count(of["storage"], "AWS::CloudWatch::CompositeAlarm"),
        "keys": count(of["storage"], "AWS::KMS::Key"),
        "secrets": secrets,
    } == {name: quantity(line(name)[shape]) for name in (
        "tasks of", "public addresses of the tasks", "its public addresses", "NAT gateways", "metrics that alarms",
        "composite alarms", "keys", "secrets")}
    hours = quantity(line("database, ACU hours")[shape])
    if bolt:
        assert hours == 0
    elif of["min_capacity"]:
        assert hours == 730 * instances * of["min_capacity"]
    else:
        assert 0 < hours < 730  # it sleeps, and how long is a guess
    assert bool(amount(line("file system")[shape])) == bolt
    assert bool(amount(line("data through NAT")[shape])) == (of["nat"] != "none")
    assert bool(amount(line("Container Insights")[shape])) == (of["insights"] != "disabled")


@pytest.mark.parametrize("shape", SHAPES)
def test_prices_are_those_of_the_hours(shape):
    of = SHAPES[shape]
    task = 730 * (of["cpu"] / 1024 * 0.03238 + of["memory"] / 1024 * 0.00356)
    expected = {"tasks of": task, "public addresses of the tasks": 730 * 0.005, "its public addresses": 730 * 0.005,
                "NAT gateways": 730 * (0.045 + 0.005), "database, ACU hours": 0.12}
    for name, each in expected.items():
        if (stated := price(line(name)[shape])) is not None:
            assert stated == pytest.approx(each, abs=0.006), name
    assert amount(line("load balancer")[shape]) == pytest.approx(730 * 0.0225 + 1, abs=0.006)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_are_right(shape):
    total = sum(amount(cells[shape]) for name, cells in PRICES.items() if name != "**total**")
    assert line("**total**")[shape] == f"**{total:.0f}**"
    assert total <= SHAPES[shape]["monthly_budget"], "or its alarm would always be on"


def test_readme_has_the_same_prices():
    totals = [float(line("**total**")[shape].strip("*")) for shape in ("staging", "prod", "small")]
    stated = re.findall(r"\$(\d+) \|$", PAGES[0].read_text(encoding="utf-8"), re.M)
    assert stated == [f"{round(total, -1):.0f}" for total in totals]


# ---- Recovery -------------------------------------------------------------------------------------------------------


def test_recovery_has_targets():
    header, rows = table(section(OPERATIONS, "Targets for recovery"))
    assert header[1:3] == ["RPO", "RTO"]
    for what, point, time, how in rows:
        assert re.fullmatch(r"0|\d+ (minutes|hours?)", point), what
        assert re.fullmatch(r"\d+ hours?|minutes, by itself|no target before somebody has tried it", time), what
        assert how
    stated = {row[0]: row[1:3] for row in rows}
    assert ["5 minutes", "1 hour"] in stated.values()
    assert ["24 hours", "1 hour"] in stated.values()


def test_days_that_copies_are_kept():
    kept = re.search(r"`keep_days`: (\d+) days in prod, (\d+) in staging", OPERATIONS)
    assert [int(days) for days in kept.groups()] == [VARS["prod"]["keep_days"], VARS["staging"]["keep_days"]]
    assert max(VARS["prod"]["keep_days"], VARS["prod"]["copy_keep_days"]) == 35, "as Erase a person says"
