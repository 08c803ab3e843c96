"""System calls per transaction by `strace -c -f`. It slows the pooler, so no times."""

import os
import signal
import subprocess
import time

import load
from processes import BenchError

READS = ("read", "readv", "recvfrom", "recvmsg")
WRITES = ("write", "writev", "sendto", "sendmsg")


def measured(running, work, mode, clients, seconds, jobs):
    """A long run less a short one, so that neither logins nor goodbyes are in it."""
    load.pgbench_run(running, mode, clients, jobs, "-t", "1")  # opens the servers
    short, few = _traced(running, work, mode, clients, jobs, "-t", "1")
    long, many = _traced(running, work, mode, clients, jobs, "-T", str(seconds))
    transactions = long - short
    calls = {name: (count - few.get(name, 0)) / transactions for name, count in many.items()}
    return {
        "transactions": transactions,
        "per_transaction": sum(calls.values()),
        "reads": sum(calls.get(name, 0) for name in READS),
        "writes": sum(calls.get(name, 0) for name in WRITES),
        "calls": {name: count for name, count in calls.items() if count > 0.01},
    }


def _traced(running, work, mode, clients, jobs, *length):
    """Transactions, and the calls by name."""
    summary = os.path.join(work, "strace")
    tracer = subprocess.Popen(
        ["strace", "-c", "-f", "-q", "-o", summary, "-p", str(running.daemon.pid)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _wait_traced(tracer, running.daemon.pid)
        output = load.pgbench_run(running, mode, clients, jobs, *length)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    return load.transactions(output), _counts(summary)


def _wait_traced(tracer, pid):
    for _ in range(100):
        if tracer.poll() is not None:
            raise BenchError("strace: " + tracer.stderr.read().strip())
        with open(f"/proc/{pid}/status") as status:
            if "TracerPid:\t0\n" not in status.read():
                return
        time.sleep(0.05)
    raise BenchError("strace does not attach")


def _counts(path):
    """Name → calls, from the table whose columns are: % time, seconds, usecs/call, calls, [errors], name."""
    calls = {}
    with open(path) as table:
        for line in table:
            fields = line.split()
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
                calls[fields[-1]] = int(fields[3])
    return calls
