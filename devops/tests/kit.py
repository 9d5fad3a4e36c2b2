"""The deploy kit at work: a checkout of its own, an emulated account, a stand-in for
the service behind its public name, and the playbooks run for real against them."""

import contextlib
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import boto3
import iam

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "123456789012"
# Long, as short ones would be masked wherever they occur in Ansible's output.
KEY, SECRET = "deployer-of-the-tests", "long-enough-that-it-occurs-nowhere-else"

# Stands in for docker: it "pushes" by telling the registry of the emulator.
DOCKER = """#!{python}
import hashlib, json, os, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(arguments) + "\\n")
if arguments[:1] == ["login"]:
    sys.stdin.read()
if arguments[:2] == ["buildx", "build"] and "push=true" in " ".join(arguments):
    import boto3
    ref = next(a for a in " ".join(arguments).replace(",", " ").split() if a.startswith("name="))[5:]
    repository, tag = ref.split("/", 1)[1].rsplit(":", 1)
    manifest = json.dumps({{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {{"digest": "sha256:" + hashlib.sha256(tag.encode()).hexdigest()}}, "layers": [{{"digest": "sha256:" + hashlib.sha256(ref.encode()).hexdigest()}}]}})
    boto3.client("ecr").put_image(repositoryName=repository, imageTag=tag, imageManifest=manifest)
    digest = boto3.client("ecr").describe_images(repositoryName=repository, imageIds=[{{"imageTag": tag}}])["imageDetails"][0]["imageDigest"]
    metadata = arguments[arguments.index("--metadata-file") + 1]
    with open(metadata, "w") as file:
        json.dump({{"containerimage.digest": digest}}, file, indent=1)
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def git(folder, *arguments):
    return subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments],
        cwd=folder, check=True, capture_output=True, text=True,
    ).stdout.strip()


class Checkout:
    """A repository with the kit in it, and a remote that it is pushed to."""

    def __init__(self, folder):
        self.path = folder / "checkout"
        self.path.mkdir(parents=True)
        listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "devops/ansible", "devops/cloudformation", "devops/tools", "devops/authorities", "devops/Dockerfile")
        for name in listed.splitlines():
            if (ROOT / name).is_file():
                target = self.path / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((ROOT / name).read_bytes())
                target.chmod((ROOT / name).stat().st_mode)
        (self.path / ".gitignore").write_text("/devops/authorities/*.pem\n__pycache__/\n")
        git(self.path, "init", "-q", "-b", "main")
        git(self.path, "add", "-A")
        git(self.path, "commit", "-qm", "first")
        git(folder, "init", "-q", "--bare", "remote")
        git(self.path, "remote", "add", "origin", str(folder / "remote"))
        self.push()

    def commit(self, push=True):
        git(self.path, "commit", "-q", "--allow-empty", "-m", "another")
        if push:
            self.push()
        return self.head()

    def push(self):
        git(self.path, "push", "-q", "-u", "origin", "main")

    def head(self):
        return git(self.path, "rev-parse", "HEAD")


class Service:
    """Answers like the service behind its public name; no greeting while `broken()`."""

    def __init__(self):
        self.people, self.broken, self.requests = {}, lambda: False, []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                service.requests.append((self.command, self.path))
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, message = service.handle(self.command, self.path, body, self.headers.get("Authorization"))
                text = json.dumps({"message": message}).encode()
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if status != 204:
                    self.wfile.write(text)

            do_GET = do_PUT = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def handle(self, method, path, body, authorization):
        name = path.removeprefix("/hello/")
        if name == path:
            return 404, "there is nothing here"
        if method == "GET":
            if self.broken():
                return 500, "something went wrong"
            return (200, f"Hello, {name}! Happy birthday!") if name in self.people else (404, "you are new")
        if not (authorization or "").startswith("Bearer "):
            return 401, "this needs a token"
        if method == "DELETE":
            return (204, "") if self.people.pop(name, None) else (404, "you are new")
        if not name.isalpha() or b"9999" in body:
            return 400, "that is wrong"
        self.people[name] = True
        return 204, ""

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Account:
    """An emulated account; nothing is in it but a hosted zone."""

    def __init__(self, folder):
        self.calls_file, self.control_file = folder / "calls", folder / "control.json"
        self.control()
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "devops/tests/emulator", "--port", str(free_port()), "--calls", self.calls_file, "--control", self.control_file],
            stdout=subprocess.PIPE, stderr=open(folder / "emulator.log", "w"), text=True,
        )
        line = self.process.stdout.readline()
        assert line, (folder / "emulator.log").read_text()[-3000:]
        ready = json.loads(line)
        self.url, self.zone = ready["url"], ready["zone"]
        self.environment = {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self, service, region="eu-west-1"):
        # Another key than the playbooks', so that the tests' own looks do not count as calls of theirs.
        return boto3.client(service, region_name=region, endpoint_url=self.url, aws_access_key_id="looks-on", aws_secret_access_key=SECRET)

    def control(self, **what):
        """Steers the emulator: see its README in emulator/__init__.py."""
        self.control_file.write_text(json.dumps({"account": ACCOUNT, **what}))

    def calls(self, since=0):
        """The calls that the playbooks made, from number `since` on."""
        if not self.calls_file.exists():
            return []
        return [call for call in map(json.loads, self.calls_file.read_text().splitlines()) if call["principal"] == KEY][since:]

    def writes(self, since=0):
        """Those of them that change something; tokens and logins are none."""
        read = re.compile(r"^(Describe|Get|List|BatchGet)")
        return [f"{call['service']}:{call['operation']}" for call in self.calls(since) if not read.match(call["operation"])]

    def stack(self, name, region="eu-west-1"):
        with contextlib.suppress(Exception):
            return self.client("cloudformation", region).describe_stacks(StackName=name)["Stacks"][0]
        return None

    def outputs(self, name, region="eu-west-1"):
        return {output["OutputKey"]: output["OutputValue"] for output in self.stack(name, region).get("Outputs", [])}

    def stacks(self, region="eu-west-1"):
        found = self.client("cloudformation", region).describe_stacks()["Stacks"]
        return {stack["StackName"]: stack["StackStatus"] for stack in found}

    def change_sets(self, name, region="eu-west-1"):
        return self.client("cloudformation", region).list_change_sets(StackName=name)["Summaries"]

    def close(self):
        self.process.terminate()
        self.process.wait(10)


class Run:
    """What a playbook said, and how it ended."""

    def __init__(self, process):
        self.code, self.screen = process.returncode, process.stdout + process.stderr
        self.text = " ".join(self.screen.split())  # wherever lines were broken
        recap = re.search(r"ok=(\d+) +changed=(\d+)", self.text)
        self.changed = int(recap[2]) if recap else None

    def __repr__(self):
        return self.screen[-6000:]


class Kit:
    """Everything that a deploy needs."""

    def __init__(self, folder):
        self.folder = folder
        self.checkout, self.account, self.service = Checkout(folder), Account(folder), Service()
        self.bin = folder / "bin"
        self.bin.mkdir()
        docker = self.bin / "docker"
        docker.write_text(DOCKER.format(python=sys.executable, log=str(folder / "docker.log")))
        docker.chmod(0o755)
        (folder / "authorities.pem").write_text("none here\n")

    def environment(self, **more):
        # Nothing of the machine's own: no credentials, no profile, no settings of Ansible.
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ANSIBLE_"))}
        path = f"{self.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**kept, **self.account.environment, "PATH": path, "HOME": str(self.folder), "NO_COLOR": "1", **more}

    def builds(self):
        """How often an image was built."""
        log = self.folder / "docker.log"
        return sum(json.loads(line)[:2] == ["buildx", "build"] for line in log.read_text().splitlines()) if log.exists() else 0

    def settings(self):
        return {
            "account_id": ACCOUNT, "domain": "hello.example.com", "zone_id": self.account.zone, "mail": "team@example.com",
            "repository": "example/birthday-demo", "url": self.service.url, "poll_seconds": 1, "release_window": {},
            "database_authorities_url": (self.folder / "authorities.pem").as_uri(),
            "stack_timeout": 120, "migration_timeout": 30, "steady_timeout": 20,
        }

    def play(self, name, *arguments, environment=None, without=(), **variables):
        """Runs a playbook as a person does, from its folder."""
        settings = {key: value for key, value in {**self.settings(), **variables}.items() if key not in without}
        started = time.monotonic()
        process = subprocess.run(
            [f"./birthday_demo_{name}.yml", "-e", json.dumps(settings), *arguments],
            cwd=self.checkout.path / "devops/ansible", env=environment or self.environment(), capture_output=True, text=True,
            stdin=subprocess.DEVNULL,
        )
        run = Run(process)
        with open(self.folder / "plays.log", "a") as log:
            log.write(f"==== {name} {arguments} {variables}: {run.code}, {time.monotonic() - started:.0f} s\n{run.screen}\n")
        return run

    def deploy(self, env, *arguments, **more):
        return self.play("deploy", *arguments, env=env, **more)

    def close(self):
        self.account.close()
        self.service.close()
        iam.assert_allowed(self.account.calls())
