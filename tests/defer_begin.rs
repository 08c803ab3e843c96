//! `defer_begin`: a bare BEGIN takes no server before there is something to do, and that is all that it changes.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::alike::Pair;
use common::console::Console;
use common::howdah::Config;
use common::net::wait_until;
use common::{Cluster, Howdah, Wire, msg};
use rustix::process::Signal;

const SECOND: Duration = Duration::from_secs(1);
const IN_TRANSACTION: &str = "state LIKE 'idle in transaction%'";

fn deferring(cluster: &Cluster, size: i64) -> Config {
    Howdah::before(cluster)
        .set("default_pool_size", size)
        .set("defer_begin", true)
}

fn one(cluster: &Cluster) -> Option<Howdah> {
    let howdah = deferring(cluster, 1).start();
    howdah.is_howdah().then_some(howdah)
}

/// What PostgreSQL answers, through pools of one server and of two.
#[track_caller]
fn alike(script: impl Fn(&mut Wire)) {
    for size in [1, 2] {
        let cluster = Cluster::start();
        let howdah = deferring(&cluster, i64::from(size)).start();
        Pair::of(cluster, howdah, size).alike(&script);
    }
}

#[test]
fn every_way_through_a_transaction_looks_as_it_does_without() {
    alike(|wire| {
        wire.query("CREATE TABLE t (a int PRIMARY KEY)");
        for (begin, end) in [
            ("BEGIN", "COMMIT"),
            ("begin work;", "END"),
            ("/* x */ START TRANSACTION", "ROLLBACK"),
            ("BEGIN TRANSACTION", "ABORT WORK"),
        ] {
            // With nothing in it.
            wire.query(begin);
            wire.query(end);
            // With a statement, and with one that fails.
            wire.query(begin);
            wire.query("INSERT INTO t VALUES ((SELECT coalesce(max(a), 0) + 1 FROM t))");
            wire.query("SELECT count(*) FROM t");
            wire.query(end);
            wire.query(begin);
            wire.query("SELECT 1/0");
            wire.query("SELECT 1");
            wire.query(end);
            wire.query(begin);
            wire.query("SELEC");
            wire.query(end);
        }
        wire.query("SELECT a FROM t ORDER BY a");
        // With options, twice, at the wrong time.
        wire.query("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY");
        wire.query("SHOW transaction_isolation");
        wire.query("COMMIT");
        wire.query("BEGIN");
        wire.query("BEGIN");
        wire.query("COMMIT");
        wire.query("COMMIT");
        wire.query("BEGIN; SELECT 2");
        wire.query("COMMIT");
        wire.query("BEGIN");
        wire.query("COMMIT AND CHAIN");
        wire.query("ROLLBACK");
        wire.query("BEGIN");
        wire.query("");
        wire.query("SET TRANSACTION READ ONLY");
        wire.query("INSERT INTO t VALUES (100)");
        wire.query("ROLLBACK");
        wire.query("BEGIN");
        wire.query("SAVEPOINT s");
        wire.query("SELECT 1/0");
        wire.query("ROLLBACK TO s");
        wire.query("COMMIT");
    });
}

#[test]
fn the_extended_protocol_goes_on_in_the_transaction() {
    alike(|wire| {
        wire.query("CREATE TABLE t (a int)");
        wire.batch(&[msg::parse("s1", "INSERT INTO t VALUES ($1)")]);
        wire.query("BEGIN");
        wire.batch(&[msg::run("s1", &[Some("1")])]);
        wire.batch(&[msg::run("s1", &[Some("x")])]);
        wire.batch(&[msg::run("s1", &[Some("2")])]);
        wire.query("COMMIT");
        // What needs no server meanwhile knows that there is a transaction.
        wire.query("BEGIN");
        wire.batch(&[]);
        wire.batch(&[
            msg::parse("s2", "SELECT count(*) FROM t"),
            msg::describe_statement("s2"),
        ]);
        wire.query("ROLLBACK");
        wire.query("BEGIN");
        wire.batch(&[msg::close_statement("s1")]);
        wire.query("DEALLOCATE s2");
        wire.query("DEALLOCATE s2");
        wire.query("ROLLBACK");
        wire.query("BEGIN");
        wire.batch(&[
            msg::extended("SELECT $1::int / 0", &[Some("1")]),
            msg::extended("SELECT 1", &[]),
        ]);
        wire.query("COMMIT");
        // The unnamed statement is gone after a simple query.
        wire.batch(&[msg::parse("", "SELECT 7")]);
        wire.query("BEGIN");
        wire.batch(&[msg::bind("", "", &[]), msg::execute("", 0)]);
        wire.query("ROLLBACK");
        wire.query("BEGIN");
        wire.batch(&[
            msg::parse("", "DECLARE c CURSOR FOR SELECT generate_series(1, 3)"),
            msg::run("", &[]),
        ]);
        wire.query("FETCH 2 FROM c");
        wire.query("COMMIT");
        wire.batch(&[msg::extended("BEGIN", &[])]);
        wire.batch(&[msg::extended("SELECT 1", &[])]);
        wire.batch(&[msg::extended("COMMIT", &[])]);
    });
}

