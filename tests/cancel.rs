//! A cancel reaches the query it was meant for, and no other, ever.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::net::wait_until;
use common::wire::cancel;
use common::{Cluster, Howdah, Wire, msg};

fn key(wire: &Wire) -> (u32, Vec<u8>) {
    wire.key.clone().expect("the login brought a cancel key")
}

fn setup(pool: u32) -> (Cluster, Howdah) {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, pool);
    (cluster, howdah)
}

fn wait_active(cluster: &Cluster, count: usize) {
    wait_until("the query runs", || cluster.backends("state = 'active'") == count);
}

#[test]
fn a_running_query_is_cancelled() {
    let (cluster, howdah) = setup(2);
    for extended in [false, true] {
        let mut wire = Wire::app(howdah.target());
        let sql = "SELECT pg_sleep(60)";
        wire.send(&if extended {
            [msg::extended(sql, &[]), msg::sync()].concat()
        } else {
            msg::query(sql)
        });
        wait_active(&cluster, 1);
        let start = Instant::now();
        cancel(howdah.target(), &key(&wire));
        let answer = wire.answer();
        assert_eq!((answer.code(), answer.status), ("57014", 'I'));
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "it took {:?}",
            start.elapsed()
        );
        assert_eq!(wire.value("SELECT 'and on'"), "and on");
    }
}

#[test]
fn a_cancel_connection_stays_open_until_the_server_has_taken_the_request() {
    let (cluster, howdah) = setup(1);
    let mut wire = Wire::app(howdah.target());
    wire.send(&msg::query("SELECT pg_sleep(60)"));
    wait_active(&cluster, 1);
    cluster.pause();
    let (pid, secret) = key(&wire);
    let mut cancelling = Wire::connect(howdah.target()).expect("howdah takes connections");
    cancelling.send(&msg::cancel(pid, &secret));
    // libpq takes the end for a promise that the next query is safe.
    cancelling.expect_silence(Duration::from_millis(300));
    cluster.resume();
    assert_eq!(cancelling.expect_closed(), []);
    assert_eq!(wire.answer().code(), "57014");
}

#[test]
fn a_cancel_within_a_transaction_leaves_it_failed() {
    let (cluster, howdah) = setup(1);
    let mut wire = Wire::app(howdah.target());
    wire.query("BEGIN");
    wire.send(&msg::query("SELECT pg_sleep(60)"));
    wait_active(&cluster, 1);
    cancel(howdah.target(), &key(&wire));
    let answer = wire.answer();
    assert_eq!((answer.code(), answer.status), ("57014", 'E'));
    assert_eq!(wire.query("ROLLBACK").status, 'I');
    assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
}

#[test]
fn in_a_pipeline_the_running_part_is_cancelled_and_the_rest_goes_on() {
    let (cluster, howdah) = setup(1);
    let mut wire = Wire::app(howdah.target());
    let unit = |sql| [msg::extended(sql, &[]), msg::sync()].concat();
    wire.send(&[unit("SELECT 1"), unit("SELECT pg_sleep(60)"), unit("SELECT 3")].concat());
    assert_eq!(wire.answer().value(), "1");
    wait_active(&cluster, 1);
    cancel(howdah.target(), &key(&wire));
    assert_eq!(wire.answer().code(), "57014");
    assert_eq!(wire.answer().value(), "3");
}

#[test]
fn copy_out_is_cancelled() {
    let (_cluster, howdah) = setup(1);
    let mut wire = Wire::app(howdah.target());
    wire.send(&msg::query(
        "COPY (SELECT repeat('x', 1000), generate_series(1, 100000000)) TO STDOUT",
    ));
    wire.expect("Hdd");
    cancel(howdah.target(), &key(&wire));
    assert_eq!(wire.answer().code(), "57014");
    assert_eq!(wire.value("SELECT 'and on'"), "and on");
}

#[test]
fn a_wrong_key_does_nothing() {
    let (cluster, howdah) = setup(1);
    let mut wire = Wire::app(howdah.target());
    wire.send(&msg::query("SELECT pg_sleep(1)"));
    wait_active(&cluster, 1);
    let (pid, secret) = key(&wire);
    let mut wrong = secret.clone();
    wrong[0] ^= 1;
    cancel(howdah.target(), &(pid, wrong));
    cancel(howdah.target(), &(pid.wrapping_add(1), secret.clone()));
    cancel(howdah.target(), &(0, secret));
    assert_eq!(wire.answer().code(), "");
}

#[test]
fn malformed_cancel_requests_are_closed_without_a_word() {
    let (_cluster, howdah) = setup(1);
    for length in [0, 1, 3, 257, 5000] {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&msg::cancel(1, &vec![7; length]));
        for frame in wire.expect_closed() {
            assert_eq!(frame.kind, b'E', "{frame:?}");
        }
    }
    assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
}

#[test]
fn the_key_of_an_idle_client_cancels_nobody() {
    let (cluster, howdah) = setup(1);
    let mut idle = Wire::app(howdah.target());
    idle.query("SELECT 'this was on the only server'");
    let mut busy = Wire::app(howdah.target());
    busy.send(&msg::query("SELECT pg_sleep(1.5), 'undisturbed'"));
    if howdah.target() != cluster.target() {
        wait_active(&cluster, 1);
    }
    for _ in 0..20 {
        cancel(howdah.target(), &key(&idle));
    }
    let answer = busy.answer();
    assert_eq!(answer.code(), "", "{answer:?}");
    assert_eq!(idle.value("SELECT 1"), "1");
}

