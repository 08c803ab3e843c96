//! The console's commands: what they do to clients and servers, and what they leave alone.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::console::{Console, number};
use common::net::{eventually, wait_until};
use common::{Cluster, Howdah, Target, Wire, login, msg, wire};

const SOON: Duration = Duration::from_secs(10);
/// Long enough to see that something does not happen.
const A_WHILE: Duration = Duration::from_millis(300);
const PID: &str = "SELECT pg_backend_pid()";

/// A pool of so many servers before databases `app` and `other`, and a console.
fn setup(size: u32) -> Option<(Cluster, Howdah, Console)> {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", i64::from(size))
        .database("app", &cluster.location("app"))
        .database("other", &cluster.location("other"))
        .start();
    let console = howdah.is_howdah().then(|| Console::open(howdah.target()))?;
    Some((cluster, howdah, console))
}

fn other(target: Target) -> Wire {
    Wire::login(target, "app", "other")
}

fn refused(target: Target, database: &str) -> String {
    let error = Wire::login_with(target, &[("user", "app"), ("database", database)], None).err();
    error.map_or_else(String::new, |error: login::LoginError| error.code().to_owned())
}

#[test]
fn pause_waits_for_transactions_and_holds_what_comes() {
    let Some((cluster, howdah, mut console)) = setup(2) else {
        return;
    };
    let mut busy = Wire::app(howdah.target());
    let mut idle = Wire::app(howdah.target());
    busy.query("BEGIN");
    console.0.send(&msg::query("PAUSE"));
    console.0.expect_silence(A_WHILE);
    assert_eq!(
        busy.value("SELECT 'still mine'"),
        "still mine",
        "its transaction goes on"
    );
    idle.send(&msg::query("SELECT 'later'"));
    idle.expect_silence(A_WHILE);
    assert_eq!(busy.query("COMMIT").status, 'I');
    assert_eq!(console.0.answer().tags, ["PAUSE"]);
    wait_until("no server is left", || cluster.backends("true") == 0);
    idle.expect_silence(A_WHILE);
    // Another pool is held as well, and so is one that comes now.
    let mut newcomer = Wire::connect(howdah.target()).expect("it listens");
    newcomer.send(&msg::startup(&[("user", "app"), ("database", "other")]));
    newcomer.expect_silence(A_WHILE);
    assert_eq!(console.show("STATE").row(&[("key", "paused")])["value"], "yes");
    assert_eq!(number(&console.pool("app", "app"), "cl_waiting"), 1);
    console.does("RESUME");
    assert_eq!(idle.answer().value(), "later");
    newcomer.until_ready();
    assert_eq!(newcomer.value("SELECT current_database()"), "other");
    assert_eq!(console.show("STATE").row(&[("key", "paused")])["value"], "no");
    assert_eq!(console.refuses("RESUME").code(), "55000");
}

#[test]
fn pause_of_one_database_leaves_the_others_and_can_be_cancelled() {
    let Some((_cluster, howdah, mut console)) = setup(2) else {
        return;
    };
    let mut busy = Wire::app(howdah.target());
    busy.query("BEGIN");
    let mut elsewhere = other(howdah.target());
    console.0.send(&msg::query("PAUSE app"));
    console.0.expect_silence(A_WHILE);
    let key = console.0.key.clone().expect("the console has one");
    wire::cancel(howdah.target(), &key);
    assert_eq!(console.0.answer().code(), "57014");
    assert_eq!(elsewhere.value("SELECT 1"), "1");
    let databases = console.show("DATABASES");
    let paused = |name: &str| number(databases.row(&[("name", name)]), "paused");
    assert_eq!([paused("app"), paused("other")], [1, 0], "the pause stays");
    let mut held = Wire::app(howdah.target());
    held.send(&msg::query("SELECT 1"));
    held.expect_silence(A_WHILE);
    busy.query("COMMIT");
    held.expect_silence(A_WHILE);
    console.does("RESUME app");
    assert_eq!(held.answer().value(), "1");
}

#[test]
fn disable_turns_new_clients_away_until_enable() {
    let Some((_cluster, howdah, mut console)) = setup(2) else {
        return;
    };
    let mut there = Wire::app(howdah.target());
    console.does("DISABLE app");
    assert_eq!(refused(howdah.target(), "app"), "57P03");
    assert_eq!(refused(howdah.target(), "other"), "");
    assert_eq!(there.value("SELECT 'still served'"), "still served");
    let row = console.show("DATABASES").row(&[("name", "app")]).clone();
    assert_eq!(number(&row, "disabled"), 1);
    console.does("ENABLE app");
    assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
}

