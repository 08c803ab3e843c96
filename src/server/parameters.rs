//! What a server reports of its session (`ParameterStatus`), and how a session is brought to what a client had.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::wire::WireError;

/// A name and a value.
type Pair = (Box<[u8]>, Box<[u8]>);

/// The reported parameters of one session, as the server spells them.
///
/// The names are few (13 to 15 in PostgreSQL 15 to 18), so a sorted list is the quickest map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parameters {
    pairs: Vec<Pair>,
}

/// How many a server may report; extensions add a few to PostgreSQL's 15.
const PARAMETERS_MAX: usize = 100;
/// How long a value may be, in bytes.
const VALUE_LEN_MAX: usize = 64 * 1024;

/// Reported, but nothing that a session could set: they tell of the server, or follow from something else.
const FIXED: [&[u8]; 6] = [
    b"in_hot_standby",
    b"integer_datetimes",
    b"is_superuser",
    b"server_encoding",
    b"server_version",
    b"session_authorization",
];

impl Parameters {
    /// The value of a parameter; names are case-sensitive here, as the server spells them.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.position(name)
            .ok()
            .and_then(|at| self.pairs.get(at))
            .map(|(_, value)| &**value)
    }

    /// The name as the server spells it, if a parameter of this name in any case is reported.
    pub fn spelling(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .map(|(have, _)| have)
            .find(|have| have.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Sets a value; tells whether anything changed.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> bool {
        match self.position(name) {
            Ok(at) if *self.pairs[at].1 == *value => false,
            Ok(at) => {
                self.pairs[at].1 = value.into();
                true
            }
            Err(at) => {
                self.pairs.insert(at, (name.into(), value.into()));
                true
            }
        }
    }

    /// Fails where a server reports more than any PostgreSQL does: what is kept of it is kept for every client.
    pub fn has_room_for(&self, name: &[u8], value: &[u8]) -> Result<(), WireError> {
        let is_new = self.position(name).is_err();
        if value.len() > VALUE_LEN_MAX || (is_new && self.pairs.len() >= PARAMETERS_MAX) {
            return Err(WireError::Length);
        }
        Ok(())
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether a session may set a parameter of this name at all.
    pub fn is_settable(name: &[u8]) -> bool {
        !FIXED.contains(&name)
    }

    /// Those that differ from `other`, with the values that `self` has.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.iter().filter(|(name, value)| other.get(name) != Some(value))
    }

    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(have, _)| (**have).cmp(name))
    }
}

/// Settings of a client's startup message that the server does not report (`options=-c statement_timeout=…`), as the
/// client wrote them: pairs of name and value.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Extra(pub Vec<(String, Vec<u8>)>);

/// What a session has, or is to have.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The reported parameters.
    pub reported: Arc<Parameters>,
    /// The others.
    pub extra: Arc<Extra>,
}

impl Settings {
    /// A digest of all that may decide what a statement means: everything but `application_name`.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for pair in self
            .reported
            .iter()
            .filter(|(name, _)| *name != b"application_name")
        {
            pair.hash(&mut hasher);
        }
        self.extra.hash(&mut hasher);
        hasher.finish()
    }

    /// The SQL that brings a session which has `self` to `wanted`; `None` if it is there already.
    pub fn towards(&self, wanted: &Self) -> Option<String> {
        let same_extra = Arc::ptr_eq(&self.extra, &wanted.extra) || self.extra == wanted.extra;
        if Arc::ptr_eq(&self.reported, &wanted.reported) && same_extra {
            return None;
        }
        let mut sql = String::new();
        if !same_extra {
            for (name, _) in &self.extra.0 {
                if !wanted.extra.0.iter().any(|(kept, _)| kept == name) {
                    let _ = write!(sql, "RESET {};", quote_identifier(name));
                }
            }
        }
        let mut assignments = Vec::new();
        for (name, value) in wanted.reported.differing(&self.reported) {
            if Parameters::is_settable(name) && self.reported.get(name).is_some() {
                assignments.push(assignment(name, value));
            }
        }
        if !same_extra {
            assignments.extend(
                wanted
                    .extra
                    .0
                    .iter()
                    .map(|(name, value)| assignment(name.as_bytes(), value)),
            );
        }
        if !assignments.is_empty() {
            let _ = write!(sql, "SELECT {}", assignments.join(","));
        }
        (!sql.is_empty()).then_some(sql)
    }
}

/// The SQL that sets `settings` on a session, all or none.
pub fn assignments(settings: &[(String, Vec<u8>)]) -> String {
    let calls: Vec<_> = settings
        .iter()
        .map(|(name, value)| assignment(name.as_bytes(), value))
        .collect();
    format!("SELECT {}", calls.join(","))
}

/// `set_config` takes a value as the startup message does: one string, whatever the setting's grammar in SET.
fn assignment(name: &[u8], value: &[u8]) -> String {
    format!(
        "pg_catalog.set_config({},{},false)",
        quote_literal(name),
        quote_literal(value)
    )
}

/// A string literal that means the same whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// A quoted identifier; dots separate the parts of a custom setting's name.
pub fn quote_identifier(name: &str) -> String {
    let parts: Vec<_> = name
        .split('.')
        .map(|part| format!("\"{}\"", part.replace('"', "\"\"")))
        .collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(pairs: &[(&str, &str)]) -> Arc<Parameters> {
        let mut parameters = Parameters::default();
        for (name, value) in pairs {
            parameters.set(name.as_bytes(), value.as_bytes());
        }
        Arc::new(parameters)
    }

    fn settings(pairs: &[(&str, &str)], extra: &[(&str, &str)]) -> Settings {
        let extra = extra
            .iter()
            .map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec()))
            .collect();
        Settings {
            reported: reported(pairs),
            extra: Arc::new(Extra(extra)),
        }
    }

    #[test]
    fn nothing_is_sent_to_a_session_that_fits() {
        let a = settings(&[("TimeZone", "UTC")], &[("statement_timeout", "1s")]);
        assert_eq!(a.towards(&a.clone()), None);
        assert_eq!(
            a.towards(&settings(&[("TimeZone", "UTC")], &[("statement_timeout", "1s")])),
            None
        );
    }

    #[test]
    fn only_differences_that_can_be_set_are_sent() {
        let has = settings(
            &[
                ("TimeZone", "UTC"),
                ("is_superuser", "on"),
                ("DateStyle", "ISO, MDY"),
            ],
            &[],
        );
        let wants = settings(
            &[
                ("TimeZone", "a'\\b"),
                ("is_superuser", "off"),
                ("DateStyle", "ISO, MDY"),
            ],
            &[],
        );
        assert_eq!(
            has.towards(&wants).as_deref(),
            Some(r"SELECT pg_catalog.set_config(E'TimeZone',E'a''\\b',false)")
        );
    }

    #[test]
    fn settings_of_the_last_client_are_reset() {
        let has = settings(&[], &[("statement_timeout", "1s"), ("app.x", "1")]);
        let wants = settings(&[], &[("lock_timeout", "2s")]);
        assert_eq!(
            has.towards(&wants).as_deref(),
            Some(
                r#"RESET "statement_timeout";RESET "app"."x";SELECT pg_catalog.set_config(E'lock_timeout',E'2s',false)"#
            )
        );
    }

    #[test]
    fn a_name_is_found_in_any_case() {
        let parameters = reported(&[("TimeZone", "UTC")]);
        assert_eq!(parameters.spelling("timezone"), Some(&b"TimeZone"[..]));
        assert_eq!(parameters.spelling("statement_timeout"), None);
    }
}
