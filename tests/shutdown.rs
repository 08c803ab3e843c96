//! Signals: drain, stop, reload.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::net::{eventually, wait_until};
use common::{Cluster, Howdah, Wire, msg};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(10);

fn setup() -> Option<(Cluster, Howdah)> {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 3);
    howdah.is_howdah().then_some((cluster, howdah))
}

#[test]
fn sigterm_waits_for_transactions_and_for_nothing_else() {
    let Some((cluster, mut howdah)) = setup() else {
        return;
    };
    let mut idle = Wire::app(howdah.target());
    idle.value("SELECT 1");
    let mut busy = Wire::app(howdah.target());
    busy.query("BEGIN");
    busy.query("CREATE TABLE kept (a int)");
    let mut running = Wire::app(howdah.target());
    running.send(&msg::query("SELECT pg_sleep(1), 'to its end'"));
    thread::sleep(Duration::from_millis(200));
    howdah.signal(Signal::TERM);

    assert_eq!(idle.expect_fatal().code(), "57P01");
    let answer = running.answer();
    assert_eq!(answer.rows[0][1].as_deref(), Some("to its end"), "{answer:?}");
    let refused = Wire::login_with(howdah.target(), &[("user", "app"), ("database", "app")], None);
    assert!(refused.is_err(), "a new client while it drains");
    assert!(howdah.try_wait().is_none(), "it waits for the transaction");
    assert_eq!(busy.query("INSERT INTO kept VALUES (1)").tags, ["INSERT 0 1"]);
    assert_eq!(busy.query("COMMIT").tags, ["COMMIT"]);
    assert_eq!(busy.expect_fatal().code(), "57P01");
    let status = howdah.wait_exit(SOON);
    assert!(status.success(), "{status}");
    assert_eq!(cluster.value("SELECT count(*) FROM kept"), "1");
    wait_until("no server is left", || cluster.backends("true") == 0);
}

#[test]
fn sigterm_with_nobody_there_ends_at_once() {
    let Some((cluster, mut howdah)) = setup() else {
        return;
    };
    Wire::app(howdah.target()).value("SELECT 1");
    let socket = howdah
        .socket_dir()
        .join(format!(".s.PGSQL.{}", howdah.target().port));
    assert!(socket.exists(), "no {}", socket.display());
    let start = Instant::now();
    howdah.signal(Signal::TERM);
    let status = howdah.wait_exit(SOON);
    assert!(status.success(), "{status}");
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "it took {:?}",
        start.elapsed()
    );
    assert!(!socket.exists(), "the socket is left behind");
    wait_until("no server is left", || cluster.backends("true") == 0);
}

#[test]
fn sigterm_does_not_wait_for_who_is_not_logged_in() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::before(&cluster)
        .database("app", "host=127.0.0.1 port=1")
        .set("client_login_timeout", "5min")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let mut silent = TcpStream::connect(howdah.target().addr()).expect("it listens");
        let mut waits = TcpStream::connect(howdah.target().addr()).expect("it listens");
        let startup = msg::startup(&[("user", "app"), ("database", "app")]);
        waits.write_all(&startup).expect("it reads");
        thread::sleep(Duration::from_millis(300));
        howdah.signal(signal);
        let status = howdah.wait_exit(SOON);
        assert!(status.success(), "{status}");
        for stream in [&mut silent, &mut waits] {
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard);
            let heard = String::from_utf8_lossy(&heard);
            assert!(heard.contains("57P03"), "{signal:?}: {heard:?}");
        }
        howdah.launch_again();
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    let Some((_cluster, mut howdah)) = setup() else {
        return;
    };
    let mut busy = Wire::app(howdah.target());
    busy.query("BEGIN");
    howdah.signal(Signal::TERM);
    thread::sleep(Duration::from_millis(500));
    assert!(howdah.try_wait().is_none(), "it waits for the transaction");
    howdah.signal(Signal::TERM);
    howdah.wait_exit(SOON);
}

#[test]
fn sigint_ends_it() {
    let Some((cluster, mut howdah)) = setup() else {
        return;
    };
    let mut idle = Wire::app(howdah.target());
    idle.value("SELECT 1");
    howdah.signal(Signal::INT);
    howdah.wait_exit(SOON);
    idle.expect_closed();
    wait_until("no server is left", || cluster.backends("true") == 0);
}

