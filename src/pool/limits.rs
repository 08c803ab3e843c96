//! Limits that several pools share: per database, per user, for the whole process.
//!
//! Permission is a value: an [`Approval`] is taken before a connection is opened and lives as long as the connection.
//! A pool that gets none for its waiters queues here; a freed permit is kept for the first in this queue that can use
//! it, so that a busy pool cannot take it back at once. Permits are rare events (open, close), so one lock serves all
//! limits, and taking several at once is all or nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::keeper::Bell;
use super::settings::PoolKey;

/// A pool without any connection must starve this long before a pool with waiters of its own gives one up to it.
/// Each such gift costs a connect; this bounds how often pools that outnumber their limit take turns.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whom a shared limit is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LimitName {
    /// All pools of this process.
    Process,
    /// All pools of a database (`max_db_connections`).
    Database(String),
    /// All pools of a user (`max_user_connections`).
    User(String),
}

/// A limit. Its numbers change only under the book's lock.
#[derive(Debug)]
struct Limit {
    name: LimitName,
    /// Zero: none.
    max: AtomicU32,
    taken: AtomicU32,
}

impl Limit {
    fn free(&self) -> u32 {
        match self.max.load(Ordering::Relaxed) {
            0 => u32::MAX,
            max => max.saturating_sub(self.taken.load(Ordering::Relaxed)),
        }
    }

    fn is_exceeded(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        max > 0 && self.taken.load(Ordering::Relaxed) > max
    }
}

/// The limits that hold for one pool.
type Limits = [Arc<Limit>; 3];

fn shares(limits: &Limits, limit: &Arc<Limit>) -> bool {
    limits.iter().any(|mine| Arc::ptr_eq(mine, limit))
}

/// A pool as other pools under the same limit see it.
pub(super) trait Neighbour: Send + Sync {
    /// Since when its longest idle connection has been idle.
    fn longest_idle(&self) -> Option<Instant>;
    /// Closes its longest idle connection; false if it has none.
    fn evict(&self) -> bool;
}

struct Member {
    limits: Limits,
    pool: Weak<dyn Neighbour>,
    bell: Arc<Bell>,
}

/// A pool whose waiters need a connection that the limits do not allow.
struct Starver {
    member: u64,
    need: Need,
}

/// How much a pool needs one more connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// How many it has.
    pub(super) held: u32,
    /// Since when its first waiter has been waiting.
    pub(super) since: Instant,
}

#[derive(Default)]
struct Ledger {
    limits: HashMap<LimitName, Arc<Limit>>,
    /// In the order of their coming, which also settles who goes first where nothing else does.
    members: BTreeMap<u64, Member>,
    starvers: VecDeque<Starver>,
    next: u64,
}

impl Ledger {
    fn limit(&mut self, name: LimitName) -> Arc<Limit> {
        let new = |name: &LimitName| {
            Arc::new(Limit {
                name: name.clone(),
                max: 0.into(),
                taken: 0.into(),
            })
        };
        Arc::clone(self.limits.entry(name).or_insert_with_key(new))
    }

    fn limits_of(&self, member: u64) -> Option<&Limits> {
        self.members.get(&member).map(|member| &member.limits)
    }

    /// Whether a permit is free for this one when those before it in the queue have had theirs.
    fn is_free(&self, limits: &Limits, ahead: usize) -> bool {
        limits.iter().all(|limit| {
            let reserved = self.starvers.iter().take(ahead).filter(|starver| {
                self.limits_of(starver.member)
                    .is_some_and(|theirs| shares(theirs, limit) && theirs.iter().all(|each| each.free() > 0))
            });
            limit.free() as usize > reserved.count()
        })
    }

    fn ring_starvers(&self) {
        for starver in &self.starvers {
            if let Some(member) = self.members.get(&starver.member) {
                member.bell.ring();
            }
        }
    }

    fn forget(&mut self, member: u64) {
        self.starvers.retain(|starver| starver.member != member);
    }
}

/// All shared limits of the process, who is under them and who starves.
#[derive(Default)]
pub struct Book {
    ledger: Mutex<Ledger>,
    /// Somebody starves or a limit is exceeded: a hint, so that releases need not look.
    pressure: AtomicBool,
}

impl Book {
    /// A book without limits.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Sets a limit; zero lifts it. Where more connections are open than it allows, they go as they are returned.
    pub fn set(&self, name: LimitName, max: u32) {
        let mut ledger = self.ledger.lock();
        ledger.limit(name).max.store(max, Ordering::Relaxed);
        ledger.ring_starvers();
        self.note_pressure(&ledger);
    }

    /// How many connections are open under a limit, and how many may be (zero: any number).
    pub fn get(&self, name: &LimitName) -> (u32, u32) {
        self.ledger.lock().limits.get(name).map_or((0, 0), |limit| {
            (
                limit.taken.load(Ordering::Relaxed),
                limit.max.load(Ordering::Relaxed),
            )
        })
    }

    pub(super) fn join(
        self: &Arc<Self>,
        key: &PoolKey,
        pool: Weak<dyn Neighbour>,
        bell: Arc<Bell>,
    ) -> Membership {
        let mut ledger = self.ledger.lock();
        let limits = [
            ledger.limit(LimitName::Process),
            ledger.limit(LimitName::Database(key.database.clone())),
            ledger.limit(LimitName::User(key.user.clone())),
        ];
        let id = ledger.next;
        ledger.next += 1;
        ledger.members.insert(
            id,
            Member {
                limits: limits.clone(),
                pool,
                bell,
            },
        );
        Membership {
            book: Arc::clone(self),
            id,
            limits,
        }
    }

