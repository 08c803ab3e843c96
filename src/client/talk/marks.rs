//! The marks that statements leave, until the server has been asked what came of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::server::{
    FunctionTable, NewDefault, Outdated, Parameters, Question, Remains, Settings, is_read_in_functions,
};
use crate::sql::{Effects, NAMES_MAX, Resets, SEED, dotted_names, is_folded};
use crate::wire::backend::Status;

use super::leading_back::Added;
use super::long::Long;
use super::shown::Beginning;
use super::unread::Unread;

/// So many names of what may be custom settings are asked for at once.
const CANDIDATES_MAX: usize = 256;

/// A setting's name in lower case, and its value.
pub(in crate::client) type Own = (Box<[u8]>, Box<[u8]>);

/// Effects that may concern settings which no text names.
pub(super) const UNSEEN: Effects = Effects::OPAQUE.union(Effects::ANY_SETTING);

/// What cannot follow a client.
const PINNING: [(Effects, Remains); 9] = [
    (Effects::TEMP, Remains::TEMP),
    (Effects::CREATES, Remains::TEMP),
    (Effects::HOLD, Remains::HOLD),
    (Effects::LOCK, Remains::LOCK),
    (Effects::PREPARE, Remains::PREPARE),
    (Effects::LISTEN, Remains::LISTEN),
    (Effects::SLOT, Remains::SLOT),
    (Effects::STICKY, Remains::STICKY),
    (Effects::COMPUTED, Remains::CUSTOM),
];

/// Kinds that no question finds.
pub(in crate::client) const UNASKED: Remains = Remains::STICKY.union(Remains::CUSTOM);

/// Kinds of state that these effects are about.
pub(super) fn pinned_by(effects: Effects) -> Remains {
    let mut remains = Remains::NONE;
    for (effect, kind) in PINNING {
        if effects.contains(effect) {
            remains.insert(kind);
        }
    }
    remains
}

/// What is done before the client hears that its request is done.
#[derive(Debug, Default)]
pub(in crate::client) struct Interlude {
    /// What may have been reset last of what the client has asked for when it logged in.
    pub(super) resets: Resets,
    /// What puts back, within the query on its way, what was reset before.
    pub(super) added: Added,
    /// Something failed, so that there may be nothing to put back.
    pub(in crate::client) failed: bool,
    /// DISCARD ALL was carried out within a batch, where it is a transaction of its own.
    pub(super) discarded: bool,
    /// What the client was told of its session before something was kept from it.
    pub(in crate::client) believed: Option<Arc<Parameters>>,
    /// What the client will be told once it is over.
    pub(in crate::client) held: Option<Status>,
}

/// What has been left behind since the server was last asked.
#[derive(Debug, Default)]
pub(in crate::client) struct Marks {
    pub(in crate::client) effects: Effects,
    pub(super) settings: BTreeSet<Box<[u8]>>,
    /// Settings that were set for the transaction, of which custom ones leave a trace the first time.
    pub(super) locals: BTreeSet<Box<[u8]>>,
    /// Names in texts that may do anything: some may be those of custom settings.
    pub(super) candidates: Vec<Box<[u8]>>,
    pub(super) resets: Resets,
    /// Of which nobody has put back yet what the client has asked for.
    pub(in crate::client) led_back: Resets,
    pub(super) unread: Unread,
    /// What is still to pass of a query that is too long to be read.
    pub(super) long: Option<Long>,
    /// Reported settings that nothing in sight has set, and that may be new defaults.
    pub(in crate::client) suspects: Vec<NewDefault>,
    /// Roles and databases whose new sessions begin with other settings; an empty name is any.
    pub(in crate::client) beginners: BTreeSet<Box<[u8]>>,
    /// The first statement that left one.
    pub(in crate::client) statement: Beginning,
    /// Some command has been carried out since.
    pub(super) completed: bool,
    /// There were more settings than are remembered.
    pub(in crate::client) crowds: bool,
    /// The error for which a statement could not be put in its place for the query that speaks of it.
    pub(super) excuse: Option<Vec<u8>>,
}

const ROLE: &[u8] = b"role";

impl Interlude {
    /// Settings of the client's own that are put back where RESET has taken them away.
    pub(in crate::client) fn restores<'a>(&'a self, own: &'a [Own]) -> impl Iterator<Item = &'a Own> {
        own.iter().filter(|(name, _)| self.resets.contains(name))
    }
}

