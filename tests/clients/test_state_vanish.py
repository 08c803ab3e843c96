"""Clients with session state that are killed: nothing of it is left for anybody, and their servers are free."""

import signal
import subprocess
import sys
import textwrap
import time

import psycopg
import pytest
from conftest import crowd, direct

SIX = 6

PROGRAMS = {
    "after SET": ("settings", "SET statement_timeout = '1ms'; SET app.secret = 'mine'; SET TimeZone = 'Asia/Tokyo'"),
    "after SET in a transaction": ("settings", "BEGIN; SET statement_timeout = '1ms'; SET app.secret = 'mine'"),
    "after SET LOCAL": ("settings", "BEGIN; SET LOCAL statement_timeout = '500ms'; SET LOCAL search_path = nowhere"),
    "with a held cursor": ("hold", "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 1000)"),
    "with a temporary table": ("temporary", "CREATE TEMP TABLE secret AS SELECT 'mine' AS text"),
    "with a temporary table in a transaction": ("temporary", "BEGIN; CREATE TEMP TABLE secret (n int)"),
    "with a lock": ("locks", "SELECT pg_advisory_lock(815)"),
    "with a lock in a transaction": ("locks", "BEGIN; SELECT pg_advisory_lock(815)"),
    "listening": ("listen", "LISTEN secret; NOTIFY secret"),
    "after LISTEN in a transaction": ("listen", "BEGIN; LISTEN secret; NOTIFY secret"),
    "with a prepared statement": ("prepare", "PREPARE secret AS SELECT 'mine'"),
}


def clean(number, conn):
    """What a new session must find, and must not."""
    heard = []
    conn.autocommit = True
    conn.add_notify_handler(heard.append)
    for _ in range(3):
        row = conn.execute(
            "SELECT current_setting('statement_timeout'), current_setting('app.secret', true),"
            " current_setting('TimeZone'), current_setting('search_path')"
        ).fetchone()
        assert (row[0], row[1] or None, *row[2:]) == ("0", None, "UTC", '"$user", public')
        for leftover in ("SELECT * FROM secret", "FETCH held", "EXECUTE secret"):
            with pytest.raises(psycopg.DatabaseError, match="does not exist"):
                conn.execute(leftover)
        assert conn.execute("SELECT * FROM pg_listening_channels()").fetchall() == []
    assert heard == []


@pytest.mark.parametrize("when", [pytest.param(when, marks=pytest.mark.state(PROGRAMS[when][0])) for when in PROGRAMS])
def test_killed(when):
    program = textwrap.dedent(
        """
        import sys, time, psycopg
        conn = psycopg.connect(autocommit=True)
        for statement in sys.argv[1].split("; "):
            conn.execute(statement)
        print("ready", flush=True)
        time.sleep(60)
        """
    )
    for _ in range(2):
        command = [sys.executable, "-c", program, PROGRAMS[when][1]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            said = process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert said == "ready\n"
    start = time.monotonic()
    crowd(clean, clients=SIX)
    assert time.monotonic() - start < 20, "the servers are not free"
    with direct() as admin:
        for _ in range(100):
            if admin.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,):
                return
            time.sleep(0.05)
        raise AssertionError("a lock is left")
