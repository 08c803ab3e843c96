"""What the kernel counts for a pooler's process, per unit of work done."""

SETTLE_S = 0.3  # for a pooler to finish what the last client left it


def reading(running):
    """CPU seconds and context switches so far; None for PostgreSQL itself, whose work many processes share."""
    return running.daemon.counters() if running.daemon else None


def per_unit(before, after, units):
    """CPU in µs and context switches, per unit. The scheduler's clock gives the whole, its ticks the user's share."""
    if before is None or not units:
        return {}
    spent = {name: after[name] - before[name] for name in before}
    ticks = spent["user_s"] + spent["system_s"]
    cpu_us = spent["cpu_s"] * 1e6 / units
    user_us = cpu_us * (spent["user_s"] / ticks if ticks else 0.0)
    return {
        "cpu_us": cpu_us,
        "user_us": user_us,
        "system_us": cpu_us - user_us,
        "voluntary": spent["voluntary"] / units,
        "involuntary": spent["involuntary"] / units,
    }
