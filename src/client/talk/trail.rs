//! What a client leaves behind on its server, as far as the texts of its statements tell.
//!
//! Every text gets a verdict before it goes out. Nearly all are inert. The others leave marks, and once the transaction
//! is over the server is asked about what they say may have changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::{Opaque, PoolMode, PoolSettings, SessionState};
use crate::error::{Refusal, SqlState};
use crate::server::{
    Answer, Connection, Findings, FunctionTable, NewDefault, Outdated, Parameters, Remains, Settings,
    Statement,
};
use crate::sql::{
    Bearing, Effects, Reading, Verdict, contains_name, encoding_is_safe, hidden_effects, verdict,
};

use super::marks::{Interlude, Marks, Own, UNSEEN, pinned_by};
use super::name_set::NameSet;
use super::shown::Beginning;

/// What marks lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Following {
    /// Nobody looks: leaks are wanted.
    Not,
    /// The server is the client's to its end; only RESET has to lead back to what the client asked for.
    Resets,
    /// Settings follow; what cannot is refused.
    SettingsOnly,
    /// Settings follow; for what cannot, the client keeps its server.
    All,
}

/// What the client may leave that needs a server of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Licence {
    /// Nothing, before it has permission.
    Nothing,
    /// What it listens to, for which it will not need the server for long.
    Channels,
    /// Anything.
    Anything,
}

/// Whether more requests may go out behind one that changes what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Barrier {
    /// They may.
    None,
    /// Up to the next Sync.
    AtSync,
    /// Not before everything has been answered.
    Now,
}

/// Effects that change nothing that the next request could depend on.
const PASSING: Effects = Effects::NOTIFY
    .union(Effects::RELEASES)
    .union(Effects::FREES)
    .union(Effects::DATABASE)
    .union(Effects::CREATES)
    .union(Effects::DEFAULTS)
    .union(Effects::TEMP_PATH)
    .union(Effects::SEED)
    .union(Effects::LOCAL_CUSTOM);

/// Effects that are over with the transaction.
const LOCAL: Effects = Effects::LOCAL_NAMES
    .union(Effects::LOCAL_MEANING)
    .union(Effects::LOCAL_RESETS);

/// Effects of statements that are about prepared ones by the names that the client has for them.
const SPEAKS_OF_NAMES: Effects = Effects::PREPARE.union(Effects::EXECUTE);

/// What becomes of objects that are made without saying where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// They are everybody's.
    Plain,
    /// They may be temporary: this transaction has set a path that no text tells.
    Unsure,
    /// They are temporary, by the client's settings.
    Temporary,
}

/// Names, nearly always none: every client has such lists, and one that is empty takes a word.
type Names = thin_vec::ThinVec<Box<[u8]>>;

/// One client's trail.
#[derive(Debug)]
pub(in crate::client) struct Trail {
    pub(in crate::client) following: Following,
    pub(super) opaque: Opaque,
    pub(in crate::client) reading: Reading,
    path: Path,
    pub(in crate::client) functions: Arc<FunctionTable>,
    pub(in crate::client) marks: Option<Box<Marks>>,
    pub(in crate::client) licence: Licence,
    /// What no cleaning takes away of what the client may have done, in session mode.
    pub(in crate::client) spoilt: Remains,
    /// What the last statement would have left that had to wait for that.
    pub(in crate::client) wanted: Remains,
    pub(super) barrier: Barrier,
    pub(in crate::client) interlude: Option<Box<Interlude>>,
    /// The client's statements of SQL's own PREPARE, when the server was last asked.
    pub(in crate::client) sql_names: Names,
    /// Settings that a function has set for the client, and that its role may not.
    pub(in crate::client) stuck: Names,
    /// The client's names under which the server has statements until the next Sync.
    pub(super) lent: NameSet,
    /// The client's names that a DEALLOCATE on its way is to find on the server and to remove; what it leaves is removed
    /// at the next Sync.
    pub(super) doomed: NameSet,
    /// Why the statement that comes next may not leave what it would.
    pub(in crate::client) turned_down: Option<Box<Refusal>>,
    /// What the client asked for when it logged in: RESET leads back to that.
    pub(in crate::client) own: Arc<[Own]>,
    /// Databases that statements on their way out need without connections.
    pub(in crate::client) cleared: Names,
    /// Those that the request which is being answered needs so.
    pub(super) clears: Option<Arc<BTreeSet<Box<[u8]>>>>,
    /// What may be decided otherwise than the client's settings say: something has been set since they were learnt.
    pub(in crate::client) shifted: Bearing,
    /// Why plans may hold what is over with the transaction, as far as no mark tells.
    outdated: Outdated,
}

/// Effects of texts that may call what sets them; a prepared statement does so when it is executed.
const CALLS_UNSEEN: Effects = UNSEEN.union(Effects::PREPARE);

