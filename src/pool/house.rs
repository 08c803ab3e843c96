//! The shell around the core: takes the lock, asks the core, lets go of the lock, does what the core said.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::core::{Core, Requested, World};
use super::effects::Effects;
use super::keeper::{Bell, keep};
use super::lease::{Lease, LeaseError};
use super::limits::{Approval, Book, Membership, Need, Neighbour};
use super::line::Ticket;
use super::settings::{PoolKey, Settings};
use super::slots::{SlotId, State};
use super::source::{Dirt, Source};
use super::wait::{Asked, Cell, Queued, Waiter};
use crate::stats::Tally;

/// The connections of one (database, user), and those who wait for them.
pub struct Pool<S: Source> {
    pub(super) key: PoolKey,
    pub(super) source: S,
    pub(super) runtime: Handle,
    core: Mutex<Core<S>>,
    /// After the core, whose connections give their approvals back when they are dropped.
    membership: Membership,
    bell: Arc<Bell>,
    watcher: Waker,
    /// Told when a connection has gone.
    pub(super) changed: Notify,
    pub(super) cancels: AtomicU32,
    pub(super) is_disabled: AtomicBool,
    dice: AtomicU64,
    me: Weak<Self>,
}

impl<S: Source> Pool<S> {
    /// A pool under the limits in `book`. It begins to fill up to `min_pool_size` at once. To be called within a tokio
    /// runtime, on which its tasks will run.
    pub fn new(key: PoolKey, settings: Settings, source: S, book: &Arc<Book>) -> Arc<Self> {
        // A test that has failed is to fail again.
        let seed = if cfg!(test) {
            0
        } else {
            RandomState::new().hash_one(0)
        };
        Self::with_seed(key, settings, source, book, seed)
    }

    /// The same with a seed for all that it leaves to chance: the spread of lifetimes and of retries.
    pub fn with_seed(key: PoolKey, settings: Settings, source: S, book: &Arc<Book>, seed: u64) -> Arc<Self> {
        let bell = Arc::new(Bell::default());
        let pool = Arc::new_cyclic(|me: &Weak<Self>| Self {
            membership: book.join(&key, me.clone(), Arc::clone(&bell)),
            core: Mutex::new(Core::new(settings, Instant::now())),
            runtime: Handle::current(),
            watcher: bell.waker(),
            bell: Arc::clone(&bell),
            changed: Notify::new(),
            cancels: AtomicU32::new(0),
            is_disabled: AtomicBool::new(false),
            dice: AtomicU64::new(seed),
            me: me.clone(),
            key,
            source,
        });
        pool.runtime.spawn(keep(Arc::downgrade(&pool), bell));
        pool
    }

    /// The database and user it is for.
    pub fn key(&self) -> &PoolKey {
        &self.key
    }

    /// What opens its connections.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Puts somebody under the limits that hold for this pool, for connections beside its own.
    pub(super) fn enlist(&self, other: Weak<dyn Neighbour>, bell: &Arc<Bell>) -> Membership {
        self.membership.beside(&self.key, other, Arc::clone(bell))
    }

    /// Takes a connection, waiting in line for it if need be.
    ///
    /// The future may be polled for as long as it takes, in a `select!` with other things if it is pinned; its place in
    /// the line is kept until it is dropped.
    /// A connection with this `mark` (see [`Source::mark`]) is preferred among the idle ones.
    pub async fn lease(self: &Arc<Self>, waiter: &mut Waiter<S>, mark: u64) -> Result<Lease<S>, LeaseError> {
        match self.ask(Instant::now(), waiter, mark)? {
            Asked::Granted(lease) => Ok(lease),
            Asked::Queued(place) => place.await,
        }
    }

