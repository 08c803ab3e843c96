//! Statements that concern others than the client: those that need a database without connections, and those that alter what
//! sessions begin with. Servers of others are closed for them, so it has to be certain that they are carried out: nothing
//! counts that was only bound, or that waits behind something else.

use std::collections::BTreeSet;

use crate::server::Connection;
use crate::sql::{Effects, Verdict};

use super::requests::wait_for_answers;
use super::trail::Trail;
use super::{Does, Pause, Portal, Talk};

/// So many portals are kept in mind; those before them are taken for ordinary ones.
const PORTALS_MAX: usize = 1000;

/// Whom a statement concerns.
#[derive(Debug, Default)]
pub(in crate::client) struct Concerns {
    /// Databases that it needs without connections.
    databases: Vec<Box<[u8]>>,
    /// Roles and databases whose sessions it has begin with other settings.
    beginners: Vec<Box<[u8]>>,
}

impl Concerns {
    pub(super) fn of<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Self {
        let mut concerns = Self::default();
        for verdict in verdicts {
            if clears(verdict) {
                concerns
                    .databases
                    .extend(verdict.details().databases.iter().cloned());
            }
            concerns
                .beginners
                .extend(verdict.details().beginners.iter().cloned());
        }
        concerns
    }

    pub(super) fn are_none(&self) -> bool {
        self.databases.is_empty() && self.beginners.is_empty()
    }
}

/// Whether all that a text does is to need a database without connections.
pub(super) fn clears(verdict: &Verdict) -> bool {
    // Nothing of a session is in another database.
    let beside = Effects::DATABASE.union(Effects::RELEASES);
    verdict.effects.contains(Effects::DATABASE) && verdict.effects.without(beside).is_empty()
}

impl Trail {
    /// Such a statement goes out, and nothing else is in flight.
    pub(super) fn concern(&mut self, concerns: Concerns) {
        self.cleared.extend(concerns.databases);
        if !concerns.beginners.is_empty() && self.follows() {
            let marks = self.marks.get_or_insert_default();
            marks.add_beginners(concerns.beginners);
        }
    }

    /// Something has been answered: nothing that was sent before it waits for a database any more.
    pub(super) fn is_answered(&mut self) {
        self.clears = None;
    }

    /// The databases that have just been asked for, for as long as that is not answered.
    pub(in crate::client) fn claim(&mut self) -> std::sync::Weak<BTreeSet<Box<[u8]>>> {
        let databases = std::mem::take(&mut self.cleared);
        let claim = std::sync::Arc::new(databases.into_iter().collect());
        let waits = std::sync::Arc::downgrade(&claim);
        self.clears = Some(claim);
        waits
    }
}

impl Talk {
    /// Keeps in mind what the portal of this name does, which has just been bound.
    pub(super) fn note_portal(&mut self, name: &[u8], does: Does) {
        if self.portals.len() >= PORTALS_MAX {
            self.portals.remove(0);
        }
        self.portals.push(Portal {
            name: super::names::key(name).into(),
            does,
        });
    }

    /// Before a portal that concerns others is executed.
    pub(super) fn before_concerning(&mut self, at: usize, server: &mut Connection) -> Result<(), Pause> {
        if server.pipeline.in_flight() {
            return Err(wait_for_answers(server));
        }
        if let Does::Concerns(concerns) = self.portals.remove(at).does {
            self.trail.concern(concerns);
        }
        Ok(())
    }
}
