//! What becomes of session state that cannot follow its client: `session_state`, `opaque` and `max_pinned`.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::console::{Console, number};
use common::howdah::Config;
use common::net::{eventually, wait_until};
use common::{Cluster, Howdah, Wire, msg};

const PID: &str = "SELECT pg_backend_pid()";
const TEMP: &str = "CREATE TEMP TABLE t (a int)";
/// Whether anything that could not follow is left on the server.
const LEFT: &str = "SELECT (SELECT count(*) FROM pg_cursors WHERE is_holdable) \
                    + (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) \
                    + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) \
                    + (SELECT count(*) FROM pg_prepared_statements WHERE from_sql) \
                    + (SELECT count(*) FROM pg_listening_channels())";

/// What pins, and what ends it.
const KINDS: [(&str, [&str; 2]); 4] = [
    (TEMP, ["DROP TABLE t", "DISCARD TEMP"]),
    (
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        ["CLOSE c", "CLOSE ALL"],
    ),
    (
        "SELECT pg_advisory_lock(1)",
        ["SELECT pg_advisory_unlock(1)", "SELECT pg_advisory_unlock_all()"],
    ),
    ("PREPARE p AS SELECT 1", ["DEALLOCATE p", "DEALLOCATE ALL"]),
];

fn before(cluster: &Cluster, size: i64) -> Config {
    Howdah::before(cluster).set("default_pool_size", size)
}

#[track_caller]
fn does(wire: &mut Wire, sql: &str) {
    let answer = wire.query(sql);
    assert!(answer.error.is_none(), "{sql}: {:?}", answer.error);
}

/// Somebody else gets the only server within a moment.
#[track_caller]
fn is_free(howdah: &Howdah) {
    let mut other = Wire::app(howdah.target());
    other.patience = Duration::from_secs(5);
    assert_eq!(other.value(LEFT), "0");
    other.terminate();
}

/// One client may be pinned, and is.
fn full(wait: &str) -> Option<(Cluster, Howdah, Wire)> {
    let cluster = Cluster::start();
    let howdah = before(&cluster, 3)
        .set("max_pinned", 1)
        .set("query_wait_timeout", wait)
        .start();
    if !howdah.is_howdah() {
        return None;
    }
    let mut pinned = Wire::app(howdah.target());
    does(&mut pinned, TEMP);
    Some((cluster, howdah, pinned))
}

#[test]
fn past_max_pinned_a_statement_waits_and_then_fails_before_it_runs() {
    let Some((_cluster, howdah, mut pinned)) = full("1s") else {
        return;
    };
    let mut wire = Wire::app(howdah.target());
    does(&mut wire, "CREATE TABLE ran (a int)");
    let beside = "INSERT INTO ran SELECT 1 FROM pg_advisory_lock(9)";
    for sql in [
        TEMP,
        beside,
        "SELECT pg_advisory_lock(1)",
        "PREPARE p AS SELECT 1",
    ] {
        let start = Instant::now();
        let answer = wire.query(sql);
        assert_eq!((answer.code(), answer.status), ("53300", 'I'), "{sql}");
        let waited = start.elapsed();
        assert!(
            waited > Duration::from_millis(800) && waited < Duration::from_secs(8),
            "{waited:?}"
        );
    }
    // In the extended protocol: what is behind it up to Sync is passed over.
    let answer = wire.extended(&[msg::extended(TEMP, &[]), msg::extended("SELECT 1", &[])]);
    assert_eq!(
        (answer.code(), answer.status, answer.rows.len()),
        ("53300", 'I', 0)
    );
    // In a transaction, which has failed then.
    does(&mut wire, "BEGIN");
    does(&mut wire, "INSERT INTO ran VALUES (1)");
    let answer = wire.query(TEMP);
    assert_eq!((answer.code(), answer.status), ("53300", 'E'));
    assert_eq!(wire.query("SELECT 1").code(), "25P02");
    assert_eq!(wire.query("COMMIT").tags, ["ROLLBACK"]);
    does(&mut wire, "BEGIN");
    let answer = wire.extended(&[
        msg::extended("INSERT INTO ran VALUES (2)", &[]),
        msg::extended(TEMP, &[]),
    ]);
    assert_eq!((answer.code(), answer.status), ("53300", 'E'));
    does(&mut wire, "ROLLBACK");
    assert_eq!(wire.value("SELECT count(*) FROM ran"), "0");
    assert_eq!(wire.value(LEFT), "0", "none of it has run");
    assert_eq!(pinned.value("SELECT count(*) FROM t"), "0");
    // As soon as there is room, it may.
    does(&mut pinned, "DROP TABLE t");
    does(&mut wire, TEMP);
    assert_eq!(pinned.query(TEMP).code(), "53300");
}

