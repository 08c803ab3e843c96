"""The suites of others: where each one is found, and how it is run once."""

import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile

from cluster import pgbench
from processes import BenchError
from stage import ROOT

HERE = os.path.dirname(os.path.abspath(__file__))
KEPT = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "suites")


class Suite:
    """One suite. `run` gives (outcome, detail) by test; outcomes are passed, failed, skipped."""

    name = ""
    title = ""
    variable = ""  # the environment variable that names the checkout
    beside = ""  # where it is looked for otherwise
    repository = ""
    inside = ""  # a file that proves that it is one
    limit_s = 3600

    def __init__(self):
        self.checkout = os.path.abspath(os.environ.get(self.variable) or os.path.join(ROOT, "..", self.beside))

    def check(self):
        if not os.path.exists(os.path.join(self.checkout, self.inside)):
            raise BenchError(
                f"no {self.title} in {self.checkout}: put a checkout of {self.repository} there, at the release that "
                f"{self.manifest()} names, or set {self.variable}"
            )

    def manifest(self):
        """What names the release that the checkout is to be of."""
        raise NotImplementedError

    def run(self, place, record, selection, slow):
        raise NotImplementedError

    @staticmethod
    def read(record):
        """The outcomes that a run has written so far, by test."""
        outcomes = {}
        if os.path.exists(record):
            with open(record) as lines:
                for line in map(json.loads, lines):
                    outcomes[line["test"]] = (line["outcome"], line["detail"])
        return outcomes


class Pytest(Suite):
    """A suite that pytest runs, with what is installed and not with the checkout's own."""

    selected = ()  # arguments that choose among its tests
    own_copy = True  # whether the tests are run from a copy, as the package beside them would be taken otherwise

    def manifest(self):
        return "tests/suites/requirements.txt"

    def arguments(self, place):
        """What the suite wants on its command line."""
        return []

    def variables(self, place):
        """What the suite wants in its environment."""
        return {}

    def run(self, place, record, selection, slow):
        python = os.path.join(KEPT, "venv", "bin", "python")
        command = [python, "-B", "-m", "pytest", "-q", "-p", "record", "--tb=short", "--color=no"]
        command += ["--timeout=120", "--timeout-method=signal", *self.arguments(place), *self.selected]
        command += ["-k", selection] if selection else []
        command += [] if slow else ["-m", "not slow"]
        environment = {**place.environment(), **self.variables(place), "SUITE_RECORD": record, "PYTHONPATH": HERE}
        with tempfile.TemporaryDirectory() as work, open(record + ".log", "w") as log:
            home = self.checkout
            if self.own_copy:
                home = os.path.join(work, self.name)
                tests = os.path.dirname(self.inside).split(os.sep)[0]
                shutil.copytree(os.path.join(self.checkout, tests), os.path.join(home, tests))
            # psycopg's conftest runs nothing when the cache says that the last run crashed.
            command += ["-o", f"cache_dir={work}/cache"]
            status = _finish(command, self.limit_s, cwd=home, env=environment, stdout=log, stderr=log)
        if status not in (0, 1):  # 1: tests failed
            raise BenchError(f"pytest broke off with {status}; {record}.log tells why")
        return self.read(record)


class Psycopg(Pytest):
    """psycopg's tests, with the installed psycopg."""

    name = "psycopg"
    title = "psycopg"
    variable = "PSYCOPG_CHECKOUT"
    beside = "psycopg"
    repository = "github.com/psycopg/psycopg"
    inside = "tests/fix_db.py"
    own_copy = False

    def arguments(self, place):
        return [f"--test-dsn={place.dsn()}"]


class Psycopg2(Pytest):
    """psycopg2's tests."""

    name = "psycopg2"
    title = "psycopg2"
    variable = "PSYCOPG2_CHECKOUT"
    beside = "psycopg2"
    repository = "github.com/psycopg/psycopg2"
    inside = "tests/testconfig.py"
    selected = ("tests",)

    def variables(self, place):
        return {"PSYCOPG2_TESTDB": place.database, "PSYCOPG2_TEST_REPL_DSN": ""}


class Asyncpg(Pytest):
    """asyncpg's tests; those that start a PostgreSQL of their own are left out as it does itself."""

    name = "asyncpg"
    title = "asyncpg"
    variable = "ASYNCPG_CHECKOUT"
    beside = "asyncpg"
    repository = "github.com/MagicStack/asyncpg"
    inside = "tests/test_prepare.py"
    selected = ("tests", "--ignore=tests/test__sourcecode.py", "--ignore=tests/test__environment.py")


