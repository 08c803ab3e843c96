"""What session state costs: the same conversations through howdah with following on and off, through PgBouncer, and
directly. One client at a time, or two that take turns, so that latency is the pooler's own."""

import statistics
import time

import counters
import peers
from cluster import LITERALS_DATABASE

ZONES = [{"options": "-c TimeZone=UTC"}, {"options": "-c TimeZone=Asia/Tokyo"}]
# name → what each of the clients logs in with beside user and database, and one transaction of it
WORKLOADS = {
    "inert: one SELECT": ([{}], ["SELECT abalance FROM pgbench_accounts WHERE aid = 12345"]),
    "BEGIN, SELECT, COMMIT as psycopg sends it": (
        [{}],
        ["BEGIN", "SELECT abalance FROM pgbench_accounts WHERE aid = 12345", "COMMIT"],
    ),
    "settings that fit, two clients": ([{"options": "-c lock_timeout=30s"}] * 2, ["SELECT 1"]),
    "settings that alternate, two clients": (
        [{"options": "-c lock_timeout=30s"}, {"options": "-c lock_timeout=40s"}],
        ["SELECT 1"],
    ),
    "time zones that alternate, two clients": (ZONES, ["SELECT days('2020-02-02')"]),
    "time zones that alternate, two clients, where functions have literals": (
        [{"database": LITERALS_DATABASE, **zone} for zone in ZONES],
        ["SELECT days('2020-02-02')"],
    ),
    "flagged: SET of a setting that is not reported": ([{}], ["SET lock_timeout = '30s'"]),
    "opaque: an empty DO": ([{}], ["DO $$ BEGIN END $$"]),
}
# Whose clients cannot log in with such options, or whose settings would leak.
FOLLOWERS = ("howdah", "direct")
FOLLOWERS_ONLY = [name for name, (clients, _) in WORKLOADS.items() if clients != [{}]]


class Ignoring(peers.Howdah):
    """howdah that looks at nothing: the price of the classifier is the difference."""

    name = "howdah, session_state = ignore"
    more = 'session_state = "ignore"\n'


def choose(cluster, work, account, workers, chosen):
    """The peers that are chosen, with one server each, so that two clients always meet on it."""
    alone = []
    for peer in chosen:
        if peer.name not in ("direct", "howdah", "pgbouncer"):
            continue
        kinds = [type(peer), Ignoring] if peer.name == "howdah" else [type(peer)]
        for kind in kinds:
            one = kind(cluster, work, account, workers)
            one.pool_size = 1
            alone.append(one)
    return alone


def converse(running, name, seconds):
    """CPU of the pooler and median latency per transaction, both in µs."""
    parameters, transaction = WORKLOADS[name]
    clients = [running.connect(**more) for more in parameters]
    latencies = []
    try:
        for client in clients:
            _turn(client, transaction)
        before = counters.reading(running)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for client in clients:
                started = time.perf_counter()
                _turn(client, transaction)
                latencies.append(time.perf_counter() - started)
        after = counters.reading(running)
    finally:
        for client in clients:
            client.close()
    count = len(latencies)
    return {
        "transactions": count,
        "p50_us": statistics.median(latencies) * 1e6,
        **counters.per_unit(before, after, count),
    }


def _turn(client, transaction):
    for statement in transaction:
        client.query(statement)
