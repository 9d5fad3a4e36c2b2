#!/usr/bin/env python3
"""Measures the program beside simpler ones, and writes docs/benchmarks.md.

What is compared is measured in turn, A B, B A, A B and so on, with the same GOGC, and
the medians are shown: so the ratios hold on a machine that has other things to do, and
the CPU time of a request, which /proc knows, moves less than requests a second. A bar
that is missed is shown as missed; the exit code is 0 all the same.

Wants bin/birthday-demo (`make build`), and the Debian packages wrk and sqlite3; what
needs one that is missing is left out, and said so. BENCH_LARGE=1 measures 10^7 people
too.
"""

import collections
import contextlib
import datetime
import http.client
import os
import pathlib
import platform
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "bin" / "birthday-demo"
KEPT = "PATH", "HOME", "TMPDIR", "GOPATH", "GOMODCACHE", "GOCACHE", "GOFLAGS", "GOPROXY"
ENVIRON = {key: os.environ[key] for key in KEPT if key in os.environ} | {"GOGC": "100"}
TICK = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20

# wrk's script: requests for the usernames in a file, one after the other.
SCRIPT = """
local put = os.getenv("METHOD") == "PUT"
local requests, n, i = {}, 0, 0
function init(args)
  for name in io.lines(os.getenv("NAMES")) do
    n = n + 1
    if put then
      local body = '{"dateOfBirth":"1991-06-18"}'
      requests[n] = wrk.format("PUT", "/hello/" .. name, {["Content-Type"] = "application/json"}, body)
    else
      requests[n] = wrk.format("GET", "/hello/" .. name)
    end
  end
end
function request()
  i = i % n + 1
  return requests[i]
end
if os.getenv("PAUSE") then
  function delay() return tonumber(os.getenv("PAUSE")) end  -- milliseconds before each request
end
"""

Load = collections.namedtuple("Load", "rate cpu mean p99")


class Page:
    """Collects the figures, and prints each as it comes."""

    def __init__(self):
        self.lines = []
        self.missed = 0

    def section(self, title, *text):
        print(f"\n{title}")
        self.lines += ["", f"## {title}", "", *[line for paragraph in text for line in (*wrap(paragraph), "")]]
        self.lines += ["| figure | here | bar | |", "|---|---|---|---|"]

    def figure(self, what, value, unit="", below=None, above=None, note=""):
        met, bar = "", note
        if below is not None or above is not None:
            good = value <= below if below is not None else value >= above
            bar = (f"at most {number(below)}" if below is not None else f"at least {number(above)}") + unit + note
            met = "met" if good else "**missed**"
            self.missed += not good
        shown = value if isinstance(value, str) else number(value) + unit
        print(f"  {what}: {shown}" + (f" ({bar}: {met.strip('*')})" if met else f" {bar}".rstrip()))
        self.lines.append(f"| {what} | {shown} | {bar} | {met} |")

    def command(self, *commands):
        self.lines += ["", "```sh", *commands, "```"]


def number(n):
    if isinstance(n, int) or n >= 1000:
        return f"{n:,.0f}"
    return f"{n:.3g}"


