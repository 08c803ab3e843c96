"""Server-side cursors within a transaction, and streamed results."""

import psycopg
import pytest
from conftest import async_crowd, crowd, run

SERIES = "SELECT i, 'row ' || i FROM generate_series(1, 1000) i"


def test_a_named_cursor():
    def work(number, conn):
        with conn.cursor("large_query") as cur:
            cur.itersize = 100
            cur.execute("SELECT %s::int + i FROM generate_series(1, 1000) i", (number,))
            assert cur.description[0].type_code == 23
            assert [row[0] for row in cur] == [number + i for i in range(1, 1001)]
        conn.commit()

    crowd(work)


def test_fetching_in_portions(conn):
    with conn.cursor("portions") as cur:
        cur.execute(SERIES)
        assert cur.fetchone() == (1, "row 1")
        assert len(cur.fetchmany(10)) == 10
        assert conn.execute("SELECT 'in between'").fetchone() == ("in between",)
        assert cur.fetchone() == (12, "row 12")
        assert len(cur.fetchall()) == 988


def test_scrolling(conn):
    with conn.cursor("scrolling", scrollable=True) as cur:
        cur.execute(SERIES)
        cur.scroll(500, mode="absolute")
        assert cur.fetchone()[0] == 501
        cur.scroll(-100)
        assert cur.fetchone()[0] == 402


def test_binary(conn):
    with conn.cursor("binary", binary=True) as cur:
        cur.execute(SERIES)
        assert cur.fetchmany(3) == [(1, "row 1"), (2, "row 2"), (3, "row 3")]


def test_two_cursors_side_by_side():
    def work(number, conn):
        with conn.cursor("one") as one, conn.cursor("two") as two:
            one.execute("SELECT i FROM generate_series(1, 50) i")
            two.execute("SELECT i * %s FROM generate_series(1, 50) i", (number,))
            one.itersize = two.itersize = 7
            assert [(a[0], b[0]) for a, b in zip(one, two)] == [(i, i * number) for i in range(1, 51)]

    crowd(work, clients=8)


def test_a_cursor_ends_with_its_transaction(conn):
    with conn.cursor("gone") as cur:
        cur.execute(SERIES)
        conn.commit()
        with pytest.raises(psycopg.errors.InvalidCursorName):
            cur.fetchone()
        conn.rollback()


def test_streams():
    def work(number, conn):
        total = sum(row[0] for row in conn.cursor().stream("SELECT generate_series(1, %s::int)", (2000,)))
        assert total == 2000 * 2001 // 2
        assert conn.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    crowd(work)


@pytest.mark.skipif(not psycopg.capabilities.has_stream_chunked(), reason="libpq before 17 has no chunks")
def test_streams_in_chunks(conn):
    assert len(list(conn.cursor().stream("SELECT generate_series(1, 1000)", size=64))) == 1000


def test_a_stream_that_fails_midway(conn):
    stream = conn.cursor().stream("SELECT 100 / (500 - i) FROM generate_series(1, 1000) i")
    with pytest.raises(psycopg.errors.DivisionByZero):
        list(stream)
    conn.rollback()
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_stream_that_is_left():
    def work(number, conn):
        for row in conn.cursor().stream("SELECT generate_series(1, 1000000)"):
            if row[0] == 10:
                break
        conn.rollback()
        assert conn.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    crowd(work, clients=6)


def test_asynchronously():
    async def work(number, conn):
        async with conn.cursor("large_query") as cur:
            await cur.execute(SERIES)
            assert len([row async for row in cur]) == 1000
        rows = conn.cursor().stream("SELECT generate_series(1, 500)")
        assert len([row async for row in rows]) == 500

    run(async_crowd(work))
