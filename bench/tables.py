"""Measurements in, tables out: a title, a head, rows of words, and remarks."""

import itertools

from peers import REFERENCE, RELAY


def number(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}"


def every(records):
    for maker in (_load, _syscalls, _idle, _beside, _logins, _large, _state, _ceiling, _micro):
        yield from maker(records)


def _table(records, kind, title, columns, **chosen):
    """`columns`: head → what a peer's cell says, given what is wanted of the records."""
    rows, remarks = [], []
    for peer in dict.fromkeys(row["peer"] for row in records.rows(kind=kind, **chosen)):
        wanted = {"kind": kind, "peer": peer, **chosen}
        remark = records.remark(**wanted)
        if remark:
            remarks.append(f"{peer}: {remark}")
        if any("error" not in row for row in records.rows(**wanted)):
            rows.append([peer, *(cell(wanted) for cell in columns.values())])
    return title, ["", *columns], rows, remarks


def _load(records):
    columns = {
        "tps": _median(records, "tps"),
        "p50 µs": _median(records, "p50_us"),
        "p95 µs": _median(records, "p95_us"),
        "p99 µs": _median(records, "p99_us"),
        "p99.9 µs": _median(records, "p999_us"),
        "CPU µs (user + system)": _cpu(records),
        "switches (forced)": _switches(records),
        "to relay: tps / p99 / CPU": _ratios(records, RELAY, "tps", "p99_us", "cpu_us"),
        "to PgBouncer: tps / p99 / CPU": _ratios(records, REFERENCE, "tps", "p99_us", "cpu_us"),
    }
    for mode in records.values("mode", "load"):
        for clients in records.values("clients", "load"):
            title = f"`pgbench -S -M {mode}`, {clients} client{'s' if clients > 1 else ''}"
            if records.rows(kind="load", mode=mode, clients=clients):
                yield _table(records, "load", title, columns, mode=mode, clients=clients)


def _syscalls(records):
    def which(wanted):
        calls = sorted(records.rows(**wanted)[0]["calls"].items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {count:.2f}" for name, count in calls)

    columns = {
        "reads": _median(records, "reads", 2),
        "writes": _median(records, "writes", 2),
        "all": _median(records, "per_transaction", 2),
        "which": which,
    }
    for mode in records.values("mode", "syscalls"):
        for clients in records.values("clients", "syscalls"):
            title = f"System calls per transaction, {mode}, {clients} clients"
            yield _table(records, "syscalls", title, columns, mode=mode, clients=clients)


def _idle(records):
    columns = {
        "kB per idle client": _median(records, "per_client_bytes", 1, 1e3),
        "after a burst": _median(records, "after_burst_bytes", 1, 1e3),
        "MB before": _median(records, "before_bytes", 1, 1e6),
        "to PgBouncer: idle / burst": _ratios(records, REFERENCE, "per_client_bytes", "after_burst_bytes"),
    }
    for over in records.values("over", "idle"):
        clients = number(records.median("clients", kind="idle"))
        title = f"Resident memory of {clients} idle clients that each ran one query, {over}"
        yield _table(records, "idle", title, columns, over=over)


def _beside(records):
    columns = {
        "CPU µs alone": _median(records, "alone_us", 1),
        "beside idle clients": _median(records, "beside_us", 1),
        "ratio": _median(records, "increase", 2),
    }
    for idle in records.values("idle", "beside"):
        busy = records.values("busy", "beside")[0]
        title = f"CPU per transaction of {busy} busy clients, and the same beside {number(idle)} idle ones"
        yield _table(records, "beside", title, columns, idle=idle)


def _logins(records):
    columns = {
        "logins / s": _median(records, "per_second"),
        "logins / CPU s": _median(records, "per_cpu_second"),
        "CPU µs per login (user + system)": _cpu(records),
        "to PgBouncer: logins / CPU s": _ratios(records, REFERENCE, "per_cpu_second"),
    }
    for way in records.values("way", "login"):
        yield _table(records, "login", f"Logins, {way}", columns, way=way)


def _large(records):
    columns = {
        "MB / s": _median(records, "mb_per_second"),
        "CPU µs per MB (user + system)": _cpu(records),
        "memory grows by kB": _median(records, "growth_bytes", 0, 1e3),
        "to relay: MB/s / CPU": _ratios(records, RELAY, "mb_per_second", "cpu_us"),
    }
    for result in records.values("result", "large"):
        yield _table(records, "large", f"Large results: {result}", columns, result=result)


def _state(records):
    columns = {
        "CPU µs per transaction (user + system)": _cpu(records),
        "p50 µs": _median(records, "p50_us"),
        "to PgBouncer: CPU": _ratios(records, REFERENCE, "cpu_us"),
    }
    for workload in records.values("workload", "state"):
        yield _table(records, "state", f"Session state, {workload}", columns, workload=workload)


def _ceiling(records):
    columns = {
        "tps": _median(records, "tps"),
        "CPUs busy": _median(records, "busy", 2),
        "per CPU second": _median(records, "per_cpu_second"),
        "CPU µs (user + system)": _cpu(records),
        "switches (forced)": _switches(records),
        "to PgBouncer: tps / per CPU second": _ratios(records, REFERENCE, "tps", "per_cpu_second"),
    }
    for where, mode in itertools.product(records.values("where", "ceiling"), records.values("mode", "ceiling")):
        clients = records.values("clients", "ceiling")[0]
        title = f"A server and {clients} clients that answer and ask at once, the pooler {where}, {mode}"
        yield _table(records, "ceiling", title, columns, where=where, mode=mode)


def _micro(records):
    for bench in records.values("bench", "micro"):
        rows = records.rows(kind="micro", bench=bench)
        cells = [[row["step"], number(row["ns"])] for row in rows if "ns" in row]
        yield f"Microbenchmarks, {bench}", ["", "ns"], cells, [row["error"] for row in rows if "error" in row]


def _median(records, field, digits=0, unit=1):
    def cell(wanted):
        value = records.median(field, **wanted)
        return number(value and value / unit, digits)

    return cell


def _cpu(records):
    def cell(wanted):
        total, user, system = (records.median(field, **wanted) for field in ("cpu_us", "user_us", "system_us"))
        return "–" if total is None else f"{total:.1f} ({user:.1f} + {system:.1f})"

    return cell


def _switches(records):
    def cell(wanted):
        voluntary, involuntary = (records.median(field, **wanted) for field in ("voluntary", "involuntary"))
        return "–" if voluntary is None else f"{voluntary + involuntary:.2f} ({involuntary:.2f})"

    return cell


def _ratios(records, base, *fields):
    def cell(wanted):
        if wanted["peer"] == base:
            return "1"
        found = [records.ratio(field, base, **wanted) for field in fields]
        return "–" if all(ratio is None for ratio in found) else " / ".join(number(ratio, 2) for ratio in found)

    return cell
