//! What a text means depends on settings. Whatever a client sets, and however it sends that, what others prepare means to
//! them what it means on a connection of their own, and no text does what nobody has read in it.

mod common;

use common::console::{Console, number};
use common::net::wait_until;
use common::{Cluster, Howdah, Pair, Wire, msg};

/// What a session of its own prepares by this text is told it means.
fn meant(pair: &Pair, text: &str, asked: &[(&str, &str)]) {
    let run = |target| {
        let who = [("user", "app"), ("database", "app")];
        let mut wire = Wire::login_with(target, &[&who, asked].concat(), None).expect("a login");
        let parsed = wire.batch(&[msg::parse("t", text)]);
        let answer = wire.extended(&[msg::run("t", &[])]);
        (
            parsed,
            answer.rows,
            answer.error.map(|error| error.code().to_owned()),
        )
    };
    assert_eq!(run(pair.howdah.target()), run(pair.cluster.target()), "{text}");
}

/// A statement whose literal means another time in another time zone.
fn midnight(year: u32) -> String {
    format!("SELECT '{year}-01-01 00:00'::timestamptz AT TIME ZONE 'UTC'")
}

/// Sends these together, of which so many end with a `ReadyForQuery`.
fn together(wire: &mut Wire, messages: &[Vec<u8>], ends: usize) {
    wire.send(&messages.concat());
    for _ in 0..ends {
        wire.until_ready();
    }
}

#[test]
fn what_is_prepared_behind_a_setting_of_the_transaction_is_nobody_elses() {
    let pair = Pair::with_pool(3);
    let app = || Wire::app(pair.howdah.target());
    let parse = |year| msg::parse("s", &midnight(year));
    let tokyo = [("TimeZone", "Asia/Tokyo")];
    let set = "SET LOCAL TimeZone = 'Asia/Tokyo'";
    let call = "SELECT set_config('TimeZone', 'Asia/Tokyo', true)";

    let mut wire = app();
    wire.query("BEGIN");
    together(
        &mut wire,
        &[
            msg::extended(set, &[]),
            parse(2031),
            msg::sync(),
            msg::query("COMMIT"),
        ],
        2,
    );
    meant(&pair, &midnight(2031), &[]);

    let mut wire = app();
    let begin = msg::query(&format!("BEGIN; {set}"));
    together(
        &mut wire,
        &[begin, parse(2032), msg::sync(), msg::query("COMMIT")],
        3,
    );
    meant(&pair, &midnight(2032), &[]);

    let mut wire = app();
    wire.query(&format!("BEGIN; {set}"));
    together(&mut wire, &[msg::query("COMMIT"), parse(2033), msg::sync()], 2);
    meant(&pair, &midnight(2033), &tokyo);

    let mut wire = app();
    wire.query("BEGIN");
    wire.query("SET TimeZone = 'Asia/Tokyo'");
    together(&mut wire, &[msg::query("ROLLBACK"), parse(2034), msg::sync()], 2);
    meant(&pair, &midnight(2034), &tokyo);

    // A portal and a cursor that were made before.
    let mut wire = app();
    wire.query("BEGIN");
    wire.batch(&[msg::parse("", call), msg::bind("p", "", &[])]);
    together(
        &mut wire,
        &[
            msg::execute("p", 0),
            parse(2035),
            msg::sync(),
            msg::query("COMMIT"),
        ],
        2,
    );
    meant(&pair, &midnight(2035), &[]);

    let mut wire = app();
    wire.query(&format!("BEGIN; DECLARE c CURSOR FOR {call}"));
    together(
        &mut wire,
        &[
            msg::query("FETCH c"),
            parse(2036),
            msg::sync(),
            msg::query("COMMIT"),
        ],
        3,
    );
    meant(&pair, &midnight(2036), &[]);
}

/// Settings of which servers do not tell: neither within the transaction, nor where another server prepares it again.
#[test]
fn settings_that_servers_do_not_report_change_no_other_clients_statement() {
    let pair = Pair::with_pool(2);
    pair.cluster
        .sql("CREATE SCHEMA apart; CREATE TABLE apart.there (n int); GRANT USAGE ON SCHEMA apart TO app");
    for (setting, text) in [
        ("transform_null_equals = on", "SELECT (null::int = null)"),
        ("array_nulls = off", "SELECT ('{NULL}'::text[])[1] IS NULL"),
        ("search_path = apart", "SELECT count(*) FROM there"),
    ] {
        for set in ["SET LOCAL", "SET"] {
            // Another text for each.
            let text = format!("{text} AS \"{set}\"");
            let mut wire = Wire::app(pair.howdah.target());
            wire.query("BEGIN");
            wire.query(&format!("{set} {setting}"));
            wire.batch(&[msg::parse("s", &text)]);
            wire.query("ROLLBACK");
            meant(&pair, &text, &[]);
        }
    }
}

