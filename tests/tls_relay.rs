//! Sessions under TLS: what comes through is what was sent, however much it is and whoever stops in the middle.

mod common;

use std::io::Write as _;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use common::net::wait_until;
use common::tls::{Certificates, trusting, tunnel};
use common::{Cluster, Howdah, Target, Wire, msg, run};

const LIMIT: Duration = Duration::from_secs(60);

/// A pooler with TLS for clients, and a port that takes clients without it to there.
fn under_tls(cluster: &Cluster, certificates: &Certificates, size: i64) -> (Howdah, Target) {
    let config = Howdah::before(cluster).set("default_pool_size", size);
    let howdah = certificates.offered(config, "require").start();
    let target = tunnel(howdah.target(), trusting());
    (howdah, target)
}

fn psql(target: Target, sql: &str) -> std::process::Command {
    let mut command = run::client("psql", target, "app", "app");
    command
        .env("PGSSLMODE", "require")
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]);
    command
}

#[test]
fn large_results_and_copies_come_through_unchanged() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let (howdah, _) = under_tls(&cluster, &certificates, 2);
    if !howdah.is_howdah() {
        return;
    }
    cluster.sql("CREATE TABLE big (n int, text text); GRANT ALL ON big TO app");
    let mut copy = psql(howdah.target(), "COPY big FROM STDIN")
        .stdin(Stdio::piped())
        .spawn()
        .expect("psql starts");
    let mut input = copy.stdin.take().expect("a pipe");
    for n in 0..200_000 {
        writeln!(input, "{n}\t{}", "x".repeat(n % 150)).expect("psql reads");
    }
    drop(input);
    assert!(copy.wait().expect("our own child").success());
    let sum = "SELECT count(*), sum(n), sum(length(text)) FROM big";
    let expected = "200000|19999900000|14897500\n";
    assert_eq!(run::succeed(&mut psql(howdah.target(), sum), LIMIT), expected);

    let rows = run::succeed(&mut psql(howdah.target(), "TABLE big ORDER BY n"), LIMIT);
    let copied = run::succeed(
        &mut psql(
            howdah.target(),
            "COPY (TABLE big ORDER BY n) TO STDOUT DELIMITER '|'",
        ),
        LIMIT,
    );
    assert_eq!(rows.len(), 14_897_500 + 200_000 * 2 + 1_088_890);
    assert!(rows == copied, "a result and a copy of it differ");
    for (n, line) in rows.lines().enumerate() {
        assert_eq!(line, format!("{n}|{}", "x".repeat(n % 150)));
    }
    // One value of many records.
    let value = run::succeed(&mut psql(howdah.target(), "SELECT repeat('y', 20000000)"), LIMIT);
    assert_eq!(value.trim_end(), "y".repeat(20_000_000));
}

#[test]
fn messages_of_every_size_go_both_ways() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let (howdah, tls) = under_tls(&cluster, &certificates, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(tls);
    // Around the sizes of records and buffers.
    for around in [0, 1000, 4096, 16_256, 16_384, 32_512, 32_768, 65_536, 131_072] {
        for len in (around..around + 40).step_by(7) {
            let text = "z".repeat(len);
            let answer = wire.query(&format!("SELECT length('{text}'), '{text}'"));
            assert_eq!(answer.value(), len.to_string());
            assert_eq!(answer.rows[0][1].as_deref(), Some(text.as_str()));
        }
    }
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up_but_itself() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let (howdah, tls) = under_tls(&cluster, &certificates, 2);
    if !howdah.is_howdah() {
        return;
    }
    let mut lazy = Wire::app(tls);
    lazy.send(&msg::query(
        "SELECT repeat('a', 1000000) FROM generate_series(1, 100)",
    ));
    thread::sleep(Duration::from_secs(1));
    let mut other = Wire::app(tls);
    for n in 0..50 {
        assert_eq!(other.value(&format!("SELECT {n}")), n.to_string());
    }
    let answer = lazy.answer();
    assert_eq!(answer.rows.len(), 100);
    assert!(
        answer
            .rows
            .iter()
            .all(|row| row[0].as_deref().map(str::len) == Some(1_000_000))
    );
}

#[test]
fn both_directions_flow_at_once() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let (howdah, tls) = under_tls(&cluster, &certificates, 1);
    if !howdah.is_howdah() {
        return;
    }
    // A pipeline whose requests and answers are both more than any buffer on the way.
    let mut wire = Wire::app(tls);
    let text = "p".repeat(10_000);
    let mut writer = wire.writer();
    let sender = thread::spawn(move || {
        for _ in 0..500 {
            let query = format!("SELECT '{text}'");
            let messages = [
                msg::parse("", &query),
                msg::bind("", "", &[]),
                msg::execute("", 0),
            ];
            writer.write_all(&messages.concat()).expect("it is taken");
        }
        writer.write_all(&msg::sync()).expect("it is taken");
    });
    let kinds = wire.kinds_until_ready();
    sender.join().expect("it ends");
    assert_eq!(kinds, "12DC".repeat(500) + "Z");
}

#[test]
fn whoever_ends_one_half_of_a_session_ends_it() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let (howdah, tls) = under_tls(&cluster, &certificates, 1);
    if !howdah.is_howdah() {
        return;
    }
    // `close_notify` from the client, which still reads.
    let mut wire = Wire::app(tls);
    wire.value("SELECT 1");
    wire.close_sending();
    assert_eq!(wire.expect_closed(), []);
    howdah.wait_log("reason=\"vanished\"");
    // In the middle of a transaction, and of a query: the server is there for the next one.
    for query in ["BEGIN", "SELECT pg_sleep(60)"] {
        let mut wire = Wire::app(tls);
        wire.send(&msg::query(query));
        wait_until("it is with the server", || {
            cluster.backends(&format!("query = '{query}'")) == 1
        });
        wire.close_sending();
        wire.expect_closed();
        assert_eq!(Wire::app(tls).value("SELECT 42"), "42");
    }
    // A connection that is cut without `close_notify`.
    let wire = Wire::app(tls);
    wire.vanish();
    assert_eq!(Wire::app(tls).value("SELECT 42"), "42");
}

#[test]
fn the_end_is_told_under_tls() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let (howdah, tls) = under_tls(&cluster, &certificates, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(tls);
    wire.query("BEGIN");
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
    wire.send(&msg::query("SELECT 1"));
    assert_eq!(wire.expect_fatal().code(), "57P01");
    let mut wire = Wire::app(tls);
    howdah.signal(rustix::process::Signal::TERM);
    assert_eq!(wire.expect_fatal().code(), "57P01");
}

#[test]
fn an_idle_client_under_tls_costs_little_memory() {
    const CLIENTS: usize = 400;
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let (howdah, tls) = under_tls(&cluster, &certificates, 2);
    let Some(pid) = howdah.pid().filter(|_| howdah.is_howdah()) else {
        return;
    };
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("a size");
        line.trim()
            .trim_end_matches(" kB")
            .parse::<usize>()
            .expect("a number")
            * 1024
    };
    let enter = || {
        let mut wire = Wire::app(tls);
        assert_eq!(wire.value("SELECT repeat('x', 40000)").len(), 40_000);
        wire
    };
    // The first ones pay for what all share.
    let _first: Vec<Wire> = (0..50).map(|_| enter()).collect();
    let before = resident();
    let _all: Vec<Wire> = (0..CLIENTS).map(|_| enter()).collect();
    let each = resident().saturating_sub(before) / CLIENTS;
    eprintln!("{each} bytes for each idle client");
    assert!(each < 20_000, "{each} bytes for each idle client");
}
