//! What sessions are set to that have chosen nothing, for the settings that servers report. An administrator may change it
//! under them (`ALTER SYSTEM`, a reload): PostgreSQL's sessions follow, and so do clients.

use std::sync::Arc;

use super::settings::{reset, select};
use super::{Connection, Parameters, Settings};

/// A default has changed, of which sessions that are there have heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDefault {
    /// The setting, as servers spell it.
    pub name: Box<[u8]>,
    /// What it was.
    pub before: Box<[u8]>,
    /// What it is.
    pub after: Box<[u8]>,
}

/// They tell of the client rather than of the server's configuration.
const CLIENTS_OWN: [&[u8]; 2] = [b"application_name", b"client_encoding"];

/// What a connection knows of its defaults.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    /// What RESET leads to.
    reported: Arc<Parameters>,
    /// It has been told of so many changes.
    seen: u32,
    /// Changes that it has heard of itself, and nobody else yet.
    heard: Vec<NewDefault>,
    /// What its last client has set to just what it was: as it is, it would not follow.
    covered: Vec<Box<[u8]>>,
}

impl Defaults {
    /// Whether nothing keeps the session from following.
    pub(super) fn are_bare(&self) -> bool {
        self.covered.is_empty()
    }
}

impl NewDefault {
    /// Whether sessions follow when the default of this setting changes.
    pub fn is_followed(name: &[u8]) -> bool {
        Parameters::is_settable(name) && !CLIENTS_OWN.contains(&name)
    }
}

impl Parameters {
    /// Takes over changes that concern what is there; tells which.
    pub fn follow<'a>(
        self: &mut Arc<Self>,
        changes: impl IntoIterator<Item = &'a NewDefault>,
    ) -> Vec<&'a NewDefault> {
        let mut followed = Vec::new();
        for change in changes {
            if self.get(&change.name) == Some(&change.before) {
                Arc::make_mut(self).set(&change.name, &change.after);
                followed.push(change);
            }
        }
        followed
    }
}

impl Connection {
    /// What the session reports now is what RESET leads to.
    pub(super) fn begins_by_default(&mut self) {
        self.defaults.reported = self.settings.reported.clone();
    }

    /// The reported values that RESET leads to.
    pub fn defaults(&self) -> &Parameters {
        &self.defaults.reported
    }

    /// The server has another default than was known.
    pub fn has_new_default(&mut self, change: NewDefault) {
        Arc::make_mut(&mut self.defaults.reported).set(&change.name, &change.after);
        if !self.is_begun_with(&change.name) {
            Arc::make_mut(&mut self.baseline.reported).set(&change.name, &change.after);
        }
        self.defaults.heard.push(change);
    }

    /// Its client has set these, by their names in lower case: for others they are to be defaults again.
    pub fn cover_defaults<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) {
        for name in names {
            let Some(name) = self.settings.reported.spelling(name) else {
                continue;
            };
            let is_default = self.defaults().get(name) == self.settings.reported.get(name);
            if is_default && NewDefault::is_followed(name) {
                let name = name.into();
                self.defaults.covered.push(name);
            }
        }
    }

    /// The calls that uncover them.
    pub(super) fn uncover_defaults(&mut self) -> Option<Vec<u8>> {
        let covered = std::mem::take(&mut self.defaults.covered);
        let calls: Vec<_> = covered.iter().map(|name| reset(name)).collect();
        (!calls.is_empty()).then(|| select(&calls))
    }

    /// The session had `had`, and has been brought to `wanted`: what it reports beside that is news.
    pub(super) fn note_new_defaults(&mut self, had: &Parameters, wanted: &Settings) {
        let news: Vec<_> = self
            .settings
            .reported
            .iter()
            .filter(|(name, _)| NewDefault::is_followed(name))
            .filter_map(|(name, value)| {
                let expected = match (had.get(name)?, wanted.reported.get(name)) {
                    (had, Some(wanted)) if had != wanted => {
                        // What was not reset has been set to just that.
                        Some(wanted).filter(|wanted| self.defaults().get(name) == Some(wanted))?
                    }
                    (had, _) => had,
                };
                (value != expected).then(|| NewDefault {
                    name: name.into(),
                    before: expected.into(),
                    after: value.into(),
                })
            })
            .collect();
        for change in news {
            self.has_new_default(change);
        }
    }

    /// What it has heard that nobody else has.
    pub fn take_new_defaults(&mut self) -> Vec<NewDefault> {
        std::mem::take(&mut self.defaults.heard)
    }

    /// Whether it knows of this number of changes, and nothing beyond.
    pub fn knows_defaults(&self, count: u32) -> bool {
        self.defaults.seen == count && self.defaults.heard.is_empty()
    }

    /// How many changes it has been told of.
    pub fn defaults_seen(&self) -> u32 {
        self.defaults.seen
    }

    /// It is told of the changes up to this number.
    pub fn follow_defaults(&mut self, changes: &[NewDefault], count: u32) {
        let open: Vec<_> = changes
            .iter()
            .filter(|change| !self.is_begun_with(&change.name))
            .collect();
        self.baseline.reported.follow(open);
        self.defaults.reported.follow(changes);
        self.defaults.seen = count;
    }
}