/// Effects that matter only to a client that keeps its server.
const RELEASING: Effects = Effects::RELEASES.union(Effects::FREES).union(Effects::UNLISTEN);

/// What such a statement may leave that no cleaning takes away.
fn spoils(verdict: &Verdict) -> Remains {
    pinned_by(verdict.effects).intersection(Remains::FOR_LIFE)
}

/// Whether every session reads a text in the same way.
fn is_read_alike(text: &[u8]) -> bool {
    text.is_ascii() && memchr::memchr(b'\\', text).is_none()
}

/// How a session with these parameters reads a text.
pub(super) fn reading_of(reported: &Parameters) -> Reading {
    let encoding = reported.get(b"client_encoding").unwrap_or_default();
    Reading {
        standard_conforming_strings: reported.get(b"standard_conforming_strings") != Some(b"off"),
        encoding_is_safe: encoding_is_safe(encoding),
    }
}

/// What a text may do.
pub(in crate::client) enum Judged {
    /// Nothing that lasts.
    Inert,
    /// Nothing that matters to this client now.
    Passing,
    /// This.
    Marked(Box<Verdict>),
}

impl Trail {
    pub(in crate::client) fn new(functions: Arc<FunctionTable>, own: Arc<[Own]>) -> Self {
        Self {
            following: Following::Not,
            opaque: Opaque::Check,
            reading: Reading::default(),
            path: Path::Plain,
            functions,
            marks: None,
            licence: Licence::Nothing,
            spoilt: Remains::NONE,
            wanted: Remains::NONE,
            barrier: Barrier::None,
            interlude: None,
            sql_names: Names::new(),
            stuck: Names::new(),
            lent: NameSet::default(),
            doomed: NameSet::default(),
            turned_down: None,
            own,
            cleared: Names::new(),
            clears: None,
            shifted: Bearing::None,
            outdated: Outdated::NOT,
        }
    }

    /// Takes over what a pool is set to now.
    pub(in crate::client) fn obey(&mut self, policy: &PoolSettings) {
        self.opaque = policy.opaque;
        self.following = match (policy.pool_mode, policy.session_state) {
            (_, SessionState::Ignore) => Following::Not,
            (PoolMode::Session, _) => Following::Resets,
            (_, SessionState::Refuse) => Following::SettingsOnly,
            (_, SessionState::Follow) => Following::All,
        };
    }

    /// The client's settings have changed: texts may have to be read in another way.
    pub(super) fn read_as(&mut self, settings: &Settings) {
        let reported = &settings.reported;
        let path = reported
            .get(b"search_path")
            .or_else(|| settings.extra.get(b"search_path"));
        if path.is_some_and(|path| contains_name(path, b"pg_temp")) {
            self.path = Path::Temporary;
        } else if self.path == Path::Temporary {
            self.path = Path::Plain;
        }
        self.reading = reading_of(reported);
    }

    /// A request goes out that may change, by what has been prepared, declared or begun, how others are read.
    pub(super) fn note_use(&mut self, at: Barrier) {
        if self.shifted > Bearing::None && self.barrier != Barrier::Now {
            self.barrier = at;
        }
    }

    /// What a text may leave behind that is sent now.
    pub(in crate::client) fn judge(&self, text: &[u8]) -> Judged {
        let reading = (!self.may_be_misread(text)).then_some(self.reading);
        self.judge_read(text, reading)
    }

    /// What a statement may leave behind, as it was read when it was prepared.
    pub(super) fn judge_parsed(&self, statement: &Statement) -> Judged {
        if self.following == Following::Not {
            return Judged::Passing;
        }
        let reading = if is_read_alike(statement.text()) {
            self.reading
        } else if let Some(then) = statement.settings() {
            reading_of(&then.reported)
        } else {
            return self.unread();
        };
        let version = self.functions.version();
        self.judge_found(statement.findings(version, reading, |text| self.find(text, reading)))
    }

    /// Whether nobody can tell yet how PostgreSQL is going to read a text that is sent now.
    pub(super) fn may_be_misread(&self, text: &[u8]) -> bool {
        let is_open = self.barrier == Barrier::AtSync && self.shifted == Bearing::Meaning;
        is_open && !is_read_alike(text)
    }

    /// What a text may leave behind that is, or was, read in this way; `None` if that is not known.
    pub(super) fn judge_read(&self, text: &[u8], reading: Option<Reading>) -> Judged {
        if self.following == Following::Not {
            return Judged::Passing;
        }
        match reading {
            Some(reading) => self.judge_found(self.find(text, reading)),
            None => self.unread(),
        }
    }

