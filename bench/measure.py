"""One function per thing measured. Each gives a dict of plain numbers."""

import glob
import os
import re
import signal
import subprocess
import time

from cluster import USER, pgbench
from processes import BenchError, environment

SETTLE_S = 0.3  # for a pooler to finish what the last client left it
IDLE_SETTLE_S = 2.0


def load(running, work, mode, clients, seconds, jobs, sampling=1.0):
    """`pgbench -S`: throughput, latencies in µs and the pooler's CPU per transaction in µs."""
    log_prefix = os.path.join(work, "transactions")
    before = cpu(running)
    output = _pgbench(
        running, mode, clients, seconds, jobs, ["-l", f"--log-prefix={log_prefix}", f"--sampling-rate={sampling}"]
    )
    after = cpu(running)
    transactions = _number(r"actually processed: (\d+)", output)
    result = {"tps": _number(r"tps = ([\d.]+)", output), "transactions": transactions}
    result.update(_percentiles(_latencies(log_prefix)))
    result.update(per_unit(before, after, transactions))
    return result


def idle_memory(running, clients):
    """Resident memory per client that logged in, ran one query and stays.

    First one after another, so one server serves all; then again after a burst in which all of them ask at once, which
    shows what a pooler keeps of its buffers.
    """
    running.visit()
    time.sleep(SETTLE_S)
    before = running.daemon.rss_bytes()
    connections = []
    try:
        for _ in range(clients):
            connections.append(running.connect())
            connections[-1].query("SELECT 1")
        time.sleep(IDLE_SETTLE_S)
        after = running.daemon.rss_bytes()
        for connection in connections:
            connection.ask("SELECT 1")
        for connection in connections:
            connection.answered()
        time.sleep(IDLE_SETTLE_S)
        after_burst = running.daemon.rss_bytes()
    finally:
        for connection in connections:
            connection.close()
    return {
        "clients": clients,
        "before_bytes": before,
        "per_client_bytes": (after - before) / clients,
        "after_burst_bytes": (after_burst - before) / clients,
    }


def syscalls(running, work, mode, clients, seconds, jobs):
    """System calls per transaction by `strace -c -f`, logins included. It slows the pooler, so no times."""
    summary = os.path.join(work, "strace")
    tracer = subprocess.Popen(
        ["strace", "-c", "-f", "-q", "-o", summary, "-p", str(running.daemon.pid)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _wait_traced(tracer, running.daemon.pid)
        output = _pgbench(running, mode, clients, seconds, jobs)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    transactions = _number(r"actually processed: (\d+)", output)
    calls = _strace_counts(summary)
    return {
        "transactions": transactions,
        "per_transaction": sum(calls.values()) / transactions,
        "calls": {name: count / transactions for name, count in calls.items() if count > transactions / 100},
    }


def _wait_traced(tracer, pid):
    for _ in range(100):
        if tracer.poll() is not None:
            raise BenchError("strace: " + tracer.stderr.read().strip())
        with open(f"/proc/{pid}/status") as status:
            if "TracerPid:\t0\n" not in status.read():
                return
        time.sleep(0.05)
    raise BenchError("strace does not attach")


def _strace_counts(path):
    """Name → calls, from the table whose columns are: % time, seconds, usecs/call, calls, [errors], name."""
    calls = {}
    with open(path) as table:
        for line in table:
            fields = line.split()
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
                calls[fields[-1]] = int(fields[3])
    return calls


def _pgbench(running, mode, clients, seconds, jobs, extra=()):
    argv = [pgbench(), "-h", "127.0.0.1", "-p", str(running.port), "-U", USER, "-n", "-S", "-M", mode]
    argv += ["-c", str(clients), "-j", str(min(jobs, clients)), "-T", str(seconds), *extra, running.database]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), timeout=seconds + 60)
    if done.returncode:
        complaint = [line for line in done.stderr.splitlines() if "error" in line or "fatal" in line.lower()]
        raise BenchError("pgbench: " + (complaint[0] if complaint else done.stderr.strip()))
    return done.stdout


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
    points = {"p50_us": 0.5, "p95_us": 0.95, "p99_us": 0.99, "p999_us": 0.999}
    last = len(ordered) - 1
    return {name: ordered[round(last * point)] for name, point in points.items()} if ordered else {}


def cpu(running):
    return running.daemon.cpu_seconds() if running.daemon else None


def per_unit(before, after, units):
    if before is None or not units:
        return {}
    user, system = ((late - early) * 1e6 / units for early, late in zip(before, after))
    return {"user_us": user, "system_us": system, "cpu_us": user + system}
