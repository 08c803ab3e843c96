"""Programs as users of psycopg 3 write them; the PG* variables say where to connect.

With howdah in between, all of them share a pool of two servers.
"""

import asyncio
import os
import threading
import uuid

import psycopg
import pytest

CLIENTS = 20


def direct(**kwargs):
    """A connection past the pooler, to look at PostgreSQL from outside."""
    port = os.environ.get("DIRECT_PORT", os.environ.get("PGPORT", "5432"))
    return psycopg.connect(port=port, autocommit=True, application_name="harness", **kwargs)


def crowd(work, clients=CLIENTS, **kwargs):
    """Runs work(number, connection) in many threads at once; the first failure is raised."""
    results, failures = [None] * clients, []

    def client(number):
        try:
            with psycopg.connect(**kwargs) as conn:
                results[number] = work(number, conn)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive(), "a client hangs"
    if failures:
        raise failures[0]
    return results


async def async_crowd(work, clients=CLIENTS, **kwargs):
    """Runs work(number, connection) in many tasks at once."""

    async def client(number):
        async with await psycopg.AsyncConnection.connect(**kwargs) as conn:
            return await work(number, conn)

    return await asyncio.wait_for(asyncio.gather(*(client(n) for n in range(clients))), 50)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 55))


@pytest.fixture
def name():
    """A name for a table of this test's own."""
    return "t_" + uuid.uuid4().hex[:12]


@pytest.fixture
def table(name):
    """A table (id serial, name text, value int), gone afterwards."""
    with direct(options="-c lock_timeout=5s") as conn:
        conn.execute(f"CREATE TABLE {name} (id serial PRIMARY KEY, name text, value int)")
        yield name
        conn.execute(f"DROP TABLE IF EXISTS {name}")


@pytest.fixture
def conn(request):
    if "table" in request.fixturenames:
        request.getfixturevalue("table")  # made first, so that it is dropped when this connection has gone
    with psycopg.connect() as conn:
        yield conn


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """After each test no transaction is open and nobody holds a lock on a table."""
    yield
    with direct() as conn:
        sql = """SELECT pid, state, query FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()
                 AND backend_type = 'client backend' AND state <> 'idle'"""
        for _ in range(100):
            left = conn.execute(sql).fetchall()
            if not left:
                return
            threading.Event().wait(0.05)
        raise AssertionError(f"left behind: {left}")
