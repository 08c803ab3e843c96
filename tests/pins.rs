//! What is to be seen of clients that keep a server for their session state: console, metrics, log.

mod common;

use std::thread;
use std::time::Duration;

use common::console::{Console, get, metrics_port, number};
use common::net::{free_port, wait_until};
use common::{Cluster, Howdah, Wire, msg};
use rustix::process::Signal;

const LOCK: &str = "SELECT pg_advisory_lock(7)";

fn pooler(cluster: &Cluster) -> Howdah {
    Howdah::before(cluster)
        .set("default_pool_size", 4)
        .set("metrics_addr", format!("127.0.0.1:{}", free_port()))
        .start()
}

#[test]
fn a_client_that_keeps_its_server_is_seen_with_reason_statement_and_age() {
    let cluster = Cluster::start();
    let howdah = pooler(&cluster);
    if !howdah.is_howdah() {
        return;
    }
    let mut console = Console::open(howdah.target());
    let mut wire = Wire::app(howdah.target());
    let mut show = || {
        let clients = console.show("CLIENTS");
        let row = clients.row(&[("user", "app")]);
        ["pin", "pin_statement", "pin_age"].map(|column| row[column].clone())
    };
    assert_eq!(show(), ["", "", ""]);

    wire.query("CREATE TEMP TABLE secret_plan (a int,\n\t b int)");
    wait_until("it is seen", || show()[0] == "temp");
    assert_eq!(show()[1], "CREATE TEMP TABLE secret_plan (a int, b int)");
    thread::sleep(Duration::from_millis(1100));
    assert!(show()[2].parse::<u32>().unwrap() >= 1, "{:?}", show());
    // The first statement stays for as long as what it has left; kinds are added.
    wire.query(LOCK);
    wait_until("both are seen", || show()[0] == "temp,lock");
    assert_eq!(show()[1], "CREATE TEMP TABLE secret_plan (a int, b int)");

    let metrics = get(metrics_port(&howdah), "/metrics").body;
    for line in [
        "howdah_pinned_clients{reason=\"temp\"} 1",
        "howdah_pinned_clients{reason=\"lock\"} 1",
        "howdah_pinned_clients{reason=\"hold\"} 0",
        "howdah_pool_pinned{database=\"app\",user=\"app\"} 1",
        "howdah_pool_max_pinned{database=\"app\",user=\"app\"} 3",
    ] {
        assert!(metrics.lines().any(|have| have == line), "{line} in {metrics}");
    }
    assert!(
        !metrics.contains("secret_plan"),
        "texts are nobody's but the console's"
    );
    assert_eq!(
        wire.query("SHOW CLIENTS").code(),
        "42704",
        "it is PostgreSQL that is asked"
    );

    wire.query("DROP TABLE secret_plan");
    wait_until("the other one remains", || show()[0] == "lock");
    assert_eq!(show()[1], LOCK);
    assert!(show()[2].parse::<u32>().unwrap() < 1000);
    wire.query("SELECT pg_advisory_unlock(7)");
    wait_until("it is over", || show() == ["", "", ""]);
    wait_until("the pool is told", || {
        let metrics = get(metrics_port(&howdah), "/metrics").body;
        metrics.contains("howdah_pool_pinned{database=\"app\",user=\"app\"} 0")
    });
    let log = howdah.log();
    let line = log.lines().find(|line| line.contains("client keeps its server"));
    let line = line.expect("the first time is logged");
    for part in [" INFO ", "reason=temp", "secret_plan (a int, b int)"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert_eq!(log.matches("client keeps its server").count(), 1, "{log}");
}

#[test]
fn values_in_a_statement_are_not_shown() {
    let cluster = Cluster::start();
    let howdah = pooler(&cluster);
    if !howdah.is_howdah() {
        return;
    }
    let mut console = Console::open(howdah.target());
    let mut wire = Wire::app(howdah.target());
    wire.query("SELECT set_config('app.' || 'jwt', 'TOPSECRET', false)");
    let mut shown = String::new();
    wait_until("it is seen", || {
        shown = console.show("CLIENTS").row(&[("user", "app")])["pin_statement"].clone();
        !shown.is_empty()
    });
    assert_eq!(shown, "SELECT set_config('…' || '…', '…', false)");
    howdah.wait_log("client keeps its server");
    assert!(!howdah.log().contains("TOPSECRET"), "{}", howdah.log());
}

#[test]
fn a_load_that_failed_keeps_nothing() {
    let cluster = Cluster::start();
    let howdah = pooler(&cluster);
    if !howdah.is_howdah() {
        return;
    }
    let mut console = Console::open(howdah.target());
    let mut pin = || console.show("CLIENTS").row(&[("user", "app")])["pin"].clone();
    let mut wire = Wire::app(howdah.target());
    let server = wire.value("SELECT pg_backend_pid()");
    assert_eq!(wire.query("LOAD 'no_such_library'").code(), "42501");
    let failed = wire.extended(&[msg::extended("LOAD 'no_such_library'", &[])]);
    assert_eq!(failed.code(), "42501");
    assert_eq!(wire.value("SELECT pg_backend_pid()"), server);
    assert_eq!(pin(), "");
    wire.terminate();
    let mut other = Wire::app(howdah.target());
    assert_eq!(other.value("SELECT pg_backend_pid()"), server, "it is as it was");
    // One that did not fail does, and its server is closed with a word that says why.
    let mut postgres = Wire::login(howdah.target(), "postgres", "app");
    assert!(postgres.query("LOAD 'plpgsql'").error.is_none());
    postgres.terminate();
    howdah.wait_log("server is closed because it cannot be cleaned");
    let log = howdah.log();
    assert!(
        log.contains("cannot be cleaned: sticky\"") && !log.contains("08006"),
        "{log}"
    );
}

#[test]
fn sockets_keep_their_columns_whoever_keeps_a_server() {
    let cluster = Cluster::start();
    let howdah = pooler(&cluster);
    if !howdah.is_howdah() {
        return;
    }
    let mut console = Console::open(howdah.target());
    let mut wire = Wire::app(howdah.target());
    wire.query(LOCK);
    wait_until("it is seen", || {
        console.show("CLIENTS").row(&[("user", "app")])["pin"] == "lock"
    });
    for table in ["SOCKETS", "ACTIVE_SOCKETS"] {
        let table = console.show(table);
        assert!(!table.columns.iter().any(|column| column == "pin"));
        let client = table.row(&[("type", "C"), ("user", "app")]);
        assert_eq!(number(client, "send_avail"), 0);
    }
}

#[test]
fn a_statement_is_shown_on_one_line_and_not_to_its_end() {
    let cluster = Cluster::start();
    let howdah = pooler(&cluster);
    if !howdah.is_howdah() {
        return;
    }
    let mut console = Console::open(howdah.target());
    let mut wire = Wire::app(howdah.target());
    let long = format!("{LOCK} AS \"\u{1b}[31m\nforged{}\"", "\u{e9}".repeat(200));
    assert!(wire.query(&long).error.is_none());
    let mut shown = String::new();
    wait_until("it is seen", || {
        shown = console.show("CLIENTS").row(&[("user", "app")])["pin_statement"].clone();
        !shown.is_empty()
    });
    assert!(
        shown.starts_with("SELECT pg_advisory_lock(7) AS \" [31m forged\u{e9}"),
        "{shown}"
    );
    assert!(
        shown.ends_with("\u{e9}…") && shown.chars().count() == 101,
        "{shown}"
    );
    assert!(!howdah.log().contains('\u{1b}'), "{}", howdah.log());
    assert!(howdah.log().lines().all(|line| !line.starts_with("forged")));
}

#[test]
fn who_waits_for_permission_goes_on_when_the_limit_is_raised() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("max_pinned", 1).start();
    if !howdah.is_howdah() {
        return;
    }
    let [mut one, mut two, mut three] = [(); 3].map(|()| Wire::app(howdah.target()));
    one.query(LOCK);
    two.query("BEGIN");
    two.send(&msg::query("CREATE TEMP TABLE t (a int)"));
    three.send(&msg::query("CREATE TEMP TABLE t (a int)"));
    for wire in [&mut two, &mut three] {
        wire.expect_silence(Duration::from_millis(200));
    }
    Console::open(howdah.target()).does("SET max_pinned = 3");
    for wire in [&mut two, &mut three] {
        assert_eq!(wire.kinds_until_ready(), "CZ");
    }
}

