"""Who is compared: how each one is found, configured alike, and started."""

import os
import re
import shutil
import subprocess

import wire
from cluster import DATABASE, LITERALS_DATABASE, PASSWORD, SCRAM_DATABASE, USER
from processes import Daemon, environment, free_port

POOL_SIZE = 16
CLIENTS_MAX = 10_500
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Peer:
    """One way to PostgreSQL. `start` gives a `Running`; settings differ only where `auth` does."""

    name = ""
    binary_variable = ""  # the environment variable that names the binary
    binary_default = ""
    pools = True  # many clients over few servers, so thousands of idle ones make sense
    only_for = None  # what it is measured for, if not for everything
    pool_size = POOL_SIZE
    more = ""  # lines of configuration

    def __init__(self, cluster, work, account, workers):
        self.cluster, self.work, self.account, self.workers = cluster, work, account, workers
        self.binary = os.environ.get(self.binary_variable) or shutil.which(self.binary_default)

    def found(self):
        return bool(self.binary and os.access(self.binary, os.X_OK))

    def version(self):
        done = subprocess.run([self.binary, self.version_flag], capture_output=True, text=True, env=environment())
        numbers = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
        return numbers.group() if numbers else "?"

    version_flag = "--version"

    def remark(self, _mode):
        """Why a mode is left out, or None."""
        return None

    def lacks(self, way):
        """Why clients cannot log in in this way, or None."""
        return "no certificate: openssl is not found" if way.tls and not self.cluster.certificate else None

    def start(self, auth="trust"):
        port = free_port()
        stem = os.path.join(self.work, f"{self.name.replace(', ', '-').replace(' ', '')}-{auth}-{port}")
        binary = self.account.reachable(self.binary, self.work)
        daemon = Daemon(self.command(binary, stem, port, auth), stem + ".log", self.account)
        running = Running(self, daemon, port, DATABASE, PASSWORD if auth != "trust" else None)
        try:
            daemon.wait_ready(running.visit)
        except BaseException:
            daemon.stop()
            raise
        return running

    def command(self, binary, stem, port, auth):
        raise NotImplementedError

    def write(self, path, text):
        with open(path, "w") as file:
            file.write(text)
        self.account.give(path)
        return path

    def userlist(self):
        return self.write(os.path.join(self.work, "users.txt"), f'"{USER}" "{self.cluster.verifier}"\n')


class Running:
    """A started peer: where it listens, and its process (None for PostgreSQL itself, which has many)."""

    def __init__(self, peer, daemon, port, database, password):
        self.peer, self.daemon, self.port, self.database, self.password = peer, daemon, port, database, password

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.daemon:
            self.daemon.stop()

    def connect(self, tls=None, database=None, **parameters):
        return wire.Connection(self.port, database or self.database, USER, self.password, parameters, tls=tls)

    def visit(self):
        """Logs in, asks, leaves: opens the first server connection, and proves that it works."""
        connection = self.connect()
        try:
            connection.query("SELECT 1")
        finally:
            connection.close()


class Direct(Peer):
    name = "direct"
    pools = False

    def found(self):
        return True

    def version(self):
        return self.cluster.version()

    def start(self, auth="trust"):
        scram = auth != "trust"
        database, password = (SCRAM_DATABASE, PASSWORD) if scram else (DATABASE, None)
        return Running(self, None, self.cluster.port, database, password)


class Howdah(Peer):
    name = "howdah"
    binary_variable = "HOWDAH_BIN"

    def __init__(self, cluster, work, account, workers, named=False):
        super().__init__(cluster, work, account, workers)
        if named:
            self.name = f"{self.name}, {workers} worker{'s' if workers > 1 else ''}"
        self.binary = self.binary or os.path.join(REPOSITORY, "target", "release", "howdah")

    def version(self):
        """With where it is from: the plain build costs more than the one of scripts/pgo."""
        where = os.path.relpath(os.path.realpath(self.binary), REPOSITORY)
        return f"{super().version()} ({'HOWDAH_BIN' if where.startswith('..') else where})"

    def command(self, binary, stem, port, auth):
        workers = f"workers = {self.workers}\n" if self.workers else ""
        return [
            binary,
            self.write(
                stem + ".toml",
                f"""\
[howdah]
listen_addr = "127.0.0.1"
listen_port = {port}
auth_type = "{auth}"
auth_file = "{self.userlist()}"
pool_mode = "transaction"
default_pool_size = {self.pool_size}
max_client_conn = {CLIENTS_MAX}
max_prepared_statements = 200
server_tls_sslmode = "disable"
log_connections = false
log_disconnections = false
log_stats = false
{workers}{self.tls()}{self.more}
[databases]
{DATABASE} = "host=127.0.0.1 port={self.cluster.port} dbname={DATABASE}"
{LITERALS_DATABASE} = "host=127.0.0.1 port={self.cluster.port} dbname={LITERALS_DATABASE}"
""",
            ),
        ]

    def tls(self):
        files = self.cluster.certificate, self.cluster.key
        lines = 'client_tls_sslmode = "allow"\nclient_tls_cert_file = "{}"\nclient_tls_key_file = "{}"\n'
        return lines.format(*files) if all(files) else ""


