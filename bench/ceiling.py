"""A pooler's own limit: between a server that answers at once and clients that ask at once (bench/ceiling)."""

import json
import os
import subprocess
import time

import counters
import peers
import wire
from cluster import PASSWORD
from processes import BenchError, dies_with_parent, environment

CLIENTS = 64
TOOL = os.path.join(peers.REPOSITORY, "target", "release", "examples", "ceiling")
WORKERS = (1, 2, 4, 8)


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

    def measured(self, running, mode, clients, seconds):
        """Transactions per second, and the pooler's counters for each; `busy` is its share of one CPU.

        What a thread does in a second in which it is always busy is its limit, whether or not this load is enough for it.
        """
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
