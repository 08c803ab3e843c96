//! The prepared statements of one client, by the client's names.
//!
//! A change is made when the request goes out and undone if it fails, because what follows in the same segment is only
//! carried out if it did not fail. A later segment may not rely on it before it is answered: see [`Known::Uncertain`].

use std::collections::HashMap;
use std::sync::Arc;

use crate::server::{Described, Forgotten, Statement};

/// What a name stands for.
#[derive(Clone, Debug)]
pub(in crate::client) enum Known {
    /// This statement.
    Statement(Arc<Statement>),
    /// Nothing.
    Nothing,
    /// An earlier segment, not yet answered, changes it.
    Uncertain,
}

#[derive(Debug)]
struct Slot {
    /// `None` while a Close is on its way.
    statement: Option<Arc<Statement>>,
    /// The statement's revision that the client knows of.
    revision: u64,
    /// What the client has been told of its result.
    told: Described,
    /// Changes that have not been answered yet.
    pending: u32,
    /// The segment of those changes.
    segment: u64,
    /// Grows with every name that is prepared.
    order: u64,
}

/// The part of a name that PostgreSQL looks at (`NAMEDATALEN` less one).
const NAME_LEN_MAX: usize = 63;

pub(super) fn key(name: &[u8]) -> &[u8] {
    name.get(..NAME_LEN_MAX).unwrap_or(name)
}

impl Slot {
    /// Whether a request in `segment` cannot know what the name will stand for when it is carried out.
    fn is_uncertain(&self, segment: u64) -> bool {
        self.pending > 0 && self.segment != segment
    }
}

/// Names to statements.
#[derive(Debug, Default)]
pub(in crate::client) struct Names {
    slots: HashMap<Box<[u8]>, Slot>,
    bytes: u64,
    prepared: u64,
}

impl Names {
    /// What `name` stands for, to a request in `segment`.
    pub(in crate::client) fn get(&self, name: &[u8], segment: u64) -> Known {
        match self.slots.get(key(name)) {
            Some(slot) if slot.is_uncertain(segment) => Known::Uncertain,
            Some(Slot {
                statement: Some(statement),
                ..
            }) => Known::Statement(statement.clone()),
            Some(_) | None => Known::Nothing,
        }
    }

    /// What `name` stands for, the number of that name and what the client has been told of it, if a request in `segment`
    /// can know and if the client has heard of all changes of its result.
    pub(super) fn current(&self, name: &[u8], segment: u64) -> Option<(&Statement, u64, Described)> {
        let slot = self
            .slots
            .get(key(name))
            .filter(|slot| !slot.is_uncertain(segment))?;
        let statement = slot.statement.as_deref()?;
        (statement.revision() == slot.revision).then_some((statement, slot.order, slot.told))
    }

    /// The statement of this id, if the client has a name for it.
    pub(super) fn statement(&self, id: u64) -> Option<&Arc<Statement>> {
        let mut all = self.slots.values().filter_map(|slot| slot.statement.as_ref());
        all.find(|statement| statement.id == id)
    }

    /// A Parse of `name` goes out.
    pub(super) fn learn(&mut self, name: &[u8], statement: Arc<Statement>, segment: u64) {
        let pending = self.slots.get(key(name)).map_or(0, |slot| slot.pending) + 1;
        self.put(name, Some(statement), pending, segment);
    }

    fn put(&mut self, name: &[u8], statement: Option<Arc<Statement>>, pending: u32, segment: u64) {
        let size = |statement: &Option<Arc<Statement>>| {
            statement
                .as_ref()
                .map_or(0, |statement| statement.definition.len() as u64)
        };
        self.bytes += size(&statement);
        let slot = Slot {
            revision: statement.as_ref().map_or(0, |statement| statement.revision()),
            told: Described::Untold,
            statement,
            pending,
            segment,
            order: self.prepared,
        };
        self.prepared += 1;
        let is_vacant = slot.pending == 0 && slot.statement.is_none();
        let before = if is_vacant {
            self.slots.remove(key(name))
        } else {
            self.slots.insert(key(name).into(), slot)
        };
        self.bytes -= before.map_or(0, |slot| size(&slot.statement));
    }

