//! PostgreSQL fails in every way there is; clients are told, and everything mends itself.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::cluster::password_of;
use common::net::{eventually, wait_until};
use common::{Cluster, Howdah, Target, Wire, msg};
use rustix::process::{Signal, kill_process};

/// Runs a query on a connection of its own: the first value, or the SQLSTATE (empty when closed without a word).
fn ask_as(target: Target, user: &str, password: Option<&str>, sql: &str) -> Result<String, String> {
    let params = [("user", user), ("database", "app")];
    let mut wire =
        Wire::login_with(target, &params, password).map_err(|refused| refused.code().to_owned())?;
    wire.send(&msg::query(sql));
    match wire.try_answer() {
        Ok(answer) if answer.error.is_none() => Ok(answer.value().to_owned()),
        Ok(answer) => Err(answer.code().to_owned()),
        Err(fatal) => Err(fatal.map(|error| error.code().to_owned()).unwrap_or_default()),
    }
}

fn ask(target: Target, sql: &str) -> Result<String, String> {
    ask_as(target, "app", None, sql)
}

/// Within this time everything is well again, without anybody's help.
const RECOVERY: Duration = Duration::from_secs(15);

fn recovers(target: Target) {
    eventually("a new client is served again", RECOVERY, || {
        ask(target, "SELECT 1").ok()
    });
}

#[test]
fn an_idle_server_that_dies_is_not_handed_out() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    for _ in 0..5 {
        wire.value("SELECT 1");
        for pid in cluster.backend_pids("true") {
            cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
        }
        wait_until("the server is gone", || cluster.backends("true") == 0);
        thread::sleep(Duration::from_millis(50));
        assert_eq!(wire.query("SELECT 'unharmed'").value(), "unharmed");
    }
}

#[test]
fn a_server_that_is_terminated_in_the_middle_of_a_query() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for (begin, sql) in [
        ("SELECT 1", "SELECT pg_sleep(60)"),
        ("BEGIN", "SELECT pg_sleep(60)"),
    ] {
        let mut wire = Wire::app(howdah.target());
        wire.query(begin);
        wire.send(&msg::query(sql));
        wait_until("the query runs", || cluster.backends("state = 'active'") == 1);
        let pid = cluster.backend_pids("state = 'active'")[0];
        cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
        let error = match wire.try_answer() {
            Ok(answer) => answer.error.expect("an error"),
            Err(fatal) => fatal.expect("a reason"),
        };
        assert!(["57P01", "08006"].contains(&error.code()), "{error:?}");
        recovers(howdah.target());
    }
}

#[test]
fn the_log_says_of_a_lost_server_what_the_client_was_told_in_one_line() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    wire.query("BEGIN");
    let pid = cluster.backend_pids("state = 'idle in transaction'")[0];
    cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
    assert_eq!(wire.expect_fatal().code(), "57P01");
    howdah.wait_log("server_lost");
    let log = howdah.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in ["reason=\"server_lost\"", "(57P01)", "administrator command"] {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
}

#[test]
fn a_server_that_is_terminated_idle_in_a_transaction() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut wire = Wire::app(howdah.target());
    wire.query("BEGIN");
    let pid = cluster.backend_pids("state = 'idle in transaction'")[0];
    cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
    let error = wire.expect_fatal();
    assert!(["57P01", "08006"].contains(&error.code()), "{error:?}");
    recovers(howdah.target());
}