#[test]
fn it_starts_again_on_the_same_port_at_once() {
    let Some((_cluster, mut howdah)) = setup() else {
        return;
    };
    for signal in [Signal::TERM, Signal::KILL] {
        let mut wire = Wire::app(howdah.target());
        wire.value("SELECT 1");
        howdah.signal(signal);
        howdah.wait_exit(SOON);
        howdah.launch_again();
        assert_eq!(Wire::app(howdah.target()).value("SELECT 2"), "2");
    }
}

#[test]
fn reload_changes_the_size_of_pools_and_disturbs_nobody() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wires: Vec<Wire> = (0..3).map(|_| Wire::app(howdah.target())).collect();
    wires[0].query("BEGIN");
    howdah.reload(|config| config.set("default_pool_size", 3));
    for wire in &mut wires[1..] {
        assert_eq!(
            wire.query("BEGIN").status,
            'T',
            "a server for everyone, as soon as the file is read"
        );
    }
    assert_eq!(cluster.backends("true"), 3);
    for wire in &mut wires {
        assert_eq!(wire.query("COMMIT").status, 'I');
    }
    howdah.reload(|config| config.set("default_pool_size", 1));
    wait_until("the pool shrinks", || {
        for wire in &mut wires {
            wire.query("SELECT 1");
        }
        cluster.backends("true") == 1
    });
}

#[test]
fn reload_adds_databases_and_users() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::before(&cluster)
        .database("app", &cluster.location("app"))
        .set("auth_type", "scram-sha-256")
        .user("app", "one")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let login = |howdah: &Howdah, database: &str, password: &str| {
        let params = [("user", "app"), ("database", database)];
        Wire::login_with(howdah.target(), &params, Some(password))
    };
    let mut old = login(&howdah, "app", "one").expect("the password is right");
    assert!(login(&howdah, "renamed", "one").is_err());
    let location = cluster.location("other");
    howdah.reload(|config| config.database("renamed", &location).user("app", "two"));
    eventually("the new database is there", SOON, || {
        login(&howdah, "renamed", "two").ok()
    });
    let mut new = login(&howdah, "renamed", "two").expect("the new password");
    assert_eq!(new.value("SELECT current_database()"), "other");
    assert_eq!(
        login(&howdah, "app", "one")
            .err()
            .expect("the old password")
            .code(),
        "28P01"
    );
    assert_eq!(old.value("SELECT 'still here'"), "still here");
}

#[test]
fn a_faulty_file_changes_nothing() {
    let Some((_cluster, mut howdah)) = setup() else {
        return;
    };
    let mut wire = Wire::app(howdah.target());
    let good = howdah.config.to_toml();
    for bad in [
        "[howdah\n",
        "",
        "[howdah]\nno_such_setting = 1\n",
        &good.replace("\"transaction\"", "\"sometimes\""),
    ] {
        let before = howdah.log().len();
        howdah.reload_text(bad);
        eventually("the log says so", SOON, || {
            (howdah.log().len() > before).then_some(())
        });
        assert_eq!(wire.value("SELECT 1"), "1");
        assert_eq!(Wire::app(howdah.target()).value("SELECT 2"), "2");
    }
    let log = howdah.log();
    for name in ["no_such_setting", "sometimes"] {
        assert!(log.contains(name), "the log does not name {name}:\n{log}");
    }
    howdah.reload(|config| config.set("default_pool_size", 2));
    assert_eq!(Wire::app(howdah.target()).value("SELECT 3"), "3");
}

#[test]
fn a_faulty_file_at_the_start_is_explained() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("howdah.toml");
    for (text, word) in [
        ("[howdah]\nlisten_prot = 6432\n", "listen_prot"),
        ("[howdah]\npool_mode = \"sometimes\"\n", "pool_mode"),
        ("[howdah]\nlisten_port = 70000\n", "listen_port"),
        ("[howdah]\nserver_lifetime = \"soon\"\n", "server_lifetime"),
    ] {
        std::fs::write(&file, text).expect("a file of ours");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_howdah"));
        let done = common::run::output(command.arg(&file), SOON);
        let said =
            String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
        assert!(!done.status.success(), "{text} was taken");
        assert!(said.contains(word), "{word} is not named: {said}");
    }
}
