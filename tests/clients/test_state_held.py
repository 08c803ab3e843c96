"""What makes a session keep its server for a while: held cursors, temporary objects, locks, PREPARE.

Six clients share two servers, so each must let go of it as soon as it may.
"""

import threading
import time

import psycopg
import pytest
from conftest import async_crowd, crowd, direct, run
from psycopg_pool import ConnectionPool
from test_pool import together

SIX = 6
ROUNDS = 5


@pytest.fixture(autouse=True)
def two_servers_are_free_afterwards():
    """Who has let go, or gone, keeps no server: two transactions at once find one each."""
    yield
    both = threading.Barrier(2)

    def work(number, conn):
        conn.execute("SELECT 1")
        both.wait(10)

    crowd(work, clients=2)


@pytest.mark.state("hold")
def test_a_cursor_with_hold():
    def work(number, conn):
        for _ in range(ROUNDS):
            with conn.cursor("held", withhold=True) as cur:
                cur.execute("SELECT i * %s FROM generate_series(1, 500) i", (number,))
                assert cur.fetchmany(10) == [(i * number,) for i in range(1, 11)]
                conn.commit()
                assert conn.execute("SELECT 'in between'").fetchone() == ("in between",)
                conn.commit()
                assert cur.fetchall() == [(i * number,) for i in range(11, 501)]
            conn.commit()

    crowd(work, clients=SIX)


@pytest.mark.state("hold")
def test_a_scrollable_cursor_with_hold():
    def work(number, conn):
        conn.autocommit = True
        with conn.cursor("held", withhold=True, scrollable=True) as cur:
            cur.execute("SELECT i, %s::int FROM generate_series(1, 100) i", (number,))
            cur.scroll(90, mode="absolute")
            assert cur.fetchall() == [(i, number) for i in range(91, 101)]
            cur.scroll(-51)
            assert cur.fetchone() == (51, number)
            cur.scroll(0, mode="absolute")
            assert cur.fetchone() == (1, number)

    crowd(work, clients=SIX)


@pytest.mark.state("hold")
def test_a_held_cursor_that_is_rolled_back_was_never_there():
    def work(number, conn):
        conn.execute("DECLARE gone CURSOR WITH HOLD FOR SELECT 1")
        conn.rollback()
        with pytest.raises(psycopg.errors.InvalidCursorName):
            conn.execute("FETCH gone")
        conn.rollback()

    crowd(work, clients=SIX)


@pytest.mark.state("hold")
def test_held_cursors_of_tasks():
    async def work(number, conn):
        async with conn.cursor("held", withhold=True) as cur:
            await cur.execute("SELECT i + %s FROM generate_series(1, 200) i", (number,))
            await conn.commit()
            assert [row[0] async for row in cur] == [i + number for i in range(1, 201)]
        await conn.commit()

    run(async_crowd(work, clients=SIX))


@pytest.mark.state("hold")
def test_a_held_cursor_sees_what_was_when_it_was_opened(table):
    def work(number, conn):
        conn.execute(f"INSERT INTO {table} (value) SELECT %s FROM generate_series(1, 20)", (number,))
        conn.commit()
        with conn.cursor("held", withhold=True) as cur:
            cur.execute(f"SELECT value FROM {table} WHERE value = %s", (number,))
            conn.commit()
            conn.execute(f"DELETE FROM {table} WHERE value = %s", (number,))
            conn.commit()
            assert cur.fetchall() == [(number,)] * 20

    crowd(work, clients=SIX)


