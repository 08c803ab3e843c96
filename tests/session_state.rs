//! What a session remembers follows its client in transaction mode, or keeps the client's server.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::console::Console;
use common::net::wait_until;
use common::{Cluster, Howdah, Pair, Wire, msg};

/// Every statement by itself, with another client's doings in between.
fn each(wire: &mut Wire, statements: &[&str]) {
    for statement in statements {
        wire.query(statement);
    }
}

#[test]
fn settings_follow_whatever_way_they_are_set() {
    Pair::alike_one_and_two(|wire| {
        each(
            wire,
            &[
                "SET statement_timeout = '5s'",
                "SHOW statement_timeout",
                "SET SESSION work_mem TO '123kB'",
                "SHOW work_mem",
                "SELECT set_config('lock_timeout', '7s', false)",
                "SHOW lock_timeout",
                "SELECT set_config('lock_' || 'timeout', '8s', false)",
                "SHOW lock_timeout",
                "UPDATE pg_settings SET setting = '9s' WHERE name = 'lock_timeout'",
                "SHOW lock_timeout",
                "SET TIME ZONE 'Asia/Tokyo'",
                "SHOW timezone",
                "SET NAMES 'LATIN1'",
                "SHOW client_encoding",
                "SET NAMES 'UTF8'",
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                "SHOW transaction_isolation",
                "SHOW default_transaction_isolation",
                "SET app.tenant = 'seven'",
                "SELECT current_setting('app.tenant', true)",
                "SET LOCAL work_mem = '1MB'",
                "SHOW work_mem",
                "SET search_path = pg_catalog, public",
                "SHOW search_path",
                "RESET search_path",
                "RESET statement_timeout",
                "SHOW statement_timeout",
                "SET work_mem TO DEFAULT",
                "SHOW work_mem",
                "RESET ALL",
                "SHOW lock_timeout",
                "SHOW timezone",
                "SELECT current_setting('app.tenant', true)",
            ],
        );
    });
}

#[test]
fn settings_follow_through_transactions_savepoints_and_failures() {
    Pair::alike_one_and_two(|wire| {
        each(
            wire,
            &[
                "BEGIN",
                "SET statement_timeout = '5s'",
                "ROLLBACK",
                "SHOW statement_timeout",
                "BEGIN",
                "SET statement_timeout = '6s'",
                "SAVEPOINT a",
                "SET statement_timeout = '7s'",
                "ROLLBACK TO a",
                "COMMIT",
                "SHOW statement_timeout",
                "SET statement_timeout = '8s'; SELECT 1/0",
                "SHOW statement_timeout",
                "BEGIN; SET statement_timeout = '9s'; COMMIT; SELECT 1/0",
                "SHOW statement_timeout",
                "SET nonsense = 1",
                "SET statement_timeout = 'nonsense'",
                "SHOW statement_timeout",
                "BEGIN",
                "SET timezone = 'Asia/Tokyo'",
                "SELECT 1/0",
                "ROLLBACK",
                "SHOW timezone",
            ],
        );
        wire.batch(&[
            msg::parse("", "SET statement_timeout = '11s'"),
            msg::run("", &[]),
            msg::parse("", "SHOW statement_timeout"),
            msg::run("", &[]),
        ]);
        wire.query("SHOW statement_timeout");
        wire.batch(&[
            msg::parse("", "SELECT set_config($1, $2, false)"),
            msg::run("", &[Some("statement_timeout"), Some("12s")]),
        ]);
        wire.query("SHOW statement_timeout");
        wire.batch(&[
            msg::parse("", "SET statement_timeout = '13s'"),
            msg::run("", &[]),
            msg::parse("", "SELECT 1/0"),
            msg::run("", &[]),
        ]);
        wire.query("SHOW statement_timeout");
    });
}

#[test]
fn what_functions_and_blocks_do_unseen_follows_too() {
    // One for the client to keep, two for the noise.
    Pair::with_pool(3).alike(|wire| {
        each(
            wire,
            &[
                "DO $$ BEGIN PERFORM set_config('statement_timeout', '5s', false); END $$",
                "SHOW statement_timeout",
                "CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS $$SELECT set_config('work_mem', '99kB', false)$$",
                "SELECT pg_temp.f()",
                "SHOW work_mem",
                "DISCARD TEMP",
                "SHOW work_mem",
                "DO $$ BEGIN CREATE TEMP TABLE hidden AS SELECT 7 AS n; END $$",
                "SELECT n FROM hidden",
                "DROP TABLE hidden",
                "DO $$ BEGIN SET work_mem = '98kB'; RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END $$",
                "SHOW work_mem",
                "DO $$ BEGIN EXECUTE 'PREPARE secret AS SELECT 42'; END $$",
                "EXECUTE secret",
                "DEALLOCATE secret",
                "EXECUTE secret",
            ],
        );
    });
}

