//! One client of a round: twice, directly and through the pooler.

use std::time::{Duration, Instant};

use crate::common::Wire;
use crate::common::wire::{Frame, NoFrame};
use crate::compare::transcript;
use crate::program::Step;

/// What is told of an answer that does not come. PostgreSQL itself always gives one, or the step is wrong.
const SILENCE: &str = "(no answer)";
/// What is told of a connection that has been closed.
const CLOSED: &str = "(closed)";
/// What is told of an answer that ends in the middle of a message.
const CUT: &str = "(closed within a message)";
/// How long a notification may take from one server to the pooler and on.
const HEARING_MAX: Duration = Duration::from_secs(5);

/// What PostgreSQL said and what the pooler said, where that differs.
pub(crate) type Told = (Vec<String>, Vec<String>);

/// Where a client is in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Idle,
    InTransaction,
    InFailedTransaction,
    /// The rest of its program would prove nothing.
    Done,
}

impl Standing {
    fn after(told: &[String]) -> Self {
        match told.last().map(String::as_str) {
            Some("Z E") => Self::InFailedTransaction,
            Some("Z I") => Self::Idle,
            _ => Self::InTransaction,
        }
    }
}

/// Both of a client's connections.
pub(crate) struct Client {
    /// To PostgreSQL.
    pub(crate) direct: Side,
    /// To the pooler.
    pub(crate) pooled: Side,
    standing: Standing,
    /// Whether the pooler may lose its server.
    may_lose: bool,
}

impl Client {
    /// A client that has logged in.
    pub(crate) fn new(direct: Wire, pooled: Wire, may_lose: bool) -> Self {
        Self {
            direct: Side::new(direct),
            pooled: Side::new(pooled),
            standing: Standing::Idle,
            may_lose,
        }
    }

    /// Whether it holds a server.
    pub(crate) fn is_in_transaction(&self) -> bool {
        matches!(
            self.standing,
            Standing::InTransaction | Standing::InFailedTransaction
        )
    }

    /// Does a step on both sides.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), Told> {
        if self.standing == Standing::Done {
            return Ok(());
        }
        let direct = self.direct.talk(step);
        let pooled = self.pooled.talk(step);
        let before = std::mem::replace(&mut self.standing, Standing::after(&direct));
        let was_failed = before == Standing::InFailedTransaction;
        if was_failed && fails_for_another_reason(&direct, &pooled) {
            return Ok(());
        }
        let is_silent = direct.last().is_some_and(|line| line == SILENCE);
        if direct != pooled && is_healed(&direct) {
            self.direct.talk(&Step::query("ROLLBACK"));
            self.pooled.talk(&Step::query("ROLLBACK"));
            self.standing = Standing::Done;
            return Ok(());
        }
        if self.may_lose && is_lost(&direct, &pooled) {
            self.direct.talk(&Step::query("ROLLBACK"));
            self.standing = Standing::Done;
            return Ok(());
        }
        if direct != pooled || is_silent {
            return Err((direct, pooled));
        }
        let [direct, pooled] =
            [&self.direct, &self.pooled].map(|side| vec![format!("{:?}", side.wire.params)]);
        if direct == pooled {
            Ok(())
        } else {
            Err((direct, pooled))
        }
    }

    /// Hears what others have notified it of. How soon that is is nowhere defined, but for what comes before what.
    pub(crate) fn catch_up(&mut self) -> Result<(), Told> {
        if self.standing != Standing::Idle {
            return Ok(());
        }
        // The signal is there by now, and is attended to before the next ReadyForQuery. The pooler is not to be asked: others
        // may have all its servers.
        self.direct.talk(&Step::query(""));
        let end = Instant::now() + HEARING_MAX;
        while self.pooled.heard.len() < self.direct.heard.len() && Instant::now() < end {
            self.pooled.hear(Duration::from_millis(50));
        }
        if self.direct.heard == self.pooled.heard {
            return Ok(());
        }
        Err((self.direct.heard.clone(), self.pooled.heard.clone()))
    }
}

/// One connection.
pub(crate) struct Side {
    /// The connection itself.
    pub(crate) wire: Wire,
    /// The notifications that have come, and whose they were.
    heard: Vec<String>,
}

impl Side {
    /// One that has logged in.
    pub(crate) fn new(wire: Wire) -> Self {
        Self {
            wire,
            heard: Vec::new(),
        }
    }

    /// Does a step, and tells what came of it.
    pub(crate) fn talk(&mut self, step: &Step) -> Vec<String> {
        self.wire.send(&step.to_bytes());
        let mut frames = Vec::new();
        let mut ends = step.ends();
        while ends > 0 {
            match self.wire.try_read() {
                Ok(frame) => {
                    ends -= usize::from(frame.kind == b'Z');
                    if frame.kind == b'G' {
                        self.wire.send(&step.copy_bytes());
                    }
                    frames.extend(self.take(frame));
                }
                Err(why) => {
                    let mut lines = transcript(&frames);
                    lines.push(match why {
                        NoFrame::Closed if self.wire.is_within_frame() => CUT.to_owned(),
                        NoFrame::Closed => CLOSED.to_owned(),
                        NoFrame::Timeout => SILENCE.to_owned(),
                    });
                    return lines;
                }
            }
        }
        transcript(&frames)
    }

    /// Reads what may come unasked.
    fn hear(&mut self, limit: Duration) {
        let patience = std::mem::replace(&mut self.wire.patience, limit);
        if let Ok(frame) = self.wire.try_read() {
            self.take(frame);
        }
        self.wire.patience = patience;
    }

    /// Takes note of a notification. One's own is part of the answer, another's comes when it comes.
    fn take(&mut self, mut frame: Frame) -> Option<Frame> {
        if frame.kind != b'A' {
            return Some(frame);
        }
        let (pid, text) = frame.body.split_at(4);
        let is_own = self
            .wire
            .key
            .as_ref()
            .is_some_and(|(own, _)| own.to_be_bytes() == *pid);
        let whose = if is_own { "own" } else { "another's" };
        self.heard.push(format!("{whose} {}", text.escape_ascii()));
        frame.body[..4].fill(0);
        is_own.then_some(frame)
    }
}

/// A plan that PostgreSQL has to refuse for as long as the statement lives. The pooler makes it anew where no driver is
/// misled, after one refusal at the latest: there it is better on purpose.
fn is_healed(direct: &[String]) -> bool {
    direct
        .iter()
        .any(|line| line.contains("cached plan must not change result type"))
}

/// The client was let go, after nothing but what PostgreSQL said too, and told why. Only where the server was lost in the
/// middle of a message there is no room for that.
fn is_lost(direct: &[String], pooled: &[String]) -> bool {
    let is_reason = |line: &String| line.starts_with("E ") && line.contains("FATAL");
    let before = match pooled {
        [before @ .., reason, closed] if closed == CLOSED && is_reason(reason) => before,
        [before @ .., closed] if closed == CUT => before,
        _ => return false,
    };
    // A server that finds its connection half closed while it reads COPY data says so itself, first.
    let before = match before {
        [before @ .., error] if error.contains("unexpected EOF on client connection") => before,
        before => before,
    };
    direct.starts_with(before)
}

/// In a transaction that has failed nothing can be prepared any more: where the server lacks the client's statement, that is
/// all that the client is told of it.
fn fails_for_another_reason(direct: &[String], pooled: &[String]) -> bool {
    let still_failed = |told: &[String]| told.last().is_some_and(|line| line == "Z E");
    let says_so = |line: &String| line.starts_with("E ") && line.contains("25P02");
    still_failed(direct) && still_failed(pooled) && pooled.iter().any(says_so)
}
