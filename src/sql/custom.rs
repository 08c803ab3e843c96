//! Names that may be those of custom settings, wherever in a text they stand.

/// So many names are taken from one text.
const NAMES_MAX: usize = 64;

/// The dotted names in a text, in lower case and each once: also those within strings, the body of a `DO` for one.
/// Most are columns or functions; that is for the server to say. Letters beyond ASCII are in no name that is found.
pub fn dotted_names(text: &[u8]) -> Vec<Box<[u8]>> {
    let mut names: Vec<Box<[u8]>> = Vec::new();
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'.', rest) {
        let (before, after) = (
            rest.get(..at).unwrap_or_default(),
            rest.get(at..).unwrap_or_default(),
        );
        let (name, len) = name_around(before, after);
        rest = after.get(len..).unwrap_or_default();
        if let Some(name) = name
            && !names.contains(&name)
        {
            names.push(name);
            if names.len() == NAMES_MAX {
                break;
            }
        }
    }
    names
}

/// The name that goes on with a dot behind `before`, and how much of `after`, which begins with that dot, is read.
fn name_around(before: &[u8], after: &[u8]) -> (Option<Box<[u8]>>, usize) {
    let unquoted = before.strip_suffix(b"\"").unwrap_or(before);
    let first_len = unquoted.iter().rev().take_while(|byte| is_part(**byte)).count();
    let first = unquoted
        .get(unquoted.len().saturating_sub(first_len)..)
        .unwrap_or_default();
    let mut name = first.to_ascii_lowercase();
    let mut is_name = starts_word(first);
    let mut len = 0_usize;
    while let Some(tail) = after.get(len..).and_then(|tail| tail.strip_prefix(b".")) {
        let inside = tail.strip_prefix(b"\"").unwrap_or(tail);
        let part_len = inside.iter().take_while(|byte| is_part(**byte)).count();
        let part = inside.get(..part_len).unwrap_or_default();
        is_name &= starts_word(part);
        name.push(b'.');
        name.extend(part.to_ascii_lowercase());
        let quote = tail.len().saturating_sub(inside.len());
        len = len
            .saturating_add(1)
            .saturating_add(quote)
            .saturating_add(part_len);
        let quoted_more = after.get(len..).is_some_and(|next| next.starts_with(b"\"."));
        len = len.saturating_add(usize::from(quoted_more));
    }
    (is_name.then(|| name.into()), len.max(1))
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

fn starts_word(part: &[u8]) -> bool {
    part.first()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let names = dotted_names(text.as_bytes());
        names
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    #[test]
    fn names_are_found_wherever_they_stand() {
        for (text, wanted) in [
            (
                "DO $$ BEGIN PERFORM set_config('app.X', '1.5', false); END $$",
                vec!["app.x"],
            ),
            (
                "SET \"App\".\"y\" = 1; SET a.b.c TO app.x",
                vec!["app.y", "a.b.c", "app.x"],
            ),
            ("SELECT a.b, a.b, A.B", vec!["a.b"]),
            ("SELECT 1.5, a.*, .5, x., 1.e5, 'end.'", vec![]),
            ("..a.b..c.d e.f", vec!["e.f"]),
            ("", vec![]),
            (".", vec![]),
        ] {
            assert_eq!(found(text), wanted, "{text}");
        }
    }

    #[test]
    fn their_number_is_limited() {
        let names: Vec<String> = (0..1000).map(|n| format!("a.b{n}")).collect();
        assert_eq!(found(&names.join(" ")).len(), NAMES_MAX);
    }
}