#[test]
fn custom_settings_that_only_bodies_and_parameters_name_follow() {
    Pair::alike_one_and_two(|wire| {
        // What others have used is empty where it was NULL; the runs before are others.
        let look = "SELECT name, nullif(current_setting('body.' || name, true), '') \
                    FROM unnest('{a,b,c,d,e}'::text[]) AS name";
        each(
            wire,
            &[
                "DO $$ BEGIN PERFORM set_config('Body.A', '1', false); END $$",
                look,
                "CREATE FUNCTION sets() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET body.b = 2; END $$",
                "CREATE FUNCTION sets_any(name text) RETURNS text LANGUAGE sql AS $$ SELECT set_config(name, '3', false) $$",
                "SELECT sets()",
                look,
                "DO $$ BEGIN PERFORM sets_any('body.c'); END $$",
                look,
            ],
        );
        wire.batch(&[msg::extended("SELECT sets_any($1)", &[Some("body.d")])]);
        each(
            wire,
            &[
                look,
                "RESET ALL",
                look,
                "CREATE OR REPLACE FUNCTION sets() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET body.e = 5; END $$",
                "SELECT sets()",
                look,
            ],
        );
    });
}

/// Nobody can ask for a setting by a name that is put together where nobody sees it; so its server is kept.
#[test]
fn custom_settings_whose_names_are_computed_stay_where_they_are() {
    Pair::with_pool(3).alike(|wire| {
        wire.query(
            "CREATE FUNCTION set_for(key text, value text) RETURNS text LANGUAGE plpgsql AS \
             $$ BEGIN RETURN set_config('app.' || key, value, false); END $$",
        );
        each(
            wire,
            &[
                "SELECT set_for('tenant', 'seven')",
                "SELECT current_setting('app.tenant', true)",
                "SELECT Set_For('tenant', 'eight')",
                "SELECT current_setting('app.tenant', true)",
                "RESET ALL",
                "SELECT nullif(current_setting('app.tenant', true), '')",
                "SELECT set_config('app.' || 'of_sql', 'nine', false)",
                "SELECT current_setting('app.of_sql', true)",
                "BEGIN; RESET ALL; ROLLBACK",
                "SELECT current_setting('app.of_sql', true)",
                "DISCARD ALL",
                "DO $$ DECLARE k text := 'block'; BEGIN EXECUTE 'SET app.' || k || ' = ten'; END $$",
                "SELECT current_setting('app.block', true)",
                "DISCARD ALL",
                "SELECT nullif(current_setting('app.block', true), '')",
                "DO $$ DECLARE p text := 'app'; BEGIN EXECUTE format('SET %s.%s = 11', p, 'format'); END $$",
                "SELECT current_setting('app.format', true)",
                "DISCARD ALL",
                "PREPARE late AS SELECT set_for('prepared', 'twelve')",
                "EXECUTE late",
                "DEALLOCATE late",
                "SELECT current_setting('app.prepared', true)",
            ],
        );
    });
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let mut wire = Wire::app(howdah.target());
    let mut console = Console::open(howdah.target());
    let mut pin = || console.show("CLIENTS").row(&[("database", "app")])["pin"].clone();
    wire.query("DO $$ BEGIN PERFORM set_config('app.' || 'x', 'local', true); END $$");
    assert_eq!(pin(), "");
    wire.query("DO $$ BEGIN PERFORM set_config('app.' || 'x', 'mine', false); END $$");
    wait_until("it is kept", || pin() == "custom");
    wire.query("RESET ALL");
    wait_until("it is shared again", || pin().is_empty());
}

/// Nothing is known of functions when there is a new one, and these are called far behind in what is run.
#[test]
fn functions_that_compute_names_are_found_wherever_they_are_called_for_the_first_time() {
    Pair::with_pool(3).alike(|wire| {
        wire.query(
            "CREATE FUNCTION set_for(key text, value text) RETURNS text LANGUAGE sql AS \
             $$ SELECT set_config('app.' || key, value, false) $$",
        );
        let far = format!("SELECT '{}'", "far ".repeat(50));
        let first = "SELECT set_for('first', 'one')";
        wire.query(&format!("BEGIN; {far}; {first}; COMMIT"));
        wire.query("SELECT current_setting('app.first', true)");
        wire.query("DISCARD ALL");
        wire.query("CREATE FUNCTION another() RETURNS int LANGUAGE sql AS 'SELECT 1'");
        wire.query("BEGIN");
        wire.query(&far);
        wire.query("SELECT another()");
        wire.query("DO $$ BEGIN PERFORM set_for('second', 'two'); END $$");
        wire.query("COMMIT");
        wire.query("SELECT current_setting('app.second', true)");
        wire.query("DISCARD ALL");
        wire.query("CREATE OR REPLACE FUNCTION another() RETURNS int LANGUAGE sql AS 'SELECT 2'");
        let bound = msg::extended("SELECT set_for($1, 'three')", &[Some("third")]);
        wire.batch(&[msg::extended(&far, &[]), bound]);
        wire.query("SELECT current_setting('app.third', true)");
    });
}

