//! LISTEN and NOTIFY: what was sent is heard once, in the order of the commits, by those who listen and by nobody else.

mod common;

use std::thread;
use std::time::Duration;

use common::wire::{Frame, take_cstr};
use common::{Cluster, Howdah, Wire};

/// A notification: who sent it, on which channel, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    pid: u32,
    channel: String,
    payload: String,
}

fn heard(frame: &Frame) -> Option<Heard> {
    if frame.kind != b'A' {
        return None;
    }
    let (pid, mut rest) = frame.body.split_first_chunk::<4>().expect("a pid");
    Some(Heard {
        pid: u32::from_be_bytes(*pid),
        channel: take_cstr(&mut rest).to_owned(),
        payload: take_cstr(&mut rest).to_owned(),
    })
}

/// Runs a query that must succeed; returns the notifications that came before its end.
#[track_caller]
fn run(wire: &mut Wire, sql: &str) -> Vec<Heard> {
    wire.send(&common::msg::query(sql));
    let frames = wire.until_ready();
    let error = frames.iter().find(|frame| frame.kind == b'E').map(Frame::error);
    assert!(error.is_none(), "{sql}: {error:?}");
    frames.iter().filter_map(heard).collect()
}

/// The payloads of the next `count` notifications.
#[track_caller]
fn payloads(wire: &mut Wire, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        payloads.extend(heard(&wire.read()).map(|heard| heard.payload));
    }
    payloads
}

fn told_pid(wire: &Wire) -> u32 {
    wire.key.as_ref().expect("a login brings a key").0
}

#[test]
fn ones_own_comes_before_the_end_of_ones_answer_and_from_the_pid_that_one_was_told() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 3);
    let mut wire = Wire::app(howdah.target());
    assert_eq!(run(&mut wire, "LISTEN a"), []);
    for sql in [
        "NOTIFY a, 'mine'",
        "SELECT pg_notify('a', 'mine')",
        "DO $$ BEGIN PERFORM pg_notify('a', 'mine'); END $$",
        "BEGIN; NOTIFY a, 'mine'; COMMIT",
    ] {
        let mine = Heard {
            pid: told_pid(&wire),
            channel: "a".to_owned(),
            payload: "mine".to_owned(),
        };
        assert_eq!(run(&mut wire, sql), [mine], "{sql}");
    }
}

#[test]
fn nothing_is_lost_while_howdah_asks_the_server_something() {
    const MESSAGES: usize = 2000;
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 3);
    let mut wire = Wire::app(howdah.target());
    run(&mut wire, "LISTEN a");
    let target = cluster.target();
    let sender = thread::spawn(move || {
        let mut sender = Wire::app(target);
        for n in 0..MESSAGES {
            run(&mut sender, &format!("NOTIFY a, '{n}'"));
        }
    });
    let mut got = Vec::new();
    while !sender.is_finished() {
        // Each is followed by a question of howdah's.
        for sql in ["SET work_mem = '1MB'", "DO $$ BEGIN END $$", "RESET work_mem"] {
            got.extend(run(&mut wire, sql).into_iter().map(|heard| heard.payload));
        }
    }
    sender.join().expect("the sender has sent everything");
    let missing = MESSAGES - got.len();
    got.extend(payloads(&mut wire, missing));
    let all: Vec<_> = (0..MESSAGES).map(|n| n.to_string()).collect();
    assert_eq!(got, all);
    wire.expect_silence(Duration::from_millis(200));
}
