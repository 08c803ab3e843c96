//! What a setting has to do with the meaning of a text.

use super::lexer::Lexer;

/// What a setting decides about the statements that are parsed under it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bearing {
    /// Nothing.
    #[default]
    None,
    /// Which objects its names stand for, and whether they may be used. PostgreSQL looks that up again when it has
    /// changed, but keeps the types of parameters and rows that it found the first time.
    Names,
    /// What it means, from its Parse on and for good.
    Meaning,
}

/// Settings that clients often differ in, and that no statement's meaning depends on.
const MEANINGLESS: [&[u8]; 15] = [
    b"application_name",
    b"client_min_messages",
    b"deadlock_timeout",
    b"default_transaction_deferrable",
    b"default_transaction_isolation",
    b"default_transaction_read_only",
    b"effective_cache_size",
    b"idle_in_transaction_session_timeout",
    b"idle_session_timeout",
    b"jit",
    b"lock_timeout",
    b"maintenance_work_mem",
    b"statement_timeout",
    b"synchronous_commit",
    b"work_mem",
];
const NAMES: [&[u8]; 4] = [b"role", b"row_security", b"search_path", b"session_authorization"];

impl Bearing {
    /// Of the setting of this name, in lower case.
    pub fn of(name: &[u8]) -> Self {
        // Custom settings are looked up when a statement runs.
        if name.contains(&b'.') || MEANINGLESS.contains(&name) {
            Self::None
        } else if NAMES.contains(&name) {
            Self::Names
        } else {
            Self::Meaning
        }
    }
}

/// What statements begin with whose literals and names are read when they are prepared.
const READ_WHEN_PREPARED: [&str; 10] = [
    "select", "insert", "update", "delete", "merge", "values", "table", "with", "explain", "declare",
];

/// Whether a text is read in full when it is prepared, as settings are then. Others are read when they are executed.
pub fn is_read_when_prepared(text: &[u8]) -> bool {
    let tokens = Lexer::new(text, true);
    let mut tokens = tokens.filter(|token| !token.kind.is_blank() && token.text != b"(");
    tokens
        .next()
        .is_some_and(|head| READ_WHEN_PREPARED.iter().any(|word| head.is_word(word)))
}

#[cfg(test)]
mod tests {
    use super::{Bearing, is_read_when_prepared};

    #[test]
    fn what_is_read_when_prepared_is_told_by_its_first_word() {
        for text in ["select 1", " /* a */ ((Values (1)))", "INSERT INTO t VALUES (1)"] {
            assert!(is_read_when_prepared(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            ";",
            "SET TRANSACTION READ ONLY",
            "selected",
            "\"select\"",
            "BEGIN",
        ] {
            assert!(!is_read_when_prepared(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_decides_the_meaning() {
        assert_eq!(Bearing::of(b"timezone"), Bearing::Meaning);
        assert_eq!(Bearing::of(b"transform_null_equals"), Bearing::Meaning);
        assert_eq!(Bearing::of(b"a_setting_of_the_future"), Bearing::Meaning);
        assert_eq!(Bearing::of(b"search_path"), Bearing::Names);
        assert_eq!(Bearing::of(b"app.tenant"), Bearing::None);
        assert_eq!(Bearing::of(b"work_mem"), Bearing::None);
    }
}
