//! What a text may leave behind in its session.

use std::collections::BTreeSet;
use std::fmt;

use super::bearing::{Bearing, is_folded};

/// A set of things that a text may do to its session.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Effects(u32);

impl Effects {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// Sets or resets settings whose names are in [`Details::settings`] or come with [`Details::bound_settings`].
    pub const SETTINGS: Self = Self(1 << 0);
    /// Sets a setting whose name is computed: any of them, custom ones too.
    pub const ANY_SETTING: Self = Self(1 << 1);
    /// Gives settings back their startup values: see [`Details::resets`].
    pub const RESETS: Self = Self(1 << 2);
    /// Sets a custom setting for the transaction only, after which it is `''` where it was NULL: see
    /// [`Details::local_customs`] and [`Details::bound_locals`]; a name that is in neither is computed.
    pub const LOCAL_CUSTOM: Self = Self(1 << 3);
    /// Makes a temporary object that outlives the transaction.
    pub const TEMP: Self = Self(1 << 4);
    /// Makes an object under a name without `pg_temp`, which is temporary nevertheless if `search_path` begins with
    /// `pg_temp`: it is for who knows the path to say.
    pub const CREATES: Self = Self(1 << 5);
    /// Declares a cursor WITH HOLD.
    pub const HOLD: Self = Self(1 << 6);
    /// Takes an advisory lock that outlives the transaction.
    pub const LOCK: Self = Self(1 << 7);
    /// `PREPARE`, see [`Details::prepares`].
    pub const PREPARE: Self = Self(1 << 8);
    /// `EXECUTE`, see [`Details::executes`]. What the prepared statement does is not known here, so that OPAQUE is
    /// always set with it; [`Verdict::beside_executed`] says what there is without that.
    pub const EXECUTE: Self = Self(1 << 9);
    /// `LISTEN`
    pub const LISTEN: Self = Self(1 << 10);
    /// `UNLISTEN`
    pub const UNLISTEN: Self = Self(1 << 11);
    /// `NOTIFY` or `pg_notify()`
    pub const NOTIFY: Self = Self(1 << 12);
    /// Makes a replication slot that may be a temporary one.
    pub const SLOT: Self = Self(1 << 13);
    /// State that can neither be seen nor undone.
    pub const STICKY: Self = Self(1 << 14);
    /// Anything, as far as the text says.
    pub const OPAQUE: Self = Self(1 << 15);
    /// Session state may have gone: worth asking at once.
    pub const RELEASES: Self = Self(1 << 16);
    /// A statement is a `DEALLOCATE` or a `DISCARD ALL`: see `super::deallocation`.
    pub const FREES: Self = Self(1 << 17);
    /// The text is one statement that needs databases without connections: see [`Details::databases`].
    pub const DATABASE: Self = Self(1 << 18);
    /// Calls a function that nothing is known of (OPAQUE is set as well): see [`Details::unknown_functions`].
    pub const UNKNOWN_FUNCTION: Self = Self(1 << 19);
    /// `ALTER ROLE … SET` or `ALTER DATABASE … SET`: new sessions begin with other settings. See [`Details::beginners`].
    pub const DEFAULTS: Self = Self(1 << 20);
    /// Sets a setting whose name is computed, and may be a custom one, for the session: nobody can ask for it by name.
    pub const COMPUTED: Self = Self(1 << 21);
    /// May put `pg_temp` into the `search_path`, if for the transaction only: what is created there is temporary.
    pub const TEMP_PATH: Self = Self(1 << 22);

    /// Sets for the transaction only what decides which objects the names of later texts stand for.
    pub const LOCAL_NAMES: Self = Self(1 << 23);
    /// Sets for the transaction only what decides what later texts mean, or may do so.
    pub const LOCAL_MEANING: Self = Self(1 << 24);

    /// Sets for the transaction only what plans keep that are made meanwhile.
    pub const LOCAL_PLANS: Self = Self(1 << 25);

    /// Decides what `random()` gives from now on.
    pub const SEED: Self = Self(1 << 26);

    /// Gives settings back their startup values for the transaction only: see [`Details::local_resets`].
    pub const LOCAL_RESETS: Self = Self(1 << 27);
    /// Runs what may create or alter something: what is prepared from then on is to be prepared anew.
    pub const DEFINES: Self = Self(1 << 28);

