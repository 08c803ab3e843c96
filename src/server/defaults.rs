//! What sessions are set to that have chosen nothing, for the settings that servers report. An administrator may change it
//! under them (`ALTER SYSTEM`, a reload): PostgreSQL's sessions follow, and so do clients.
//!
//! What a server has by default is a fact about that server: another one may have another, by its configuration or its role's.
//! That it has changed, on a server that is there, is news for everybody.

use std::sync::Arc;

use super::literal::text;
use super::plans::Outdated;
use super::{Chosen, Connection, Failure, Parameters, Settings};

/// Which of these settings the session has not set.
const NOT_SET: &[u8] =
    b"SELECT name FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.<>) 'session' AND name IN (";

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

/// What a connection knows of its defaults.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    /// What RESET leads to.
    reported: Arc<Parameters>,
    /// Changes that it has heard of, and nobody else yet.
    heard: Vec<NewDefault>,
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

    /// What is different from `before`, of that which follows the server's configuration.
    pub fn new_defaults(&self, before: &Self) -> Vec<NewDefault> {
        let differing = self.differing(before);
        let followed = differing.filter(|(name, _)| !Chosen::of(name).is_empty());
        let change = |(name, value): (&[u8], &[u8])| {
            Some(NewDefault {
                name: name.into(),
                before: before.get(name)?.into(),
                after: value.into(),
            })
        };
        followed.filter_map(change).collect()
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

    /// The server has told of a default that has changed. False if what has changed was none.
    pub fn has_new_default(&mut self, change: NewDefault) -> bool {
        let was_default = self.defaults().get(&change.name) == Some(&change.before);
        if was_default {
            self.outdate_plans(Outdated::by(&change.name));
            Arc::make_mut(&mut self.defaults.reported).set(&change.name, &change.after);
            if !self.is_begun_with(&change.name) {
                Arc::make_mut(&mut self.baseline.reported).set(&change.name, &change.after);
            }
            self.defaults.heard.push(change);
        }
        was_default
    }

    /// Nothing has been set since it reported `before`.
    pub fn has_set_nothing_since(&mut self, before: &Parameters) {
        for change in self.settings.reported.new_defaults(before) {
            self.has_new_default(change);
        }
    }

    /// These reported settings have been reset, and perhaps set again behind that. Tells which have not been: what they are
    /// now is what RESET leads to, which an administrator may have changed unheard, where the session had a value of its own.
    pub async fn found_reset(&mut self, names: &[Box<[u8]>]) -> Result<Vec<Box<[u8]>>, Failure> {
        let list: Vec<_> = names.iter().map(|name| text(name)).collect();
        let sql = [NOT_SET, &list.join(&b","[..]), b")"].concat();
        let found = self.query(&sql).await?.into_iter().flatten().flatten().flatten();
        let found: Vec<_> = found.collect();
        for name in &found {
            let pair = (self.defaults().get(name), self.settings.reported.get(name));
            if let (Some(before), Some(after)) = pair {
                let (name, before, after) = (name.clone(), before.into(), after.into());
                self.has_new_default(NewDefault { name, before, after });
            }
        }
        Ok(found)
    }

    /// The session has been brought to `wanted`. What was not set is by default, whatever that is now.
    pub(super) fn has_been_led(&mut self, wanted: &Settings) {
        let own = wanted.chosen_over(self.defaults());
        let news = self.settings.reported.new_defaults(self.defaults());
        for change in news
            .into_iter()
            .filter(|change| !own.has(Chosen::of(&change.name)))
        {
            self.has_new_default(change);
        }
        self.settings.chosen = own;
    }

    /// What it has heard that nobody else has.
    pub fn take_new_defaults(&mut self) -> Vec<NewDefault> {
        std::mem::take(&mut self.defaults.heard)
    }

    /// Whether it has heard nothing that nobody else has.
    pub fn has_no_news(&self) -> bool {
        self.defaults.heard.is_empty()
    }
}