#[test]
fn what_is_sent_behind_begin_without_waiting_is_answered_in_order() {
    alike(|wire| {
        wire.query("CREATE TABLE t (a int)");
        let together = |wire: &mut Wire, parts: &[&str]| {
            let bytes: Vec<u8> = parts.iter().flat_map(|sql| msg::query(sql)).collect();
            wire.send(&bytes);
            for _ in parts {
                wire.until_ready();
            }
        };
        together(
            wire,
            &["BEGIN", "INSERT INTO t VALUES (1)", "COMMIT", "SELECT * FROM t"],
        );
        together(wire, &["BEGIN", "COMMIT", "BEGIN", "ROLLBACK"]);
        together(wire, &["BEGIN", "SELECT 1/0", "SELECT 2", "COMMIT"]);
        together(
            wire,
            &[
                "BEGIN",
                "CREATE TEMP TABLE x (a int) ON COMMIT DROP",
                "SELECT * FROM x",
                "COMMIT",
            ],
        );
        wire.send(&[msg::query("BEGIN"), msg::query("COPY t FROM STDIN")].concat());
        wire.until_ready();
        wire.expect("G");
        wire.send(&[msg::copy_data(b"5\n"), msg::copy_done()].concat());
        wire.until_ready();
        wire.query("COMMIT");
        wire.query("SELECT * FROM t ORDER BY a");
    });
}

#[test]
fn session_state_follows_from_within() {
    alike(|wire| {
        wire.query("BEGIN");
        wire.query("SET TimeZone = 'Asia/Tokyo'");
        wire.query("COMMIT");
        wire.query("SHOW TimeZone");
        wire.query("BEGIN");
        wire.query("SET LOCAL TimeZone = 'UTC'");
        wire.query("SHOW TimeZone");
        wire.query("ROLLBACK");
        wire.query("SHOW TimeZone");
        wire.query("BEGIN");
        wire.query("RESET TimeZone");
        wire.query("ROLLBACK");
        wire.query("SHOW TimeZone");
    });
    // A client that keeps its server has one to begin on.
    let cluster = Cluster::start();
    let howdah = deferring(&cluster, 2).start();
    Pair::of(cluster, howdah, 2).alike(|wire| {
        wire.query("BEGIN");
        wire.query("CREATE TEMP TABLE x (a int)");
        wire.query("COMMIT");
        wire.query("BEGIN");
        wire.query("SELECT * FROM x");
        wire.query("COMMIT");
        wire.query("DROP TABLE x");
    });
}

#[test]
fn a_begin_takes_no_server() {
    let cluster = Cluster::start();
    let Some(howdah) = one(&cluster) else { return };
    let mut clients: Vec<Wire> = (0..5).map(|_| Wire::app(howdah.target())).collect();
    for client in &mut clients {
        assert_eq!(client.query("BEGIN").status, 'T');
    }
    assert_eq!(cluster.backends(IN_TRANSACTION), 0);
    for client in &mut clients {
        assert_eq!(client.value("SELECT 1"), "1");
        assert_eq!(cluster.backends(IN_TRANSACTION), 1);
        assert_eq!(client.query("COMMIT").status, 'I');
    }
}

#[test]
fn begin_is_never_put_off_where_that_could_hide_its_error() {
    let cluster = Cluster::start();
    let Some(howdah) = one(&cluster) else { return };
    let mut wire = Wire::app(howdah.target());
    wire.query("BEGIN READ ONLY");
    assert_eq!(cluster.backends(IN_TRANSACTION), 1);
    wire.query("COMMIT");
    let session = deferring(&cluster, 1).set("pool_mode", "session").start();
    let mut wire = Wire::app(session.target());
    wire.query("BEGIN");
    assert_eq!(cluster.backends(IN_TRANSACTION), 1);
}

