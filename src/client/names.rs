//! The prepared statements of one client, by the client's names.
//!
//! A change is made when the request goes out and undone if it fails, because what follows in the same segment is only
//! carried out if it did not fail. A later segment may not rely on it before it is answered: see [`Known::Uncertain`].

use std::collections::HashMap;
use std::sync::Arc;

use crate::server::{Forgotten, Statement};

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Known {
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
    /// The segment of the change that has not been answered yet.
    pending: Option<u64>,
}

/// Names to statements.
#[derive(Debug, Default)]
pub(super) struct Names {
    slots: HashMap<Box<[u8]>, Slot>,
    bytes: u64,
}

impl Names {
    /// What `name` stands for, to a request in `segment`.
    pub(super) fn get(&self, name: &[u8], segment: u64) -> Known {
        match self.slots.get(name) {
            None => Known::Nothing,
            Some(Slot {
                pending: Some(other), ..
            }) if *other != segment => Known::Uncertain,
            Some(Slot {
                statement: Some(statement),
                ..
            }) => Known::Statement(statement.clone()),
            Some(_) => Known::Nothing,
        }
    }

    /// A Parse of `name` goes out.
    pub(super) fn learn(&mut self, name: &[u8], statement: Arc<Statement>, segment: u64) {
        self.bytes += statement.definition.len() as u64;
        let slot = Slot {
            revision: statement.revision(),
            statement: Some(statement),
            pending: Some(segment),
        };
        if let Some(Slot {
            statement: Some(old), ..
        }) = self.slots.insert(name.into(), slot)
        {
            self.bytes -= old.definition.len() as u64;
        }
    }

    /// A Close of `name` goes out; returns what it stood for.
    pub(super) fn forget(&mut self, name: &[u8], segment: u64) -> Option<Arc<Statement>> {
        let slot = self.slots.get_mut(name)?;
        slot.pending = Some(segment);
        let statement = slot.statement.take()?;
        self.bytes -= statement.definition.len() as u64;
        Some(statement)
    }

    /// Takes every name away that is there; returns what they stood for. `None` if some of them are uncertain.
    pub(super) fn forget_all(&mut self, segment: u64) -> Option<Vec<Forgotten>> {
        let uncertain = |slot: &Slot| slot.pending.is_some_and(|other| other != segment);
        if self.slots.values().any(uncertain) {
            return None;
        }
        let names: Vec<Box<[u8]>> = self.slots.keys().cloned().collect();
        Some(
            names
                .into_iter()
                .filter_map(|name| self.forget(&name, segment).map(|was| (name, was)))
                .collect(),
        )
    }

    /// The Parse or Close of `name` has been carried out.
    pub(super) fn confirm(&mut self, name: &[u8]) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.pending = None;
            if slot.statement.is_none() {
                self.slots.remove(name);
            }
        }
    }

    /// The Parse or Close of `name` has not been carried out: it stands for what it stood for before.
    pub(super) fn undo(&mut self, name: &[u8], before: Option<Arc<Statement>>) {
        if let Some(Slot {
            statement: Some(gone),
            ..
        }) = self.slots.remove(name)
        {
            self.bytes -= gone.definition.len() as u64;
        }
        if let Some(statement) = before {
            self.bytes += statement.definition.len() as u64;
            self.slots.insert(
                name.into(),
                Slot {
                    revision: statement.revision(),
                    statement: Some(statement),
                    pending: None,
                },
            );
        }
    }

    /// Removes `name` at once, with nothing in flight; tells whether it was there.
    pub(super) fn remove(&mut self, name: &[u8]) -> bool {
        let found = self.slots.contains_key(name);
        self.undo(name, None);
        found
    }

    /// All names have been deallocated; those on their way come after.
    pub(super) fn clear(&mut self) {
        self.slots.retain(|_, slot| slot.pending.is_some());
        let kept = self.slots.values().filter_map(|slot| slot.statement.as_ref());
        self.bytes = kept.map(|statement| statement.definition.len() as u64).sum();
    }

    /// The client's name for a statement.
    pub(super) fn name_of(&self, id: u64) -> Option<&[u8]> {
        let named = |slot: &Slot| {
            slot.statement
                .as_ref()
                .is_some_and(|statement| statement.id == id)
        };
        self.slots
            .iter()
            .find(|(_, slot)| named(slot))
            .map(|(name, _)| &**name)
    }

    /// Whether the statement's result has changed without the client's having heard of it. It has, from now on.
    pub(super) fn catch_up(&mut self, name: &[u8]) -> bool {
        let Some(slot) = self.slots.get_mut(name) else {
            return false;
        };
        let Some(statement) = &slot.statement else {
            return false;
        };
        let current = statement.revision();
        std::mem::replace(&mut slot.revision, current) != current
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
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
    use crate::server::StatementCache;

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
        let a = cache.intern(b"a", 0);
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
        let a = cache.intern(b"aa", 0);
        names.learn(b"s", a.clone(), 1);
        names.undo(b"s", None);
        assert_eq!((id(&names.get(b"s", 2)), names.bytes()), (None, 0));

        names.learn(b"s", a.clone(), 2);
        names.confirm(b"s");
        let closed = names.forget(b"s", 3);
        assert_eq!(id(&names.get(b"s", 3)), None);
        names.undo(b"s", closed);
        assert_eq!(id(&names.get(b"s", 4)), Some(a.id));
        assert_eq!(names.name_of(a.id), Some(&b"s"[..]));
    }

    #[test]
    fn clear_spares_what_was_prepared_after_it() {
        let cache = StatementCache::default();
        let mut names = Names::default();
        names.learn(b"old", cache.intern(b"old", 0), 1);
        names.confirm(b"old");
        names.learn(b"new", cache.intern(b"new", 0), 2);
        names.clear();
        assert_eq!(names.len(), 1);
        assert!(matches!(names.get(b"new", 2), Known::Statement(_)));
    }
}
