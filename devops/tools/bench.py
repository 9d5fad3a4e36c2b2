#!/usr/bin/env python3
"""Measures the program beside simpler ones, and writes docs/benchmarks.md.

What is compared is measured in turn, A B, B A, A B and so on, with the same GOGC, and
the medians are shown: so the ratios hold on a machine that has other things to do, and
the CPU time of a request, which /proc knows, moves less than requests a second. A bar
that is missed is shown as missed; the exit code is 0 all the same.

Wants bin/birthday-demo (`make build`), and the Debian packages wrk, sqlite3 and
postgresql; what needs one that is missing is left out, and said so. BENCH_LARGE=1 measures 10^7 people
too, and starts with 10^8; that takes half an hour and 20 GB of disk.
"""

import datetime
import os
import pathlib
import platform
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time

import bench_postgres
from bench_kit import (
    BINARY, ENVIRON, MIB, ROOT, SCRIPT, Load, Page, Server, go_benchmarks, in_turn, medians, number, other, ours, run, serving, timed,
    username, write_people,
)


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
        results = go_benchmarks(self.folder / "bench.test", "./app/bench", "Put", rounds)
        for clients, bar in (1, 0.9), (32, 5), (256, 10):
            rate, p99 = results["Put", clients, "store"]
            each, each99 = results["Put", clients, "update"]
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

    def starts(self):
        rounds = 3
        many = [10**6] + ([10**7, 10**8] if os.environ.get("BENCH_LARGE") == "1" else [])
        self.page.section(
            "Start, cold and warm",
            "From the start to the first answer, after changes that scattered the file: with the file in the page cache,"
            " and without, beside `cat` of it from the disk. The start reads it once in its own order and once in the"
            " order of names.")
        for count in many:
            exponent, path = f"10^{len(str(count)) - 1}", self.scattered(count)

            def answered():
                server = Server(*ours(path))
                took = server.wait("/hello/ana", patience=3600)
                server.stop()
                return took

            def cold():
                forget(path)
                return answered()

            def read():
                forget(path)
                return timed(("sh", "-c", 'cat "$0" >/dev/null', path))

            forget(path)
            answered()
            warm = statistics.median(answered() for _ in range(rounds))
            mine, theirs = map(statistics.median, in_turn(rounds, cold, read))
            size = number(path.stat().st_size / MIB)
            self.page.figure(f"{exponent} people, {size} MiB, warm", warm, " s")
            self.page.figure(f"{exponent} people, cold: {mine:.2f} s over {theirs:.2f} s of cat", mine / theirs, "×")
            path.unlink()
        self.page.command("birthday-demo serve --store=scattered.db  # until it answers", "cat scattered.db >/dev/null")

    def scattered(self, count):
        """A store with so many people, after changes all over it."""
        path, changes = self.folder / "scattered.db", self.folder / "changes.csv"
        shutil.copy(self.store(count), path)
        for number_of in range(4):
            random.seed(number_of)
            with open(changes, "w", encoding="utf-8") as file:
                file.write("username,dateOfBirth\n")
                file.writelines(f"{username(random.randrange(count))},1991-06-18\n" for _ in range(count // 100))
            run(BINARY, "import", f"--store={path}", "--quiet", changes)
        changes.unlink()
        return path


def forget(path):
    """Has the system forget what it keeps of a file in memory."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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
        for measure in [*measures, b.imports, b.backup, b.start, b.starts]:
            measure()
        bench_postgres.measure(b)
    took = time.monotonic() - start
    summary = ["", f"{b.page.missed or 'No'} bar{'' if b.page.missed == 1 else 's'} missed. It took {took:.0f} s."]
    path = ROOT / "docs" / "benchmarks.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*header, *summary, *b.page.lines]) + "\n", encoding="utf-8")
    print(f"\nwrote {path.relative_to(ROOT)}:{summary[1]}".replace(":", ": ", 1))


if __name__ == "__main__":
    main()
