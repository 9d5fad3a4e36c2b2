"""What the benchmarks are made of: a page of figures, people, servers, and measuring in turn."""

import collections
import contextlib
import http.client
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
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

    def wait(self, path, patience=30):
        """Waits for the first answer, and gives the seconds since the start."""
        while time.monotonic() - self.started < patience:
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


def go_benchmarks(program, package, pattern, rounds):
    """Runs Go's benchmarks of some clients and ways in turn. Gives the medians of the calls a second and of the 99th
    percentile in milliseconds, by benchmark, clients and way."""
    run("go", "test", "-c", "-o", program, package)
    results = collections.defaultdict(list)
    for n in range(rounds):
        ENVIRON["BENCH_REVERSE"] = "yes" * (n % 2)
        out = run(program, "-test.run=^$", f"-test.bench=^Benchmark({pattern})$", "-test.benchtime=0.7s", "-test.timeout=120s")
        lines = re.findall(r"Benchmark(\w+)/clients=(\d+)/(\w+).*?([\d.]+) calls/s\s+([\d.]+) p99-ms", out)
        for what, clients, way, rate, p99 in lines:
            results[what, int(clients), way].append((float(rate), float(p99)))
    return {key: tuple(map(statistics.median, zip(*values))) for key, values in results.items()}


def medians(loads):
    return Load(*[statistics.median(values) for values in zip(*loads)])
