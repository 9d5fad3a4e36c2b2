"""The service against openapi.yaml, on both stores: schemathesis makes requests from the description, right and
wrong ones, and compares every answer with it. OPENAPI_SEED makes other requests, PROVE=long more of them."""

import collections
import contextlib
import glob
import http.client
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from conftest import needs, refuse
from kit import free_port

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "app/api/openapi.yaml"
PATHS = yaml.safe_load(SPEC.read_text(encoding="utf-8"))["paths"]
METHODS = {"get", "put", "post", "delete", "patch"}
OPERATIONS = {(method.upper(), path) for path, item in PATHS.items() for method in METHODS & item.keys()}
HELLO = {operation for operation in OPERATIONS if operation[1].startswith("/hello/")}  # GET /openapi.yaml follows from nothing
PHASES = {"examples": OPERATIONS, "coverage": OPERATIONS, "fuzzing": OPERATIONS, "stateful": HELLO}
CHECKS = {
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "positive_data_acceptance", "missing_required_header",
    "unsupported_method", "allow_header_conformance", "use_after_free", "ensure_resource_availability", "object_level_authorization",
}
ANSWERS = {
    ("GET", "/hello/{username}"): {200, 400, 404}, ("PUT", "/hello/{username}"): {204, 400}, ("DELETE", "/hello/{username}"): {204, 400, 404},
    ("GET", "/openapi.yaml"): {200},
}
SEED = os.environ.get("OPENAPI_SEED", "1")
EXAMPLES = 200 if os.environ.get("PROVE") == "long" else 20
TOKEN = "only-for-this-test"


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], text=True, capture_output=True, **more)
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}"
    return done.stdout


