//! The decisions of a pool: who is served, what is opened. No IO, no clock, no randomness.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::effects::Effects;
use super::lease::LeaseError;
use super::limits::{Approval, Need};
use super::line::{Line, Ticket};
use super::settings::Settings;
use super::slots::{ServerState, SlotId, Slots, State, Wish};
use super::source::Source;
use super::wait::{Cell, Grant, Waiter};
use crate::error::Refusal;
use crate::stats::PoolStats;

/// How long to wait before asking the shared limits again for a connection that nobody waits for.
const SPARE_RETRY: Duration = Duration::from_secs(5);

/// What the core asks of its surroundings, and gets an answer to at once.
pub(super) trait World<S: Source> {
    /// Whether an idle connection is fit to be given out now; it is not watched any more.
    fn is_quiet(&self, conn: &mut S::Conn) -> bool;
    /// What a connection's session is set to.
    fn mark(&self, conn: &S::Conn) -> u64;
    /// Whether a connection is fit to be idle; if so it is watched from now on.
    fn watch(&self, conn: &mut S::Conn) -> bool;
    /// Whether opening a connection that nobody waits for has a chance.
    fn is_hopeful(&self) -> bool;
    /// Permission to open a connection; `None` as need: nobody waits for it.
    fn approve(&self, need: Option<Need>) -> Option<Approval>;
    /// What was asked for with a need and not granted is not needed any more.
    fn content(&self);
    /// Whether to give up a connection in favour of another pool under a shared limit.
    fn yields(&self, held: u32, oldest: Option<Instant>, now: Instant) -> bool;
}

/// Whether servers are given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// Those who ask wait; connections are closed as they come back.
    Paused,
    /// Those who ask are refused; connections are closed as they come back.
    Closed(Refusal),
}

pub(super) enum Requested<C> {
    Granted(Grant<C>),
    Queued(Ticket),
    Refused(LeaseError),
}

pub(super) struct Core<S: Source> {
    pub(super) settings: Settings,
    pub(super) slots: Slots<S>,
    pub(super) line: Line<Arc<Cell<S::Conn>>>,
    pub(super) gate: Gate,
    pub(super) backoff: Backoff,
    pub(super) stats: PoolStats,
    /// Connections of an older one are closed as they come back.
    pub(super) generation: u64,
    /// When the keeper will get up; `None`: when it is rung.
    pub(super) planned: Option<Instant>,
    /// When to fill up to `min_pool_size` again: the shared limits said no, or somebody wants the database to himself.
    pub(super) spare_at: Option<Instant>,
    /// When it last had connections or clients.
    pub(super) touched: Instant,
    /// It is in the queue of the shared limits.
    pub(super) is_hungry: bool,
    /// It has had `min_pool_size` connections.
    pub(super) is_ready: bool,
}

