"""What howdah is to reach, and whether this run shows it."""

from statistics import median

import ceiling
import logins
import micro
from peers import REFERENCE, RELAY, Howdah, TwoWorkers
from tables import number

HOWDAH, TWO = Howdah.name, TwoWorkers.name


def table(records):
    """Title, head, rows and remarks, as the other tables; None if nothing was measured that has a target."""
    rows = [_row(*target) for maker in (_cpu, _calls, _throughput, _ceilings, _clients, _large, _inert) for target in maker(records)]
    rows = [row for row in rows if row]
    met = sum(row[-1] == "yes" for row in rows)
    head = ["", "limit", "measured (all rounds)", "met"]
    return (f"Targets: {met} of {len(rows)} met", head, rows, []) if rows else None


def _row(name, sense, limit, values, digits=2, unit=""):
    """A target is met if the median over the rounds is within its limit."""
    if not values:
        return None
    middle = median(values)
    met = middle <= limit if sense == "≤" else middle >= limit
    spread = f" ({number(min(values), digits)} – {number(max(values), digits)})" if len(values) > 1 else ""
    return [name, f"{sense} {limit:g}{unit}", f"{number(middle, digits)}{spread}", "yes" if met else "**no**"]


def _cpu(records):
    bounds = {(16, "simple"): 0.95, (16, "prepared"): 0.80, (64, "simple"): 0.80, (64, "prepared"): 0.75}
    for (clients, mode), bound in bounds.items():
        wanted = {"kind": "load", "peer": HOWDAH, "mode": mode, "clients": clients}
        where = f"{mode}, {clients} clients"
        yield f"CPU per transaction to the relay's, {where}", "≤", 1.12, records.ratios("cpu_us", RELAY, **wanted)
        yield f"CPU per transaction to PgBouncer's, {where}", "≤", bound, records.ratios("cpu_us", REFERENCE, **wanted)
    simple = {"kind": "load", "peer": HOWDAH, "mode": "simple", "clients": 16}
    # 6 µs where the relay takes 3.2: as a ratio, for machines differ.
    yield "user CPU to the relay's, simple, 16 clients", "≤", 1.9, records.ratios("user_us", RELAY, **simple)


def _calls(records):
    for mode in ("simple", "prepared"):
        for row in records.rows(kind="syscalls", peer=HOWDAH, mode=mode, clients=16):
            for what in ("reads", "writes"):
                # A little more than 2: a message may come in two parts.
                yield f"socket {what} per transaction, {mode}", "≤", 2.05, [row[what]] if what in row else []


def _throughput(records):
    for mode in ("simple", "prepared"):
        for clients in records.values("clients", "load"):
            wanted = {"kind": "load", "peer": HOWDAH, "mode": mode, "clients": clients}
            where = f"{mode}, {clients} client{'s' if clients > 1 else ''}"
            if clients >= 64:
                both = {**wanted, "peer": TWO}
                yield f"tps to PgBouncer's, {where}", "≥", 1, records.ratios("tps", REFERENCE, **wanted)
                yield f"tps to PgBouncer's, two workers, {where}", "≥", 1.1, records.ratios("tps", REFERENCE, **both)
            yield f"p99 to PgBouncer's, {where}", "≤", 1, records.ratios("p99_us", REFERENCE, **wanted)
            if clients >= 512:
                tails = [row["p999_us"] / row["p50_us"] for row in records.rows(**wanted) if row.get("p50_us")]
                yield f"p99.9 to p50, {where}", "≤", 3, tails


def _ceilings(records):
    for mode in ("simple", "prepared"):
        wanted = {"kind": "ceiling", "where": ceiling.APART, "peer": f"{HOWDAH}, 1 worker", "mode": mode}
        ratios = records.ratios("per_cpu_second", REFERENCE, **wanted)
        yield f"ceiling to PgBouncer's, one worker, {mode}", "≥", 1.5, ratios
        many = {**wanted, "peer": f"{HOWDAH}, 8 workers"}
        flatness = records.ratios("cpu_us", f"{HOWDAH}, 1 worker", **many)
        yield f"CPU per transaction with 8 workers to that with 1, {mode}", "≤", 1.1, flatness


def _clients(records):
    for over, bound in (("plain", 2.5), ("TLS", 16)):
        rows = records.rows(kind="idle", peer=HOWDAH, over=over)
        sizes = [row["per_client_bytes"] / 1e3 for row in rows if "per_client_bytes" in row]
        yield f"memory of an idle client, {over}", "≤", bound, sizes, 1, " kB"
    beside = records.rows(kind="beside", peer=HOWDAH)
    yield "CPU per transaction beside idle clients", "≤", 1.05, [row["increase"] for row in beside if "increase" in row]
    bounds = {logins.TRUST: 1, logins.SCRAM: 1, logins.SCRAM_TLS: 1.3}
    for way, bound in bounds.items():
        wanted = {"kind": "login", "peer": HOWDAH, "way": way}
        ratios = records.ratios("per_cpu_second", REFERENCE, **wanted)
        yield f"logins per CPU second to PgBouncer's, {way}", "≥", bound, ratios


def _large(records):
    for result in records.values("result", "large"):
        wanted = {"kind": "large", "peer": HOWDAH, "result": result}
        ratios = records.ratios("mb_per_second", RELAY, **wanted)
        yield f"throughput to the relay's, {result}", "≥", 0.95, ratios
        growth = [row["growth_bytes"] / 1e3 for row in records.rows(**wanted) if "growth_bytes" in row]
        yield f"memory for {result}", "≤", 1000, growth, 0, " kB"


def _inert(records):
    for row in records.rows(kind="micro", bench="sql"):
        if row.get("step", "").startswith(micro.INERT):
            yield f"classifier, {row['step']}", "≤", 300, [row["ns"]], 0, " ns"
