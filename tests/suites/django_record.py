"""A runner for Django's tests that notes what became of each one."""

import json
import os
import unittest

from django.test.runner import DiscoverRunner


class Result(unittest.TextTestResult):
    """One line of JSON a test, written as soon as it is over."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.record = open(os.environ["SUITE_RECORD"], "a", buffering=1)

    def _note(self, test, outcome, detail=""):
        self.record.write(json.dumps({"test": test.id(), "outcome": outcome, "detail": detail}) + "\n")

    def addSuccess(self, test):
        super().addSuccess(test)
        self._note(test, "passed")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self._note(test, "passed")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addError(self, test, err):
        super().addError(test, err)
        self._note(test, "failed", self._exc_info_to_string(err, test))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note(test, "failed", self._exc_info_to_string(err, test))

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed", f"{subtest.id()}: {self._exc_info_to_string(err, test)}")


class Runner(DiscoverRunner):
    """Django's own, with that result."""

    def get_resultclass(self):
        return Result
