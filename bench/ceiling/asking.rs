//! The clients: each asks again as soon as it has its answer.

use std::time::{Duration, Instant};

use crate::protocol::{each_message, message, word};

const QUERY: &[u8] = b"SELECT abalance FROM pgbench_accounts WHERE aid = 12345;\0";
const STATEMENT: &[u8] = b"P_0\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0";
const BIND: &[u8] = b"\0P_0\0\0\0\0\x01\0\0\0\x0512345\0\0";

/// How questions are put, as pgbench names it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Simple,
    Prepared,
}

impl Mode {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "simple" => Some(Self::Simple),
            "prepared" => Some(Self::Prepared),
            _ => None,
        }
    }

    /// What is sent once after the login.
    fn preparation(self) -> Vec<u8> {
        let mut out = Vec::new();
        if self == Self::Prepared {
            message(&mut out, b'P', STATEMENT);
            message(&mut out, b'S', b"");
        }
        out
    }

    /// One transaction, as pgbench sends it.
    pub(crate) fn transaction(self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Simple => message(&mut out, b'Q', QUERY),
            Self::Prepared => {
                message(&mut out, b'B', BIND);
                message(&mut out, b'D', b"P\0");
                message(&mut out, b'E', b"\0\0\0\0\0");
                message(&mut out, b'S', b"");
            }
        }
        out
    }
}

/// What is to be done to the pooler.
pub(crate) struct Load {
    pub(crate) mode: Mode,
    pub(crate) clients: usize,
    pub(crate) duration: Duration,
    pub(crate) port: u16,
}

/// Where a client stands.
enum State {
    LoggingIn,
    Preparing,
    Asking(Instant),
}

/// What an answer has brought a client.
pub(crate) enum Step {
    /// It is not whole yet, or the next request is still a part of the login.
    Nothing,
    /// Its first transaction.
    Begun,
    /// The end of a transaction that took so long, and the next one.
    Done(Duration),
}

/// One client.
pub(crate) struct Client {
    mode: Mode,
    state: State,
}

impl Client {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            state: State::LoggingIn,
        }
    }

    /// Reads whole answers from `input`, appends what comes next to `out`, and gives how many bytes it has read.
    pub(crate) fn hear(
        &mut self,
        input: &[u8],
        transaction: &[u8],
        out: &mut Vec<u8>,
    ) -> anyhow::Result<(usize, Step)> {
        let (mut is_ready, mut has_failed) = (false, false);
        let taken = each_message(input, |tag| {
            is_ready |= tag == b'Z';
            has_failed |= tag == b'E';
        });
        anyhow::ensure!(!has_failed, "an error: {}", String::from_utf8_lossy(input));
        let step = if is_ready {
            self.go_on(transaction, out)
        } else {
            Step::Nothing
        };
        Ok((taken, step))
    }

    fn go_on(&mut self, transaction: &[u8], out: &mut Vec<u8>) -> Step {
        if matches!(self.state, State::LoggingIn) && self.mode == Mode::Prepared {
            self.state = State::Preparing;
            out.extend(self.mode.preparation());
            return Step::Nothing;
        }
        out.extend(transaction);
        match std::mem::replace(&mut self.state, State::Asking(Instant::now())) {
            State::Asking(since) => Step::Done(since.elapsed()),
            State::LoggingIn | State::Preparing => Step::Begun,
        }
    }
}

/// The first packet of a client.
pub(crate) fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0bench\0database\0app\0\0";
    let mut out = word(body.len() + 4).to_vec();
    out.extend(body);
    out
}
