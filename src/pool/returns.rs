//! The decisions of a pool, continued: what becomes of a connection that comes back, or does not.

use std::sync::Arc;

use tokio::time::Instant;

use super::core::{Core, World};
use super::effects::Effects;
use super::slots::{Expiry, ServerState, SlotId, State};
use super::source::{OpenError, Source};
use crate::error::{Refusal, SqlState};

impl<S: Source> Core<S> {
    /// A client is done with a connection, which is clean.
    pub(super) fn release(
        &mut self,
        id: SlotId,
        conn: S::Conn,
        now: Instant,
        world: &impl World<S>,
        fx: &mut Effects<S>,
    ) {
        self.end_of_use(id, now);
        self.place(id, conn, true, now, world, fx);
    }

    /// A client is done with a connection that must be cleaned.
    pub(super) fn begin_cleaning(&mut self, id: SlotId, state: State<S::Conn>, now: Instant) {
        self.end_of_use(id, now);
        self.slots.shift(id, state, now);
    }

    /// A client lost its connection.
    pub(super) fn break_off(
        &mut self,
        id: SlotId,
        conn: S::Conn,
        now: Instant,
        world: &impl World<S>,
        fx: &mut Effects<S>,
    ) {
        self.end_of_use(id, now);
        self.stats.returns_bad += 1;
        self.lose(id, conn, now, fx);
        self.dispatch(now, world, fx);
    }

    fn end_of_use(&mut self, id: SlotId, now: Instant) {
        self.stats.used(now.duration_since(self.slots.get(id).since));
    }

    /// A connection has been opened.
    pub(super) fn opened(
        &mut self,
        id: SlotId,
        (conn, info): (S::Conn, Arc<S::Info>),
        unit: f32,
        now: Instant,
        world: &impl World<S>,
        fx: &mut Effects<S>,
    ) {
        self.begin_life(id, info, unit, now);
        self.place(id, conn, false, now, world, fx);
        self.is_ready |= self.slots.living() >= self.settings.min_pool_size;
        // The attempts after a failure go one by one; now there may be more.
        self.dispatch(now, world, fx);
    }

    fn begin_life(&mut self, id: SlotId, info: Arc<S::Info>, unit: f32, now: Instant) {
        let expiry = Expiry::new(now, self.settings.server_lifetime, unit);
        let slot = self.slots.get_mut(id);
        let took = now.duration_since(slot.opened_at);
        (slot.info, slot.opened_at, slot.expiry, slot.jitter) = (Some(info), now, expiry, unit);
        self.stats.connected(took, true);
        self.backoff.clear();
    }

    /// A client gives up a connection that is of no use to it, and another one is opened for it in its place.
    pub(super) fn begin_anew(&mut self, id: SlotId, conn: S::Conn, now: Instant, fx: &mut Effects<S>) {
        self.end_of_use(id, now);
        self.slots.shift(id, State::Opening, now);
        let slot = self.slots.get_mut(id);
        (slot.info, slot.opened_at, slot.generation) = (None, now, self.generation);
        fx.close.push(conn);
    }

    /// It has been opened, and is that client's.
    pub(super) fn begun_anew(
        &mut self,
        id: SlotId,
        info: Arc<S::Info>,
        unit: f32,
        now: Instant,
        world: &impl World<S>,
        fx: &mut Effects<S>,
    ) {
        self.begin_life(id, info, unit, now);
        self.slots.shift(id, State::Leased, now);
        // Those who wait may have taken it for theirs.
        self.dispatch(now, world, fx);
    }

    /// A connection could not be opened.
    pub(super) fn open_failed(
        &mut self,
        id: SlotId,
        error: OpenError,
        unit: f32,
        now: Instant,
        world: &impl World<S>,
        fx: &mut Effects<S>,
    ) {
        let started = self.slots.get(id).opened_at;
        self.stats.connected(now.duration_since(started), false);
        self.backoff
            .fail(error, started, now, self.settings.server_login_retry, unit);
        self.forget(id, now, fx);
        self.dispatch(now, world, fx);
    }

