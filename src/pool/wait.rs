//! Waiting for a server, and changing one's mind about it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::house::Pool;
use super::lease::{Lease, LeaseError};
use super::line::Ticket;
use super::slots::{SlotId, Who, Wish};
use super::source::Source;

/// A server, given to somebody.
pub(super) struct Grant<C> {
    pub(super) slot: SlotId,
    pub(super) conn: C,
    /// Nobody has had it before.
    pub(super) is_new: bool,
}

/// The error is boxed because every client owns a cell, and few ever see one.
pub(super) type Outcome<C> = Result<Grant<C>, Box<LeaseError>>;

/// Where a waiter finds what became of its request. Filled under the pool's lock, at the moment the waiter leaves the
/// line; so under that lock a waiter is either in the line or served, and nothing can be lost between.
pub(super) struct Cell<C> {
    pub(super) who: Who,
    outcome: Mutex<Option<Outcome<C>>>,
    waker: AtomicWaker,
}

impl<C> Cell<C> {
    /// Whoever delivers wakes afterwards, without the lock.
    pub(super) fn deliver(&self, outcome: Outcome<C>) {
        *self.outcome.lock() = Some(outcome);
    }

    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    pub(super) fn take(&self) -> Option<Outcome<C>> {
        self.outcome.lock().take()
    }
}

#[cfg(test)]
impl<C> Cell<C> {
    pub(super) fn is_granted(&self) -> bool {
        matches!(*self.outcome.lock(), Some(Ok(_)))
    }
}

/// What a client needs to wait for servers. It owns one and uses it again and again, so that waiting allocates nothing
/// after the first time.
pub struct Waiter<S: Source> {
    cell: Option<Arc<Cell<S::Conn>>>,
    /// Where the server was that it had last.
    last: Option<SlotId>,
}

impl<S: Source> Waiter<S> {
    /// A waiter for any pool of this kind.
    pub fn new() -> Self {
        Self {
            cell: None,
            last: None,
        }
    }

    /// What it would like best of all: a server with this mark, and of these the one that it had last.
    pub(super) fn wish(&self, mark: u64) -> Wish {
        Wish {
            mark,
            who: self.who(),
            last: self.last,
        }
    }

    pub(super) fn has_got(&mut self, slot: SlotId) {
        self.last = Some(slot);
    }

    /// Whose it is, as long as it is not moved.
    fn who(&self) -> Who {
        Who::owner_of(self)
    }

    /// Made when it is needed: many clients never wait.
    pub(super) fn cell(&mut self) -> &Arc<Cell<S::Conn>> {
        let who = self.who();
        self.cell.get_or_insert_with(|| {
            Arc::new(Cell {
                who,
                outcome: Mutex::new(None),
                waker: AtomicWaker::new(),
            })
        })
    }
}

impl<S: Source> Default for Waiter<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// What becomes of a request for a server.
pub enum Asked<'a, S: Source> {
    /// There was one.
    Granted(Lease<S>),
    /// It has to be waited for.
    Queued(Queued<'a, S>),
}

/// A place in the line. Dropped, it leaves the line; what had been handed over in that instant is passed on.
pub struct Queued<'a, S: Source> {
    pub(super) pool: &'a Arc<Pool<S>>,
    pub(super) waiter: &'a mut Waiter<S>,
    pub(super) ticket: Option<Ticket>,
}

impl<S: Source> Future for Queued<'_, S> {
    type Output = Result<Lease<S>, LeaseError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let cell = self.waiter.cell();
        cell.waker.register(cx.waker());
        let Some(outcome) = cell.take() else {
            return Poll::Pending;
        };
        self.ticket = None;
        Poll::Ready(match outcome {
            Ok(grant) => {
                self.waiter.has_got(grant.slot);
                Ok(Lease::new(Arc::clone(self.pool), grant, Instant::now()))
            }
            Err(error) => Err(*error),
        })
    }
}

impl<S: Source> Drop for Queued<'_, S> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.pool.withdraw(ticket, self.waiter.cell());
        }
    }
}
