"""The real image: built, pushed to a registry on loopback in the place of ECR, pulled by
digest and run as the platform runs it. Everything is kept below one temporary folder."""

import base64
import contextlib
import hashlib
import io
import json
import os
import platform
import re
import shutil
import socket
import ssl
import struct
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from conftest import needs, refuse

ROOT = Path(__file__).parents[2]
IMAGE_SH = ROOT / "devops/tools/image.sh"
HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
BUILT = "2026-01-02T03:04:05Z"
USER, PASSWORD = "AWS", "only for this test"
HASH = "$2b$04$dN4M5wmf6ug1tiXGTA.lKu5y.SKUucZGw75WBdxRHFEo3QOFvvi6G"  # bcrypt, of PASSWORD
ELF = {"amd64": 62, "arm64": 183}  # e_machine
CERTIFICATES, DATABASE, ZONES = "etc/ssl/certs/ca-certificates.crt", "etc/ssl/certs/database.pem", "usr/share/zoneinfo.zip"

GOLANG = re.search(r"^ARG GO_IMAGE=(\S+)$", (ROOT / "devops/Dockerfile").read_text(), re.M)[1]


def run(*command, env=None, check=True, **more):
    done = subprocess.run([str(c) for c in command], env=env, text=True, capture_output=True, **more)
    if check:
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}"
    return done


def git(*arguments):
    return run("git", "-C", ROOT, *arguments).stdout.strip()


def commit():
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


class Engine:
    """podman and buildah with a storage of their own, so that nothing stays on the machine."""

    def __init__(self, folder, registry):
        self.folder = folder
        (folder / "tmp").mkdir(parents=True)
        (folder / "auth.json").write_text("{}")
        (folder / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n')
        # Limits that the machine may not grant, and systemd, are the defaults.
        (folder / "containers.conf").write_text(
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nlock_type = "file"\n'
            f'tmp_dir = "{folder}/libpod"\n'
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            f'[network]\nnetwork_config_dir = "{folder}/net"\n'
        )
        self.env = os.environ | {
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "REGISTRY_AUTH_FILE": f"{folder}/auth.json",
            "SSL_CERT_FILE": str(registry.certificate),
            "TMPDIR": f"{folder}/tmp",
            "BUILDAH_ISOLATION": "chroot",
            "DISABLE_HC_SYSTEMD": "true",
        }

    def podman(self, *arguments, **more):
        return run("podman", *arguments, env=self.env, **more)

    def image_sh(self, *arguments, script=IMAGE_SH, check=True, stdin="", **variables):
        return run(script, *arguments, env=self.env | {"IMAGE_TOOL": "podman", "IMAGE_TIME": BUILT} | variables, check=check, input=stdin)

    def close(self):
        self.podman("rm", "--all", "--force", "--time", "0", check=False)
        eventually(self.unmounted, 30)

    def unmounted(self):
        """podman's own processes may hold the mount a moment longer than the container lives."""
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if Path(mount).is_relative_to(self.folder)]):
            run("umount", mount, check=False)
        return not any(Path(mount).is_relative_to(self.folder) for mount in mounts)


class Registry:
    """The local registry, asked for what it really holds."""

    def __init__(self, address, certificate):
        self.address, self.certificate = address, certificate
        self.trust = ssl.create_default_context(cafile=certificate)

    def get(self, path, accept="*/*"):
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(f"https://{self.address}/v2/{path}", headers={"Authorization": f"Basic {token}", "Accept": accept})
        with urllib.request.urlopen(request, timeout=10, context=self.trust) as answer:
            return answer.read()

    def manifest(self, repository, digest):
        kind = "application/vnd.docker.distribution.manifest"
        body = self.get(f"{repository}/manifests/{digest}", f"{kind}.list.v2+json, {kind}.v2+json")
        assert digest == "sha256:" + hashlib.sha256(body).hexdigest()
        return json.loads(body)