    /// A connection comes back from its check or its cleaning; `None`: it does not.
    pub(super) fn restored(
        &mut self,
        id: SlotId,
        conn: Option<S::Conn>,
        now: Instant,
        world: &impl World<S>,
        fx: &mut Effects<S>,
    ) {
        let used = self.slots.get(id).kind() != ServerState::Checking;
        if let Some(conn) = conn {
            return self.place(id, conn, used, now, world, fx);
        }
        self.stats.connections_lost += u64::from(!used);
        self.forget(id, now, fx);
        self.dispatch(now, world, fx);
    }

    /// A connection was dropped together with the task that had it. The keeper sees to the rest: such tasks end when
    /// their runtime does, and then nothing new may be started from here.
    pub(super) fn abandoned(&mut self, id: SlotId, now: Instant, fx: &mut Effects<S>) {
        let slot = self.slots.get(id);
        if slot.kind() == ServerState::Opening {
            let refusal = Refusal::new(SqlState::INTERNAL_ERROR, "the attempt to connect was broken off");
            let error = OpenError {
                refusal,
                is_final: false,
                note: None,
            };
            self.backoff
                .fail(error, slot.opened_at, now, self.settings.server_login_retry, 0.5);
        }
        self.forget(id, now, fx);
        fx.ring = true;
    }

    /// A usable connection finds its place: with the first in the line, among the idle, or nowhere.
    pub(super) fn place(
        &mut self,
        id: SlotId,
        mut conn: S::Conn,
        used: bool,
        now: Instant,
        world: &impl World<S>,
        fx: &mut Effects<S>,
    ) {
        if self.must_close(id, used, now, world) {
            self.discard(id, conn, now, fx);
            self.dispatch(now, world, fx);
        } else if !self.line.is_empty() {
            self.hand(id, conn, now, fx);
            self.settle(now, world);
        } else if world.watch(&mut conn) {
            let mark = world.mark(&conn);
            self.slots.shift(id, State::Idle(conn), now);
            self.slots.set_mark(id, mark);
            self.plan_end(id, now, fx);
        } else {
            self.lose(id, conn, now, fx);
            self.dispatch(now, world, fx);
        }
    }

    fn must_close(&self, id: SlotId, used: bool, now: Instant, world: &impl World<S>) -> bool {
        let slot = self.slots.get(id);
        let have = self.slots.len();
        !self.is_open()
            || slot.generation != self.generation
            || slot.expiry.is_over(now, used)
            || have > self.settings.size_max()
            // The reserve, or what a smaller pool_size left over, stays only as long as somebody waits.
            || (have > self.settings.pool_size && self.line.is_empty())
            // What was opened for somebody who waits serves him first.
            || ((used || self.line.is_empty()) && world.yields(have, self.line.oldest(), now))
    }

    /// Closes a connection that nobody needs.
    pub(super) fn discard(&mut self, id: SlotId, conn: S::Conn, now: Instant, fx: &mut Effects<S>) {
        fx.close.push(conn);
        self.forget(id, now, fx);
    }

    /// Closes a connection that is dead or spoke out of turn.
    pub(super) fn lose(&mut self, id: SlotId, conn: S::Conn, now: Instant, fx: &mut Effects<S>) {
        self.stats.connections_lost += 1;
        self.discard(id, conn, now, fx);
    }

    fn forget(&mut self, id: SlotId, now: Instant, fx: &mut Effects<S>) {
        self.slots.remove(id);
        self.touched = now;
        fx.changed = true;
    }

    /// Closes idle connections, the longest idle first, until `enough` says so.
    pub(super) fn close_idle(&mut self, now: Instant, fx: &mut Effects<S>, enough: impl Fn(&Self) -> bool) {
        while let Some(id) = self.slots.longest_idle().filter(|_| !enough(self)) {
            let conn = self.slots.take_idle(id, State::Leased, now);
            self.discard(id, conn, now, fx);
        }
    }
}
