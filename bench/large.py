"""Large results: how fast they pass, and how much memory that takes."""

import time

import counters

ROW, TOTAL = 1 << 20, 1 << 30  # bytes

# name → statement; the text is folded to a constant, so that PostgreSQL has little to do for it
RESULTS = {
    "COPY of 1 GB, rows of 8 kB": f"COPY (SELECT repeat('x', 8192) FROM generate_series(1, {TOTAL // 8192})) TO STDOUT",
    "1 GB in rows of 1 MB": f"SELECT repeat('x', {ROW}) FROM generate_series(1, {TOTAL // ROW})",
}


def measured(running, name):
    """Throughput in MB/s, CPU per MB, and by how much resident memory grew at its peak, in bytes."""
    connection = running.connect()
    try:
        connection.query("SELECT 1")
        time.sleep(counters.SETTLE_S)
        resident = running.daemon.rss_bytes() if running.daemon else None
        if running.daemon:
            running.daemon.forget_peak()
        before, started = counters.reading(running), time.monotonic()
        connection.ask(RESULTS[name])
        received = connection.swallow(TOTAL)
        elapsed = time.monotonic() - started
        after = counters.reading(running)
    finally:
        connection.close()
    result = {"mb_per_second": received / 1e6 / elapsed, **counters.per_unit(before, after, received / 1e6)}
    if running.daemon:
        result["growth_bytes"] = running.daemon.peak_bytes() - resident
    return result
