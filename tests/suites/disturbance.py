"""Other clients of the same pool, with odd settings of their own, so that nobody has the same server for long."""

import random
import threading
import time

import wire

# How long a transaction of theirs holds its server.
HOLD_S = 0.003
ROLE = "howdah_disturber"
# Each of them sets what is in one of these lines, for a while. Nothing of it is seen in the database.
SETTINGS = (
    ("SET datestyle = 'German'", "SET timezone = 'Asia/Kolkata'", "SET intervalstyle = 'iso_8601'"),
    ("SET search_path = pg_catalog, nowhere", "SET bytea_output = 'escape'", "SET extra_float_digits = -15"),
    ("SET client_encoding = 'LATIN1'", "SET standard_conforming_strings = off", "SET lc_monetary = 'C'"),
    (f"SET ROLE {ROLE}", "SET row_security = off", f"SET SESSION AUTHORIZATION {ROLE}"),
    ("SET enable_seqscan = off", "SET enable_hashjoin = off", "SET work_mem = '64kB'"),
    ("SET plan_cache_mode = force_generic_plan", "SET xmloption = document", "SET backslash_quote = off"),
    ("SET default_transaction_read_only = on", "SET default_transaction_isolation = 'serializable'"),
    ("SET howdah.disturbed = 'yes'", "SET session_replication_role = replica", "SET xmlbinary = hex"),
    ("SET statement_timeout = '50s'", "SET lock_timeout = '50s'", "SET check_function_bodies = off"),
    ("SET quote_all_identifiers = on", "SET array_nulls = off", "SET transform_null_equals = on"),
)
ENDS = ("RESET ALL", "DISCARD ALL", "DISCARD PLANS")


class Disturbance:
    """So many clients, each in a thread of its own; `with` ends them."""

    def __init__(self, place, user, clients):
        self.over = threading.Event()
        self.errors = []
        self.count = 0
        self.threads = [
            threading.Thread(target=self._run, args=(place, user, random.Random(seed))) for seed in range(clients)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _run(self, place, user, dice):
        while not self.over.is_set():
            try:
                connection = wire.Connection(place.port, place.database, user)
                try:
                    self._disturb(connection, dice)
                finally:
                    connection.close()
            except OSError as error:
                self.errors.append(f"{time.strftime('%H:%M:%S')} {error}")
                self.over.wait(0.2)

    def _disturb(self, connection, dice):
        chosen = dice.choice(SETTINGS)
        for _ in range(dice.randrange(20, 200)):
            if self.over.is_set():
                return
            if dice.randrange(10) == 0:
                connection.query("RESET SESSION AUTHORIZATION")
                connection.query(dice.choice(ENDS))
                chosen = dice.choice(SETTINGS)
            else:
                # Without a snapshot: what VACUUM finds to do does not depend on them.
                connection.query(f"{dice.choice(chosen)}; BEGIN" if dice.randrange(3) == 0 else "BEGIN")
                self.over.wait(HOLD_S)
                connection.query("COMMIT")
            self.count += 1
