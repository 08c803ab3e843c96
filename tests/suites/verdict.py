"""What a run through a pooler lost against a direct one, and which of it is known."""

import os
import re
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))


class Exceptions:
    """The tests that may be lost, each with its reason: `NAME.toml` beside this file.

    In the patterns `*` stands for anything; all else, brackets too, for itself.
    """

    def __init__(self, suite):
        self.groups = []
        with open(os.path.join(HERE, f"{suite}.toml"), "rb") as file:
            for group in tomllib.load(file).get("exception", []):
                patterns = [re.compile(".*".join(map(re.escape, test.split("*")))) for test in group["tests"]]
                self.groups.append((group["reason"], list(zip(group["tests"], patterns))))

    def reason(self, test):
        """Why a test may be lost, or None."""
        for reason, patterns in self.groups:
            if any(pattern.fullmatch(test) for _, pattern in patterns):
                return reason
        return None

    def idle(self, tests, lost):
        """Patterns that stand for no lost test, or for no test at all: lines that want to be struck out."""
        for _, patterns in self.groups:
            for text, pattern in patterns:
                if any(map(pattern.fullmatch, tests)) and not any(map(pattern.fullmatch, lost)):
                    yield text


class Verdict:
    """One suite through one pooler, beside the direct run."""

    def __init__(self, direct, through, exceptions):
        self.passed_directly = {test for test, (outcome, _) in direct.items() if outcome == "passed"}
        self.passed = {test for test, (outcome, _) in through.items() if outcome == "passed"}
        self.through = through
        self.lost = sorted(self.passed_directly - self.passed)
        self.gained = sorted(self.passed - self.passed_directly)
        self.unknown = [test for test in self.lost if exceptions.reason(test) is None]
        self.idle = list(exceptions.idle(self.passed_directly, self.lost))

    def detail(self, test):
        """What the pooler's run says about a test, in one line: pytest marks errors with E."""
        lines = self.through.get(test, ("", "was not reached"))[1].strip().splitlines() or ["skipped"]
        return next((line[1:].strip() for line in lines if line.startswith("E ")), lines[0])


def table(rows):
    """The verdicts as lines of text: suite, pooler, passed directly, passed through it, lost, of these not listed."""
    head = ("suite", "through", "passed directly", "passed through it", "lost", "not listed")
    lines = [head]
    for suite, pooler, verdict in rows:
        both = len(verdict.passed_directly & verdict.passed)
        lines.append((suite, pooler, len(verdict.passed_directly), both, len(verdict.lost), len(verdict.unknown)))
    widths = [max(len(str(line[column])) for line in lines) for column in range(len(head))]
    aligned = lambda cell, width, column: str(cell).ljust(width) if column < 2 else str(cell).rjust(width)
    return "\n".join(
        "  ".join(aligned(cell, width, column) for column, (cell, width) in enumerate(zip(line, widths)))
        for line in lines
    )
