"""PostgreSQL's own regression tests, by psql, while others use the same few servers with settings of their own."""

import contextlib
import glob
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

import stage
import transcript
from cluster import server_binary
from disturbance import ROLE, Disturbance
from processes import BenchError
from sources import Sources
from suite import HERE, KEPT, finish, note

DATABASE = "regression"
DISTURBERS = 5
PSQL_SOURCES = "src/bin/psql"  # the tests use what only the psql of their version has
# What pg_regress gives its database.
DATABASE_SETTINGS = {
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "bytea_output": "hex",
    "timezone_abbreviations": "Default",
}
# What it gives psql.
ENVIRONMENT = {
    "PGTZ": "America/Los_Angeles",
    "PGDATESTYLE": "Postgres, MDY",
    "PGOPTIONS": "-c intervalstyle=postgres_verbose",
    "PG_DLSUFFIX": ".so",
    "LC_MESSAGES": "C",
    "PSQL_HISTORY": "/dev/null",
}
PSQL = ["-X", "-a", "-q", "-d", DATABASE, "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]


class RegressStage(stage.Stage):
    """A cluster of its own for each run, so that even its object ids are the same."""

    # Nothing that happens at a time of its own; two prepared transactions are what the tests count on.
    settings = stage.Stage.settings + "autovacuum = off\nmax_prepared_transactions = 2\n"
    # The tests log in as roles that they have made, which have no passwords.
    hba = "local all all trust\nhost all all 127.0.0.0/8 trust\n"
    pooler_hba = hba
    pgbouncer_auth_type = "trust"
    pool_size = 3

    def _fill(self):
        self._execute("postgres", f"CREATE ROLE {ROLE}")
        self._execute("postgres", f"CREATE DATABASE {DATABASE} TEMPLATE template0")
        for name, value in DATABASE_SETTINGS.items():
            self._execute("postgres", f"ALTER DATABASE {DATABASE} SET {name} TO '{value}'")


class Regress(Sources):
    """A test is a statement of a file, or several that are spelt the same: it has failed where the output differs.

    What others are compared with is the direct run, not the expected output, which depends on how the server was built.
    """

    name = title = "regress"
    listed = "regress"
    inside = "src/test/regress/parallel_schedule"
    protocol = "simple"
    at_once = True  # whether the tests of a group are run at the same time
    limit_s = 600

    def check(self):
        super().check()
        have = subprocess.run([server_binary("postgres"), "--version"], stdout=subprocess.PIPE, text=True).stdout
        if have.split()[2] != self.version():
            raise BenchError(f"the tests in {self.checkout} are of {self.version()}, but there is {have.strip()}")

    @contextlib.contextmanager
    def place(self, way, cluster, work, account):
        with tempfile.TemporaryDirectory(prefix="regress-", dir=work) as work:
            os.chmod(work, 0o755)
            account.give(work)
            with RegressStage(work, account) as cluster, way(cluster, work, account, DATABASE) as place:
                place.work, place.account = work, account
                yield place

    def run(self, place, record, selection, slow):
        outputs = os.path.splitext(record)[0]
        shutil.rmtree(outputs, ignore_errors=True)
        os.makedirs(outputs)
        with open(record + ".log", "w") as log:
            environment = self._furnish(place, log)
            with Disturbance(place, stage.USER, DISTURBERS) as others:
                for group in self._schedule(selection):
                    with ThreadPoolExecutor(len(group)) as pool:
                        run = lambda test: self._psql(test, place, outputs, environment)
                        for test, status in zip(group, pool.map(run, group)):
                            log.write(f"{test}: {status}; {others.count} transactions of others\n")
                            log.flush()
                            self._judge(record, outputs, test, status)
            log.writelines(f"another: {error}\n" for error in others.errors)
        return self.read(record)

    def _schedule(self, selection):
        """Groups of tests that may run at the same time."""
        with open(os.path.join(self.checkout, self.inside)) as schedule:
            groups = [line.split()[1:] for line in schedule if line.startswith("test:")]
        if not self.at_once:
            groups = [[test] for group in groups for test in group]
        wanted = lambda test: not selection or test == "test_setup" or test in selection.split(",")
        chosen = [list(filter(wanted, group)) for group in groups]
        return list(filter(None, chosen))

    def _furnish(self, place, log):
        """Puts what the server is to load and read where it can; the environment of psql."""
        directory = os.path.dirname(self.inside)
        self.make(log, ["-C", directory, "all"], ["-C", PSQL_SOURCES])
        inputs, results = (os.path.join(place.work, name) for name in ("inputs", "results"))
        for part in ("sql", "data"):
            shutil.copytree(os.path.join(self.checkout, directory, part), os.path.join(inputs, part))
        for built in (f"{directory}/*.so", f"{PSQL_SOURCES}/psql", "src/interfaces/libpq/libpq.so.5"):
            for path in glob.glob(os.path.join(self.home, built)):
                shutil.copy(path, inputs)
        os.mkdir(results)
        place.account.give(results)
        paths = {"PG_ABS_SRCDIR": inputs, "PG_ABS_BUILDDIR": place.work, "PG_LIBDIR": inputs, "LD_LIBRARY_PATH": inputs}
        return {**place.environment(), **ENVIRONMENT, **paths, **self._between(inputs)}

    def _between(self, directory):
        """What psql's environment says of the protocol."""
        if self.protocol == "simple":
            return {}
        library = os.path.join(directory, "extended.so")
        headers = [os.path.join(self.checkout, "src", "interfaces", "libpq")]
        headers += [os.path.join(tree, "src", "include") for tree in (self.checkout, self.home)]
        command = ["cc", "-shared", "-fPIC", "-O1", *(f"-I{path}" for path in headers)]
        subprocess.run([*command, "-o", library, os.path.join(HERE, "extended.c"), "-ldl"], check=True)
        return {"LD_PRELOAD": library, "PROTOCOL": self.protocol}

    def _psql(self, test, place, outputs, environment):
        psql = os.path.join(environment["PG_ABS_SRCDIR"], "psql")
        environment = {**environment, "PGAPPNAME": f"pg_regress/{test}"}
        script = os.path.join(environment["PG_ABS_SRCDIR"], "sql", f"{test}.sql")
        with open(script) as script, open(os.path.join(outputs, test + ".out"), "w") as output:
            streams = {"stdin": script, "stdout": output, "stderr": output, "cwd": place.work}
            return finish([psql, *PSQL], self.limit_s, env=environment, **streams, **place.account.switch())

    def _judge(self, record, outputs, test, status):
        """Notes what became of a file, and of the statements in it."""
        whole = ("passed", "") if status == 0 else ("failed", f"psql: {status}")
        note(record, f"{test}: (the file)", *whole)
        script = os.path.join(self.checkout, os.path.dirname(self.inside), "sql", f"{test}.sql")
        expected = os.path.join(KEPT, f"{self.name}-{stage.Direct.name}", test + ".out")
        for statement, differences in transcript.compared(script, expected, os.path.join(outputs, test + ".out")):
            outcome = ("failed", " | ".join(differences)) if differences else ("passed", "")
            note(record, f"{test}: {statement}", *outcome)


class RegressExtended(Regress):
    """The same by the extended protocol, with the unnamed statement."""

    name = title = "regress-extended"
    protocol = "extended"


class RegressPrepared(Regress):
    """The same with named statements, which are used again when the same text comes again.

    One after the other, as PostgreSQL reads a statement anew, under later settings, when somebody has created something.
    """

    name = title = "regress-prepared"
    protocol = "prepared"
    at_once = False
    is_usual = False  # it takes an hour