impl Marks {
    pub(super) fn consider(&mut self, effects: Effects, text: &[u8]) {
        if effects.intersects(UNSEEN) {
            let names = self.known(dotted_names(text));
            self.candidates.extend(names);
            self.candidates.truncate(CANDIDATES_MAX);
        }
    }

    /// So much of the client's message is sent on, of which that `is_end`.
    pub(super) fn pass(&mut self, part: &[u8], is_end: bool) {
        let Some(long) = &mut self.long else { return };
        let names = long.read(part, is_end);
        if is_end {
            self.long = None;
        }
        let names = self.known(names);
        let new: Vec<_> = { names.into_iter() }
            .filter(|name| !self.candidates.contains(name))
            .collect();
        self.candidates.extend(new);
        self.candidates.truncate(CANDIDATES_MAX);
    }

    /// These settings may have been changed; the second ones for the transaction only.
    pub(super) fn add_settings(
        &mut self,
        names: impl IntoIterator<Item = Box<[u8]>>,
        locals: impl IntoIterator<Item = Box<[u8]>>,
    ) {
        let names = self.known(names);
        self.settings.extend(names);
        let locals = self.known(locals);
        self.locals.extend(locals);
        if self.settings.len() + self.locals.len() > NAMES_MAX {
            // As if nobody knew them.
            self.settings.clear();
            self.locals.clear();
            self.crowds = true;
            self.effects.insert(Effects::COMPUTED.union(Effects::ANY_SETTING));
        }
    }

    /// New sessions of these roles or databases begin with other settings.
    pub(super) fn add_beginners(&mut self, names: Vec<Box<[u8]>>) {
        self.beginners.extend(names);
        if self.beginners.len() > NAMES_MAX {
            self.beginners = [Box::default()].into();
        }
    }

    /// The names that can be asked for. One that is not ASCII would be another in another encoding: for such a setting,
    /// as for one whose name is computed, the client keeps its server.
    fn known(&mut self, names: impl IntoIterator<Item = Box<[u8]>>) -> Vec<Box<[u8]>> {
        let (known, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.is_ascii());
        if !others.is_empty() {
            self.effects.insert(Effects::COMPUTED.union(Effects::ANY_SETTING));
        }
        known
    }

    /// Why plans may have been made under settings that held for the transaction only, or that were taken back.
    pub(super) fn outdated(&self) -> Outdated {
        let is_named =
            |is_one: fn(&[u8]) -> bool| self.settings.iter().chain(&self.locals).any(|name| is_one(name));
        let reads = Effects::LOCAL_CUSTOM.union(UNSEEN).union(Effects::SETTINGS);
        let mut why = Outdated::NOT;
        for (holds, reason) in [
            (
                self.effects.contains(Effects::LOCAL_PLANS) || is_named(is_folded),
                Outdated::CERTAINLY,
            ),
            (self.effects.intersects(reads), Outdated::BY_READINGS),
            (
                self.effects.contains(Effects::ANY_SETTING) || is_named(is_read_in_functions),
                Outdated::BY_LITERALS,
            ),
        ] {
            if holds {
                why.insert(reason);
            }
        }
        why
    }

    /// Whether something may have been changed that no question finds.
    pub(in crate::client) fn may_be_unseen(&self) -> bool {
        self.effects.intersects(UNSEEN.union(Effects::SEED))
            || self.settings.contains(SEED)
            || self.locals.contains(SEED)
    }

    /// What to ask the server of the client who left these, and who so far had `settings`. `None`: nothing.
    /// `functions_set` are the custom settings that functions may have set.
    pub(in crate::client) fn question(
        &self,
        settings: &Settings,
        keeps: Remains,
        functions_set: &[Box<[u8]>],
    ) -> Option<Question> {
        let every_setting = self.effects.intersects(UNSEEN);
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut known: BTreeSet<Box<[u8]>> = BTreeSet::new();
        let mut add = |name: &[u8]| {
            if settings.reported.spelling(name).is_none() && known.insert(name.into()) {
                names.push(name.into());
            }
        };
        self.settings.iter().for_each(|name| add(name));
        let new = |name: &[u8]| name.contains(&b'.') && settings.extra.get(name).is_none();
        let traces = self.locals.iter().filter(|name| new(name));
        traces.for_each(|name| add(name));
        if every_setting
            || self
                .settings
                .iter()
                .any(|name| **name == *b"session_authorization")
        {
            add(ROLE);
        }
        // Those that no catalog lists, if every setting is asked for.
        let is_due = |name: &[u8]| self.resets.all || (every_setting && name.contains(&b'.'));
        let had = settings.extra.iter().filter(|(name, _)| is_due(name));
        had.for_each(|(name, _)| add(name));
        let about_state = Effects::OPAQUE.union(Effects::EXECUTE).union(Effects::TEMP_PATH);
        let state = self.effects.intersects(about_state)
            || !pinned_by(self.effects).is_empty()
            || (!keeps.is_empty() && self.effects.contains(Effects::RELEASES));
        let mut candidates = Vec::new();
        if every_setting {
            let all = self.candidates.iter().chain(functions_set);
            candidates.extend(
                all.filter(|name| name.is_ascii() && !known.contains(*name))
                    .cloned(),
            );
            candidates.sort_unstable();
            candidates.dedup();
        }
        // They come last.
        names.extend(self.suspects.iter().map(|change| change.name.clone()));
        (every_setting || state || !names.is_empty()).then_some(Question {
            names,
            candidates,
            every_setting,
            state,
        })
    }