def eventually(what, log, seconds=60):
    """Waits until what() is true."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if what():
                return
        assert time.monotonic() < end, f"not within {seconds} s: {log.read_text()[-3000:]}"
        time.sleep(0.05)


@contextlib.contextmanager
def process(*command, log, **more):
    """A process that ends with the block; what it says is in the log."""
    with open(log, "w", encoding="utf-8") as file:
        running = subprocess.Popen([str(c) for c in command], stdout=file, stderr=file, **more)
    try:
        yield
    finally:
        running.terminate()
        running.wait(60)


# ---- The service and its stores -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    needs("go", "golang")
    binary = tmp_path_factory.mktemp("binary") / "birthday-demo"
    run("go", "build", "-o", binary, "./app", cwd=ROOT)
    return binary


@pytest.fixture(scope="module")
def postgres(binary, tmp_path_factory):
    """The URL of a database that is ready to be served from, on a server of its own."""
    if not shutil.which("initdb") and not glob.glob("/usr/lib/postgresql/*/bin/initdb"):
        refuse("a PostgreSQL server is missing: apt-get install postgresql")
    program = tmp_path_factory.mktemp("server") / "server"
    run("go", "build", "-o", program, "./app/bench/server", cwd=ROOT)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # until its input ends
        url = server.stdout.readline().strip()
        run(binary, "migrate", "up", "--store", url)
        yield url


@pytest.fixture
def serve(binary, tmp_path):
    """Starts the service and gives its address."""
    with contextlib.ExitStack() as running:
        def serve(store, *flags):
            public, admin, log = free_port(), free_port(), tmp_path / "service.log"
            env = {key: value for key, value in os.environ.items() if not key.startswith("BIRTHDAY_")}
            running.enter_context(process(
                binary, "serve", f"--store={store}", f"--listen=127.0.0.1:{public}", f"--admin-listen=127.0.0.1:{admin}", *flags, log=log, env=env))
            eventually(lambda: urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=5).status == 200, log)
            return f"127.0.0.1:{public}"
        yield serve


# ---- Schemathesis ---------------------------------------------------------------------------------------------------


class Report:
    """What schemathesis did and found."""

    def __init__(self, code, screen, folder):
        self.code, self.screen = code, screen
        self.summary = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        self.failures = {(failure["type"], operation) for failure in self.summary["failures"] for operation in failure["operations"]}
        self.requests, self.checks, self.answers = collections.Counter(), collections.Counter(), collections.defaultdict(set)
        with open(folder / "report.ndjson", encoding="utf-8") as lines:
            for line in lines:
                if scenario := json.loads(line).get("ScenarioFinished"):
                    self.count(scenario["phase"], scenario["recorder"])

    def count(self, phase, recorder):
        for case, interaction in recorder.get("interactions", {}).items():
            value = recorder["cases"][case]["value"]
            operation = value["method"], value["path"]
            self.requests[phase, operation] += 1
            if interaction["response"]:
                self.answers[operation].add(interaction["response"]["status_code"])
        for checks in recorder.get("checks", {}).values():
            self.checks.update(check["name"] for check in checks)

    def assert_good(self):
        assert self.code == 0, self.screen
        summary = self.summary
        assert summary["complete"] and summary["stop_reason"] == "completed" and not summary["errors"], self.screen
        assert summary["operations"]["tested"] == summary["operations"]["total"] == len(OPERATIONS)
        assert {phase: summary["phases"][phase]["status"] for phase in PHASES} == dict.fromkeys(PHASES, "success")
        for phase, operations in PHASES.items():
            assert operations <= {operation for name, operation in self.requests if name == phase}, f"{phase} left out operations"
        assert set(self.checks) >= CHECKS
        assert summary["filtered"] < summary["test_cases"]["generated"] / 2, "the hook explains too much"


def schemathesis(folder, url, *arguments, spec=SPEC, phases=PHASES, examples=EXAMPLES):
    """Runs every check of schemathesis. What openapi.yaml says in words it learns from openapi_words.py."""
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "run", spec, "--url", url, "--phases", ",".join(phases), "--checks", "all", "--mode", "all",
         "--seed", SEED, "--max-examples", str(examples), "--generation-database", "none", "--continue-on-failure", "--no-color",
         "--suppress-health-check", "too_slow",  # which is about the machine
         "--report", "json,ndjson", "--report-json-path", "report.json", "--report-ndjson-path", "report.ndjson", *arguments],
        cwd=folder, env=os.environ | {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("openapi_words.py")), "NO_PROXY": "*"},
        text=True, capture_output=True, check=False,
    )
    screen = done.stdout + done.stderr
    assert (folder / "report.json").exists(), screen
    return Report(done.returncode, screen, folder)


@pytest.mark.parametrize("store", ["bolt", "postgres"])
def test_answers_are_as_described(store, serve, tmp_path, request):
    where = tmp_path / "birthday.db" if store == "bolt" else request.getfixturevalue("postgres")
    report = schemathesis(tmp_path, f"http://{serve(where)}")
    report.assert_good()
    for operation, statuses in ANSWERS.items():
        assert report.answers[operation] >= statuses, operation


def test_answers_are_as_described_with_tokens_below_a_base_path(serve, tmp_path):
    """The description says that writing may need a token; here it does, and schemathesis also tries without."""
    tokens, spec = tmp_path / "tokens", tmp_path / "openapi.yaml"
    tokens.write_text(TOKEN + "\n")
    described = yaml.safe_load(SPEC.read_text(encoding="utf-8"))
    for method in ("put", "delete"):
        described["paths"]["/hello/{username}"][method]["security"] = [{"token": []}]
    spec.write_text(yaml.safe_dump(described), encoding="utf-8")
    address = serve(tmp_path / "birthday.db", f"--write-tokens-file={tokens}", "--base-path=/birthdays")
    report = schemathesis(tmp_path, f"http://{address}/birthdays", "--header", f"Authorization: Bearer {TOKEN}", spec=spec)
    report.assert_good()
    assert report.checks["ignored_auth"]
    for operation, statuses in ANSWERS.items():
        assert report.answers[operation] >= statuses | ({401} if operation[0] in ("PUT", "DELETE") else set()), operation


# ---- Broken on purpose ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def proxy(address, change):
    """A service like the one at the address, but for what change() makes of an answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __getattr__(self, name):
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as service:
                service.request(self.command, self.path, body or None, dict(self.headers))
                response = service.getresponse()
                status, headers, body = change(self.command, self.path, response.status, response.headers, response.read())
            self.send_response_only(status)
            for name, value in headers.items():
                if name not in ("Content-Length", "Transfer-Encoding", "Connection"):
                    self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def fault(method, path, status, headers, body):
    """Four faults, one for each operation, by which they are told apart."""
    if path.startswith("/openapi.yaml"):
        del headers["X-Request-Id"]
    elif (method, status) == ("GET", 400):
        body = json.dumps({key: value for key, value in json.loads(body).items() if key != "requestId"}).encode()
    elif (method, status) == ("PUT", 400):
        status, body = 204, b""
    elif (method, status) == ("DELETE", 204):
        status = 202
    return status, headers, body


@pytest.mark.parametrize(("change", "failures"), [
    (lambda _method, _path, *answer: answer, set()),
    (fault, {
        ("MissingHeaders", "GET /openapi.yaml"), ("JsonSchemaError", "GET /hello/{username}"),
        ("AcceptedNegativeData", "PUT /hello/{username}"), ("UndefinedStatusCode", "DELETE /hello/{username}"),
    }),
], ids=["no fault", "faults"])
def test_faults_are_found(change, failures, serve, tmp_path):
    with proxy(serve(tmp_path / "birthday.db"), change) as address:
        report = schemathesis(tmp_path, f"http://{address}", phases=["coverage"])
    assert report.failures == failures, report.screen
    assert report.code == bool(failures) and not report.summary["errors"], report.screen
