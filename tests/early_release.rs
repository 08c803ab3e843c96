//! A server goes back to its pool when the rest of its answer is in howdah's hands, however slowly the client reads.

mod common;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use common::console::{Console, number};
use common::net::wait_until;
use common::{Cluster, Howdah, Wire, msg};

const TWENTY_KB: &str = "SELECT repeat('x', 20000)";

fn one(cluster: &Cluster) -> Option<Howdah> {
    let howdah = Howdah::with_pool(cluster, 1);
    howdah.is_howdah().then_some(howdah)
}

fn resident_kb(howdah: &Howdah) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", howdah.pid().expect("it runs")));
    let status = status.expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.expect("a number").parse().expect("a number")
}

/// Sends request after request, each when the one before has been answered, and reads nothing, until neither kernel nor
/// howdah takes any more. Returns how many.
fn clog(wire: &mut Wire, console: &mut Console, request: &[u8]) -> u64 {
    let mut answered = || number(&console.stats("app"), "total_query_count");
    let before = answered();
    for sent in 1..5000 {
        wire.send(request);
        let sent_at = Instant::now();
        while answered() < before + sent {
            if sent_at.elapsed() > Duration::from_secs(2) {
                return sent;
            }
        }
    }
    panic!("all were answered: nothing is clogged");
}

#[test]
fn who_does_not_read_keeps_no_server() {
    let cluster = Cluster::start();
    let Some(howdah) = one(&cluster) else { return };
    for request in [
        msg::query(TWENTY_KB),
        [msg::extended(TWENTY_KB, &[]), msg::sync()].concat(),
        msg::query("SELECT repeat('x', 3000) FROM generate_series(1, 7)"),
    ] {
        let mut slow = Wire::app(howdah.target());
        slow.value("SELECT 1");
        let mut console = Console::open(howdah.target());
        let sent = clog(&mut slow, &mut console, &request);
        let client = console.show("CLIENTS");
        assert_eq!(client.row(&[("user", "app")])["link"], "", "it holds no server");
        let mut quick = Wire::app(howdah.target());
        quick.patience = Duration::from_secs(5);
        assert_eq!(quick.value("SELECT 1"), "1");
        quick.terminate();
        // And it finds its answers when it reads on.
        for _ in 0..sent {
            slow.until_ready();
        }
        slow.vanish();
        wait_until("it has left", || {
            console
                .show("CLIENTS")
                .rows
                .iter()
                .all(|row| row["user"] != "app")
        });
    }
}

#[test]
fn an_answer_that_nobody_reads_does_not_fill_the_memory() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 4);
    if !howdah.is_howdah() {
        return;
    }
    let mut warm = Wire::app(howdah.target());
    warm.value(TWENTY_KB);
    let before = resident_kb(&howdah);
    let mut slow: Vec<Wire> = (0..3).map(|_| Wire::app(howdah.target())).collect();
    for wire in &mut slow {
        wire.send(&msg::query(
            "SELECT repeat('x', 1000) FROM generate_series(1, 100000)",
        ));
    }
    thread::sleep(Duration::from_secs(2));
    let after = resident_kb(&howdah);
    assert!(after < before + 8 * 1024, "{before} kB before, {after} kB after");
    assert_eq!(warm.value("SELECT 1"), "1", "others are served meanwhile");
    // Nothing is lost of it either.
    let rows = slow[0].until_ready();
    assert_eq!(rows.iter().filter(|frame| frame.kind == b'D').count(), 100_000);
}

/// What the server is asked afterwards waits here for a lock, and the client does not.
#[test]
fn the_answer_does_not_wait_for_what_howdah_asks_about_it() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut wire = Wire::app(howdah.target());
    let block = "DO $$BEGIN PERFORM set_config('work_mem', '7MB', false); END$$";
    assert_eq!(wire.query(block).code(), "");
    wire.query("SELECT 'nothing is asked any more'");
    let mut locks = Wire::login(cluster.target(), "postgres", "app");
    let lock = "BEGIN; LOCK TABLE pg_catalog.pg_depend IN ACCESS EXCLUSIVE MODE";
    assert_eq!(locks.query(lock).code(), "");
    assert_eq!(
        wire.query("DO $$BEGIN PERFORM set_config('work_mem', '8MB', false); END$$")
            .code(),
        ""
    );
    // The next one may depend on what has been asked.
    wire.send(&msg::query("SHOW work_mem"));
    if howdah.is_howdah() {
        wire.expect_silence(Duration::from_millis(100));
    }
    locks.query("ROLLBACK");
    assert_eq!(wire.answer().value(), "8MB");
    // Who goes with the answer leaves what it has done to nobody.
    assert_eq!(locks.query(lock).code(), "");
    assert_eq!(wire.query(block).code(), "");
    wire.terminate();
    let mut other = Wire::app(howdah.target());
    other.send(&msg::query("SHOW work_mem"));
    locks.query("ROLLBACK");
    assert_eq!(other.answer().value(), "4MB");
}