    /// What is found in a text, whoever sends it.
    fn find(&self, text: &[u8], reading: Reading) -> Findings {
        let verdict = verdict(text, reading, &*self.functions);
        let mut hidden = Effects::NONE;
        if verdict.effects.intersects(CALLS_UNSEEN) {
            hidden = hidden_effects(text).union(self.functions.hidden_effects(text));
        }
        Findings { verdict, hidden }
    }

    /// What a text may leave behind in which this has been found, as this client sends it.
    fn judge_found(&self, findings: Findings) -> Judged {
        let Findings { mut verdict, hidden } = findings;
        if self.opaque == Opaque::Trust {
            verdict.effects = verdict
                .effects
                .without(Effects::OPAQUE.union(Effects::UNKNOWN_FUNCTION));
        }
        if verdict.is_inert() {
            return Judged::Inert;
        }
        // To others it may be of consequence.
        let takes_own = self.takes_own(verdict.details());
        if !takes_own {
            verdict.effects = verdict.effects.without(Effects::LOCAL_RESETS);
        }
        if verdict.effects.intersects(CALLS_UNSEEN) {
            verdict.effects.insert(hidden);
        }
        if self.following == Following::Resets
            && !takes_own
            && verdict.details().nullables.is_empty()
            && !verdict.effects.intersects(SPEAKS_OF_NAMES)
            && spoils(&verdict).is_empty()
        {
            return Judged::Passing;
        }
        if self.licence == Licence::Nothing {
            verdict.effects = verdict.effects.without(RELEASING);
        }
        if verdict.is_inert() {
            Judged::Passing
        } else {
            Judged::Marked(Box::new(verdict))
        }
    }

    /// What is said of a request that nobody has looked into.
    pub(super) fn unread(&self) -> Judged {
        if matches!(self.following, Following::Not | Following::Resets) || self.opaque == Opaque::Trust {
            return Judged::Passing;
        }
        let mut verdict = Box::<Verdict>::default();
        verdict.effects.insert(Effects::OPAQUE);
        Judged::Marked(verdict)
    }

    /// A statement goes out: tells whether it makes temporary objects without saying so. `is_first`: nothing is in
    /// flight, and no transaction open.
    pub(super) fn mind_path(&mut self, verdict: &mut Verdict, is_first: bool) {
        if is_first && self.path == Path::Unsure {
            self.path = Path::Plain;
        }
        let resets_path = verdict.details().resets.contains(b"search_path");
        let sets_path = resets_path || verdict.effects.contains(Effects::TEMP_PATH);
        if sets_path && self.path == Path::Plain {
            self.path = Path::Unsure;
        }
        let creates = verdict.effects.contains(Effects::CREATES);
        verdict.effects = verdict.effects.without(Effects::TEMP_PATH);
        if creates && self.path != Path::Temporary {
            verdict.effects = verdict.effects.without(Effects::CREATES);
            if self.path == Path::Unsure {
                verdict.effects.insert(Effects::TEMP_PATH);
            }
        }
    }

    /// Whether such a statement has to wait until the client may keep a server.
    pub(super) fn wants_pin(&mut self, verdict: &Verdict) -> bool {
        let wanted = pinned_by(verdict.effects);
        self.wanted = match self.licence {
            Licence::Nothing => wanted,
            Licence::Channels => wanted.without(Remains::LISTEN),
            Licence::Anything => Remains::NONE,
        };
        self.following == Following::All && !self.wanted.is_empty()
    }

    /// Why such a statement is not carried out.
    pub(super) fn refusal(&self, verdict: &Verdict) -> Option<Refusal> {
        // What is no more than possible is let through.
        let kinds = pinned_by(verdict.effects).without(Remains::CUSTOM);
        if self.following != Following::SettingsOnly || kinds.is_empty() {
            return None;
        }
        let message = "statement would leave session state behind";
        Some(
            Refusal::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                .detail(format!(
                    "This cannot follow the client to another server: {kinds}."
                ))
                .hint(
                    "session_state = \"follow\" lets clients keep a server for as long as such state exists.",
                ),
        )
    }

    /// A statement of this verdict goes out.
    pub(super) fn mark(&mut self, verdict: &Verdict, text: &[u8], at: Barrier) {
        if !PASSING.contains(verdict.effects) {
            self.barrier = at;
        }
        self.shifted = self.shifted.max(verdict.bearing());
        if verdict.effects.contains(Effects::LOCAL_MEANING) {
            self.outdated.insert(Outdated::BY_LITERALS);
        }
        if LOCAL.contains(verdict.effects) {
            return;
        }
        if self.following == Following::Resets {
            self.spoilt.insert(spoils(verdict));
            // Nobody asks the server, which is the client's: so a name counts as taken from here on.
            // That there is one is all that is ever looked at.
            if self.sql_names.is_empty() {
                let prepared = verdict.details().prepares.first();
                self.sql_names
                    .extend(prepared.map(|prepared| prepared.name.clone()));
            }
            return;
        }
        let marks = self.marks.get_or_insert_with(|| {
            Box::new(Marks {
                statement: Beginning::of(text, self.reading),
                ..Marks::default()
            })
        });
        marks.effects.insert(verdict.effects);
        marks.consider(verdict.effects, text);
        let is_known = !self.functions.is_unread() && !verdict.effects.contains(Effects::UNKNOWN_FUNCTION);
        if verdict.effects.intersects(CALLS_UNSEEN) && !is_known {
            marks.unread.add(text);
        }
        let details = verdict.details();
        marks.add_settings(
            details.settings.iter().cloned(),
            details.local_customs.iter().cloned(),
        );
        marks.resets.add(&details.resets);
    }