#[test]
fn a_statement_is_prepared_anew_under_all_settings_that_decided_its_meaning() {
    Pair::alike_one_and_two(|wire| {
        // PostgreSQL reads statements that are older than this again, under the settings of that moment.
        wire.query("CREATE TABLE passing (); DROP TABLE passing");
        wire.batch(&[msg::parse(
            "s",
            "SELECT (null::int = null), ('{NULL}'::text[])[1] IS NULL",
        )]);
        wire.query("SET transform_null_equals = on");
        wire.query("SET array_nulls = off");
        for _ in 0..3 {
            wire.batch(&[msg::run("s", &[])]);
            wire.query("SHOW transform_null_equals");
        }
        wire.batch(&[msg::parse(
            "t",
            "SELECT (null::int = null), ('{NULL}'::text[])[1] IS NULL",
        )]);
        wire.query("RESET ALL");
        for _ in 0..3 {
            wire.batch(&[msg::run("t", &[]), msg::run("s", &[])]);
            wire.query("SHOW array_nulls");
        }
    });
}

/// With a backslash in them, texts are one thing or another: what they set where strings are read in the old way (`OFF`),
/// or as the standard has it (`ON`).
const OFF_READS: &str = "SELECT 'a\\', $$ '; SET work_mem = '55MB'; SET ROLE lowly; --$$";
const ON_READS: &str = "SELECT 'a\\'; SET work_mem = '55MB'; SET ROLE lowly; --'";
const OFF_CALLS: &str = "SELECT 'a\\', ', set_config('work_mem', '55MB', false) --'";

/// One way after the other, a client sets what its next text means, and the others find nothing of what that sets.
fn sets_nothing(way: impl Fn(&mut Wire)) {
    let pair = Pair::with_pool(2);
    pair.cluster.sql("CREATE ROLE lowly; GRANT lowly TO app");
    let mut wire = Wire::app(pair.howdah.target());
    way(&mut wire);
    let mut others = [(); 2].map(|()| Wire::app(pair.howdah.target()));
    wire.query("ROLLBACK");
    for other in &mut others {
        other.query("BEGIN");
        let found = other.value("SELECT current_setting('work_mem') || ' ' || current_user");
        assert_eq!(found, "4MB app");
    }
}

#[test]
fn no_text_behind_a_setting_sets_what_nobody_has_read_in_it() {
    let queries = |texts: [&str; 3]| texts.map(msg::query);
    sets_nothing(|wire| {
        wire.query("BEGIN");
        let off = "SET LOCAL standard_conforming_strings = off";
        together(wire, &queries([off, OFF_READS, "COMMIT"]), 3);
    });
    sets_nothing(|wire| {
        wire.query("BEGIN");
        wire.query("SET standard_conforming_strings = off");
        together(wire, &queries(["ROLLBACK", ON_READS, "SELECT 1"]), 3);
    });
    sets_nothing(|wire| {
        let off = "SELECT set_config('standard_conforming_strings', 'off', false)";
        wire.query("BEGIN");
        wire.batch(&[msg::parse("", off), msg::bind("p", "", &[])]);
        let [reads, commit] = [OFF_READS, "COMMIT"].map(msg::query);
        together(wire, &[msg::execute("p", 0), msg::sync(), reads, commit], 3);
    });
}

#[test]
fn no_statement_sets_what_nobody_has_read_in_it() {
    sets_nothing(|wire| {
        let off = "SET LOCAL standard_conforming_strings = off";
        wire.query("BEGIN");
        wire.batch(&[msg::extended(off, &[]), msg::extended(OFF_CALLS, &[])]);
        wire.query("COMMIT");
    });
    sets_nothing(|wire| {
        wire.query("SET standard_conforming_strings = off");
        wire.batch(&[msg::parse("s", OFF_CALLS)]);
        wire.query("SET standard_conforming_strings = on");
        wire.batch(&[msg::run("s", &[])]);
    });
}

