"""psycopg_pool in front of howdah: two pools, one behind the other."""

import asyncio
import threading
import time

import psycopg
import pytest
from conftest import direct, run
from psycopg_pool import (
    AsyncConnectionPool,
    AsyncNullConnectionPool,
    ConnectionPool,
    NullConnectionPool,
    PoolClosed,
    PoolTimeout,
    TooManyRequests,
)


def together(work, count):
    failures = []

    def client(number):
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive(), "a worker hangs"
    if failures:
        raise failures[0]


def test_a_pool_of_twenty_and_forty_workers(table):
    with ConnectionPool(min_size=4, max_size=20, timeout=30) as pool:
        pool.wait(20)

        def work(number):
            for _ in range(5):
                with pool.connection() as conn:
                    conn.execute(f"INSERT INTO {table} (value) VALUES (%s)", (number,))

        together(work, 40)
        stats = pool.get_stats()
        assert stats["requests_num"] >= 200 and stats.get("requests_errors", 0) == 0
    with direct() as conn:
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (200,)


def test_configure_check_and_reset():
    calls = []

    def configure(conn):
        calls.append("configure")
        conn.autocommit = True
        conn.execute("SELECT 1")
        conn.autocommit = False

    def reset(conn):
        calls.append("reset")
        conn.execute("SELECT 2")
        conn.commit()

    check = ConnectionPool.check_connection
    with ConnectionPool(min_size=2, configure=configure, check=check, reset=reset) as pool:
        pool.wait(20)
        for _ in range(5):
            with pool.connection() as conn:
                assert conn.execute("SELECT 3").fetchone() == (3,)
        for _ in range(100):  # the last reset is a background worker's
            if calls.count("reset") == 5:
                break
            time.sleep(0.05)
    assert calls.count("configure") >= 2 and calls.count("reset") == 5


def test_a_connection_comes_back_clean_after_an_error(table):
    with ConnectionPool(min_size=1, max_size=1) as pool:
        for _ in range(3):
            with pytest.raises(psycopg.errors.DivisionByZero):
                with pool.connection() as conn:
                    conn.execute(f"INSERT INTO {table} (name) VALUES ('lost')")
                    conn.execute("SELECT 1/0")
            with pool.connection() as conn:
                assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_a_connection_that_is_left_in_the_middle_of_copy_is_replaced():
    with ConnectionPool(min_size=1, max_size=1, timeout=20) as pool:
        conn = pool.getconn()
        cur = conn.cursor()
        copy = cur.copy("COPY (SELECT repeat('x', 1000), generate_series(1, 10000000)) TO STDOUT")
        copy.__enter__().read()
        pool.putconn(conn)
        with pool.connection() as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_limits_of_the_pool():
    with ConnectionPool(min_size=1, max_size=1, max_waiting=1, timeout=0.5) as pool:
        pool.wait(20)
        with pool.connection():
            waiting = threading.Thread(target=lambda: pytest.raises(PoolTimeout, pool.getconn), daemon=True)
            waiting.start()
            time.sleep(0.1)
            with pytest.raises(TooManyRequests):
                pool.getconn()
            waiting.join()
    with pytest.raises(PoolClosed):
        pool.getconn()


def test_resize_drain_and_check():
    with ConnectionPool(min_size=1, max_size=2) as pool:
        pool.wait(20)
        pool.resize(4, 8)
        pool.wait(20)
        pool.drain()
        pool.check()
        with pool.connection() as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_connections_that_die_are_replaced():
    with ConnectionPool(min_size=2, max_size=4, check=ConnectionPool.check_connection, timeout=20) as pool:
        pool.wait(20)
        for _ in range(3):
            with direct() as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user"
                    " AND pid <> pg_backend_pid() AND application_name <> 'harness'"
                )
            with pool.connection() as conn:
                assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_null_pool():
    with NullConnectionPool(max_size=10) as pool:

        def work(number):
            for _ in range(5):
                with pool.connection() as conn:
                    assert conn.execute("SELECT %s::int", (number,)).fetchone() == (number,)

        together(work, 20)


def test_asynchronous_pools(table):
    async def main():
        async with AsyncConnectionPool(min_size=4, max_size=20, open=False) as pool:
            await pool.wait(20)

            async def work(number):
                for _ in range(5):
                    async with pool.connection() as conn:
                        await conn.execute(f"INSERT INTO {table} (value) VALUES (%s)", (number,))

            await asyncio.gather(*(work(n) for n in range(40)))
        async with AsyncNullConnectionPool(max_size=10, open=False) as pool:

            async def work(number):
                async with pool.connection() as conn:
                    cur = await conn.execute("SELECT %s::int", (number,))
                    assert await cur.fetchone() == (number,)

            await asyncio.gather(*(work(n) for n in range(40)))

    run(main())
    with direct() as conn:
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (200,)


def test_prepared_statements_in_a_pool():
    with ConnectionPool(min_size=5, max_size=5, kwargs={"prepare_threshold": 0}) as pool:

        def work(number):
            for round in range(10):
                with pool.connection() as conn:
                    got = conn.execute(f"SELECT 'query {round}', %s::int", (number,)).fetchone()
                    assert got == (f"query {round}", number)
                    if (number + round) % 7 == 0:
                        conn.rollback()

        together(work, 20)
