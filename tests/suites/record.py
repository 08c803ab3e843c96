"""A plugin for pytest: notes what became of each test, and makes tests that draw lots draw the same ones."""

import gc
import json
import os
import random
import sys
import warnings

import pytest

BAD_FIRST = ("failed", "skipped", "passed")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    random.seed(item.nodeid)


def pytest_runtest_logfinish():
    """What a failed test has left open is not to become a warning, and so a failure, in one of its successors."""
    if hasattr(sys, "last_value"):
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            vars(sys).pop(name, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()


class Record:
    """One line of JSON a test, written as soon as it is over: a run that hangs has told what it knew."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1)
        self.outcomes = {}

    def pytest_runtest_logreport(self, report):
        outcome, detail = self.outcomes.get(report.nodeid, ("passed", ""))
        if BAD_FIRST.index(report.outcome) < BAD_FIRST.index(outcome):
            outcome, detail = report.outcome, str(report.longrepr)
        self.outcomes[report.nodeid] = (outcome, detail)
        if report.when == "teardown":
            line = {"test": report.nodeid, "outcome": outcome, "detail": detail}
            self.file.write(json.dumps(line) + "\n")


def pytest_configure(config):
    config.pluginmanager.register(Record(os.environ["SUITE_RECORD"]))
