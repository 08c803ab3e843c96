//! How what RESET has taken away of a client's own is set again, within the transaction that has reset it.

use super::literal::{quote_ascii, quote_identifier, text};
use super::settings::{ROLE, call, select};

/// Settings whose value is a list of names: SET takes them one by one, and spells the list itself.
const LISTS: [&[u8]; 2] = [b"search_path", b"temp_tablespaces"];

/// The statements that set `values` again, each on its own, the role last, for it may not be allowed to set the others.
///
/// SET is no query: unlike a SELECT it leaves it to what comes next to choose the transaction's isolation, or its snapshot. What
/// SET would not spell as it was asked for is set by a SELECT all the same.
pub fn restoring<'a>(values: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, is_local: bool) -> Vec<Vec<u8>> {
    let (roles, others): (Vec<_>, Vec<_>) = values.into_iter().partition(|(name, _)| *name == ROLE);
    let all = others.into_iter().chain(roles);
    all.map(|(name, value)| one(name, value, is_local)).collect()
}

fn one(name: &[u8], value: &[u8], is_local: bool) -> Vec<u8> {
    let list = LISTS.contains(&name).then(|| elements(value));
    let values = match list {
        Some(None) => None,
        _ if !value.is_ascii() || !name.is_ascii() => None,
        Some(Some(names)) => Some(
            names
                .into_iter()
                .map(quote_ascii)
                .collect::<Vec<_>>()
                .join(&b","[..]),
        ),
        None => Some(quote_ascii(value)),
    };
    let Some(values) = values else {
        let is_local: &[u8] = if is_local { b"true" } else { b"false" };
        return select(&[call(name, &text(value), is_local)]);
    };
    let name: Vec<_> = name.split(|byte| *byte == b'.').map(quote_identifier).collect();
    let set: &[u8] = if is_local { b"SET LOCAL " } else { b"SET " };
    [set, &name.join(&b"."[..]), b" TO ", &values].concat()
}

/// The names in a list that is spelled as SET would spell it.
fn elements(list: &[u8]) -> Option<Vec<&[u8]>> {
    let is_plain = |name: &[u8]| {
        name.first()
            .is_some_and(|byte| byte.is_ascii_lowercase() || *byte == b'_')
            && { name.iter() }.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_')
    };
    let element = |spelled: &'_ [u8]| -> Option<std::ops::Range<usize>> {
        if is_plain(spelled) {
            return Some(0..spelled.len());
        }
        let inside = spelled.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let needs_quotes = !inside.is_empty() && !is_plain(inside) && !inside.contains(&b'"');
        needs_quotes.then_some(1..spelled.len() - 1)
    };
    let mut names = Vec::new();
    for spelled in list.split(|byte| *byte == b',') {
        let spelled = if names.is_empty() {
            spelled
        } else {
            spelled.strip_prefix(b" ")?
        };
        names.push(spelled.get(element(spelled)?)?);
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, value: &str) -> String {
        let all = restoring([(name.as_bytes(), value.as_bytes())], false);
        let [sql] = &all[..] else { panic!("{all:?}") };
        String::from_utf8(sql.clone()).unwrap().replace("pg_catalog.", "")
    }

    #[test]
    fn each_is_set_by_a_statement_that_is_no_query() {
        assert_eq!(told("app.x", "it's"), r#"SET "app"."x" TO E'it''s'"#);
        assert_eq!(told("search_path", "tenant"), r#"SET "search_path" TO E'tenant'"#);
        assert_eq!(
            told("search_path", r#""$user", public, "A b""#),
            r#"SET "search_path" TO E'$user',E'public',E'A b'"#
        );
        assert_eq!(told("datestyle", "ISO, MDY"), r#"SET "datestyle" TO E'ISO, MDY'"#);
    }

    #[test]
    fn what_set_would_spell_otherwise_keeps_its_spelling() {
        for (name, value) in [
            ("search_path", "a,b"),
            ("search_path", "A"),
            ("search_path", ""),
            ("search_path", r#""a""#),
            ("search_path", r#""x, y""#),
            ("app.x", "é"),
        ] {
            assert!(told(name, value).starts_with("SELECT set_config("), "{value}");
        }
    }

    #[test]
    fn the_role_comes_last() {
        let all = restoring([(&b"role"[..], &b"r"[..]), (b"work_mem", b"1MB")], true);
        let all: Vec<_> = all.iter().map(|sql| String::from_utf8_lossy(sql)).collect();
        assert_eq!(
            all,
            [r#"SET LOCAL "work_mem" TO E'1MB'"#, r#"SET LOCAL "role" TO E'r'"#]
        );
    }
}
