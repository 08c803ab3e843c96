"""Parameters, results, row factories, composition, types."""

import datetime as dt
import ipaddress
import uuid
from dataclasses import dataclass
from decimal import Decimal

import psycopg
import pytest
from conftest import crowd
from psycopg import ClientCursor, sql
from psycopg.rows import class_row, dict_row, namedtuple_row, scalar_row
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.json import Json, Jsonb


def test_parameters_of_every_style(conn, table):
    conn.execute(f"INSERT INTO {table} (name, value) VALUES (%s, %s)", ("one", 1))
    conn.execute(f"INSERT INTO {table} (name, value) VALUES (%(n)s, %(v)s)", {"n": "two", "v": 2})
    conn.execute(f"INSERT INTO {table} (name, value) VALUES (%b, %t)", ("three", 3))
    rows = conn.execute(f"SELECT name FROM {table} WHERE value = ANY(%s) ORDER BY value", ([1, 3],)).fetchall()
    assert rows == [("one",), ("three",)]
    assert conn.execute("SELECT %s::text", ("it's 100%",)).fetchone() == ("it's 100%",)
    assert conn.execute("SELECT 100 %% %s::int", (7,)).fetchone() == (2,)


def test_everything_a_cursor_does(conn, table):
    with conn.cursor() as cur:
        cur.execute(f"INSERT INTO {table} (name, value) SELECT 'n' || i, i FROM generate_series(1, 100) i")
        assert cur.rowcount == 100 and cur.statusmessage == "INSERT 0 100"
        cur.execute(f"SELECT id, name, value FROM {table} ORDER BY value")
        assert [column.name for column in cur.description] == ["id", "name", "value"]
        assert cur.fetchone()[1:] == ("n1", 1)
        assert len(cur.fetchmany(10)) == 10
        cur.scroll(-1)
        assert len(cur.fetchall()) == 90
        assert sum(1 for _ in cur.execute(f"SELECT * FROM {table}")) == 100
        cur.execute(f"UPDATE {table} SET value = value + 1 WHERE value < 3 RETURNING value")
        assert sorted(cur.fetchall()) == [(2,), (3,)]


def test_several_statements_in_one(conn):
    cur = conn.execute("SELECT 1; SELECT 2, 'two'; SELECT 3")
    results = [cur.fetchall()]
    while cur.nextset():
        results.append(cur.fetchall())
    assert results == [[(1,)], [(2, "two")], [(3,)]]


def test_upserts_and_bulk_values(conn, name):
    conn.execute(f"CREATE TABLE {name} (key text PRIMARY KEY, hits int)")
    for _ in range(3):
        conn.execute(
            f"INSERT INTO {name} VALUES (%s, 1) ON CONFLICT (key) DO UPDATE SET hits = {name}.hits + 1", ("k",)
        )
    assert conn.execute(f"SELECT hits FROM {name}").fetchone() == (3,)
    conn.rollback()


def test_row_factories(conn):
    @dataclass
    class Person:
        id: int
        name: str

    query = "SELECT 1 AS id, 'Ada' AS name"
    assert conn.cursor(row_factory=dict_row).execute(query).fetchone() == {"id": 1, "name": "Ada"}
    assert conn.cursor(row_factory=namedtuple_row).execute(query).fetchone().name == "Ada"
    assert conn.cursor(row_factory=class_row(Person)).execute(query).fetchone() == Person(1, "Ada")
    assert conn.cursor(row_factory=scalar_row).execute("SELECT 42").fetchone() == 42


def test_composed_sql(conn, name):
    conn.execute(sql.SQL("CREATE TABLE {} ({} int, {} text)").format(*map(sql.Identifier, (name, "a b", 'q"q'))))
    columns = [sql.Identifier("a b"), sql.Identifier('q"q')]
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(name), sql.SQL(", ").join(columns), sql.SQL(", ").join(sql.Placeholder() * 2)
    )
    conn.execute(insert, (1, "x"))
    assert conn.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))).fetchall() == [(1, "x")]
    conn.rollback()


