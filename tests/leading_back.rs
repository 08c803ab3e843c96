//! RESET leads back to what the client logged in with before anything else of the client's runs: in the same query, in the same
//! batch, in the same transaction. What runs behind it under the server's own default would run in the wrong place.

mod common;

use common::console::Console;
use common::{Cluster, Howdah, Pair, Target, Wire, msg};

const OWN: [(&str, &str); 3] = [
    ("TimeZone", "Asia/Tokyo"),
    ("application_name", "mine"),
    (
        "options",
        "-c search_path=tenant -c role=reader -c work_mem=8MB -c app.own=1",
    ),
];

/// Where a statement runs.
const WHERE: &str = "SELECT current_schema(), current_user, current_setting('work_mem'), current_setting('app.own', true), \
     current_setting('TimeZone'), current_setting('application_name'), current_setting('search_path')";

const RESETS: [&str; 7] = [
    "RESET search_path",
    "RESET ALL",
    "SET search_path TO DEFAULT",
    "SET work_mem = DEFAULT",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET TIME ZONE DEFAULT",
];

const LOCAL_RESETS: [&str; 3] = [
    "SET LOCAL search_path TO DEFAULT",
    "SET LOCAL ROLE DEFAULT",
    "SET LOCAL TIME ZONE DEFAULT",
];

/// Before a pool of one there is the default version, else one that reports the `search_path`.
fn tenants(size: u32) -> Pair {
    let cluster = if size == 1 {
        Cluster::start()
    } else {
        Cluster::version(18)
    };
    cluster.sql(
        "CREATE ROLE reader; CREATE ROLE writer; GRANT reader, writer TO app; CREATE SCHEMA tenant; CREATE SCHEMA other;
         GRANT ALL ON SCHEMA tenant, other TO reader, writer; CREATE TABLE tenant.mine (n int);
         CREATE TABLE other.mine (n int); GRANT ALL ON ALL TABLES IN SCHEMA tenant, other TO reader, writer",
    );
    let howdah = Howdah::with_pool(&cluster, size);
    Pair::of(cluster, howdah, size)
}

/// Something else than what the client has logged in with.
fn go_elsewhere(wire: &mut Wire) {
    wire.query("RESET ROLE");
    wire.query("SET search_path = other; SET work_mem = '9MB'; SET app.own = 'other'; SET TIME ZONE 'UTC'");
    wire.query("SET ROLE writer");
}

fn one_and_two(script: impl Fn(&mut Wire)) {
    for size in [1, 2] {
        tenants(size).alike_as(&OWN, &script);
    }
}

#[test]
fn what_stands_behind_a_reset_in_the_same_query_runs_where_the_client_logged_in() {
    one_and_two(|wire| {
        for reset in RESETS {
            go_elsewhere(wire);
            wire.query(&format!("{reset}; {WHERE}"));
            wire.query(WHERE);
            go_elsewhere(wire);
            wire.query(&format!(
                "{WHERE}; {reset} /* here */; SELECT 1; {WHERE}; {reset}; {reset};"
            ));
            wire.query(&format!("BEGIN; {reset} -- a;b\n; {WHERE}; ROLLBACK; {WHERE}"));
            wire.query(WHERE);
            wire.query(&format!("{reset}; {WHERE}; SELECT 1/0"));
            wire.query(WHERE);
        }
        wire.query("RESET search_path; INSERT INTO mine VALUES (1); SELECT count(*) FROM tenant.mine");
        wire.query("RESET search_path; COPY mine TO STDOUT; SELECT count(*) FROM other.mine");
        wire.query("RESET search_path; TRUNCATE tenant.mine; TRUNCATE other.mine");
    });
}

