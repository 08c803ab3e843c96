"""Measurements in, tables out: medians of the rounds, and ratios of the same round."""

import os
from statistics import median

from peers import REFERENCE, RELAY

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


class Records(list):
    """Everything measured, one dict each: `kind`, `peer`, `round`, what was varied, and the numbers or an `error`."""

    def rows(self, **wanted):
        return [row for row in self if all(row.get(key) == value for key, value in wanted.items())]

    def values(self, name, kind):
        """What was varied, in the order of its first appearance."""
        return list(dict.fromkeys(row[name] for row in self if row["kind"] == kind))

    def median(self, field, **wanted):
        numbers = [row[field] for row in self.rows(**wanted) if field in row]
        return median(numbers) if numbers else None

    def ratio(self, field, base, **wanted):
        """The median over the rounds of (this peer / that peer in the same round)."""
        of_base = {row["round"]: row.get(field) for row in self.rows(**{**wanted, "peer": base})}
        pairs = [(row.get(field), of_base.get(row["round"])) for row in self.rows(**wanted)]
        ratios = [own / other for own, other in pairs if own is not None and other]
        return median(ratios) if ratios else None

    def remark(self, **wanted):
        return next((row["error"] for row in self.rows(**wanted) if "error" in row), None)


def number(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}"


def load_tables(records):
    for mode in records.values("mode", "load"):
        for clients in [
            count for count in records.values("clients", "load") if records.rows(kind="load", mode=mode, clients=count)
        ]:
            yield (
                f"`pgbench -S -M {mode}`, {clients} client{'s' if clients > 1 else ''}",
                *_load_table(records, mode, clients),
            )


def _load_table(records, mode, clients):
    head = [
        "",
        "tps",
        "p50 µs",
        "p95 µs",
        "p99 µs",
        "p99.9 µs",
        "CPU µs (user + system)",
        "to relay: tps / p99 / CPU",
        "to PgBouncer: tps / p99 / CPU",
    ]
    rows, remarks = [], []
    for peer in records.values("peer", "load"):
        wanted = {"kind": "load", "mode": mode, "clients": clients, "peer": peer}
        if records.remark(**wanted):
            remarks.append(f"{peer}: {records.remark(**wanted)}")
        if records.median("tps", **wanted) is None:
            continue
        percentiles = [number(records.median(field, **wanted)) for field in ("p50_us", "p95_us", "p99_us", "p999_us")]
        ratios = [_ratios(records, ("tps", "p99_us", "cpu_us"), base, wanted) for base in (RELAY, REFERENCE)]
        rows.append([peer, number(records.median("tps", **wanted)), *percentiles, _cpu(records, wanted), *ratios])
    return head, rows, remarks


def _cpu(records, wanted):
    total, user, system = (records.median(field, **wanted) for field in ("cpu_us", "user_us", "system_us"))
    return "–" if total is None else f"{total:.1f} ({user:.1f} + {system:.1f})"


def _ratios(records, fields, base, wanted):
    if wanted["peer"] == base:
        return "1"
    found = [records.ratio(field, base, **wanted) for field in fields]
    return "–" if all(ratio is None for ratio in found) else " / ".join(number(ratio, 2) for ratio in found)


def idle_table(records):
    head, rows, remarks = ["", "kB per idle client", "after a burst", "MB before", "to PgBouncer: idle / burst"], [], []
    for peer in records.values("peer", "idle"):
        wanted = {"kind": "idle", "peer": peer}
        if records.remark(**wanted):
            remarks.append(f"{peer}: {records.remark(**wanted)}")
            continue
        fields = ("per_client_bytes", "after_burst_bytes")
        idle, burst = (number(records.median(field, **wanted) / 1000, 1) for field in fields)
        before = number(records.median("before_bytes", **wanted) / 1e6, 1)
        rows.append([peer, idle, burst, before, _ratios(records, fields, REFERENCE, wanted)])
    clients = records.median("clients", kind="idle")
    yield f"Resident memory of {number(clients)} idle clients that each ran one query", head, rows, remarks