/// What a block or a function leaves is there before anybody could have said no.
#[test]
fn who_keeps_a_server_unannounced_and_past_the_limit_gives_it_up_in_time_for_others() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 2)
        .set("query_wait_timeout", "2s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let locks = |n| format!("DO $$ BEGIN PERFORM pg_advisory_lock({n}); END $$");
    let login = || Wire::app(howdah.target());
    let (mut one, mut two) = (login(), login());
    assert!(one.query(&locks(1)).error.is_none());
    // It is known by then that it keeps its server.
    assert_eq!(one.value("SELECT 'kept'"), "kept");
    assert!(two.query(&locks(2)).error.is_none());
    assert_eq!(two.value("SELECT 'meanwhile'"), "meanwhile");
    let mut waits = login();
    assert_eq!(waits.value("SELECT 'served'"), "served");
    let error = two.expect_fatal();
    assert_eq!(error.code(), "53300", "{error:?}");
    assert_eq!(one.value("SELECT pg_advisory_unlock(1)"), "t");
    assert_eq!(waits.value("SELECT pg_try_advisory_xact_lock(2)"), "t");
}

#[test]
fn who_keeps_one_past_the_limit_may_go_on_once_there_is_room() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 3)
        .set("max_pinned", 1)
        .set("query_wait_timeout", "2s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let (mut one, mut two) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
    one.query(LOCK);
    two.query("DO $$ BEGIN CREATE TEMP TABLE t AS SELECT 7 AS n; END $$");
    one.query("SELECT pg_advisory_unlock(7)");
    // Past the time that it would have had.
    two.expect_silence(Duration::from_secs(3));
    assert_eq!(two.value("SELECT n FROM t"), "7");
    // It is counted: another one waits in vain.
    assert_eq!(one.query(LOCK).code(), "53300");
}

