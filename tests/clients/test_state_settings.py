"""Settings that a session makes for itself hold in its later transactions, and in nobody else's."""

import asyncio
import contextlib
import datetime

import psycopg
import pytest
from conftest import async_crowd, crowd, direct, run
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from test_pool import together

SIX = 6
ROUNDS = 10

pytestmark = pytest.mark.state("settings")


def value(conn, name):
    return conn.execute("SELECT current_setting(%s, true)", (name,)).fetchone()[0]


def test_set_holds_through_later_transactions():
    def work(number, conn):
        conn.execute(f"SET statement_timeout = '{number + 1}s'")
        conn.execute(f"SET SESSION lock_timeout TO {number + 1}")
        conn.execute(f"SET app.request_id = 'request {number}'")
        conn.commit()
        for _ in range(ROUNDS):
            assert conn.execute("SHOW statement_timeout").fetchone() == (f"{number + 1}s",)
            assert value(conn, "lock_timeout") == f"{number + 1}ms"
            conn.commit()
            assert value(conn, "app.request_id") == f"request {number}"
            conn.rollback()

    crowd(work, clients=SIX)


def test_half_of_them_set_nothing():
    def work(number, conn):
        conn.autocommit = True
        if number % 2:
            conn.execute("SET work_mem = '1MB'")
        for _ in range(ROUNDS):
            assert value(conn, "work_mem") == ("1MB" if number % 2 else "4MB")

    crowd(work, clients=SIX)


def test_a_timeout_applies_to_whom_it_belongs():
    def work(number, conn):
        conn.autocommit = True
        if number % 2:
            conn.execute("SET statement_timeout = 100")
            with pytest.raises(psycopg.errors.QueryCanceled):
                conn.execute("SELECT pg_sleep(5)")
        else:
            conn.execute("SELECT pg_sleep(0.3)")

    crowd(work, clients=SIX)


def test_options_in_the_connection_string():
    def client(number, _):
        options = f"-c statement_timeout={1001 + number} -c work_mem={64 + number}kB --search_path=s{number},public"
        with psycopg.connect(options=options) as conn:
            for _ in range(ROUNDS):
                assert value(conn, "statement_timeout") == f"{1001 + number}ms"
                assert value(conn, "work_mem") == f"{64 + number}kB"
                assert value(conn, "search_path") == f"s{number},public"
                conn.commit()

    crowd(client, clients=SIX)


def test_reset_goes_back_to_the_options():
    def client(number, _):
        with psycopg.connect(options=f"-c statement_timeout={100_001 + number}", autocommit=True) as conn:
            for command in ("RESET statement_timeout", "RESET ALL", "DISCARD ALL", "SET statement_timeout TO DEFAULT"):
                conn.execute("SET statement_timeout = 5000")
                assert value(conn, "statement_timeout") == "5s"
                conn.execute(command)
                assert value(conn, "statement_timeout") == f"{100_001 + number}ms"

    crowd(client, clients=SIX)


def test_the_configure_of_a_pool():
    def configure(conn):
        conn.execute("SET statement_timeout = '30s'")
        conn.execute("SET timezone = 'Europe/Berlin'")
        conn.execute("SET app.pool = 'configured'")
        conn.commit()

    with ConnectionPool(min_size=SIX, configure=configure, timeout=30) as pool, psycopg.connect() as plain:
        pool.wait(20)

        def work(number):
            for _ in range(ROUNDS):
                with pool.connection() as conn:
                    assert value(conn, "statement_timeout") == "30s"
                    assert value(conn, "app.pool") == "configured"
                    assert conn.execute("SELECT now()").fetchone()[0].tzinfo.key == "Europe/Berlin"

        together(work, SIX)
        assert value(plain, "statement_timeout") == "0"
        assert not value(plain, "app.pool")
        assert plain.info.parameter_status("TimeZone") == "UTC"