class NodePostgres(Suite):
    """node-postgres' integration tests, with the installed pg: each file a process, as there."""

    name = "node-postgres"
    title = "node-postgres"
    variable = "NODE_POSTGRES_CHECKOUT"
    beside = "node-postgres"
    repository = "github.com/brianc/node-postgres"
    inside = "packages/pg/test/test-helper.js"
    limit_s = 60

    def manifest(self):
        return "tests/suites/node/package.json"

    def run(self, place, record, selection, slow):
        tests = os.path.join(self.checkout, "packages", "pg", "test")
        files = sorted(glob.glob(os.path.join(tests, "integration", "**", "*-tests.js"), recursive=True))
        environment = {
            **place.environment(),
            "NODE_PATH": os.path.join(KEPT, "node", "node_modules"),
            "SUITE_CHECKOUT": self.checkout,
            "SUITE_RECORD": record,
            "PGTESTNOSSL": "true",
            "SCRAM_TEST_PGUSER": "scram_test",
            "SCRAM_TEST_PGPASSWORD": "test4scram",
            "SCRAM_TEST_PGUSER_UNICODE": "scram_unicode_test",
            "SCRAM_TEST_PGPASSWORD_UNICODE": "IX-\u2168",
        }
        del environment["PGSSLMODE"]
        with open(record + ".log", "w") as log:
            for path in files:
                name = os.path.relpath(path, tests)
                if selection and selection not in name:
                    continue
                log.write(f"\n== {name}\n")
                log.flush()
                command = ["node", "--require", os.path.join(HERE, "node", "preload.cjs"), path]
                status = _finish(command, self.limit_s, cwd=tests, env=environment, stdout=log, stderr=log)
                whole = ("passed", "") if status == 0 else ("failed", f"the file's process: {status}")
                _note(record, f"{name}::(the file)", *whole)
        return self.read(record)


class PostgresJs(Suite):
    """postgres.js' tests, one file that is a script."""

    name = "postgres-js"
    title = "postgres.js"
    variable = "POSTGRES_JS_CHECKOUT"
    beside = "postgres.js"
    repository = "github.com/porsager/postgres"
    inside = "tests/bootstrap.js"
    limit_s = 300

    def manifest(self):
        return "docs/testing.md"

    def run(self, place, record, selection, slow):
        environment = {**place.environment(), "SUITE_RECORD": record, "SUITE_ONLY": selection or ""}
        environment["PGSOCKET"] = place.socket_dir
        # It wants what is said nowhere: TLS where it asks for it, and the database of the user's name.
        del environment["PGSSLMODE"], environment["PGDATABASE"]
        preload = os.path.join(HERE, "node", "postgres-js.mjs")
        command = ["node", "--import", preload, os.path.join(self.checkout, "tests", "index.js")]
        with open(record + ".log", "w") as log:
            status = _finish(command, self.limit_s, cwd=self.checkout, env=environment, stdout=log, stderr=log)
        if status != 0:
            raise BenchError(f"{self.title}' tests broke off with {status}; {record}.log tells why")
        return self.read(record)


class Django(Suite):
    """Those of Django's tests that have most to do with the database, on the installed Django with psycopg."""

    name = "django"
    title = "Django"
    variable = "DJANGO_CHECKOUT"
    beside = "django"
    repository = "github.com/django/django"
    inside = "tests/runtests.py"
    labels = (
        "async backends basic bulk_create constraints db_functions expressions fixtures get_or_create indexes inspectdb "
        "introspection migrations postgres_tests queries schema select_for_update test_utils transaction_hooks transactions"
    )

    def manifest(self):
        return "tests/suites/requirements.txt"

    def run(self, place, record, selection, slow):
        environment = {**place.environment(), "SUITE_RECORD": record}
        python = os.path.join(KEPT, "venv", "bin", "python")
        command = [python, "-B", "runtests.py", "--settings=django_settings", "--parallel=1", "--noinput"]
        command += ["-k", selection] if selection else []
        with tempfile.TemporaryDirectory() as work, open(record + ".log", "w") as log:
            tests = os.path.join(work, "tests")
            shutil.copytree(os.path.join(self.checkout, "tests"), tests)
            environment["PYTHONPATH"] = HERE
            command += self.labels.split()
            status = _finish(command, self.limit_s, cwd=tests, env=environment, stdout=log, stderr=log)
        if status not in (0, 1):  # 1: tests failed
            raise BenchError(f"Django's tests broke off with {status}; {record}.log tells why")
        return self.read(record)


