"""A pooler's own limit: between a server that answers at once and clients that ask at once (bench/ceiling)."""

import json
import os
import re
import subprocess
import time

import counters
import peers
import wire
from cluster import PASSWORD
from processes import BenchError, confine, dies_with_parent, environment

CLIENTS = 64
TOOL = os.path.join(peers.REPOSITORY, "target", "release", "examples", "ceiling")
WORKERS = (1, 2, 4, 8)
APART, TOGETHER = "on CPUs of its own", "on the load's CPUs"


def placings():
    """Where the pooler runs → the CPUs of the load and those of the pooler. One CPU cannot be divided.

    Together, a pooler with several threads takes CPU from its own load: each side gets less to do at a time, sleeps and
    is woken up more often, and neither is at its limit. Apart, the pooler is what there is to wait for.
    """
    ours = sorted(os.sched_getaffinity(0), key=_core)
    half = len(ours) // 2
    apart = {APART: (ours[:half], ours[half:])} if half else {}
    return {**apart, TOGETHER: (ours, ours)}


def _core(cpu):
    """Sorts threads of one core next to each other: what one of them does slows the other."""
    with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as siblings:
        return int(re.match(r"\d+", siblings.read()).group()), cpu


class Ceiling:
    """Server and clients in one process; to the peers it is a cluster."""

    certificate = key = None

    def __init__(self):
        if not os.path.exists(TOOL):
            raise BenchError(f"{TOOL} is missing: cargo build --release --example ceiling")
        self.verifier = wire.scram_verifier(PASSWORD)
        self.process = subprocess.Popen(
            [TOOL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
            preexec_fn=dies_with_parent(9),
        )
        self.port = int(self._line())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def measured(self, running, where, mode, clients, seconds):
        """Transactions per second, and the pooler's counters for each; `busy` is its share of one CPU.

        What a thread does in a second in which it is always busy is its limit, whether or not this load is enough for it.
        """
        for pid, cpus in zip((self.process.pid, running.daemon.pid), placings()[where]):
            confine(pid, cpus)
        self.process.stdin.write(f"{mode} {clients} {seconds} {running.port}\n")
        self.process.stdin.flush()
        self._line()
        before, since = counters.reading(running), time.monotonic()
        result = json.loads(self._line())
        after, elapsed = counters.reading(running), time.monotonic() - since
        # Both readings follow a line of the tool's: what it took to read them is in neither.
        units = result["tps"] * elapsed
        busy = (after["cpu_s"] - before["cpu_s"]) / elapsed
        return {**result, "busy": busy, "per_cpu_second": result["tps"] / busy, **counters.per_unit(before, after, units)}

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            raise BenchError("ceiling: " + self.process.stderr.read().strip())
        return line


def choose(ceiling, work, account, chosen):
    """The chosen peers in front of it: the relay and PgBouncer with their one thread, howdah with several numbers."""
    for peer in chosen:
        if peer.name == peers.Howdah.name:
            yield from (peers.Howdah(ceiling, work, account, workers, named=True) for workers in WORKERS)
        elif peer.name in (peers.RELAY, peers.REFERENCE):
            yield type(peer)(ceiling, work, account, 1)
