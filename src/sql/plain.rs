//! Plain queries: one statement that reads or changes rows, and calls nothing that could leave anything in its session.
//! Nearly all texts are, and are told so at a fraction of the price of reading them in full.
//!
//! A text is not cut into tokens here, so it does not matter where its strings begin and end: whatever stands before a
//! parenthesis, anywhere, is taken for a call. What could hide a name from the parenthesis behind it, or leave something
//! without one, has the text read in full.

use super::functions::{Functions, Volatility, special};
use super::identifier::NAME_LEN_MAX;
use super::keywords::{Folded, Role, role};
use super::{glance, scan};

/// Whether a text certainly leaves nothing. What cannot be told here is read in full.
pub(super) fn is_plain_query(text: &[u8], functions: &dyn Functions) -> bool {
    let text = text.trim_ascii_end();
    let text = text.strip_suffix(b";").unwrap_or(text);
    let Some(text) = query(text) else {
        return false;
    };
    let traps = Traps::of(text);
    // By the view of that name an UPDATE sets settings.
    if traps.has(Traps::FATAL) || glance::contains_name(text, b"pg_settings") {
        return false;
    }
    memchr::memchr2_iter(b'(', b';', text).all(|at| {
        let (before, here) = text.split_at_checked(at).unwrap_or_default();
        here.first() == Some(&b'(') && !traps.has(Traps::LINE_COMMENT) && leads_to_nothing(before, functions)
    })
}

/// A text from the word that a query begins with; or from behind the name of the table that rows are inserted into.
fn query(text: &[u8]) -> Option<&[u8]> {
    let text = skip_blank(text);
    let (word, rest) = text.split_at_checked(scan::run(text, scan::is_word))?;
    let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
    match word.len() {
        4 if is(b"with") => Some(text),
        6 if is(b"select") || is(b"update") || is(b"delete") || is(b"values") => Some(text),
        6 if is(b"insert") => behind_table(rest).map(behind_rows),
        _ => None,
    }
}

/// Without blanks and comments at the beginning. One that does not end is left.
fn skip_blank(mut text: &[u8]) -> &[u8] {
    loop {
        text = scan::skip_spaces(text);
        let comment = match text {
            [b'-', b'-', ..] => Some(scan::line_comment(text)),
            [b'/', b'*', ..] => scan::block_comment(text),
            _ => None,
        };
        match comment.and_then(|len| text.get(len..)) {
            Some(rest) => text = rest,
            None => return text,
        }
    }
}

/// What comes behind ` INTO schema.table`.
fn behind_table(text: &[u8]) -> Option<&[u8]> {
    let (into, mut rest) = scan::skip_spaces(text).split_at_checked(4)?;
    if !into.eq_ignore_ascii_case(b"into") || rest.first().is_some_and(|byte| scan::is_word(*byte)) {
        return None;
    }
    loop {
        rest = scan::skip_spaces(rest);
        let len = match rest.first()? {
            b'"' => scan::quoted(rest, b'"')?,
            first if scan::is_word_start(*first) => scan::run(rest, scan::is_word),
            _ => return None,
        };
        rest = scan::skip_spaces(rest.get(len..)?);
        match rest.strip_prefix(b".") {
            Some(behind) => rest = behind,
            None => return Some(rest),
        }
    }
}

/// What comes behind `(columns) VALUES` and rows that are nothing but plain values: a bulk INSERT is long, and people's words
/// in its strings look like traps. All of the text, if it goes on otherwise.
fn behind_rows(text: &[u8]) -> &[u8] {
    let list = scan::skip_spaces(text);
    let behind_columns = match list.first() {
        Some(b'(') => columns(list).and_then(|len| list.get(len..)),
        _ => Some(list),
    };
    let values = behind_columns.map(scan::skip_spaces).unwrap_or_default();
    let Some((word, mut rest)) = values.split_at_checked(6) else {
        return text;
    };
    if !word.eq_ignore_ascii_case(b"values") || rest.first().is_some_and(|byte| scan::is_word(*byte)) {
        return text;
    }
    let mut next = scan::skip_spaces(rest);
    while let Some(behind) = row(next).and_then(|len| next.get(len..)) {
        rest = behind;
        let comma = scan::skip_spaces(behind).strip_prefix(b",");
        next = comma.map(scan::skip_spaces).unwrap_or_default();
    }
    rest
}

