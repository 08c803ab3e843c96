"""What clients cost that do nothing: memory of their own, and time of those beside them."""

import contextlib
import time

import counters
import load
import logins

SETTLE_S = 2.0


def memory(running, clients, tls):
    """Resident memory per client that logged in, ran one query and stays.

    First one after another, so one server serves all; then again after a burst in which all of them ask at once, which
    shows what a pooler keeps of its buffers.
    """
    running.visit()
    time.sleep(counters.SETTLE_S)
    before = running.daemon.rss_bytes()
    with _waiting(running, clients, tls) as connections:
        time.sleep(SETTLE_S)
        after = running.daemon.rss_bytes()
        for connection in connections:
            connection.ask("SELECT 1")
        for connection in connections:
            connection.answered()
        time.sleep(SETTLE_S)
        after_burst = running.daemon.rss_bytes()
    return {
        "clients": clients,
        "before_bytes": before,
        "per_client_bytes": (after - before) / clients,
        "after_burst_bytes": (after_burst - before) / clients,
    }


def beside(start, idle_clients, busy_clients, rounds, seconds, work, jobs):
    """One dict a round: CPU per transaction of busy clients in a pooler with many idle ones, and in one without.

    Both stand beside each other and are asked in turn, so that what else the machine does falls on both.
    """
    with start() as alone, start() as crowded, _waiting(crowded, idle_clients, tls=False):
        time.sleep(SETTLE_S)
        for _ in range(rounds):
            cost = [
                load.measured(one, work, "simple", busy_clients, seconds, jobs, sampling=0.01)["cpu_us"]
                for one in (alone, crowded)
            ]
            yield {"alone_us": cost[0], "beside_us": cost[1], "increase": cost[1] / cost[0]}


@contextlib.contextmanager
def _waiting(running, count, tls):
    """Clients that have each run a query."""
    connections = []
    try:
        for _ in range(count):
            connections.append(running.connect(tls=logins.Tls(resumes=False) if tls else None))
            connections[-1].query("SELECT 1")
        yield connections
    finally:
        for connection in connections:
            connection.close()
