//! What a client hears of NOTIFY.

use super::wire::{Frame, take_cstr};
use super::{Wire, msg};

/// A notification: who sent it, on which channel, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub pid: u32,
    pub channel: String,
    pub payload: String,
}

pub fn heard(frame: &Frame) -> Option<Heard> {
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
pub fn run(wire: &mut Wire, sql: &str) -> Vec<Heard> {
    wire.send(&msg::query(sql));
    let frames = wire.until_ready();
    let error = frames.iter().find(|frame| frame.kind == b'E').map(Frame::error);
    assert!(error.is_none(), "{sql}: {error:?}");
    frames.iter().filter_map(heard).collect()
}

/// The payloads of the next `count` notifications.
#[track_caller]
pub fn payloads(wire: &mut Wire, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        payloads.extend(heard(&wire.read()).map(|heard| heard.payload));
    }
    payloads
}

pub fn told_pid(wire: &Wire) -> u32 {
    wire.key.as_ref().expect("a login brings a key").0
}
