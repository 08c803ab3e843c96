"""`pgbench -S`: throughput, latencies, and what they cost the pooler."""

import glob
import os
import re
import subprocess

import counters
from cluster import USER, pgbench
from processes import BenchError, environment

TIMEOUT_S = 120
CONNECTED_PER_S = 256  # pgbench's time runs while its clients connect: so many get a second more,
CONNECTING_MAX_S = 20  # and if that was not enough, all get this
PERCENTILES = {"p50_us": 0.5, "p95_us": 0.95, "p99_us": 0.99, "p999_us": 0.999}


def measured(running, work, mode, clients, seconds, jobs, sampling=1.0):
    """Transactions per second, latencies in µs, and the pooler's counters per transaction."""
    log_prefix = os.path.join(work, "transactions")
    logged = ["-l", f"--log-prefix={log_prefix}", f"--sampling-rate={sampling}"]
    for connecting in (clients // CONNECTED_PER_S, CONNECTING_MAX_S):
        before = counters.reading(running)
        output = pgbench_run(running, mode, clients, jobs, "-T", str(seconds + connecting), *logged)
        after, latencies = counters.reading(running), _latencies(log_prefix)
        if transactions(output):
            break
    else:
        raise BenchError(f"{clients} clients were not ready in time")
    done = transactions(output)
    return {
        "tps": _number(r"tps = ([\d.]+)", output),
        "transactions": done,
        **_percentiles(latencies),
        **counters.per_unit(before, after, done),
    }


def pgbench_run(running, mode, clients, jobs, *more):
    """What pgbench prints; `more` says for how long."""
    argv = [pgbench(), "-h", "127.0.0.1", "-p", str(running.port), "-U", USER, "-n", "-S", "-M", mode]
    argv += ["-c", str(clients), "-j", str(min(jobs, clients)), *more, running.database]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), timeout=TIMEOUT_S)
    if done.returncode:
        complaint = [line for line in done.stderr.splitlines() if "error" in line or "fatal" in line.lower()]
        raise BenchError("pgbench: " + (complaint[0] if complaint else done.stderr.strip()))
    return done.stdout


def transactions(output):
    return _number(r"actually processed: (\d+)", output)


def _number(pattern, text):
    found = re.search(pattern, text)
    if not found:
        raise BenchError(f"pgbench's report has no {pattern!r}:\n{text}")
    return float(found.group(1))


def _latencies(log_prefix):
    """The third field of each line of pgbench's transaction logs; the logs are removed."""
    latencies = []
    for path in glob.glob(log_prefix + ".*"):
        with open(path) as log:
            latencies.extend(int(line.split(" ", 3)[2]) for line in log)
        os.remove(path)
    return sorted(latencies)


def _percentiles(ordered):
    last = len(ordered) - 1
    return {name: ordered[round(last * point)] for name, point in PERCENTILES.items()} if ordered else {}
