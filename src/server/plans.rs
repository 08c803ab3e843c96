//! What a plan holds of the settings that it was made under. PostgreSQL keeps plans, of prepared statements and of what
//! functions run, for as long as a session lasts; within one of its own a client may find that as it is, but it is not to
//! find what another one's settings have led to.

use crate::sql::is_folded;

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

/// Functions of the database's own that are written in a language which is read, and their texts.
const WRITTEN: &[u8] = b"WITH written AS NOT MATERIALIZED (SELECT provolatile,proname,prosrc,\
pg_catalog.octet_length(prosrc) AS size FROM pg_catalog.pg_proc WHERE oid OPERATOR(pg_catalog.>=) 16384 \
AND prolang OPERATOR(pg_catalog.<>) ALL (SELECT oid FROM pg_catalog.pg_language \
WHERE lanname OPERATOR(pg_catalog.=) ANY (ARRAY['internal','c'])))";
/// So many functions that are declared to be constant are looked at; if there are more, or one has more than 8 kB, some may read
/// anything.
const TOO_MUCH: &[u8] = b" SELECT (SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) 500 \
OR COALESCE(pg_catalog.max(size),0) OPERATOR(pg_catalog.>) 8192 FROM written WHERE provolatile OPERATOR(pg_catalog.=) 'i')";
/// Whether those read what a session is set to, or tables, which may have policies: plans keep what they returned.
const READING: &[u8] = b" OR EXISTS(SELECT FROM written WHERE provolatile OPERATOR(pg_catalog.=) 'i' \
AND CASE WHEN size OPERATOR(pg_catalog.<=) 8192 THEN prosrc OPERATOR(pg_catalog.~*) \
'current_(setting|user|role|schema)|session_user|[[:<:]](user|from|execute)[[:>:]]' END)";
/// Or name a function which is not constant.
const CALLING: &[u8] = b" OR EXISTS(SELECT pg_catalog.regexp_split_to_table(pg_catalog.lower(\
CASE WHEN size OPERATOR(pg_catalog.<=) 8192 THEN prosrc END),'[^[:alnum:]_$]+') \
FROM (SELECT * FROM written WHERE provolatile OPERATOR(pg_catalog.=) 'i' LIMIT 500) AS constant \
INTERSECT SELECT pg_catalog.lower(proname) FROM pg_catalog.pg_proc \
WHERE provolatile OPERATOR(pg_catalog.<>) 'i' AND oid OPERATOR(pg_catalog.>=) 16384)";
/// The same of what functions of SQL are parsed to: calls of `current_setting()`, `current_user` with its like, and of the
/// database's own functions; tables. From PostgreSQL 14 on.
const PARSED_14: &[u8] =
    b" OR EXISTS(SELECT FROM pg_catalog.pg_proc WHERE provolatile OPERATOR(pg_catalog.=) 'i' \
AND oid OPERATOR(pg_catalog.>=) 16384 AND prosqlbody IS NOT NULL \
AND CASE WHEN pg_catalog.octet_length(prosqlbody::pg_catalog.text) OPERATOR(pg_catalog.>) 262144 THEN true \
ELSE prosqlbody::pg_catalog.text OPERATOR(pg_catalog.~) \
':funcid (2077|3294|1402|1403|[1-9][0-9]{4,}) |SQLVALUEFUNCTION|:rtekind 0' END)";
/// Whether functions have literals in them that settings may decide the meaning of: a date, a duration, an amount, NULL. A
/// session reads a function's text when it is first called there, and keeps what it has read.
const LITERALS: &[u8] =
    b",EXISTS(SELECT FROM written WHERE CASE WHEN size OPERATOR(pg_catalog.>) 262144 THEN true \
ELSE pg_catalog.left(prosrc,16384) OPERATOR(pg_catalog.~*) \
'''[^'']*([0-9]|now|today|tomorrow|yesterday|allballs)|=[[:space:]]*null' END)";
/// How long that may take, in milliseconds.
const PATIENCE: &[u8] = b"SET LOCAL statement_timeout=2000;";

/// What plans may keep of the session that they were made in, beside what every function of PostgreSQL's own reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlansKeep {
    /// What functions have read that are declared to be constant.
    pub readings: bool,
    /// What literals in functions mean.
    pub literals: bool,
}

impl PlansKeep {
    /// Where nobody knows the functions.
    pub(super) const EVERYTHING: Self = Self {
        readings: true,
        literals: true,
    };

    /// Asks the catalogs. Where they do not tell in time, plans may keep everything.
    pub(super) async fn read(connection: &mut Connection) -> Result<Self, Failure> {
        let parsed = if connection.major_version() >= 14 {
            PARSED_14
        } else {
            b""
        };
        let query = [PATIENCE, WRITTEN, TOO_MUCH, READING, CALLING, parsed, LITERALS].concat();
        let results = match connection.query_in_peace(&query).await {
            Ok(results) => results,
            Err(Failure::Sql(refusal)) => {
                tracing::debug!(%refusal, "the catalogs do not tell what plans keep");
                return Ok(Self::EVERYTHING);
            }
            Err(lost @ Failure::Lost(_)) => return Err(lost),
        };
        let mut flags = results.into_iter().flatten().flatten();
        let mut keeps = || flags.next().flatten().is_none_or(|flag| *flag == *b"t");
        Ok(Self {
            readings: keeps(),
            literals: keeps(),
        })
    }
}

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
