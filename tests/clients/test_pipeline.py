"""Many queries on their way at once."""

import psycopg
import pytest
from conftest import async_crowd, crowd, direct, run


def test_results_in_order():
    def work(number, conn):
        for _ in range(3):
            with conn.pipeline():
                cursors = [conn.execute("SELECT %s::int + %s::int", (number, n)) for n in range(30)]
            assert [cur.fetchone()[0] for cur in cursors] == [number + n for n in range(30)]
            conn.commit()

    crowd(work)


def test_autocommit_pipelines():
    def work(number, conn):
        conn.autocommit = True
        with conn.pipeline():
            cursors = [conn.execute("SELECT %s::int", (n,)) for n in range(30)]
        assert [cur.fetchone()[0] for cur in cursors] == list(range(30))

    crowd(work)


def test_fetching_before_the_sync():
    def work(number, conn):
        with conn.pipeline() as pipeline:
            for n in range(5):
                cur = conn.execute("SELECT %s::int", (n,))
                assert cur.fetchone() == (n,)
                if n % 2:
                    pipeline.sync()

    crowd(work)


def test_an_error_aborts_up_to_the_sync(table):
    def work(number, conn):
        conn.autocommit = True
        with conn.pipeline() as pipeline:
            conn.execute(f"INSERT INTO {table} (value) VALUES (%s)", (number,))
            pipeline.sync()
            conn.execute(f"INSERT INTO {table} (value) VALUES (-1)")
            failing = conn.cursor()
            with pytest.raises(psycopg.errors.DivisionByZero):
                failing.execute("SELECT 1/%s::int", (0,))
                pipeline.sync()
            conn.execute(f"INSERT INTO {table} (value) VALUES (%s)", (100 + number,))
        assert conn.execute("SELECT 'and on'").fetchone() == ("and on",)

    crowd(work)
    with direct() as conn:
        values = [row[0] for row in conn.execute(f"SELECT value FROM {table} ORDER BY value")]
    assert values == list(range(20)) + list(range(100, 120))


def test_what_follows_an_error_is_aborted(conn):
    with pytest.raises(psycopg.errors.UndefinedTable):
        with conn.pipeline():
            conn.execute("SELECT 1")
            conn.execute("SELECT * FROM no_such_table")
            conn.execute("SELECT 2")
    conn.rollback()
    with conn.pipeline() as pipeline:
        bad = conn.cursor()
        late = conn.cursor()
        with pytest.raises((psycopg.errors.UndefinedTable, psycopg.errors.PipelineAborted)):
            bad.execute("SELECT * FROM no_such_table")
            late.execute("SELECT 2")
            pipeline.sync()
            late.fetchone()
        conn.rollback()
        assert conn.execute("SELECT 3").fetchone() == (3,)


def test_transactions_within_a_pipeline(table):
    def work(number, conn):
        with conn.pipeline():
            with conn.transaction():
                conn.execute(f"INSERT INTO {table} (value) VALUES (%s)", (number,))
            with conn.transaction(force_rollback=True):
                conn.execute(f"INSERT INTO {table} (value) VALUES (-1)")

    crowd(work)
    with direct() as conn:
        assert conn.execute(f"SELECT count(*), min(value) FROM {table}").fetchone() == (20, 0)


def test_prepared_in_a_pipeline():
    def work(number, conn):
        conn.prepare_threshold = 0
        for round in range(3):
            with conn.pipeline():
                cursors = [conn.execute(f"SELECT {number} + {n % 3} + %s::int", (n,)) for n in range(20)]
            assert [cur.fetchone()[0] for cur in cursors] == [number + n % 3 + n for n in range(20)]
            if round == 1:
                conn.rollback()

    crowd(work)


def test_executemany_in_a_pipeline(table):
    def work(number, conn):
        with conn.pipeline(), conn.cursor() as cur:
            cur.executemany(f"INSERT INTO {table} (value) VALUES (%s)", [(n,) for n in range(100)])
            cur.execute("SELECT 'after'")
            assert cur.fetchone() == ("after",)

    crowd(work, clients=8)


def test_megabytes_in_both_directions():
    def work(number, conn):
        text = str(number) * 20_000
        with conn.pipeline():
            cursors = [conn.execute("SELECT %s::text", (text,)) for _ in range(60)]
        assert all(cur.fetchone() == (text,) for cur in cursors)

    crowd(work, clients=5)


def test_asynchronous_pipelines():
    async def work(number, conn):
        for _ in range(3):
            async with conn.pipeline():
                cursors = [await conn.execute("SELECT %s::int * %s::int", (number, n)) for n in range(20)]
            assert [(await cur.fetchone())[0] for cur in cursors] == [number * n for n in range(20)]
            await conn.commit()

    run(async_crowd(work))
