//! What can be told of a text at a glance, in one pass over its bytes: enough for nearly all traffic, and never wrong.

use super::scan;

/// Whether a name that has an underscore in it is anywhere in a text, in whatever case: SQL folds it. Underscores are rare, so only they are looked at.
pub fn contains_name(text: &[u8], name: &[u8]) -> bool {
    memchr::memchr_iter(b'_', text).any(|at| has_name_around(text, name, at))
}

/// Whether one of two such names is.
pub fn contains_either(text: &[u8], names: [&[u8]; 2]) -> bool {
    memchr::memchr_iter(b'_', text).any(|at| names.iter().any(|name| has_name_around(text, name, at)))
}

/// Whether a text has a name in it that may be written with escapes, `U&"…"`, so that it can be any.
pub fn has_escaped_name(text: &[u8]) -> bool {
    memchr::memchr_iter(b'&', text).any(|at| {
        let is_prefixed = at
            .checked_sub(1)
            .and_then(|before| text.get(before))
            .is_some_and(|byte| byte.eq_ignore_ascii_case(&b'u'));
        is_prefixed && text.get(at.saturating_add(1)) == Some(&b'"')
    })
}

/// Whether a text has a name of which the first underscore is there.
fn has_name_around(text: &[u8], name: &[u8], at: usize) -> bool {
    let before = name.iter().position(|byte| *byte == b'_').unwrap_or(0);
    let start = at.checked_sub(before);
    let there = start.and_then(|start| text.get(start..)?.get(..name.len()));
    there.is_some_and(|there| there.eq_ignore_ascii_case(name))
}

/// Whether a text is one statement that reads or changes rows, and has in it nothing that could leave anything in its
/// session: no parenthesis, so that no function is called; no INTO that might be the one of a SELECT.
///
/// What cannot be told so is read in full.
pub(super) fn only_touches_rows(text: &[u8]) -> bool {
    let text = text.strip_suffix(b"\0").unwrap_or(text).trim_ascii_end();
    let text = text.strip_suffix(b";").unwrap_or(text);
    let text = scan::skip_spaces(text);
    let word = text.get(..scan::run(text, scan::is_word)).unwrap_or_default();
    let is_known = [&b"select"[..], b"update", b"delete"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known));
    // What calls begin with, what ends a statement, and names that may be written with escapes.
    is_known && memchr::memchr3(b'(', b';', b'"', text).is_none() && !contains_into(text)
}

fn contains_into(text: &[u8]) -> bool {
    memchr::memchr2_iter(b't', b'T', text).any(|at| {
        let word = at.checked_sub(2).and_then(|start| text.get(start..)?.get(..4));
        word.is_some_and(|word| word.eq_ignore_ascii_case(b"into"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::{Functions, Reading, Volatility, verdict};

    /// A database in which every function may do anything.
    struct Wild;

    impl Functions for Wild {
        fn volatility(&self, _name: &[u8]) -> Volatility {
            Volatility::Volatile
        }
    }

    #[test]
    fn names_are_found_wherever_they_are() {
        assert!(contains_name(b"a_b howdah_1", b"howdah_"));
        assert!(contains_name(b"howdah_", b"howdah_"));
        assert!(!contains_name(b"howda_ _howdah", b"howdah_"));
        assert!(!contains_name(b"_", b"howdah_"));
        assert!(contains_either(b"a_b d_e", [b"x_y", b"d_e"]) && !contains_either(b"a_b", [b"x_y", b"d_e"]));
        assert!(contains_name(
            b"x_pg_prepared_statements",
            b"pg_prepared_statements"
        ));
        assert!(!contains_name(
            b"pg_prepared_statement",
            b"pg_prepared_statements"
        ));
    }

    #[test]
    fn the_commonest_statements_are_known_at_a_glance() {
        for text in [
            &b"SELECT abalance FROM pgbench_accounts WHERE aid = 1;\0"[..],
            b" update t set x = x + 1 where id = $1",
            b"DELETE FROM t WHERE a = 'b';\n",
        ] {
            assert!(only_touches_rows(text), "{}", String::from_utf8_lossy(text));
        }
        for text in [
            &b"SELECT f()"[..],
            b"SELECT 1; SELECT 2",
            b"SELECT 1 INTO TEMP t",
            b"SELECT U&\"f\" UESCAPE '!'",
            b"SELECTED",
            b"-- SELECT\nLISTEN x",
            b"SET x = 1",
            b"",
        ] {
            assert!(!only_touches_rows(text), "{}", String::from_utf8_lossy(text));
        }
    }

    proptest! {
        /// The pieces make up whatever could fool it.
        #[test]
        fn a_glance_sees_nothing_that_reading_in_full_does_not(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "select", "update", "delete", "insert", "into", "temp", "t", "f", "(", ")", ";", "'", "\"", "U&",
                    "/*", "*/", "--", "\n", " ", "$$", "$a$", "\\", "E", "uescape", "with", "as", "set", "listen", ".",
                    "\u{b}", "\0",
                ]),
                0..12,
            ),
            spaced in any::<bool>(),
        ) {
            let text = pieces.join(if spaced { " " } else { "" });
            for standard_conforming_strings in [true, false] {
                let reading = Reading { standard_conforming_strings, encoding_is_safe: true };
                let read = super::super::judge::in_full(text.as_bytes(), standard_conforming_strings, &Wild);
                if only_touches_rows(text.as_bytes()) {
                    prop_assert!(read.is_inert(), "{text:?}: {read:?}");
                }
                prop_assert_eq!(verdict(text.as_bytes(), reading, &Wild), read);
            }
        }
    }
}