#[test]
fn what_stands_behind_a_reset_in_the_same_batch_runs_where_the_client_logged_in() {
    one_and_two(|wire| {
        for reset in RESETS {
            let steps = [reset, WHERE].map(|sql| msg::extended(sql, &[]));
            go_elsewhere(wire);
            wire.batch(&steps);
            wire.query(WHERE);
            go_elsewhere(wire);
            wire.batch(&[&steps[..], &[msg::extended("SELECT 1/0", &[])]].concat());
            wire.query(WHERE);
            wire.batch(&[msg::parse("reset", reset), msg::parse("where", WHERE)]);
            wire.query("BEGIN");
            wire.batch(&["where", "reset", "where"].map(|name| msg::run(name, &[])));
            wire.query("ROLLBACK");
            wire.batch(&["where", "reset", "where", "reset", "where"].map(|name| msg::run(name, &[])));
            wire.query("DEALLOCATE ALL");
        }
    });
}

#[test]
fn a_reset_for_the_transaction_leads_where_the_client_logged_in() {
    one_and_two(|wire| {
        for reset in LOCAL_RESETS {
            go_elsewhere(wire);
            wire.query(&format!("{WHERE}; {reset}; {WHERE}"));
            wire.query(reset);
            wire.query("BEGIN");
            wire.query(reset);
            wire.query(WHERE);
            wire.query("COMMIT");
            wire.query(WHERE);
            wire.query("BEGIN");
            wire.query("SAVEPOINT s");
            wire.batch(&[msg::extended(reset, &[]), msg::extended(WHERE, &[])]);
            wire.query("ROLLBACK TO s");
            wire.query(WHERE);
            wire.query("COMMIT");
        }
    });
}

/// What such a call returns is what the server has by default.
#[test]
fn a_setting_that_is_set_to_null_leads_where_the_client_logged_in() {
    let pair = tenants(1);
    let told = |target| {
        let login = [&[("user", "app"), ("database", "app")], &OWN[..]].concat();
        let mut wire = Wire::login_with(target, &login, None).expect("a login");
        let mut found = Vec::new();
        for reset in [
            "SELECT set_config('search_path', NULL, false)",
            "SELECT pg_catalog.set_config('app.own', NULL, false)",
            "SELECT set_config('work_mem', null, true)",
        ] {
            go_elsewhere(&mut wire);
            found.extend(wire.query(&format!("{reset}; {WHERE}")).rows.pop());
            found.extend(wire.query(WHERE).rows);
            go_elsewhere(&mut wire);
            let batch = [reset, WHERE].map(|sql| msg::extended(sql, &[]));
            found.extend(wire.extended(&batch).rows.pop());
            found.extend(wire.query(WHERE).rows);
            go_elsewhere(&mut wire);
            // Nobody knows whether that is called.
            wire.query(&format!("{reset} WHERE now() > '2001-01-01'"));
            found.extend(wire.query(WHERE).rows);
        }
        found
    };
    assert_eq!(told(pair.howdah.target()), told(pair.cluster.target()));
}

#[test]
fn discard_all_in_a_batch_leads_where_the_client_logged_in() {
    one_and_two(|wire| {
        go_elsewhere(wire);
        wire.batch(&["DISCARD ALL", WHERE].map(|sql| msg::extended(sql, &[])));
        wire.query(WHERE);
        go_elsewhere(wire);
        wire.batch(&["DISCARD ALL", "SET work_mem = '4MB'", "SELECT 1/0"].map(|sql| msg::extended(sql, &[])));
        wire.query(WHERE);
        go_elsewhere(wire);
        // Neither is among others for PostgreSQL.
        wire.batch(&["DISCARD ALL", "DISCARD ALL", WHERE, "DISCARD ALL"].map(|sql| msg::extended(sql, &[])));
        wire.query(WHERE);
    });
}

