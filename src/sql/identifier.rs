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

/// The name that `U&"…"` stands for with this escape character, in UTF-8; cut to 63 bytes. `None` if it is an empty one,
/// or PostgreSQL refuses it.
pub(super) fn unicode_name(token: &Token<'_>, escape: u8) -> Option<Vec<u8>> {
    if escape.is_ascii_hexdigit() || matches!(escape, b'+' | b'\'' | b'"' | b' ' | b'\t'..=b'\r') {
        return None;
    }
    let quoted = token.text.get(2..)?.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let inside = unquote(quoted);
    let (mut rest, mut name) = (&*inside, Vec::new());
    // The first half of a pair of surrogates.
    let mut high: Option<u32> = None;
    while let Some((first, tail)) = rest.split_first() {
        let (code, behind) = if *first != escape {
            name.push(*first);
            (None, tail)
        } else if let Some(behind) = tail.strip_prefix(&[escape]) {
            name.push(escape);
            (None, behind)
        } else {
            let digits = tail.strip_prefix(b"+");
            let (digits, behind) = match digits {
                Some(tail) => tail.split_at_checked(6)?,
                None => tail.split_at_checked(4)?,
            };
            (Some(hexadecimal(digits)?), behind)
        };
        rest = behind;
        let code = match (high.take(), code) {
            (None, None) => continue,
            (None, Some(first @ 0xd800..=0xdbff)) => {
                high = Some(first);
                continue;
            }
            (None, Some(code)) => code,
            (Some(first), Some(second @ 0xdc00..=0xdfff)) => {
                0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff)
            }
            (Some(_), _) => return None,
        };
        let character = char::from_u32(code).filter(|character| *character != '\0')?;
        name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    if name.is_empty() || high.is_some() {
        return None;
    }
    Some(cut(Cow::Owned(name)).into_owned())
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let only = digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| only)?;
    u32::from_str_radix(digits, 16).ok()
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
