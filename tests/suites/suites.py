"""The suites of others: where each one is found, and how it is run once."""

import glob
import json
import os
import signal
import subprocess
import tempfile

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


class Psycopg(Suite):
    """psycopg's tests, with the installed psycopg."""

    name = "psycopg"
    title = "psycopg"
    variable = "PSYCOPG_CHECKOUT"
    beside = "psycopg"
    repository = "github.com/psycopg/psycopg"
    inside = "tests/fix_db.py"

    def manifest(self):
        return "tests/suites/requirements.txt"

    def run(self, place, record, selection, slow):
        python = os.path.join(KEPT, "venv", "bin", "python")
        command = [python, "-B", "-m", "pytest", "-q", "-p", "record", "--tb=short", "--color=no"]
        command += ["--timeout=120", "--timeout-method=signal"]
        command += [f"--test-dsn={place.dsn()}"]
        command += ["-k", selection] if selection else []
        command += [] if slow else ["-m", "not slow"]
        environment = {**place.environment(), "SUITE_RECORD": record, "PYTHONPATH": HERE}
        # Its conftest runs nothing when the cache says that the last run crashed.
        with tempfile.TemporaryDirectory() as cache, open(record + ".log", "w") as log:
            command += ["-o", f"cache_dir={cache}"]
            status = _finish(command, self.limit_s, cwd=self.checkout, env=environment, stdout=log, stderr=log)
        if status not in (0, 1):  # 1: tests failed
            raise BenchError(f"pytest broke off with {status}; {record}.log tells why")
        return self.read(record)


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
                with open(record, "a") as file:
                    line = {"test": f"{name}::(the file)", "outcome": whole[0], "detail": whole[1]}
                    file.write(json.dumps(line) + "\n")
        return self.read(record)


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


ALL = (Psycopg, NodePostgres)
