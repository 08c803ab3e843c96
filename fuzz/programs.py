"""The programs whose traffic is recorded."""

import glob
import os
import socket
import struct

from cluster import pgbench
from traffic import written

PSQL = r"""
\d pg_class
\dt+
\df pg_catalog.*size*
\l
SELECT 1, NULL, 'text', ARRAY[1, 2], now() \gdesc
BEGIN; SAVEPOINT s; SELECT 1/0; ROLLBACK TO s; COMMIT;
SELECT 1; SELECT 2 \; SELECT 3;
\set FETCH_COUNT 2
SELECT * FROM generate_series(1, 5);
\set FETCH_COUNT 0
CREATE TEMP TABLE c (n int, t text);
COPY c FROM STDIN;
1	one
2	\N
\.
COPY c TO STDOUT;
\copy c to 'c.bin' binary
\copy c from 'c.bin' binary
\copy c from 'nowhere'
COPY c FROM STDIN CSV;
no number,x
\.
LISTEN ch; NOTIFY ch, 'hello'; UNLISTEN *;
PREPARE p (int) AS SELECT $1; EXECUTE p (1); DEALLOCATE p; DEALLOCATE ALL;
SET application_name = 'other'; SET client_encoding = 'LATIN1'; SHOW ALL; RESET ALL; DISCARD ALL;
DO $$ BEGIN RAISE NOTICE 'a notice'; RAISE WARNING USING MESSAGE = 'w', DETAIL = 'd', HINT = 'h'; END $$;
SELECT lo_create(0);
\lo_list
EXPLAIN SELECT * FROM pg_class;
SELECT pg_terminate_backend(pg_backend_pid());
"""

PIPELINED = r"""
\startpipeline
SELECT 1;
SELECT abalance FROM pgbench_accounts WHERE aid = 1;
UPDATE pgbench_accounts SET abalance = 0 WHERE aid = 1;
\endpipeline
"""

# Under a newer libpq than the system's, perhaps: that of the packages of psycopg.
NEWER = """
import psycopg
for options in "max_protocol_version=latest", "sslmode=require sslnegotiation=direct", "sslmode=prefer":
    try:
        with psycopg.connect(options, prepare_threshold=1) as conn, conn.pipeline():
            for number in range(3):
                conn.execute("SELECT %s::int, %s", (number, "text"))
        with psycopg.connect(options) as conn:
            conn.execute("CREATE TEMP TABLE c (n int, t text)")
            with conn.cursor().copy("COPY c FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int4", "text"])
                copy.write_row((1, "one"))
            with conn.cursor(binary=True).copy("COPY c TO STDOUT (FORMAT BINARY)") as copy:
                list(copy)
            conn.cancel_safe()
    except psycopg.Error as error:
        print(error)
"""


def usual(root):
    """Triples of what is run, with which variables, and what it reads."""
    psql = ["psql", "-X", "-q"]
    runs = [(psql, {}, PSQL), (psql + ["-c", "SELECT 1"], {"PGSSLMODE": "prefer"}, "")]
    for more in (
        {"PGOPTIONS": "-c search_path=a\\ b,c -c geqo=off --work-mem=8MB"},
        {"PGAPPNAME": "üñî", "PGCLIENTENCODING": "LATIN1", "PGTZ": "UTC", "PGDATESTYLE": "German", "PGGEQO": "off"},
        {"PGUSER": "by_password"},
        {"PGUSER": "by_md5"},
        {"PGUSER": "by_scram"},
        {"PGUSER": "by_scram", "PGPASSWORD": "wrong"},
        {"PGUSER": "nobody-like-this"},
        {"PGTARGETSESSIONATTRS": "read-write"},
    ):
        runs.append((psql + ["-c", "SELECT 1"], more, ""))
    for replication in ("database", "true"):
        runs.append((psql + [f"replication={replication}", "-c", "IDENTIFY_SYSTEM"], {}, ""))
    for mode in ("simple", "extended", "prepared"):
        runs.append(([pgbench(), "-n", "-t", "2", "-M", mode], {}, ""))
        if mode != "simple":
            runs.append(([pgbench(), "-n", "-t", "2", "-M", mode, "-f", "/dev/stdin"], {}, PIPELINED))
    python = os.path.join(root, ".venv/bin/python")
    tests = os.path.join(root, "tests/clients")
    runs.append(([python, "-c", NEWER], {}, ""))
    runs.append(([python, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not cancel", tests], {}, ""))
    node = sorted(glob.glob(os.path.join(tests, "node/*.test.mjs")))
    return runs + [(["node", "--test", *node], {}, "")]


def _query(text):
    return written("Q", text.encode() + b"\0")


def _parse(name, text):
    return written("P", f"{name}\0{text}\0".encode() + b"\0\0")


def _run(name):
    bind = written("B", b"\0" + name.encode() + b"\0" + bytes(6))
    return bind + written("D", b"P\0") + written("E", bytes(5))


SYNC = written("S", b"")
# What `usual` in src/client/talk/fuzz.rs asks, in its order.
ASKED = [
    _query("SELECT 1"),
    _query("BEGIN") + _query("SELECT 1") + _query("COMMIT"),
    _parse("", "SELECT 1") + _run("") + SYNC,
    _parse("howdah_1", "SELECT 1") + _run("howdah_1") * 2 + SYNC + _run("howdah_1") + SYNC,
    _query("COPY t FROM STDIN") + written("d", b"1\n") + written("c", b""),
    _query("COPY t TO STDOUT"),
    _parse("howdah_1", "SELECT 1") + written("C", b"Showdah_1\0") + written("D", b"Showdah_2\0") + SYNC,
    _query("DEALLOCATE a") + _query("DEALLOCATE ALL") + written("F", b"\0\0\0\x01"),
]


def ask_as_fuzzed_clients_do(recorder):
    """The answers to just these questions."""
    for number, asked in enumerate(ASKED):
        with socket.create_connection(("127.0.0.1", recorder.port)) as client:
            startup = struct.pack("!i", 196608) + b"user\0app\0database\0app\0\0"
            client.sendall(struct.pack("!i", len(startup) + 4) + startup)
            client.sendall(asked + written("X", b""))
            while client.recv(65536):
                pass
        recorder.conversations[-1]["asked"] = number
