"""Under what the figures came about: without it they mean nothing."""

import datetime
import os
import platform
import subprocess

import peers


def told(options, chosen, cluster):
    """Name → words, in the order in which they are printed."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{_cpu_model()}, {os.cpu_count()} CPUs shared by PostgreSQL, pooler and pgbench; "
        f"Linux {platform.release()}; load average at start {os.getloadavg()[0]:.1f}",
        "PostgreSQL": f"{cluster.version()}, fsync off, scale {options.scale}, TCP on loopback, "
        "no TLS and trust unless said otherwise; TLS is 1.3 with ECDSA on P-256",
        "peers": ", ".join(f"{peer.name} {peer.version()}" for peer in chosen if peer.name != peers.Direct.name),
        "pools": f"{peers.POOL_SIZE} servers; threads of howdah and Odyssey: {options.workers or 'by default'}",
        "checkout": _commit(),
        "rounds": f"{options.rounds} of {options.seconds} s, peers in turn; 2 of memory, session state and what has no target",
    }


def _cpu_model():
    with open("/proc/cpuinfo") as info:
        names = (line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
        return next(names, platform.machine())


def _commit():
    argv = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(argv, cwd=peers.REPOSITORY, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