    const NAMES: [(Self, &'static str); 29] = [
        (Self::SETTINGS, "SETTINGS"),
        (Self::ANY_SETTING, "ANY_SETTING"),
        (Self::RESETS, "RESETS"),
        (Self::LOCAL_CUSTOM, "LOCAL_CUSTOM"),
        (Self::TEMP, "TEMP"),
        (Self::CREATES, "CREATES"),
        (Self::HOLD, "HOLD"),
        (Self::LOCK, "LOCK"),
        (Self::PREPARE, "PREPARE"),
        (Self::EXECUTE, "EXECUTE"),
        (Self::LISTEN, "LISTEN"),
        (Self::UNLISTEN, "UNLISTEN"),
        (Self::NOTIFY, "NOTIFY"),
        (Self::SLOT, "SLOT"),
        (Self::STICKY, "STICKY"),
        (Self::OPAQUE, "OPAQUE"),
        (Self::RELEASES, "RELEASES"),
        (Self::FREES, "FREES"),
        (Self::DATABASE, "DATABASE"),
        (Self::UNKNOWN_FUNCTION, "UNKNOWN_FUNCTION"),
        (Self::DEFAULTS, "DEFAULTS"),
        (Self::COMPUTED, "COMPUTED"),
        (Self::TEMP_PATH, "TEMP_PATH"),
        (Self::LOCAL_NAMES, "LOCAL_NAMES"),
        (Self::LOCAL_MEANING, "LOCAL_MEANING"),
        (Self::LOCAL_PLANS, "LOCAL_PLANS"),
        (Self::SEED, "SEED"),
        (Self::LOCAL_RESETS, "LOCAL_RESETS"),
        (Self::DEFINES, "DEFINES"),
    ];

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in the set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set without what is in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Puts all of `other` into the set.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(effect, _)| self.contains(*effect));
        f.debug_set().entries(names.map(|(_, name)| name)).finish()
    }
}

/// What a text may leave behind in its session. An inert verdict allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What it may do.
    pub effects: Effects,
    pub(super) details: Option<Box<Details>>,
}

/// The names that belong to a verdict's effects, in the order of the text, and as often as they are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// Settings that are set or reset by name, in lower case.
    pub settings: Vec<Box<[u8]>>,
    /// Which settings get their startup values back.
    pub resets: Resets,
    /// Which get them back for the transaction.
    pub local_resets: Resets,
    /// Settings that are set to what may be NULL, which resets them.
    pub nullables: Vec<Nullable>,
    /// Parameters that name a setting: 1 for `set_config($1, …)`.
    pub bound_settings: Vec<u16>,
    /// Custom settings (`app.x`) that are set for the transaction, in lower case.
    pub local_customs: Vec<Box<[u8]>>,
    /// Parameters that name a setting which is set for the transaction, and may be a custom one.
    pub bound_locals: Vec<u16>,
    /// Names of `EXECUTE name`.
    pub executes: Vec<Box<[u8]>>,
    /// What `PREPARE name AS …` prepares.
    pub prepares: Vec<Prepared>,
    /// Databases that must have no connections: those that are dropped, renamed, moved or copied.
    pub databases: Vec<Box<[u8]>>,
    /// Functions that nothing is known of.
    pub unknown_functions: Vec<Box<[u8]>>,
    /// Roles and databases whose new sessions begin with other settings; an empty name is any.
    pub beginners: Vec<Box<[u8]>>,
    /// The effects without what EXECUTE may do.
    beside_executed: Effects,
}

/// `set_config(name, value, false)` with a value that may be NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nullable {
    /// The setting.
    pub name: SettingName,
    /// The parameter that the value is; `None` if it is NULL.
    pub value: Option<u16>,
}

/// How a setting is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingName {
    /// By this, in lower case.
    Is(Box<[u8]>),
    /// By the parameter of this number.
    Comes(u16),
}

/// One `PREPARE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The statement's name, as PostgreSQL understands it.
    pub name: Box<[u8]>,
    /// What each EXECUTE of it may leave behind.
    pub verdict: Verdict,
}

/// Which settings get their startup values back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resets {
    /// All of them but `role` and `session_authorization`.
    pub all: bool,
    /// These, which are among [`Details::settings`] too.
    pub names: BTreeSet<Box<[u8]>>,
}

/// So many names are remembered of what the statements of one transaction set, or reset. No program comes near it, but one that
/// means to take memory: PostgreSQL keeps nothing of what has failed.
pub const NAMES_MAX: usize = 10_000;

impl Resets {
    const NONE: Self = Self {
        all: false,
        names: BTreeSet::new(),
    };

    /// Whether there are none.
    pub fn is_nothing(&self) -> bool {
        !self.all && self.names.is_empty()
    }

    /// Whether the setting of this name does.
    pub fn contains(&self, name: &[u8]) -> bool {
        let is_left = matches!(name, b"role" | b"session_authorization");
        (self.all && !is_left) || self.names.contains(name)
    }

    /// Adds those of another text; past [`NAMES_MAX`] no more are remembered.
    pub fn add(&mut self, other: &Self) {
        self.all |= other.all;
        let room = NAMES_MAX.saturating_sub(self.names.len());
        self.names.extend(other.names.iter().take(room).cloned());
    }
}

impl Details {
    const fn new() -> Self {
        Self {
            settings: Vec::new(),
            resets: Resets::NONE,
            local_resets: Resets::NONE,
            nullables: Vec::new(),
            bound_settings: Vec::new(),
            local_customs: Vec::new(),
            bound_locals: Vec::new(),
            executes: Vec::new(),
            prepares: Vec::new(),
            databases: Vec::new(),
            unknown_functions: Vec::new(),
            beginners: Vec::new(),
            beside_executed: Effects::NONE,
        }
    }
}

