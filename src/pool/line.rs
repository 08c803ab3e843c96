//! First come, first served.

use std::collections::VecDeque;

use tokio::time::Instant;

/// A place in a [`Line`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

struct Place<T> {
    ticket: u64,
    since: Instant,
    /// `None` once its holder has left. The first and the last place are never empty.
    holder: Option<T>,
}

/// A queue that anybody may leave at any time without making the others move up one by one.
pub(super) struct Line<T> {
    places: VecDeque<Place<T>>,
    waiting: usize,
    next: u64,
}

impl<T> Line<T> {
    pub(super) fn new() -> Self {
        Self {
            places: VecDeque::new(),
            waiting: 0,
            next: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn join(&mut self, holder: T, since: Instant) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.waiting += 1;
        self.places.push_back(Place {
            ticket,
            since,
            holder: Some(holder),
        });
        Ticket(ticket)
    }

    /// Since when the first in the line has been waiting.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.places.front().map(|place| place.since)
    }

    /// Since when each has been waiting, the longest first.
    pub(super) fn since(&self) -> impl Iterator<Item = Instant> {
        self.places
            .iter()
            .filter(|place| place.holder.is_some())
            .map(|place| place.since)
    }

    /// The first in the line leaves it, served.
    pub(super) fn first(&mut self) -> Option<(T, Instant)> {
        let place = self.places.pop_front()?;
        let holder = place.holder?;
        self.waiting -= 1;
        self.trim();
        Some((holder, place.since))
    }

    /// Somebody leaves the line; `None` if he is not in it any more.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let index = self
            .places
            .binary_search_by_key(&ticket.0, |place| place.ticket)
            .ok()?;
        let holder = self.places.get_mut(index)?.holder.take()?;
        self.waiting -= 1;
        self.trim();
        // So that a line whose first never moves cannot grow by those who come and go behind him.
        if self.places.len() > 2 * self.waiting + 32 {
            self.places.retain(|place| place.holder.is_some());
        }
        Some(holder)
    }

    fn trim(&mut self) {
        while self.places.front().is_some_and(|place| place.holder.is_none()) {
            self.places.pop_front();
        }
        while self.places.back().is_some_and(|place| place.holder.is_none()) {
            self.places.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_leave_are_skipped_and_the_others_keep_their_order() {
        let now = Instant::now();
        let mut line = Line::new();
        let tickets: Vec<Ticket> = (0..6).map(|n| line.join(n, now)).collect();
        assert_eq!(line.leave(tickets[2]), Some(2));
        assert_eq!(line.leave(tickets[2]), None);
        assert_eq!(line.leave(tickets[0]), Some(0));
        assert_eq!(line.len(), 4);
        let served: Vec<i32> = std::iter::from_fn(|| line.first().map(|(n, _)| n)).collect();
        assert_eq!(served, [1, 3, 4, 5]);
        assert!(line.is_empty() && line.oldest().is_none());
    }

    #[test]
    fn coming_and_going_behind_a_patient_first_leaves_nothing_behind() {
        let now = Instant::now();
        let mut line = Line::new();
        line.join(0, now);
        let mut last = line.join(1, now);
        for n in 2..10_000 {
            let ticket = line.join(n, now);
            line.leave(last);
            last = ticket;
        }
        assert_eq!(line.len(), 2);
        assert!(line.places.len() < 64);
    }
}
