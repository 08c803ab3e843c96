"""COPY in and out, as text, csv and binary, with every way to leave it early."""

import io

import psycopg
import pytest
from conftest import async_crowd, crowd, direct, run


def count(table):
    with direct() as conn:
        return conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_rows_in(table):
    def work(number, conn):
        with conn.cursor() as cur:
            with cur.copy(f"COPY {table} (name, value) FROM STDIN") as copy:
                for n in range(500):
                    copy.write_row((f"client {number}\twith\\escapes\n", n if n % 7 else None))
            assert cur.rowcount == 500

    crowd(work)
    assert count(table) == 10_000


def test_text_and_csv_in(conn, table):
    with conn.cursor().copy(f"COPY {table} (name, value) FROM STDIN") as copy:
        copy.write("one\t1\ntwo\t")
        copy.write(b"2\n")
    with conn.cursor().copy(f"COPY {table} (name, value) FROM STDIN (FORMAT csv, HEADER)") as copy:
        copy.write('name,value\n"with ""quotes"", and comma",3\n')
    rows = conn.execute(f"SELECT name, value FROM {table} ORDER BY value").fetchall()
    assert rows == [("one", 1), ("two", 2), ('with "quotes", and comma', 3)]


def test_binary_in_and_out(table):
    def work(number, conn):
        with conn.cursor() as cur:
            with cur.copy(f"COPY {table} (name, value) FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["text", "int4"])
                for n in range(100):
                    copy.write_row((f"client {number}", n))
            query = f"COPY (SELECT value FROM {table} WHERE name = 'client {number}' ORDER BY 1) TO STDOUT (FORMAT binary)"
            with cur.copy(query) as copy:
                copy.set_types(["int4"])
                assert [row[0] for row in copy.rows()] == list(range(100))

    crowd(work)


def test_rows_out():
    def work(number, conn):
        with conn.cursor() as cur:
            with cur.copy("COPY (SELECT i, 'row ' || i FROM generate_series(1, 2000) i) TO STDOUT") as copy:
                copy.set_types(["int4", "text"])
                rows = list(copy.rows())
            assert len(rows) == 2000 and rows[-1] == (2000, "row 2000")

    crowd(work)


def test_blocks_out(conn):
    buffer = io.BytesIO()
    with conn.cursor().copy("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 5000)) TO STDOUT") as copy:
        for block in copy:
            buffer.write(block)
    assert len(buffer.getvalue()) == 5000 * 1001


def test_an_exception_stops_the_copy_in(table):
    def work(number, conn):
        with pytest.raises(ZeroDivisionError):
            with conn.cursor().copy(f"COPY {table} (name, value) FROM STDIN") as copy:
                for n in range(1000):
                    copy.write_row(("lost", n))
                1 / 0
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        conn.rollback()
        assert conn.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    crowd(work)
    assert count(table) == 0


def test_bad_data_stops_the_copy_in(table):
    def work(number, conn):
        conn.autocommit = number % 2 == 0
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            with conn.cursor().copy(f"COPY {table} (name, value) FROM STDIN") as copy:
                copy.write("name\tnot a number\n")
                for _ in range(5000):
                    copy.write("more\t1\n" * 10)
        if not conn.autocommit:
            conn.rollback()
        assert conn.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    crowd(work)
    assert count(table) == 0


def test_csv_lines_in_text_format_are_an_error(conn, table):
    with pytest.raises(psycopg.errors.BadCopyFileFormat):
        with conn.cursor().copy(f"COPY {table} (name, value) FROM STDIN") as copy:
            copy.write("name,1\n")
    conn.rollback()


def test_a_violated_constraint_at_the_end(conn, table):
    with pytest.raises(psycopg.errors.UniqueViolation):
        with conn.cursor().copy(f"COPY {table} (id, name) FROM STDIN") as copy:
            copy.write_row((1, "a"))
            copy.write_row((1, "b"))
    conn.rollback()
    assert conn.execute("SELECT 1").fetchone() == (1,)


ENDLESS = "COPY (SELECT repeat('x', 1000), generate_series(1, 100000000)) TO STDOUT"


def test_an_exception_cancels_the_copy_out():
    def work(number, conn):
        with pytest.raises(ZeroDivisionError):
            with conn.cursor().copy(ENDLESS) as copy:
                copy.read()
                1 / 0
        conn.rollback()
        assert conn.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    crowd(work, clients=8)


def test_leaving_the_copy_out_by_break():
    def work(number, _):
        conn = psycopg.connect()
        with conn.cursor().copy(ENDLESS) as copy:
            for _ in copy:
                break
        conn.close()
        with psycopg.connect() as other:
            assert other.execute("SELECT %s::int", (number,)).fetchone() == (number,)

    crowd(work, clients=8)


def test_from_one_connection_into_another(table):
    def work(number, target):
        with direct() as source:  # each needs both at once: two servers of the pool would be a deadlock of their own
            query = f"COPY (SELECT 'copied', {number} * 1000 + i FROM generate_series(1, 300) i) TO STDOUT (FORMAT binary)"
            with source.cursor().copy(query) as out:
                with target.cursor().copy(f"COPY {table} (name, value) FROM STDIN (FORMAT binary)") as into:
                    for block in out:
                        into.write(block)

    crowd(work, clients=5)
    assert count(table) == 1500


def test_within_transactions(table):
    def work(number, conn):
        with conn.transaction():
            conn.execute(f"INSERT INTO {table} (name) VALUES ('before')")
            with conn.transaction(force_rollback=True):
                with conn.cursor().copy(f"COPY {table} (name) FROM STDIN") as copy:
                    copy.write_row(("lost",))
            with conn.cursor().copy(f"COPY {table} (name) FROM STDIN") as copy:
                copy.write_row(("kept",))

    crowd(work)
    assert count(table) == 40


def test_asynchronously(table):
    async def work(number, conn):
        async with conn.cursor() as cur:
            async with cur.copy(f"COPY {table} (name, value) FROM STDIN") as copy:
                for n in range(200):
                    await copy.write_row((f"task {number}", n))
            await conn.commit()
            async with cur.copy(f"COPY (SELECT * FROM {table} WHERE name = 'task {number}') TO STDOUT") as copy:
                assert len([row async for row in copy.rows()]) == 200

    run(async_crowd(work))
    assert count(table) == 4000