/// Who waits for permission without a server needs none to be told that it has not come.
#[test]
fn who_is_told_in_vain_that_there_was_no_permission_is_not_told_again_later() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 2)
        .set("max_pinned", 1)
        .set("query_wait_timeout", "1s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let [mut pinned, mut waits, mut busy] = [(); 3].map(|()| Wire::app(howdah.target()));
    pinned.query(LOCK);
    for extended in [false, true] {
        let lock = "SELECT pg_advisory_lock(8)";
        waits.send(&if extended {
            [msg::extended(lock, &[]), msg::sync()].concat()
        } else {
            msg::query(lock)
        });
        waits.expect_silence(Duration::from_millis(200));
        busy.query("BEGIN");
        assert_eq!(waits.answer().code(), "53300");
        busy.query("COMMIT");
        pinned.query("SELECT pg_advisory_unlock_all()");
        assert_eq!(waits.query(lock).code(), "");
        waits.query("SELECT pg_advisory_unlock_all()");
        pinned.query(LOCK);
    }
}

/// Howdah asks for what a statement has named, also where nobody may set or look at that.
#[test]
fn a_setting_that_cannot_be_set_keeps_nothing() {
    let cluster = Cluster::start();
    for mode in ["follow", "refuse"] {
        let howdah = Howdah::before(&cluster)
            .set("default_pool_size", 1)
            .set("session_state", mode)
            .set("query_wait_timeout", "3s")
            .start();
        for user in ["app", "postgres"] {
            for sql in [
                "SET shared_buffers = '1GB'",
                "RESET shared_buffers",
                "SET log_connections = on",
                "SELECT set_config('block_size', '1', false)",
                "SET dynamic_library_path = ''",
                "SELECT set_config('data_directory', '', false)",
                "DO $$ BEGIN SET session_preload_libraries = ''; EXCEPTION WHEN OTHERS THEN END $$",
            ] {
                let mut wire = Wire::login(howdah.target(), user, "app");
                wire.query(sql);
                let mut other = Wire::login(howdah.target(), user, "app");
                assert_eq!(other.query("SELECT 1").code(), "", "{user}: {sql}");
                assert_eq!(wire.query("SELECT 2").code(), "", "{user}: {sql}");
                // What has been set beside it is the client's own, and that is not.
                wire.query("BEGIN; SET work_mem = '5MB'; SAVEPOINT s");
                wire.query(sql);
                wire.query("ROLLBACK TO s; COMMIT");
                assert_eq!(other.query("SELECT 1").code(), "", "{user}: {sql}");
                assert_eq!(wire.value("SHOW work_mem"), "5MB", "{user}: {sql}");
            }
        }
    }
}

#[test]
fn who_waits_for_permission_in_a_transaction_may_end_it_when_howdah_is_to_stop() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::before(&cluster).set("max_pinned", 1).start();
    if !howdah.is_howdah() {
        return;
    }
    let [mut pinned, mut waits, mut apart] = [(); 3].map(|()| Wire::app(howdah.target()));
    pinned.query("CREATE TABLE done (n int)");
    pinned.query("BEGIN");
    pinned.query(LOCK);
    pinned.query("COMMIT");
    pinned.query("BEGIN");
    waits.query("BEGIN; INSERT INTO done VALUES (1)");
    for wire in [&mut waits, &mut apart] {
        wire.send(&msg::query("SELECT pg_advisory_lock(8)"));
        wire.expect_silence(Duration::from_millis(200));
    }
    howdah.signal(Signal::TERM);
    assert_eq!(apart.expect_fatal().code(), "57P01");
    waits.expect_silence(Duration::from_millis(200));
    pinned.query("SELECT pg_advisory_unlock_all()");
    pinned.send(&msg::query("COMMIT"));
    assert_eq!(waits.answer().code(), "");
    waits.send(&msg::query("COMMIT"));
    howdah.wait_exit(Duration::from_secs(20));
    assert_eq!(cluster.sql_in("app", "SELECT n FROM done").len(), 1);
}
