"""Clients that are killed, or close without a word, in the middle of everything."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import psycopg
import pytest
from conftest import crowd, direct

PROGRAMS = {
    "in a query": "conn.execute('SELECT pg_sleep(60)')",
    "in a transaction": """
        conn.execute("INSERT INTO {table} (name) VALUES ('lost')")
        conn.execute("LOCK {table}")
        print("ready", flush=True)
        time.sleep(60)""",
    "in a failed transaction": """
        try:
            conn.execute("SELECT 1/0")
        except psycopg.Error:
            print("ready", flush=True)
        time.sleep(60)""",
    "in a copy in": """
        with conn.cursor().copy("COPY {table} (name) FROM STDIN") as copy:
            for _ in range(1000):
                copy.write_row(("lost",))
            print("ready", flush=True)
            time.sleep(60)""",
    "in a copy out": """
        with conn.cursor().copy("COPY (SELECT repeat('x', 1000), generate_series(1, 100000000)) TO STDOUT") as copy:
            copy.read()
            print("ready", flush=True)
            time.sleep(60)""",
    "in a pipeline": """
        with conn.pipeline():
            for n in range(100):
                conn.execute("INSERT INTO {table} (value) VALUES (%s)", (n,))
            conn.execute("SELECT 1").fetchone()
            print("ready", flush=True)
            time.sleep(60)""",
    "with a cursor": """
        cur = conn.cursor("c")
        cur.execute("SELECT generate_series(1, 1000)")
        cur.fetchone()
        print("ready", flush=True)
        time.sleep(60)""",
}


@pytest.mark.parametrize("where", PROGRAMS)
def test_killed(where, table):
    body = textwrap.dedent(PROGRAMS[where].format(table=table))
    if "ready" not in body:
        body = 'print("ready", flush=True)\n' + body
    program = "import psycopg, time\nconn = psycopg.connect()\n" + body
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(1 if "LOCK" in body else 2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()

    start = time.monotonic()
    with psycopg.connect() as conn:
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert time.monotonic() - start < 10, "the servers are not free"
    if os.environ["PGPORT"] == os.environ.get("DIRECT_PORT"):
        with direct() as conn:  # PostgreSQL alone does not notice a client that has gone from a running query
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)'")


def test_sockets_that_say_nothing_or_nonsense():
    address = (os.environ["PGHOST"], int(os.environ["PGPORT"]))
    silent = [socket.create_connection(address) for _ in range(20)]
    for number in range(20):
        with socket.create_connection(address) as noisy:
            noisy.sendall(os.urandom(number * 10 + 1))

    def work(number, conn):
        assert conn.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    crowd(work)
    for each in silent:
        each.close()


def test_closed_without_commit(table):
    for _ in range(20):
        conn = psycopg.connect()
        conn.execute(f"INSERT INTO {table} (name) VALUES ('lost')")
        conn.close()
    with psycopg.connect() as conn:
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
