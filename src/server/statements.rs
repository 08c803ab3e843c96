//! Prepared statements as they are shared: one definition, one name on every server, whoever prepared it first.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::sql::{Effects, Reading, Verdict, has_literals};

use super::{Deallocates, Settings};

/// What howdah's names on a server begin with. Clients' own names never reach a server.
pub const NAME_PREFIX: &str = "howdah_";
/// The name of no statement, taken and given back where a request is bound to fail.
pub const NOTHING: &[u8] = b"howdah_0";
/// The statement that an intercepted DEALLOCATE ALL removes in place of all.
pub const DECOY: &[u8] = NOTHING;

/// What is found in a text, whoever sends it.
#[derive(Clone, Debug)]
pub struct Findings {
    /// What it says.
    pub verdict: Verdict,
    /// What only words in it tell of, and in the functions that it calls.
    pub hidden: Effects,
}

/// A statement as servers know it.
#[derive(Debug)]
pub struct Statement {
    /// Unique in this process; from 1.
    pub id: u64,
    /// Its name on every server that has it.
    pub name: Box<[u8]>,
    /// Text and parameter types, as in the Parse message.
    pub definition: Box<[u8]>,
    /// The schema's age when a client prepared it; see [`StatementCache::schema_changed`].
    pub epoch: u64,
    /// Digest of the settings that it was prepared under: they decide what its literals mean. `None` where that was not
    /// known, so that nobody else may use it.
    pub context: Option<u64>,
    /// Those settings, as soon as somebody knows them.
    settings: OnceLock<Settings>,
    /// Whether there is anything in it for settings to decide.
    pub has_literals: bool,
    /// What it removes when it is executed, if it is a DEALLOCATE or a DISCARD ALL.
    pub deallocates: Option<Deallocates>,
    /// Counts how often its result has been found changed since.
    revision: AtomicU64,
    /// A server has accepted it.
    proven: AtomicBool,
    /// Servers have more to say of it than that they accept it.
    has_notices: AtomicBool,
    /// It is known to leave nothing behind, by the functions of this version; 0: by none.
    inert_at: AtomicU64,
    /// What was last found in it, by the functions of a version, if it is long.
    found: Mutex<Option<Box<(u64, Reading, Findings)>>>,
}

/// What is found in longer statements, in bytes, is kept.
const LONG: usize = 16 * 1024;

impl Statement {
    fn new(definition: &[u8], epoch: u64, context: Option<u64>, settings: OnceLock<Settings>) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            name: format!("{NAME_PREFIX}{id}").into_bytes().into(),
            definition: definition.into(),
            epoch,
            context,
            settings,
            has_literals: has_literals(text_of(definition)),
            deallocates: Deallocates::of(text_of(definition)),
            revision: AtomicU64::new(0),
            proven: AtomicBool::new(false),
            has_notices: AtomicBool::new(false),
            inert_at: AtomicU64::new(0),
            found: Mutex::new(None),
        }
    }

    fn is(&self, epoch: u64, context: u64, definition: &[u8]) -> bool {
        self.epoch == epoch && self.context == Some(context) && *self.definition == *definition
    }

    /// The settings that it was prepared under, if anybody knows.
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.get()
    }

    /// These settings hold where it is being prepared.
    pub fn prepared_under(&self, settings: Settings) {
        // Who comes first has asked at its first Parse.
        let _ = self.settings.set(settings);
    }

    /// Whether a server has accepted it, so that another Parse of it need not be sent to be answered.
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Acquire) && !self.has_notices.load(Ordering::Acquire)
    }

    /// A server has sent a notice on its Parse, which everybody is to have who parses it.
    pub fn has_notices(&self) {
        self.has_notices.store(true, Ordering::Release);
    }

    /// A server has accepted it.
    pub fn prove(&self) {
        self.proven.store(true, Ordering::Release);
    }

    /// Its text.
    pub fn text(&self) -> &[u8] {
        text_of(&self.definition)
    }

    /// What is found in it by the functions of this version, where it is read in this way.
    pub fn findings(&self, version: u64, reading: Reading, find: impl FnOnce(&[u8]) -> Findings) -> Findings {
        if self.definition.len() <= LONG {
            return find(self.text());
        }
        let known = self.found.lock().clone();
        if let Some(known) = known.filter(|known| (known.0, known.1) == (version, reading)) {
            return known.2;
        }
        let findings = find(self.text());
        *self.found.lock() = Some(Box::new((version, reading, findings.clone())));
        findings
    }

    /// Whether it is known to leave nothing behind, by the functions of this version.
    pub fn is_inert(&self, version: u64) -> bool {
        self.inert_at.load(Ordering::Acquire) == version
    }

    /// It leaves nothing behind, by the functions of this version.
    pub fn found_inert(&self, version: u64) {
        self.inert_at.store(version, Ordering::Release);
    }

    /// How often its result has been found changed since it was first prepared.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// A server has found its result changed ("cached plan must not change result type"): no server's plan of it is
    /// good any more.
    pub fn result_changed(&self) {
        self.revision.fetch_add(1, Ordering::AcqRel);
    }
}

