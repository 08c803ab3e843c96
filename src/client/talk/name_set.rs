//! A set of names, nearly always an empty one: every client has some of them, and such a one takes a word.

use std::collections::BTreeSet;

/// Names, each once, in an order that depends on nothing but them.
#[derive(Debug, Default)]
#[allow(
    clippy::box_collection,
    reason = "an empty BTreeSet takes three words, and every client has such sets"
)]
pub(super) struct NameSet(Option<Box<BTreeSet<Box<[u8]>>>>);

impl NameSet {
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|names| names.is_empty())
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|names| names.contains(name))
    }

    pub(super) fn extend(&mut self, names: impl IntoIterator<Item = Box<[u8]>>) {
        let mut names = names.into_iter().peekable();
        if names.peek().is_some() {
            self.0.get_or_insert_default().extend(names);
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some(names) = &mut self.0 {
            names.remove(name);
        }
    }

    /// Leaves it empty.
    pub(super) fn take(&mut self) -> BTreeSet<Box<[u8]>> {
        self.0.take().map_or_else(BTreeSet::new, |names| *names)
    }

    pub(super) fn to_set(&self) -> BTreeSet<Box<[u8]>> {
        self.0.as_deref().cloned().unwrap_or_default()
    }
}
