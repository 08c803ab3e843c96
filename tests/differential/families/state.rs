//! Programs about state for which a client keeps its server.

use super::Author;
use crate::program::Step;

pub(super) fn cursors(author: &mut Author<'_>) -> Step {
    let name = author.pick(&["c", "d"]);
    let sql = match author.rng.below(14) {
        0..=2 => format!("DECLARE {name} CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 5) AS n"),
        3 => format!("DECLARE {name} SCROLL CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 5) AS n"),
        4 => format!("DECLARE {name} CURSOR FOR SELECT n FROM generate_series(1, 5) AS n"),
        5 => format!("DECLARE {name} NO SCROLL CURSOR WITHOUT HOLD FOR SELECT 1"),
        6 => format!("FETCH {name}"),
        7 => format!("FETCH 2 FROM {name}"),
        8 => format!("FETCH BACKWARD 1 FROM {name}"),
        9 => format!("MOVE 1 IN {name}"),
        10 | 11 => format!("CLOSE {name}"),
        12 => "CLOSE ALL".to_owned(),
        _ => format!("DECLARE {name} CURSOR WITH HOLD FOR SELECT 1/(n - 3) FROM generate_series(1, 5) AS n"),
    };
    author.send(sql)
}

pub(super) fn temporary(author: &mut Author<'_>) -> Step {
    let sql = author.pick(&[
        "CREATE TEMP TABLE tt (n int)",
        "CREATE TEMPORARY TABLE tt (n serial PRIMARY KEY, v text)",
        "CREATE TEMP TABLE IF NOT EXISTS tt (n int)",
        "CREATE TEMP TABLE tt ON COMMIT DROP AS SELECT 1 AS n",
        "CREATE TEMP TABLE tt ON COMMIT DELETE ROWS AS SELECT 1 AS n",
        "CREATE TABLE pg_temp.tt AS SELECT 7 AS n",
        "SELECT 8 AS n INTO TEMP tt",
        "SELECT 9 AS n INTO pg_temp.tt",
        "INSERT INTO tt VALUES (1), (2)",
        "SELECT count(*) FROM tt",
        "SELECT * FROM tt ORDER BY 1",
        "ALTER TABLE tt ADD COLUMN w int DEFAULT 5",
        "DROP TABLE tt",
        "DROP TABLE IF EXISTS tt CASCADE",
        "CREATE TEMP VIEW tv AS SELECT 1 AS n",
        "CREATE OR REPLACE TEMP VIEW tv AS SELECT 2 AS n",
        "SELECT * FROM tv",
        "DROP VIEW tv",
        "CREATE TEMP SEQUENCE ts",
        "SELECT nextval('ts')",
        "DROP SEQUENCE ts",
        "CREATE FUNCTION pg_temp.tf() RETURNS int LANGUAGE sql AS 'SELECT 42'",
        "SELECT pg_temp.tf()",
        "DROP FUNCTION pg_temp.tf()",
        "CREATE TYPE pg_temp.ty AS ENUM ('a', 'b')",
        "SELECT 'a'::pg_temp.ty::text",
        "DROP TYPE pg_temp.ty",
        "CREATE DOMAIN pg_temp.td AS int CHECK (value > 0)",
        "SELECT 1::pg_temp.td::int",
        "DROP DOMAIN pg_temp.td",
        "DISCARD TEMP",
        "SET search_path = pg_temp, public",
        "SET search_path = pg_temp, public; CREATE TABLE tt (n int)",
        "RESET search_path",
        "COMMENT ON TABLE tt IS 'mine'",
        "TRUNCATE tt",
    ]);
    author.send(sql)
}

pub(super) fn locks(author: &mut Author<'_>) -> Step {
    let (own, shared) = (author.own_key(), author.shared_key());
    let sql = match author.rng.below(14) {
        0 | 1 => format!("SELECT pg_advisory_lock({own})"),
        2 => format!("SELECT pg_advisory_lock_shared({own})"),
        3 | 4 => format!("SELECT pg_try_advisory_lock({shared})"),
        5 => format!("SELECT pg_try_advisory_lock_shared({shared})"),
        6 | 7 => format!("SELECT pg_advisory_unlock({own})"),
        8 | 9 => format!("SELECT pg_advisory_unlock({shared})"),
        10 => format!("SELECT pg_advisory_unlock_shared({shared})"),
        11 => "SELECT pg_advisory_unlock_all()".to_owned(),
        12 => format!("SELECT pg_advisory_xact_lock({own})"),
        _ => format!("SELECT pg_try_advisory_xact_lock({shared})"),
    };
    author.send(sql)
}

