"""Request workers as Flask (threads) and FastAPI (tasks) run them, in several processes with a pool each."""

import asyncio
import multiprocessing

import psycopg
from conftest import direct, run
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from test_pool import together


def handle(conn, table, number):
    """A request: read, write, read again."""
    with conn.transaction():
        conn.execute(f"INSERT INTO {table} (name, value) VALUES (%s, %s)", (f"request {number}", number))
        cur = conn.cursor(row_factory=dict_row)
        row = cur.execute(f"SELECT name, value FROM {table} WHERE value = %s", (number,)).fetchone()
        assert row == {"name": f"request {number}", "value": number}


def process(table, first, requests):
    """A web server process: a pool, and threads that take a connection for each request."""
    with ConnectionPool(min_size=2, max_size=4, timeout=30) as pool:

        def worker(thread):
            for number in range(first + thread, first + requests, 8):
                with pool.connection() as conn:
                    handle(conn, table, number)

        together(worker, 8)


def test_processes_with_threads(table):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=process, args=(table, n * 1000, 50)) for n in range(4)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(50)
        assert each.exitcode == 0
    with direct() as conn:
        assert conn.execute(f"SELECT count(*), count(DISTINCT value) FROM {table}").fetchone() == (200, 200)


def test_tasks(table):
    async def main():
        async with AsyncConnectionPool(min_size=2, max_size=10, open=False) as pool:

            async def request(number):
                async with pool.connection() as conn, conn.transaction():
                    await conn.execute(f"INSERT INTO {table} (value) VALUES (%s)", (number,))
                    if number % 5 == 0:
                        raise psycopg.Rollback

            await asyncio.gather(*(request(n) for n in range(200)))

            async def health():
                async with pool.connection() as conn:
                    return await (await conn.execute("SELECT 1")).fetchone()

            assert await asyncio.gather(*(health() for _ in range(20))) == [(1,)] * 20

    run(main())
    with direct() as conn:
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (160,)
