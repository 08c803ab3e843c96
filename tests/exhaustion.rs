//! What howdah lives on runs out, or it is stopped, killed and set to another time: clients who move money meanwhile
//! lose nothing that was acknowledged, and everything is as before when the trouble is over.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use common::bank::{self, Trade};
use common::cluster::pid;
use common::console::{get, metrics_port};
use common::health::{Health, descriptors};
use common::howdah::Config;
use common::net::free_port;
use common::{Cluster, Howdah, Target, Wire, msg};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit, setrlimit};

const SERVERS: usize = 3;

fn pool(cluster: &Cluster) -> Config {
    Howdah::before(cluster)
        .set("default_pool_size", i64::try_from(SERVERS).expect("few"))
        .set("query_wait_timeout", "10s")
        .set("server_login_retry", "1s")
        .set("log_connections", false)
        .set("log_disconnections", false)
}

/// Clients trade through a pooler while something is done to it; nothing where there is no howdah.
fn while_trading(config: impl FnOnce(Config) -> Config, disturb: impl FnOnce(&mut Howdah, &Trade)) {
    let cluster = bank::cluster().start();
    bank::open(&cluster);
    let mut howdah = config(pool(&cluster)).start();
    let Some(health) = Health::of(&howdah) else { return };
    let trade = Trade::start(howdah.target());
    disturb(&mut howdah, &trade);
    trade.finish().audit(&cluster);
    // A pooler that was started anew has another process.
    let health = if Some(health.pid()) == howdah.pid() {
        health
    } else {
        Health::of(&howdah).expect("it runs")
    };
    health.check(&howdah, &cluster, SERVERS);
}

fn id(howdah: &Howdah) -> Option<rustix::process::Pid> {
    howdah.pid().map(pid)
}

fn limit(howdah: &Howdah, resource: Resource, current: u64) -> Rlimit {
    let maximum = getrlimit(resource).maximum;
    let new = Rlimit {
        current: Some(current),
        maximum,
    };
    prlimit(id(howdah), resource, new).expect("a process of ours")
}

#[test]
fn the_books_balance_when_file_descriptors_run_out() {
    while_trading(
        |config| config,
        |howdah, trade| {
            let have = u64::try_from(descriptors(howdah.pid().expect("it runs"))).expect("few");
            let before = limit(howdah, Resource::Nofile, have + 10);
            let crowd: Vec<TcpStream> = (0..40)
                .map(|_| TcpStream::connect(howdah.target().addr()).expect("the kernel takes it"))
                .collect();
            howdah.wait_log("cannot accept connections");
            thread::sleep(Duration::from_secs(2));
            drop(crowd);
            trade.progress();
            prlimit(id(howdah), Resource::Nofile, before).expect("a process of ours");
        },
    );
}

/// Twenty clients ask for 100 MB each and read nothing, twenty send a statement of 8 MB and a hundred do nothing.
#[test]
fn the_books_balance_and_memory_suffices_when_answers_are_large_and_readers_slow() {
    let limits = |config: Config| config.set("query_timeout", "2s").set("default_pool_size", 3);
    while_trading(limits, |howdah, trade| {
        let data = status_kb(howdah.pid().expect("it runs"), "VmData");
        let before = limit(howdah, Resource::Data, (data + 48 * 1024) * 1024);
        let mut crowd = Vec::new();
        for n in 0..140 {
            let mut wire = Wire::app(howdah.target());
            match n {
                0..20 => wire.send(&msg::query(
                    "SELECT repeat('x', 100000) FROM generate_series(1, 1000)",
                )),
                20..40 => send_in_background(&wire, msg::query(&format!("SELECT '{}'", "x".repeat(8 << 20)))),
                _ => {}
            }
            crowd.push(wire);
        }
        trade.progress();
        drop(crowd);
        prlimit(id(howdah), Resource::Data, before).expect("a process of ours");
    });
}

fn send_in_background(wire: &Wire, bytes: Vec<u8>) {
    use std::io::Write as _;
    let mut writer = wire.writer();
    thread::spawn(move || writer.write_all(&bytes));
}

