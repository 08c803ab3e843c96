"""Transactions, nested and not, two-phase, isolated, failing, contended."""

import random

import psycopg
import pytest
from conftest import async_crowd, crowd, direct, run
from psycopg import IsolationLevel, Rollback, pq


def names(table):
    with direct() as conn:
        return [row[0] for row in conn.execute(f"SELECT name FROM {table} ORDER BY id")]


def insert(conn, table, name):
    conn.execute(f"INSERT INTO {table} (name) VALUES (%s)", (name,))


def test_commit_and_rollback(conn, table):
    insert(conn, table, "kept")
    conn.commit()
    insert(conn, table, "lost")
    conn.rollback()
    assert names(table) == ["kept"]


def test_nested_blocks(table):
    def work(number, conn):
        with conn.transaction():
            insert(conn, table, f"{number} outer")
            with conn.transaction():
                insert(conn, table, f"{number} inner")
            with pytest.raises(ZeroDivisionError):
                with conn.transaction():
                    insert(conn, table, "lost")
                    1 / 0
            with pytest.raises(psycopg.errors.DivisionByZero):
                with conn.transaction():
                    conn.execute("SELECT 1/0")
            with conn.transaction("named_savepoint") as savepoint:
                insert(conn, table, "lost")
                raise Rollback(savepoint)
            with conn.transaction(force_rollback=True):
                insert(conn, table, "lost")

    crowd(work)
    assert sorted(names(table)) == sorted(f"{n} {kind}" for n in range(20) for kind in ("outer", "inner"))


def test_a_failed_transaction_stays_failed(conn, table):
    insert(conn, table, "lost")
    with pytest.raises(psycopg.errors.UndefinedTable):
        conn.execute("SELECT * FROM no_such_table")
    assert conn.info.transaction_status == pq.TransactionStatus.INERROR
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        conn.execute("SELECT 1")
    conn.rollback()
    assert conn.execute("SELECT 1").fetchone() == (1,)
    assert names(table) == []


def test_isolation_levels_and_modes():
    def work(number, conn):
        conn.isolation_level = list(IsolationLevel)[number % 4]
        conn.read_only = number % 2 == 0
        conn.deferrable = number % 3 == 0
        for _ in range(3):
            level, read_only = conn.execute(
                "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
            ).fetchone()
            assert level == conn.isolation_level.name.lower().replace("_", " ")
            assert read_only == ("on" if conn.read_only else "off")
            conn.commit()

    crowd(work)


def test_a_read_only_transaction_writes_nothing(conn, table):
    conn.read_only = True
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        insert(conn, table, "lost")
    conn.rollback()


def test_two_phase_commit(table):
    def work(number, conn):
        xid = conn.xid(42, f"{table} {number}", "branch")
        conn.tpc_begin(xid)
        insert(conn, table, f"two-phase {number}")
        conn.tpc_prepare()
        if number % 2:
            conn.tpc_commit()
        else:
            conn.tpc_rollback()

    crowd(work, clients=10)
    assert sorted(names(table)) == [f"two-phase {n}" for n in (1, 3, 5, 7, 9)]


def test_two_phase_recovery_by_another_client(table):
    gtrid = f"{table} left"
    conn = psycopg.connect()
    conn.tpc_begin(conn.xid(1, gtrid, "b"))
    insert(conn, table, "recovered")
    conn.tpc_prepare()
    conn.close()
    with psycopg.connect(autocommit=True) as conn:
        (xid,) = [xid for xid in conn.tpc_recover() if xid.gtrid == gtrid]
        conn.tpc_commit(xid)
    assert names(table) == ["recovered"]


def test_transfers_keep_their_sum(table):
    with direct() as conn:
        conn.execute(f"INSERT INTO {table} (name, value) SELECT 'account', 100 FROM generate_series(1, 10)")

    def work(number, conn):
        rng = random.Random(number)
        conn.isolation_level = IsolationLevel.SERIALIZABLE
        done = 0
        while done < 5:
            source, target = rng.sample(range(1, 11), 2)
            try:
                with conn.transaction():
                    (have,) = conn.execute(f"SELECT value FROM {table} WHERE id = %s", (source,)).fetchone()
                    conn.execute(f"UPDATE {table} SET value = %s WHERE id = %s", (have - 1, source))
                    conn.execute(f"UPDATE {table} SET value = value + 1 WHERE id = %s", (target,))
                done += 1
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                pass

    crowd(work)
    with direct() as conn:
        assert conn.execute(f"SELECT sum(value) FROM {table}").fetchone() == (1000,)


def test_locks_within_transactions(table):
    with direct() as conn:
        conn.execute(f"INSERT INTO {table} (name, value) VALUES ('counter', 0)")

    def work(number, conn):
        for _ in range(5):
            with conn.transaction():
                conn.execute("SELECT pg_advisory_xact_lock(4711)")
                (value,) = conn.execute(f"SELECT value FROM {table} FOR UPDATE").fetchone()
                conn.execute(f"UPDATE {table} SET value = %s", (value + 1,))

    crowd(work)
    with direct() as conn:
        assert conn.execute(f"SELECT value FROM {table}").fetchone() == (100,)


def test_set_local_ends_with_its_transaction():
    def work(number, conn):
        for _ in range(5):
            with conn.transaction():
                conn.execute(f"SET LOCAL statement_timeout = {1000 + number}")
                assert conn.execute("SHOW statement_timeout").fetchone()[0] in (f"{1000 + number}ms", "1s")
            with conn.transaction():
                assert conn.execute("SHOW statement_timeout").fetchone() == ("0",)

    crowd(work)


def test_temporary_tables_that_drop_on_commit():
    def work(number, conn):
        for _ in range(3):
            with conn.transaction():
                conn.execute("CREATE TEMP TABLE scratch (a int) ON COMMIT DROP")
                conn.execute("INSERT INTO scratch VALUES (%s)", (number,))
                assert conn.execute("SELECT a FROM scratch").fetchall() == [(number,)]

    crowd(work)


def test_asynchronous_transactions(table):
    async def work(number, conn):
        for round in range(5):
            async with conn.transaction():
                await conn.execute(f"INSERT INTO {table} (name, value) VALUES (%s, %s)", (str(number), round))
                try:
                    async with conn.transaction():
                        await conn.execute("SELECT 1/0")
                except psycopg.errors.DivisionByZero:
                    pass

    run(async_crowd(work))
    assert len(names(table)) == 100