#[test]
fn reconnect_replaces_servers_and_wait_close_waits_for_it() {
    let Some((_cluster, howdah, mut console)) = setup(2) else {
        return;
    };
    let mut busy = Wire::app(howdah.target());
    let mut idle = Wire::app(howdah.target());
    busy.query("BEGIN");
    let (held, free) = (busy.value(PID), idle.value(PID));
    assert_ne!(held, free);
    console.does("RECONNECT app");
    let now = idle.value(PID);
    assert!(now != held && now != free, "a new server");
    assert_eq!(busy.value(PID), held, "a transaction keeps its own");
    console.0.send(&msg::query("WAIT_CLOSE app"));
    console.0.expect_silence(A_WHILE);
    busy.query("COMMIT");
    assert_eq!(console.0.answer().tags, ["WAIT_CLOSE"]);
    assert_ne!(busy.value(PID), held);
    console.does("WAIT_CLOSE");
}

#[test]
fn kill_ends_clients_and_servers_until_resume() {
    let Some((cluster, howdah, mut console)) = setup(3) else {
        return;
    };
    let mut idle = Wire::app(howdah.target());
    let mut busy = Wire::app(howdah.target());
    let mut running = Wire::app(howdah.target());
    let mut elsewhere = other(howdah.target());
    idle.value("SELECT 1");
    busy.query("BEGIN");
    running.send(&msg::query("SELECT pg_sleep(60)"));
    wait_until("it runs", || cluster.backends("query LIKE '%sleep%'") == 1);
    console.does("KILL app");
    for client in [&mut idle, &mut busy, &mut running] {
        assert_eq!(client.expect_fatal().code(), "57P01");
    }
    wait_until("its servers are gone", || {
        cluster.backends("datname = 'app' AND state <> 'active'") == 0
    });
    assert_eq!(elsewhere.value("SELECT 1"), "1");
    let mut newcomer = Wire::app(howdah.target());
    newcomer.send(&msg::query("SELECT 'after'"));
    newcomer.expect_silence(A_WHILE);
    console.does("RESUME app");
    assert_eq!(newcomer.answer().value(), "after");
    eventually("the query has been cancelled", SOON, || {
        (cluster.backends("query LIKE '%sleep%'") == 0).then_some(())
    });
}

#[test]
fn kill_client_ends_that_one_alone() {
    let Some((cluster, howdah, mut console)) = setup(1) else {
        return;
    };
    let named = |name: &str| {
        let params = [("user", "app"), ("database", "app"), ("application_name", name)];
        Wire::login_with(howdah.target(), &params, None).expect("it is let in")
    };
    let (mut first, mut second) = (named("first"), named("second"));
    first.query("BEGIN");
    first.query("CREATE TABLE lost (a int)");
    let id = console.show("CLIENTS").row(&[("application_name", "first")])["id"].clone();
    console.does(&format!("KILL_CLIENT {id}"));
    assert_eq!(first.expect_fatal().code(), "57P01");
    assert_eq!(second.value("SELECT to_regclass('lost') IS NULL"), "t");
    assert_eq!(cluster.backends("state LIKE 'idle in%'"), 0);
    let error = console.refuses(&format!("KILL_CLIENT {id}"));
    assert_eq!(error.code(), "42704", "{error:?}");
    assert_eq!(console.refuses("KILL_CLIENT first").code(), "42601");
}

#[test]
fn reload_takes_what_is_new_and_refuses_what_is_wrong() {
    let Some((cluster, mut howdah, mut console)) = setup(1) else {
        return;
    };
    assert_eq!(refused(howdah.target(), "newer"), "3D000");
    // The file is there; nobody has been told yet.
    let config = howdah.config.clone();
    howdah.write(
        &config
            .clone()
            .database("newer", &cluster.location("other"))
            .to_toml(),
    );
    assert_eq!(refused(howdah.target(), "newer"), "3D000");
    console.does("RELOAD");
    let mut wire = Wire::login(howdah.target(), "app", "newer");
    assert_eq!(wire.value("SELECT current_database()"), "other");

    howdah.write(&config.set("default_pool_sice", 7).to_toml());
    let error = console.refuses("RELOAD");
    let said = format!("{error:?} {:?}", error.0);
    assert!(said.contains("default_pool_sice"), "{said}");
    assert_eq!(console.setting("default_pool_size"), "1");
    console.show("DATABASES").row(&[("name", "newer")]);
    assert_eq!(wire.value("SELECT 1"), "1");
}

#[test]
fn set_changes_pools_and_timers_at_once() {
    let Some((_cluster, howdah, mut console)) = setup(1) else {
        return;
    };
    let mut wires: Vec<Wire> = (0..3).map(|_| Wire::app(howdah.target())).collect();
    wires[0].query("BEGIN");
    wires[1].send(&msg::query("BEGIN"));
    console.wait_for_waiting(1);
    console.does("SET default_pool_size = 2");
    assert_eq!(wires[1].answer().status, 'T', "who waited is served");
    assert_eq!(console.setting("default_pool_size"), "2");
    let row = console.show("DATABASES").row(&[("name", "app")]).clone();
    assert_eq!(number(&row, "pool_size"), 2);

    console.does("SET query_wait_timeout = '500ms'");
    let start = Instant::now();
    wires[2].send(&msg::query("SELECT 1"));
    let error = wires[2].expect_fatal();
    assert!(
        error.message().contains("query_wait_timeout"),
        "it goes: {error:?}"
    );
    assert!(start.elapsed() > Duration::from_millis(400), "not at once");
    // By the extended protocol, as drivers do, and back to what the default is.
    let answer = console
        .0
        .extended(&[msg::extended("SET default_pool_size TO DEFAULT", &[])]);
    assert_eq!(answer.tags, ["SET"], "{answer:?}");
    assert_eq!(console.setting("default_pool_size"), "20");
    // A restart would be needed; nothing changes and that is said.
    let error = console.refuses("SET listen_port = 1");
    assert!(error.message().contains("listen_port"), "{error:?}");
    assert_eq!(console.setting("listen_port"), howdah.target().port.to_string());
    console.does("RELOAD");
    assert_eq!(console.setting("default_pool_size"), "1", "as the file has it");
}