#[test]
fn a_backend_that_crashes_takes_postgresql_down_for_a_moment() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    if !howdah.is_howdah() {
        return;
    }
    let mut idle = Wire::app(howdah.target());
    idle.value("SELECT 1");
    let mut busy = Wire::app(howdah.target());
    busy.send(&msg::query("SELECT pg_sleep(60)"));
    wait_until("the query runs", || cluster.backends("state = 'active'") == 1);
    let pid = cluster.backend_pids("state = 'active'")[0];
    kill_process(rustix::process::Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("it runs");
    let error = match busy.try_answer() {
        Ok(answer) => answer.error.expect("an error"),
        Err(fatal) => fatal.expect("a reason"),
    };
    assert!(["57P01", "57P02", "08006"].contains(&error.code()), "{error:?}");
    // The other client had no transaction: it never learns of it.
    assert_eq!(idle.query("SELECT 'unharmed'").value(), "unharmed");
    recovers(howdah.target());
}

#[test]
fn clients_outlive_a_restart() {
    let mut cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 3);
    if !howdah.is_howdah() {
        return;
    }
    let mut wires: Vec<Wire> = (0..10).map(|_| Wire::app(howdah.target())).collect();
    for wire in &mut wires {
        wire.value("SELECT 1");
        assert_eq!(wire.batch(&[msg::parse("s", "SELECT 'prepared before'")]), "1Z");
    }
    for _ in 0..2 {
        cluster.restart();
        for wire in &mut wires {
            assert_eq!(wire.query("SELECT 'unharmed'").value(), "unharmed");
            assert_eq!(wire.extended(&[msg::run("s", &[])]).value(), "prepared before");
        }
    }
}

#[test]
fn clients_wait_while_postgresql_is_down_and_are_served_when_it_is_back() {
    let mut cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("query_wait_timeout", "30s").start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    wire.value("SELECT 1");
    cluster.stop(Signal::QUIT);
    wire.send(&msg::query("SELECT 'patience'"));
    thread::sleep(Duration::from_secs(1));
    cluster.launch();
    let start = Instant::now();
    match wire.try_answer() {
        Ok(answer) => assert!(
            answer.error.is_some() || answer.value() == "patience",
            "{answer:?}"
        ),
        Err(fatal) => assert!(fatal.is_some(), "closed without a reason"),
    }
    assert!(start.elapsed() < RECOVERY);
    recovers(howdah.target());
}

#[test]
fn while_postgresql_is_down_clients_are_told_within_their_patience() {
    let mut cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("query_wait_timeout", "2s").start();
    if !howdah.is_howdah() {
        return;
    }
    let mut before = Wire::app(howdah.target());
    before.value("SELECT 1");
    cluster.stop(Signal::QUIT);
    let start = Instant::now();
    let told = ["08006", "57P03", "57014", "53300"];
    let code = ask(howdah.target(), "SELECT 1").expect_err("there is no PostgreSQL");
    assert!(told.contains(&code.as_str()), "{code:?}");
    before.send(&msg::query("SELECT 1"));
    let code = match before.try_answer() {
        Ok(answer) => answer.code().to_owned(),
        Err(fatal) => fatal.expect("a reason").code().to_owned(),
    };
    assert!(told.contains(&code.as_str()), "{code:?}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "told after {:?}",
        start.elapsed()
    );
    cluster.launch();
    recovers(howdah.target());
}

#[test]
fn howdah_starts_before_postgresql() {
    let mut cluster = Cluster::start();
    cluster.stop(Signal::INT);
    let howdah = Howdah::before(&cluster)
        .set("query_wait_timeout", "2s")
        .set("min_pool_size", 2)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    ask(howdah.target(), "SELECT 1").expect_err("there is no PostgreSQL");
    cluster.launch();
    recovers(howdah.target());
}

#[test]
fn a_frozen_postgresql_delays_and_does_not_destroy() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("query_wait_timeout", "3s")
        .set("server_connect_timeout", "1s")
        .set("default_pool_size", 1)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    wire.value("SELECT 1");
    cluster.pause();
    wire.send(&msg::query("SELECT 'late'"));
    wire.expect_silence(Duration::from_secs(1));
    let start = Instant::now();
    let code = ask(howdah.target(), "SELECT 1").expect_err("nobody answers");
    assert!(
        ["08006", "57P03", "57014", "53300"].contains(&code.as_str()),
        "{code:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "told after {:?}",
        start.elapsed()
    );
    cluster.resume();
    assert_eq!(wire.answer().value(), "late");
    recovers(howdah.target());
}