class TwoWorkers(Howdah):
    """howdah with two threads, however many CPUs there are."""

    name = "howdah-2"
    only_for = ("load",)

    def __init__(self, cluster, work, account, _workers):
        super().__init__(cluster, work, account, 2)


class PgBouncer(Peer):
    name = "pgbouncer"
    binary_variable = "PGBOUNCER_BIN"
    binary_default = "pgbouncer"

    def _prepares(self):
        return [int(number) for number in re.findall(r"\d+", self.version())[:2]] >= [1, 21]

    def remark(self, mode):
        if mode == "prepared" and not self._prepares():
            return f"PgBouncer {self.version()} has no prepared statements in transaction mode (1.21 brought them)"
        return None

    def tls(self):
        files = self.cluster.certificate, self.cluster.key
        lines = "client_tls_sslmode = allow\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n"
        return lines.format(*files) if all(files) else ""

    def command(self, binary, stem, port, auth):
        statements = "max_prepared_statements = 200\n" if self._prepares() else ""
        return [
            binary,
            "-q",
            self.write(
                stem + ".ini",
                f"""\
[databases]
{DATABASE} = host=127.0.0.1 port={self.cluster.port} dbname={DATABASE}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = {auth}
auth_file = {self.userlist()}
pool_mode = transaction
default_pool_size = {self.pool_size}
max_client_conn = {CLIENTS_MAX}
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
log_stats = 0
{statements}{self.tls()}""",
            ),
        ]


class Odyssey(Peer):
    name = "odyssey"
    binary_variable = "ODYSSEY_BIN"
    binary_default = "odyssey"

    def lacks(self, way):
        return "its TLS is not set up here" if way.tls else None

    def command(self, binary, stem, port, auth):
        scram = f'authentication "{auth}"\n    password "{self.cluster.verifier}"'
        authentication = 'authentication "none"' if auth == "trust" else scram
        return [
            binary,
            self.write(
                stem + ".conf",
                f"""\
daemonize no
log_to_stdout yes
log_format "%p %t %l [%i %s] (%c) %m\\n"
log_session no
log_query no
log_stats no
workers {self.workers or os.cpu_count()}
client_max {CLIENTS_MAX}
unix_socket_dir "{self.work}"
unix_socket_mode "0644"
locks_dir "{self.work}"
storage "postgres" {{
  type "remote"
  host "127.0.0.1"
  port {self.cluster.port}
}}
database default {{
  user default {{
    {authentication}
    storage "postgres"
    storage_db "{DATABASE}"
    storage_user "{USER}"
    pool "transaction"
    pool_size {POOL_SIZE}
    pool_discard no
    pool_reserve_prepared_statement yes
  }}
}}
listen {{
  host "127.0.0.1"
  port {port}
}}
""",
            ),
        ]


class HAProxy(Peer):
    """The floor: a relay that knows nothing of PostgreSQL. One thread, one server connection per client."""

    name = "haproxy"
    binary_variable = "HAPROXY_BIN"
    binary_default = "haproxy"
    version_flag = "-v"
    pools = False

    def start(self, auth="trust"):
        running = super().start("trust")
        if auth != "trust":
            running.database, running.password = SCRAM_DATABASE, PASSWORD  # PostgreSQL asks, the relay relays
        return running

    def command(self, binary, stem, port, _auth):
        return [
            binary,
            "-db",
            "-f",
            self.write(
                stem + ".cfg",
                f"""\
global
  nbthread 1
  maxconn 1000
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
frontend clients
  bind 127.0.0.1:{port}
  default_backend postgres
backend postgres
  server postgres 127.0.0.1:{self.cluster.port}
""",
            ),
        ]


ALL = (Direct, HAProxy, PgBouncer, Odyssey, Howdah, TwoWorkers)
RELAY = HAProxy.name
REFERENCE = PgBouncer.name