/// Also of those whose names nothing tells, for which no server is kept.
#[test]
fn no_value_of_a_setting_is_ever_another_clients() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    cluster.sql(
        "CREATE FUNCTION public.hide(name text) RETURNS void LANGUAGE plpgsql AS \
         $$ BEGIN EXECUTE concat('SE', 'T hidden', chr(46), name, ' = ', quote_literal('secret')); END $$",
    );
    let [mut one, mut two] = [(); 2].map(|()| Wire::app(howdah.target()));
    let look = "SELECT current_setting('hidden.a', true)";
    for text in [
        "SELECT public.hide('a')",
        "DO $$ BEGIN EXECUTE concat('SE', 'T hidden', '.a = ', quote_literal('secret')); END $$",
        "SELECT query_to_xml(concat('SELECT set', '_config(''hidden', chr(46), 'a'', ''secret'', false)'), true, true, '')",
    ] {
        one.query(text);
        assert_eq!(one.value(look), "secret", "{text}");
        let found = two.query(look);
        let value = found.rows[0][0].as_deref();
        assert_eq!(value.unwrap_or_default(), "", "{text}");
    }
}

#[test]
fn temporary_objects_cursors_and_prepared_statements_stay_for_as_long_as_they_exist() {
    // One for the client to keep, two for the noise.
    Pair::with_pool(3).alike(|wire| {
        each(
            wire,
            &[
                "CREATE TEMP TABLE t (n int)",
                "INSERT INTO t VALUES (1), (2)",
                "SELECT count(*) FROM t",
                "CREATE TEMP VIEW v AS SELECT n + 1 AS m FROM t",
                "SELECT sum(m) FROM v",
                "DROP TABLE t CASCADE",
                "SELECT count(*) FROM t",
                "CREATE TEMP TABLE gone (n int) ON COMMIT DROP",
                "SELECT count(*) FROM gone",
                "DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT generate_series(1, 9)",
                "FETCH 3 FROM c",
                "FETCH BACKWARD 2 FROM c",
                "MOVE 4 FROM c",
                "FETCH ALL FROM c",
                "CLOSE c",
                "FETCH 1 FROM c",
                "PREPARE p (int) AS SELECT $1 + 1",
                "EXECUTE p (41)",
                "PREPARE p (int) AS SELECT $1 + 2",
                "DEALLOCATE p",
                "EXECUTE p (41)",
                "BEGIN",
                "CREATE TEMP TABLE undone (n int)",
                "ROLLBACK",
                "SELECT count(*) FROM undone",
                "SELECT 1 AS n INTO TEMP selected",
                "SELECT n FROM selected",
                "DISCARD ALL",
                "SELECT n FROM selected",
            ],
        );
    });
}

/// Whatever moment the path is of in which they are made.