def test_the_configure_of_an_asynchronous_pool():
    async def configure(conn):
        await conn.set_autocommit(True)
        await conn.execute("SET statement_timeout = '31s'")
        await conn.execute("SELECT set_config('app.pool', 'configured', false)")
        await conn.set_autocommit(False)

    async def main():
        async with AsyncConnectionPool(min_size=SIX, configure=configure, open=False) as pool:
            await pool.wait(20)

            async def request(_):
                async with pool.connection() as conn:
                    row = await (await conn.execute("SHOW statement_timeout")).fetchone()
                    assert row == ("31s",)
                    row = await (await conn.execute("SELECT current_setting('app.pool')")).fetchone()
                    assert row == ("configured",)

            for _ in range(ROUNDS):
                await asyncio.gather(*(request(n) for n in range(SIX)))

    run(main())


def test_set_config_with_parameters():
    zones = ["Asia/Tokyo", "America/New_York", "Europe/Paris"]
    noon = datetime.datetime(2024, 7, 1, 12, tzinfo=datetime.timezone.utc)

    def work(number, conn):
        conn.autocommit = True
        zone = zones[number % 3]
        conn.execute("SELECT set_config('timezone', %s, false)", (zone,))
        conn.execute("SELECT set_config(%s, %s, %s)", ("app.zone", zone, False))
        for _ in range(ROUNDS):
            assert conn.info.timezone.key == zone
            got = conn.execute("SELECT %s::timestamptz", (noon,)).fetchone()[0]
            assert got == noon and got.tzinfo.key == zone
            assert value(conn, "app.zone") == zone

    crowd(work, clients=SIX)


def test_set_local_ends_with_its_transaction():
    def work(number, conn):
        for _ in range(ROUNDS):
            with conn.transaction():
                conn.execute(f"SET LOCAL statement_timeout = {5001 + number}")
                assert value(conn, "statement_timeout") == f"{5001 + number}ms"
            assert value(conn, "statement_timeout") == "0"
            conn.commit()

    crowd(work, clients=SIX)


def test_what_is_rolled_back_was_never_set():
    def work(number, conn):
        conn.execute("SET statement_timeout = '7s'")
        conn.commit()
        for _ in range(ROUNDS):
            conn.execute("SET statement_timeout = '9s'")
            conn.execute("SET timezone = 'Asia/Tokyo'")
            conn.rollback()
            assert value(conn, "statement_timeout") == "7s"
            assert conn.info.parameter_status("TimeZone") == "UTC"
            with conn.transaction():
                with contextlib.suppress(ZeroDivisionError), conn.transaction():
                    conn.execute("SET statement_timeout = '11s'")
                    1 / 0
                assert value(conn, "statement_timeout") == "7s"
            with pytest.raises(psycopg.errors.DivisionByZero):
                conn.execute("SET statement_timeout = '13s'")
                conn.execute("SELECT 1/0")
            conn.rollback()

    crowd(work, clients=SIX)


def test_functions_and_blocks_that_set(name):
    with direct() as admin:
        admin.execute(
            f"CREATE FUNCTION {name}(v text) RETURNS void LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM set_config('statement_timeout', v, false); END $$"
        )

    def work(number, conn):
        conn.autocommit = True
        conn.execute(f"SELECT {name}(%s)", (f"{number + 10}s",))
        conn.execute(f"DO $$ BEGIN PERFORM set_config('app.by_block', 'block {number}', false); END $$")
        for _ in range(ROUNDS):
            assert value(conn, "statement_timeout") == f"{number + 10}s"
            assert value(conn, "app.by_block") == f"block {number}"

    try:
        crowd(work, clients=SIX)
    finally:
        with direct() as admin:
            admin.execute(f"DROP FUNCTION {name}")


