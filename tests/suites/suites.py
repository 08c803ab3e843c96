"""The suites of others: where each one is found, and how it is run once."""

import glob
import os
import shutil
import tempfile

from cluster import pgbench
from libpq_pipeline import LibpqPipeline
from processes import BenchError
from regress import Regress, RegressExtended, RegressPrepared
from suite import HERE, KEPT, Suite, finish, judged, note


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
            status = finish(command, self.limit_s, cwd=home, env=environment, stdout=log, stderr=log)
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
                status = finish(command, self.limit_s, cwd=tests, env=environment, stdout=log, stderr=log)
                whole = ("passed", "") if status == 0 else ("failed", f"the file's process: {status}")
                note(record, f"{name}::(the file)", *whole)
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
            status = finish(command, self.limit_s, cwd=self.checkout, env=environment, stdout=log, stderr=log)
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
            status = finish(command, self.limit_s, cwd=tests, env=environment, stdout=log, stderr=log)
        if status not in (0, 1):  # 1: tests failed
            raise BenchError(f"Django's tests broke off with {status}; {record}.log tells why")
        return self.read(record)


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
                    note(record, test, *judged([pgbench(), *options], self.limit_s, log, environment))
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


DRIVERS = (Psycopg, Psycopg2, Asyncpg, Django, NodePostgres, PostgresJs)
ALL = (*DRIVERS, LibpqPipeline, Pgbench, Regress, RegressExtended, RegressPrepared)
