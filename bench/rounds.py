"""The rounds: everything is measured once per peer and round, each round starting with another peer."""

import contextlib
import itertools
import shutil
import subprocess
import sys

import ceiling
import idle
import large
import load
import logins
import micro
import peers
import state
import syscalls
from processes import BenchError
from records import Records

MEASURES = ("load", "syscalls", "idle", "beside", "login", "large", "state", "ceiling", "micro")
HEADLINES = ("tps", "per_client_bytes", "per_second", "per_transaction", "mb_per_second", "increase", "p50_us", "ns")
MODES_AIMED_AT = ("simple", "prepared")
ASIDE_ROUNDS_MAX = 2  # of what has no target, or hardly differs from round to round


class Rounds:
    def __init__(self, options, chosen, work, surroundings):
        self.options, self.work, self.surroundings = options, work, surroundings
        self.candidates = chosen
        self.chosen = [peer for peer in chosen if not peer.only_for]
        self.records = Records()

    def run(self):
        for kind in MEASURES:
            if kind in self.options.measure:
                getattr(self, kind)()

    def load(self):
        options = self.options
        with contextlib.ExitStack() as stack:
            for number, order in self._rounds(self._start_all(stack, self.candidates)):
                for mode, clients, one in itertools.product(options.modes, options.clients, order):
                    if number > ASIDE_ROUNDS_MAX and _is_aside(mode, one.peer):
                        continue
                    what = {"kind": "load", "mode": mode, "clients": clients, "peer": one.peer.name, "round": number}
                    self._record(what, one.peer.remark(mode), self._load_once, one, mode, clients)

    def _load_once(self, one, mode, clients):
        options = self.options
        return load.measured(one, self.work, mode, clients, options.seconds, options.jobs, options.sampling)

    def syscalls(self):
        if not shutil.which("strace"):
            print("strace is not found: no system calls are counted", file=sys.stderr)
            return
        with contextlib.ExitStack() as stack:
            watched = [one for one in self._start_all(stack, self.chosen) if one.daemon]
            for mode, one in itertools.product(MODES_AIMED_AT, watched):
                what = {"kind": "syscalls", "mode": mode, "clients": 16, "peer": one.peer.name, "round": 1}
                arguments = (self.work, mode, 16, self.options.seconds, self.options.jobs)
                self._record(what, one.peer.remark(mode), syscalls.measured, one, *arguments)

    def idle(self):
        for number, order in self._rounds(self._pooling(), ASIDE_ROUNDS_MAX):
            for over, peer in itertools.product(("plain", "TLS"), order):
                what = {"kind": "idle", "over": over, "peer": peer.name, "round": number}
                remark = peer.lacks(logins.Way(over, "trust", tls=over == "TLS"))
                self._record(what, remark, self._idle_once, peer, over == "TLS")

    def _idle_once(self, peer, tls):
        with peer.start() as one:
            return idle.memory(one, self.options.idle_clients, tls)

    def beside(self):
        options = self.options
        for peer in self._pooling():
            what = {"kind": "beside", "idle": options.crowd, "busy": 16, "peer": peer.name}
            arguments = (options.crowd, 16, options.rounds, options.seconds, self.work, options.jobs)
            try:
                for number, numbers in enumerate(idle.beside(peer.start, *arguments), 1):
                    self._record({**what, "round": number}, None, dict, numbers)
            except (BenchError, OSError) as error:
                self._record({**what, "round": 0}, str(error), dict)

    def login(self):
        for way in logins.ALL:
            for number, order in self._rounds(self.chosen):
                for peer in order:
                    if number > 1 and not peer.pools:
                        continue  # PostgreSQL forks for each login, which is no pooler's
                    what = {"kind": "login", "way": way.name, "peer": peer.name, "round": number}
                    self._record(what, peer.lacks(way), self._login_once, peer, way)

    def _login_once(self, peer, way):
        count = self.options.logins if peer.pools else self.options.logins // 5
        with peer.start(way.auth) as one:
            return logins.measured(one, way, count, self.options.jobs)

    def large(self):
        with contextlib.ExitStack() as stack:
            for number, order in self._rounds(self._start_all(stack, self.chosen)):
                for name, one in itertools.product(large.RESULTS, order):
                    what = {"kind": "large", "result": name, "peer": one.peer.name, "round": number}
                    self._record(what, None, large.measured, one, name)

    def state(self):
        with contextlib.ExitStack() as stack:
            alone = state.choose(*self.surroundings, self.chosen)
            for number, order in self._rounds(self._start_all(stack, alone), ASIDE_ROUNDS_MAX):
                for name, one in itertools.product(state.WORKLOADS, order):
                    what = {"kind": "state", "workload": name, "peer": one.peer.name, "round": number}
                    is_lost = name in state.FOLLOWERS_ONLY and one.peer.name not in state.FOLLOWERS
                    remark = "does not follow such settings" if is_lost else None
                    self._record(what, remark, state.converse, one, name, max(1, self.options.seconds // 2))

    def ceiling(self):
        options = self.options
        _, work, account, _ = self.surroundings
        with ceiling.Ceiling() as tool, contextlib.ExitStack() as stack:
            running = self._start_all(stack, ceiling.choose(tool, work, account, self.chosen))
            for number, order in self._rounds(running):
                for where, mode, one in itertools.product(ceiling.placings(), MODES_AIMED_AT, order):
                    if number > ASIDE_ROUNDS_MAX and where == ceiling.TOGETHER:
                        continue
                    clients = ceiling.CLIENTS
                    what = {"kind": "ceiling", "where": where, "mode": mode, "clients": clients}
                    what |= {"peer": one.peer.name, "round": number}
                    arguments = (where, mode, clients, options.seconds)
                    self._record(what, one.peer.remark(mode), tool.measured, one, *arguments)

    def micro(self):
        for bench in micro.BENCHES:
            what = {"kind": "micro", "bench": bench}
            try:
                for name, ns in micro.measured(bench).items():
                    self._record({**what, "step": name}, None, dict, {"ns": ns})
            except BenchError as error:
                self._record(what, str(error), dict)

    def _pooling(self):
        return [peer for peer in self.chosen if peer.pools]

    def _start_all(self, stack, some):
        running = []
        for peer in some:
            try:
                running.append(stack.enter_context(peer.start()))
            except BenchError as error:
                print(f"{peer.name} is left out: {error}", file=sys.stderr)
        return running

    def _rounds(self, things, limit=None):
        for index in range(min(self.options.rounds, limit or self.options.rounds)):
            shift = index % len(things) if things else 0
            yield index + 1, things[shift:] + things[:shift]

    def _record(self, what, remark, measured, *arguments):
        """Keeps what `measured` gives; or the remark that says why it is not measured, or what went wrong."""
        try:
            numbers = {"error": remark} if remark else measured(*arguments)
        except (BenchError, OSError, subprocess.TimeoutExpired) as error:
            numbers = {"error": str(error)}
        self.records.append({**what, **numbers})
        shown = next((f"{key} {numbers[key]:,.2f}" for key in HEADLINES if key in numbers), numbers.get("error"))
        print(f"  {' '.join(str(value) for value in what.values())}: {shown}", file=sys.stderr, flush=True)


def _is_aside(mode, peer):
    """Whether it has no target, so that fewer rounds do."""
    return mode not in MODES_AIMED_AT or peer.name in (peers.Direct.name, peers.Odyssey.name)