#[test]
fn the_limits_of_idle_transactions_hold_without_a_server() {
    let cluster = Cluster::start();
    let Some(howdah) = one(&cluster) else { return };
    let ended = |wire: &mut Wire, code: &str| {
        let start = Instant::now();
        let error = wire.expect_fatal();
        let after = start.elapsed();
        assert!(after > SECOND / 2 && after < SECOND * 8, "{after:?}");
        assert_eq!(error.code(), code, "{error:?}");
        error.message().to_owned()
    };
    let mut wire = Wire::app(howdah.target());
    wire.query("SET idle_in_transaction_session_timeout = '1s'");
    wire.query("BEGIN");
    let said = ended(&mut wire, "25P03");
    let mut direct = Wire::app(cluster.target());
    direct.query("SET idle_in_transaction_session_timeout = '1s'");
    direct.query("BEGIN");
    assert_eq!(said, ended(&mut direct, "25P03"));
    cluster.sql("ALTER ROLE trust_u SET idle_in_transaction_session_timeout = '1s'");
    let mut wire = Wire::login(howdah.target(), "trust_u", "app");
    wire.query("BEGIN");
    assert_eq!(said, ended(&mut wire, "25P03"));
    // After the end of the transaction it is of no concern.
    let mut wire = Wire::app(howdah.target());
    wire.query("SET idle_in_transaction_session_timeout = '1s'");
    wire.query("BEGIN");
    wire.query("COMMIT");
    thread::sleep(SECOND * 2);
    assert_eq!(wire.value("SELECT 1"), "1");
    drop(howdah);
    let howdah = deferring(&cluster, 1)
        .set("idle_transaction_timeout", "1s")
        .start();
    let mut wire = Wire::app(howdah.target());
    wire.query("BEGIN");
    assert!(ended(&mut wire, "25P03").contains("idle_transaction_timeout"));
    let howdah = deferring(&cluster, 1).set("transaction_timeout", "1s").start();
    let mut wire = Wire::app(howdah.target());
    wire.query("BEGIN");
    assert!(ended(&mut wire, "25P04").contains("transaction_timeout"));
}

#[test]
fn a_client_that_gets_no_server_for_its_transaction_is_told_and_ended() {
    let cluster = Cluster::start();
    let howdah = deferring(&cluster, 1).set("query_wait_timeout", "1s").start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    let mut holder = Wire::app(howdah.target());
    holder.query("BEGIN; SELECT 1");
    wire.query("BEGIN");
    wire.send(&msg::query("SELECT 1"));
    assert_eq!(wire.expect_fatal().code(), "57014");
    // Nor can it be told that its transaction has failed when it cancels while it waits.
    let mut wire = Wire::app(howdah.target());
    let key = wire.key.clone().expect("a key");
    wire.query("BEGIN");
    common::wire::cancel(howdah.target(), &key);
    assert_eq!(wire.query("COMMIT").status, 'I', "there was nothing to cancel");
    wire.query("BEGIN");
    wire.send(&msg::query("SELECT 1"));
    Console::open(howdah.target()).wait_for_waiting(1);
    common::wire::cancel(howdah.target(), &key);
    let error = wire.expect_fatal();
    assert!(error.message().contains("user request"), "{error:?}");
    holder.query("COMMIT");
    assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
}

#[test]
fn no_statement_runs_outside_the_transaction_that_it_belongs_to() {
    let cluster = Cluster::start();
    cluster.sql("CREATE TABLE t (a int); GRANT ALL ON t TO app");
    let Some(howdah) = one(&cluster) else { return };
    // So short a limit may strike BEGIN itself, when the client believes to be in a transaction.
    let login = || {
        let mut wire = Wire::app(howdah.target());
        wire.query("SET statement_timeout = 1");
        wire
    };
    let mut wire = login();
    for _ in 0..200 {
        wire.query("BEGIN");
        wire.send(&msg::query("INSERT INTO t SELECT 2 FROM pg_sleep(0.0005)"));
        match wire.try_answer() {
            // It may strike ROLLBACK too, which then has to be said again, as to PostgreSQL itself.
            Ok(_) => while wire.query("ROLLBACK").status != 'I' {},
            Err(_) => wire = login(),
        }
    }
    assert_eq!(cluster.value("SELECT count(*) FROM t"), "0");
}

#[test]
fn orders_find_a_client_in_its_transaction() {
    let cluster = Cluster::start();
    cluster.sql("CREATE TABLE t (a int); GRANT ALL ON t TO app");
    let Some(mut howdah) = one(&cluster) else { return };
    let mut console = Console::open(howdah.target());
    let mut wire = Wire::app(howdah.target());
    wire.query("BEGIN");
    let id = console.show("CLIENTS").row(&[("user", "app")])["id"].clone();
    console.does(&format!("KILL_CLIENT {id}"));
    assert_eq!(wire.expect_fatal().code(), "57P01");
    drop(console);
    // Who is in a transaction may end it; who ends one that was never begun leaves likewise.
    let mut busy = Wire::app(howdah.target());
    let mut empty = Wire::app(howdah.target());
    let mut idle = Wire::app(howdah.target());
    busy.query("BEGIN");
    empty.query("BEGIN");
    idle.value("SELECT 1");
    howdah.signal(Signal::TERM);
    assert_eq!(idle.expect_fatal().code(), "57P01");
    assert_eq!(busy.query("INSERT INTO t VALUES (1)").tags, ["INSERT 0 1"]);
    assert_eq!(busy.query("COMMIT").tags, ["COMMIT"]);
    assert_eq!(busy.expect_fatal().code(), "57P01");
    assert_eq!(empty.query("COMMIT").tags, ["COMMIT"]);
    assert_eq!(empty.expect_fatal().code(), "57P01");
    assert!(howdah.wait_exit(SECOND * 10).success());
    wait_until("the row is there", || {
        cluster.value("SELECT count(*) FROM t") == "1"
    });
}
