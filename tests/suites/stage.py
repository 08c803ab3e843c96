"""What a suite runs against: a private PostgreSQL, and the poolers in front of it."""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))

import peers
import wire
from cluster import Cluster
from processes import Daemon, free_port

POOL_SIZE = 20
USER = "postgres"
PASSWORD = "throwaway"
# node-postgres' suite logs in as these two, with SCRAM also where there is no pooler.
SCRAM_USERS = {"scram_test": "test4scram", "scram_unicode_test": "IX-\u2168"}
# postgres.js' suite makes these three itself, the first without a password.
JS_USER, JS_MD5, JS_SCRAM = (f"postgres_js_test{way}" for way in ("", "_md5", "_scram"))


class Stage(Cluster):
    """PostgreSQL as the suites want it; the first user is a superuser."""

    settings = """
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
jit = off
max_connections = 200
authentication_timeout = 10
max_prepared_transactions = 10
wal_level = logical
timezone = 'UTC'
log_min_messages = fatal
"""
    hba = f"""
local all all trust
host all {",".join([*SCRAM_USERS, JS_SCRAM])} 127.0.0.0/8 scram-sha-256
host all {JS_MD5} 127.0.0.0/8 md5
host all all 127.0.0.0/8 trust
"""
    # The same for the poolers' clients.
    pooler_hba = f"""
local all all trust
host all {JS_USER} 127.0.0.0/8 trust
host all {JS_MD5} 127.0.0.0/8 md5
host all all 127.0.0.0/8 scram-sha-256
"""
    pgbouncer_auth_type = "scram-sha-256"
    superuser = USER

    @property
    def pool_size(self):
        """How many servers a pooler may have."""
        return POOL_SIZE

    def __init__(self, work, account):
        super().__init__(work, account, scale=None)

    def _fill(self):
        for name, password in SCRAM_USERS.items():
            self._execute("postgres", f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")

    def database(self, name):
        """A new database: each run of a suite begins with an empty one."""
        self._execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self._execute("postgres", f'CREATE DATABASE "{name}"')


class Place:
    """Where the programs of a suite connect."""

    def __init__(self, port, database, socket_dir):
        self.port, self.database, self.socket_dir = port, database, socket_dir

    def environment(self):
        """The environment of a suite's process: ours, aimed at this place."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PSYCOPG"))}
        return {
            **kept,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": self.database,
            "PGSSLMODE": "disable",
        }

    def dsn(self):
        return f"host=127.0.0.1 port={self.port} user={USER} password={PASSWORD} dbname={self.database}"


class Runs:
    """One way to PostgreSQL, started anew for every suite: `with` gives the `Place`."""

    def __init__(self, cluster, work, account, database):
        self.cluster, self.work, self.account, self.database = cluster, work, account, database
        self.daemon = None

    def __exit__(self, *_):
        if self.daemon:
            self.daemon.stop()

    def _started(self, command, port, log):
        self.daemon = Daemon(command, log, self.account)
        try:
            self.daemon.wait_ready(lambda: wire.Connection(port, self.database, USER, PASSWORD).close())
        except BaseException:
            self.daemon.stop()
            raise
        return Place(port, self.database, self.work)

    def _write(self, name, text):
        path = os.path.join(self.work, name)
        with open(path, "w") as file:
            file.write(text)
        self.account.give(path)
        return path

    def _userlist(self):
        users = {USER: PASSWORD, **SCRAM_USERS}
        return self._write("users.txt", "".join(f'"{name}" "{password}"\n' for name, password in users.items()))


class Direct(Runs):
    """No pooler."""

    name = "direct"

    def __enter__(self):
        return Place(self.cluster.port, self.database, self.work)


class Howdah(Runs):
    """The program under test, in transaction mode."""

    name = "howdah"

    def _tls(self):
        if not self.cluster.certificate:
            return ""
        files = f'client_tls_cert_file = "{self.cluster.certificate}"\nclient_tls_key_file = "{self.cluster.key}"\n'
        return 'client_tls_sslmode = "allow"\n' + files

    def __enter__(self):
        binary = os.environ.get("HOWDAH_BIN") or os.path.join(ROOT, "target", "debug", "howdah")
        port = free_port()
        config = self._write(
            "howdah.toml",
            f"""\
[howdah]
listen_addr = "127.0.0.1"
listen_port = {port}
unix_socket_dir = "{self.work}"
auth_type = "hba"
auth_hba_file = "{self._write("howdah.hba", self.cluster.pooler_hba)}"
auth_file = "{self._userlist()}"
auth_user = "{USER}"
auth_dbname = "postgres"
auth_query_ttl = 0
pool_mode = "transaction"
default_pool_size = {self.cluster.pool_size}
max_client_conn = 1000
client_login_timeout = 10
query_wait_notify = 0
{self._tls()}
[databases]
"*" = "host=127.0.0.1 port={self.cluster.port}"
""",
        )
        binary = self.account.reachable(binary, self.work)
        return self._started([binary, config], port, os.path.join(self.work, "howdah.log"))


class PgBouncer(Runs):
    """For comparison, with the settings that let it pass as much as it can."""

    name = "pgbouncer"

    def __enter__(self):
        port = free_port()
        statements = ""
        if peers.PgBouncer(self.cluster, self.work, self.account, None)._prepares():
            statements = "max_prepared_statements = 200"
        config = self._write(
            "pgbouncer.ini",
            f"""\
[databases]
* = host=127.0.0.1 port={self.cluster.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = {self.cluster.pgbouncer_auth_type}
auth_file = {self._userlist()}
auth_user = {USER}
pool_mode = transaction
default_pool_size = {self.cluster.pool_size}
max_client_conn = 1000
client_login_timeout = 10
{statements}
""",
        )
        binary = self.account.reachable(os.environ.get("PGBOUNCER_BIN", "/usr/sbin/pgbouncer"), self.work)
        return self._started([binary, "-q", config], port, os.path.join(self.work, "pgbouncer.log"))


ALL = (Direct, Howdah, PgBouncer)
