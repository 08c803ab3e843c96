"""Clients of psycopg that move money and hand out tokens, and tell on standard output what they know of it.

`try CLIENT N` is said before a transaction, `ack CLIENT N` when its commit has been confirmed, `lost WHY` when a
connection or transaction has failed, `wrong WHAT` when something was seen that can never be. The PG* variables say
where to connect. It ends when standard input does.
"""

import os
import random
import socket
import sys
import threading
import time

import psycopg

CLIENTS = int(os.environ.get("TRADERS", "6"))
PATIENCE_S = float(os.environ.get("TRADE_PATIENCE", "6"))
ACCOUNTS = 100
TOTAL = ACCOUNTS * 1000
TAKE = "UPDATE accounts SET balance = balance - %s WHERE id = %s"
GIVE = "UPDATE accounts SET balance = balance + %s WHERE id = %s"
MARK = "INSERT INTO tokens (run, client, n) VALUES (0, %s, %s)"
AT_ONCE = f"""WITH taken AS ({TAKE} RETURNING 1), given AS ({GIVE} RETURNING 1)
              INSERT INTO tokens (run, client, n) SELECT 0, %s, %s FROM taken, given"""
over = threading.Event()


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Trader(threading.Thread):
    """One client: connects, trades until that fails, and connects again."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.n, self.random = client, 0, random.Random(client)
        self.connection, self.since, self.doing = None, None, None

    def run(self):
        while not over.is_set():
            try:
                self.doing = "connect"
                options = f"-c app.trader={self.client}"
                with psycopg.connect(autocommit=True, connect_timeout=10, options=options) as self.connection:
                    while not over.is_set():
                        self.trade()
            except psycopg.Error as error:
                say("lost", self.doing, type(error).__name__, " ".join(str(error).split()))
                time.sleep(0.05)
            finally:
                self.since = None

    def trade(self):
        self.n += 1
        self.since = time.monotonic()
        kinds = (self.one_by_one, self.prepared, self.pipelined, self.at_once, self.in_one_query)
        low, high = sorted(self.random.sample(range(1, ACCOUNTS + 1), 2))
        say("try", self.client, self.n)
        kind = kinds[self.n % len(kinds)]
        self.doing = kind.__name__
        kind(self.random.randint(1, 100), low, high)
        say("ack", self.client, self.n)
        if self.n % 4 == 0:
            self.look()
        self.since = None

    def one_by_one(self, amount, low, high):
        with self.connection.transaction():
            self.move(amount, low, high)

    def prepared(self, amount, low, high):
        with self.connection.transaction():
            self.move(amount, low, high, prepare=True)

    def pipelined(self, amount, low, high):
        with self.connection.pipeline(), self.connection.transaction():
            self.move(amount, low, high)

    def at_once(self, amount, low, high):
        done = self.connection.execute(AT_ONCE, (amount, low, amount, high, self.client, self.n))
        if done.rowcount != 1:
            say("wrong", "rows", done.rowcount)

    def in_one_query(self, amount, low, high):
        cursor = psycopg.ClientCursor(self.connection)
        statements = "; ".join((TAKE, GIVE, MARK))
        cursor.execute(statements, (amount, low, amount, high, self.client, self.n))

    def move(self, amount, low, high, **how):
        self.connection.execute(TAKE, (amount, low), **how)
        self.connection.execute(GIVE, (amount, high), **how)
        self.connection.execute(MARK, (self.client, self.n), **how)

    def look(self):
        """The books are seen to balance at any time, and the session to be this client's."""
        sql = "SELECT sum(balance)::int, current_setting('app.trader'), pg_is_in_recovery() FROM accounts"
        total, trader, _ = self.connection.execute(sql).fetchone()
        if total != TOTAL:
            say("wrong", "total", total)
        if trader != str(self.client):
            say("wrong", "session", trader, "instead of", self.client)

    def hurry(self):
        """Cuts a connection that has brought nothing for too long."""
        since = self.since
        if since and time.monotonic() - since > PATIENCE_S:
            try:
                with socket.socket(fileno=os.dup(self.connection.fileno())) as twin:
                    twin.shutdown(socket.SHUT_RDWR)
            except (OSError, psycopg.Error):
                pass


def main():
    traders = [Trader(client) for client in range(CLIENTS)]
    for trader in traders:
        trader.start()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.wait(0.5):
        for trader in traders:
            trader.hurry()
    for trader in traders:
        trader.join(PATIENCE_S)
    say("end")


if __name__ == "__main__":
    main()
    os._exit(0)