#[test]
fn what_is_created_by_a_statement_that_was_harmless_before_the_path_changed_stays() {
    // One for the client to keep, two for the noise.
    Pair::with_pool(3).alike(|wire| {
        wire.batch(&[msg::parse("s", "CREATE TABLE made (n int)")]);
        wire.batch(&[msg::run("s", &[])]);
        wire.query("SET search_path = pg_temp, public");
        wire.batch(&[msg::run("s", &[])]);
        wire.query("SELECT count(*) FROM pg_class WHERE relname = 'made'");
        wire.query("DROP TABLE pg_temp.made");
        wire.query("SELECT count(*) FROM made");
    });
}

/// A RESET among others, and behind it something that would need a server of its own and may not have one.
#[test]
fn settings_stay_the_clients_that_is_turned_away_behind_a_reset() {
    let cluster = Cluster::start();
    let config = Howdah::before(&cluster)
        .set("default_pool_size", "2")
        .set("max_pinned", "1");
    let howdah = config.set("query_wait_timeout", "1s").start();
    if !howdah.is_howdah() {
        return;
    }
    let mut keeps = Wire::app(howdah.target());
    keeps.query("CREATE TEMP TABLE kept (n int)");
    let asked = [
        ("user", "app"),
        ("database", "app"),
        ("options", "-c statement_timeout=5s"),
    ];
    let mut wire = Wire::login_with(howdah.target(), &asked, None).expect("a login");
    let set = "SET work_mem = '88MB'; SET search_path = evil; RESET statement_timeout";
    wire.send(&[msg::query(set), msg::query("CREATE TEMP TABLE mine (n int)")].concat());
    wire.until_ready();
    let mut console = Console::open(howdah.target());
    wait_until("it has given its server back", || {
        number(&console.pool("app", "app"), "sv_idle") == 1
    });
    let mut other = Wire::app(howdah.target());
    let found = "SELECT current_setting('work_mem') || current_setting('search_path')";
    assert_eq!(other.value(found), "4MB\"$user\", public");
    assert_eq!(wire.answer().code(), "53300");
    assert_eq!(wire.value(found), "88MBevil");
}

/// Its server waits for nothing that the last client would have had to wait for.
#[test]
fn defaults_of_transactions_that_wait_for_others_keep_no_other_client_waiting() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut last = Wire::app(howdah.target());
    last.query(
        "SET default_transaction_isolation = serializable; SET default_transaction_read_only = on;
         SET default_transaction_deferrable = on",
    );
    last.query("SET statement_timeout = '1ms'");
    let mut writes = Wire::app(cluster.target());
    writes.query("CREATE TABLE written (n int)");
    writes.query("BEGIN ISOLATION LEVEL SERIALIZABLE");
    writes.query("INSERT INTO written VALUES (1)");
    for _ in 0..20 {
        assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
        // Set again, for the next one to find.
        last.query("SET statement_timeout = '1ms'");
    }
    writes.query("ROLLBACK");
}

/// What is prepared again for one client, on a server that lacks it, behind a setting of the transaction.
#[test]
fn a_statement_that_is_prepared_again_behind_a_setting_is_nobody_elses() {
    let pair = Pair::with_pool(2);
    let [mut first, mut second] = [(); 2].map(|()| Wire::app(pair.howdah.target()));
    for (year, set) in [
        (2041, "SET LOCAL TimeZone = 'Asia/Tokyo'"),
        (2042, "SET TimeZone = 'Asia/Tokyo'"),
    ] {
        first.batch(&[msg::parse("s", &midnight(year))]);
        first.batch(&[msg::run("s", &[])]);
        // The other server is the one that is left.
        second.query("BEGIN");
        let mut wire = Wire::app(pair.howdah.target());
        wire.batch(&[msg::parse("s", &midnight(year))]);
        wire.query("BEGIN");
        wire.batch(&[msg::extended(set, &[]), msg::run("s", &[])]);
        wire.query("ROLLBACK");
        wire.terminate();
        for _ in 0..2 {
            meant(&pair, &midnight(year), &[]);
        }
        second.query("COMMIT");
        for _ in 0..3 {
            meant(&pair, &midnight(year), &[]);
        }
        first.batch(&[msg::close_statement("s")]);
    }
}