#[test]
fn shutdown_ends_everything_at_once() {
    let Some((cluster, mut howdah, mut console)) = setup(2) else {
        return;
    };
    let mut idle = Wire::app(howdah.target());
    let mut busy = Wire::app(howdah.target());
    idle.value("SELECT 1");
    busy.query("BEGIN");
    console.0.send(&msg::query("SHUTDOWN"));
    assert_eq!(idle.expect_fatal().code(), "57P01");
    assert_eq!(busy.expect_fatal().code(), "57P01");
    console.0.expect_closed();
    let status = howdah.wait_exit(SOON);
    assert!(status.success(), "{status}");
    wait_until("no server is left", || cluster.backends("true") == 0);
}

#[test]
fn shutdown_waits_for_servers() {
    let Some((cluster, mut howdah, mut console)) = setup(2) else {
        return;
    };
    let mut idle = Wire::app(howdah.target());
    let mut busy = Wire::app(howdah.target());
    busy.query("BEGIN");
    busy.query("CREATE TABLE kept (a int)");
    console.0.send(&msg::query("SHUTDOWN WAIT_FOR_SERVERS"));
    wait_until("nobody is let in any more", || {
        Wire::login_with(howdah.target(), &[("user", "app"), ("database", "app")], None).is_err()
    });
    idle.send(&msg::query("SELECT 1"));
    thread::sleep(A_WHILE);
    assert!(howdah.try_wait().is_none(), "it waits for the transaction");
    assert_eq!(busy.query("COMMIT").tags, ["COMMIT"]);
    assert_eq!(
        idle.expect_fatal().code(),
        "57P01",
        "it waited for a server in vain"
    );
    let status = howdah.wait_exit(SOON);
    assert!(status.success(), "{status}");
    assert_eq!(cluster.value("SELECT count(*) FROM kept"), "0");
    wait_until("no server is left", || cluster.backends("true") == 0);
}

#[test]
fn shutdown_waits_for_clients() {
    let Some((cluster, mut howdah, mut console)) = setup(2) else {
        return;
    };
    let mut first = Wire::app(howdah.target());
    let mut second = Wire::app(howdah.target());
    console.0.send(&msg::query("SHUTDOWN WAIT_FOR_CLIENTS"));
    wait_until("nobody is let in any more", || {
        Wire::login_with(howdah.target(), &[("user", "app"), ("database", "app")], None).is_err()
    });
    for wire in [&mut first, &mut second] {
        assert_eq!(wire.value("SELECT 'served as before'"), "served as before");
    }
    first.terminate();
    thread::sleep(A_WHILE);
    assert!(howdah.try_wait().is_none(), "it waits for the other one");
    assert_eq!(second.value("SELECT 1"), "1");
    second.terminate();
    let status = howdah.wait_exit(SOON);
    assert!(status.success(), "{status}");
    console.0.expect_closed();
    wait_until("no server is left", || cluster.backends("true") == 0);
}

#[test]
fn a_shutdown_that_waits_can_be_hurried() {
    let Some((_cluster, mut howdah, mut console)) = setup(2) else {
        return;
    };
    let mut hasty = Console::open(howdah.target());
    let mut busy = Wire::app(howdah.target());
    busy.query("BEGIN");
    console.0.send(&msg::query("SHUTDOWN WAIT_FOR_CLIENTS"));
    thread::sleep(A_WHILE);
    assert!(howdah.try_wait().is_none(), "it waits");
    hasty.show("POOLS").row(&[("database", "app")]);
    hasty.0.send(&msg::query("SHUTDOWN"));
    assert_eq!(busy.expect_fatal().code(), "57P01");
    let status = howdah.wait_exit(SOON);
    assert!(status.success(), "{status}");
}

#[test]
fn kill_without_a_name_ends_everybody_but_the_console() {
    let Some((cluster, howdah, mut console)) = setup(2) else {
        return;
    };
    let mut wires = [Wire::app(howdah.target()), other(howdah.target())];
    for wire in &mut wires {
        wire.query("BEGIN");
    }
    console.does("KILL");
    for wire in &mut wires {
        assert_eq!(wire.expect_fatal().code(), "57P01");
    }
    wait_until("no server is left", || cluster.backends("true") == 0);
    assert_eq!(console.show("STATE").row(&[("key", "paused")])["value"], "yes");
    console.does("RESUME");
    assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
}
