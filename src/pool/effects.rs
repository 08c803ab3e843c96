//! What the core wants done once its lock is released.

use std::sync::Arc;

use super::slots::SlotId;
use super::source::Source;
use super::wait::Cell;

/// A list that needs no allocation for its first element.
pub(super) struct Few<T> {
    first: Option<T>,
    more: Vec<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self {
            first: None,
            more: Vec::new(),
        }
    }
}

impl<T> Few<T> {
    pub(super) fn push(&mut self, item: T) {
        if self.first.is_none() {
            self.first = Some(item);
        } else {
            self.more.push(item);
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.more)
    }
}

#[must_use = "waiters are woken and connections closed only when these are carried out"]
pub(super) struct Effects<S: Source> {
    /// Waiters whose cell has been filled.
    pub(super) wake: Few<Arc<Cell<S::Conn>>>,
    /// Connections to close.
    pub(super) close: Few<S::Conn>,
    /// Connections to check; their slots are `Checking`.
    pub(super) check: Vec<(SlotId, S::Conn)>,
    /// Slots, now `Opening`, for which to open a connection.
    pub(super) open: Vec<SlotId>,
    /// How many connections were wanted for waiters but not approved by the shared limits.
    pub(super) refused: u32,
    /// The keeper must get up earlier than it planned.
    pub(super) ring: bool,
    /// A connection has gone: those who wait for that shall look.
    pub(super) changed: bool,
}

impl<S: Source> Effects<S> {
    /// Whether nothing is to be done, as nearly always when somebody takes a server or gives it back.
    pub(super) fn is_nothing(&self) -> bool {
        self.wake.is_empty()
            && self.close.is_empty()
            && self.check.is_empty()
            && self.open.is_empty()
            && self.refused == 0
            && !self.ring
            && !self.changed
    }
}

impl<S: Source> Default for Effects<S> {
    fn default() -> Self {
        Self {
            wake: Few::default(),
            close: Few::default(),
            check: Vec::new(),
            open: Vec::new(),
            refused: 0,
            ring: false,
            changed: false,
        }
    }
}