/// What a client has prepared behind a setting of its own, in the same batch or transaction, goes on meaning what it
/// meant, on whatever server.
#[test]
fn a_statement_keeps_the_settings_behind_which_it_was_prepared() {
    let alike = |set: &str, text: &str, ends: &[&str]| {
        Pair::alike_one_and_two(|wire| {
            // PostgreSQL reads statements that are older than this again, under the settings of that moment.
            wire.query("CREATE TABLE passing (); DROP TABLE passing");
            for (name, end) in ["a", "b"].iter().zip(ends) {
                wire.query("BEGIN");
                // In one batch, and each by itself.
                if *name == "a" {
                    wire.batch(&[msg::extended(set, &[]), msg::parse(name, text)]);
                } else {
                    wire.query(set);
                    wire.batch(&[msg::parse(name, text)]);
                }
                wire.query(end);
            }
            for _ in 0..3 {
                for name in ["a", "b"] {
                    wire.batch(&[msg::run(name, &[])]);
                    // Behind a setting that is not known yet either.
                    wire.query("BEGIN");
                    wire.batch(&[
                        msg::extended("SET LOCAL TimeZone = 'America/Lima'", &[]),
                        msg::run(name, &[]),
                        msg::extended("SHOW TimeZone", &[]),
                    ]);
                    wire.query("ROLLBACK");
                }
                wire.query("SELECT current_setting('TimeZone'), current_setting('transform_null_equals')");
            }
        });
    };
    for ends in [["COMMIT", "COMMIT"], ["ROLLBACK", "COMMIT"]] {
        for set in ["SET LOCAL", "SET"] {
            alike(&format!("{set} TimeZone = 'Asia/Tokyo'"), &midnight(2051), &ends);
            let text = "SELECT (null::int = null), '2051-01-01 00:00'::timestamptz AT TIME ZONE 'UTC'";
            alike(&format!("{set} transform_null_equals = on"), text, &ends);
        }
    }
}

#[test]
fn the_unnamed_statement_keeps_the_settings_under_which_it_was_prepared() {
    Pair::alike_one_and_two(|wire| {
        wire.query("CREATE TABLE passing (); DROP TABLE passing");
        let text = "SELECT (null::int = null), '2052-01-01 00:00'::timestamptz AT TIME ZONE 'UTC'";
        // A simple query would end it.
        for (name, set) in [
            ("zone", "SET TimeZone = 'Asia/Tokyo'"),
            ("null", "SET transform_null_equals = on"),
            ("other", "SET TimeZone = 'America/Lima'"),
        ] {
            wire.batch(&[msg::parse(name, set)]);
        }
        for names in [["zone", "other"], ["null", "zone"]] {
            wire.batch(&[msg::parse("", text)]);
            for name in names {
                wire.batch(&[msg::run(name, &[])]);
                wire.batch(&[msg::run("", &[])]);
                wire.batch(&[msg::run("", &[]), msg::run(name, &[]), msg::run("", &[])]);
            }
        }
    });
}

/// PostgreSQL reads what is prepared anew, under the settings of that moment, once something has reset a session's plans.
#[test]
fn what_others_do_to_the_plans_of_a_server_changes_no_meaning() {
    let pair = Pair::with_pool(1);
    pair.cluster.sql("ALTER ROLE app SUPERUSER");
    for (year, resets) in [
        (2061, "DISCARD PLANS"),
        (2062, "SET session_replication_role = replica"),
        (2063, "CREATE TEMP TABLE passing () ON COMMIT DROP"),
        (2064, "SET search_path = pg_catalog"),
    ] {
        let [mut wire, mut other] = [(); 2].map(|()| Wire::app(pair.howdah.target()));
        wire.batch(&[msg::parse("s", &midnight(year))]);
        other.batch(&[msg::parse("t", &midnight(year))]);
        let meant = wire.extended(&[msg::run("s", &[])]).value().to_owned();
        wire.query("SET TimeZone = 'Asia/Tokyo'");
        other.query(resets);
        // The one with other settings is served first: were it read anew for that, it would stay so.
        assert_eq!(wire.extended(&[msg::run("s", &[])]).value(), meant, "{resets}");
        assert_eq!(other.extended(&[msg::run("t", &[])]).value(), meant, "{resets}");
        assert_eq!(wire.extended(&[msg::run("s", &[])]).value(), meant, "{resets}");
        assert_eq!(wire.value("SHOW TimeZone"), "Asia/Tokyo");
    }
}