class LibpqPipeline(Suite):
    """PostgreSQL's own test program for libpq's pipelines and cancelling, each of its tests a process."""

    name = "libpq_pipeline"
    title = "libpq_pipeline"
    variable = "POSTGRES_CHECKOUT"
    beside = "postgres"
    repository = "github.com/postgres/postgres"
    inside = "src/test/modules/libpq_pipeline/libpq_pipeline.c"
    limit_s = 40

    def __init__(self):
        super().__init__()
        self.program = os.environ.get("LIBPQ_PIPELINE")
        self.home = os.path.join(KEPT, "libpq_pipeline", os.path.basename(self.checkout))

    def check(self):
        if not self.program:
            super().check()

    def manifest(self):
        return "`postgres --version`"

    def run(self, place, record, selection, slow):
        # With the libpq of the same checkout; a program from elsewhere knows its own.
        libraries = os.path.join(self.home, "src", "interfaces", "libpq")
        environment = {**place.environment(), **({} if self.program else {"LD_LIBRARY_PATH": libraries})}
        with open(record + ".log", "w") as log:
            program = self.program or self._compiled(log)
            tests = subprocess.run([program, "tests"], env=environment, stdout=subprocess.PIPE, text=True).stdout
            for test in tests.split():
                if not selection or selection in test:
                    command = [program, "-r", "700", test, place.dsn()]
                    _note(record, test, *_judged(command, self.limit_s, log, environment))
        return self.read(record)

    def _compiled(self, log):
        """The program, made by PostgreSQL's own rules, outside of the checkout."""
        os.makedirs(self.home, exist_ok=True)
        module = os.path.dirname(self.inside)
        configure = [os.path.join(self.checkout, "configure"), "--without-readline", "--without-zlib", "--without-icu"]
        make = ["make", "-s", "-j2", "-C"]
        steps = [make + ["src/interfaces/libpq"], make + [module]]
        if not os.path.exists(os.path.join(self.home, "config.status")):
            configure += ["CFLAGS=-O1"]
            steps.insert(0, configure)
        for step in steps:
            if subprocess.run(step, cwd=self.home, stdout=log, stderr=log, stdin=subprocess.DEVNULL).returncode:
                raise BenchError(f"{' '.join(step)} failed in {self.home}; {log.name} tells why")
        return os.path.join(self.home, module, "libpq_pipeline")


PIPELINE = """\
\\set a random(1, 100000)
\\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :a;
SELECT abalance FROM pgbench_accounts WHERE aid = :a;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :a, 1, now());
END;
\\endpipeline
\\startpipeline
SELECT 1;
SELECT :a;
\\endpipeline
"""


class Pgbench(Suite):
    """pgbench in each of its modes: eight clients, and not one transaction may fail."""

    name = "pgbench"
    title = "pgbench"
    clients, transactions = 8, 50
    limit_s = 300

    def check(self):
        pgbench()

    def run(self, place, record, selection, slow):
        environment = place.environment()
        with tempfile.TemporaryDirectory() as work, open(record + ".log", "w") as log:
            script = os.path.join(work, "pipeline.sql")
            with open(script, "w") as file:
                file.write(PIPELINE)
            for test, options in self._tests(script):
                # All of them need what the first one makes.
                if not selection or selection in test or "-i" in options:
                    _note(record, test, *_judged([pgbench(), *options], self.limit_s, log, environment))
        return self.read(record)

    def _tests(self, script):
        yield "initialize", ["-i", "-q", "-s", "1", "-I", "dtgvpf"]
        load = ["-c", str(self.clients), "-j", "2", "-t", str(self.transactions)]
        scripts = {kind: ["-b", kind] for kind in ("tpcb-like", "simple-update", "select-only")}
        for mode in ("simple", "extended", "prepared"):
            for connect in ([], ["-C"]):
                every = {**scripts, "pipeline": ["-f", script, "-n"]} if mode != "simple" else scripts
                for name, which in every.items():
                    yield f"{name} {mode}{' -C' if connect else ''}", load + ["-M", mode, *connect, *which]


def _judged(command, limit_s, log, environment):
    """Outcome and detail of one test that is a process."""
    log.write(f"\n== {' '.join(command)}\n")
    log.flush()
    start = log.tell()
    status = _finish(command, limit_s, env=environment, stdout=log, stderr=log)
    if status == 0:
        return "passed", ""
    with open(log.name) as said:
        said.seek(start)
        lines = said.read().strip().splitlines() or [""]
    return "failed", f"{status}: {lines[-1]}"


def _note(record, test, outcome, detail):
    with open(record, "a") as file:
        file.write(json.dumps({"test": test, "outcome": outcome, "detail": detail}) + "\n")


def _finish(command, limit_s, **arguments):
    """Runs a command in a process group of its own; the exit status, or "not over after …"."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **arguments)
    try:
        return child.wait(limit_s)
    except subprocess.TimeoutExpired:
        return f"not over after {limit_s} s"
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)  # also what it has left behind
        except ProcessLookupError:
            pass
        child.wait()


ALL = (Psycopg, Psycopg2, Asyncpg, Django, NodePostgres, PostgresJs, LibpqPipeline, Pgbench)