#[test]
fn a_statement_that_waits_runs_once_another_client_is_unpinned() {
    let Some((_cluster, howdah, mut pinned)) = full("1s") else {
        return;
    };
    for begin in [false, true] {
        let mut wire = Wire::app(howdah.target());
        if begin {
            does(&mut wire, "BEGIN");
            does(&mut wire, "SELECT 1");
        }
        wire.send(&msg::query("SELECT pg_advisory_lock(1)"));
        wire.expect_silence(Duration::from_millis(300));
        does(&mut pinned, "DROP TABLE t");
        assert!(wire.answer().error.is_none());
        does(&mut wire, "SELECT pg_advisory_unlock(1)");
        if begin {
            does(&mut wire, "COMMIT");
        }
        does(&mut pinned, TEMP);
    }
    // And one whose owner leaves.
    let mut wire = Wire::app(howdah.target());
    wire.send(&msg::query(TEMP));
    wire.expect_silence(Duration::from_millis(300));
    pinned.vanish();
    assert!(wire.answer().error.is_none());
}

#[test]
fn a_client_is_unpinned_as_soon_as_it_has_nothing_left() {
    let cluster = Cluster::start();
    let howdah = before(&cluster, 1).start();
    if !howdah.is_howdah() {
        return;
    }
    let mut console = Console::open(howdah.target());
    let mut wire = Wire::app(howdah.target());
    let id = console.show("CLIENTS").row(&[("user", "app")])["id"].clone();
    let mut is_pinned = || !console.show("CLIENTS").row(&[("id", &id)])["pin"].is_empty();
    for (make, ends) in KINDS {
        for end in ends.into_iter().chain(["DISCARD ALL"]) {
            for extended in [false, true] {
                does(&mut wire, make);
                wait_until("it is pinned", &mut is_pinned);
                if extended && end != "DEALLOCATE p" {
                    assert!(wire.extended(&[msg::extended(end, &[])]).error.is_none(), "{end}");
                } else {
                    does(&mut wire, end);
                }
                is_free(&howdah);
                assert!(!is_pinned(), "{end}");
            }
        }
    }
    for end in ["UNLISTEN a", "UNLISTEN *", "DISCARD ALL"] {
        does(&mut wire, "LISTEN a");
        does(&mut wire, end);
        is_free(&howdah);
    }
}

#[test]
fn what_ends_within_its_transaction_pins_nobody() {
    let cluster = Cluster::start();
    let howdah = before(&cluster, 1).start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    for (make, ends) in KINDS {
        does(&mut wire, "BEGIN");
        does(&mut wire, make);
        if make.contains("advisory") || make.contains("PREPARE") {
            // They do not care for transactions.
            does(&mut wire, ends[0]);
        }
        does(&mut wire, "ROLLBACK");
        is_free(&howdah);
    }
    does(
        &mut wire,
        "BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; COMMIT",
    );
    is_free(&howdah);
}

/// Ctrl-C, and a driver's time limit.
#[test]
fn who_waits_to_keep_a_server_can_be_cancelled() {
    let Some((_cluster, howdah, _pinned)) = full("60s") else {
        return;
    };
    let mut wire = Wire::app(howdah.target());
    let key = wire.key.clone().expect("a key");
    for (begin, status) in [("SELECT 1", 'I'), ("BEGIN", 'E')] {
        does(&mut wire, begin);
        wire.send(&msg::query("SELECT pg_advisory_lock(2)"));
        // The first may come before it waits.
        let patience = std::mem::replace(&mut wire.patience, Duration::from_millis(200));
        let error = eventually("it is cancelled", Duration::from_secs(20), || {
            let mut other = Wire::connect(howdah.target()).expect("it listens");
            other.send(&msg::cancel(key.0, &key.1));
            wire.try_read().ok()
        });
        wire.patience = patience;
        assert_eq!(error.error().code(), "57014", "after {begin}");
        assert_eq!(wire.answer().status, status);
        wire.query("ROLLBACK");
    }
    assert_eq!(wire.value("SELECT 'unharmed'"), "unharmed");
}

