"""The part of bench.py that has people in PostgreSQL, on a server of its own with its
default settings: what it says is synced, is.
"""

import contextlib
import pathlib
import shutil
import statistics
import subprocess
import time

from bench_kit import BINARY, ENVIRON, go_benchmarks, in_turn, medians, number, other, ours, run, serving, timed, write_people

MISSING = "PostgreSQL is not installed (Debian package postgresql)"


class Database:
    """A server with an empty schema."""

    def __init__(self, folder):
        program = folder / "server"
        run("go", "build", "-o", program, "./app/bench/server")
        self.process = subprocess.Popen([program], env=ENVIRON, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        self.store = f"--store={self.url}"
        run(BINARY, "migrate", "up", self.store)

    def query(self, statement):
        return run("psql", self.url, "--no-psqlrc", "--tuples-only", "--no-align", "--command", statement).strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def measure(bench):
    """Measures everything, where there is a server to be had."""
    if not any(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb")) and not shutil.which("initdb"):
        bench.page.section("PostgreSQL")
        bench.page.figure("not measured", MISSING)
        return
    in_process(bench)
    with contextlib.closing(Database(bench.folder)) as database:
        if shutil.which("wrk"):
            over_http(bench, database)
        imports(bench, database)


def in_process(bench):
    rounds = 5
    bench.page.section(
        "PostgreSQL, in process",
        "The store beside the same statement, once for each call, on a pool of as many connections, with 10^5 people.")
    results = go_benchmarks(bench.folder / "postgres.test", "./app/store/postgres", "Put|Get", rounds)
    bars = {("Put", 1): 0.95, ("Put", 32): 1.7, ("Put", 256): 3}
    for what, plain in ("Put", "upsert"), ("Get", "query"):
        for clients in 1, 32, 256:
            (mine, _), (theirs, _) = (results[what, clients, who] for who in ("store", plain))
            bench.page.figure(
                f"{what.upper()}, {clients} client{'' if clients == 1 else 's'}: {number(mine)} over {number(theirs)} a second",
                mine / theirs, "×", above=bars.get((what, clients)))
    bench.page.command(f"go test -run '^$' -bench 'Put|Get' -benchtime 0.7s ./app/store/postgres  # {rounds} times")


def over_http(bench, database):
    rounds, seconds = 5, 1
    bench.page.section(
        "PostgreSQL, over HTTP",
        "The program with all that it does by default beside a bare `net/http` handler that sends the same statement by"
        " pgx (`app/bench/query`), with 10^5 people. The server of the database is on the same cores.")
    names = bench.store(10**5)
    move(names, database)
    program = bench.folder / "query"
    run("go", "build", "-o", program, "./app/bench/query")
    with serving(ours(database.url)) as server, serving(other(program, f"--store={database.url}&pool_max_conns=16")) as plain:
        for method in "GET", "PUT":
            for connections in 1, 32, 256:
                mine, theirs = map(medians, in_turn(
                    rounds, lambda: bench.load(server, names, connections, seconds, method),
                    lambda: bench.load(plain, names, connections, seconds, method)))
                who = f"{method}, {connections} connection{'' if connections == 1 else 's'}"
                bench.page.figure(f"{who}: {number(mine.rate)} over {number(theirs.rate)} a second", mine.rate / theirs.rate,
                                  "×", above=0.8 if (method, connections) == ("GET", 32) else None)
                bench.page.figure(f"{who}: {number(theirs.cpu)} µs of CPU over {number(mine.cpu)}", theirs.cpu / mine.cpu, "×")
                bench.page.figure(f"{who}: 99 % within {mine.p99:.2f} ms, over {theirs.p99:.2f} ms", mine.p99 / theirs.p99, "×")
    bench.page.command(f"wrk -t1 -c… -d{seconds} --latency -s wrk.lua http://…  # {rounds} rounds, in turn")


def move(file, database):
    """Moves everybody over, as an operator does."""
    with subprocess.Popen([BINARY, "export", f"--store={file}"], env=ENVIRON, stdout=subprocess.PIPE) as export:
        run(BINARY, "import", database.store, "--quiet", stdin=export.stdout)


def imports(bench, database):
    rounds, count = 3, 10**6
    bench.page.section(
        "PostgreSQL, import",
        "10^6 people from CSV into an empty table, beside `psql`'s `\\copy` of the same file. Above 1 is faster than psql.")
    people = bench.folder / "people.csv"
    copy = f"\\copy people FROM '{people}' WITH (FORMAT csv, HEADER)"
    for in_order in True, False:
        write_people(people, count, in_order)

        def from_empty(*command):
            database.query("TRUNCATE people")
            database.query("CHECKPOINT")
            return timed(command)

        mine, theirs = map(statistics.median, in_turn(
            rounds, lambda: from_empty(BINARY, "import", database.store, "--quiet", people),
            lambda: from_empty("psql", database.url, "--no-psqlrc", "--quiet", "--command", copy)))
        order = "in the order of names" if in_order else "in no order"
        bench.page.figure(f"{order}: {theirs:.2f} s of psql over {mine:.2f} s", theirs / mine, "×", above=0.5)
    people.unlink()
    database.query("TRUNCATE people")
    file = bench.store(count)
    start = time.monotonic()
    move(file, database)
    bench.page.figure("out of a bbolt file of as many", time.monotonic() - start, " s", below=60)
    database.query("VACUUM FULL people")
    size = int(database.query("SELECT pg_total_relation_size('people')"))
    bench.page.figure("table and index", size / count, " bytes a person")
    bench.page.command("birthday-demo import --store=postgres://… --quiet people.csv",
                       "psql postgres://… --command \"\\copy people FROM 'people.csv' WITH (FORMAT csv, HEADER)\"",
                       "birthday-demo export --store=birthday.db | birthday-demo import --store=postgres://… --quiet")
