//! Which of the settings that servers report a session has of its own. The others follow the server's configuration, which an
//! administrator may change at any time (`ALTER SYSTEM`, a reload).

/// Those that follow, as servers spell them. What else is reported tells of the client, or cannot be set.
const FOLLOWING: [&[u8]; 7] = [
    b"DateStyle",
    b"IntervalStyle",
    b"TimeZone",
    b"default_transaction_read_only",
    b"scram_iterations",
    b"search_path",
    b"standard_conforming_strings",
];

/// Some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen(u8);

impl Chosen {
    /// The setting of this name, in any case; nothing if it is none of them.
    pub fn of(name: &[u8]) -> Self {
        let at = FOLLOWING.iter().position(|have| have.eq_ignore_ascii_case(name));
        Self(at.map_or(0, |at| 1 << at))
    }

    /// The settings of these names.
    pub fn among<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let all = names.into_iter().map(Self::of);
        all.fold(Self::default(), Self::union)
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any of these are among them.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without these.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// A number that is equal for equal sets.
    pub(super) fn mark(self) -> u64 {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_no_others_are() {
        let chosen = Chosen::among([&b"timezone"[..], b"work_mem", b"application_name", b"SEARCH_PATH"]);
        assert!(chosen.has(Chosen::of(b"TimeZone")) && chosen.has(Chosen::of(b"search_path")));
        assert!(!chosen.has(Chosen::of(b"DateStyle")) && Chosen::of(b"work_mem").is_empty());
        assert!(
            chosen
                .without(Chosen::of(b"TimeZone"))
                .without(Chosen::of(b"search_path"))
                .is_empty()
        );
    }
}