#[test]
fn refuse_turns_down_what_would_stay_and_lets_settings_follow() {
    let cluster = Cluster::start();
    let howdah = before(&cluster, 1).set("session_state", "refuse").start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    // Nobody leaves anything behind that would have the next refusal taken for a success.
    for kinds in ["1Z", "EZ"] {
        assert_eq!(wire.batch(&[msg::parse("taken", "SELECT 1")]), kinds);
    }
    let others = [
        "LISTEN a",
        "LOAD 'plpgsql'",
        "SELECT pg_create_physical_replication_slot('s', false, true)",
        "SELECT 1 INTO TEMP x",
        "BEGIN; CREATE TEMP TABLE t (a int); COMMIT",
    ];
    for sql in KINDS.map(|(make, _)| make).into_iter().chain(others) {
        let answer = wire.query(sql);
        let error = answer.error.expect("it is refused");
        assert_eq!((error.code(), answer.status), ("0A000", 'I'), "{sql}");
        assert!(error.0[&'H'].contains("session_state"), "{error:?}");
    }
    let answer = wire.extended(&[msg::extended(TEMP, &[]), msg::extended("SELECT 1", &[])]);
    assert_eq!(
        (answer.code(), answer.status, answer.rows.len()),
        ("0A000", 'I', 0)
    );
    does(&mut wire, "BEGIN");
    let answer = wire.query(TEMP);
    assert_eq!((answer.code(), answer.status), ("0A000", 'E'));
    does(&mut wire, "ROLLBACK");
    is_free(&howdah);
    // What stays within a transaction stays allowed.
    does(
        &mut wire,
        "BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; COMMIT",
    );
    does(&mut wire, "SELECT pg_advisory_xact_lock(1)");
    does(&mut wire, "NOTIFY a");
    does(&mut wire, "SET work_mem = '7MB'");
    is_free(&howdah);
    assert_eq!(wire.value("SHOW work_mem"), "7MB");
}

#[test]
fn refuse_ends_who_has_left_what_could_not_be_seen_beforehand() {
    let cluster = Cluster::start();
    let howdah = before(&cluster, 1).set("session_state", "refuse").start();
    if !howdah.is_howdah() {
        return;
    }
    let create = "CREATE FUNCTION take(n int) RETURNS bool LANGUAGE sql VOLATILE \
                  AS $$ SELECT pg_try_advisory_lock(n) $$";
    let mut wire = Wire::app(howdah.target());
    does(&mut wire, create);
    let server = wire.value(PID);
    let block = |hidden: &str| format!("DO $$ BEGIN {hidden}; END $$");
    for (sql, kind) in [
        ("SELECT take(5)".to_owned(), "lock"),
        (block("CREATE TEMP TABLE t (a int)"), "temp"),
        (block("PERFORM pg_advisory_lock(1)"), "lock"),
        (block("EXECUTE 'PREPARE p AS SELECT 1'"), "prepare"),
        (block("EXECUTE 'LISTEN a'"), "listen"),
        (
            "SELECT set_config('a.' || 'b', 'SECRET', false)".to_owned(),
            "custom",
        ),
    ] {
        let mut wire = Wire::app(howdah.target());
        does(&mut wire, &sql);
        let end = wire.expect_fatal();
        let detail = &end.0[&'D'];
        assert_eq!(end.code(), "0A000", "{sql}: {end:?}");
        let left_by = sql.split_whitespace().next().unwrap();
        for part in [kind, left_by] {
            assert!(detail.contains(part), "{part} in {detail}");
        }
        is_free(&howdah);
    }
    let log = howdah.log();
    let ends = log
        .lines()
        .filter(|line| line.contains("left session state behind"));
    assert!(ends.clone().all(|line| line.contains(" WARN ")), "{log}");
    assert_eq!((ends.count(), log.contains("SECRET")), (6, false), "{log}");
    // Settings follow all the same, and what has failed or ends with its transaction has left nothing.
    for sql in [
        "DO $$ BEGIN PERFORM set_config('work_mem', '9MB', false); END $$",
        "BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; COMMIT",
        "DO $$ BEGIN PERFORM pg_advisory_xact_lock(1); END $$",
    ] {
        does(&mut wire, sql);
    }
    assert_eq!(
        wire.query("SELECT set_config('a.' || 'b', (1/0)::text, false)")
            .code(),
        "22012"
    );
    assert_eq!(wire.value("SHOW work_mem"), "9MB");
    assert_eq!(wire.value(PID), server, "it was cleaned, not closed");
}