/// The length of a list of plain names in parentheses.
fn columns(text: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b')', text)?;
    let is_part = |byte: &u8| scan::is_word(*byte) || scan::is_space(*byte) || matches!(byte, b',' | b'"');
    let names = text.get(1..end)?;
    let quotes = memchr::memchr_iter(b'"', names).count();
    (names.iter().all(is_part) && quotes.is_multiple_of(2)).then_some(end.saturating_add(1))
}

/// The length of a row of plain values: strings without backslashes, numbers, NULL and its like, perhaps with a cast.
fn row(text: &[u8]) -> Option<usize> {
    let mut at = usize::from(text.first() == Some(&b'('));
    while at > 0 {
        let rest = text.get(at..)?;
        let len = match rest.first()? {
            b')' => return Some(at.saturating_add(1)),
            b'\'' => {
                let len = scan::quoted(rest, b'\'')?;
                memchr::memchr(b'\\', rest.get(..len)?).is_none().then_some(len)?
            }
            b':' if rest.starts_with(b"::") => {
                let name = scan::run(rest.get(2..)?, scan::is_word);
                name.saturating_add(2)
            }
            b'-' if rest.get(1) != Some(&b'-') => 1,
            b'0'..=b'9' | b'.' | b',' => 1,
            blank if scan::is_space(*blank) => 1,
            first if scan::is_word_start(*first) => {
                let len = scan::run(rest, scan::is_word);
                let word = rest.get(..len)?;
                let is = |value: &&[u8]| word.eq_ignore_ascii_case(value);
                let plain: [&[u8]; 4] = [b"null", b"true", b"false", b"default"];
                plain.iter().any(is).then_some(len)?
            }
            _ => return None,
        };
        at = at.saturating_add(len);
    }
    None
}

/// So many bytes, and what follows each of them, are looked at together.
const AT_ONCE: usize = 16;

/// What a text has that a look at its parentheses would miss.
#[derive(Clone, Copy)]
struct Traps(u8);

impl Traps {
    /// The letters of INTO, perhaps those of `SELECT … INTO`; or `&"`, a name that may be written with escapes.
    const FATAL: u8 = 1;
    /// `--`: a name may go before it, and its parenthesis behind it.
    const LINE_COMMENT: u8 = 2;

    /// In blocks that are looked at as a whole. The last is behind all others, or overlaps with the one before: what is
    /// found twice is found.
    fn of(text: &[u8]) -> Self {
        let mut found = 0;
        let mut rest = text;
        while let Some(block) = rest.first_chunk() {
            found |= Self::of_block(block);
            rest = rest.get(AT_ONCE..).unwrap_or_default();
        }
        let last = text.last_chunk().copied().unwrap_or_else(|| padded(text));
        Self(found | Self::of_block(&last))
    }

    /// Without a branch, so that it is done for all bytes at once. A trap of two letters that ends a text need not be found:
    /// it has nothing behind it, and catches nobody.
    fn of_block(block: &[u8; AT_ONCE + 3]) -> u8 {
        let behind = |count| block.get(count..).unwrap_or_default();
        let (second, third, fourth) = (behind(1), behind(2), behind(3));
        let mut found = 0;
        for (((a, b), c), d) in block.iter().zip(second).zip(third).zip(fourth) {
            let into = ((a | 0x20) ^ b'i') | ((b | 0x20) ^ b'n') | ((c | 0x20) ^ b't') | ((d | 0x20) ^ b'o');
            let escaped = (a ^ b'&') | (b ^ b'"');
            let comment = (a ^ b'-') | (b ^ b'-');
            found |= u8::from(into == 0) | u8::from(escaped == 0) | (u8::from(comment == 0) << 1);
        }
        found
    }

    fn has(self, trap: u8) -> bool {
        self.0 & trap != 0
    }
}

/// The beginning of a text, with zeros behind it where it is shorter.
fn padded<const LEN: usize>(text: &[u8]) -> [u8; LEN] {
    let mut padded = [0; LEN];
    for (to, from) in padded.iter_mut().zip(text) {
        *to = *from;
    }
    padded
}