    /// A Close of `name` goes out; returns what it stood for, if it stood for anything.
    pub(super) fn forget(&mut self, name: &[u8], segment: u64) -> Option<Arc<Statement>> {
        let slot = self.slots.get_mut(key(name))?;
        let statement = slot.statement.take()?;
        slot.pending += 1;
        slot.segment = segment;
        self.bytes -= statement.definition.len() as u64;
        Some(statement)
    }

    /// Takes every name away that is there; returns what they stood for. `None` if some of them are uncertain.
    pub(super) fn forget_all(&mut self, segment: u64) -> Option<Vec<Forgotten>> {
        if self.slots.values().any(|slot| slot.is_uncertain(segment)) {
            return None;
        }
        let there = self.slots.iter().filter(|(_, slot)| slot.statement.is_some());
        let names: Vec<Box<[u8]>> = there.map(|(name, _)| name.clone()).collect();
        Some(
            names
                .into_iter()
                .filter_map(|name| self.forget(&name, segment).map(|was| (name, was)))
                .collect(),
        )
    }

    /// The first change of `name` that has not been answered has been carried out.
    pub(super) fn confirm(&mut self, name: &[u8]) {
        if let Some(slot) = self.slots.get_mut(key(name)) {
            slot.pending = slot.pending.saturating_sub(1);
            if slot.pending == 0 && slot.statement.is_none() {
                self.slots.remove(key(name));
            }
        }
    }

    /// The last change of `name` has not been carried out: it stands for what it stood for before.
    pub(super) fn undo(&mut self, name: &[u8], before: Option<Arc<Statement>>) {
        let (pending, segment) = match (self.slots.get_mut(key(name)), &before) {
            // A Close: what the client has been told of it still holds.
            (Some(slot), Some(before)) if slot.statement.is_none() => {
                self.bytes += before.definition.len() as u64;
                slot.statement = Some(before.clone());
                slot.pending = slot.pending.saturating_sub(1);
                return;
            }
            (Some(slot), _) => (slot.pending.saturating_sub(1), slot.segment),
            (None, _) => (0, 0),
        };
        self.put(name, before, pending, segment);
    }

    /// Removes `name` at once, with nothing in flight; tells whether it was there.
    pub(super) fn remove(&mut self, name: &[u8]) -> bool {
        let found = self.slots.contains_key(key(name));
        self.put(name, None, 0, 0);
        found
    }

    /// All names have been deallocated; those on their way come after.
    pub(in crate::client) fn clear(&mut self) {
        self.slots.retain(|_, slot| slot.pending > 0);
        let kept = self.slots.values().filter_map(|slot| slot.statement.as_ref());
        self.bytes = kept.map(|statement| statement.definition.len() as u64).sum();
    }

    /// All names and what they stand for, in the order in which they were prepared.
    pub(super) fn all(&self) -> Vec<(Box<[u8]>, Arc<Statement>)> {
        let mut all: Vec<_> = self.slots.iter().collect();
        all.sort_by_key(|(_, slot)| slot.order);
        all.into_iter()
            .filter_map(|(name, slot)| Some((name.clone(), slot.statement.clone()?)))
            .collect()
    }

    /// The client's name for a statement; of several the one that was prepared with this number. A look at all of them.
    pub(super) fn name_of(&self, id: u64, order: u64) -> Option<&[u8]> {
        let mut found = None;
        for (name, slot) in &self.slots {
            let is_named = |statement: &Arc<Statement>| statement.id == id;
            let is_meant = slot.order == order;
            // A Close behind the request may have given it up already.
            let is_given_up = slot.statement.is_none() && is_meant;
            if is_given_up || (found.is_none() || is_meant) && slot.statement.as_ref().is_some_and(is_named) {
                found = Some(&**name);
            }
        }
        found
    }

    /// Whether the statement's result has changed without the client's having heard of it. It has, from now on.
    pub(super) fn catch_up(&mut self, name: &[u8]) -> bool {
        let Some(slot) = self.slots.get_mut(key(name)) else {
            return false;
        };
        let Some(statement) = &slot.statement else {
            return false;
        };
        let current = statement.revision();
        std::mem::replace(&mut slot.revision, current) != current
    }

    /// What the client has been told of the result of what it calls `name`.
    pub(super) fn told(&self, name: &[u8]) -> Described {
        self.slots
            .get(key(name))
            .map_or(Described::Untold, |slot| slot.told)
    }