#[test]
fn trust_asks_about_nothing_that_is_not_said_openly() {
    let cluster = Cluster::start();
    let howdah = before(&cluster, 1).set("opaque", "trust").start();
    if !howdah.is_howdah() {
        return;
    }
    let mut console = Console::open(howdah.target());
    let mut wire = Wire::app(howdah.target());
    let mut pin = || console.show("CLIENTS").row(&[("user", "app")])["pin"].clone();
    does(&mut wire, "DO $$ BEGIN PERFORM pg_advisory_lock(1); END $$");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(pin(), "");
    // Trust was misplaced: the next one finds it.
    let mut other = Wire::app(howdah.target());
    assert_eq!(other.value(LEFT), "1");
    does(&mut other, "SELECT pg_advisory_unlock(1)");
    other.terminate();
    does(&mut wire, TEMP);
    wait_until("what is said openly still pins", || pin() == "temp");
    does(&mut wire, "DROP TABLE t");
    is_free(&howdah);
    does(&mut wire, "SET work_mem = '7MB'");
    is_free(&howdah);
    assert_eq!(wire.value("SHOW work_mem"), "7MB");
}

#[test]
fn ignore_follows_what_pgbouncer_follows_and_nothing_else() {
    let cluster = Cluster::start();
    let howdah = before(&cluster, 1).set("session_state", "ignore").start();
    if !howdah.is_howdah() {
        return;
    }
    let (mut one, mut other) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
    let zone = other.value("SHOW TimeZone");
    for sql in [
        "SET TimeZone = 'Asia/Tokyo'",
        "SET work_mem = '7MB'",
        TEMP,
        "PREPARE p AS SELECT 1",
    ] {
        does(&mut one, sql);
    }
    assert_eq!(
        other.value("SHOW TimeZone"),
        zone,
        "what is reported is a client's own"
    );
    assert_eq!(one.value("SHOW TimeZone"), "Asia/Tokyo");
    assert_eq!(other.value("SHOW work_mem"), "7MB", "the rest is the server's");
    assert_eq!(other.value("SELECT count(*) FROM t"), "0");
    assert_eq!(other.value("EXECUTE p"), "1");
    let mut console = Console::open(howdah.target());
    assert!(
        console
            .show("CLIENTS")
            .rows
            .iter()
            .all(|row| row["pin"].is_empty())
    );
}

#[test]
fn modes_are_the_database_s_or_the_user_s() {
    let cluster = Cluster::start();
    let location = |name: &str, mode: &str| format!("{} session_state={mode}", cluster.location(name));
    let howdah = before(&cluster, 2)
        .database("app", &location("app", "refuse"))
        .database("other", &cluster.location("other"))
        .user_set("trust_u", "session_state", "ignore")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    assert_eq!(Wire::app(howdah.target()).query(TEMP).code(), "0A000");
    let mut follows = Wire::login(howdah.target(), "app", "other");
    does(&mut follows, TEMP);
    does(&mut follows, "SELECT * FROM t");
    let mut ignored = Wire::login(howdah.target(), "trust_u", "other");
    does(&mut ignored, TEMP);
    let mut console = Console::open(howdah.target());
    let table = console.show("CLIENTS");
    assert_eq!(table.row(&[("user", "trust_u")])["pin"], "");
    assert_eq!(
        table.row(&[("user", "app"), ("database", "other")])["pin"],
        "temp"
    );
}

/// Prepared statements that a server has, as the console tells.
fn prepared(console: &mut Console) -> u64 {
    let servers = console.show("SERVERS");
    servers
        .rows
        .iter()
        .map(|row| number(row, "prepared_statements"))
        .sum()
}