/// Whether a parenthesis behind this calls nothing that could leave anything.
fn leads_to_nothing(before: &[u8], functions: &dyn Functions) -> bool {
    let before = trim_spaces(before);
    match before.last() {
        Some(b'"') => quoted_name(before).is_some_and(|name| is_harmless(name, functions)),
        Some(byte) if scan::is_word(*byte) => word_leads_to_nothing(before, functions),
        // A comment may end here.
        Some(b'/') => false,
        _ => true,
    }
}

fn trim_spaces(text: &[u8]) -> &[u8] {
    let last = text.iter().rposition(|byte| !scan::is_space(*byte));
    text.get(..last.map_or(0, |last| last.saturating_add(1)))
        .unwrap_or_default()
}

/// The name in quotes that the text ends with. `None` if it might be another one, or goes on before these quotes.
fn quoted_name(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_suffix(b"\"")?;
    let (before, name) = text.split_at_checked(memchr::memrchr(b'"', text)?)?;
    let name = name.get(1..)?;
    let is_whole = !name.is_empty() && name.len() <= NAME_LEN_MAX && before.last() != Some(&b'"');
    is_whole.then_some(name)
}

fn word_leads_to_nothing(before: &[u8], functions: &dyn Functions) -> bool {
    let start = before.iter().rposition(|byte| !scan::is_word(*byte));
    let (before, word) = before
        .split_at_checked(start.map_or(0, |start| start.saturating_add(1)))
        .unwrap_or_default();
    // A number or a parameter may end within it; so may a string, at a dollar sign.
    let is_whole = word.first().is_some_and(|first| scan::is_word_start(*first)) && !word.contains(&b'$');
    let Some(folded) = Folded::new(word).filter(|_| is_whole) else {
        return false;
    };
    let name = folded.as_bytes();
    let role = role(name);
    if role == Role::Name {
        return is_harmless(name, functions);
    }
    match trim_spaces(before).last() {
        Some(b'.') => is_harmless(name, functions),
        Some(b'/') => false,
        _ if role == Role::Syntax => true,
        _ => matches!(
            functions.volatility(name),
            Volatility::Harmless | Volatility::Absent
        ),
    }
}