#[test]
fn session_locks_are_held_until_they_are_given_back() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 3);
    let [mut holder, mut other, mut noise] = [(); 3].map(|()| Wire::app(howdah.target()));
    holder.query("SELECT pg_advisory_lock(7)");
    for _ in 0..5 {
        assert_eq!(noise.value("SELECT 1"), "1");
        assert_eq!(other.value("SELECT pg_try_advisory_lock(7)"), "f");
    }
    assert_eq!(holder.value("SELECT pg_advisory_unlock(7)"), "t");
    assert_eq!(other.value("SELECT pg_try_advisory_lock(7)"), "t");
    other.vanish();
    let deadline = Instant::now() + Duration::from_secs(10);
    while holder.value("SELECT pg_try_advisory_lock(7)") != "t" {
        assert!(
            Instant::now() < deadline,
            "the lock of a client that is gone is kept"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn reset_leads_back_to_what_the_client_logged_in_with() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let login = |target| {
        let params = [
            ("user", "app"),
            ("database", "app"),
            ("application_name", "mine"),
            ("TimeZone", "Asia/Tokyo"),
            (
                "options",
                "-c statement_timeout=30s -capp.own=1 --lock_timeout=40s",
            ),
        ];
        Wire::login_with(target, &params, None).expect("the parameters are good")
    };
    let questions = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'), \
                     current_setting('timezone'), current_setting('application_name'), current_setting('app.own', true)";
    let mut noise = Wire::app(howdah.target());
    for change in [
        "RESET ALL",
        "DISCARD ALL",
        "RESET timezone",
        "SET statement_timeout TO DEFAULT",
        "BEGIN; RESET ALL; COMMIT",
        "BEGIN; RESET ALL; ROLLBACK",
        "RESET ALL; SELECT 1/0",
        "DO $$ BEGIN RESET statement_timeout; END $$",
        "SELECT set_config('statement_timeout', NULL, false), set_config('TimeZone', NULL::text, false)",
    ] {
        let told = |target, noise: Option<&mut Wire>| {
            let mut wire = login(target);
            wire.query("SET statement_timeout = '5s'; SET timezone = 'CET'; SET application_name = 'other'");
            // What a new session of the server has; a RESET that is undone leaves it.
            wire.query("SET app.own = ''");
            wire.query(change);
            if let Some(noise) = noise {
                noise.query("BEGIN");
                let answer = format!("{:?}", wire.query(questions));
                noise.query("COMMIT");
                return answer;
            }
            format!("{:?}", wire.query(questions))
        };
        let direct = told(cluster.target(), None);
        assert_eq!(told(howdah.target(), None), direct, "after {change}");
        assert_eq!(
            told(howdah.target(), Some(&mut noise)),
            direct,
            "after {change}, elsewhere"
        );
    }
}

#[test]
fn roles_follow_and_never_leak() {
    let cluster = Cluster::start();
    cluster.sql("CREATE ROLE writer; GRANT writer TO app; ALTER ROLE app SET work_mem = '77kB'");
    let howdah = Howdah::with_pool(&cluster, 2);
    let [mut one, mut two] = [(); 2].map(|()| Wire::app(howdah.target()));
    one.query("SET ROLE writer");
    for _ in 0..4 {
        assert_eq!(one.value("SELECT current_user"), "writer");
        assert_eq!(two.value("SELECT current_user"), "app");
        assert_eq!(two.value("SHOW work_mem"), "77kB");
        two.query("BEGIN");
        assert_eq!(one.value("SELECT current_user"), "writer");
        two.query("COMMIT");
    }
    cluster.sql("REVOKE writer FROM app");
    one.query("SET ROLE NONE");
    assert_eq!(one.value("SELECT current_user"), "app");
}

#[test]
fn no_statement_runs_under_settings_that_failed_to_apply() {
    let cluster = Cluster::start();
    cluster.sql("CREATE ROLE writer; GRANT writer TO app");
    cluster.sql_in("app", "CREATE TABLE who (name text); GRANT ALL ON who TO PUBLIC");
    let howdah = Howdah::with_pool(&cluster, 1);
    let [mut one, mut two] = [(); 2].map(|()| Wire::app(howdah.target()));
    one.query("SET ROLE writer");
    assert_eq!(two.value("SELECT current_user"), "app");
    cluster.sql("REVOKE writer FROM app");
    one.send(&msg::query("INSERT INTO who VALUES (current_user)"));
    let error = one.expect_fatal();
    assert_eq!(error.code(), "42501", "{error:?}");
    if howdah.is_howdah() {
        let why = &error.0[&'D'];
        assert_eq!(why, "The server says: permission denied to set role \"writer\".");
    }
    assert_eq!(two.value("SELECT count(*) FROM who"), "0");
}

#[test]
fn pins_end_with_their_reason_and_the_server_is_shared_again() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let [mut one, mut two] = [(); 2].map(|()| Wire::app(howdah.target()));
    for (begin, end) in [
        ("CREATE TEMP TABLE t (n int)", "DROP TABLE t"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c"),
        ("SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"),
        ("PREPARE p AS SELECT 1", "DEALLOCATE p"),
        ("LISTEN ch", "UNLISTEN ch"),
        ("CREATE TEMP TABLE t (n int)", "DISCARD ALL"),
    ] {
        one.query(begin);
        one.query(end);
        assert_eq!(two.value("SELECT 1"), "1", "after {end}");
    }
}

/// Also where something of the client's own is put back first, and though it says nothing more.
#[test]
fn discard_all_ends_a_pin_at_once() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let wishes = [
        ("user", "app"),
        ("database", "app"),
        ("options", "-c statement_timeout=9s"),
    ];
    let mut wire = Wire::login_with(howdah.target(), &wishes, None).expect("it may");
    let mut console = Console::open(howdah.target());
    wire.query("CREATE TEMP TABLE kept (n int)");
    wire.query("DISCARD ALL");
    wait_until("it is shared again", || {
        console.show("CLIENTS").row(&[("database", "app")])["pin"].is_empty()
    });
}

