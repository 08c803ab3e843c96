//! Custom settings whose names are put together when a text runs: nobody can ask for them by name afterwards.

use super::scan;

/// Whether a text, or the body of a function, sets a custom setting for the session whose name it computes: by a
/// `set_config()` of what has a dot in it and is no plain name, or by a SET in a string that such a name is put into.
///
/// It looks at words, not at structure, for such texts are mostly strings. A name that comes as a whole is not seen.
pub fn computes_setting(text: &[u8]) -> bool {
    starts_of(text, b"set_config").any(calls_with_computed_name)
        || starts_of(text, b"set").any(|behind| {
            let start = text.len().saturating_sub(behind.len()).saturating_sub(3);
            let before = text.get(..start).unwrap_or_default().trim_ascii_end();
            // The beginning of a string, or of a statement in one.
            matches!(before.last(), Some(b'\'' | b'$' | b';')) && sets_computed_name(behind)
        })
}

/// What comes behind each place where a word of this name stands.
fn starts_of<'t>(text: &'t [u8], word: &'static [u8]) -> impl Iterator<Item = &'t [u8]> {
    memchr::memchr2_iter(b's', b'S', text).filter_map(move |at| {
        let is_start = !at
            .checked_sub(1)
            .and_then(|before| text.get(before))
            .is_some_and(|byte| scan::is_word(*byte));
        let (here, behind) = text.get(at..)?.split_at_checked(word.len())?;
        let ends = behind.first().is_none_or(|byte| !scan::is_word(*byte));
        (is_start && ends && here.eq_ignore_ascii_case(word)).then_some(behind)
    })
}

/// `('app.' || key, value, false)`, but not `('app.x', value, false)`, and nothing for the transaction only.
fn calls_with_computed_name(behind: &[u8]) -> bool {
    let Some(arguments) = scan::skip_spaces(behind).strip_prefix(b"(") else {
        return false;
    };
    let (first, last) = outer_arguments(arguments);
    let is_plain = first.iter().all(|byte| is_name(*byte) || *byte == b'\'');
    first.contains(&b'.') && !is_plain && !last.eq_ignore_ascii_case(b"true")
}

/// No more of the arguments of a call is looked at, in bytes: texts may be long, and be made of the beginnings of calls.
const ARGUMENTS_MAX: usize = 1000;

/// The first and the last argument of a call whose arguments begin here.
fn outer_arguments(arguments: &[u8]) -> (&[u8], &[u8]) {
    let (mut depth, mut first, mut last) = (0_usize, None, 0);
    for (at, byte) in arguments.iter().enumerate().take(ARGUMENTS_MAX) {
        match byte {
            b'(' => depth = depth.saturating_add(1),
            b')' if depth == 0 => {
                let argument =
                    |range: std::ops::Range<usize>| arguments.get(range).unwrap_or_default().trim_ascii();
                return (argument(0..first.unwrap_or(at)), argument(last..at));
            }
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                first.get_or_insert(at);
                last = at.saturating_add(1);
            }
            _ => {}
        }
    }
    (b"", b"")
}

/// ` app.' || key`, ` %I.%I = %L`, but not ` app.x = 1`, and nothing for the transaction only.
fn sets_computed_name(behind: &[u8]) -> bool {
    let mut rest = scan::skip_spaces(behind);
    if rest.len() == behind.len() || begins_with(rest, b"local") {
        return false;
    }
    if begins_with(rest, b"session") {
        rest = scan::skip_spaces(rest.get(7..).unwrap_or_default());
    }
    let name = rest
        .get(..scan::run(rest, |byte| is_name(byte) || byte == b'%'))
        .unwrap_or_default();
    let ends_string = rest.get(name.len()) == Some(&b'\'');
    name.contains(&b'.') && (ends_string || name.contains(&b'%'))
}

fn begins_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(word))
}

fn is_name(byte: u8) -> bool {
    scan::is_word(byte) || matches!(byte, b'.' | b'"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_put_together_are_told_from_those_that_are_written() {
        for text in [
            "SELECT set_config('app.' || $1, $2, false)",
            "DO $$ BEGIN PERFORM Set_Config ( prefix || '.' || key, value, is_local); END $$",
            "BEGIN perform set_config(format('app.%s', key), coalesce(value, ''), false); END",
            "execute 'SET app.' || key || ' = 1'",
            "EXECUTE format('set session %I.%I to %L', a, b, c)",
            "execute $q$ SET app.%s = 1 $q$",
        ] {
            assert!(computes_setting(text.as_bytes()), "{text}");
        }
        for text in [
            "SELECT set_config('app.x', $1, false)",
            "SELECT set_config('lock_' || 'timeout', '8s', false)",
            "PERFORM set_config(key, value, false)",
            "execute 'SET ' || key",
            "DO 'BEGIN PERFORM set_config(''app.x'', ''y'', false); END'",
            "SELECT set_config('app.' || $1, f(1, 2), true)",
            "execute 'SET app.x = ' || quote_literal(value)",
            "execute 'SET LOCAL app.' || key || ' = 1'",
            "execute format('UPDATE %I SET %I = 1', a, b)",
            "UPDATE t SET a = 1",
            "SELECT reset_config(x), 'set', setting FROM set_configs",
            "SET",
            "'set",
            "",
        ] {
            assert!(!computes_setting(text.as_bytes()), "{text}");
        }
    }

    /// A text may be 16 MB long.
    #[test]
    fn a_text_of_nothing_but_beginnings_is_read_in_proportion_to_its_length() {
        assert!(!computes_setting(&b"set_config(".repeat(100_000)));
    }
}
