//! What a server reports of its session (`ParameterStatus`).

use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use crate::wire::WireError;

/// A name and a value.
type Pair = (Box<[u8]>, Box<[u8]>);

/// The reported parameters of one session, as the server spells them.
///
/// The names are few (13 to 15 in PostgreSQL 15 to 18), so a sorted list is the quickest map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parameters {
    pairs: Vec<Pair>,
    digest: Memo,
}

/// A digest of what it stands beside, once somebody has asked for it. It adds nothing to what that is.
#[derive(Clone, Debug, Default)]
struct Memo(OnceLock<u64>);

impl PartialEq for Memo {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Memo {}

impl Hash for Memo {
    fn hash<H: Hasher>(&self, _: &mut H) {}
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
    pub fn spelling(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter()
            .map(|(have, _)| have)
            .find(|have| have.eq_ignore_ascii_case(name))
    }

    /// Sets a value; tells whether anything changed.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> bool {
        match self.position(name) {
            Ok(at) if *self.pairs[at].1 == *value => return false,
            Ok(at) => self.pairs[at].1 = value.into(),
            Err(at) => self.pairs.insert(at, (name.into(), value.into())),
        }
        self.digest = Memo::default();
        true
    }

    /// What `make` makes of them, which has to be the same each time: it is asked once, for many clients share them.
    pub(super) fn digest(&self, make: impl FnOnce(&Self) -> u64) -> u64 {
        *self.digest.0.get_or_init(|| make(self))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_any_case() {
        let mut parameters = Parameters::default();
        parameters.set(b"TimeZone", b"UTC");
        assert_eq!(parameters.spelling(b"timezone"), Some(&b"TimeZone"[..]));
        assert_eq!(parameters.spelling(b"statement_timeout"), None);
    }
}
