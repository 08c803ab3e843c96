//! Names that a text mentions, wherever and whatever as: found at a glance, in one pass over its bytes.

use super::cursor::Cursor;

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

/// Whether what a text returns is decided, when it is parsed, by what its session has by that name: a cursor, a prepared
/// statement.
pub fn is_described_by_session(text: &[u8]) -> bool {
    // Neither keyword has a string before it, so that their setting does not matter.
    let mut cursor = Cursor::new(text, true);
    while cursor.peek().is_none() && cursor.next_statement() {}
    cursor
        .peek()
        .is_some_and(|first| first.is_word("execute") || first.is_word("fetch"))
}

/// Whether a text has a name of which the first underscore is there.
fn has_name_around(text: &[u8], name: &[u8], at: usize) -> bool {
    let before = name.iter().position(|byte| *byte == b'_').unwrap_or(0);
    let start = at.checked_sub(before);
    let there = start.and_then(|start| text.get(start..)?.get(..name.len()));
    there.is_some_and(|there| there.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