def wrap(text, width=86):
    """The text in lines, as Markdown likes them."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return lines + [line]


# People.

QUADS = [a + b + c + d for letters in ["abcdefghijklmnopqrstuvwxyz"]
         for a in letters for b in letters for c in letters for d in letters]


def username(n):
    """Twelve letters, different for each number, in no order."""
    x = n * 59604644775390631 % 26**12
    return QUADS[x % 26**4] + QUADS[x // 26**4 % 26**4] + QUADS[x // 26**8]


def write_people(path, count, in_order=False):
    names = (username(n) for n in range(count))
    if in_order:
        names = sorted(names)
    with open(path, "w", encoding="ascii") as out:
        out.write("username,dateOfBirth\n")
        out.writelines(f"{name},1990-05-17\n" for name in names)


# Programs.

class Server:
    """A program that listens, on a port of its own."""

    def __init__(self, command, port, admin=None):
        self.url, self.admin = f"http://127.0.0.1:{port}", admin and f"http://127.0.0.1:{admin}"
        self.port = port
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, env=ENVIRON, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait(self, path):
        """Waits for the first answer, and gives the seconds since the start."""
        while time.monotonic() - self.started < 30:
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", path)
                connection.getresponse().read()
                took = time.monotonic() - self.started
                connection.close()
                return took
            time.sleep(0.0005)
        sys.exit(f"{self.process.args} does not answer")

    def stop(self):
        """Asks it to stop, and gives the seconds until it has."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        return time.monotonic() - start

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def anonymous(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def serving(command, ready="/hello/ana"):
    server = Server(command[0], *command[1:])
    try:
        server.wait(ready)
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def ours(store):
    port, admin = free_port(), free_port()
    return [BINARY, "serve", f"--listen=127.0.0.1:{port}", f"--admin-listen=127.0.0.1:{admin}",
            f"--store={store}", "--log-format=json"], port, admin


def other(program, *arguments):
    port = free_port()
    return [program, f"--listen=127.0.0.1:{port}", *arguments], port


def run(*command, check=True, **more):
    return subprocess.run([str(word) for word in command], check=check, env=ENVIRON, cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more).stdout


def timed(*commands):
    """Runs commands one after the other, and gives the seconds of all."""
    start = time.monotonic()
    for command in commands:
        run(*command)
    return time.monotonic() - start


def in_turn(rounds, *measures):
    """Calls each measure in each round, and gives a list of results for each."""
    results = [[] for _ in measures]
    order = list(zip(measures, results))
    for n in range(rounds):
        for measure, into in order if n % 2 == 0 else order[::-1]:
            into.append(measure())
    return results


def medians(loads):
    return Load(*[statistics.median(values) for values in zip(*loads)])


class Bench:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.page = Page()
        self.stores = {}
        self.script = self.folder / "wrk.lua"
        self.script.write_text(SCRIPT)
        self.bare, self.update = self.folder / "bare", self.folder / "update"
        run("go", "build", "-o", self.bare, "./app/bench/bare")
        run("go", "build", "-o", self.update, "./app/bench/update")

    def store(self, count):
        """A store with so many people, made once."""
        if count not in self.stores:
            path, people = self.folder / f"people-{count}.db", self.folder / "people.csv"
            write_people(people, count)
            run(BINARY, "import", f"--store={path}", "--quiet", people)
            people.unlink()
            some = random.Random(count).choices(range(count), k=20_000)
            path.with_suffix(".names").write_text("\n".join(map(username, some)) + "\n")
            self.stores[count] = path
        return self.stores[count]

    def load(self, server, store, connections, seconds, method="GET", **more):
        """Loads a server with wrk."""
        environ = dict(ENVIRON, METHOD=method, NAMES=str(store.with_suffix(".names")), **more)
        before = server.cpu()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout=20s", "--latency", "-s", self.script]
        out = subprocess.run([*command, server.url], env=environ, check=True, stdout=subprocess.PIPE, text=True).stdout
        cpu = server.cpu() - before
        bad = re.search(r"(Non-2xx.*|Socket errors.*)", out)
        if bad:
            self.page.figure(f"trouble: {method} by {connections} connections", bad[1])
        requests = int(re.search(r"(\d+) requests in", out)[1])

        def milliseconds(pattern):
            found = re.search(pattern + r"\s+([\d.]+)(us|ms|s)\b", out)
            return float(found[1]) * {"us": 1e-3, "ms": 1, "s": 1e3}[found[2]]

        return Load(float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), cpu * 1e6 / max(requests, 1),
                    milliseconds("Latency"), milliseconds("99%"))

    def get(self):
        self.page.section(
            "GET",
            "The program with all that it does by default, its JSON log to `/dev/null`, 10^5 people and 32 kept"
            " connections, beside a bare `net/http` handler that writes a body as long (`app/bench/bare`). A server"
            " under as much load as it takes gets cheaper by the request, the more of them it answers: with pauses"
            " both get about the same load.")
        rounds, seconds = 7, 1
        store = self.store(10**5)
        with serving(ours(store)) as server, serving(other(self.bare)) as bare:
            mine, theirs = map(medians, in_turn(rounds, lambda: self.load(server, store, 32, seconds),
                                                lambda: self.load(bare, store, 32, seconds)))
            paced, bare_paced = map(medians, in_turn(
                rounds, lambda: self.load(server, store, 32, seconds, PAUSE="1"),
                lambda: self.load(bare, store, 32, seconds, PAUSE="1")))
        self.page.figure("CPU time a request", mine.cpu, " µs")
        self.page.figure("… of bare", theirs.cpu, " µs")
        self.page.figure("CPU time of bare over ours", theirs.cpu / mine.cpu, above=0.55, note=" (aim 0.7)")
        self.page.figure(f"… when each connection pauses 1 ms: {number(bare_paced.cpu)} over {number(paced.cpu)} µs",
                         bare_paced.cpu / paced.cpu)
        self.page.figure("requests a second", mine.rate)
        self.page.figure("… of bare", theirs.rate)
        self.page.figure("99 % are answered within", mine.p99, " ms")
        self.page.figure("… of bare", theirs.p99, " ms")
        self.page.command(f"wrk -t1 -c32 -d{seconds} --latency -s wrk.lua http://…  # {rounds} rounds, in turn",
                          f"PAUSE=1 wrk -t1 -c32 -d{seconds} --latency -s wrk.lua http://…  # the same")

    def allocations(self):
        def count(package, name):
            out = run("go", "test", "-run=^$", f"-bench=^{name}$", "-benchtime=5000x", "-timeout=60s", package)
            return int(re.search(r"(\d+) allocs/op", out)[1])

        whole, recorder = count("./app/api", "BenchmarkGet"), count("./app/bench", "BenchmarkRecorder")
        self.page.section(
            "Allocations of a GET",
            "Without `net/http`'s own: the handler, less what the benchmark's recorder of answers takes.")
        self.page.figure("allocations", whole - recorder, below=25, note=f" ({whole} less {recorder})")
        self.page.command("go test -run '^$' -bench BenchmarkGet -benchtime 5000x ./app/api",
                          "go test -run '^$' -bench BenchmarkRecorder -benchtime 5000x ./app/bench")

    def put(self):
        rounds = 5
        self.page.section(
            "PUT, in process",
            "The store beside one bbolt transaction for each, 10^5 people, both synced; puts a second, and how long"
            " 99 % take at most.")
        test = self.folder / "bench.test"
        run("go", "test", "-c", "-o", test, "./app/bench")
        results = collections.defaultdict(list)
        for n in range(rounds):
            ENVIRON["BENCH_REVERSE"] = "yes" * (n % 2)
            out = run(test, "-test.run=^$", "-test.bench=Put", "-test.benchtime=0.7s", "-test.timeout=60s")
            for clients, who, p99, rate in re.findall(r"clients=(\d+)/(\w+).*?([\d.]+) p99-ms\s+([\d.]+) puts/s", out):
                results[int(clients), who].append((float(rate), float(p99)))
        for clients, bar in (1, 0.9), (32, 5), (256, 10):
            rate, p99 = map(statistics.median, zip(*results[clients, "store"]))
            each, each99 = map(statistics.median, zip(*results[clients, "update"]))
            s = "" if clients == 1 else "s"
            self.page.figure(f"{clients} client{s}: {number(rate)} over {number(each)} a second", rate / each, "×", above=bar)
            self.page.figure(f"{clients} client{s}: 99 % within {p99:.2f} ms, over {each99:.2f} ms", p99 / each99, "×",
                             below=0.2 if clients == 256 else None)
        self.page.command(f"go test -run '^$' -bench Put -benchtime 0.7s ./app/bench  # {rounds} times")

    def put_http(self):
        rounds, seconds = 3, 1
        self.page.section(
            "PUT, over HTTP", "The program beside one that uses one bbolt transaction for each (`app/bench/update`).")
        store = self.store(10**5)
        mine, theirs = self.folder / "mine.db", self.folder / "theirs.db"
        shutil.copy(store, mine)
        shutil.copy(store, theirs)
        with serving(ours(mine)) as server, serving(other(self.update, f"--store={theirs}")) as update:
            for connections in 1, 32, 256:
                a, b = map(medians, in_turn(rounds, lambda: self.load(server, store, connections, seconds, "PUT"),
                                            lambda: self.load(update, store, connections, seconds, "PUT")))
                who = f"{connections} connection{'' if connections == 1 else 's'}"
                self.page.figure(f"{who}: {number(a.rate)} over {number(b.rate)} a second", a.rate / b.rate, "×",
                                 note="" if connections == 1 else "aim 4×")
                self.page.figure(f"{who}: 99 % within {a.p99:.2f} ms, over {b.p99:.2f} ms", a.p99 / b.p99, "×")
        mine.unlink()
        theirs.unlink()
        self.page.command(f"METHOD=PUT wrk -t1 -c… -d{seconds} --latency -s wrk.lua http://…  # {rounds} rounds, in turn")

    def growth(self):
        rounds, seconds, few = 5, 1, 10**4
        many = [10**6] + ([10**7] if os.environ.get("BENCH_LARGE") == "1" else [])
        self.page.section(
            "Growth",
            "From 10^4 people: CPU time of a GET by 32 connections, time of a PUT by one, and memory that is not the"
            " page cache's.")
        for count in many:
            exponent = f"10^{len(str(count)) - 1}"
            small, large = self.store(few), self.store(count)
            copies = self.folder / "small.db", self.folder / "large.db"
            size = large.stat().st_size
            for source, target in zip((small, large), copies):
                shutil.copy(source, target)
            with serving(ours(copies[0])) as a, serving(ours(copies[1])) as b:
                def at(connections, method):
                    return map(medians, in_turn(
                        rounds, lambda: self.load(a, small, connections, seconds, method),
                        lambda: self.load(b, large, connections, seconds, method)))

                get_few, get_many = at(32, "GET")
                put_few, put_many = at(1, "PUT")
                most, done = 0, threading.Event()

                def watch():
                    nonlocal most
                    while not done.wait(0.02):
                        most = max(most, b.anonymous())

                watcher = threading.Thread(target=watch)
                watcher.start()
                self.load(b, large, 256, 2, "GET")
                self.load(b, large, 256, 2, "PUT")
                done.set()
                watcher.join()
            for copy in copies:
                copy.unlink()
            self.page.figure(f"GET, {exponent}: {get_many.cpu:.1f} µs over {get_few.cpu:.1f} µs of CPU",
                             get_many.cpu / get_few.cpu, "×", below=1.25)
            self.page.figure(f"PUT, {exponent}: {put_many.mean:.3f} ms over {put_few.mean:.3f} ms",
                             put_many.mean / put_few.mean, "×", below=2)
            self.page.figure(f"file after an import, {exponent}", size / count, " bytes a person", below=45)
            self.page.figure(f"anonymous memory at 256 connections, GET then PUT, {exponent}", most / MIB, " MiB", below=64)
        self.page.command(f"wrk -t1 -c32 -d{seconds} --latency -s wrk.lua http://…  # {rounds} rounds, in turn",
                          f"METHOD=PUT wrk -t1 -c1 -d{seconds} --latency -s wrk.lua http://…  # {rounds} rounds, in turn",
                          "grep RssAnon /proc/$PID/status  # the most, each 20 ms, under wrk -c256")

    def imports(self):
        rounds, count = 3, 10**6
        self.page.section(
            "Import",
            "10^6 people from CSV, beside `sqlite3` into a table WITHOUT ROWID; both then synced. Above 1 is faster"
            " than sqlite3.")
        if not shutil.which("sqlite3"):
            self.page.figure("not measured", "sqlite3 is not installed (Debian package sqlite3)")
            return
        people, store, database = (self.folder / name for name in ("people.csv", "import.db", "import.sqlite"))
        table = "CREATE TABLE people (username TEXT PRIMARY KEY, dateOfBirth TEXT NOT NULL) WITHOUT ROWID;"
        for in_order in True, False:
            write_people(people, count, in_order)

            def we():
                store.unlink(missing_ok=True)
                return timed((BINARY, "import", f"--store={store}", "--quiet", people), ("sync", store))

            def sqlite():
                database.unlink(missing_ok=True)
                read = f".import --skip 1 {people} people"
                return timed(("sqlite3", database, table, ".mode csv", read), ("sync", database))

            mine, theirs = map(statistics.median, in_turn(rounds, we, sqlite))
            order = "in the order of names" if in_order else "in no order"
            self.page.figure(f"{order}: {theirs:.2f} s of sqlite3 over {mine:.2f} s", theirs / mine, "×", above=0.5)
        for path in people, store, database:
            path.unlink()
        self.page.command("birthday-demo import --store=import.db --quiet people.csv; sync import.db",
                          f"sqlite3 import.sqlite '{table}' \\",
                          "  '.mode csv' '.import --skip 1 people.csv people'; sync import.sqlite")

    def backup(self):
        rounds = 5
        store = self.store(10**6)
        copy = self.folder / "copy.db"
        self.page.section(
            "Hot backup",
            "Of 10^6 people from a running service, beside `cp` of the same file; both then synced. The command also"
            " syncs and verifies the copy, `curl` only fetches it.")
        with serving(ours(store)) as server:
            def hot():
                copy.unlink(missing_ok=True)
                return timed((BINARY, "backup", f"--admin={server.admin}", "--quiet", copy), ("sync", copy))

            def fetched():
                copy.unlink(missing_ok=True)
                return timed(("curl", "-s", "-o", copy, f"{server.admin}/backup"), ("sync", copy))

            def cold():
                copy.unlink(missing_ok=True)
                return timed(("cp", store, copy), ("sync", copy))

            mine, plain, theirs = map(statistics.median, in_turn(rounds, hot, fetched, cold))
        copy.unlink()
        size = number(store.stat().st_size / MIB)
        self.page.figure(f"by curl: {theirs:.3f} s of cp over {plain:.3f} s, {size} MiB", theirs / plain, "×", above=0.5)
        self.page.figure(f"by the command: {theirs:.3f} s of cp over {mine:.3f} s", theirs / mine, "×", above=0.5)
        self.page.command("birthday-demo backup --admin=http://… --quiet copy.db; sync copy.db",
                          "curl -s -o copy.db http://…/backup; sync copy.db", "cp birthday.db copy.db; sync copy.db")

    def start(self):
        rounds = 9
        store = self.store(10**5)
        starts, stops = [], []
        for _ in range(rounds):
            server = Server(*ours(store))
            starts.append(server.wait("/hello/ana") * 1e3)
            stops.append(server.stop() * 1e3)
        self.page.section("Start, stop, size", f"With 10^5 people; medians of {rounds}.")
        self.page.figure("from start to first answer", statistics.median(starts), " ms", below=50)
        self.page.figure("from SIGTERM to the end, idle", statistics.median(stops), " ms", below=100)
        self.page.figure("size of the binary", BINARY.stat().st_size / 1e6, " MB", below=26)
        self.page.command("make build && ls -l bin/birthday-demo")


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    commit = run("git", "describe", "--always", "--dirty=, with changes", "--exclude=*", check=False).strip() or "unknown"
    now = datetime.datetime.now(datetime.timezone.utc)
    return [
        "# Benchmarks", "",
        "Written by `make bench`. Absolute figures mean nothing outside of this run on this",
        "machine; ratios do: what is compared was measured in turn, with the same GOGC (100),",
        "and the medians are shown. Client and server shared the cores.", "",
        f"- {now:%Y-%m-%d}, commit {commit}",
        f"- {os.cpu_count()} cores, {cpu[1] if cpu else platform.machine()}; {platform.system()} {platform.release()}",
        f"- {run('go', 'version').split()[2]}; load average at the start {os.getloadavg()[0]:.1f}",
    ]


def main():
    if not BINARY.exists():
        run("make", "build")
    header, start = machine(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="birthday-bench-") as folder:
        b = Bench(folder)
        if shutil.which("wrk"):
            measures = [b.get, b.allocations, b.put, b.put_http, b.growth]
        else:
            print("wrk is not installed (Debian package wrk): GET, PUT over HTTP and growth are not measured")
            header += ["- **wrk was not installed (Debian package wrk): no GET, PUT over HTTP and growth**"]
            measures = [b.allocations, b.put]
        for measure in [*measures, b.imports, b.backup, b.start]:
            measure()
    took = time.monotonic() - start
    summary = ["", f"{b.page.missed or 'No'} bar{'' if b.page.missed == 1 else 's'} missed. It took {took:.0f} s."]
    path = ROOT / "docs" / "benchmarks.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*header, *summary, *b.page.lines]) + "\n", encoding="utf-8")
    print(f"\nwrote {path.relative_to(ROOT)}:{summary[1]}".replace(":", ": ", 1))


if __name__ == "__main__":
    main()
