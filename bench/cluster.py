"""A private PostgreSQL that lives as long as the run."""

import glob
import os
import shutil
import signal
import subprocess

import wire
from processes import BenchError, Daemon, environment, free_port

DATABASE = "app"
SCRAM_DATABASE = "app_scram"  # the same server asks for SCRAM here, for the direct logins
LITERALS_DATABASE = "app_literals"  # where functions have literals that settings decide the meaning of
USER = "bench"
PASSWORD = "throwaway"

# The same function twice: PostgreSQL keeps what it has read of it, and with it the meaning of the literal.
DAYS = "CREATE FUNCTION days(since date) RETURNS int STABLE LANGUAGE plpgsql AS $$BEGIN RETURN {} - since; END$$"
DAYS_IN = {DATABASE: DAYS.format("make_date(2030, 1, 1)"), LITERALS_DATABASE: DAYS.format("date '2030-01-01'")}

SETTINGS = """
listen_addresses = '127.0.0.1'
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
jit = off
shared_buffers = 256MB
max_connections = 700
log_min_messages = warning
"""

HBA = f"""
local all all trust
host {SCRAM_DATABASE} all 127.0.0.0/8 scram-sha-256
host all all 127.0.0.0/8 trust
"""


def server_binary(name):
    """Debian keeps the server's binaries out of PATH, one directory a version."""
    chosen = os.environ.get("PG_BINDIR")
    if chosen:
        return os.path.join(chosen, name)
    on_path = shutil.which(name)
    if on_path:
        return on_path
    found = glob.glob(f"/usr/lib/postgresql/*/bin/{name}") + glob.glob(f"/usr/pgsql-*/bin/{name}")
    if not found:
        raise BenchError(f"{name} is not found: install PostgreSQL's server, or set PG_BINDIR")
    return max(
        found,
        key=lambda path: [int(part) for part in path.split("/")[-3].replace("pgsql-", "").split(".") if part.isdigit()],
    )


class Cluster:
    """initdb, start, load; `with` stops it. The directory belongs to whoever made `work`."""

    settings = SETTINGS
    hba = HBA
    superuser = USER

    def __init__(self, work, account, scale):
        self.port = free_port()
        self.work = work
        self.account = account
        self.scale = scale
        self.verifier = wire.scram_verifier(PASSWORD)
        self.certificate, self.key = self._certificate()
        self.daemon = None

    def __enter__(self):
        data = os.path.join(self.work, "data")
        locale = ("-E", "UTF8", "--locale=C")
        self._run(server_binary("initdb"), "-D", data, "-U", self.superuser, "-A", "trust", *locale, "--no-sync")
        with open(os.path.join(data, "postgresql.conf"), "a") as settings:
            settings.write(f"{self.settings}\nport = {self.port}\nunix_socket_directories = '{self.work}'\n")
            if self.certificate:
                settings.write(f"ssl = on\nssl_cert_file = '{self.certificate}'\nssl_key_file = '{self.key}'\n")
        with open(os.path.join(data, "pg_hba.conf"), "w") as hba:
            hba.write(self.hba)
        self.daemon = Daemon(
            [server_binary("postgres"), "-D", data],
            os.path.join(self.work, "postgres.log"),
            self.account,
            death_signal=signal.SIGQUIT,
        )
        try:
            self.daemon.wait_ready(lambda: self._execute("postgres", "SELECT 1"))
            self._fill()
        except BaseException:
            self.daemon.stop()
            raise
        return self

    def __exit__(self, *_):
        self.daemon.stop()

    def version(self):
        return self._run(server_binary("postgres"), "--version").split()[2]

    def _certificate(self):
        """Paths of a certificate of ECDSA on P-256 and its key, the same for everybody; None without openssl."""
        if not shutil.which("openssl"):
            return None, None
        paths = [os.path.join(self.work, name) for name in ("server.crt", "server.key")]
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        self._run(
            "openssl", "req", "-x509", "-nodes", *curve, "-subj", "/CN=localhost", "-out", paths[0], "-keyout", paths[1]
        )
        return paths

    def _fill(self):
        for database in (DATABASE, SCRAM_DATABASE, LITERALS_DATABASE):
            self._execute("postgres", f"CREATE DATABASE {database}")
        for database, function in DAYS_IN.items():
            self._execute(database, function)
        self._execute("postgres", f"ALTER USER {self.superuser} PASSWORD '{self.verifier}'")
        scale = str(self.scale)
        self._run(pgbench(), "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-i", "-q", "-s", scale, DATABASE)

    def _execute(self, database, statement):
        connection = wire.Connection(self.port, database, self.superuser)
        try:
            connection.query(statement)
        finally:
            connection.close()

    def _run(self, *argv):
        child = subprocess.Popen(
            argv,
            cwd=self.work,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **self.account.switch(),
        )
        try:
            output, complaint = child.communicate()
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)  # initdb has children that write into our directory
            child.communicate()
            raise
        if child.returncode:
            raise BenchError(f"{os.path.basename(argv[0])} failed:\n{complaint.strip()}")
        return output


def pgbench():
    return shutil.which("pgbench") or server_binary("pgbench")
