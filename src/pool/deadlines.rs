//! The decisions of a pool, continued: what happens because time passes, and when the next of it is due.

use std::time::Duration;

use tokio::time::Instant;

use super::core::{Core, Gate, World};
use super::effects::Effects;
use super::lease::LeaseError;
use super::slots::{Expiry, SlotId, State};
use super::source::Source;

impl<S: Source> Core<S> {
    /// Does everything that is due. Returns when to come again; `None`: when rung.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        world: &impl World<S>,
        fx: &mut Effects<S>,
    ) -> Option<Instant> {
        self.time_out_waiters(now, fx);
        self.sweep_idle(now, world, fx);
        self.dispatch(now, world, fx);
        // Who is still hungry has just been rung because something under his limits moved: perhaps it became idle.
        fx.refused += u32::from(self.is_hungry);
        self.planned = self.next_deadline(now);
        fx.ring = false;
        self.planned
    }

    fn time_out_waiters(&mut self, now: Instant, fx: &mut Effects<S>) {
        let timeout = self.settings.query_wait_timeout;
        if timeout.is_zero() {
            return;
        }
        while self
            .line
            .oldest()
            .is_some_and(|since| now.duration_since(since) >= timeout)
        {
            let Some((cell, since)) = self.line.first() else {
                return;
            };
            let is_paused = self.gate == Gate::Paused;
            let error = LeaseError::Timeout {
                waited: now.duration_since(since),
                // What went wrong before the pause has nothing to do with it.
                last_error: self.backoff.last_error().filter(|_| !is_paused).cloned(),
                is_paused,
            };
            self.stats.requests_errors += 1;
            cell.deliver(Err(Box::new(error)));
            fx.wake.push(cell);
        }
    }

    /// Removes idle connections that have died, are too old or have been idle for too long.
    fn sweep_idle(&mut self, now: Instant, world: &impl World<S>, fx: &mut Effects<S>) {
        let idle: Vec<SlotId> = self.slots.idle().collect();
        for id in idle {
            let slot = self.slots.get_mut(id);
            let alive = slot.idle_conn().is_some_and(|conn| world.watch(conn));
            let old = slot.expiry.is_over(now, false);
            let unused = self.idle_end(id).is_some_and(|end| end <= now);
            if alive && !old && !unused {
                continue;
            }
            let conn = self.slots.take_idle(id, State::Leased, now);
            if alive {
                self.discard(id, conn, now, fx);
            } else {
                self.lose(id, conn, now, fx);
            }
        }
    }

    /// When a connection has been idle for too long, if there are enough others.
    fn idle_end(&self, id: SlotId) -> Option<Instant> {
        let timeout = self.settings.server_idle_timeout;
        let counts = !timeout.is_zero() && self.slots.len() > self.settings.min_pool_size;
        self.slots.get(id).since.checked_add(timeout).filter(|_| counts)
    }

    fn expiry(&self, id: SlotId) -> Option<Instant> {
        match self.slots.get(id).expiry {
            Expiry::At(at) => Some(at),
            Expiry::AfterUse | Expiry::Never => None,
        }
    }

    /// A connection has become idle: the keeper must be there when that ends.
    pub(super) fn plan_end(&mut self, id: SlotId, now: Instant, fx: &mut Effects<S>) {
        let end = earlier(self.idle_end(id), self.expiry(id));
        if end.is_some_and(|end| end > now) {
            self.plan(end, fx);
        }
    }

    /// Somebody has begun to wait: the keeper must be there when the reserve is due to him.
    pub(super) fn plan_reserve(&mut self, now: Instant, fx: &mut Effects<S>) {
        if self.has_reserve() {
            self.plan(now.checked_add(self.settings.reserve_pool_timeout), fx);
        }
    }

    fn has_reserve(&self) -> bool {
        self.settings.reserve_pool_size > 0 && !self.settings.reserve_pool_timeout.is_zero()
    }

    /// Only what is still to come: what is due has been done, or waits for an event that rings.
    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let after = |since: Option<Instant>, time: Duration| since.and_then(|since| since.checked_add(time));
        let mut next = None;
        let mut consider = |at: Option<Instant>| next = earlier(next, at.filter(|at| *at > now));
        if !self.settings.query_wait_timeout.is_zero() {
            consider(after(self.line.oldest(), self.settings.query_wait_timeout));
        }
        if self.has_reserve() && self.slots.len() < self.settings.size_max() {
            let timeout = self.settings.reserve_pool_timeout;
            let waiting = self
                .line
                .since()
                .find(|since| now.duration_since(*since) < timeout);
            consider(after(waiting, timeout));
        }
        if self.is_open() {
            consider(self.backoff.until(now));
            consider(self.spare_at);
        }
        for id in self.slots.idle() {
            consider(self.idle_end(id));
            consider(self.expiry(id));
        }
        next
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
