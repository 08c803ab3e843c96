//! What an administrator may do to a pool.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::{Core, Gate};
use super::house::Pool;
use super::janitor::CancelMark;
use super::lease::LeaseError;
use super::settings::Settings;
use super::slots::Expiry;
use super::source::Source;
use crate::error::Refusal;

/// How long a database is left alone: PostgreSQL gives those who are connected to it five seconds to leave.
const AWAY: Duration = Duration::from_secs(6);

impl<S: Source> Pool<S> {
    /// PAUSE: idle connections are closed now, the others as they come back; those who ask wait. See
    /// [`emptied`](Self::emptied) and [`parted`](Self::parted) for the end of it.
    pub fn pause(&self) {
        self.shut(Gate::Paused, |_, _| {});
        self.source.part(true);
    }

    /// RESUME: those who waited are served. As with all that an administrator does to make a pool work again, a server
    /// that has refused connections is tried at once.
    pub fn resume(&self) {
        self.run(|core, now, fx| {
            if core.gate == Gate::Paused {
                core.gate = Gate::Open;
                core.backoff.clear();
                core.dispatch(now, self, fx);
            }
        });
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.core().gate == Gate::Paused
    }

    /// DISABLE: a flag for those who let clients in. Clients that are in are still served.
    pub fn disable(&self) {
        self.is_disabled.store(true, Ordering::Relaxed);
    }

    /// ENABLE.
    pub fn enable(&self) {
        self.is_disabled.store(false, Ordering::Relaxed);
    }

    /// Whether new clients are to be refused.
    pub fn is_disabled(&self) -> bool {
        self.is_disabled.load(Ordering::Relaxed)
    }

    /// What connections are opened with has become better: it is tried at once, and attempts that are under way do not
    /// count if they fail.
    pub fn encourage(&self) {
        self.run(|core, now, fx| {
            core.backoff.begin_anew(now);
            core.dispatch(now, self, fx);
        });
    }

    /// RECONNECT: idle connections are closed now, the others as they come back, and new ones take their place.
    pub fn reconnect(&self) {
        self.run(|core, now, fx| {
            core.generation += 1;
            core.backoff.clear();
            core.close_idle(now, fx, |_| false);
            core.dispatch(now, self, fx);
        });
        self.source.part(true);
    }

    /// What sessions begin with has changed: as [`reconnect`](Self::reconnect), but what listens for clients stays.
    pub fn renew(&self) {
        self.source.forget();
        self.run(|core, now, fx| {
            core.generation += 1;
            core.close_idle(now, fx, |_| false);
            core.dispatch(now, self, fx);
        });
    }

    /// Makes way for somebody who needs the database without connections: idle ones are closed now, the others as they
    /// come back, and for a while none is opened that nobody waits for.
    pub fn make_way(&self) {
        self.run(|core, now, fx| {
            core.generation += 1;
            core.spare_at = Some(now + AWAY);
            core.close_idle(now, fx, |_| false);
            core.dispatch(now, self, fx);
        });
        self.source.part(false);
    }

    /// KILL: as [`pause`](Self::pause), and those who wait are told `refusal`. Those who hold a lease
    /// are others' to end.
    pub fn kill(&self, refusal: Refusal) {
        self.shut(Gate::Paused, |core, fx| {
            core.generation += 1;
            core.fail_waiters(&LeaseError::Closing(refusal), fx);
        });
        self.source.part(true);
    }

    /// Closes the pool for good: those who wait and those who will ask are told `refusal`; connections are closed as
    /// they come back.
    pub fn close(&self, refusal: Refusal) {
        self.shut(Gate::Closed(refusal.clone()), |core, fx| {
            core.fail_waiters(&LeaseError::Closing(refusal), fx);
        });
        self.source.part(true);
    }

    /// Tells those who wait to give up.
    pub fn fail_waiters(&self, refusal: Refusal) {
        self.run(|core, now, fx| {
            core.fail_waiters(&LeaseError::Closing(refusal), fx);
            core.settle(now, self);
        });
    }

    fn shut(&self, gate: Gate, and: impl FnOnce(&mut Core<S>, &mut super::effects::Effects<S>)) {
        self.run(|core, now, fx| {
            if !matches!(core.gate, Gate::Closed(_)) {
                core.gate = gate;
            }
            core.close_idle(now, fx, |_| false);
            and(core, fx);
            core.settle(now, self);
        });
    }

    /// New settings, in force at once: what is too much goes, what may be more is opened, connections get their new
    /// lifetime.
    pub fn apply(&self, settings: Settings) {
        self.run(|core, now, fx| {
            for slot in core.slots.iter_mut() {
                slot.expiry = Expiry::new(slot.opened_at, settings.server_lifetime, slot.jitter);
            }
            core.settings = settings;
            core.spare_at = None;
            core.backoff.clear();
            core.close_idle(now, fx, |core| core.slots.len() <= core.settings.pool_size);
            core.dispatch(now, self, fx);
            // The keeper plans anew.
            fx.ring = true;
        });
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.core().settings.clone()
    }

    /// Waits until no connection is left: the end of PAUSE and of closing.
    pub async fn emptied(&self) {
        self.until(|core| core.slots.is_empty()).await;
    }

    /// Waits until none beside its own is left either, such as the one that listens for clients.
    pub async fn parted(&self) {
        self.until(|_| self.source.is_parted()).await;
    }

    /// `WAIT_CLOSE`: waits until all connections from before the last [`reconnect`](Self::reconnect) are closed.
    pub async fn wait_close(&self) {
        let generation = self.core().generation;
        self.until(|core| core.slots.iter().all(|slot| slot.generation >= generation))
            .await;
    }

    async fn until(&self, is_so: impl Fn(&Core<S>) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if is_so(&self.core()) {
                return;
            }
            changed.await;
        }
    }

    /// It has had `min_pool_size` connections at least once.
    pub fn is_ready(&self) -> bool {
        self.core().is_ready
    }

    /// Counts a cancel request on its way to a server, until what is returned is dropped.
    pub fn cancel_mark(self: &Arc<Self>) -> CancelMark<S> {
        CancelMark::new(Arc::clone(self))
    }
}
