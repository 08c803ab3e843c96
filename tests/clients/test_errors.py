"""Errors and notices arrive whole."""

import psycopg
import pytest
from conftest import crowd, direct
from psycopg import errors

CASES = [
    ("SELECT * FROM no_such_table", errors.UndefinedTable),
    ("SELECT no_such_column", errors.UndefinedColumn),
    ("SELEKT 1", errors.SyntaxError),
    ("SELECT 1/0", errors.DivisionByZero),
    ("SELECT 'x'::int", errors.InvalidTextRepresentation),
    ("SELECT no_such_function()", errors.UndefinedFunction),
    ("INSERT INTO {table} (id) VALUES (1), (1)", errors.UniqueViolation),
    ("INSERT INTO {table} (id) VALUES (NULL)", errors.NotNullViolation),
    ("DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'P0001'; END $$", errors.RaiseException),
    ("SELECT * FROM pg_authid", errors.InsufficientPrivilege),
    ("SELECT lo_get(0)", errors.UndefinedObject),
]


def test_every_error_is_its_class(table):
    def work(number, conn):
        for query, error in CASES:
            for prepare in (False, True):
                with pytest.raises(error) as caught:
                    conn.execute(query.format(table=table), prepare=prepare)
                assert caught.value.diag.severity == "ERROR" and caught.value.diag.source_file
                conn.rollback()

    crowd(work, clients=8)


def test_the_diagnostics_are_whole(conn, table):
    conn.execute(f"ALTER TABLE {table} ADD CONSTRAINT positive CHECK (value > 0)")
    with pytest.raises(errors.CheckViolation) as caught:
        conn.execute(f"INSERT INTO {table} (value) VALUES (%s)", (-1,))
    diag = caught.value.diag
    assert (diag.sqlstate, diag.table_name, diag.constraint_name) == ("23514", table, "positive")
    assert diag.message_detail.startswith("Failing row contains")
    conn.rollback()


def test_notices_reach_their_client_only():
    def work(number, conn):
        notices = []
        conn.add_notice_handler(lambda diag: notices.append(diag.message_primary))
        for round in range(10):
            conn.execute(f"DO $$ BEGIN RAISE NOTICE 'client {number} round {round}'; END $$")
            conn.commit()
        assert notices == [f"client {number} round {round}" for round in range(10)]

    crowd(work)


def test_deadlocks_are_resolved(table):
    with direct() as conn:
        conn.execute(f"INSERT INTO {table} (value) VALUES (0), (0)")

    import threading

    barrier = threading.Barrier(2)

    def work(number, conn):
        first, second = (1, 2) if number else (2, 1)
        conn.execute(f"UPDATE {table} SET value = value + 1 WHERE id = %s", (first,))
        barrier.wait(20)
        try:
            conn.execute(f"UPDATE {table} SET value = value + 1 WHERE id = %s", (second,))
            conn.commit()
            return "done"
        except errors.DeadlockDetected:
            conn.rollback()
            return "deadlock"

    assert sorted(crowd(work, clients=2)) == ["deadlock", "done"]
