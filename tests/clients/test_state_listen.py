"""LISTEN by many on few servers: each hears what it asked for, once and in order."""

import asyncio
import threading

import psycopg
import pytest
from conftest import async_crowd, crowd, direct, run
from psycopg import sql
from test_pool import together

SIX = 6
MESSAGES = 30

pytestmark = pytest.mark.state("listen")


def hear(conn, count, timeout=20):
    """The payloads of the next notifications; fewer when they do not come in time."""
    return [note.payload for note in conn.notifies(timeout=timeout, stop_after=count)]


def hear_all(conn, count, timeout=20):
    """`stop_after` may give more than asked for when they came together; this gives all that came until enough did."""
    heard = []
    while len(heard) < count:
        more = hear(conn, count - len(heard), timeout)
        if not more:
            break
        heard += more
    return heard


def silence(conn, seconds=0.3):
    assert [note.payload for note in conn.notifies(timeout=seconds)] == []


def test_threads_that_listen(name):
    ready = threading.Barrier(SIX + 1)

    def publisher():
        with psycopg.connect(autocommit=True) as conn:
            ready.wait(30)
            for turn in range(MESSAGES):
                for number in range(SIX):
                    conn.execute("SELECT pg_notify(%s, %s)", (f"{name}_{number}", f"own {turn}"))
                conn.execute(sql.SQL("NOTIFY {}, {}").format(sql.Identifier(name), f"all {turn}"))

    def listener(number):
        with psycopg.connect(autocommit=True) as conn:
            conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(f"{name}_{number}")))
            conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(name)))
            ready.wait(30)
            expected = [text for turn in range(MESSAGES) for text in (f"own {turn}", f"all {turn}")]
            assert hear_all(conn, 2 * MESSAGES) == expected
            silence(conn)

    together(lambda number: publisher() if number == SIX else listener(number), SIX + 1)


def test_listeners_that_also_ask(name):
    ready = threading.Barrier(SIX)

    def work(number, conn):
        conn.autocommit = True
        heard = []
        conn.add_notify_handler(lambda note: heard.append(note.payload))
        conn.execute(f"LISTEN {name}")
        ready.wait(30)
        for turn in range(MESSAGES):
            conn.execute("SELECT pg_notify(%s, %s)", (name, f"{number}: {turn}"))
            # One's own is there before the answer is complete.
            assert f"{number}: {turn}" in heard
        for _ in range(200):
            if len(heard) >= SIX * MESSAGES:
                break
            conn.execute("SELECT pg_sleep(0.05)")
        assert sorted(heard) == sorted(f"{n}: {turn}" for n in range(SIX) for turn in range(MESSAGES))
        of_one = lambda n: [text for text in heard if text.startswith(f"{n}:")]
        assert all(of_one(n) == [f"{n}: {turn}" for turn in range(MESSAGES)] for n in range(SIX))
        return heard

    orders = crowd(work, clients=SIX)
    assert all(order == orders[0] for order in orders), "all hear the order of the commits"


def test_the_process_id_of_a_notification(name):
    def work(number, conn):
        conn.autocommit = True
        channel = f"{name}_{number}"
        conn.execute(f"LISTEN {channel}")
        for _ in range(5):
            conn.execute(f"NOTIFY {channel}, 'mine'")
            (note,) = conn.notifies(timeout=10, stop_after=1)
            assert (note.channel, note.payload, note.pid) == (channel, "mine", conn.info.backend_pid)

    crowd(work, clients=SIX)


def test_listen_that_is_rolled_back(name):
    def work(number, conn):
        conn.execute(f"LISTEN {name}")
        conn.rollback()
        conn.autocommit = True
        with direct() as other:
            other.execute(f"NOTIFY {name}, 'for nobody'")
        silence(conn)
        assert conn.execute("SELECT * FROM pg_listening_channels()").fetchall() == []

    crowd(work, clients=SIX)