/// Those that are alive of one hash.
fn same(found: &mut HashMap<u64, Vec<Weak<Statement>>>, hash: u64) -> &mut Vec<Weak<Statement>> {
    if found.len() == found.capacity() {
        found.retain(|_, same| same.iter().any(|weak| weak.strong_count() > 0));
    }
    let same = found.entry(hash).or_default();
    same.retain(|weak| weak.strong_count() > 0);
    same
}

/// The text of a definition.
pub(super) fn text_of(definition: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, definition).unwrap_or(definition.len());
    definition.get(..end).unwrap_or_default()
}

/// The statements of one pool, found by definition.
///
/// A definition that is prepared anew after the schema changed is another statement, so that its plan is made after
/// the change, while clients which prepared it before keep what they had (and get PostgreSQL's own error for it).
#[derive(Debug, Default)]
pub struct StatementCache {
    hasher: RandomState,
    epoch: AtomicU64,
    /// A change is prepared, and not yet committed, or was once.
    may_change: AtomicBool,
    found: Mutex<HashMap<u64, Vec<Weak<Statement>>>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl StatementCache {
    /// The statement of this definition, as prepared now by a session with these settings and the digest of them.
    pub fn intern(&self, definition: &[u8], context: u64, settings: &Settings) -> Arc<Statement> {
        let epoch = self.epoch();
        let hash = self.hasher.hash_one((epoch, context, definition));
        let mut found = self.found.lock();
        let same = same(&mut found, hash);
        let known = same.iter().filter_map(Weak::upgrade);
        if let Some(known) = { known }.find(|have| have.is(epoch, context, definition)) {
            return known;
        }
        let settings = OnceLock::from(settings.clone());
        let statement = Arc::new(Statement::new(definition, epoch, Some(context), settings));
        same.push(Arc::downgrade(&statement));
        statement
    }

    /// A statement of this definition that is like no other: where it is prepared, not everything is known. What is, the
    /// settings that decide the meaning of literals for one, is given here or told later.
    pub fn alone(&self, definition: &[u8], settings: Option<Settings>) -> Arc<Statement> {
        let settings = settings.map_or_else(OnceLock::new, OnceLock::from);
        let statement = Arc::new(Statement::new(definition, self.epoch(), None, settings));
        let hash = self.hasher.hash_one(statement.id);
        same(&mut self.found.lock(), hash).push(Arc::downgrade(&statement));
        statement
    }

    /// Tables or functions may have changed: what is prepared from now on is prepared anew.
    pub fn schema_changed(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// A transaction that has changed tables or functions has been prepared: nobody knows when it will be committed.
    pub fn schema_may_change(&self) {
        self.may_change.store(true, Ordering::Release);
    }

    /// Whether there has ever been one.
    pub fn may_change(&self) -> bool {
        self.may_change.load(Ordering::Acquire)
    }

    /// The schema's age.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How many statements are alive.
    pub fn len(&self) -> usize {
        self.found
            .lock()
            .values()
            .flatten()
            .filter(|weak| weak.strong_count() > 0)
            .count()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether a server has a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has.
    Ready,
    /// It has not.
    Absent,
    /// It has a plan that is outdated, and has to close it first.
    Stale,
    /// A Parse is on its way in an earlier segment, which may yet fail.
    Uncertain,
}

/// No statement's revision.
const DOUBTED: u64 = u64::MAX;

/// The statements that one server has, least recently used first to go.
#[derive(Debug)]
pub struct Prepared {
    slots: HashMap<u64, Slot, BuildHasherDefault<Identity>>,
    clock: u64,
    max: usize,
}

/// A hash for ids, which are given out one by one and need none.
#[derive(Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        // The table looks at the highest bits too.
        self.0 = id ^ id.rotate_right(7);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What has been told of a statement's result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Described {
    /// Nothing.
    #[default]
    Untold,
    /// The server has been asked.
    Asked,
    /// Too much to be read.
    Unread,
    /// That it returns no rows.
    Nothing,
    /// Columns, of which this is the digest.
    Columns(u64),
}

impl Described {
    /// Whether a client that has been told this need not be told what there is.
    #[inline]
    pub fn may_be(self, there: impl FnOnce() -> Self) -> bool {
        matches!(self, Self::Untold | Self::Unread) || [self, Self::Unread].contains(&there())
    }
}

#[derive(Debug)]
struct Slot {
    statement: Arc<Statement>,
    used: u64,
    described: Described,
    /// The statement's revision when it was parsed.
    revision: u64,
    /// The segment whose Parse has not been answered yet.
    pending: Option<u64>,
}

impl Prepared {
    /// An empty set for at most `max` statements.
    pub fn new(max: usize) -> Self {
        Self {
            slots: HashMap::default(),
            clock: 0,
            max: max.max(1),
        }
    }

    /// One of those that are there, or on their way.
    pub fn get(&self, id: u64) -> Option<&Arc<Statement>> {
        self.slots.get(&id).map(|slot| &slot.statement)
    }

    /// How many it may hold.
    pub fn max(&self) -> usize {
        self.max
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Where a statement stands for a request in `segment`; counts as a use of it.
    pub fn standing(&mut self, statement: &Statement, segment: u64) -> Standing {
        self.clock += 1;
        match self.slots.get_mut(&statement.id) {
            None => Standing::Absent,
            Some(slot) => {
                slot.used = self.clock;
                match slot.pending {
                    Some(other) if other != segment => Standing::Uncertain,
                    _ if slot.revision != statement.revision() => Standing::Stale,
                    _ => Standing::Ready,
                }
            }
        }
    }

    /// What the server has told of the result of this statement, which stays as it is for as long as the server has it.
    pub fn described(&self, id: u64) -> Described {
        self.slots
            .get(&id)
            .map_or(Described::Untold, |slot| slot.described)
    }

    /// This is told of the result of this statement.
    pub fn describe(&mut self, id: u64, described: Described) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.described = described;
        }
    }

    /// Whether a Parse of this statement has not been answered yet.
    pub fn is_on_its_way(&self, id: u64) -> bool {
        self.slots.get(&id).is_some_and(|slot| slot.pending.is_some())
    }

    /// Whether another one would find room, be it by something's being closed: what is on its way cannot be.
    pub fn has_room(&self) -> bool {
        self.slots.len() < self.max || self.slots.values().any(|slot| slot.pending.is_none())
    }

    /// A Parse of `statement` is on its way. Returns what has to be closed to make room.
    pub fn insert(&mut self, statement: Arc<Statement>, segment: u64) -> Vec<Arc<Statement>> {
        self.clock += 1;
        // Of one that is prepared for each use, because of the settings, the server is not asked each time.
        let before = self.slots.get(&statement.id);
        let before = before.filter(|slot| [statement.revision(), DOUBTED].contains(&slot.revision));
        let slot = Slot {
            used: self.clock,
            described: before.map_or(Described::Untold, |slot| slot.described),
            revision: statement.revision(),
            pending: Some(segment),
            statement,
        };
        let id = slot.statement.id;
        self.slots.insert(id, slot);
        let mut evicted = Vec::new();
        while self.slots.len() > self.max {
            let settled = self.slots.values().filter(|slot| slot.pending.is_none());
            let oldest = settled.min_by_key(|slot| slot.used).map(|slot| slot.statement.id);
            let Some(slot) = oldest.and_then(|id| self.slots.remove(&id)) else {
                break;
            };
            evicted.push(slot.statement);
        }
        evicted
    }

    /// The Parse of this statement has been answered: it is there, or it failed.
    pub fn settle(&mut self, id: u64, prepared: bool) {
        if prepared {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.pending = None;
            }
        } else if self.slots.get(&id).is_some_and(|slot| slot.pending.is_some()) {
            self.slots.remove(&id);
        }
    }

