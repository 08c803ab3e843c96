//! Every connection of a pool, wherever it is, and how many are where.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Approval;
use super::source::{Dirt, Source};
use super::wait::Grant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SlotId(u32);

/// Where a connection is. It owns the connection only where the pool does.
///
/// ```text
/// Opening ──► Idle ◄──► Leased ──► Cleaning, Canceling
///    │         │ ▲         ▲              │
///    │         ▼ │         │              │
///    │       Checking ─────┤              │
///    └─────────────────────┴──────────────┘ to the longest waiter; to Idle if there is none
/// ```
/// From each of them it may be gone: refused, dead, too old, not wanted.
pub(super) enum State<C> {
    /// It is being connected. ► Idle, Leased
    Opening,
    /// Nobody uses it. ► Leased, Checking
    Idle(C),
    /// It was idle for long and is asked whether it still works. ► Leased, Idle
    Checking,
    /// A client has it. ► Leased (another's), Idle, Cleaning, Canceling
    Leased,
    /// The janitor has it. ► Leased, Idle
    Cleaning,
    /// The janitor waits until cancel requests for it have arrived. ► Leased, Idle
    Canceling,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerState {
    /// It is being connected and logged in.
    Opening,
    /// Nobody uses it.
    Idle,
    /// It is asked whether it still works.
    Checking,
    /// A client uses it.
    Leased,
    /// It is being rolled back or reset.
    Cleaning,
    /// It waits for cancel requests to arrive.
    Canceling,
}

const KINDS: usize = 6;
/// Idle connections that are looked at for one that fits: to look costs less than to make one fit.
const LOOKED_AT_MAX: usize = 32;
/// How long a connection is kept in mind as somebody's. Later the one that was used last is taken, so that those which
/// nobody needs grow old.
const REMEMBERED_FOR: Duration = Duration::from_secs(1);

impl<C> State<C> {
    pub(super) fn kind(&self) -> ServerState {
        match self {
            Self::Opening => ServerState::Opening,
            Self::Idle(_) => ServerState::Idle,
            Self::Checking => ServerState::Checking,
            Self::Leased => ServerState::Leased,
            Self::Cleaning => ServerState::Cleaning,
            Self::Canceling => ServerState::Canceling,
        }
    }

    pub(super) fn cleaning(dirt: Dirt) -> Self {
        match dirt {
            Dirt::CancelInFlight => Self::Canceling,
            Dirt::Abandoned | Dirt::InTransaction | Dirt::Reset => Self::Cleaning,
        }
    }
}

/// When a connection has served long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    AfterUse,
    At(Instant),
    Never,
}

impl Expiry {
    /// `unit`, in 0..1, makes the lifetime 95 to 100 % of the setting, so that connections opened together do not all
    /// end together.
    pub(super) fn new(opened_at: Instant, lifetime: Duration, unit: f32) -> Self {
        if lifetime.is_zero() {
            return Self::AfterUse;
        }
        let lifetime = lifetime.mul_f64(1.0 - 0.05 * f64::from(unit));
        opened_at.checked_add(lifetime).map_or(Self::Never, Self::At)
    }

    pub(super) fn is_over(self, now: Instant, used: bool) -> bool {
        match self {
            Self::AfterUse => used,
            Self::At(at) => at <= now,
            Self::Never => false,
        }
    }
}

/// Tells those apart who take connections; two that do not live at the same time may be the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Who(usize);

impl Who {
    /// Whoever has this at this place.
    pub(super) fn owner_of<T>(own: &T) -> Self {
        Self(std::ptr::from_ref(own).addr())
    }
}

/// What a client would like best of all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// What the connection's session is to be set to.
    pub(super) mark: u64,
    pub(super) who: Who,
    /// Where the connection was that it had last; by now that may be anybody's.
    pub(super) last: Option<SlotId>,
}

pub(super) struct Slot<S: Source> {
    state: State<S::Conn>,
    pub(super) info: Option<Arc<S::Info>>,
    pub(super) opened_at: Instant,
    /// Since when it is in its state.
    pub(super) since: Instant,
    pub(super) expiry: Expiry,
    pub(super) jitter: f32,
    pub(super) generation: u64,
    /// What its session was set to when it became idle.
    mark: u64,
    /// Who has had it last; nobody while it is new.
    last: Who,
    /// Held for as long as the connection is: dropping the slot gives it back.
    _approval: Approval,
}

impl<S: Source> Slot<S> {
    pub(super) fn kind(&self) -> ServerState {
        self.state.kind()
    }

    pub(super) fn idle_conn(&mut self) -> Option<&mut S::Conn> {
        match &mut self.state {
            State::Idle(conn) => Some(conn),
            _ => None,
        }
    }
}

pub(super) struct Slots<S: Source> {
    slab: Vec<Option<Slot<S>>>,
    free: Vec<u32>,
    /// The longest idle first.
    idle: VecDeque<SlotId>,
    counts: [u32; KINDS],
}

impl<S: Source> Slots<S> {
    pub(super) fn new() -> Self {
        Self {
            slab: Vec::new(),
            free: Vec::new(),
            idle: VecDeque::new(),
            counts: [0; KINDS],
        }
    }