def test_listen_counts_from_its_commit(name):
    def work(number, conn):
        channel = f"{name}_{number}"
        with direct() as other:
            conn.execute(f"LISTEN {channel}")
            conn.commit()
            other.execute(f"NOTIFY {channel}, 'after'")
            conn.autocommit = True
            assert hear(conn, 1) == ["after"]
            assert conn.execute("SELECT * FROM pg_listening_channels()").fetchall() == [(channel,)]

    crowd(work, clients=SIX)


@pytest.mark.parametrize("end", ["UNLISTEN {}", "UNLISTEN *", "DISCARD ALL"])
def test_unlisten(name, end):
    def work(number, conn):
        conn.autocommit = True
        channel = f"{name}_{number}"
        with direct() as other:
            conn.execute(f"LISTEN {channel}")
            other.execute(f"NOTIFY {channel}, 'one'")
            assert hear(conn, 1) == ["one"]
            conn.execute(end.format(channel))
            other.execute(f"NOTIFY {channel}, 'two'")
            silence(conn)

    crowd(work, clients=SIX)


def test_a_notification_is_the_transactions(name):
    with psycopg.connect(autocommit=True) as listener, psycopg.connect() as sender:
        listener.execute(f"LISTEN {name}")
        sender.execute(f"NOTIFY {name}, 'never'")
        sender.rollback()
        sender.execute(f"NOTIFY {name}, 'first'")
        sender.execute(f"NOTIFY {name}, 'first'")
        sender.execute(f"NOTIFY {name}, 'second'")
        silence(listener)
        sender.commit()
        assert hear_all(listener, 2) == ["first", "second"]
        silence(listener)


def test_a_quoted_and_a_long_name_of_a_channel():
    with psycopg.connect(autocommit=True) as conn, direct() as other:
        for channel in ('Mixed "Case"', "über", "x" * 63):
            quoted = sql.Identifier(channel)
            conn.execute(sql.SQL("LISTEN {}").format(quoted))
            other.execute(sql.SQL("NOTIFY {}, 'heard'").format(quoted))
            (note,) = conn.notifies(timeout=10, stop_after=1)
            assert note.channel == channel
            other.execute(sql.SQL("NOTIFY {}").format(quoted))
            assert hear(conn, 1) == [""]


def test_tasks_that_listen(name):
    async def main():
        ready = asyncio.Barrier(SIX + 1)

        async def listener(number, conn):
            await conn.set_autocommit(True)
            await conn.execute(f"LISTEN {name}")
            await ready.wait()
            heard = []
            async for note in conn.notifies(timeout=20):
                if note.payload == "stop":
                    break
                heard.append(note.payload)
            assert heard == [f"message {turn}" for turn in range(MESSAGES)]

        async def publisher():
            async with await psycopg.AsyncConnection.connect() as conn:
                await ready.wait()
                for turn in range(MESSAGES):
                    await conn.execute("SELECT pg_notify(%s, %s)", (name, f"message {turn}"))
                    await conn.commit()
                await conn.execute(f"NOTIFY {name}, 'stop'")

        await asyncio.gather(async_crowd(listener, clients=SIX), publisher())

    run(main())


def test_listeners_leave_servers_for_others(name):
    ready, over = threading.Barrier(SIX + 1), threading.Event()

    def listener(_, conn):
        conn.autocommit = True
        conn.execute(f"LISTEN {name}")
        ready.wait(30)
        over.wait(30)
        assert hear(conn, 1) == ["bye"]

    listeners = threading.Thread(target=crowd, args=(listener, SIX), daemon=True)
    listeners.start()
    ready.wait(30)
    crowd(lambda number, conn: conn.execute("SELECT pg_sleep(0.05)") and None, clients=SIX)
    with direct() as other:
        other.execute(f"NOTIFY {name}, 'bye'")
    over.set()
    listeners.join(30)
    assert not listeners.is_alive()
