"""What the classifier takes for statements that leave nothing behind, by the microbenchmark of that name."""

import re
import subprocess

from peers import REPOSITORY
from processes import BenchError

UNITS_NS = {"ns": 1, "µs": 1e3, "ms": 1e6}
TIME = r"([\d.]+) (ns|µs|ms)"
# Of divan's table: name and fastest, slowest, median; mean and others are passed over.
LINE = re.compile(rf"[├╰]─ (\S.*?) +{TIME} +│ +{TIME} +│ +{TIME} +│")


def measured():
    """Statement → median time in ns."""
    argv = ["cargo", "bench", "--quiet", "--bench", "sql", "--", "inert"]
    try:
        done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True)
    except FileNotFoundError:
        raise BenchError("cargo is not found") from None
    if done.returncode:
        raise BenchError(f"cargo bench: {done.stderr.strip()[-500:]}")
    return medians(done.stdout)


def medians(table):
    found = (LINE.search(line) for line in table.splitlines())
    return {line.group(1): float(line.group(6)) * UNITS_NS[line.group(7)] for line in found if line}
