"""psycopg prepares what it runs often, under the same names in every client."""

import psycopg
import pytest
from conftest import async_crowd, crowd, direct, run


def test_prepared_automatically_after_five():
    def work(number, conn):
        conn.autocommit = number % 2 == 0
        for round in range(12):
            query = f"SELECT {number} * 1000 + %s::int"
            assert conn.execute(query, (round,)).fetchone() == (number * 1000 + round,)
            if not conn.autocommit and round % 3 == 0:
                conn.commit()

    crowd(work)


def test_prepared_at_once():
    def work(number, conn):
        conn.autocommit = True
        for round in range(10):
            for text in range(5):
                cur = conn.execute(f"SELECT 'client {number} text {text}', %s::int", (round,), prepare=True)
                assert cur.fetchone() == (f"client {number} text {text}", round)

    crowd(work)


def test_a_rollback_deallocates_for_this_client_only():
    def work(number, conn):
        for round in range(15):
            query = f"SELECT 'client {number}', %s::int"
            assert conn.execute(query, (round,), prepare=True).fetchone() == (f"client {number}", round)
            if number % 2:
                conn.rollback()
            else:
                conn.commit()

    crowd(work)


def test_rollback_of_a_nested_block():
    def work(number, conn):
        for round in range(5):
            with conn.transaction():
                conn.execute(f"SELECT {number}, %s::int", (round,), prepare=True)
                with pytest.raises(psycopg.errors.DivisionByZero):
                    with conn.transaction():
                        conn.execute("SELECT 1/%s::int", (0,), prepare=True)
                assert conn.execute(f"SELECT {number}, %s::int", (round,), prepare=True).fetchone()[0] == number

    crowd(work, clients=8)


@pytest.mark.parametrize("limit", [1, 3])
def test_a_small_cache_evicts(limit):
    def work(number, conn):
        conn.prepare_threshold, conn.prepared_max = 0, limit
        conn.autocommit = True
        for round in range(4):
            for text in range(6):
                assert conn.execute(f"SELECT {number * 100 + text} + %s::int", (round,)).fetchone() == (
                    number * 100 + text + round,
                )

    crowd(work, clients=10)


def test_no_preparing_at_all():
    def work(number, conn):
        conn.prepare_threshold = None
        for round in range(10):
            assert conn.execute("SELECT %s::int", (round,)).fetchone() == (round,)

    crowd(work, clients=8)


def test_own_ddl_is_followed(conn, table):
    conn.autocommit = True
    conn.execute(f"INSERT INTO {table} (name) VALUES ('x')")
    for extra in range(3):
        for _ in range(7):
            row = conn.execute(f"SELECT * FROM {table} WHERE name = %s", ("x",), prepare=True).fetchone()
            assert len(row) == 3 + extra
        conn.execute(f"ALTER TABLE {table} ADD COLUMN c{extra} int")


def test_ddl_of_another_client_costs_at_most_a_retry(table):
    with direct() as conn:
        conn.execute(f"INSERT INTO {table} (name) VALUES ('x')")

    def rows(conn):
        return conn.execute(f"SELECT * FROM {table} WHERE name = %s", ("x",), prepare=True).fetchall()

    with psycopg.connect(autocommit=True) as one, psycopg.connect(autocommit=True) as two:
        for conn in (one, two):
            for _ in range(3):
                assert len(rows(conn)[0]) == 3
        with direct() as conn:
            conn.execute(f"ALTER TABLE {table} ADD COLUMN extra int")
        for conn in (one, two):
            for attempt in range(5):
                try:
                    got = rows(conn)
                    break
                except psycopg.errors.FeatureNotSupported:
                    conn.execute("DEALLOCATE ALL")
                    conn._prepared.clear()
            assert len(got[0]) == 4


def test_executemany(table):
    def work(number, conn):
        with conn.cursor() as cur:
            rows = [(f"client {number}", value) for value in range(50)]
            cur.executemany(f"INSERT INTO {table} (name, value) VALUES (%s, %s)", rows)
            assert cur.rowcount == 50
            cur.executemany(
                f"INSERT INTO {table} (name, value) VALUES (%s, %s) RETURNING value", rows[:5], returning=True
            )
            values = []
            while True:
                values.append(cur.fetchone()[0])
                if not cur.nextset():
                    break
            assert values == [0, 1, 2, 3, 4]

    crowd(work)
    with direct() as conn:
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (20 * 55,)


def test_executemany_with_an_error(conn, table):
    conn.execute(f"CREATE UNIQUE INDEX ON {table} (value)")
    conn.commit()
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.cursor().executemany(f"INSERT INTO {table} (value) VALUES (%s)", [(1,), (2,), (1,), (3,)])
    conn.rollback()
    conn.cursor().executemany(f"INSERT INTO {table} (value) VALUES (%s)", [(1,), (2,), (3,)])
    conn.commit()
    assert conn.execute(f"SELECT sum(value) FROM {table}").fetchone() == (6,)


def test_asynchronous_and_prepared():
    async def work(number, conn):
        await conn.set_autocommit(True)
        for round in range(10):
            cur = await conn.execute(f"SELECT 'task {number}', %s::int", (round,), prepare=True)
            assert await cur.fetchone() == (f"task {number}", round)

    run(async_crowd(work))


def test_by_sql_within_a_transaction():
    def work(number, conn):
        with conn.transaction():
            conn.execute(f"PREPARE own AS SELECT {number}")
            assert conn.execute("EXECUTE own").fetchone() == (number,)
            conn.execute("DEALLOCATE own")

    crowd(work, clients=8)