    /// Whether settings are followed, so that it is known who has set what.
    pub(in crate::client) fn follows(&self) -> bool {
        matches!(self.following, Following::All | Following::SettingsOnly)
    }

    /// Whether a text of the client's names this, whose name is in lower case, as what it sets.
    pub(in crate::client) fn has_named(&self, name: &[u8]) -> bool {
        self.marks.as_ref().is_some_and(|marks| marks.name(name))
    }

    /// Nothing in sight has set this.
    pub(in crate::client) fn suspect(&mut self, change: NewDefault) {
        self.marks.get_or_insert_default().suspects.push(change);
    }

    /// Whether what the client prepares may mean something to it alone: in session mode nobody asks what it has set, and what
    /// keeps its server may be a table that hides another.
    pub(super) fn is_apart(&self) -> bool {
        let hides = Effects::TEMP.union(Effects::CREATES).union(Effects::TEMP_PATH);
        let hides = |marks: &Marks| marks.effects.intersects(hides);
        self.following == Following::Resets
            || self.licence == Licence::Anything
            || self.marks.as_deref().is_some_and(hides)
    }

    /// What the session is set to is known again, after these marks.
    pub(in crate::client) fn settle(&mut self, marks: Option<&Marks>, server: &mut Connection) {
        if std::mem::take(&mut self.shifted) > Bearing::None {
            server.outdate_plans(Outdated::BY_READINGS);
        }
        server.outdate_plans(std::mem::take(&mut self.outdated));
        server.outdate_plans(marks.map_or(Outdated::NOT, Marks::outdated));
    }

    /// Learns from an answer which settings the client's role may not set.
    pub(in crate::client) fn learn_stuck(&mut self, answer: &Answer) {
        let asked = |name: &[u8]| answer.values.iter().any(|value| *value.name == *name);
        self.stuck.retain(|name| answer.set.is_none() && !asked(name));
        self.stuck.extend(answer.stuck.iter().cloned());
    }

    /// A statement has failed, which may be the one that would have altered roles or databases.
    pub(super) fn alter_none(&mut self) {
        if let Some(marks) = &mut self.marks {
            marks.beginners.clear();
        }
    }

    /// A statement could not be prepared for the query that is on its way, and will not be found, or finds the
    /// transaction failed.
    pub(super) fn excuse(&mut self, error: Vec<u8>) {
        self.marks.get_or_insert_default().excuse.get_or_insert(error);
    }

    /// The error to tell instead of one of this code.
    pub(super) fn excuse_for(&mut self, code: &[u8]) -> Option<Vec<u8>> {
        let is_its_result = matches!(code, b"26000" | b"25P02");
        self.marks.as_mut().filter(|_| is_its_result)?.excuse.take()
    }

    /// A command has been carried out, in full or as far as the client wanted.
    pub(super) fn has_completed(&mut self) {
        if let Some(marks) = &mut self.marks {
            marks.completed = true;
        }
    }

    /// These settings may have been changed by the statement that has just been marked; the second ones for the
    /// transaction only.
    pub(super) fn mark_settings(&mut self, names: Vec<Box<[u8]>>, locals: Vec<Box<[u8]>>) {
        if let Some(marks) = &mut self.marks {
            marks.add_settings(names, locals);
        }
    }

    /// What goes with a statement that may do anything, its parameters for one, may name what it sets.
    pub(super) fn mark_candidates(&mut self, effects: Effects, text: &[u8]) {
        if let Some(marks) = &mut self.marks {
            marks.consider(effects, text);
        }
    }

    /// Whether the server may have statements that SQL's own PREPARE made.
    pub(super) fn may_have_sql_statements(&self) -> bool {
        let prepares = |marks: &Marks| marks.effects.intersects(Effects::PREPARE.union(Effects::OPAQUE));
        !self.sql_names.is_empty() || self.marks.as_deref().is_some_and(prepares)
    }

    /// Some of what keeps the client's server may have gone.
    pub(super) fn mark_release(&mut self) {
        let marks = self.marks.get_or_insert_default();
        marks.effects.insert(Effects::RELEASES);
    }
}
