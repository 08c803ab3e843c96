//! Names as PostgreSQL understands them.

use std::borrow::Cow;

use super::lexer::{Kind, Token};

/// The longest name in bytes (`NAMEDATALEN - 1`); what is longer is cut.
pub(super) const NAME_LEN_MAX: usize = 63;

/// The name that a token stands for: folded to lower case, or freed of its quotes; cut to 63 bytes. `None` if the token
/// is no name, an empty one, or one with Unicode escapes.
pub fn name<'a>(token: &Token<'a>) -> Option<Cow<'a, [u8]>> {
    let name = match token.kind {
        Kind::Word => fold(token.text),
        Kind::QuotedName => unquote(token.text.strip_prefix(b"\"")?.strip_suffix(b"\"")?),
        _ => return None,
    };
    if name.is_empty() { None } else { Some(cut(name)) }
}

fn fold(word: &[u8]) -> Cow<'_, [u8]> {
    if word.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(word.to_ascii_lowercase())
    } else {
        Cow::Borrowed(word)
    }
}

/// Halves doubled quotes.
fn unquote(inside: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'"', inside).is_none() {
        return Cow::Borrowed(inside);
    }
    let mut name = Vec::with_capacity(inside.len());
    let mut pending = false;
    for byte in inside {
        pending = *byte == b'"' && !pending;
        if !pending {
            name.push(*byte);
        }
    }
    Cow::Owned(name)
}

/// Cuts a name, never within a character of UTF-8.
fn cut(name: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if name.len() <= NAME_LEN_MAX {
        return name;
    }
    let continues = |at: &usize| name.get(*at).is_some_and(|byte| (0x80..0xc0).contains(byte));
    // A character has at most three bytes after its first; more of them are no UTF-8, and cut where they stand.
    let len = (NAME_LEN_MAX - 3..=NAME_LEN_MAX)
        .rev()
        .find(|at| !continues(at))
        .unwrap_or(NAME_LEN_MAX);
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(name.get(..len).unwrap_or(name)),
        Cow::Owned(mut name) => {
            name.truncate(len);
            Cow::Owned(name)
        }
    }
}
