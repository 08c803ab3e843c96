"""Every way to connect, and what a connection knows about itself."""

import os

import psycopg
import pytest
from conftest import CLIENTS, async_crowd, crowd, run
from psycopg import pq
from psycopg.conninfo import make_conninfo

HOST, PORT, USER, DB = (os.environ[name] for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE"))


@pytest.mark.parametrize(
    "conninfo",
    [
        "",
        f"host={HOST} port={PORT} dbname={DB} user={USER}",
        f"postgresql://{USER}@{HOST}:{PORT}/{DB}",
        f"postgresql://{USER}@{HOST}:{PORT}/{DB}?connect_timeout=10&application_name=tutorial&sslmode=prefer",
        f"host={HOST},{HOST} port=1,{PORT} dbname={DB} user={USER}",
        f"host={HOST} port={PORT} dbname={DB} user={USER} target_session_attrs=read-write",
        f"host={HOST} port={PORT} dbname={DB} user={USER} gssencmode=disable sslmode=allow",
        f"host={HOST} port={PORT} dbname={DB} user={USER} keepalives_idle=30 client_encoding=utf8",
    ],
)
def test_connection_strings(conninfo):
    with psycopg.connect(conninfo) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_keyword_arguments():
    with psycopg.connect(host=HOST, port=PORT, dbname=DB, user=USER, connect_timeout=5) as conn:
        assert conn.execute("SELECT current_user, current_database()").fetchone() == (USER, DB)


def test_a_unix_socket_directory_that_is_not_there():
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(make_conninfo(host="/no/such/directory"))


def test_what_a_connection_knows(conn):
    info = conn.info
    assert info.server_version >= 150000
    assert info.backend_pid > 0
    assert info.status == pq.ConnStatus.OK
    assert info.transaction_status == pq.TransactionStatus.IDLE
    assert info.encoding == "utf-8"
    assert info.dbname == DB and info.user == USER
    assert info.parameter_status("standard_conforming_strings") == "on"
    assert info.parameter_status("integer_datetimes") == "on"
    conn.execute("SELECT 1")
    assert info.transaction_status == pq.TransactionStatus.INTRANS


def test_application_names_stay_with_their_clients():
    def work(number, conn):
        for _ in range(5):
            assert conn.execute("SHOW application_name").fetchone() == (f"client {number}",)
            conn.commit()

    def client(number, _):
        with psycopg.connect(application_name=f"client {number}") as conn:
            work(number, conn)

    crowd(client, clients=8)


def test_time_zones_and_encodings_stay_with_their_clients():
    def work(number, conn):
        conn.autocommit = True
        zone, encoding = [("Asia/Tokyo", "LATIN1"), ("America/New_York", "UTF8")][number % 2]
        with psycopg.connect(options=f"-c TimeZone={zone}", client_encoding=encoding, autocommit=True) as own:
            for _ in range(5):
                assert own.execute("SELECT now()").fetchone()[0].tzinfo.key == zone
                assert own.execute("SELECT 'é' || %s", ["ü"]).fetchone() == ("éü",)
                assert str(conn.execute("SELECT now()").fetchone()[0].tzinfo) in ("UTC", "Etc/UTC")

    crowd(work, clients=6)


def test_statement_timeout_as_an_option_applies():
    with psycopg.connect(options="-c statement_timeout=200") as conn:
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SELECT pg_sleep(10)")
        conn.rollback()
        assert conn.execute("SHOW statement_timeout").fetchone() == ("200ms",)
    with psycopg.connect() as conn:
        assert conn.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_leaving_the_block_commits_or_rolls_back(table):
    with psycopg.connect() as conn:
        conn.execute(f"INSERT INTO {table} (name) VALUES ('kept')")
    assert conn.closed
    with pytest.raises(ZeroDivisionError):
        with psycopg.connect() as conn:
            conn.execute(f"INSERT INTO {table} (name) VALUES ('lost')")
            1 / 0
    with psycopg.connect() as conn:
        assert conn.execute(f"SELECT name FROM {table}").fetchall() == [("kept",)]


def test_autocommit(table):
    with psycopg.connect(autocommit=True) as conn:
        conn.execute(f"INSERT INTO {table} (name) VALUES ('at once')")
        assert conn.info.transaction_status == pq.TransactionStatus.IDLE
        conn.autocommit = False
        conn.execute("SELECT 1")
        assert conn.info.transaction_status == pq.TransactionStatus.INTRANS


def test_health_checks():
    for _ in range(10):
        with psycopg.connect() as conn:
            conn.execute("")
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_connect_per_request_by_many():
    def work(number, _):
        for _ in range(10):
            with psycopg.connect() as conn:
                assert conn.execute("SELECT %s::int", [number]).fetchone() == (number,)

    crowd(work)


def test_many_asynchronous_connections():
    async def work(number, conn):
        cur = await conn.execute("SELECT %s::int * 2", [number])
        return (await cur.fetchone())[0]

    assert run(async_crowd(work)) == [2 * n for n in range(CLIENTS)]


def test_a_database_that_is_not_there():
    with pytest.raises(psycopg.OperationalError, match="no_such_database"):
        with psycopg.connect(dbname="no_such_database") as conn:
            conn.execute("SELECT 1")