    /// The client is told this of the result of a statement that it calls by the name of this number.
    pub(super) fn tell(&mut self, id: u64, order: u64, told: Described) {
        let name = self.name_of(id, order).map(<[u8]>::to_vec);
        if let Some(slot) = name.and_then(|name| self.slots.get_mut(&*name)) {
            slot.told = told;
        }
    }

    /// The number of a name among all that were prepared.
    pub(super) fn order(&self, name: &[u8]) -> u64 {
        self.slots.get(key(name)).map_or(0, |slot| slot.order)
    }

    /// How many there are.
    pub(in crate::client) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of their definitions, in all.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Settings, StatementCache};

    fn id(known: &Known) -> Option<u64> {
        match known {
            Known::Statement(statement) => Some(statement.id),
            Known::Nothing => None,
            Known::Uncertain => panic!("uncertain"),
        }
    }

    #[test]
    fn a_name_is_known_in_its_segment_and_uncertain_in_the_next_until_confirmed() {
        let cache = StatementCache::default();
        let mut names = Names::default();
        let a = cache.intern(b"a", 0, &Settings::default());
        names.learn(b"s", a.clone(), 1);
        assert_eq!(id(&names.get(b"s", 1)), Some(a.id));
        assert!(matches!(names.get(b"s", 2), Known::Uncertain));
        names.confirm(b"s");
        assert_eq!(id(&names.get(b"s", 2)), Some(a.id));
        assert_eq!(names.bytes(), 1);
    }

    #[test]
    fn a_failed_parse_leaves_nothing_and_a_failed_close_leaves_everything() {
        let cache = StatementCache::default();
        let mut names = Names::default();
        let a = cache.intern(b"aa", 0, &Settings::default());
        names.learn(b"s", a.clone(), 1);
        names.undo(b"s", None);
        assert_eq!((id(&names.get(b"s", 2)), names.bytes()), (None, 0));

        names.learn(b"s", a.clone(), 2);
        names.confirm(b"s");
        let closed = names.forget(b"s", 3);
        assert_eq!(id(&names.get(b"s", 3)), None);
        names.undo(b"s", closed);
        assert_eq!(id(&names.get(b"s", 4)), Some(a.id));
        assert_eq!(names.name_of(a.id, 0), Some(&b"s"[..]));
    }

    #[test]
    fn a_name_is_uncertain_until_the_last_of_its_changes_is_answered() {
        let cache = StatementCache::default();
        let (mut names, a, b) = (
            Names::default(),
            cache.intern(b"a", 0, &Settings::default()),
            cache.intern(b"b", 0, &Settings::default()),
        );
        names.learn(b"s", a.clone(), 1);
        let closed = names.forget(b"s", 1);
        names.learn(b"s", b, 1);
        names.confirm(b"s");
        assert!(matches!(names.get(b"s", 2), Known::Uncertain));
        // The rest fails: last first.
        names.undo(b"s", None);
        names.undo(b"s", closed);
        assert_eq!((id(&names.get(b"s", 2)), names.bytes()), (Some(a.id), 1));
        names.remove(b"s");
        assert_eq!((names.len(), names.bytes()), (0, 0));
    }

    #[test]
    fn names_differ_in_their_first_63_bytes_as_in_postgresql() {
        let cache = StatementCache::default();
        let mut names = Names::default();
        names.learn(&[b'x'; 70], cache.intern(b"a", 0, &Settings::default()), 1);
        assert!(matches!(names.get(&[b'x'; 63], 1), Known::Statement(_)));
        assert!(matches!(names.get(&[b'x'; 62], 1), Known::Nothing));
        names.confirm(&[b'x'; 64]);
        assert!(names.remove(&[b'x'; 65]));
    }

    #[test]
    fn clear_spares_what_was_prepared_after_it() {
        let cache = StatementCache::default();
        let mut names = Names::default();
        names.learn(b"old", cache.intern(b"old", 0, &Settings::default()), 1);
        names.confirm(b"old");
        names.learn(b"new", cache.intern(b"new", 0, &Settings::default()), 2);
        names.clear();
        assert_eq!(names.len(), 1);
        assert!(matches!(names.get(b"new", 2), Known::Statement(_)));
    }
}
