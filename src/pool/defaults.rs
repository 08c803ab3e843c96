//! The changes of defaults that a pool's servers have heard of while clients were there.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::server::NewDefault;

/// So many are remembered: administrators do not change their minds more often while a client sleeps.
const CHANGES_MAX: usize = 100;

/// The changes, in their order.
#[derive(Debug, Default)]
pub struct Defaults {
    count: AtomicU32,
    changes: Mutex<VecDeque<NewDefault>>,
}

impl Defaults {
    /// How many changes there have been.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Those since there were so many, as far as they are remembered, and how many there have been.
    pub fn since(&self, seen: u32) -> (Vec<NewDefault>, u32) {
        let changes = self.changes.lock();
        let count = self.count();
        let new = (count.wrapping_sub(seen) as usize).min(changes.len());
        (changes.iter().skip(changes.len() - new).cloned().collect(), count)
    }

    /// A server has heard of one. False if another has told of it before.
    pub(super) fn add(&self, change: &NewDefault) -> bool {
        let mut changes = self.changes.lock();
        let mut last = changes.iter().rev();
        if last
            .find(|have| have.name == change.name)
            .is_some_and(|have| have.after == change.after)
        {
            return false;
        }
        if changes.len() == CHANGES_MAX {
            changes.pop_front();
        }
        changes.push_back(change.clone());
        self.count.fetch_add(1, Ordering::AcqRel);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: &str, after: &str) -> NewDefault {
        NewDefault {
            name: b"TimeZone"[..].into(),
            before: before.as_bytes().into(),
            after: after.as_bytes().into(),
        }
    }

    #[test]
    fn a_change_that_several_servers_hear_of_is_one() {
        let defaults = Defaults::default();
        assert!(defaults.add(&change("UTC", "CET")));
        assert!(!defaults.add(&change("UTC", "CET")));
        assert!(defaults.add(&change("CET", "UTC")));
        assert!(defaults.add(&change("UTC", "CET")));
        assert_eq!(defaults.count(), 3);
        assert_eq!(
            defaults.since(1),
            (vec![change("CET", "UTC"), change("UTC", "CET")], 3)
        );
    }

    #[test]
    fn who_has_slept_through_too_many_is_told_of_the_last() {
        let defaults = Defaults::default();
        for n in 0..2 * CHANGES_MAX {
            defaults.add(&change("UTC", &format!("zone {n}")));
        }
        assert_eq!(defaults.since(0).0.len(), CHANGES_MAX);
        assert!(defaults.since(defaults.count()).0.is_empty());
    }
}
