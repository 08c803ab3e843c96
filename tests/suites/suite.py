"""What suites have in common: where a checkout is looked for, how a test that is a process is run and noted."""

import contextlib
import json
import os
import signal
import subprocess

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
    is_usual = True  # whether it is run where no suite is named

    @property
    def listed(self):
        """The file of its exceptions: NAME.toml."""
        return self.name

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

    @contextlib.contextmanager
    def place(self, way, cluster, work, account):
        """Where one run of it takes place: a new database, a way to it."""
        database = f"suite_{way.name}"
        cluster.database(database)
        with way(cluster, work, account, database) as place:
            yield place

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


def judged(command, limit_s, log, environment):
    """Outcome and detail of one test that is a process."""
    log.write(f"\n== {' '.join(command)}\n")
    log.flush()
    start = log.tell()
    status = finish(command, limit_s, env=environment, stdout=log, stderr=log)
    if status == 0:
        return "passed", ""
    with open(log.name) as said:
        said.seek(start)
        lines = said.read().strip().splitlines() or [""]
    return "failed", f"{status}: {lines[-1]}"


def note(record, test, outcome, detail):
    with open(record, "a") as file:
        file.write(json.dumps({"test": test, "outcome": outcome, "detail": detail}) + "\n")


def finish(command, limit_s, **arguments):
    """Runs a command in a process group of its own; the exit status, or "not over after …"."""
    arguments = {"stdin": subprocess.DEVNULL, **arguments}
    child = subprocess.Popen(command, start_new_session=True, **arguments)
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
