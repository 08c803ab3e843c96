"""Connecting, logging in and leaving: each way of it."""

import multiprocessing
import signal
import ssl
import time

import counters
from processes import BenchError


class Way:
    """How clients log in: what they are asked for, and whether it is said under TLS."""

    def __init__(self, name, auth, tls=False, resumes=False):
        self.name, self.auth, self.tls, self.resumes = name, auth, tls, resumes


TRUST, SCRAM, SCRAM_TLS, SCRAM_RESUMED = "trust", "SCRAM", "SCRAM over TLS", "SCRAM over resumed TLS"
ALL = (
    Way(TRUST, "trust"),
    Way(SCRAM, "scram-sha-256"),
    Way(SCRAM_TLS, "scram-sha-256", tls=True),
    Way(SCRAM_RESUMED, "scram-sha-256", tls=True, resumes=True),
)


class Tls:
    """The client's side of TLS 1.3. It believes anybody, and comes back with its last session if it is to resume."""

    def __init__(self, resumes):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.resumes, self.session = resumes, None
        self.resumed = 0

    def wrap(self, plain):
        wrapped = self.context.wrap_socket(plain, session=self.session)
        self.resumed += wrapped.session_reused
        return wrapped

    def leave(self, wrapped):
        if self.resumes:
            self.session = wrapped.session


def measured(running, way, count, processes):
    """`count` logins from several processes: the rate, and the pooler's CPU per login in µs.

    The rate is bounded by this generator and by PostgreSQL's share of the machine; the CPU is not.
    """
    context = multiprocessing.get_context("fork")
    share, resumed = max(1, count // processes), context.Value("L", 0)
    arguments = (running, way, share, resumed)
    before = counters.reading(running)
    started = time.monotonic()
    workers = [context.Process(target=_repeatedly, args=arguments, daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = time.monotonic() - started
    if any(worker.exitcode for worker in workers):
        raise BenchError("a login failed")
    time.sleep(counters.SETTLE_S)
    done = share * processes
    if way.resumes and resumed.value < done / 2:
        raise BenchError("does not resume TLS sessions")
    cost = counters.per_unit(before, counters.reading(running), done)
    if cost.get("cpu_us"):
        cost["per_cpu_second"] = 1e6 / cost["cpu_us"]
    return {"logins": done, "per_second": done / elapsed, **cost}


def _repeatedly(running, way, count, resumed):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tls = Tls(way.resumes) if way.tls else None
    for _ in range(count):
        running.connect(tls=tls).close()
    if tls:
        with resumed.get_lock():
            resumed.value += tls.resumed