class Image:
    """One platform of an image, as the registry holds it: config, packed size, files."""

    def __init__(self, registry, repository, digest):
        manifest = registry.manifest(repository, digest)
        blob = f"{repository}/blobs/"
        self.config = json.loads(registry.get(blob + manifest["config"]["digest"]))
        self.packed = sum(layer["size"] for layer in manifest["layers"])
        self.members, self.content = {}, {}
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(registry.get(blob + layer["digest"]))) as tar:
                for member in tar:
                    name = member.name.strip("./")
                    self.members[name] = member
                    if member.isfile():
                        self.content[name] = tar.extractfile(member).read()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def eventually(what, seconds=10):
    """Waits until what() is true, and gives it."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, AssertionError):
            if result := what():
                return result
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def folder():
    for program, package in {
        "podman": "podman", "buildah": "buildah", "docker-registry": "docker-registry", "runc": "runc", "openssl": "openssl",
        "nsenter": "util-linux", "curl": "curl", "git": "git", "go": "golang",
    }.items():
        needs(program, package)
    if os.geteuid() != 0:
        refuse("containers with chroot, volumes and namespaces of their own are run as root here: be root")
    folder = Path(tempfile.mkdtemp(prefix="image-"))  # short: sockets are made in it
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def registry(folder):
    address = f"127.0.0.1:{free_port()}"
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=test", "-days", "2",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate)
    (folder / "htpasswd").write_text(f"{USER}:{HASH}\n")
    (folder / "registry.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/blobs}}}}\n"
        f"http: {{addr: '{address}', tls: {{certificate: {certificate}, key: {key}}}}}\n"
        f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}  # they would be settings
    with open(folder / "registry.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(["docker-registry", "serve", folder / "registry.yml"], stdout=log, stderr=log, env=env)
    registry = Registry(address, certificate)
    eventually(lambda: registry.get("") == b"{}")
    yield registry
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def builder(folder, registry):
    """An engine that has a stand-in of Go's image: a shell and what the Dockerfile calls. Go and its caches are the machine's."""
    engine = Engine(folder / "b", registry)
    base = folder / "base"
    for program in ("sh", "mkdir", "cp", "cat", "ls"):
        program = shutil.which(program)
        for file in [program, *re.findall(r"(/\S+) \(0x", run("ldd", program).stdout)]:
            target = base / ("bin" if file == program else file[1:])
            (target if file == program else target.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    (base / "tmp").mkdir()
    (base / "etc/ssl/certs").mkdir(parents=True)
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    if not certificates.exists():
        refuse(f"{certificates} is missing: apt-get install ca-certificates")
    shutil.copy(certificates, base / "etc/ssl/certs")
    (folder / "base.containerfile").write_text(
        "FROM scratch\nCOPY . /\nENV PATH=/usr/local/go/bin:/bin GOTOOLCHAIN=local GOPROXY=off GOMODCACHE=/modules GOCACHE=/cache\n"
    )
    run("buildah", "build", "--quiet", "--tag", GOLANG, "--file", folder / "base.containerfile", base, env=engine.env)
    run("go", "mod", "download", cwd=ROOT)
    go = dict(zip(("root", "modules", "cache"), run("go", "env", "GOROOT", "GOMODCACHE", "GOCACHE", cwd=ROOT).stdout.split(), strict=True))
    Path(go["cache"]).mkdir(parents=True, exist_ok=True)
    engine.env["IMAGE_BUILD_FLAGS"] = (
        f"--pull-never --volume {go['root']}:/usr/local/go:ro --volume {go['modules']}:/modules:ro --volume {go['cache']}:/cache"
    )
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def digest(builder, registry):
    """The digest of the image in the registry, which image.sh put there."""
    refused = builder.image_sh("login", registry.address, stdin="wrong", check=False)
    assert refused.returncode != 0
    builder.image_sh("login", registry.address, stdin=PASSWORD)
    pushed = builder.image_sh("push", f"{registry.address}/birthday-demo:test")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", pushed.stdout), "stdout is the digest and nothing else"
    return pushed.stdout.strip()


@pytest.fixture(scope="module")
def images(registry, digest):
    """The image of each platform."""
    entries = registry.manifest("birthday-demo", digest)["manifests"]
    images = {e["platform"]["architecture"]: Image(registry, "birthday-demo", e["digest"]) for e in entries}
    assert len(entries) == len(images)
    return images


@pytest.fixture(scope="module")
def runner(folder, registry):
    """An engine that has nothing yet: it pulls."""
    engine = Engine(folder / "r", registry)
    engine.podman("login", "--username", USER, "--password-stdin", registry.address, input=PASSWORD)
    yield engine
    engine.close()


class Service:
    """The image at work as on Fargate: nobody, read-only, without capabilities."""

    def __init__(self, engine, reference, volume, *flags):
        self.engine = engine
        self.id = engine.podman(
            "run", "--detach", "--network=none", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all",
            "--security-opt=no-new-privileges", f"--volume={volume}:/data", *flags, reference,
        ).stdout.strip()
        self.wait()

    def wait(self):
        self.pid = self.inspect("{{.State.Pid}}")
        eventually(lambda: self.curl("/readyz", port=8081)[0] == 200)

    def inspect(self, template):
        return self.engine.podman("inspect", "--format", template, self.id).stdout.strip()

    def curl(self, path, *arguments, port=8080):
        """Asks from inside of the container's network, which has loopback only."""
        done = run(
            "nsenter", f"--net=/proc/{self.pid}/ns/net",
            "curl", "--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_code}", *arguments, f"http://127.0.0.1:{port}{path}",
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def put(self, name, date):
        return self.curl(f"/hello/{name}", "--request", "PUT", "--data", json.dumps({"dateOfBirth": date}))[0]


@pytest.fixture(scope="module")
def service(runner, registry, digest):
    """The service, pulled by digest, on a fresh named volume."""
    return Service(runner, f"{registry.address}/birthday-demo@{digest}", "people")


@pytest.fixture(scope="module", params=["amd64", "arm64"])
def architecture(request):
    return request.param


def test_both_platforms_are_pushed(images):
    assert images.keys() == {"amd64", "arm64"}


def test_config(images, architecture):
    image = images[architecture].config
    config = image["config"]
    assert (image["os"], image["architecture"]) == ("linux", architecture)
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/birthday-demo"]
    assert config["Cmd"] == ["serve"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Volumes"] == {"/data": {}}
    assert config["ExposedPorts"].keys() == {"8080/tcp", "8081/tcp"}
    assert {v for v in config["Env"] if not v.startswith("PATH=")} == {
        "PORT=8080", "BIRTHDAY_ADMIN_LISTEN=:8081", "BIRTHDAY_STORE=/data/birthday.db", "BIRTHDAY_DRAIN_DELAY=5s",
        f"ZONEINFO=/{ZONES}",
    }
    second = 10**9
    assert config["Healthcheck"] == {
        "Test": ["CMD", "/birthday-demo", "healthcheck"],
        "Interval": 10 * second, "Timeout": 4 * second, "StartPeriod": 30 * second, "Retries": 3,
    }


def test_labels(images, architecture):
    labels = {k.removeprefix("org.opencontainers.image."): v for k, v in images[architecture].config["config"]["Labels"].items()}
    assert labels["title"] == "birthday-demo"
    assert labels["description"]
    assert labels["licenses"] == (ROOT / "LICENSE").read_text().split()[0]
    assert labels["created"] == BUILT
    assert labels["version"] == git("describe", "--tags", "--always", "--dirty")
    assert labels["revision"] == commit()


def test_files(images, architecture):
    """No shell, no secret, no history: there is nothing but this."""
    image = images[architecture]
    authorities = {DATABASE} if list((ROOT / "devops/authorities").glob("*.pem")) else set()
    assert image.content.keys() == {"birthday-demo", CERTIFICATES, ZONES} | authorities
    folders = {name for name, member in image.members.items() if member.isdir()} - {""}
    assert folders == {"data", "etc", "etc/ssl", "etc/ssl/certs", "usr", "usr/share"}
    for name, member in image.members.items():
        owner, mode = (65532, 0o700) if name == "data" else (0, 0o755 if member.isdir() or name == "birthday-demo" else 0o644)
        assert (member.uid, member.gid) == (owner, owner), name
        assert name == "" or member.mode & 0o7777 == mode, name
    assert image.content[CERTIFICATES].count(b"BEGIN CERTIFICATE") > 100
    assert image.content[ZONES] == (ROOT / "app/birthday/zoneinfo.zip").read_bytes()


def test_binary_is_static(images, architecture):
    binary = images[architecture].content["birthday-demo"]
    assert binary[:6] == b"\x7fELF\x02\x01"  # 64 bits, little-endian
    machine, = struct.unpack_from("<H", binary, 18)
    assert machine == ELF[architecture]
    headers, = struct.unpack_from("<Q", binary, 32)
    size, count = struct.unpack_from("<HH", binary, 54)
    kinds = {struct.unpack_from("<I", binary, headers + i * size)[0] for i in range(count)}
    assert 1 in kinds, "nothing to load"
    assert not kinds & {2, 3}, "it asks for libraries or an interpreter"  # PT_DYNAMIC, PT_INTERP


def test_size(images, architecture):
    image = images[architecture]
    size = sum(map(len, image.content.values()))
    others = size - len(image.content["birthday-demo"])
    print(f"{architecture}: {size / 1e6:.1f} MB, packed {image.packed / 1e6:.1f} MB")
    assert others < 1.5e6
    assert image.packed < 0.6 * size
    assert size < 30e6


def test_runs_as_nobody(service):
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{service.pid}/status").read_text().splitlines())
    assert status["Uid"].split() == ["65532"] * 4
    assert status["Gid"].split() == ["65532"] * 4
    assert all(int(status[c], 16) == 0 for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    assert status["NoNewPrivs"] == "1"
    root = next(m for m in Path(f"/proc/{service.pid}/mountinfo").read_text().splitlines() if m.split()[4] == "/")
    assert root.split()[5].split(",")[0] == "ro"


def test_no_shell(service):
    for shell in ("/bin/sh", "sh", "/busybox/sh"):
        assert service.engine.podman("exec", service.id, shell, "-c", "true", check=False).returncode in (126, 127)


def test_says_what_it_is(service):
    status, body = service.curl("/version", port=8081)
    version = json.loads(body)
    assert (status, version["commit"], version["buildTime"]) == (200, commit(), BUILT)
    assert commit() in service.engine.podman("exec", service.id, "/birthday-demo", "--version").stdout


def test_health_by_the_binary(service):
    service.engine.podman("healthcheck", "run", service.id)
    service.engine.podman("exec", service.id, "/birthday-demo", "healthcheck", "--ready")
    wrong = ("exec", "--env=BIRTHDAY_ADMIN_LISTEN=:9", service.id, "/birthday-demo", "healthcheck")
    assert service.engine.podman(*wrong, check=False).returncode == 1


def test_serves(service):
    assert service.put("ana", "1990-05-17") == 204
    status, body = service.curl("/hello/ana?tz=Asia/Tokyo")
    assert status == 200
    assert json.loads(body)["message"].startswith("Hello, ana! ")
    assert service.curl("/hello/nobody")[0] == 404


def test_volume_keeps_owner_and_mode(service):
    folder = Path(service.engine.podman("volume", "inspect", "--format", "{{.Mountpoint}}", "people").stdout.strip())
    for path, mode in ((folder, 0o700), (folder / "birthday.db", 0o600)):
        stat = path.stat()
        assert (stat.st_uid, stat.st_gid, stat.st_mode & 0o777) == (65532, 65532, mode), path


def test_stops_and_keeps_people(service):
    """Serves on for the drain delay of 5 s, red to the balancer, leaves with 0; the next one knows everybody."""
    assert service.put("bela", "1991-06-18") == 204
    start = time.monotonic()
    with subprocess.Popen(["podman", "stop", "--time", "40", service.id], env=service.engine.env, stdout=subprocess.DEVNULL) as stop:
        eventually(lambda: service.curl("/readyz", port=8081)[0] == 503, 3)
        assert service.curl("/hello/bela")[0] == 200
        assert service.put("carla", "1992-07-19") == 204
        assert stop.wait(40) == 0
    took = time.monotonic() - start
    assert 5 <= took < 15, took
    assert service.inspect("{{.State.ExitCode}} {{.State.OOMKilled}}") == "0 false"
    log = service.engine.podman("logs", service.id).stderr
    assert '"msg":"stopped"' in log
    service.engine.podman("start", service.id)
    service.wait()
    for name in ("bela", "carla"):
        assert service.curl(f"/hello/{name}")[0] == 200


def test_copies_itself_on_an_empty_file_system(runner, registry, digest, folder):
    """An access point of EFS begins as an empty folder of the user's own; copies go below it."""
    (folder / "efs").mkdir(mode=0o700)
    os.chown(folder / "efs", 65532, 65532)
    service = Service(runner, f"{registry.address}/birthday-demo@{digest}", folder / "efs", "--env=BIRTHDAY_BACKUP_DIR=/data/backup")
    eventually(lambda: list((folder / "efs/backup").glob("birthday-*.db")), 5)
    runner.podman("rm", "--force", "--time", "0", service.id)


def test_the_same_again_from_buildah(builder, registry, digest, images):
    """The same files and settings; what is cached is not built again."""
    pushed = builder.image_sh("push", f"{registry.address}/birthday-demo:buildah", IMAGE_TOOL="buildah").stdout.strip()
    entries = registry.manifest("birthday-demo", pushed)["manifests"]
    again = {e["platform"]["architecture"]: Image(registry, "birthday-demo", e["digest"]) for e in entries}
    assert {a: i.content for a, i in again.items()} == {a: i.content for a, i in images.items()}
    assert {a: i.config["config"] for a, i in again.items()} == {a: i.config["config"] for a, i in images.items()}


def test_elsewhere(builder, registry, digest, folder):
    """A tree that is no checkout, with things that must not leave it, and authorities of a database."""
    tree = folder / "tree"
    for file in git("ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / file).is_file() and file.startswith(("app/", "go.", "devops/", ".dockerignore")):
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, tree / file)
    for planted in (".env", "birthday.db", "app/birthday.db", "app/.env", "devops/authorities/key.txt"):
        (tree / planted).write_text("planted")
    (tree / "devops/authorities/one.pem").write_text("one\n")
    (tree / "devops/authorities/two.pem").write_text("two\n")
    ref = f"{registry.address}/birthday-demo:elsewhere"
    pushed = builder.image_sh("push", ref, script=tree / "devops/tools/image.sh", PLATFORMS=f"linux/{HERE}").stdout.strip()
    entry, = registry.manifest("birthday-demo", pushed)["manifests"]
    image = Image(registry, "birthday-demo", entry["digest"])
    assert image.content.keys() == {"birthday-demo", CERTIFICATES, ZONES, DATABASE}
    assert image.content[DATABASE] == b"one\ntwo\n"
    assert image.config["config"]["Labels"]["org.opencontainers.image.revision"] == ""
    shown = builder.podman("run", "--rm", "--network=none", ref, "--version").stdout
    assert f"built {BUILT}" in shown


def test_dockerfile_follows_the_checkout():
    dockerfile, ignored = (ROOT / "devops/Dockerfile").read_text(), (ROOT / ".dockerignore").read_text().splitlines()
    minor = re.search(r"^go (\d+\.\d+)", (ROOT / "go.mod").read_text(), re.M)[1]
    assert re.search(r"golang:([\d.]+)-", GOLANG)[1] == minor
    flags = re.search(r'-ldflags "(.*?)"', dockerfile)[1]
    wanted = re.search(r'-ldflags "(.*?)"', (ROOT / "Makefile").read_text())[1]
    assert flags == re.sub(r"\$\((\w+)\)", lambda m: "$" + m[1].upper(), wanted)
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*", "everything that is not named stays here"
    copied = {word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.M) for word in line.split()}
    assert {r[1:] for r in rules if r.startswith("!")} == copied


# What image.sh does where other tools are, with stand-ins for them.


def stand_in(folder, name, script):
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "{name} $*" >>"{folder}/calls"\n{script}')
    program.chmod(0o755)


@pytest.fixture
def tools(tmp_path):
    """A PATH of nothing but what image.sh itself calls."""
    needs("git", "git")
    for program in ("bash", "env", "dirname", "git", "date", "uname", "mktemp", "rm", "sed", "grep", "cat"):
        (tmp_path / program).symlink_to(shutil.which(program))
    return tmp_path


def image_sh(tools, *arguments, **variables):
    return run(IMAGE_SH, *arguments, env={"PATH": str(tools), "IMAGE_TIME": BUILT} | variables, check=False, input="secret")


DOCKER = """case "$*" in
"buildx inspect") [ "$BUILDX_BUILDER" = birthday-demo ] && exit 1; echo "Driver: docker" ;;
*--metadata-file*) while [ "$1" != --metadata-file ]; do shift; done; echo noise
cat >"$2" <<END
{
  "buildx.build.ref": "x",
  "containerimage.config.digest": "sha256:%s",
  "containerimage.digest": "sha256:%s"
}
END
;;
esac
""" % ("b" * 64, "a" * 64)


def test_docker_comes_first(tools):
    stand_in(tools, "docker", DOCKER)
    stand_in(tools, "podman", "")
    pushed = image_sh(tools, "push", "registry.example/x:1", IMAGE_BUILD_FLAGS="--pull --no-cache")
    assert (pushed.returncode, pushed.stdout) == (0, f"sha256:{'a' * 64}\n"), pushed.stderr
    calls = (tools / "calls").read_text()
    assert "docker buildx create --name birthday-demo --driver docker-container\n" in calls
    build = next(line for line in calls.splitlines() if line.startswith("docker buildx build "))
    for words in (
        "--file devops/Dockerfile", "--platform linux/arm64,linux/amd64", f"--build-arg TIME={BUILT}", "--pull --no-cache",
        f"--build-arg COMMIT={commit()}",
        "--output type=image,name=registry.example/x:1,push=true",
    ):
        assert words in build
    assert "podman" not in calls


def test_docker_builds_without_pushing(tools):
    stand_in(tools, "docker", DOCKER)
    assert image_sh(tools, "build", "x:1", PLATFORMS="linux/arm64").returncode == 0
    calls = (tools / "calls").read_text()
    assert "--platform linux/arm64 " in calls
    assert ",push=false" in calls


@pytest.mark.parametrize("docker", ["exit 1", '[ "$1" != buildx ]', None])
def test_podman_is_next(tools, docker):
    """Docker has no engine, no buildx, or is not there."""
    if docker:
        stand_in(tools, "docker", docker)
    stand_in(tools, "podman", "")
    stand_in(tools, "buildah", "")
    assert image_sh(tools, "login", "registry.example").returncode == 0
    calls = (tools / "calls").read_text()
    assert "podman login --username AWS --password-stdin registry.example\n" in calls
    assert "buildah" not in calls


def test_buildah_is_last(tools):
    stand_in(tools, "podman", "exit 1")
    stand_in(tools, "buildah", "")
    assert image_sh(tools, "build", "x:1").returncode == 0
    calls = (tools / "calls").read_text()
    assert re.search(r"^buildah build .*--format docker --layers --manifest x:1 \.$", calls, re.M)
    assert "push" not in calls


def test_tells_which_tool_it_is(tools):
    stand_in(tools, "buildah", "")
    assert image_sh(tools, "tool").stdout == "buildah\n"


def test_says_what_to_install(tools):
    refused = image_sh(tools, "build", "x:1")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert all(tool in refused.stderr for tool in ("docker", "podman", "buildah", "apt-get install"))


def test_a_chosen_tool_is_not_replaced(tools):
    stand_in(tools, "podman", "")
    refused = image_sh(tools, "build", "x:1", IMAGE_TOOL="docker")
    assert refused.returncode == 1
    assert "docker does not work here" in refused.stderr
    assert image_sh(tools, "build", "x:1", IMAGE_TOOL="kaniko").returncode == 2


def test_a_failing_build_fails(tools):
    """And prints no digest, whatever the tool left."""
    for script in ('[ "$1" != build ]', '[ "$2" != push ]', ""):
        stand_in(tools, "podman", script)
        refused = image_sh(tools, "push", "x:1")
        assert (refused.returncode, refused.stdout) == (1, ""), script


@pytest.mark.parametrize("arguments", [(), ("build",), ("push", "a", "b"), ("pull", "a")])
def test_usage(tools, arguments):
    stand_in(tools, "podman", "")
    refused = image_sh(tools, *arguments)
    assert refused.returncode == 2
    assert "usage" in refused.stderr


# compose.yaml: what can be seen of it without an engine.

COMPOSE = yaml.safe_load((ROOT / "devops/compose.yaml").read_text())


def test_compose_is_for_this_machine_only():
    ports = [port for service in COMPOSE["services"].values() for port in service["ports"]]
    assert len(ports) == 4
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports)


def test_compose_pins_what_it_pulls():
    for service in COMPOSE["services"].values():
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_compose_binds_the_service():
    service = COMPOSE["services"]["birthday-demo"]
    assert service["read_only"] is True
    assert service["volumes"] == ["people:/data"]
    for each in COMPOSE["services"].values():
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "user", "network_mode", "pid"} & each.keys()
    settings = set(re.findall(r"`(BIRTHDAY_\w+)`", (ROOT / "README.md").read_text()))
    assert {name for name in service["environment"] if name.startswith("BIRTHDAY_")} <= settings
    dockerfile = (ROOT / "devops/Dockerfile").read_text()
    drain = int(re.search(r"BIRTHDAY_DRAIN_DELAY=(\d+)s", dockerfile)[1])
    assert drain + 20 + 5 < int(service["stop_grace_period"].removesuffix("s"))


def test_compose_finds_its_files():
    base = ROOT / "devops"
    for service in COMPOSE["services"].values():
        for source, _, _ in (volume.partition(":") for volume in service["volumes"]):
            assert (base / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"]
    build = COMPOSE["services"]["birthday-demo"]["build"]
    assert (base / build["context"] / build["dockerfile"]).samefile(base / "Dockerfile")
    jobs = yaml.safe_load((base / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert [job["static_configs"] for job in jobs] == [[{"targets": ["birthday-demo:8081"]}]]
    source, = yaml.safe_load((base / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    provider, = yaml.safe_load((base / "grafana/provisioning/dashboards/birthday-demo.yml").read_text())["providers"]
    grafana = COMPOSE["services"]["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(provider["options"]["path"])
    assert (base / "grafana/dashboards" / home.name).is_file()
