"""Daemons that are started for a run, watched through /proc, and never left behind."""

import contextlib
import ctypes
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
CPUCLOCK_SCHED = 2  # with a process's id, the clock of all its threads (clock_getcpuclockid(3))
STOP_TIMEOUT_S = 10


class BenchError(Exception):
    """Something that the reader of the terminal can act on; shown without a traceback."""


class Account:
    """Who runs PostgreSQL and the poolers: ourselves, or an unprivileged account where we are root.

    PostgreSQL and PgBouncer both refuse to run as root.
    """

    def __init__(self):
        self.switched = os.geteuid() == 0
        self.entry = self._unprivileged() if self.switched else pwd.getpwuid(os.geteuid())

    @staticmethod
    def _unprivileged():
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise BenchError("run as an ordinary user: this root has neither a `postgres` nor a `nobody` account")

    def give(self, path):
        """Hands a file or directory to the account."""
        if self.switched:
            os.chown(path, self.entry.pw_uid, self.entry.pw_gid)

    def switch(self):
        """The arguments of `subprocess` that change to the account."""
        if not self.switched:
            return {}
        return {"user": self.entry.pw_uid, "group": self.entry.pw_gid, "extra_groups": []}

    def reachable(self, binary, work):
        """The path of a binary that the account may run: a copy, as a directory above may be closed to it."""
        if not self.switched or binary.startswith("/usr/"):
            return binary
        copy = os.path.join(work, "bin-" + os.path.basename(binary))
        if not os.path.exists(copy):
            shutil.copy2(binary, copy)
            os.chmod(copy, 0o755)
            self.give(copy)
        return copy


def environment():
    """Ours without libpq's variables, which would bend every connection; and no TLS just because it is on offer."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "PGSSLMODE": "disable"}


def free_port():
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def dies_with_parent(signal_number):
    """A `preexec_fn`: the kernel stops the child should we be killed without a chance to clean up."""
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def confine(pid, cpus):
    """Lets a process run on these CPUs only: its threads, and those that they start."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):  # it may have ended meanwhile
            os.sched_setaffinity(int(thread), cpus)


class Daemon:
    """One process in the foreground with its output in a file; `with` stops it."""

    def __init__(self, argv, log_path, account, stop_signal=signal.SIGINT, death_signal=signal.SIGKILL):
        self.name = os.path.basename(argv[0])
        self.log_path = log_path
        self.stop_signal = stop_signal
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=os.path.dirname(log_path),
                env=environment(),
                start_new_session=True,  # Ctrl-C at the terminal is ours to handle, in order
                preexec_fn=dies_with_parent(death_signal),
                **account.switch(),
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        for number in (self.stop_signal, signal.SIGKILL):
            if self.process.poll() is not None:
                return
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                continue

    def wait_ready(self, probe, seconds=15):
        """Calls `probe` until it raises no OSError."""
        deadline = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                raise BenchError(f"{self.name} ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                return probe()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise BenchError(f"{self.name} is not ready: {error}\n{self.log_tail()}") from error
                time.sleep(0.05)

    def log_tail(self, lines=12):
        with open(self.log_path, errors="replace") as log:
            return "".join(log.readlines()[-lines:]).rstrip()

    def counters(self):
        """CPU seconds of all threads so far, by the scheduler's clock and by its ticks, and context switches."""
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        switches = [self._status(path) for path in glob.glob(f"/proc/{self.pid}/task/*/status")]
        return {
            "cpu_s": time.clock_gettime(~self.pid << 3 | CPUCLOCK_SCHED),
            "user_s": int(fields[11]) / TICKS_PER_SECOND,
            "system_s": int(fields[12]) / TICKS_PER_SECOND,
            "voluntary": sum(int(status["voluntary_ctxt_switches"]) for status in switches),
            "involuntary": sum(int(status["nonvoluntary_ctxt_switches"]) for status in switches),
        }

    def rss_bytes(self):
        return int(self._status()["VmRSS"].split()[0]) * 1024

    def forget_peak(self):
        """The peak counts from now on (proc(5), clear_refs)."""
        with open(f"/proc/{self.pid}/clear_refs", "w") as refs:
            refs.write("5")

    def peak_bytes(self):
        return int(self._status()["VmHWM"].split()[0]) * 1024

    def _status(self, path=None):
        with open(path or f"/proc/{self.pid}/status") as status:
            return dict(line.rstrip().split(":", 1) for line in status)