@pytest.mark.state("temporary")
def test_a_temporary_table():
    def work(number, conn):
        conn.autocommit = bool(number % 2)
        for turn in range(ROUNDS):
            conn.execute("CREATE TEMP TABLE temp_users (id int, name text)")
            commit(conn)
            with conn.cursor() as cur:
                cur.executemany("INSERT INTO temp_users VALUES (%s, %s)", [(i, f"user {number}") for i in range(20)])
            commit(conn)
            with conn.cursor().copy("COPY temp_users FROM STDIN") as copy:
                copy.write_row((turn, "copied"))
            commit(conn)
            assert conn.execute("SELECT count(*) FROM temp_users").fetchone() == (21,)
            conn.execute("DROP TABLE temp_users")
            commit(conn)
            with pytest.raises(psycopg.errors.UndefinedTable):
                conn.execute("SELECT * FROM temp_users")
            conn.rollback()

    crowd(work, clients=SIX)


def commit(conn):
    if not conn.autocommit:
        conn.commit()


MADE = {
    "table as": ("CREATE TEMP TABLE made AS SELECT 1 AS n", "SELECT n FROM made", "DROP TABLE made"),
    "select into": ("SELECT 1 AS n INTO TEMP made", "SELECT n FROM made", "DROP TABLE made"),
    "in the schema": ("CREATE TABLE pg_temp.made AS SELECT 1 AS n", "SELECT n FROM made", "DROP TABLE made"),
    "view": ("CREATE TEMP VIEW made AS SELECT 1 AS n", "SELECT n FROM made", "DROP VIEW made"),
    "sequence": ("CREATE TEMP SEQUENCE made", "SELECT nextval('made')", "DROP SEQUENCE made"),
    "function": (
        "CREATE FUNCTION pg_temp.made() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT pg_temp.made()",
        "DROP FUNCTION pg_temp.made",
    ),
    "by a block": (
        "DO $$ BEGIN CREATE TEMP TABLE made AS SELECT 1 AS n; END $$",
        "SELECT n FROM made",
        "DROP TABLE made",
    ),
    "discarded": ("CREATE TEMP TABLE made AS SELECT 1 AS n", "SELECT n FROM made", "DISCARD TEMP"),
}


@pytest.mark.state("temporary")
@pytest.mark.parametrize("what", MADE)
def test_temporary_objects(what):
    make, use, drop = MADE[what]

    def work(number, conn):
        conn.autocommit = True
        for _ in range(ROUNDS):
            conn.execute(make)
            assert conn.execute(use).fetchone() == (1,)
            conn.execute(drop)
            with pytest.raises(psycopg.DatabaseError):
                conn.execute(use)

    crowd(work, clients=SIX)


@pytest.mark.state("temporary")
def test_a_temporary_table_that_was_rolled_back():
    def work(number, conn):
        conn.execute("CREATE TEMP TABLE never (n int)")
        conn.rollback()
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("SELECT * FROM never")
        conn.rollback()

    crowd(work, clients=SIX)


def test_a_temporary_table_of_one_transaction():
    def work(number, conn):
        for _ in range(ROUNDS):
            conn.execute("CREATE TEMP TABLE brief (n int) ON COMMIT DROP")
            conn.execute("INSERT INTO brief VALUES (%s)", (number,))
            assert conn.execute("SELECT n FROM brief").fetchall() == [(number,)]
            conn.commit()

    crowd(work, clients=SIX)


@pytest.mark.state("temporary")
def test_a_temporary_table_that_empties_itself():
    def work(number, conn):
        conn.execute("CREATE TEMP TABLE emptied (n int) ON COMMIT DELETE ROWS")
        conn.commit()
        for _ in range(ROUNDS):
            conn.execute("INSERT INTO emptied VALUES (%s)", (number,))
            assert conn.execute("SELECT n FROM emptied").fetchall() == [(number,)]
            conn.commit()
            assert conn.execute("SELECT n FROM emptied").fetchall() == []
            conn.commit()

    crowd(work, clients=SIX)


@pytest.mark.state("temporary")
def test_temporary_tables_go_with_their_clients():
    def client(number, _):
        for _ in range(ROUNDS):
            with psycopg.connect() as conn:
                conn.execute("CREATE TEMP TABLE left_behind (n int)")
                conn.execute("INSERT INTO left_behind VALUES (1)")

    crowd(client, clients=SIX)