def login_tables(records):
    for way in records.values("way", "login"):
        head = ["", "logins / s", "logins / CPU s", "CPU µs per login (user + system)", "to PgBouncer: logins / CPU s"]
        rows, remarks = [], []
        for peer in records.values("peer", "login"):
            wanted = {"kind": "login", "peer": peer, "way": way}
            if records.remark(**wanted):
                remarks.append(f"{peer}: {records.remark(**wanted)}")
                continue
            rates = [number(records.median(field, **wanted)) for field in ("per_second", "per_cpu_second")]
            ratio = _ratios(records, ("per_cpu_second",), REFERENCE, wanted)
            rows.append([peer, *rates, _cpu(records, wanted), ratio])
        yield f"Logins, {way}", head, rows, remarks


def syscall_tables(records):
    for mode in records.values("mode", "syscalls"):
        for clients in records.values("clients", "syscalls"):
            head, rows, remarks = ["", "calls per transaction", "which"], [], []
            for row in records.rows(kind="syscalls", mode=mode, clients=clients):
                if "error" in row:
                    remarks.append(f"{row['peer']}: {row['error']}")
                    continue
                calls = sorted(row["calls"].items(), key=lambda item: -item[1])
                which = ", ".join(f"{name} {count:.2f}" for name, count in calls)
                rows.append([row["peer"], number(row["per_transaction"], 2), which])
            yield f"System calls, {mode}, {clients} clients", head, rows, remarks


def state_tables(records):
    for workload in records.values("workload", "state"):
        head, rows, remarks = ["", "CPU µs per transaction (user + system)", "p50 µs"], [], []
        for peer in records.values("peer", "state"):
            wanted = {"kind": "state", "peer": peer, "workload": workload}
            if records.remark(**wanted):
                remarks.append(f"{peer}: {records.remark(**wanted)}")
                continue
            rows.append([peer, _cpu(records, wanted), number(records.median("p50_us", **wanted))])
        yield f"Session state, {workload}", head, rows, remarks


def tables(records):
    makers = {
        "load": load_tables,
        "idle": idle_table,
        "login": login_tables,
        "syscalls": syscall_tables,
        "state": state_tables,
    }
    for kind, maker in makers.items():
        if any(row["kind"] == kind for row in records):
            yield from maker(records)


def as_text(records):
    blocks = []
    for title, head, rows, remarks in tables(records):
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
        lines = [
            "  ".join(_pad(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths))).rstrip()
            for row in [head, *rows]
        ]
        blocks.append("\n".join([title.replace("`", ""), *lines, *(f"  {remark}" for remark in remarks)]))
    return "\n\n".join(blocks)


def _pad(cell, width, column):
    return cell.rjust(width) if column else cell.ljust(width)


def as_markdown(records, conditions):
    blocks = ["\n".join(f"- {name}: {value}" for name, value in conditions.items())]
    for title, head, rows, remarks in tables(records):
        lines = ["| " + " | ".join(row) + " |" for row in [head, ["---", *["---:"] * (len(head) - 1)], *rows]]
        blocks.append("\n".join([f"### {title}", "", *lines, *(f"\n{remark}." for remark in remarks)]))
    return "\n\n".join(blocks)


def write_markdown(path, text):
    """Replaces what stands between the markers of a document, or writes a new one."""
    document = f"{BEGIN}\n{END}\n"
    if os.path.exists(path):
        with open(path) as file:
            document = file.read()
    start, end = document.find(BEGIN), document.find(END)
    if start < 0 or end < start:
        raise ValueError(f"{path} has no {BEGIN} followed by {END}")
    with open(path, "w") as file:
        file.write(f"{document[:start]}{BEGIN}\n\n{text}\n\n{document[end:]}")