def test_client_side_binding(conn):
    cur = ClientCursor(conn)
    assert cur.mogrify("SELECT %s, %s", (1, "it's")) == "SELECT 1, 'it''s'"
    assert cur.execute("SELECT %s, %s", (1, "it's")).fetchone() == (1, "it's")
    with psycopg.connect(cursor_factory=ClientCursor) as other:
        assert other.execute("SELECT %s; SELECT %s", (1, 2)).fetchone() == (1,)


VALUES = [
    True,
    0,
    -(2**62),
    2**70,
    1.5,
    float("inf"),
    Decimal("12345678901234567890.0987654321"),
    "",
    "grüße, 世界 🎉",
    "x" * 300_000,
    b"\x00\xff" * 1000,
    dt.date(2024, 2, 29),
    dt.time(12, 30, 15, 123456),
    dt.datetime(2024, 2, 29, 12, 30),
    dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.timezone.utc),
    dt.timedelta(days=3, seconds=5, microseconds=7),
    uuid.UUID(int=0x1234),
    ipaddress.ip_address("10.1.2.3"),
    ipaddress.ip_network("10.0.0.0/8"),
    [1, 2, None],
    [[1, 2], [3, 4]],
]


@pytest.mark.parametrize("binary", [False, True])
def test_types_come_back_as_they_went(conn, binary):
    for value in VALUES:
        cur = conn.cursor(binary=binary)
        (got,) = cur.execute("SELECT %s", (value,)).fetchone()
        assert got == value, value
        (got,) = cur.execute("SELECT %s::text IS NULL", (None,)).fetchone()
        assert got is True


def test_json(conn):
    document = {"list": [1, 2, {"deep": None}], "text": "ü"}
    for wrapper, kind in ((Json, "json"), (Jsonb, "jsonb")):
        assert conn.execute(f"SELECT %s::{kind}", (wrapper(document),)).fetchone() == (document,)
    assert conn.execute("SELECT %s::jsonb -> 'list' -> 0", (Jsonb(document),)).fetchone() == (1,)


def test_enums_and_composites(conn, name):
    import enum

    class Mood(enum.Enum):
        happy = "happy"
        sad = "sad"

    conn.execute(f"CREATE TYPE {name}_mood AS ENUM ('happy', 'sad')")
    conn.execute(f"CREATE TYPE {name}_point AS (x int, y text)")
    register_enum(EnumInfo.fetch(conn, f"{name}_mood"), conn, Mood)
    register_composite(CompositeInfo.fetch(conn, f"{name}_point"), conn)
    assert conn.execute("SELECT %s", (Mood.sad,)).fetchone() == (Mood.sad,)
    point = conn.execute(f"SELECT ROW(1, 'why')::{name}_point").fetchone()[0]
    assert (point.x, point.y) == (1, "why")
    conn.rollback()


def test_explain_and_ddl(conn, table):
    plan = conn.execute(f"EXPLAIN (FORMAT json) SELECT * FROM {table}").fetchone()[0]
    assert plan[0]["Plan"]["Node Type"]
    conn.execute(f"ALTER TABLE {table} ADD COLUMN extra text")
    conn.execute(f"CREATE INDEX ON {table} (name)")
    assert len(conn.execute(f"SELECT * FROM {table}").description) == 4


def test_everyone_gets_their_own_answers(table):
    def work(number, conn):
        for round in range(20):
            conn.execute(f"INSERT INTO {table} (name, value) VALUES (%s, %s)", (f"client {number}", round))
            rows = conn.execute(f"SELECT value FROM {table} WHERE name = %s ORDER BY id", (f"client {number}",))
            assert rows.fetchall() == [(n,) for n in range(round + 1)]
            conn.commit()

    crowd(work)


def test_a_hundred_thousand_rows(conn):
    total = 0
    for row in conn.execute("SELECT i, 'row ' || i FROM generate_series(1, 100000) i"):
        total += row[0]
    assert total == 100000 * 100001 // 2