    /// What has been done that no question can tell: nothing by what has failed, but for what a function has done before
    /// that outside of all transactions.
    pub(in crate::client) fn unseen(&self) -> Remains {
        let unseen = pinned_by(self.effects).intersection(UNASKED);
        match (self.completed, self.effects.contains(Effects::OPAQUE)) {
            (true, _) => unseen,
            (false, true) => unseen.intersection(Remains::STICKY),
            (false, false) => Remains::NONE,
        }
    }

    /// What there may be, if nobody asks any more. A function that nobody has read may have left what can neither be seen
    /// nor undone.
    pub(in crate::client) fn may_have_left(&self) -> Remains {
        let unread = if self.unread.is_empty() {
            Remains::NONE
        } else {
            Remains::STICKY
        };
        pinned_by(self.effects).union(unread)
    }

    /// Whether something may have been created or altered unseen, since this was last asked.
    pub(in crate::client) fn take_defined(&mut self) -> bool {
        let defines = self.effects.contains(Effects::DEFINES);
        self.effects = self.effects.without(Effects::DEFINES);
        defines
    }

    /// What was there and that no question finds, after this. `has_reset`: something has been reset, and that was not
    /// rolled back.
    pub(in crate::client) fn still_unseen(&self, keeps: Remains, has_reset: bool) -> Remains {
        let still = keeps.intersection(UNASKED);
        if self.resets.all && has_reset {
            still.without(Remains::CUSTOM)
        } else {
            still
        }
    }

    /// More is known of functions now: one that has been called may turn out to leave what no question finds.
    pub(in crate::client) fn look_again(&mut self, functions: &FunctionTable) {
        let unread = std::mem::take(&mut self.unread);
        self.effects.insert(unread.hidden_effects(functions));
    }

    /// The settings that have been set by name.
    pub(in crate::client) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.settings.iter().map(|name| &**name)
    }

    /// Whether they name this, whose name is in lower case.
    pub(super) fn name(&self, name: &[u8]) -> bool {
        self.settings.contains(name) || self.resets.contains(name)
    }

    /// Whether all settings have been reset.
    pub(in crate::client) fn resets_all(&self) -> bool {
        self.resets.all
    }

    /// Whether a setting is still to be led back to what the client has asked for, should it be what a new session has.
    pub(in crate::client) fn is_led_back(&self, name: &[u8]) -> bool {
        self.led_back.contains(name)
    }

    /// Whether a text has set it, and none has reset it: what it is now is what the client wants.
    pub(in crate::client) fn sets(&self, name: &[u8]) -> bool {
        self.settings.contains(name) && !self.resets.contains(name)
    }

    /// Whether a setting has been reset.
    pub(in crate::client) fn resets(&self, name: &[u8]) -> bool {
        self.resets.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_names_count_as_none_that_is_known() {
        let mut marks = Marks::default();
        let name = |n: usize| format!("a.b{n}").into_bytes().into_boxed_slice();
        marks.add_settings((0..NAMES_MAX).map(name), []);
        assert_eq!((marks.settings.len(), marks.effects), (NAMES_MAX, Effects::NONE));
        marks.add_settings([name(NAMES_MAX)], []);
        assert!(marks.settings.is_empty() && marks.effects.contains(Effects::ANY_SETTING));
        assert_eq!(pinned_by(marks.effects), Remains::CUSTOM);
        marks.add_beginners((0..=NAMES_MAX).map(name).collect());
        assert_eq!(marks.beginners.len(), 1);
    }
}