impl<S: Source> Core<S> {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        let is_ready = settings.min_pool_size == 0;
        Self {
            settings,
            slots: Slots::new(),
            line: Line::new(),
            gate: Gate::Open,
            backoff: Backoff::default(),
            stats: PoolStats::default(),
            generation: 0,
            planned: None,
            spare_at: None,
            touched: now,
            is_hungry: false,
            is_ready,
        }
    }

    /// A client wants a server, and one with this mark best of all.
    pub(super) fn request(
        &mut self,
        waiter: &mut Waiter<S>,
        mark: u64,
        now: Instant,
        world: &impl World<S>,
        fx: &mut Effects<S>,
    ) -> Requested<S::Conn> {
        self.stats.requests_num += 1;
        let wish = waiter.wish(mark);
        if self.line.is_empty()
            && self.is_open()
            && let Some((slot, conn)) = self.take_fresh(Some(wish), now, world, fx)
        {
            self.stats.assigned(Duration::ZERO);
            return Requested::Granted(self.slots.grant(slot, conn, wish.who));
        }
        if let Some(error) = self.refusal(now) {
            self.stats.requests_errors += 1;
            return Requested::Refused(error);
        }
        self.stats.requests_queued += 1;
        let ticket = self.line.join(Arc::clone(waiter.cell()), now);
        if !self.settings.query_wait_timeout.is_zero() {
            self.plan(now.checked_add(self.settings.query_wait_timeout), fx);
        }
        self.plan_reserve(now, fx);
        self.dispatch(now, world, fx);
        Requested::Queued(ticket)
    }

    fn refusal(&self, now: Instant) -> Option<LeaseError> {
        if let Gate::Closed(refusal) = &self.gate {
            return Some(LeaseError::Closing(refusal.clone()));
        }
        if let Some(error) = self.hopeless(now) {
            return Some(LeaseError::Failed(error.clone()));
        }
        let limit = self.settings.max_waiting;
        (limit > 0 && self.line.len() >= limit as usize).then_some(LeaseError::TooManyWaiting { limit })
    }

    /// Why waiting is of no use: no connection is there that could come back, and none can be opened.
    fn hopeless(&self, now: Instant) -> Option<&Refusal> {
        self.backoff.final_error(now).filter(|_| self.slots.living() == 0)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.gate, Gate::Open)
    }

    /// The idle connection to be taken next, by somebody who is looking for one with a mark.
    fn next_idle(&self, wish: Option<Wish>, now: Instant) -> Option<SlotId> {
        if self.settings.server_round_robin {
            return self.slots.longest_idle();
        }
        let fitting = wish.and_then(|wish| self.slots.idle_wished(wish, now));
        fitting.or_else(|| self.slots.latest_idle())
    }

    fn is_stale(&self, id: SlotId, now: Instant) -> bool {
        self.settings
            .server_check_delay
            .is_some_and(|delay| now.duration_since(self.slots.get(id).since) >= delay)
    }

    /// An idle connection that needs no check first. Those found dead on the way are dropped.
    fn take_fresh(
        &mut self,
        wish: Option<Wish>,
        now: Instant,
        world: &impl World<S>,
        fx: &mut Effects<S>,
    ) -> Option<(SlotId, S::Conn)> {
        while let Some(slot) = (self.next_idle(wish, now)).filter(|id| !self.is_stale(*id, now)) {
            let mut conn = self.slots.take_idle(slot, State::Leased, now);
            if world.is_quiet(&mut conn) {
                return Some((slot, conn));
            }
            self.lose(slot, conn, now, fx);
        }
        None
    }

    /// Does what can be done for those who wait, and keeps `min_pool_size`. Called after whatever may have changed that;
    /// to call it once too often does no harm.
    pub(super) fn dispatch(&mut self, now: Instant, world: &impl World<S>, fx: &mut Effects<S>) {
        if self.is_open() {
            self.serve(now, world, fx);
            if let Some(error) = self.hopeless(now).cloned() {
                self.fail_waiters(&LeaseError::Failed(error), fx);
            }
            self.grow(now, world, fx);
        }
        self.settle(now, world);
    }

    /// Idle connections to those who wait; the long idle ones are checked first.
    fn serve(&mut self, now: Instant, world: &impl World<S>, fx: &mut Effects<S>) {
        while !self.line.is_empty() {
            if let Some((slot, conn)) = self.take_fresh(None, now, world, fx) {
                self.hand(slot, conn, now, fx);
            } else if let Some(id) = self.next_idle(None, now).filter(|_| self.is_short()) {
                let conn = self.slots.take_idle(id, State::Checking, now);
                fx.check.push((id, conn));
            } else {
                return;
            }
        }
    }

    /// Gives a connection to the first in the line, which must not be empty.
    pub(super) fn hand(&mut self, slot: SlotId, conn: S::Conn, now: Instant, fx: &mut Effects<S>) {
        let (cell, since) = self
            .line
            .first()
            .expect("the caller has seen somebody in the line");
        self.slots.shift(slot, State::Leased, now);
        self.stats.assigned(now.duration_since(since));
        cell.deliver(Ok(self.slots.grant(slot, conn, cell.who)));
        fx.wake.push(cell);
    }

    /// Connections that are on their way to those who wait.
    fn coming(&self) -> u32 {
        self.slots.count(ServerState::Opening) + self.slots.count(ServerState::Checking)
    }

    /// More wait than connections are on their way.
    fn is_short(&self) -> bool {
        self.line.len() > self.coming() as usize
    }

    /// Whether those who wait need, and may have, one more connection.
    fn wants_more(&self, now: Instant) -> bool {
        let have = self.slots.len();
        if !self.is_short() || self.backoff.until(now).is_some() || !self.is_open() {
            return false;
        }
        have < self.settings.pool_size
            || (have < self.settings.size_max() && self.overdue(now) > self.coming() as usize)
    }

    /// How many have waited long enough for the reserve (counted no further than the reserve could serve).
    fn overdue(&self, now: Instant) -> usize {
        let timeout = self.settings.reserve_pool_timeout;
        if timeout.is_zero() {
            return 0;
        }
        let bound = self.settings.reserve_pool_size as usize + self.coming() as usize;
        self.line
            .since()
            .take(bound)
            .take_while(|since| now.duration_since(*since) >= timeout)
            .count()
    }

    fn wants_spare(&self, now: Instant, world: &impl World<S>) -> bool {
        self.slots.len() < self.settings.min_pool_size.min(self.settings.pool_size)
            && world.is_hopeful()
            && self.backoff.until(now).is_none()
            && self.spare_at.is_none_or(|at| at <= now)
    }

    fn grow(&mut self, now: Instant, world: &impl World<S>, fx: &mut Effects<S>) {
        let parallel = if self.backoff.is_probing() {
            1
        } else {
            self.settings.max_parallel_connects.max(1)
        };
        while self.slots.count(ServerState::Opening) < parallel {
            let need = if self.wants_more(now) {
                Some(Need {
                    held: self.slots.len(),
                    since: self.line.oldest().unwrap_or(now),
                })
            } else if self.wants_spare(now, world) {
                None
            } else {
                break;
            };
            if let Some(approval) = world.approve(need) {
                if need.is_none() {
                    self.spare_at = None;
                }
                self.is_hungry &= need.is_none();
                fx.open.push(self.slots.open(approval, self.generation, now));
            } else if need.is_some() {
                // Idle connections elsewhere are looked for once; those that become idle later are given up to it.
                fx.refused += u32::from(!self.is_hungry);
                self.is_hungry = true;
                break;
            } else {
                self.spare_at = Some(now + SPARE_RETRY);
            }
        }
        let retry_at = self.backoff.until(now).or(self.spare_at);
        if retry_at.is_some() {
            self.plan(retry_at, fx);
        }
    }

    /// Leaves the queue of the shared limits if there is no reason any more to stand in it.
    pub(super) fn settle(&mut self, now: Instant, world: &impl World<S>) {
        if self.is_hungry && !self.wants_more(now) {
            self.is_hungry = false;
            world.content();
        }
    }

    /// A waiter gives up. What it had been given in that instant is passed on.
    pub(super) fn withdraw(
        &mut self,
        ticket: Ticket,
        cell: &Cell<S::Conn>,
        now: Instant,
        world: &impl World<S>,
        fx: &mut Effects<S>,
    ) {
        if self.line.leave(ticket).is_none()
            && let Some(Ok(grant)) = cell.take()
        {
            self.place(grant.slot, grant.conn, false, now, world, fx);
        }
        self.settle(now, world);
    }

    /// Tells all who wait that they wait in vain.
    pub(super) fn fail_waiters(&mut self, error: &LeaseError, fx: &mut Effects<S>) {
        while let Some((cell, _)) = self.line.first() {
            self.stats.requests_errors += 1;
            cell.deliver(Err(Box::new(error.clone())));
            fx.wake.push(cell);
        }
    }

    /// The keeper must be up at that time.
    pub(super) fn plan(&mut self, at: Option<Instant>, fx: &mut Effects<S>) {
        if let Some(at) = at
            && self.planned.is_none_or(|planned| at < planned)
        {
            self.planned = Some(at);
            fx.ring = true;
        }
    }
}
