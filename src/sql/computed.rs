//! Custom settings whose names are put together when a text runs: nobody can ask for them by name afterwards.

use super::scan;

/// Whether a text, or the body of a function, sets a setting for the session whose name it puts together, so that it may
/// be a custom one: by a `set_config()` of what is no plain string, or by a SET in a string that such a name is put into.
///
/// It looks at words, not at structure, for such texts are mostly strings. A name that comes as a whole, in a variable or
/// parameter, is left to who passes it: it nearly always stands in that text.
pub(super) fn computes_setting(text: &[u8]) -> bool {
    starts_of(text, b"set_config").any(calls_with_computed_name)
        || starts_of(text, b"set").any(|behind| {
            let start = text.len().saturating_sub(behind.len()).saturating_sub(3);
            let before = text.get(..start).unwrap_or_default().trim_ascii_end();
            // The beginning of a string, or of a statement in one.
            matches!(before.last(), Some(b'\'' | b'"' | b'$' | b';')) && sets_computed_name(behind)
        })
}

/// What comes behind each place where a word of this name stands, which is given in lower case.
pub(super) fn starts_of<'t>(text: &'t [u8], word: &'static [u8]) -> impl Iterator<Item = &'t [u8]> {
    let first = word.first().copied().unwrap_or_default();
    memchr::memchr2_iter(first, first.to_ascii_uppercase(), text).filter_map(move |at| {
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
    let last = value_of(last, b"is_local");
    !last.eq_ignore_ascii_case(b"true") && is_computed(value_of(first, b"setting_name"))
}

/// No more of the arguments of a call is looked at, in bytes: texts may be long, and be made of the beginnings of calls.
const ARGUMENTS_MAX: usize = 400;

/// The first and the last argument of a call whose arguments begin here, as far as they are looked at.
fn outer_arguments(arguments: &[u8]) -> (&[u8], &[u8]) {
    let argument = |range: std::ops::Range<usize>| arguments.get(range).unwrap_or_default().trim_ascii();
    let (mut depth, mut first, mut last) = (0_usize, None, 0);
    for (at, byte) in arguments.iter().enumerate().take(ARGUMENTS_MAX) {
        match byte {
            b'(' => depth = depth.saturating_add(1),
            b')' if depth == 0 => return (argument(0..first.unwrap_or(at)), argument(last..at)),
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                first.get_or_insert(at);
                last = at.saturating_add(1);
            }
            _ => {}
        }
    }
    (argument(0..first.unwrap_or(0)), b"")
}

/// `value` of `name => value`; anything else as it is.
fn value_of<'t>(argument: &'t [u8], name: &[u8]) -> &'t [u8] {
    let value = argument
        .split_at_checked(name.len())
        .filter(|(begin, _)| begin.eq_ignore_ascii_case(name))
        .and_then(|(_, behind)| scan::skip_spaces(behind).strip_prefix(b"=>"));
    value.map_or(argument, scan::skip_spaces)
}

/// Whether a name is put together, with a dot among what it is made of or in a part that is not told. What a function
/// makes of a whole name, such as `lower(key)`, counts as that.
fn is_computed(name: &[u8]) -> bool {
    let is_whole = name.iter().all(|byte| is_name(*byte) || *byte == b':');
    let mut parts = name.split(|byte| *byte == b'|').map(<[u8]>::trim_ascii);
    let is_joined = name.contains(&b'|') && !parts.all(|part| part.is_empty() || is_plain(part));
    !is_whole && !is_plain(name) && (name.contains(&b'.') || is_joined)
}

/// `'app.x'`, also within another string, with a cast or without.
fn is_plain(name: &[u8]) -> bool {
    let name = match name {
        [b'e' | b'E' | b'n' | b'N', quoted @ ..] => quoted,
        name => name,
    };
    let inside = name
        .get(scan::run(name, |byte| byte == b'\'')..)
        .unwrap_or_default();
    let behind = inside.get(scan::run(inside, is_name)..).unwrap_or_default();
    let cast = behind
        .get(scan::run(behind, |byte| byte == b'\'')..)
        .unwrap_or_default();
    let is_quoted = inside.len() < name.len() && cast.len() < behind.len();
    let is_cast = cast
        .strip_prefix(b"::")
        .is_some_and(|kind| kind.iter().all(|byte| is_name(*byte)));
    is_quoted && (cast.is_empty() || is_cast)
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
    let ends_string = name.ends_with(b"\"") || rest.get(name.len()) == Some(&b'\'');
    let is_whole = name.is_empty() || name.starts_with(b"%") && !name.contains(&b'.');
    !is_whole && (ends_string || name.contains(&b'%'))
}

pub(super) fn begins_with(text: &[u8], word: &[u8]) -> bool {
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
            "SELECT set_config('a' || key, value, false)",
            "execute 'select set_config(' || quote_literal('app.' || k) || ', 1, false)'",
            "execute 'SET app.' || key || ' = 1'",
            "execute concat('SET app', '.x = 1')",
            "EXECUTE format('set session %I.%I to %L', a, b, c)",
            "execute $q$ SET app.%s = 1 $q$",
            "plpy.execute(\"SET app.\" + key)",
        ] {
            assert!(computes_setting(text.as_bytes()), "{text}");
        }
        for text in [
            "SELECT set_config('app.x', $1, false)",
            "SELECT set_config('app.x'::text, $1, false), set_config(E'app.y', f((1), 2), false)",
            "SELECT set_config(setting_name => 'app.x', new_value => v, is_local => false)",
            "SELECT set_config('lock_' || 'timeout', '8s', false)",
            "DO 'BEGIN PERFORM set_config(''app.x'', ''y'', false); END'",
            "SELECT set_config('app.' || $1, f(1, 2), true)",
            "SELECT set_config(key, value, is_local => true)",
            "execute 'SET app.x = ' || quote_literal(value)",
            "execute 'SET ROLE ' || quote_ident(role)",
            "execute 'SET LOCAL app.' || key || ' = 1'",
            "execute format('UPDATE %I SET %I = 1', a, b)",
            "UPDATE t SET a = 1",
            "SELECT reset_config(x), 'set', setting FROM set_configs",
            "PERFORM set_config(key, value, false)",
            "SELECT set_config(lower($1), $2, false)",
            "PERFORM set_config(new.name::text, 'true', new.local)",
            "SELECT set_config($1, $2, $3)",
            "execute 'SET ' || key",
            "EXECUTE format('SET %s', v)",
            "SET",
            "'set",
            "",
        ] {
            assert!(!computes_setting(text.as_bytes()), "{text}");
        }
        // However long a value is.
        let long = |name| format!("set_config({name}, '{}', false)", "a".repeat(ARGUMENTS_MAX));
        assert!(computes_setting(long("'app.' || key").as_bytes()));
        assert!(!computes_setting(long("'app.x'").as_bytes()));
    }

    /// A text may be 16 MB long.
    #[test]
    fn a_text_of_nothing_but_beginnings_is_read_in_proportion_to_its_length() {
        let text = b"set_config('a', ".repeat(50_000);
        assert!(!computes_setting(&text));
    }
}