#[test]
fn what_is_put_back_hinders_nothing_that_may_come_behind_it() {
    one_and_two(|wire| {
        go_elsewhere(wire);
        let serializable = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
        wire.query(&format!(
            "RESET ALL; BEGIN; {serializable}; SHOW transaction_isolation; COMMIT"
        ));
        wire.query("BEGIN");
        wire.query("RESET ALL");
        wire.query(serializable);
        wire.query("ROLLBACK");
        wire.batch(
            &["RESET ALL", serializable, "SHOW transaction_isolation"].map(|sql| msg::extended(sql, &[])),
        );
        // What is set again to the server's default is the client's wish.
        wire.query("RESET work_mem; SET work_mem = '4MB'; SHOW work_mem");
        wire.query("SHOW work_mem");
        for sql in [
            "BEGIN",
            "RESET ALL",
            "SET work_mem = '4MB'",
            "COMMIT",
            "SHOW work_mem",
        ] {
            wire.query(sql);
        }
        let to_null = "SELECT set_config('work_mem', $1, false) IS NULL";
        wire.batch(&[
            msg::extended(to_null, &[None]),
            msg::extended("SHOW work_mem", &[]),
            msg::extended("SET work_mem = '5MB'", &[]),
        ]);
        wire.query("SHOW work_mem");
        wire.batch(&["RESET app.own", "SET app.own = 'new'"].map(|sql| msg::extended(sql, &[])));
        wire.query("SHOW app.own");
    });
}

#[test]
fn errors_speak_of_the_place_in_the_clients_own_text() {
    one_and_two(|wire| {
        for sql in [
            "RESET search_path; SELECT nothing FROM mine",
            "SELECT 'é'; RESET ALL; SELECT 'é'; SELECT n FROM mine; RESET search_path; SELECT n, é FROM mine",
            "SELECT oops; RESET search_path; SELECT 1",
            "RESET search_path; SELECT n FROM mine; this is not SQL",
            "RESET search_path; SELECT 'unterminated",
        ] {
            wire.query(sql);
            let error = wire.query(sql).error.expect("it fails");
            wire.transcript.push(format!("{error:?}"));
        }
    });
}

#[test]
fn semicolons_within_statements_are_not_taken_for_their_ends() {
    one_and_two(|wire| {
        wire.query(
            "CREATE FUNCTION other.f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END; RESET search_path;
             SELECT count(*) FROM mine; DO $$ BEGIN PERFORM 1; END $$; RESET search_path; SELECT 'RESET search_path;' AS a;;",
        );
        wire.query("DROP FUNCTION other.f");
    });
}

/// A path that SET would spell in another way, and one that has to be quoted.
#[test]
fn a_path_keeps_its_spelling() {
    for path in [
        "tenant,other",
        "\"tenant\"",
        "other, \"A b\"",
        "\"$user\", tenant",
    ] {
        let options = format!(
            "-c search_path={}",
            path.replace('\\', "\\\\").replace(' ', "\\ ")
        );
        tenants(1).alike_as(&[("options", &options)], |wire| {
            wire.query("SET search_path = public");
            wire.query("RESET search_path; SHOW search_path; SELECT 1");
            wire.query("SET search_path = public");
            wire.batch(&["RESET ALL", "SHOW search_path"].map(|sql| msg::extended(sql, &[])));
            wire.query("SHOW search_path");
        });
    }
}

/// In session mode nobody asks what has been set, and RESET leads back all the same.
#[test]
fn in_session_mode_it_is_the_same() {
    let Pair { cluster, .. } = tenants(1);
    let howdah = Howdah::before(&cluster).set("pool_mode", "session").start();
    let told = |target| {
        let login = [&[("user", "app"), ("database", "app")], &OWN[..]].concat();
        let mut wire = Wire::login_with(target, &login, None).expect("a login");
        for reset in RESETS.iter().chain(&LOCAL_RESETS) {
            go_elsewhere(&mut wire);
            wire.query(&format!("{reset}; {WHERE}"));
            go_elsewhere(&mut wire);
            wire.batch(&[*reset, WHERE].map(|sql| msg::extended(sql, &[])));
            wire.query(WHERE);
        }
        let mut lines = std::mem::take(&mut wire.transcript);
        lines.retain(|line| !line.starts_with("S ") && !line.starts_with("K "));
        lines
    };
    assert_eq!(told(howdah.target()), told(cluster.target()));
}

/// Somebody who has logged in with a setting of their own, and somebody who takes turns on the server.
fn with_own(target: Target, own: &str) -> (Wire, Wire) {
    let options = [("user", "app"), ("database", "app"), ("options", own)];
    let wire = Wire::login_with(target, &options, None).expect("it logs in");
    (wire, Wire::app(target))
}

