//! The changes of defaults that a pool's servers have heard of while clients were there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::server::{NewDefault, Parameters};

/// So many are remembered: administrators do not change their minds more often while a client sleeps.
const CHANGES_MAX: usize = 100;

/// The changes, in their order.
#[derive(Debug, Default)]
pub struct Defaults {
    count: AtomicU32,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    changes: VecDeque<NewDefault>,
    /// What new sessions were last found to have.
    current: Arc<Parameters>,
}

impl Defaults {
    /// How many changes there have been.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Those since there were so many, as far as they are remembered, and how many there have been.
    pub fn since(&self, seen: u32) -> (Vec<NewDefault>, u32) {
        let known = self.known.lock();
        let (changes, count) = (&known.changes, self.count());
        let new = (count.wrapping_sub(seen) as usize).min(changes.len());
        (changes.iter().skip(changes.len() - new).cloned().collect(), count)
    }

    /// A server has heard of one. False if that is known already.
    pub(super) fn add(&self, change: &NewDefault) -> bool {
        let mut known = self.known.lock();
        let is_new = Arc::make_mut(&mut known.current).set(&change.name, &change.after);
        if is_new {
            self.tell(&mut known, change.clone());
        }
        is_new
    }

    fn tell(&self, known: &mut Known, change: NewDefault) {
        if known.changes.len() == CHANGES_MAX {
            known.changes.pop_front();
        }
        known.changes.push_back(change);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// A new session has these. Tells whether that was otherwise with the last one. Where no other server is there
    /// (`is_sole`) nobody has told why, and clients follow; else they keep what those have that are there.
    pub(super) fn begin_with(&self, reported: &Arc<Parameters>, is_sole: bool) -> bool {
        let mut known = self.known.lock();
        let before = std::mem::replace(&mut known.current, reported.clone());
        let changes = reported.new_defaults(&before);
        let is_other = !changes.is_empty();
        for change in changes.into_iter().filter(|_| is_sole) {
            self.tell(&mut known, change);
        }
        is_other
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
    fn what_new_sessions_have_is_where_the_next_change_begins() {
        let defaults = Defaults::default();
        let begun = |zone: &[u8]| {
            let mut parameters = Parameters::default();
            parameters.set(b"TimeZone", zone);
            defaults.begin_with(&Arc::new(parameters), false)
        };
        assert!(!begun(b"UTC"));
        assert!(defaults.add(&change("UTC", "CET")));
        assert!(begun(b"UTC"), "it was taken back while no server was there");
        assert!(defaults.add(&change("UTC", "CET")));
        assert!(!begun(b"CET"));
        assert_eq!(defaults.count(), 2);
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
