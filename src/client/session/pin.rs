//! Why a client keeps its server between transactions, and that not too many do.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::pool::PinPermit;
use crate::server::{Connection, Remains};

use super::Session;
use super::settle::ASK_AGAIN;
use crate::client::handle::PinView;
use crate::client::talk::marks::Marks;

/// Why a client keeps its server between transactions.
#[derive(Debug)]
pub(super) struct Pin {
    pub(super) remains: Remains,
    /// Where that came from, the oldest first.
    causes: Vec<Cause>,
    pub(super) since: Instant,
    pub(super) ask_at: Instant,
    pub(super) pause: Duration,
    /// Permission to keep it; who only listens may go without.
    pub(super) permit: Option<PinPermit>,
    /// When it has to be given up, for a state that came about unannounced, past `max_pinned`.
    due: Option<Instant>,
}

/// A statement that has left something.
#[derive(Debug)]
struct Cause {
    kinds: Remains,
    /// Its beginning, as it is shown.
    statement: Box<str>,
    since: Instant,
}

impl Pin {
    /// What there is now, and the statement that is to blame for what is new. What has gone is nobody's fault.
    pub(super) fn update(&mut self, remains: Remains, marks: Option<&Marks>, now: Instant) {
        self.causes
            .retain(|cause| !cause.kinds.intersection(remains).is_empty());
        let mut known = Remains::NONE;
        self.causes.iter().for_each(|cause| known.insert(cause.kinds));
        let kinds = remains.without(known);
        if !kinds.is_empty() {
            self.causes.push(Cause {
                kinds,
                statement: marks.map(|marks| marks.statement.shown()).unwrap_or_default(),
                since: now,
            });
        }
        self.remains = remains;
    }

    pub(super) fn view(&self) -> PinView {
        let cause = self.causes.first();
        PinView {
            remains: self.remains,
            statement: cause.map(|cause| cause.statement.clone()).unwrap_or_default(),
            since: cause.map_or(self.since, |cause| cause.since),
        }
    }

    /// Of a client that has not left anything yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            remains: Remains::NONE,
            causes: Vec::new(),
            since: now,
            ask_at: now,
            pause: Duration::ZERO,
            permit: None,
            due: None,
        }
    }

    /// Of a client that hears from its server for a while.
    pub(super) fn listening() -> Self {
        let now = Instant::now();
        Self {
            remains: Remains::LISTEN,
            ask_at: now + ASK_AGAIN,
            pause: ASK_AGAIN,
            ..Self::new(now)
        }
    }
}

impl Session {
    /// What the client has left keeps its server, be it past `max_pinned`, for it is there. Such a pin is counted like others;
    /// and where it is one too many, the client has a grace to give it up.
    pub(super) fn count_pin(&self, pin: &mut Pin, now: Instant) {
        // Who listens moves to the hub.
        if pin.permit.is_some() || pin.remains == Remains::LISTEN && self.talk.ear.is_some() {
            return;
        }
        let (permit, has_room) = PinPermit::insist(&self.pool);
        pin.permit = Some(permit);
        let grace = self.pin_grace();
        if !has_room && !grace.is_zero() {
            pin.due = now.checked_add(grace);
        }
    }

    /// How long a client may be one too many: those who have waited since then are to have its server in time.
    fn pin_grace(&self) -> Duration {
        self.policy.query_wait_timeout / 2
    }

    /// Ready when the client, between transactions, has kept its server for too long past `max_pinned`.
    pub(super) fn poll_pin(&mut self, cx: &mut Context<'_>, server: &Connection) -> Poll<Farewell> {
        match self.pin.as_ref().and_then(|pin| pin.due) {
            Some(due) if server.pipeline.is_settled() => {
                ready!(self.clock.poll_until(cx, due));
                self.overdue(due).map_or(Poll::Pending, Poll::Ready)
            }
            _ => Poll::Pending,
        }
    }

    /// Why the client has to go, if there are still too many like it at this time.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Farewell> {
        let pin = self.pin.as_mut()?;
        pin.due.filter(|due| *due <= now)?;
        if PinPermit::are_too_many(&self.pool) {
            return Some(Farewell::Limit(too_many_pinned(self.pin_grace())));
        }
        pin.due = None;
        None
    }
}

pub(super) fn too_many_pinned(waited: Duration) -> Refusal {
    Refusal::new(
        SqlState::TOO_MANY_CONNECTIONS,
        "too many clients keep a server for their session state",
    )
    .detail(format!("Waited {waited:.1?}."))
    .hint("max_pinned says how many servers of a pool may be kept.")
}