    fn note_pressure(&self, ledger: &Ledger) {
        let exceeded = || ledger.limits.values().any(|limit| limit.is_exceeded());
        self.pressure
            .store(!ledger.starvers.is_empty() || exceeded(), Ordering::Relaxed);
    }

    fn free(&self, limits: &Limits) {
        let ledger = self.ledger.lock();
        for limit in limits {
            limit.taken.fetch_sub(1, Ordering::Relaxed);
        }
        ledger.ring_starvers();
        self.note_pressure(&ledger);
    }
}

/// A pool's entry in the book.
pub(super) struct Membership {
    book: Arc<Book>,
    id: u64,
    limits: Limits,
}

impl Membership {
    /// Joins somebody else under the same limits.
    pub(super) fn beside(&self, key: &PoolKey, other: Weak<dyn Neighbour>, bell: Arc<Bell>) -> Self {
        self.book.join(key, other, bell)
    }

    /// Permission for one connection that nobody waits for. It takes nobody's turn and asks nobody to give one up.
    pub(super) fn approve_spare(&self) -> Option<Approval> {
        let ledger = self.book.ledger.lock();
        let free = ledger.is_free(&self.limits, ledger.starvers.len());
        free.then(|| self.take())
    }

    /// Permission for one connection that somebody waits for; without it, the pool is in the queue.
    pub(super) fn approve(&self, need: Need) -> Option<Approval> {
        let mut ledger = self.book.ledger.lock();
        let place = ledger
            .starvers
            .iter()
            .position(|starver| starver.member == self.id);
        let free = ledger.is_free(&self.limits, place.unwrap_or(ledger.starvers.len()));
        if free {
            if place.is_some() {
                ledger.forget(self.id);
            }
        } else if let Some(starver) = place.and_then(|place| ledger.starvers.get_mut(place)) {
            starver.need = need;
        } else {
            ledger.starvers.push_back(Starver {
                member: self.id,
                need,
            });
        }
        let approval = free.then(|| self.take());
        if place.is_some() && free {
            ledger.ring_starvers();
        }
        self.book.note_pressure(&ledger);
        approval
    }

    /// Called under the ledger's lock.
    fn take(&self) -> Approval {
        for limit in &self.limits {
            limit.taken.fetch_add(1, Ordering::Relaxed);
        }
        Approval {
            book: Arc::clone(&self.book),
            limits: self.limits.clone(),
        }
    }

    /// The pool does not starve any more.
    pub(super) fn content(&self) {
        let mut ledger = self.book.ledger.lock();
        ledger.forget(self.id);
        ledger.ring_starvers();
        self.book.note_pressure(&ledger);
    }

    /// Whether the pool should give up a connection that is just coming back.
    ///
    /// `held` is how many it has, `oldest` since when its own first waiter waits. Without waiters it gives to anyone who
    /// starves for it. With waiters it shares evenly, and lets a pool that has nothing at all take turns with it.
    pub(super) fn yields(&self, held: u32, oldest: Option<Instant>, now: Instant) -> bool {
        if !self.book.pressure.load(Ordering::Relaxed) {
            return false;
        }
        let ledger = self.book.ledger.lock();
        if self.limits.iter().any(|limit| limit.is_exceeded()) {
            return true;
        }
        ledger
            .starvers
            .iter()
            .filter(|starver| starver.member != self.id)
            .any(|starver| {
                let in_their_way = ledger.limits_of(starver.member).is_some_and(|theirs| {
                    theirs
                        .iter()
                        .any(|limit| limit.free() == 0 && shares(&self.limits, limit))
                });
                let need = starver.need;
                in_their_way
                    && oldest.is_none_or(|oldest| {
                        held > need.held + 1
                            || (need.held == 0 && need.since < oldest && need.since + PATIENCE <= now)
                    })
            })
    }

    /// Closes the longest idle connection of another pool under each limit that is in this pool's way; false if there
    /// was none to close. Locks other pools: not to be called under any lock.
    pub(super) fn evict(&self) -> bool {
        let mut evicted = false;
        for limit in &self.limits {
            if limit.free() == 0 {
                evicted |= self.evict_under(limit);
            }
        }
        evicted
    }

    fn evict_under(&self, limit: &Arc<Limit>) -> bool {
        let others = |ledger: &Ledger| -> Vec<Arc<dyn Neighbour>> {
            let others = ledger
                .members
                .iter()
                .filter(|(id, other)| **id != self.id && shares(&other.limits, limit));
            others.filter_map(|(_, other)| other.pool.upgrade()).collect()
        };
        let others = others(&self.book.ledger.lock());
        let mut victims: Vec<_> = others
            .iter()
            .filter_map(|other| other.longest_idle().map(|since| (since, other)))
            .collect();
        victims.sort_by_key(|(since, _)| *since);
        victims.into_iter().any(|(_, other)| other.evict())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut ledger = self.book.ledger.lock();
        ledger.members.remove(&self.id);
        ledger.forget(self.id);
        ledger.ring_starvers();
        // Names of users come from clients: a limit that nobody set and nobody else is under is forgotten.
        for limit in &self.limits {
            if Arc::strong_count(limit) == 2 && limit.max.load(Ordering::Relaxed) == 0 {
                ledger.limits.remove(&limit.name);
            }
        }
        self.book.note_pressure(&ledger);
    }
}

/// Permission to have one connection open. Dropping it gives it back.
pub(super) struct Approval {
    book: Arc<Book>,
    limits: Limits,
}

impl Drop for Approval {
    fn drop(&mut self) {
        self.book.free(&self.limits);
    }
}