#[test]
fn who_waits_for_a_server_keeps_no_permission_from_those_who_have_one() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let [mut pinned, mut patient, mut first, mut second] =
        std::array::from_fn(|_| Wire::app(howdah.target()));
    pinned.query("CREATE TEMP TABLE t (a int)");
    patient.send(&msg::query("CREATE TEMP TABLE t (a int)"));
    first.query("BEGIN");
    first.send(&msg::query("CREATE TEMP TABLE t (a int)"));
    second.send(&msg::query("BEGIN"));
    second.expect_silence(Duration::from_millis(200));
    // Both servers are in transactions that go on once somebody may be pinned.
    pinned.query("DROP TABLE t");
    assert_eq!(second.kinds_until_ready(), "CZ");
    second.send(&msg::query("CREATE TEMP TABLE t (a int)"));
    second.expect_silence(Duration::from_millis(200));
    for wire in [&mut first, &mut second] {
        assert_eq!(wire.kinds_until_ready(), "CZ");
        wire.query("ROLLBACK");
    }
    assert_eq!(patient.kinds_until_ready(), "CZ");
}

#[test]
fn what_reset_and_discard_take_away_is_put_back_and_told_in_every_mode() {
    let cluster = Cluster::start();
    for mode in ["transaction", "session"] {
        let howdah = Howdah::before(&cluster).set("pool_mode", mode).start();
        let asked = [
            ("user", "app"),
            ("database", "app"),
            ("TimeZone", "Asia/Tokyo"),
            ("options", "-c statement_timeout=2h"),
        ];
        let mut wire = Wire::login_with(howdah.target(), &asked, None).expect("a login");
        let rewinds: [&[&str]; 4] = [
            &["RESET ALL"],
            &["DISCARD ALL"],
            &["RESET TimeZone"],
            // Not in a transaction: it fails, and what the transaction has set is gone.
            &["BEGIN", "SET TimeZone = 'UTC'", "DISCARD ALL", "ROLLBACK"],
        ];
        for rewind in rewinds {
            wire.query("SET TimeZone = 'Europe/Berlin'");
            wire.query("RESET TimeZone");
            if rewind.len() == 1 {
                wire.query("SET TimeZone = 'Europe/Berlin'");
            }
            for sql in rewind {
                wire.query(sql);
            }
            assert_eq!(wire.params["TimeZone"], "Asia/Tokyo", "{mode}: {rewind:?}");
            assert_eq!(wire.value("SHOW TimeZone"), "Asia/Tokyo", "{mode}: {rewind:?}");
            assert_eq!(wire.value("SHOW statement_timeout"), "2h", "{mode}: {rewind:?}");
        }
        wire.terminate();
    }
}

/// What no setting tells of, the last value of a sequence for one, is on a client's last server: it is had again where
/// nobody else has come to need it.
#[test]
fn a_client_meets_its_last_server_again_while_there_are_others() {
    let pair = Pair::with_pool(4);
    let mut wires = [(); 4].map(|()| Wire::app(pair.howdah.target()));
    each(&mut wires[0], &["CREATE SEQUENCE s"]);
    for sql in ["BEGIN", "COMMIT"] {
        for wire in &mut wires {
            wire.query(sql);
        }
    }
    for round in 0..5 {
        let values = wires.each_mut().map(|wire| wire.value("SELECT nextval('s')"));
        for (wire, value) in wires.iter_mut().zip(values).rev() {
            assert_eq!(wire.value("SELECT currval('s')"), value, "round {round}");
            assert_eq!(wire.value("SELECT lastval()"), value, "round {round}");
        }
    }
}

#[test]
fn any_number_of_settings_follows() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let (mut wire, mut other) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
    // PostgreSQL allows 1,664 columns in a statement.
    let sets: Vec<_> = (0..1700).map(|n| format!("SET a.b{n} = {n}")).collect();
    for sets in sets.chunks(850) {
        assert_eq!(wire.query(&sets.join(";")).code(), "");
    }
    assert_eq!(
        other.value("SELECT coalesce(nullif(current_setting('a.b1699', true), ''), 'none')"),
        "none"
    );
    for n in [0, 999, 1000, 1699] {
        assert_eq!(wire.value(&format!("SHOW a.b{n}")), n.to_string());
    }
}