    /// How many there are, those being opened included.
    pub(super) fn len(&self) -> u32 {
        self.counts.iter().sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn count(&self, kind: ServerState) -> u32 {
        self.counts[kind as usize]
    }

    /// How many are connected.
    pub(super) fn living(&self) -> u32 {
        self.len() - self.count(ServerState::Opening)
    }

    pub(super) fn open(&mut self, approval: Approval, generation: u64, now: Instant) -> SlotId {
        let slot = Slot {
            state: State::Opening,
            info: None,
            opened_at: now,
            since: now,
            expiry: Expiry::Never,
            jitter: 0.0,
            generation,
            mark: 0,
            last: Who::default(),
            _approval: approval,
        };
        self.counts[ServerState::Opening as usize] += 1;
        if let Some(index) = self.free.pop() {
            self.slab[index as usize] = Some(slot);
            return SlotId(index);
        }
        self.slab.push(Some(slot));
        SlotId(self.slab.len() as u32 - 1)
    }

    pub(super) fn get(&self, id: SlotId) -> &Slot<S> {
        self.slab[id.0 as usize]
            .as_ref()
            .expect("a slot lives until whoever holds its id removes it")
    }

    pub(super) fn get_mut(&mut self, id: SlotId) -> &mut Slot<S> {
        self.slab[id.0 as usize]
            .as_mut()
            .expect("a slot lives until whoever holds its id removes it")
    }

    /// Moves a connection to another state, and in the same breath its place in the list and the counters.
    pub(super) fn shift(&mut self, id: SlotId, to: State<S::Conn>, now: Instant) -> State<S::Conn> {
        let kind = to.kind();
        let slot = self.get_mut(id);
        let from = std::mem::replace(&mut slot.state, to);
        slot.since = now;
        self.counts[from.kind() as usize] -= 1;
        self.counts[kind as usize] += 1;
        if matches!(from, State::Idle(_)) {
            self.unlist(id);
        }
        if kind == ServerState::Idle {
            self.idle.push_back(id);
        }
        from
    }

    /// Takes a connection out of the idle ones.
    pub(super) fn take_idle(&mut self, id: SlotId, to: State<S::Conn>, now: Instant) -> S::Conn {
        match self.shift(id, to, now) {
            State::Idle(conn) => conn,
            _ => unreachable!("only ids from the idle list are taken from it"),
        }
    }

    /// The connection is no more.
    pub(super) fn remove(&mut self, id: SlotId) {
        if let Some(slot) = self.slab[id.0 as usize].take() {
            self.counts[slot.kind() as usize] -= 1;
            if slot.kind() == ServerState::Idle {
                self.unlist(id);
            }
            self.free.push(id.0);
        }
    }

    fn unlist(&mut self, id: SlotId) {
        if self.idle.back() == Some(&id) {
            self.idle.pop_back();
        } else if self.idle.front() == Some(&id) {
            self.idle.pop_front();
        } else if let Some(index) = self.idle.iter().position(|idle| *idle == id) {
            self.idle.remove(index);
        }
    }

    pub(super) fn longest_idle(&self) -> Option<SlotId> {
        self.idle.front().copied()
    }

    pub(super) fn latest_idle(&self) -> Option<SlotId> {
        self.idle.back().copied()
    }

    /// Of the idle ones with this mark, the one that the client has just had, to find there what cannot follow (the last
    /// value of a sequence); else the latest, of those that have not been idle for longest.
    pub(super) fn idle_wished(&self, wish: Wish, now: Instant) -> Option<SlotId> {
        let fits = |id: &SlotId| self.get(*id).mark == wish.mark;
        let own = wish
            .last
            .filter(|id| self.is_still_of(*id, wish.who, now) && fits(id));
        own.or_else(|| self.idle.iter().rev().take(LOOKED_AT_MAX).copied().find(fits))
    }

    /// Whether a slot, if it is one, is idle and nobody has had its connection since.
    fn is_still_of(&self, id: SlotId, who: Who, now: Instant) -> bool {
        let slot = self.slab.get(id.0 as usize).and_then(Option::as_ref);
        slot.is_some_and(|slot| {
            slot.last == who
                && slot.kind() == ServerState::Idle
                && now.duration_since(slot.since) <= REMEMBERED_FOR
        })
    }

    /// A connection goes to somebody.
    pub(super) fn grant(&mut self, slot: SlotId, conn: S::Conn, who: Who) -> Grant<S::Conn> {
        let last = std::mem::replace(&mut self.get_mut(slot).last, who);
        let is_new = last == Who::default();
        Grant { slot, conn, is_new }
    }

    /// A connection has become idle with this mark.
    pub(super) fn set_mark(&mut self, id: SlotId, mark: u64) {
        self.get_mut(id).mark = mark;
    }

    /// The idle ones, the longest idle first.
    pub(super) fn idle(&self) -> impl Iterator<Item = SlotId> {
        self.idle.iter().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot<S>> {
        self.slab.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot<S>> {
        self.slab.iter_mut().flatten()
    }
}

#[cfg(test)]
impl<S: Source> Slots<S> {
    /// Counters, list and states say the same.
    pub(super) fn assert_sound(&self) {
        let mut counts = [0; KINDS];
        for slot in self.iter() {
            counts[slot.kind() as usize] += 1;
        }
        assert_eq!(counts, self.counts);
        assert_eq!(self.idle.len() as u32, self.count(ServerState::Idle));
        assert!(
            self.idle
                .iter()
                .all(|id| self.get(*id).kind() == ServerState::Idle)
        );
        assert!(
            self.idle()
                .zip(self.idle().skip(1))
                .all(|(a, b)| self.get(a).since <= self.get(b).since)
        );
    }
}