#[test]
fn a_pinned_client_that_leaves_is_cleaned_up_after_and_no_more() {
    let cluster = Cluster::start();
    let howdah = before(&cluster, 1).start();
    if !howdah.is_howdah() {
        return;
    }
    let mut console = Console::open(howdah.target());
    let mut first = Wire::app(howdah.target());
    let server = first.value(PID);
    first.batch(&[msg::parse("s", "SELECT 1"), msg::run("s", &[])]);
    first.terminate();
    for (kinds, survives) in [
        (&KINDS[..1], true),
        (&KINDS[1..2], true),
        (&KINDS[2..3], true),
        (&KINDS[..3], true),
        (&KINDS[3..], false),
        (&KINDS[..], false),
    ] {
        for vanishes in [false, true] {
            let mut wire = Wire::app(howdah.target());
            wire.batch(&[msg::parse("s", "SELECT 1"), msg::run("s", &[])]);
            for (make, _) in kinds {
                does(&mut wire, make);
            }
            does(&mut wire, "SET work_mem = '7MB'");
            if vanishes {
                wire.vanish();
            } else {
                wire.terminate();
            }
            wait_until("the server is idle", || {
                console
                    .show("SERVERS")
                    .rows
                    .iter()
                    .all(|row| row["state"] == "idle")
            });
            let kept = prepared(&mut console);
            assert_eq!(kept > 0, survives, "{kinds:?} {vanishes}");
            let mut next = Wire::app(howdah.target());
            assert_eq!(next.value(LEFT), "0", "{kinds:?}");
            assert_eq!(next.value("SHOW work_mem"), "4MB");
            assert_eq!(next.value(PID), server);
            next.terminate();
        }
    }
    // In the middle of a transaction nobody knows what there is.
    let mut wire = Wire::app(howdah.target());
    does(&mut wire, TEMP);
    does(&mut wire, "BEGIN");
    does(&mut wire, "SELECT pg_advisory_lock(1)");
    wire.vanish();
    is_free(&howdah);
    assert_eq!(Wire::app(howdah.target()).value(PID), server);
}

#[test]
fn what_cannot_be_cleaned_costs_the_server() {
    let cluster = Cluster::start();
    let howdah = before(&cluster, 1).start();
    if !howdah.is_howdah() {
        return;
    }
    for (make, kind) in [
        ("LOAD 'plpgsql'", "sticky"),
        (
            "SELECT pg_create_physical_replication_slot('s', false, true)",
            "slot",
        ),
    ] {
        let mut console = Console::open(howdah.target());
        let mut wire = Wire::login(howdah.target(), "postgres", "app");
        let server = wire.value(PID);
        does(&mut wire, make);
        wait_until("it is pinned", || {
            console.show("CLIENTS").row(&[("user", "postgres")])["pin"] == kind
        });
        assert_eq!(wire.value(PID), server, "it stays where it is");
        wire.terminate();
        let mut next = Wire::login(howdah.target(), "postgres", "app");
        assert_ne!(next.value(PID), server, "{make}");
        wait_until("the slot is gone with its session", || {
            next.value("SELECT count(*) FROM pg_replication_slots") == "0"
        });
    }
}

/// Before anybody could ask what there is, and where nobody ever does.
#[test]
fn what_cannot_be_cleaned_costs_the_server_of_who_vanishes_and_in_session_mode_too() {
    let cluster = Cluster::start();
    let slot = "PERFORM pg_create_physical_replication_slot('s', false, true)";
    let vanishes = [
        "LOAD 'plpgsql'; SELECT pg_sleep(60)".to_owned(),
        "SELECT pg_create_physical_replication_slot('s', false, true), pg_sleep(60)".to_owned(),
    ];
    let block = format!("BEGIN; DO $$ BEGIN {slot}; END $$");
    let leaves = [
        "LOAD 'plpgsql'".to_owned(),
        format!("SELECT 1; {}", slot.replace("PERFORM", "SELECT")),
    ];
    for mode in ["transaction", "session"] {
        let howdah = before(&cluster, 1).set("pool_mode", mode).start();
        if !howdah.is_howdah() {
            return;
        }
        let changes_server = |does: &dyn Fn(Wire)| {
            let mut wire = Wire::login(howdah.target(), "postgres", "app");
            let server = wire.value(PID);
            does(wire);
            let mut next = Wire::login(howdah.target(), "postgres", "app");
            let changed = next.value(PID) != server;
            wait_until("the slot is gone with its session", || {
                next.value("SELECT count(*) FROM pg_replication_slots") == "0"
            });
            changed
        };
        for sql in &vanishes {
            assert!(
                changes_server(&|mut wire| {
                    wire.send(&msg::query(sql));
                    wait_until("it sleeps", || cluster.backends("wait_event = 'PgSleep'") == 1);
                    wire.vanish();
                }),
                "{mode}: {sql}"
            );
        }
        for sql in &leaves {
            assert!(
                changes_server(&|mut wire| {
                    does(&mut wire, sql);
                    wire.terminate();
                }),
                "{mode}: {sql}"
            );
        }
        assert!(
            changes_server(&|mut wire| {
                does(&mut wire, &block);
                wire.vanish();
            }),
            "{mode}: {block}"
        );
        assert!(
            !changes_server(&|wire| wire.terminate()),
            "{mode}: nothing was left"
        );
    }
}