#[test]
fn a_client_that_waits_for_a_server_can_be_cancelled() {
    let (_cluster, howdah) = setup(1);
    if !howdah.is_howdah() {
        return;
    }
    let mut holder = Wire::app(howdah.target());
    holder.query("BEGIN");
    let mut waiting = Wire::app(howdah.target());
    waiting.send(&msg::query("SELECT 'never'"));
    waiting.expect_silence(Duration::from_millis(300));
    cancel(howdah.target(), &key(&waiting));
    match waiting.try_answer() {
        Ok(answer) => assert_eq!(answer.code(), "57014"),
        Err(fatal) => assert_eq!(fatal.expect("a reason").code(), "57014"),
    }
    assert_eq!(holder.query("SELECT 1").code(), "");
    assert_eq!(holder.query("COMMIT").status, 'I');
    assert_eq!(Wire::app(howdah.target()).value("SELECT 2"), "2");
}

/// What howdah asks about the last statement waits here for a lock.
#[test]
fn a_request_that_has_come_while_howdah_asks_can_be_cancelled_and_none_that_comes_later() {
    let (cluster, howdah) = setup(1);
    let mut wire = Wire::app(howdah.target());
    let mut locks = Wire::login(cluster.target(), "postgres", "app");
    let block = "DO $$BEGIN PERFORM set_config('work_mem', '7MB', false); END$$";
    assert_eq!(wire.query(block).code(), "");
    let asked = cluster.backends("wait_event_type = 'Lock'");
    assert_eq!(asked, 0);
    for (request, code) in [(Some("SELECT pg_sleep(60)"), "57014"), (None, "")] {
        wire.query("SELECT 'nothing is asked any more'");
        locks.query("BEGIN; LOCK TABLE pg_catalog.pg_depend IN ACCESS EXCLUSIVE MODE");
        assert_eq!(wire.query(block).code(), "");
        if howdah.is_howdah() {
            wait_until("howdah waits for the lock", || {
                cluster.backends("wait_event_type = 'Lock'") == 1
            });
        }
        if let Some(sql) = request {
            wire.send(&msg::query(sql));
            wire.expect_silence(Duration::from_millis(100));
        }
        let (target, key) = (howdah.target(), key(&wire));
        let cancelling = thread::spawn(move || cancel(target, &key));
        thread::sleep(Duration::from_millis(100));
        assert_eq!(cancelling.is_finished(), !howdah.is_howdah());
        locks.query("ROLLBACK");
        cancelling.join().expect("it is taken");
        if request.is_none() {
            wire.send(&msg::query("SELECT 'undisturbed'"));
        }
        assert_eq!(wire.answer().code(), code, "{request:?}");
        assert_eq!(wire.value("SHOW work_mem"), "7MB");
    }
}

/// Does something at the end of a block, however that is reached.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

#[test]
fn a_late_cancel_never_hits_another_client() {
    let (_cluster, howdah) = setup(1);
    let target = howdah.target();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let victims: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut wire = Wire::app(target);
                    while !done.load(Ordering::Relaxed) {
                        let answer = wire.query("SELECT pg_sleep(0.001), 'mine'");
                        assert_eq!(answer.code(), "", "a cancel that was meant for another client");
                    }
                })
            })
            .collect();
        // Also when the part below panics: else the others would go on for ever.
        let _stop = OnDrop(|| done.store(true, Ordering::Relaxed));
        let mut wire = Wire::app(target);
        let own = key(&wire);
        let mut cancelled = 0;
        for round in 0..150 {
            wire.send(&msg::query("SELECT pg_sleep(0.003)"));
            thread::sleep(Duration::from_micros(500 * (round % 16)));
            let mut request = Wire::connect(target).expect("a connection");
            request.send(&msg::cancel(own.0, &own.1));
            cancelled += u32::from(wire.answer().code() == "57014");
        }
        done.store(true, Ordering::Relaxed);
        for victim in victims {
            victim.join().expect("nobody else was cancelled");
        }
        println!("{cancelled} of 150 were cancelled in time");
    });
}

#[test]
fn every_client_has_its_own_key_and_it_works_behind_an_ssl_request() {
    let (cluster, howdah) = setup(3);
    let mut wires: Vec<Wire> = (0..3).map(|_| Wire::app(howdah.target())).collect();
    let mut keys: Vec<_> = wires.iter().map(key).collect();
    assert!(
        keys.iter().all(|(_, secret)| secret.len() == 4),
        "protocol 3.0 has keys of four bytes"
    );
    for wire in &mut wires {
        wire.send(&msg::query("SELECT pg_sleep(1.5)"));
    }
    wait_active(&cluster, 3);
    let mut request = Wire::connect(howdah.target()).expect("a connection");
    request.send(&msg::ssl_request());
    assert_eq!(request.read_byte(), Ok(b'N'));
    request.send(&msg::cancel(keys[1].0, &keys[1].1));
    assert_eq!(request.expect_closed(), []);
    let codes: Vec<String> = wires
        .iter_mut()
        .map(|wire| wire.answer().code().to_owned())
        .collect();
    assert_eq!(codes, ["", "57014", ""]);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3, "no two clients share a key");
}