fn is_harmless(name: &[u8], functions: &dyn Functions) -> bool {
    special(name).is_none() && functions.volatility(name) == Volatility::Harmless
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Reading, judge, verdict};
    use super::*;

    /// A database in which a function may do anything, unless it begins with `f`, there is none or nothing is known of it.
    struct Wild;

    impl Functions for Wild {
        fn volatility(&self, name: &[u8]) -> Volatility {
            match name.first() {
                Some(b'f') => Volatility::Harmless,
                Some(b'u') => Volatility::Unknown,
                Some(b'a' | b's') => Volatility::Absent,
                _ => Volatility::Volatile,
            }
        }
    }

    fn is_plain(text: &str) -> bool {
        is_plain_query(text.as_bytes(), &Wild)
    }

    #[test]
    fn the_commonest_statements_are_told_without_reading_them_in_full() {
        for text in [
            "SELECT abalance FROM pgbench_accounts WHERE aid = 1;",
            " update t set x = x + 1 where id = $1",
            "DELETE FROM t WHERE a = 'b';\n",
            "INSERT INTO t (a, b) VALUES (1, f()), (2, s.\"f\"(3))",
            "insert into \"s\" . \"t\"(a) select F (1) from t where a in (1) and (b or not (c))",
            "INSERT INTO t (\"a\", b) VALUES (1, 'into; --'), ( -2.5 , NULL ), ('v('::text, default) ON CONFLICT DO NOTHING",
            "WITH a AS (DELETE FROM b RETURNING f(c)) SELECT d::varchar(3) FROM a",
            "VALUES ('it''s f (', $1)",
            "SELECT f('(', e'\\'(', U&'\\0028')",
            "-- name: one\n/* of (two) */ SELECT f() /* three */",
            &format!("INSERT INTO t VALUES {}(1, 'a b')", "(1, 'a b'), ".repeat(100)),
            "SELECT \"f\"(\"a\".\"b\") FROM \"c\" AS \"d\" WHERE \"e\" IN (SELECT 1)",
        ] {
            assert!(is_plain(text), "{text}");
        }
    }

    #[test]
    fn traps_are_found_wherever_they_stand() {
        for (trap, kind) in [
            ("Into", Traps::FATAL),
            ("&\"xx", Traps::FATAL),
            ("--xx", Traps::LINE_COMMENT),
        ] {
            for (before, behind) in (0..60).flat_map(|before| (0..60).map(move |behind| (before, behind))) {
                let (before, behind) = ("x".repeat(before), "x".repeat(behind));
                assert!(Traps::of(format!("{before}{trap}{behind}").as_bytes()).has(kind));
                assert_eq!(Traps::of(format!("{before}{behind}").as_bytes()).0, 0);
            }
        }
    }

    #[test]
    fn what_may_leave_something_or_hide_it_is_read_in_full() {
        for text in [
            "SELECT v()",
            "SELECT u()",
            "SELECT set_config('a', 'b', false)",
            "SELECT pg_catalog . \"set_config\"('a', 'b', false)",
            "SELECT v/**/()",
            "SELECT v--f\n()",
            "SELECT 1v()",
            "SELECT $1v()",
            "SELECT $f$ f$f$v()",
            "SELECT \"f\"\"v\"()",
            "SELECT U&\"f\"()",
            "SELECT U&\"f\" UESCAPE '!'",
            "SELECT s.in()",
            "SELECT s./**/in()",
            "SELECT overlay('a')",
            "SELECT 1; SELECT 2",
            "SELECT 1 INTO TEMP t",
            "UPDATE pg_catalog.\"pg_settings\" SET setting = 1",
            "WITH a AS (UPDATE PG_Settings SET setting = 1 RETURNING 1) SELECT 1",
            "INSERT INTO t SELECT 1 INTO u",
            "INSERT INTO t VALUES ('a'), ('b', v())",
            "INSERT INTO t VALUES ('a'); SELECT v()",
            "INSERT INTO t VALUES ('a\\'); SELECT v() --')",
            "INSERT INTO t VALUES ('a' -- ')\n, v())",
            "INSERT INTO t VALUES (E'\\'', v())",
            "INSERT INTO t (a) VALUES ('it') RETURNING v(a)",
            "INSERT INTO u&\"t\" (a) VALUES (1)",
            "SELECTED",
            "LISTEN x",
            "/* SELECT",
            "SET x = 1",
            "",
        ] {
            assert!(!is_plain(text), "{text}");
        }
        assert!(!is_plain(&format!(
            "SELECT \"{}\"()",
            "f".repeat(NAME_LEN_MAX + 1)
        )));
    }

    /// The pieces make up whatever could fool it.
    const PIECES: [&str; 70] = [
        "select",
        "update",
        "delete",
        "insert",
        "into",
        "temp",
        "t",
        "f",
        "v",
        "u",
        "f(",
        "v(",
        "(",
        ")",
        ";",
        "'",
        "\"",
        "U&",
        "U&\"",
        "\"f\"",
        "\"v\"",
        "/*",
        "*/",
        "--",
        "\n",
        " ",
        "$$",
        "$a$",
        "$f",
        "$1",
        "\\",
        "E",
        "e'",
        "uescape",
        "with",
        "as",
        "set",
        "listen",
        ".",
        "\u{b}",
        "\0",
        "1",
        ".5",
        "1e5",
        "values",
        "from",
        "join",
        "in",
        "overlay",
        "set_config",
        "pg_notify",
        "query_to_xml",
        "operator",
        "=",
        "-",
        ",",
        ":",
        "/",
        "on",
        "é",
        "&",
        "insert into f(",
        "sets",
        "a",
        "pg_settings",
        "only",
        "values ('",
        "'), (",
        "(null, 1)",
        "::",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_overlooks_nothing_that_reading_in_full_finds(
            head in prop::sample::select(vec!["", "select ", "insert into t ", "insert into t values ('", "with f as "]),
            pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..12),
            spaced in any::<bool>(),
        ) {
            let text = format!("{head}{}", pieces.join(if spaced { " " } else { "" }));
            for standard_conforming_strings in [true, false] {
                let reading = Reading { standard_conforming_strings, encoding_is_safe: true };
                let read = judge::in_full(text.as_bytes(), standard_conforming_strings, &Wild);
                if is_plain(&text) {
                    prop_assert!(read.is_inert(), "{text:?}: {read:?}");
                }
                prop_assert_eq!(verdict(text.as_bytes(), reading, &Wild), read);
            }
        }
    }
}