fn status_kb(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .expect("Linux says so");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

#[test]
fn the_books_balance_when_howdah_itself_freezes() {
    let limits = |config: Config| {
        config
            .set("query_timeout", "2s")
            .set("idle_transaction_timeout", "2s")
    };
    while_trading(limits, |howdah, trade| {
        for seconds in [1, 3] {
            howdah.signal(Signal::STOP);
            thread::sleep(Duration::from_secs(seconds));
            howdah.signal(Signal::CONT);
            trade.progress();
        }
    });
}

#[test]
fn the_books_balance_when_howdah_itself_is_killed() {
    while_trading(
        |config| config,
        |howdah, trade| {
            for _ in 0..2 {
                howdah.signal(Signal::KILL);
                howdah.wait_exit(Duration::from_secs(20));
                howdah.launch_again();
                trade.progress();
            }
        },
    );
}

/// Debian's libfaketime puts another clock on the wall; the one that timers run by cannot jump on Linux.
#[test]
fn the_books_balance_when_the_clock_on_the_wall_jumps() {
    let library = faketime();
    let dir = tempfile::tempdir().expect("a directory for the time");
    let time = dir.path().join("time");
    let set = |text: &str| std::fs::write(&time, text).expect("a file of ours");
    set("+0");
    let cluster = bank::cluster().start();
    bank::open(&cluster);
    let file = time.clone();
    let howdah = pool(&cluster)
        .set("client_idle_timeout", "1h")
        .start_with(move |command| {
            command
                .env("LD_PRELOAD", &library)
                .env("FAKETIME_TIMESTAMP_FILE", &file)
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        });
    let Some(health) = Health::of(&howdah) else { return };
    let mut idle = Wire::app(howdah.target());
    let trade = Trade::start(howdah.target());
    for jump in ["+3650d", "-3650d", "+0"] {
        set(jump);
        howdah.signal(Signal::HUP);
        trade.progress();
    }
    assert_eq!(idle.value("SELECT 'still here'"), "still here");
    idle.terminate();
    trade.finish().audit(&cluster);
    health.check(&howdah, &cluster, SERVERS);
    // What was tried has happened: the log is by that clock.
    let years: std::collections::BTreeSet<String> = howdah
        .log()
        .lines()
        .filter_map(|line| Some(line.get(..4)?.to_owned()))
        .collect();
    assert!(years.len() >= 3, "{years:?}");
}

fn faketime() -> PathBuf {
    let dirs = std::fs::read_dir("/usr/lib").expect("a Linux").flatten();
    let mut found = dirs.map(|dir| dir.path().join("faketime/libfaketimeMT.so.1"));
    found
        .find(|path| path.exists())
        .expect("libfaketime is installed: run scripts/setup")
}

/// Statements that come byte by byte hold no server, and neither do logins.
#[test]
fn the_books_balance_while_many_send_one_byte_a_second() {
    let limits = |config: Config| config.set("client_login_timeout", "3s");
    while_trading(limits, |howdah, trade| {
        let target = howdah.target();
        let slow: Vec<_> = (0..20)
            .map(|n| thread::spawn(move || dawdle(target, n % 2 == 0)))
            .collect();
        for _ in 0..3 {
            trade.progress();
        }
        for slow in slow {
            slow.join().expect("as slow clients do");
        }
    });
}

/// Sends a login, or a query, one byte a second.
fn dawdle(target: Target, from_the_start: bool) {
    let startup = msg::startup(&[("user", "app"), ("database", "app")]);
    let mut wire = Wire::connect(target).expect("it listens");
    if from_the_start {
        for byte in &startup {
            wire.send(&[*byte]);
            thread::sleep(Duration::from_secs(1));
            if wire.is_closed() {
                return;
            }
        }
        panic!("a login of {} seconds was let in", startup.len());
    }
    let mut wire = Wire::app(target);
    for byte in msg::query("") {
        wire.send(&[byte]);
        thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(wire.answer().code(), "");
}

#[test]
fn the_books_balance_while_ten_thousand_connect_at_once() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: most,
            maximum: most,
        },
    )
    .expect("a process may raise its soft limit");
    let count = most.unwrap_or(u64::MAX).saturating_sub(500).min(10_000);
    let room = |config: Config| {
        config
            .set("max_client_conn", 12_000)
            .set("query_wait_timeout", "60s")
    };
    while_trading(room, |howdah, trade| {
        let target = howdah.target();
        let crowds: Vec<_> = (0..4)
            .map(|_| thread::spawn(move || crowd(target, count / 4)))
            .collect();
        for crowd in crowds {
            crowd.join().expect("everybody is served");
        }
        trade.progress();
    });
}

/// All connect, then all log in, then all ask.
fn crowd(target: Target, count: u64) {
    let login = msg::startup(&[("user", "app"), ("database", "app")]);
    let mut wires: Vec<Wire> = (0..count)
        .map(|_| Wire::connect(target).expect("it listens"))
        .collect();
    for wire in &mut wires {
        wire.patience = Duration::from_secs(60);
        wire.send(&login);
    }
    for wire in &mut wires {
        wire.until_ready();
        wire.send(&msg::query("SELECT 1"));
    }
    for wire in &mut wires {
        assert_eq!(wire.answer().value(), "1");
    }
}

/// Whoever says nothing to the health checks' port makes way.
#[test]
fn silent_connections_keep_nobody_from_the_health_checks() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("metrics_addr", format!("127.0.0.1:{}", free_port()))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let port = metrics_port(&howdah);
    let silent = |_| {
        let mut stream = TcpStream::connect(Target { port }.addr()).expect("a connection");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\n")
            .expect("half a request");
        stream
    };
    let mut silent: Vec<_> = (0..80).map(silent).collect();
    assert_eq!(get(port, "/healthz").status, 200);
    // It has not been served because they had all been sent away: the last one may go on.
    let last = silent.last_mut().expect("80 of them");
    last.write_all(b"Host: localhost\r\nConnection: close\r\n\r\n")
        .expect("the rest");
    let mut text = String::new();
    last.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}
