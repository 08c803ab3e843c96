"""Cancelling: from another thread, by a task's end, by a timeout; never anybody else's query."""

import asyncio
import threading
import time

import psycopg
import pytest
from conftest import async_crowd, crowd, run


@pytest.mark.parametrize("how", ["cancel", "cancel_safe"])
def test_from_another_thread(conn, how):
    timer = threading.Timer(0.3, getattr(conn, how))
    timer.start()
    start = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute("SELECT pg_sleep(30)")
    assert time.monotonic() - start < 5
    timer.join()
    conn.rollback()
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_everyone_cancels_their_own():
    def work(number, conn):
        for round in range(3):
            if number % 2:
                timer = threading.Timer(0.05, conn.cancel_safe)
                timer.start()
                try:
                    conn.execute("SELECT pg_sleep(0.2)")
                except psycopg.errors.QueryCanceled:
                    pass
                timer.join()
                try:
                    conn.rollback()
                except psycopg.errors.QueryCanceled:
                    conn.rollback()
            else:
                assert conn.execute("SELECT pg_sleep(0.02), %s::int", (number,)).fetchone()[1] == number
                conn.commit()

    crowd(work)


def test_cancelling_an_idle_connection_harms_nobody():
    stop = threading.Event()

    def disturb():
        with psycopg.connect() as idle:
            idle.execute("SELECT 1")
            idle.commit()
            while not stop.is_set():
                idle.cancel_safe()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:

        def work(number, conn):
            for _ in range(20):
                assert conn.execute("SELECT pg_sleep(0.005), %s::int", (number,)).fetchone()[1] == number
                conn.commit()

        crowd(work, clients=6)
    finally:
        stop.set()
        thread.join()


def test_a_cancelled_task():
    async def work(number, conn):
        task = asyncio.create_task(conn.execute("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await conn.rollback()
        cur = await conn.execute("SELECT %s::int", (number,))
        assert await cur.fetchone() == (number,)

    run(async_crowd(work, clients=2))


def test_a_task_that_times_out():
    async def main():
        async with await psycopg.AsyncConnection.connect() as conn:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(conn.execute("SELECT pg_sleep(30)"), 0.3)
            await conn.rollback()
            assert await (await conn.execute("SELECT 1")).fetchone() == (1,)

    run(main())


def test_statement_timeout_within_a_transaction():
    def work(number, conn):
        with pytest.raises(psycopg.errors.QueryCanceled):
            with conn.transaction():
                conn.execute("SET LOCAL statement_timeout = '100ms'")
                conn.execute("SELECT pg_sleep(10)")
        assert conn.execute("SELECT pg_sleep(0.15), %s::int", (number,)).fetchone()[1] == number

    crowd(work, clients=4)


def test_lock_timeout(table):
    with psycopg.connect() as holder, psycopg.connect() as other:
        holder.execute(f"LOCK {table}")
        other.execute("SET LOCAL lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(f"SELECT * FROM {table}")
        other.rollback()