    /// This statement may have been prepared under other settings than it says: it is closed before anybody uses it again.
    pub fn doubt(&mut self, id: u64) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.revision = DOUBTED;
        }
    }

    /// The Close of this statement was passed over: it is still there, and to be closed before it is parsed again.
    pub fn put_back(&mut self, statement: Arc<Statement>) {
        self.clock += 1;
        self.slots.insert(
            statement.id,
            Slot {
                used: self.clock,
                described: Described::Untold,
                revision: DOUBTED,
                pending: None,
                statement,
            },
        );
    }

    /// Takes out all of them, also those on their way: they are about to be closed.
    pub fn take_all(&mut self) -> Vec<Arc<Statement>> {
        self.slots.drain().map(|(_, slot)| slot.statement).collect()
    }

    /// Some may not be there any more. Each is closed, which does no harm, before it is parsed again.
    pub fn doubt_all(&mut self) {
        let settled = self.slots.values_mut().filter(|slot| slot.pending.is_none());
        for slot in settled {
            slot.revision = DOUBTED;
            slot.described = Described::Untold;
        }
    }

    /// The server has dropped the one of this name there, if there was one.
    pub fn forget(&mut self, name: &[u8]) {
        self.slots.retain(|_, slot| *slot.statement.name != *name);
    }

    /// The server has dropped all that it had (`DEALLOCATE ALL`, `DISCARD ALL`); what is on its way comes after.
    pub fn forget_all(&mut self) {
        self.slots.retain(|_, slot| slot.pending.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_definitions_are_one_statement_until_the_schema_changes() {
        let cache = StatementCache::default();
        let a = cache.intern(b"select 1\0\0\0", 0, &Settings::default());
        let b = cache.intern(b"select 1\0\0\0", 0, &Settings::default());
        assert!(Arc::ptr_eq(&a, &b));
        assert_ne!(a.id, cache.intern(b"select 2\0\0\0", 0, &Settings::default()).id);
        cache.schema_changed();
        assert_ne!(a.id, cache.intern(b"select 1\0\0\0", 0, &Settings::default()).id);
    }

    #[test]
    fn statements_that_nobody_has_are_forgotten() {
        let cache = StatementCache::default();
        for n in 0..10_000 {
            cache.intern(format!("select {n}").as_bytes(), 0, &Settings::default());
        }
        assert!(cache.is_empty());
        assert!(cache.found.lock().len() < 100, "the table shrinks as well");
    }

    #[test]
    fn the_least_recently_used_goes_first_and_never_one_on_its_way() {
        let cache = StatementCache::default();
        let [a, b, c] = [&b"a"[..], b"b", b"c"].map(|text| cache.intern(text, 0, &Settings::default()));
        let mut prepared = Prepared::new(2);
        let insert = |prepared: &mut Prepared, statement: &Arc<Statement>, segment| -> Vec<u64> {
            let gone = prepared.insert(statement.clone(), segment);
            gone.iter().map(|statement| statement.id).collect()
        };
        assert!(insert(&mut prepared, &a, 1).is_empty());
        assert!(prepared.has_room());
        assert!(insert(&mut prepared, &b, 1).is_empty());
        assert!(!prepared.has_room(), "all are on their way");
        assert!(insert(&mut prepared, &c, 1).is_empty());
        prepared.settle(a.id, true);
        prepared.settle(b.id, true);
        prepared.settle(c.id, false);
        assert!(prepared.has_room());
        assert_eq!(prepared.standing(&a, 2), Standing::Ready);
        assert_eq!(insert(&mut prepared, &c, 2), [b.id]);
        assert_eq!(prepared.standing(&c, 2), Standing::Ready);
        assert_eq!(prepared.standing(&c, 3), Standing::Uncertain);
        prepared.forget_all();
        assert_eq!(prepared.standing(&a, 3), Standing::Absent);
        assert_eq!(prepared.standing(&c, 2), Standing::Ready, "its Parse comes after");
    }

    #[test]
    fn as_many_go_as_there_are_too_many() {
        let cache = StatementCache::default();
        let mut prepared = Prepared::new(2);
        let texts = [&b"a"[..], b"b", b"c", b"d", b"e"];
        let all = texts.map(|text| cache.intern(text, 0, &Settings::default()));
        for statement in &all {
            prepared.put_back(statement.clone());
        }
        let new = cache.intern(b"new", 0, &Settings::default());
        let gone: Vec<u64> = prepared
            .insert(new, 1)
            .iter()
            .map(|statement| statement.id)
            .collect();
        assert_eq!(
            gone,
            all[..4].iter().map(|statement| statement.id).collect::<Vec<_>>()
        );
        assert_eq!(prepared.len(), 2);
    }

    #[test]
    fn what_may_be_gone_is_still_counted_and_has_to_be_closed_first() {
        let cache = StatementCache::default();
        let statement = cache.intern(b"a", 0, &Settings::default());
        let mut prepared = Prepared::new(2);
        prepared.insert(statement.clone(), 1);
        prepared.doubt_all();
        assert_eq!(
            prepared.standing(&statement, 1),
            Standing::Ready,
            "it is on its way"
        );
        prepared.settle(statement.id, true);
        prepared.doubt_all();
        assert_eq!(prepared.standing(&statement, 1), Standing::Stale);
        assert_eq!(prepared.take_all().len(), 1);
        assert!(prepared.is_empty());
    }
}