#[test]
fn a_frozen_postgresql_during_connects() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("query_wait_timeout", "3s")
        .set("server_connect_timeout", "1s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    cluster.pause();
    let start = Instant::now();
    let code = ask(howdah.target(), "SELECT 1").expect_err("nobody answers");
    assert!(
        ["08006", "57P03", "57014", "53300"].contains(&code.as_str()),
        "{code:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "told after {:?}",
        start.elapsed()
    );
    cluster.resume();
    recovers(howdah.target());
}

#[test]
fn when_postgresql_has_no_room_clients_wait_or_are_told() {
    let cluster = Cluster::options()
        .conf("max_connections = 8")
        .conf("superuser_reserved_connections = 3")
        .start();
    let howdah = Howdah::before(&cluster).set("query_wait_timeout", "2s").start();
    if !howdah.is_howdah() {
        return;
    }
    let taken: Vec<Wire> = (0..5).map(|_| Wire::app(cluster.target())).collect();
    let start = Instant::now();
    let code = ask(howdah.target(), "SELECT 1").expect_err("there is no room");
    assert!(["53300", "57P03", "57014"].contains(&code.as_str()), "{code:?}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "told after {:?}",
        start.elapsed()
    );
    drop(taken);
    recovers(howdah.target());
}

#[test]
fn one_server_is_enough_when_postgresql_gives_no_more() {
    let cluster = Cluster::start();
    cluster.sql("ALTER ROLE app CONNECTION LIMIT 1");
    let howdah = Howdah::before(&cluster).set("default_pool_size", 5).start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                let mut wire = Wire::app(target);
                for _ in 0..5 {
                    assert_eq!(wire.value("SELECT pg_sleep(0.01), 1"), "");
                }
            });
        }
    });
}

#[test]
fn a_password_that_is_changed_and_changed_back() {
    let cluster = Cluster::start();
    let (user, password) = ("scram_u", password_of("scram_u"));
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "scram-sha-256")
        .set("query_wait_timeout", "3s")
        .user(user, &password)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let ask = || ask_as(howdah.target(), user, Some(&password), "SELECT 1");
    assert_eq!(ask(), Ok("1".into()));
    cluster.sql("ALTER ROLE scram_u PASSWORD 'another'");
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'scram_u'");
    let code = eventually("the refusal is told", RECOVERY, || ask().err());
    assert_eq!(code, "28P01");
    cluster.sql(&format!("ALTER ROLE scram_u PASSWORD '{password}'"));
    eventually("served again", RECOVERY, || ask().ok());
}

#[test]
fn a_pool_that_cannot_connect_does_not_disturb_the_others() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("query_wait_timeout", "2s").start();
    if !howdah.is_howdah() {
        return;
    }
    cluster.sql("ALTER DATABASE other ALLOW_CONNECTIONS false");
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let params = [("user", "app"), ("database", "other")];
                if let Ok(mut wire) = Wire::login_with(howdah.target(), &params, None) {
                    wire.send(&msg::query("SELECT 1"));
                    wire.try_answer().err();
                }
            });
        }
        for _ in 0..20 {
            let start = Instant::now();
            assert_eq!(ask(howdah.target(), "SELECT 1"), Ok("1".into()));
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        }
    });
}

#[test]
fn a_server_that_shuts_down_smartly_is_left_alone() {
    let mut cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("server_idle_timeout", "1s")
        .set("query_wait_timeout", "2s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    Wire::app(howdah.target()).value("SELECT 1");
    // A smart shutdown waits for every client: a pooler that closes its idle servers lets it come to its end.
    cluster.stop(Signal::TERM);
    cluster.launch();
    recovers(howdah.target());
}
