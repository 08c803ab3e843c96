//! A client follows when an administrator changes what its settings are unless it has chosen for itself.
//!
//! A server tells of that behind the first query that comes after it, whoever's that is. So a reported value that nothing in
//! sight has set is asked about: what RESET would lead to as well is the server's default, and anything else was set unseen.

use crate::client::talk::marks::Marks;
use crate::server::{Answer, Chosen, Connection, NewDefault, Parameters};
use crate::wire::write;

use super::Session;

impl Session {
    /// The session reports something else than `before`. What the client's texts have set is its own; what nothing in sight
    /// has set is going to be asked about.
    pub(super) fn suspect_new_defaults(&mut self, before: &Parameters, server: &mut Connection) {
        if !server.pipeline.is_settled() || !self.talk.trail.follows() {
            return;
        }
        for change in server.settings.reported.new_defaults(before) {
            if self.talk.trail.has_named(&change.name.to_ascii_lowercase()) {
                self.choose(&change.name, server);
            } else {
                self.talk.trail.suspect(change);
            }
        }
    }

    fn choose(&mut self, name: &[u8], server: &mut Connection) {
        let name = Chosen::of(name);
        for settings in [&mut self.talk.settings, &mut server.settings] {
            settings.chosen = settings.chosen.union(name);
        }
    }

    /// What the server has answered about them, which comes last in its answer.
    pub(super) fn learn_new_defaults(
        &mut self,
        answer: &mut Answer,
        suspects: Vec<NewDefault>,
        server: &mut Connection,
    ) {
        let first = answer.values.len().saturating_sub(suspects.len());
        for (value, change) in answer.values.drain(first..).zip(suspects) {
            let name = change.name.clone();
            let is_default = value.current == value.default;
            if !is_default || !server.has_new_default(change) {
                // It was set unseen, by a function for one.
                self.choose(&name, server);
            }
        }
    }

    /// After these marks: what they name was set, or reset, if it was not taken back.
    pub(super) fn note_choices(
        &mut self,
        marks: &Marks,
        (has_set, has_reset): (bool, bool),
        server: &mut Connection,
    ) {
        let named = Chosen::among(marks.names());
        let reset = Chosen::among(marks.names().filter(|name| marks.resets(name)));
        let own = Chosen::among(self.talk.trail.own.iter().map(|(name, _)| &**name));
        // Whether it has come to that on the server costs a RESET there at most.
        server.settings.chosen = server.settings.chosen.union(named);
        let chosen = &mut self.talk.settings.chosen;
        if has_set {
            *chosen = chosen.union(named.without(reset));
        }
        if has_reset {
            let kept = if marks.resets_all() {
                Chosen::default()
            } else {
                chosen.without(reset)
            };
            *chosen = kept.union(own);
        }
    }

    /// Follows, with the server that it is about to use, what has changed since.
    pub(super) fn follow_defaults(&mut self, server: &mut Connection) {
        let source = self.pool.source();
        if !server.has_no_news() {
            for change in server.take_new_defaults() {
                source.has_new_default(&change);
            }
        }
        if self.defaults_seen == source.defaults.count() {
            return;
        }
        let (changes, count) = source.defaults.since(self.defaults_seen);
        self.defaults_seen = count;
        let chosen = self.talk.settings.chosen;
        let open = changes
            .iter()
            .filter(|change| !chosen.has(Chosen::of(&change.name)));
        let followed = self.talk.settings.reported.follow(open);
        if followed.is_empty() {
            return;
        }
        for change in followed {
            write::parameter_status(&mut self.talk.output, &change.name, &change.after);
        }
        self.talk.settings.reported = source.intern(&self.talk.settings.reported);
        self.settings_changed();
    }
}
