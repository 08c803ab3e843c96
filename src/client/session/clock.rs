//! How long things take, and how long they may.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::config::{PoolMode, PoolSettings};
use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::server::{Connection, IdleLimits};

/// The stop-watches of one session. Where no limit is set, none of them ever arms a timer.
#[derive(Debug)]
pub(super) struct Clock {
    /// When the client was last left without anything to do.
    idle_since: Instant,
    /// When the running transaction began, if there is one.
    transaction_since: Option<Instant>,
    /// When the oldest unanswered request went out.
    unit_since: Option<Instant>,
    /// How long earlier requests of the same unit have taken, which were answered before its end.
    unit_spent: Duration,
    /// When the server last had nothing more to do within a transaction.
    quiet_since: Instant,
    /// How much had come from the client, and when, when it last stopped within a message.
    stopped: (u64, Instant),
    /// Since when the client has been in a transaction that no server knows of.
    deferred_since: Option<Instant>,
    /// What time it is, unless time may have passed since somebody has looked.
    moment: Option<Instant>,
    /// How long the client may be idle by its own settings, or its role's.
    pub(super) idle_limits: IdleLimits,
    /// Armed once and moved only when it fires too early.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    pub(in crate::client) fn new(now: Instant) -> Self {
        Self {
            idle_since: now,
            transaction_since: None,
            unit_since: None,
            unit_spent: Duration::ZERO,
            quiet_since: now,
            stopped: (0, now),
            deferred_since: None,
            moment: None,
            idle_limits: IdleLimits::default(),
            timer: None,
        }
    }

    /// What time it is. Between two waits one look at the clock is enough, for it is a part of what a transaction costs.
    pub(super) fn now(&mut self) -> Instant {
        *self.moment.get_or_insert_with(Instant::now)
    }

    /// Time may pass from here on.
    pub(super) fn let_pass(&mut self) {
        self.moment = None;
    }

    pub(super) fn begin_idle(&mut self, now: Instant) {
        self.idle_since = now;
        self.unit_since = None;
        self.unit_spent = Duration::ZERO;
    }

    pub(super) fn begin_lease(&mut self, now: Instant) {
        self.moment = Some(now);
        self.transaction_since = Some(self.deferred_since.take().unwrap_or(now));
        self.quiet_since = now;
        self.unit_since = None;
    }

    /// The client, without a server, has said all that it has to say for now, be it in a transaction or not.
    pub(super) fn defer(&mut self, is_deferring: bool) {
        if is_deferring || self.deferred_since.is_some() {
            let now = Instant::now();
            self.idle_since = now;
            self.deferred_since = is_deferring.then(|| self.deferred_since.unwrap_or(now));
        }
    }

    pub(super) fn begin_unit(&mut self) {
        if self.unit_since.is_none() {
            let now = self.now();
            self.unit_since = Some(now);
            self.transaction_since.get_or_insert(now);
        }
    }

    /// All that was asked so far has been answered, within a unit: what comes next is the client's turn.
    pub(super) fn rest(&mut self) {
        if self.unit_since.is_some() {
            let now = self.now();
            self.unit_spent = self.end_unit(now, false);
        }
    }

    /// A unit has been answered; returns how long the server had something to do.
    pub(super) fn end_unit(&mut self, now: Instant, more: bool) -> Duration {
        let last = self
            .unit_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let took = std::mem::take(&mut self.unit_spent) + last;
        self.unit_since = more.then_some(now);
        self.quiet_since = now;
        took
    }

    /// The transaction is over; returns how long it took.
    pub(super) fn end_transaction(&mut self, now: Instant) -> Duration {
        let since = self.transaction_since.take();
        let took = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        // In a session that goes on, the next one begins with the next request.
        self.idle_since = now;
        took
    }

    /// Ready when the client has been idle for too long.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>, policy: &PoolSettings) -> Poll<Farewell> {
        if let Some(since) = self.deferred_since {
            let limits = self.idle_in_transaction(since, policy);
            return self.poll_limits(cx, &limits);
        }
        let own = Limit::of_postgresql(
            self.idle_since,
            self.idle_limits.session,
            SqlState::IDLE_SESSION_TIMEOUT,
            "idle-session timeout",
        );
        let limit = self.idle_timeout(policy);
        self.poll_limits(cx, &[limit, own])
    }

    /// In a transaction that no server knows of, it is howdah that sees to PostgreSQL's own limit.
    fn idle_in_transaction(&self, since: Instant, policy: &PoolSettings) -> [Option<Limit>; 3] {
        let own = Limit::of_postgresql(
            self.idle_since,
            self.idle_limits.transaction,
            SqlState::IDLE_IN_TRANSACTION_TIMEOUT,
            "idle-in-transaction timeout",
        );
        let idle = Self::idle_with_server(self.idle_since, policy);
        let whole = Limit::new(
            since,
            policy.transaction_timeout,
            SqlState::TRANSACTION_TIMEOUT,
            "transaction_timeout",
        );
        [own, idle, whole]
    }

    fn idle_timeout(&self, policy: &PoolSettings) -> Option<Limit> {
        Limit::new(
            self.idle_since,
            policy.client_idle_timeout,
            SqlState::IDLE_SESSION_TIMEOUT,
            "client_idle_timeout",
        )
    }

    /// Ready when the client has held its server for too long, in one way or another. `unfinished` is how much has come
    /// from it, if that ends within a message.
    pub(super) fn poll_busy(
        &mut self,
        cx: &mut Context<'_>,
        policy: &PoolSettings,
        server: &Connection,
        unfinished: Option<u64>,
    ) -> Poll<Farewell> {
        self.let_pass();
        if let Some(bytes) = unfinished
            && self.stopped.0 != bytes
        {
            self.stopped = (bytes, Instant::now());
        }
        let stopped = unfinished.and_then(|_| Self::idle_with_server(self.stopped.1, policy));
        if server.pipeline.is_settled() && policy.pool_mode == PoolMode::Session {
            // The rest is the server's own business.
            let limit = self.idle_timeout(policy);
            return self.poll_limits(cx, &[limit]);
        }
        if server.pipeline.is_settled() {
            return self.poll_idle(cx, policy);
        }
        let transaction = self.transaction_since.and_then(|since| {
            Limit::new(
                since,
                policy.transaction_timeout,
                SqlState::TRANSACTION_TIMEOUT,
                "transaction_timeout",
            )
        });
        let inner = match self.unit_since {
            Some(since) => Limit::new(
                since,
                policy.query_timeout,
                SqlState::QUERY_CANCELED,
                "query_timeout",
            ),
            None => Self::idle_with_server(self.quiet_since, policy),
        };
        self.poll_limits(cx, &[transaction, inner, stopped])
    }

    fn idle_with_server(since: Instant, policy: &PoolSettings) -> Option<Limit> {
        Limit::new(
            since,
            policy.idle_transaction_timeout,
            SqlState::IDLE_IN_TRANSACTION_TIMEOUT,
            "idle_transaction_timeout",
        )
    }

    fn poll_limits(&mut self, cx: &mut Context<'_>, limits: &[Option<Limit>]) -> Poll<Farewell> {
        match limits.iter().flatten().min_by_key(|limit| limit.at) {
            Some(next) => self
                .poll_until(cx, next.at)
                .map(|()| Farewell::Limit(next.refusal())),
            None => Poll::Pending,
        }
    }

    /// Ready from `at` on. The timer is made once, and moved only if it would fire too late or has fired too early: most
    /// moments that are waited for never come.
    pub(super) fn poll_until(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        loop {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.deadline() > at || timer.is_elapsed() {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// A moment at which patience ends.
struct Limit {
    at: Instant,
    setting: &'static str,
    /// How long that is; `None` where PostgreSQL would not say.
    after: Option<Duration>,
    code: SqlState,
}

impl Limit {
    /// `None` if there is no limit, or none that anybody will live to see.
    fn new(since: Instant, after: Duration, code: SqlState, setting: &'static str) -> Option<Self> {
        if after.is_zero() {
            return None;
        }
        Some(Self {
            at: since.checked_add(after)?,
            setting,
            after: Some(after),
            code,
        })
    }

    /// The same for a limit of PostgreSQL's, which tells no more of it.
    fn of_postgresql(
        since: Instant,
        after: Option<Duration>,
        code: SqlState,
        setting: &'static str,
    ) -> Option<Self> {
        Some(Self {
            at: since.checked_add(after?)?,
            setting,
            after: None,
            code,
        })
    }

    fn refusal(&self) -> Refusal {
        let message = format!("terminating connection due to {}", self.setting);
        let refusal = Refusal::new(self.code, message);
        match self.after {
            Some(after) => refusal.detail(format!("{} is {after:?}.", self.setting)),
            None => refusal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_limit_that_nobody_lives_to_see_is_none() {
        let (now, code) = (Instant::now(), SqlState::IDLE_SESSION_TIMEOUT);
        assert!(Limit::of_postgresql(now, Some(Duration::MAX), code, "").is_none());
        assert!(Limit::of_postgresql(now, None, code, "").is_none());
        assert!(Limit::of_postgresql(now, Some(Duration::from_secs(1)), code, "").is_some());
        assert!(Limit::new(now, Duration::MAX, code, "").is_none());
        assert!(Limit::new(now, Duration::ZERO, code, "").is_none());
        assert!(Limit::new(now, Duration::from_secs(1), code, "").is_some());
    }
}
