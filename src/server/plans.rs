//! What a plan holds of the settings that it was made under. PostgreSQL keeps plans, of prepared statements and of what
//! functions run, for as long as a session lasts; within one of its own a client may find that as it is, but it is not to
//! find what another one's settings have led to.

use crate::sql::is_folded;

use super::functions::PlansKeep;
use super::settings::CLIENT_ENCODING;
use super::{Connection, Failure, FunctionTable, Settings, UnnamedSlot};

/// Settings that decide what a literal in a function means. That of the text around it is decided once, when it is called first.
const READ_IN_FUNCTIONS: [&[u8]; 8] = [
    b"DateStyle",
    b"IntervalStyle",
    b"TimeZone",
    b"array_nulls",
    b"lc_monetary",
    b"timezone_abbreviations",
    b"transform_null_equals",
    b"xmloption",
];

/// Why plans may hold what is no longer so: a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outdated(u8);

impl Outdated {
    /// They do not.
    pub const NOT: Self = Self(0);
    /// A setting that PostgreSQL's own constant functions read was another one.
    pub const CERTAINLY: Self = Self(1);
    /// One was that a constant function of the database may read.
    pub const BY_READINGS: Self = Self(2);
    /// One was that decides what a literal in a function means.
    pub const BY_LITERALS: Self = Self(4);

    /// Because the setting of this name, in any case, has become another.
    pub(super) fn by(name: &[u8]) -> Self {
        let mut why = Self::BY_READINGS;
        for (holds, reason) in [
            (is_folded(name), Self::CERTAINLY),
            (is_read_in_functions(name), Self::BY_LITERALS),
        ] {
            if holds {
                why.insert(reason);
            }
        }
        why
    }

    /// Adds `other`.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether that depends on what functions there are.
    fn is_for_functions_to_tell(self) -> bool {
        self != Self::NOT && self.0 & Self::CERTAINLY.0 == 0
    }

    /// What is left of it where plans keep no more than this.
    fn where_plans_keep(self, keep: PlansKeep) -> Self {
        let not_kept = |is_kept: bool, reason: Self| if is_kept { 0 } else { reason.0 };
        let none = not_kept(keep.readings, Self::BY_READINGS) | not_kept(keep.literals, Self::BY_LITERALS);
        Self(self.0 & !none)
    }
}

/// Whether literals in functions mean something else where the setting of this name, in any case, is another.
pub fn is_read_in_functions(name: &[u8]) -> bool {
    READ_IN_FUNCTIONS
        .iter()
        .any(|have| have.eq_ignore_ascii_case(name))
}

impl Settings {
    /// Why plans that are made under these may hold what a session with `wanted` would not find.
    pub fn outdated_for(&self, wanted: &Self) -> Outdated {
        let mut why = Outdated::NOT;
        if self.is_shared_with(wanted) {
            return why;
        }
        let differs = |name: &&[u8]| self.value(name) != wanted.value(name);
        for (holds, reason) in [
            (!self.folded().eq(wanted.folded()), Outdated::CERTAINLY),
            (self.reads_unlike(wanted), Outdated::BY_READINGS),
            (READ_IN_FUNCTIONS.iter().any(differs), Outdated::BY_LITERALS),
        ] {
            if holds {
                why.insert(reason);
            }
        }
        why
    }

    /// Whether a function that reads what a session is set to may read something else where these are.
    fn reads_unlike(&self, other: &Self) -> bool {
        let of_nobody: [&[u8]; 2] = [b"application_name", CLIENT_ENCODING];
        let differing = self.reported.differing(&other.reported);
        !self.has_extra_of(other) || { differing }.any(|(name, _)| !of_nobody.contains(&name))
    }

    fn folded(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let all = self.reported.iter().chain(self.extra.iter());
        all.filter(|(name, _)| is_folded(name))
    }
}

impl Connection {
    /// Plans that were made so far may hold what is no longer so: they are made anew for whoever comes next.
    pub fn outdate_plans(&mut self, why: Outdated) {
        self.unseen.outdated.insert(why);
    }

    /// Has plans made anew, if there can be some that hold what is not so for who has the session now. Reads the catalogs if
    /// that depends on what functions there are, and nobody knows these.
    pub async fn renew_plans(&mut self, functions: &FunctionTable) -> Result<(), Failure> {
        if self.unseen.outdated.is_for_functions_to_tell() {
            if functions.is_unread() {
                functions.read(self, || functions.is_unread()).await?;
            }
            self.unseen.outdated = self.unseen.outdated.where_plans_keep(functions.plans_keep());
        }
        if self.unseen.outdated != Outdated::NOT {
            self.set(b"DISCARD PLANS").await?;
            // PostgreSQL reads them again from the beginning then, under the settings of whoever comes first.
            self.prepared.doubt_all();
            self.unnamed = UnnamedSlot::Unknown;
            self.unseen.outdated = Outdated::NOT;
        }
        Ok(())
    }
}