/// What is done unseen, and what shows it.
pub(super) fn hidden(author: &mut Author<'_>) -> Step {
    let key = author.own_key();
    let sql =
        match author.rng.below(27) {
            24 => "DO $$ BEGIN PERFORM set_config('app.' || 'c', 'put together', false); END $$".to_owned(),
            25 => "DO $$ DECLARE k text := 'd'; BEGIN EXECUTE 'SET app.' || k || ' = computed'; END $$"
                .to_owned(),
            26 => "RESET ALL".to_owned(),
            0 => "DO $$ BEGIN PERFORM set_config('app.a', 'block', false); END $$".to_owned(),
            1 => "DO $$ BEGIN SET work_mem = '3MB'; END $$".to_owned(),
            2 => "DO $$ BEGIN RESET work_mem; END $$".to_owned(),
            3 => "DO $$ BEGIN EXECUTE 'SET app.b = block'; END $$".to_owned(),
            4 => "DO $$ BEGIN CREATE TEMP TABLE tt (n int); END $$".to_owned(),
            5 => "DO $$ BEGIN DROP TABLE IF EXISTS tt; END $$".to_owned(),
            6 => format!("DO $$ BEGIN PERFORM pg_advisory_lock({key}); END $$"),
            7 => "DO $$ BEGIN EXECUTE 'PREPARE hp AS SELECT 42'; END $$".to_owned(),
            8 => "DO $$ BEGIN SET TIME ZONE 'Asia/Tokyo'; END $$".to_owned(),
            9 => "DO $$ BEGIN SET LOCAL work_mem = '4MB'; END $$".to_owned(),
            10 => "DO $$ BEGIN SET work_mem = '5MB'; RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END $$"
                .to_owned(),
            11 => "DO $$ BEGIN SET work_mem = '6MB'; RAISE EXCEPTION 'no'; END $$".to_owned(),
            12 => "DO $$ BEGIN SET ROLE reader; END $$".to_owned(),
            13 => "SELECT hide_setting('8MB')".to_owned(),
            14 => "SELECT hide_custom('called')".to_owned(),
            15 => format!("SELECT hide_lock({key})"),
            16 => "SELECT hide_temp()".to_owned(),
            17 => "CALL hide_called('9MB')".to_owned(),
            18 => "SELECT hide_local('10MB')".to_owned(),
            19 => "EXECUTE hp".to_owned(),
            20 => "DEALLOCATE hp".to_owned(),
            21 => "SELECT count(*) FROM tt".to_owned(),
            22 => "RESET ROLE".to_owned(),
            _ => "SELECT pg_advisory_unlock_all()".to_owned(),
        };
    author.send(sql)
}

pub(super) fn listen(author: &mut Author<'_>) -> Step {
    let channel = author.pick(&["news", "\"Other News\"", "gossip"]);
    let payload = author.rng.below(3);
    let sql = match author.rng.below(16) {
        0..=3 => format!("LISTEN {channel}"),
        4 => format!("UNLISTEN {channel}"),
        5 => "UNLISTEN *".to_owned(),
        6..=8 => format!("NOTIFY {channel}, 'of {} {payload}'", author.client),
        9 => format!("NOTIFY {channel}"),
        10 => format!("SELECT pg_notify('gossip', 'called {payload}')"),
        11 => format!("DO $$ BEGIN PERFORM pg_notify('news', 'hidden {payload}'); END $$"),
        12 => format!("NOTIFY {channel}, 'a'; NOTIFY {channel}, 'b'; NOTIFY {channel}, 'a'"),
        13 => "SELECT c FROM pg_listening_channels() AS c ORDER BY c".to_owned(),
        14 => "SELECT 1".to_owned(),
        _ => "DISCARD ALL".to_owned(),
    };
    author.send(sql)
}

pub(super) fn discard(author: &mut Author<'_>) -> Step {
    match author.rng.below(12) {
        0 | 1 => author.send("DISCARD ALL"),
        2 => author.send("DISCARD TEMP"),
        3 => author.send("DISCARD PLANS"),
        4 => author.send("DISCARD SEQUENCES"),
        5 => author.send("DEALLOCATE ALL"),
        6 => author.send("UNLISTEN *"),
        7 => cursors(author),
        8 => temporary(author),
        9 => locks(author),
        10 => super::settings::any(author),
        _ => super::protocol::statements(author),
    }
}