static NO_DETAILS: Details = Details::new();

impl Verdict {
    /// Whether the text certainly leaves nothing.
    pub fn is_inert(&self) -> bool {
        self.effects.is_empty()
    }

    /// What later statements mean otherwise, at most, for what this text sets.
    pub fn bearing(&self) -> Bearing {
        const UNNAMED: Effects = Effects::ANY_SETTING
            .union(Effects::OPAQUE)
            .union(Effects::LOCAL_MEANING);
        let details = self.details();
        let is_any = self.effects.intersects(UNNAMED) || details.resets.all;
        if is_any || !details.bound_settings.is_empty() {
            return Bearing::Meaning;
        }
        let local = if self.effects.contains(Effects::LOCAL_NAMES) {
            Bearing::Names
        } else {
            Bearing::None
        };
        let named = details.settings.iter().map(|name| Bearing::of(name));
        named.max().unwrap_or_default().max(local)
    }

    /// The names that belong to the effects.
    pub fn details(&self) -> &Details {
        self.details.as_deref().unwrap_or(&NO_DETAILS)
    }

    /// The effects, if what it EXECUTEs is known and has none of its own.
    pub fn beside_executed(&self) -> Effects {
        match &self.details {
            Some(details) if self.effects.contains(Effects::EXECUTE) => details.beside_executed,
            _ => self.effects,
        }
    }

    pub(super) fn of(effects: Effects) -> Self {
        Self {
            effects,
            details: None,
        }
    }

    fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_with(|| Box::new(Details::new()))
    }

    /// The verdict once everything has been added.
    pub(super) fn finish(mut self) -> Self {
        if self.effects.contains(Effects::EXECUTE) {
            let effects = self.effects;
            self.details_mut().beside_executed = effects;
            self.add(Effects::OPAQUE);
        }
        self
    }

    pub(super) fn add(&mut self, effects: Effects) {
        self.effects.insert(effects);
    }

    pub(super) fn add_setting(&mut self, name: Box<[u8]>) {
        self.add(Effects::SETTINGS);
        self.details_mut().settings.push(name);
    }

    pub(super) fn add_bound_setting(&mut self, number: u16) {
        self.add(Effects::SETTINGS);
        self.details_mut().bound_settings.push(number);
    }

    pub(super) fn add_nullable(&mut self, name: SettingName, value: Option<u16>) {
        self.details_mut().nullables.push(Nullable { name, value });
    }

    /// The setting of this name, in lower case, gets back what it was at login.
    pub fn add_reset(&mut self, name: Box<[u8]>) {
        self.add(Effects::RESETS);
        self.details_mut().resets.names.insert(name.clone());
        self.add_setting(name);
    }

    pub(super) fn add_reset_all(&mut self) {
        self.add(Effects::RESETS);
        self.details_mut().resets.all = true;
    }

    pub(super) fn add_local_reset(&mut self, name: Box<[u8]>) {
        self.add(Effects::LOCAL_RESETS);
        self.details_mut().local_resets.names.insert(name);
    }

    pub(super) fn add_local_custom(&mut self, name: Box<[u8]>) {
        self.add(Effects::LOCAL_CUSTOM);
        self.details_mut().local_customs.push(name);
    }

    /// The setting of this name, in lower case, is set for the transaction only.
    pub(super) fn add_local(&mut self, name: &[u8]) {
        if is_folded(name) {
            self.add(Effects::LOCAL_PLANS);
        }
        self.add(match Bearing::of(name) {
            Bearing::None => Effects::NONE,
            Bearing::Names => Effects::LOCAL_NAMES,
            Bearing::Meaning => Effects::LOCAL_MEANING,
        });
    }

    pub(super) fn add_bound_local(&mut self, number: u16) {
        self.add(Effects::LOCAL_CUSTOM.union(Effects::LOCAL_MEANING));
        self.details_mut().bound_locals.push(number);
    }

    pub(super) fn add_execute(&mut self, name: Box<[u8]>) {
        self.add(Effects::EXECUTE);
        self.details_mut().executes.push(name);
    }

    pub(super) fn add_prepare(&mut self, name: Box<[u8]>, verdict: Verdict) {
        self.add(Effects::PREPARE);
        self.details_mut().prepares.push(Prepared { name, verdict });
    }

    pub(super) fn add_database(&mut self, name: Box<[u8]>) {
        self.add(Effects::DATABASE);
        self.details_mut().databases.push(name);
    }

    pub(super) fn needs_no_database(&mut self) {
        if self.effects.contains(Effects::DATABASE) {
            self.effects = self.effects.without(Effects::DATABASE);
            self.details_mut().databases.clear();
        }
    }

    pub(super) fn add_beginner(&mut self, name: Box<[u8]>) {
        self.add(Effects::DEFAULTS);
        self.details_mut().beginners.push(name);
    }

    pub(super) fn add_unknown_function(&mut self, name: Box<[u8]>) {
        self.add(Effects::OPAQUE.union(Effects::UNKNOWN_FUNCTION));
        self.details_mut().unknown_functions.push(name);
    }
}
