"""The microbenchmarks of benches/: what one step takes, without any IO."""

import re
import subprocess

from peers import REPOSITORY
from processes import BenchError

BENCHES = ("sql", "wire", "pool")
INERT = "inert"  # of sql: what the classifier takes for statements that leave nothing behind
UNITS_NS = {"ns": 1, "µs": 1e3, "ms": 1e6}
TIME = r"([\d.]+) (ns|µs|ms)"
# A line of divan's table: how deep it stands, a name, and for all but groups fastest, slowest, median and others.
LINE = re.compile(rf"^((?:[│ ]  )*)[├╰]─ (\S.*?) +(?:{TIME} +)?│ +(?:{TIME} +)?│ +(?:{TIME} +)?│")


def measured(bench):
    """Name of group and case → median time in ns."""
    argv = ["cargo", "bench", "--quiet", "--bench", bench]
    try:
        done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True)
    except FileNotFoundError:
        raise BenchError("cargo is not found") from None
    if done.returncode:
        raise BenchError(f"cargo bench: {done.stderr.strip()[-500:]}")
    return medians(done.stdout)


def medians(table):
    found, groups = {}, []
    for line in filter(None, map(LINE.match, table.splitlines())):
        depth = len(line.group(1)) // 3
        groups[depth:] = [line.group(2)]
        if line.group(7):
            found[": ".join(groups)] = float(line.group(7)) * UNITS_NS[line.group(8)]
    return found