/// Beside what nobody can look into.
#[test]
fn what_is_set_to_the_default_is_no_reset_to_what_the_client_has_logged_in_with() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for target in [cluster.target(), howdah.target()] {
        let (mut wire, mut other) = with_own(target, "-c statement_timeout=5s -c work_mem=7MB");
        for (sql, name, value, own) in [
            (
                "SET statement_timeout = 0; DO $$ BEGIN END $$",
                "statement_timeout",
                "0",
                "5s",
            ),
            (
                "DO $$ BEGIN END $$; SET statement_timeout = 0",
                "statement_timeout",
                "0",
                "5s",
            ),
            (
                "RESET ALL; SET work_mem = '4MB'; DO $$ BEGIN END $$",
                "work_mem",
                "4MB",
                "7MB",
            ),
            (
                "DO $$ BEGIN SET work_mem = '4MB'; END $$",
                "work_mem",
                "4MB",
                "7MB",
            ),
            (
                "SET work_mem = '9MB'; DO $$ BEGIN RESET work_mem; END $$",
                "work_mem",
                "7MB",
                "7MB",
            ),
            (
                "SAVEPOINT a; SET work_mem = '4MB'; ROLLBACK TO a; DO $$ BEGIN RESET work_mem; END $$",
                "work_mem",
                "7MB",
                "7MB",
            ),
        ] {
            wire.query(&format!("BEGIN; {sql}; COMMIT"));
            other.query("SELECT 1");
            assert_eq!(wire.value(&format!("SHOW {name}")), value, "{sql}");
            wire.query(&format!("RESET {name}"));
            assert_eq!(wire.value(&format!("SHOW {name}")), own, "{sql}");
        }
    }
}

#[test]
fn what_a_block_resets_comes_back_also_on_a_server_that_is_kept() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for target in [cluster.target(), howdah.target()] {
        let (mut wire, _) = with_own(target, "-c work_mem=7MB -c TimeZone=Asia/Tokyo");
        for keeps in [true, false] {
            if keeps {
                wire.query("SELECT pg_advisory_lock(1)");
            } else {
                wire.query("SELECT pg_advisory_unlock(1)");
            }
            for name in ["work_mem", "TimeZone"] {
                let own = wire.value(&format!("SHOW {name}"));
                wire.query(&format!("DO $$ BEGIN RESET {name}; END $$"));
                assert_eq!(wire.value(&format!("SHOW {name}")), own, "keeps: {keeps}");
                assert_eq!(wire.params["TimeZone"], "Asia/Tokyo", "keeps: {keeps}");
            }
        }
    }
}

/// A server's default is what the client wants then, wherever it goes on.
#[test]
fn who_has_gone_back_to_the_servers_encoding_stays_there() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for target in [cluster.target(), howdah.target()] {
        let (mut wire, _) = with_own(target, "-c client_encoding=LATIN1 -c application_name=mine");
        wire.query("SET client_encoding = 'UTF8'; SET application_name = ''");
        if howdah.target() == target {
            Console::open(target).does("RECONNECT");
        }
        wire.query("DO $$ BEGIN END $$");
        assert_eq!(wire.value("SELECT octet_length('é')"), "2");
        assert_eq!(wire.params["client_encoding"], "UTF8");
        assert_eq!(wire.value("SHOW application_name"), "");
    }
}

/// However long its message is.
#[test]
fn an_error_undoes_a_reset() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for target in [cluster.target(), howdah.target()] {
        let (mut wire, _) = with_own(target, "-c work_mem=7MB");
        wire.query("SET work_mem = '9MB'");
        for len in [10, 70_000] {
            let fails = format!("DO $$ BEGIN RAISE '%', repeat('x', {len}); END $$");
            assert_eq!(wire.query(&format!("RESET ALL; {fails}")).code(), "P0001");
            assert_eq!(wire.value("SHOW work_mem"), "9MB", "{len}");
        }
    }
}
