//! The unnamed statement of one client: as it will be once all that is in flight has been carried out, and as it is by
//! what has been answered.

use std::sync::Arc;

use crate::server::Unnamed;

/// A client's unnamed statement.
#[derive(Debug, Default)]
pub(in crate::client) struct OwnUnnamed {
    assumed: Option<Arc<Unnamed>>,
    settled: Option<Arc<Unnamed>>,
    /// Changes that have not been answered yet.
    pending: u32,
    /// PostgreSQL could not even read the first of them, so it has changed nothing.
    is_unread: bool,
    /// The segment of the last of those changes.
    segment: u64,
}

impl OwnUnnamed {
    /// Whether a request in `segment` cannot know what it will be: an earlier segment, not yet answered, changes it.
    pub(super) fn is_uncertain(&self, segment: u64) -> bool {
        self.pending > 0 && self.segment != segment
    }

    /// What it is, to the next request: nothing that is in flight before it fails in its segment, or it fails as well.
    pub(in crate::client) fn get(&self) -> Option<&Arc<Unnamed>> {
        self.assumed.as_ref()
    }

    /// A request in `segment` goes out that replaces it or, with `None`, does away with it.
    pub(super) fn change(&mut self, after: Option<Arc<Unnamed>>, segment: u64) {
        self.assumed = after;
        self.pending = self.pending.saturating_add(1);
        self.segment = segment;
    }

    /// The first change that has not been answered yet is being refused for what is in it, or is not.
    pub(super) fn is_unread(&mut self) {
        self.is_unread = true;
    }

    /// The first change that has not been answered yet has been carried out, and this is left.
    pub(super) fn settle(&mut self, left: Option<Arc<Unnamed>>) {
        if !std::mem::take(&mut self.is_unread) {
            self.settled = left;
        }
        self.undo();
    }

    /// A change has not been carried out. It stays assumed as long as others are in flight: they come after it.
    pub(super) fn undo(&mut self) {
        self.pending = self.pending.saturating_sub(1);
        if self.pending == 0 {
            self.assumed.clone_from(&self.settled);
        }
    }

    /// It is gone, with nothing in flight.
    pub(in crate::client) fn clear(&mut self) {
        *self = Self::default();
    }
}
