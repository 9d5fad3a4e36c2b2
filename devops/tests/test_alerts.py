"""The alerts and the dashboard: promtool's own checks, and a real Prometheus that looks
at the real service."""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml
from conftest import needs
from kit import free_port

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "devops/prometheus"
DASHBOARD = json.loads((ROOT / "devops/grafana/dashboards/birthday-demo.json").read_text())

RULES = [rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
}


def promtool(*arguments):
    needs("promtool", "prometheus")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def metrics_of(expression):
    """The names of the metrics that an expression asks for, with the labels that it selects or groups by."""
    labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    grouping = r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)"
    labels += [label for names in re.findall(grouping, expression) for label in re.split(r"[\s,]+", names) if label]
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|' + grouping, " ", expression)
    names = re.findall(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])", bare)
    return set(names) - {"and", "or", "unless", "offset", "bool"}, set(labels)


def test_metrics_of():
    expression = 'sum by (job, le) (rate(a_b{x="1", y=~"c|d"}[5m] offset 1d)) > 2 * job:e:f and time() - g > 1e6 or vector(0)'
    assert metrics_of(expression) == ({"a_b", "job:e:f", "g"}, {"job", "le", "x", "y"})


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def eventually(what, seconds=20):
    """Waits until what() is true, and gives it."""
    end = time.monotonic() + seconds
    while True:
        try:
            if result := what():
                return result
        except OSError:
            pass
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


class Service:
    """The program of this checkout at work, on free ports."""

    def __init__(self, folder):
        subprocess.run(["go", "build", "-o", folder / "app", "./app"], cwd=ROOT, env=os.environ | {"CGO_ENABLED": "0"}, check=True)
        (folder / "backup").mkdir()
        self.public, self.internal = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        (folder / "tokens").write_text("admin-token\n")
        settings = {
            "LISTEN": self.public, "ADMIN_LISTEN": self.internal, "STORE": str(folder / "a.db"), "BACKUP_DIR": str(folder / "backup"),
            "ADMIN_TOKENS_FILE": str(folder / "tokens"),
        }
        env = {k: v for k, v in os.environ.items() if not k.startswith("BIRTHDAY_")} | {f"BIRTHDAY_{k}": v for k, v in settings.items()}
        with open(folder / "app.log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([folder / "app", "serve"], env=env, stdout=log, stderr=log)
        eventually(lambda: get(f"http://{self.internal}/readyz"))
        eventually(lambda: "birthday_backup_timestamp_seconds 0" not in self.scrape())

    def scrape(self):
        return get(f"http://{self.internal}/metrics")

    def use(self):
        """Makes one of each request that there are metrics of."""
        for method, name, body in (
            ("PUT", "ana", b'{"dateOfBirth": "1990-05-17"}'), ("PUT", "ana", b'{"dateOfBirth": "soon"}'), ("GET", "ana", None),
            ("GET", "nobody", None), ("DELETE", "ana", None),
        ):
            try:
                urllib.request.urlopen(urllib.request.Request(f"http://{self.public}/hello/{name}", method=method, data=body), timeout=10).close()
            except urllib.error.HTTPError as refusal:
                assert refusal.code in (400, 404)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    needs("go", "golang")
    service = Service(tmp_path_factory.mktemp("service"))
    service.use()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def prometheus(service, tmp_path_factory):
    """A Prometheus with our files, that looks at the service every second instead of every 15."""
    needs("prometheus", "prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(PROMETHEUS, folder / "etc")
    config = (folder / "etc/prometheus.yml").read_text()
    assert "birthday-demo:8081" in config
    (folder / "etc/prometheus.yml").write_text(config.replace("birthday-demo:8081", service.internal).replace("15s", "1s"))
    address = f"127.0.0.1:{free_port()}"
    with open(folder / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/etc/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"],
            stdout=log, stderr=log,
        )

    def ask(path, **parameters):
        return json.loads(get(f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))["data"]

    eventually(lambda: ask("query", query="up == 1")["result"])
    yield ask
    process.terminate()
    process.wait(30)


def test_promtool_reads_them():
    promtool("check", "config", "--lint=all", "--lint-fatal", PROMETHEUS / "prometheus.yml")


def test_promtool_tests_them():
    promtool("test", "rules", PROMETHEUS / "alerts_test.yml")


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_what_to_do(name):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("page", "notify")
    assert alert["annotations"]["summary"]
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert page == "docs/operations.md"
    assert re.fullmatch("[a-z]+(-[a-z]+)*", anchor)
    if (ROOT / page).exists():
        headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.M)
        assert anchor in {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}, f"no heading in {page} for #{anchor}"


@pytest.mark.parametrize("name", ALERTS)
def test_alert_has_cases(name):
    """It fires in one, and is silent in the first although its metrics are there."""
    cases = [case for test in CASES for case in test.get("alert_rule_test", []) if case["alertname"] == name]
    assert any(case.get("exp_alerts") for case in cases)
    there = {re.match(r"[\w:]+", series["series"])[0] for series in CASES[0]["input_series"]}
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    assert metrics_of(ALERTS[name]["expr"])[0] <= there | recorded
    assert any(case["expr"] == "ALERTS" and not case.get("exp_samples") for case in CASES[0]["promql_expr_test"])


EXPRESSIONS = {rule.get("alert") or rule["record"]: rule["expr"] for rule in RULES} | QUERIES
EXPRESSIONS |= {f"annotation {a['name']}": a["expr"] for a in DASHBOARD["annotations"]["list"]}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_metrics_exist(name, service):
    """Every metric and label that is asked for is in a real scrape."""
    series = re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$", service.scrape(), re.M)
    real = {metric for metric, _ in series}
    metrics, labels = metrics_of(EXPRESSIONS[name])
    ours = {rule["record"] for rule in RULES if "record" in rule} | {"up", "ALERTS"}
    assert metrics, "no metric in it"
    assert metrics <= real | ours
    known = {label for metric, text in series if metric in metrics for label in re.findall(r'(\w+)="', text)}
    assert labels <= known | {"job", "instance", "alertstate"}


def test_prometheus_takes_every_rule(prometheus):
    def evaluated():
        rules = [rule for group in prometheus("rules")["groups"] for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None

    rules = eventually(evaluated)
    assert {rule["name"] for rule in rules} == {rule.get("alert") or rule["record"] for rule in RULES}
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    eventually(lambda: prometheus("alerts")["alerts"] == [])  # it is healthy


@pytest.mark.parametrize("name", QUERIES)
def test_panel_shows_something(name, prometheus, service):
    def shown():
        result = prometheus("query", query=QUERIES[name].replace("$__rate_interval", "10s"))["result"]
        return [point for point in result if point["value"][1] != "NaN"]

    def used():
        service.use()
        return shown()

    assert shown() or eventually(used)


def test_prometheus_sees_it_stop(prometheus, service):
    service.stop()
    eventually(lambda: "BirthdayDown" in {alert["labels"]["alertname"] for alert in prometheus("alerts")["alerts"]})


def test_dashboard_fits():
    """Panels have ids of their own, ask the provisioned source, and do not lie over each other."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    source, = yaml.safe_load((ROOT / "devops/grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    for panel in panels:
        for asks in (panel, *panel["targets"]):
            assert asks["datasource"] == {"type": source["type"], "uid": source["uid"]}
    cells = [
        (x, y)
        for p in (panel["gridPos"] for panel in panels)
        for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
