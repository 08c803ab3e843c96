//! A client follows when an administrator changes what its settings are unless it has chosen for itself.
//!
//! A server tells of that behind the first query that comes after it, whoever's that is. So a reported value that nothing in
//! sight has set is asked about: what RESET would lead to as well is the server's default, and anything else was set unseen.

use std::sync::Arc;

use crate::client::talk::marks::Own;
use crate::server::{Answer, Connection, NewDefault, Parameters};
use crate::wire::write;

use super::Session;

impl Session {
    /// The server reports what nothing in sight has set, where it reported `before`: it is going to be asked.
    pub(super) fn suspect_new_defaults(&mut self, before: &Parameters, server: &Connection) {
        if !server.pipeline.is_settled() || !self.talk.trail.follows() {
            return;
        }
        for (name, _) in server.settings.reported.differing(before) {
            if let Some(had) = before.get(name)
                && NewDefault::is_followed(name)
                && !self.talk.trail.may_have_set(&name.to_ascii_lowercase())
            {
                self.talk.trail.suspect(name, had);
            }
        }
    }

    /// What the server has answered about them, which comes last in its answer.
    pub(super) fn learn_new_defaults(
        &mut self,
        answer: &mut Answer,
        suspects: Vec<Own>,
        server: &mut Connection,
    ) {
        if suspects.is_empty() {
            return;
        }
        let first = answer.values.len().saturating_sub(suspects.len());
        for (value, (name, had)) in answer.values.drain(first..).zip(suspects) {
            let (Some(now), true) = (&value.current, value.current == value.default) else {
                continue;
            };
            if self.talk.trail.has_chosen(&name) {
                // It ran under that once; its next server is set to what it wants.
                Arc::make_mut(&mut self.talk.settings.reported).set(&name, &had);
                write::parameter_status(&mut self.talk.output, &name, &had);
            }
            server.has_new_default(NewDefault {
                name,
                before: had,
                after: now.clone(),
            });
        }
        self.spread_new_defaults(server);
        self.settings_changed();
    }

    /// What the server has heard is for everybody.
    pub(super) fn spread_new_defaults(&self, server: &mut Connection) {
        for change in server.take_new_defaults() {
            self.pool.source().has_new_default(&change);
        }
    }

    /// Follows, with the server that it is about to use, what has changed since.
    pub(super) fn follow_defaults(&mut self, server: &mut Connection) {
        let defaults = &self.pool.source().defaults;
        let (changes, count) = defaults.since(server.defaults_seen());
        server.follow_defaults(&changes, count);
        let (changes, count) = defaults.since(self.defaults_seen);
        self.defaults_seen = count;
        let trail = &self.talk.trail;
        let open = changes.iter().filter(|change| !trail.has_chosen(&change.name));
        let followed = self.talk.settings.reported.follow(open);
        if followed.is_empty() {
            return;
        }
        for change in followed {
            write::parameter_status(&mut self.talk.output, &change.name, &change.after);
        }
        let reported = self.pool.source().intern(&self.talk.settings.reported);
        self.talk.settings.reported = reported;
        self.settings_changed();
    }
}
