"""What psql said to a script, compared with what it said to the same script elsewhere, statement by statement."""

import difflib

STATEMENT_LENGTH_MAX = 120


def compared(script, expected, output):
    """The statements of a script, as far as the expected output knows them, each with the lines that differ behind it."""
    script, expected, output = (_lines(path) for path in (script, expected, output))
    said = set(script) - {""}
    statements = list(_statements(said, expected))
    differences = dict.fromkeys(statements, ())
    matcher = difflib.SequenceMatcher(None, expected, output, autojunk=False)
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        if kind != "equal":
            # What stands in the place of an echoed line, or before it, has been said to the statement before.
            at = start if start < end and expected[start] not in said else max(start - 1, 0)
            gone = [f"-{line}" for line in expected[start:end]]
            come = [f"+{line}" for line in output[other_start:other_end]]
            statement = statements[at] if statements else ""
            differences[statement] = (*differences.get(statement, ()), *gone, *come)
    return differences.items()


def _lines(path):
    with open(path, errors="replace") as file:
        return [line.rstrip() for line in file]


def _statements(said, output):
    """For each line of output the statement that it belongs to, as the echoed lines up to there spell it."""
    spelt, over = [], True
    for line in output:
        if line in said and not line.startswith("--"):
            spelt = [line.strip()] if over else [*spelt, line.strip()]
            over = line.endswith(";") or line.startswith("\\")
        elif line and line not in said:
            over = True
        yield " ".join(spelt)[:STATEMENT_LENGTH_MAX]