@pytest.mark.state("locks")
def test_advisory_locks_exclude_each_other(table):
    with direct() as admin:
        admin.execute(f"INSERT INTO {table} (name, value) VALUES ('counter', 0)")

    def work(number, conn):
        conn.autocommit = True
        for _ in range(ROUNDS):
            conn.execute("SELECT pg_advisory_lock(4711)")
            (seen,) = conn.execute(f"SELECT value FROM {table}").fetchone()
            time.sleep(0.005)
            conn.execute(f"UPDATE {table} SET value = %s", (seen + 1,))
            assert conn.execute("SELECT pg_advisory_unlock(4711)").fetchone() == (True,)

    crowd(work, clients=SIX)
    with direct() as admin:
        assert admin.execute(f"SELECT value FROM {table}").fetchone() == (SIX * ROUNDS,)


@pytest.mark.state("locks")
def test_locks_that_are_tried_with_parameters():
    def work(number, conn):
        for _ in range(ROUNDS):
            assert conn.execute("SELECT pg_try_advisory_lock(%s, %s)", (17, number)).fetchone() == (True,)
            conn.commit()
            assert conn.execute("SELECT pg_try_advisory_lock(%s, %s)", (17, number)).fetchone() == (True,)
            conn.commit()
            for expected in (True, True, False):
                row = conn.execute("SELECT pg_advisory_unlock(%s, %s)", (17, number)).fetchone()
                assert row == (expected,)
                conn.commit()

    crowd(work, clients=SIX)


@pytest.mark.state("locks")
def test_locks_go_with_their_clients():
    def client(number, _):
        with psycopg.connect(autocommit=True) as conn:
            conn.execute("SELECT pg_advisory_lock(4712)")

    crowd(client, clients=SIX)
    with direct() as admin:
        for _ in range(100):
            if admin.execute("SELECT pg_try_advisory_lock(4712)").fetchone() == (True,):
                return
            time.sleep(0.05)
        raise AssertionError("the lock is still held")


def test_locks_of_one_transaction():
    def work(number, conn):
        for _ in range(ROUNDS):
            conn.execute("SELECT pg_advisory_xact_lock(4713)")
            assert conn.execute("SELECT %s::int", (number,)).fetchone() == (number,)
            conn.commit()

    crowd(work, clients=SIX)


@pytest.mark.state("prepare")
def test_statements_prepared_by_sql():
    def work(number, conn):
        for _ in range(ROUNDS):
            conn.execute(f"PREPARE fetch_user (int) AS SELECT $1 + {number}")
            conn.commit()
            for value in range(5):
                assert conn.execute(f"EXECUTE fetch_user ({value})").fetchone() == (value + number,)
                conn.commit()
            conn.execute("DEALLOCATE fetch_user")
            conn.commit()
            with pytest.raises(psycopg.errors.InvalidSqlStatementName):
                conn.execute("EXECUTE fetch_user (1)")
            conn.rollback()

    crowd(work, clients=SIX)


@pytest.mark.state("hold", "temporary", "locks", "settings")
def test_requests_that_use_all_of_it_from_a_pool():
    with ConnectionPool(min_size=3, max_size=SIX, timeout=30) as pool:

        def worker(number):
            for turn in range(ROUNDS):
                with pool.connection() as conn:
                    conn.execute("SELECT set_config('app.user', %s, false)", (f"user {number}",))
                    conn.commit()
                    conn.execute("CREATE TEMP TABLE basket AS SELECT %s::int AS item", (turn,))
                    conn.commit()
                    with conn.cursor("items", withhold=True) as cur:
                        cur.execute("SELECT item, current_setting('app.user') FROM basket")
                        conn.commit()
                        assert cur.fetchall() == [(turn, f"user {number}")]
                    conn.execute("DROP TABLE basket")

        together(worker, SIX)