    /// The same in two steps, for a caller who has just looked at the clock: most leases are granted at once.
    pub fn ask<'a>(
        self: &'a Arc<Self>,
        now: Instant,
        waiter: &'a mut Waiter<S>,
        mark: u64,
    ) -> Result<Asked<'a, S>, LeaseError> {
        match self.act(|core, fx| core.request(waiter, mark, now, &**self, fx)) {
            Requested::Granted(grant) => {
                waiter.has_got(grant.slot);
                Ok(Asked::Granted(Lease::new(Arc::clone(self), grant, now)))
            }
            Requested::Refused(error) => Err(error),
            Requested::Queued(ticket) => Ok(Asked::Queued(Queued {
                pool: self,
                waiter,
                ticket: Some(ticket),
            })),
        }
    }

    pub(super) fn withdraw(&self, ticket: Ticket, cell: &Cell<S::Conn>) {
        self.run(|core, now, fx| core.withdraw(ticket, cell, now, self, fx));
    }

    pub(super) fn take_back(&self, slot: SlotId, conn: S::Conn, now: Instant, tally: &mut Tally) {
        self.act(|core, fx| {
            core.stats.absorb(tally);
            core.release(slot, conn, now, self, fx);
        });
    }

    pub(super) fn take_back_dirty(
        self: &Arc<Self>,
        slot: SlotId,
        conn: S::Conn,
        dirt: Dirt,
        tally: &mut Tally,
    ) {
        self.run(|core, now, _| {
            core.stats.absorb(tally);
            core.begin_cleaning(slot, State::cleaning(dirt), now);
        });
        self.spawn_clean(slot, conn, dirt);
    }

    pub(super) fn take_back_broken(&self, slot: SlotId, conn: S::Conn) {
        self.run(|core, now, fx| core.break_off(slot, conn, now, self, fx));
    }

    /// Adds what a client did while it held no server, and empties its tally.
    pub fn absorb(&self, tally: &mut Tally) {
        self.core().stats.absorb(tally);
    }

    pub(super) fn tick(&self) -> Option<Instant> {
        self.run(|core, now, fx| core.tick(now, self, fx))
    }

    /// Whether it gives out servers.
    pub(super) fn is_open(&self) -> bool {
        self.core().is_open()
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core<S>> {
        self.core.lock()
    }

    /// Asks the core, then does what it said.
    pub(super) fn run<R>(&self, ask: impl FnOnce(&mut Core<S>, Instant, &mut Effects<S>) -> R) -> R {
        let now = Instant::now();
        self.act(|core, fx| ask(core, now, fx))
    }

    fn act<R>(&self, ask: impl FnOnce(&mut Core<S>, &mut Effects<S>) -> R) -> R {
        let mut fx = Effects::default();
        let answer = ask(&mut self.core.lock(), &mut fx);
        self.carry_out(fx);
        answer
    }

    fn carry_out(&self, fx: Effects<S>) {
        if fx.is_nothing() {
            // Nothing is in it that could be dropped, which to find out would cost more than all of the above.
            std::mem::forget(fx);
            return;
        }
        for cell in fx.wake {
            cell.wake();
        }
        for conn in fx.close {
            self.source.close(conn);
        }
        if fx.ring {
            self.bell.ring();
        }
        if fx.changed {
            self.changed.notify_waiters();
        }
        if !fx.check.is_empty() || !fx.open.is_empty() {
            // Without an owner the pool is on its way out, and so are its slots.
            if let Some(me) = self.me.upgrade() {
                fx.check
                    .into_iter()
                    .for_each(|(slot, conn)| me.spawn_check(slot, conn));
                fx.open.into_iter().for_each(|slot| me.spawn_open(slot));
            }
        }
        if fx.refused > 0 && self.membership.evict() {
            self.run(|core, now, fx| core.dispatch(now, self, fx));
        }
    }

    /// A number in 0..1.
    pub(super) fn roll(&self) -> f32 {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut bits = self
            .dice
            .fetch_add(GOLDEN, Ordering::Relaxed)
            .wrapping_add(GOLDEN);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits >> 40) as f32 / (1_u32 << 24) as f32
    }
}

impl<S: Source> World<S> for Pool<S> {
    fn is_quiet(&self, conn: &mut S::Conn) -> bool {
        self.source.is_quiet(conn)
    }

    fn mark(&self, conn: &S::Conn) -> u64 {
        self.source.mark(conn)
    }

    fn watch(&self, conn: &mut S::Conn) -> bool {
        match self
            .source
            .poll_idle(conn, &mut Context::from_waker(&self.watcher))
        {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(gone) => {
                tracing::info!(pool = %self.key, reason = &*gone.0, "an idle server connection is gone");
                false
            }
        }
    }

    fn is_hopeful(&self) -> bool {
        self.source.is_hopeful()
    }

    fn approve(&self, need: Option<Need>) -> Option<Approval> {
        match need {
            Some(need) => self.membership.approve(need),
            None => self.membership.approve_spare(),
        }
    }

    fn content(&self) {
        self.membership.content();
    }

    fn yields(&self, held: u32, oldest: Option<Instant>, now: Instant) -> bool {
        self.membership.yields(held, oldest, now)
    }
}

impl<S: Source> Neighbour for Pool<S> {
    fn longest_idle(&self) -> Option<Instant> {
        let core = self.core();
        core.slots.longest_idle().map(|id| core.slots.get(id).since)
    }

    fn evict(&self) -> bool {
        self.run(|core, now, fx| {
            let before = core.slots.len();
            core.close_idle(now, fx, |core| core.slots.len() < before);
            core.slots.len() < before
        })
    }
}

impl<S: Source> Drop for Pool<S> {
    fn drop(&mut self) {
        // So that the keeper, asleep with a weak handle, sees that it is gone.
        self.bell.ring();
    }
}
