//! What simple strings stand for.

use super::lexer::{Kind, Token};

/// What a string stands for, if it can be said without looking into it: no escapes, no doubled quotes, no second line.
pub(super) fn literal<'a>(token: &Token<'a>) -> Option<&'a [u8]> {
    if token.kind != Kind::String {
        return None;
    }
    let inside = match token.text {
        [b'\'', rest @ ..] | [b'e' | b'E' | b'n' | b'N', b'\'', rest @ ..] => rest.strip_suffix(b"'")?,
        [b'$', ..] => return undollar(token.text),
        _ => return None,
    };
    let plain = memchr::memchr2(b'\'', b'\\', inside).is_none();
    plain.then_some(inside)
}

/// What is between the tags of a dollar-quoted string.
fn undollar(text: &[u8]) -> Option<&[u8]> {
    let tag = super::scan::dollar_tag(text)?;
    text.strip_prefix(tag)?.strip_suffix(tag)
}
