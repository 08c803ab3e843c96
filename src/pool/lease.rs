//! One client's use of one server.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::house::Pool;
use super::janitor::Errand;
use super::servers::Servers;
use super::slots::SlotId;
use super::source::{Dirt, Source};
use super::wait::Grant;
use crate::error::{Refusal, SqlState};
use crate::stats::Tally;

/// A server connection on loan. It ends in one of three ways and no other: [`release`](Self::release),
/// [`release_dirty`](Self::release_dirty), or dropped, which means broken.
pub struct Lease<S: Source> {
    pool: Arc<Pool<S>>,
    slot: SlotId,
    since: Instant,
    is_new: bool,
    /// `None` only while the lease is being consumed.
    conn: Option<S::Conn>,
}

impl<S: Source> Lease<S> {
    pub(super) fn new(pool: Arc<Pool<S>>, grant: Grant<S::Conn>, since: Instant) -> Self {
        Self {
            pool,
            slot: grant.slot,
            since,
            is_new: grant.is_new,
            conn: Some(grant.conn),
        }
    }

    /// Nobody has had the connection before: whatever it is like, it was not made so by others.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Closes the connection, and opens one in its place that is new. `None` if none can be opened, which the pool has
    /// taken note of.
    pub async fn replaced(mut self) -> Option<Self> {
        let conn = self.conn.take()?;
        let pool = Arc::clone(&self.pool);
        pool.run(|core, now, fx| core.begin_anew(self.slot, conn, now, fx));
        let mut errand = Errand::new(Arc::clone(&pool), self.slot);
        let opened = pool.source.open().await;
        let slot = errand.done();
        let unit = pool.roll();
        match opened {
            Ok(conn) => {
                let info = pool.source.info(&conn);
                pool.run(|core, now, fx| core.begun_anew(slot, info, unit, now, &*pool, fx));
                (self.conn, self.is_new, self.since) = (Some(conn), true, Instant::now());
                Some(self)
            }
            Err(error) => {
                pool.failed_to_open(slot, error, unit);
                None
            }
        }
    }

    /// Gives the connection back, idle, outside a transaction and fit for anybody.
    pub fn release(self, tally: &mut Tally) {
        self.release_at(Instant::now(), tally);
    }

    fn release_at(mut self, now: Instant, tally: &mut Tally) {
        if let Some(conn) = self.conn.take() {
            self.pool.take_back(self.slot, conn, now, tally);
        }
    }

    /// Gives the connection back to the janitor, who makes it fit for the next client or closes it.
    pub fn release_dirty(mut self, dirt: Dirt, tally: &mut Tally) {
        if let Some(conn) = self.conn.take() {
            self.pool.take_back_dirty(self.slot, conn, dirt, tally);
        }
    }

    /// Adds what was done so far to the pool's statistics and empties the tally: for sessions that keep their server
    /// for long.
    pub fn report(&self, tally: &mut Tally) {
        self.pool.absorb(tally);
    }

    /// When it began.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The pool it came from.
    pub fn pool(&self) -> &Arc<Pool<S>> {
        &self.pool
    }
}

impl Lease<Servers> {
    /// Gives it back as it is, or, where it could be ended for being idle or is not to be used again, to the janitor.
    pub fn release_at_rest(self, now: Instant, tally: &mut Tally) {
        if self.is_disturbed() || self.is_crowded() {
            self.release_dirty(Dirt::CancelInFlight, tally);
        } else {
            self.release_at(now, tally);
        }
    }
}

impl<S: Source> Drop for Lease<S> {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.pool.take_back_broken(self.slot, conn);
        }
    }
}

impl<S: Source> Deref for Lease<S> {
    type Target = S::Conn;

    fn deref(&self) -> &S::Conn {
        self.conn
            .as_ref()
            .expect("a lease has its connection until it is consumed")
    }
}

impl<S: Source> DerefMut for Lease<S> {
    fn deref_mut(&mut self) -> &mut S::Conn {
        self.conn
            .as_mut()
            .expect("a lease has its connection until it is consumed")
    }
}

/// Why a client got no server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// `max_waiting` others wait already.
    TooManyWaiting {
        /// The limit.
        limit: u32,
    },
    /// `query_wait_timeout` has passed.
    Timeout {
        /// How long it waited.
        waited: Duration,
        /// Why the last attempt to connect failed, if the pool cannot connect at present.
        last_error: Option<Refusal>,
        /// Whether it waited for RESUME.
        is_paused: bool,
    },
    /// The server cannot be connected to, and waiting will not help.
    Failed(Refusal),
    /// The pool was closed or killed, or its waiters were told to give up.
    Closing(Refusal),
}

impl LeaseError {
    /// What to tell the client.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::TooManyWaiting { limit } => Refusal::new(
                SqlState::TOO_MANY_CONNECTIONS,
                "too many clients are waiting for a server connection",
            )
            .detail(format!("max_waiting is {limit}.")),
            Self::Timeout {
                waited,
                last_error,
                is_paused,
            } => {
                let message = "query_wait_timeout: no server connection became free in time";
                let code = last_error
                    .as_ref()
                    .map_or(SqlState::QUERY_CANCELED, |error| error.code);
                let refusal = Refusal::new(code, message);
                match last_error {
                    Some(error) => refusal.detail(format!(
                        "Waited {waited:.1?}. The server cannot be reached: {error}."
                    )),
                    None if *is_paused => refusal.detail(format!("Waited {waited:.1?}. The pool is paused.")),
                    None => refusal.detail(format!("Waited {waited:.1?}.")),
                }
            }
            Self::Failed(refusal) | Self::Closing(refusal) => refusal.clone(),
        }
    }
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal().fmt(f)
    }
}

impl std::error::Error for LeaseError {}