def test_a_schema_for_each_tenant(name):
    schema = lambda number: sql.Identifier(f"{name}_{number}")
    with direct() as admin:
        for number in range(SIX):
            admin.execute(sql.SQL("CREATE SCHEMA {}").format(schema(number)))
            admin.execute(sql.SQL("CREATE TABLE {}.notes (body text)").format(schema(number)))

    def work(number, conn):
        conn.execute(sql.SQL("SET search_path TO {}").format(schema(number)))
        conn.commit()
        for turn in range(ROUNDS):
            conn.execute("INSERT INTO notes VALUES (%s)", (f"tenant {number}",), prepare=True)
            conn.commit()
            rows = conn.execute("SELECT body FROM notes", prepare=True).fetchall()
            assert rows == [(f"tenant {number}",)] * (turn + 1)
            conn.commit()

    try:
        crowd(work, clients=SIX)
    finally:
        with direct() as admin:
            for number in range(SIX):
                admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema(number)))


def test_read_only_sessions(table):
    def work(number, conn):
        if number % 2:
            conn.execute("SET default_transaction_read_only = on")
            conn.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            conn.commit()
        for _ in range(ROUNDS):
            isolation = "serializable" if number % 2 else "read committed"
            assert conn.execute("SHOW transaction_isolation").fetchone() == (isolation,)
            conn.commit()
            if number % 2:
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    conn.execute(f"INSERT INTO {table} (value) VALUES (1)")
                conn.rollback()
            else:
                conn.execute(f"INSERT INTO {table} (value) VALUES (1)")
                conn.commit()

    crowd(work, clients=SIX)
    with direct() as admin:
        assert admin.execute(f"SELECT count(*) FROM {table}").fetchone() == (SIX // 2 * ROUNDS,)


def test_encodings_of_sessions():
    def work(number, conn):
        encoding, name = [("LATIN1", "iso8859-1"), ("UTF8", "utf-8")][number % 2]
        conn.execute(f"SET client_encoding TO {encoding}")
        conn.commit()
        for _ in range(ROUNDS):
            assert conn.info.encoding == name
            assert conn.execute("SELECT 'é' || %s, octet_length('é')", ["ü"]).fetchone() == ("éü", 2)
            conn.commit()

    crowd(work, clients=SIX)


def test_roles():
    def work(number, conn):
        role = f"tenant_{number % 2}"
        conn.execute(f"SET ROLE {role}")
        conn.commit()
        for _ in range(ROUNDS):
            assert conn.execute("SELECT current_user, session_user").fetchone() == (role, conn.info.user)
            conn.commit()
        conn.execute("RESET ROLE")
        conn.commit()
        assert conn.execute("SELECT current_user").fetchone() == (conn.info.user,)

    crowd(work, clients=SIX)


def test_a_new_session_begins_with_nothing_of_the_last():
    for _ in range(4):
        with psycopg.connect() as conn:
            assert value(conn, "statement_timeout") == "0"
            assert not value(conn, "app.behind")
            conn.execute("SET statement_timeout = '8s'")
            conn.execute("SET app.behind = 'here'")


def test_tasks_with_settings_of_their_own():
    async def work(number, conn):
        await conn.execute(f"SET app.task = 'task {number}'")
        await conn.execute(f"SET idle_in_transaction_session_timeout = {10_001 + number}")
        await conn.commit()
        for _ in range(ROUNDS):
            cur = await conn.execute("SELECT current_setting('app.task')")
            assert await cur.fetchone() == (f"task {number}",)
            await conn.commit()
            cur = await conn.execute("SHOW idle_in_transaction_session_timeout")
            assert await cur.fetchone() == (f"{10_001 + number}ms",)
            await conn.rollback()

    run(async_crowd(work, clients=SIX))


def test_settings_in_a_pipeline():
    def work(number, conn):
        conn.autocommit = True
        for _ in range(ROUNDS):
            with conn.pipeline():
                conn.execute("SELECT set_config('app.piped', %s, false)", (f"pipe {number}",))
                first = conn.execute("SELECT current_setting('app.piped')")
                conn.execute(f"SET statement_timeout = {20_001 + number}")
                second = conn.execute("SHOW statement_timeout")
            assert first.fetchone() == (f"pipe {number}",)
            assert second.fetchone() == (f"{20_001 + number}ms",)
            assert value(conn, "app.piped") == f"pipe {number}"
            assert value(conn, "statement_timeout") == f"{20_001 + number}ms"

    crowd(work, clients=SIX)
