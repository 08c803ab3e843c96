//! What a setting has to do with the meaning of a text.

use super::lexer::{Lexer, Token};
use super::scan;

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

/// Settings that are read by functions which PostgreSQL takes for constant: what these made of constants stays in a plan.
const FOLDED: [&[u8]; 4] = [
    b"bytea_output",
    b"extra_float_digits",
    b"intervalstyle",
    b"quote_all_identifiers",
];

/// Whether plans keep what the setting of this name, in any case, was when they were made.
pub fn is_folded(name: &[u8]) -> bool {
    FOLDED.iter().any(|have| have.eq_ignore_ascii_case(name))
}

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

/// Words in a literal that stand for the moment at which it is read.
const MOMENTS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// Whether a text may have a literal in it that means the moment at which it is read, such as `'today'`. A call of `now()`
/// is none.
pub fn may_mean_now(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| scan::is_word_start(*byte)) {
        let here = rest.get(at..).unwrap_or_default();
        let (word, behind) = here
            .split_at_checked(scan::run(here, |byte| scan::is_word(byte) && byte != b'$'))
            .unwrap_or_default();
        if MOMENTS.iter().any(|moment| word.eq_ignore_ascii_case(moment)) && behind.first() != Some(&b'(') {
            return true;
        }
        rest = behind;
    }
    false
}

/// What statements begin with whose literals and names are read when they are prepared.
const READ_WHEN_PREPARED: [&str; 11] = [
    "select", "insert", "update", "delete", "merge", "values", "table", "with", "explain", "declare", "call",
];
/// What may stand between CREATE and the table, or the view, that may be made of a query.
const KINDS_OF_TABLES: [&str; 5] = ["temp", "temporary", "unlogged", "global", "local"];

/// Whether a text is read in full when it is prepared, as settings are then. Others are read when they are executed.
pub fn is_read_when_prepared(text: &[u8]) -> bool {
    let tokens = Lexer::new(text, true);
    let mut tokens = tokens.filter(|token| !token.kind.is_blank() && token.text != b"(");
    let Some(head) = tokens.next() else {
        return false;
    };
    let is_one_of = |token: &Token<'_>, words: &[&str]| words.iter().any(|word| token.is_word(word));
    if head.is_word("create") {
        let kind = tokens.find(|token| !is_one_of(token, &KINDS_OF_TABLES));
        return kind.is_some_and(|kind| is_one_of(&kind, &["table", "materialized"]));
    }
    is_one_of(&head, &READ_WHEN_PREPARED)
}

/// Whether settings may decide what a text means that PostgreSQL reads for good: it has strings, what may be one, or the
/// NULL that `transform_null_equals` is about. Numbers are numbers.
pub fn has_literals(text: &[u8]) -> bool {
    let opens = |pair: &[u8]| matches!(pair, [b'$', next] if !next.is_ascii_digit());
    text.iter().any(|byte| *byte == b'\'' || !byte.is_ascii())
        || text.windows(2).any(opens)
        || text.windows(4).any(|word| word.eq_ignore_ascii_case(b"null"))
}

#[cfg(test)]
mod tests {
    use super::{Bearing, has_literals, is_read_when_prepared, may_mean_now};

    #[test]
    fn literals_that_mean_the_moment_are_found() {
        for text in [
            "select 'today'",
            "select date ' Today '",
            "d > '09:00 tomorrow'",
            "$$now$$",
            "E'now'",
        ] {
            assert!(may_mean_now(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "select now()",
            "select 'nowhere', tomorrows, today_1",
            "NOW(",
            "$1",
        ] {
            assert!(!may_mean_now(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_read_when_prepared_is_told_by_its_first_word() {
        for text in [
            "select 1",
            " /* a */ ((Values (1)))",
            "INSERT INTO t VALUES (1)",
            "CALL p('today')",
            "CREATE TEMP TABLE t AS SELECT 'now'",
            "create materialized view v as select 1",
        ] {
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

    #[test]
    fn literals_are_found_whatever_they_are_quoted_by() {
        for text in ["select 'a'", "$$a$$", "$a$a$a$", "a = Null", "U&'a'", "\u{e9}"] {
            assert!(has_literals(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "select $1, $23::text, 1.5, \"a\"",
            "select nul from t limit $1",
        ] {
            assert!(!has_literals(text.as_bytes()), "{text}");
        }
    }
}
