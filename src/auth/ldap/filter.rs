//! Search filters: from the text that people write (RFC 4515) to what goes over the wire (RFC 4511, section 4.5.1.7).

use super::ber::{SEQUENCE, STRING, element, together};

/// Filters within filters.
const DEPTH_MAX: usize = 32;

const AND: u8 = 0xa0;
const OR: u8 = 0xa1;
const NOT: u8 = 0xa2;
const EQUAL: u8 = 0xa3;
const SUBSTRINGS: u8 = 0xa4;
const GREATER_OR_EQUAL: u8 = 0xa5;
const LESS_OR_EQUAL: u8 = 0xa6;
const PRESENT: u8 = 0x87;
const APPROXIMATE: u8 = 0xa8;
const EXTENSIBLE: u8 = 0xa9;

/// Encodes a filter; `None` if the text is none. A single comparison may do without its parentheses.
pub(in crate::auth) fn encode(text: &str) -> Option<Vec<u8>> {
    if !text.starts_with('(') {
        return item(text);
    }
    let (encoded, rest) = filter(text, 0)?;
    rest.is_empty().then_some(encoded)
}

/// A filter in parentheses, and what follows it.
fn filter(text: &str, depth: usize) -> Option<(Vec<u8>, &str)> {
    let inner = text.strip_prefix('(').filter(|_| depth < DEPTH_MAX)?;
    let tag = match inner.chars().next()? {
        '&' => AND,
        '|' => OR,
        '!' => NOT,
        _ => {
            let end = inner.find(')')?;
            let (comparison, rest) = inner.split_at_checked(end)?;
            return Some((item(comparison)?, rest.strip_prefix(')')?));
        }
    };
    let mut rest = inner.get(1..)?;
    let mut parts = Vec::new();
    while rest.starts_with('(') {
        let (part, after) = filter(rest, depth.saturating_add(1))?;
        parts.push(part);
        rest = after;
    }
    if tag == NOT && parts.len() != 1 {
        return None;
    }
    Some((together(tag, &parts), rest.strip_prefix(')')?))
}

/// A comparison without its parentheses.
fn item(text: &str) -> Option<Vec<u8>> {
    let (left, right) = text.split_once('=')?;
    if right.contains(['(', ')']) {
        return None;
    }
    let tags = [('~', APPROXIMATE), ('>', GREATER_OR_EQUAL), ('<', LESS_OR_EQUAL)];
    for (operator, tag) in tags {
        if let Some(attribute) = left.strip_suffix(operator) {
            return comparison(tag, attribute, right);
        }
    }
    if let Some(rule) = left.strip_suffix(':') {
        return extensible(rule, right);
    }
    if right == "*" {
        return Some(element(PRESENT, name(left)?.as_bytes()));
    }
    if right.contains('*') {
        return substrings(left, right);
    }
    comparison(EQUAL, left, right)
}

fn comparison(tag: u8, attribute: &str, text: &str) -> Option<Vec<u8>> {
    let attribute = element(STRING, name(attribute)?.as_bytes());
    Some(together(tag, &[attribute, element(STRING, &value(text)?)]))
}

/// `attribute=initial*any*final`
fn substrings(attribute: &str, text: &str) -> Option<Vec<u8>> {
    let last = text.matches('*').count();
    let mut parts = Vec::new();
    for (index, part) in text.split('*').enumerate() {
        let tag = match index {
            0 => 0x80,
            index if index == last => 0x82,
            _ => 0x81,
        };
        if !part.is_empty() {
            parts.push(element(tag, &value(part)?));
        }
    }
    if parts.is_empty() {
        return None;
    }
    let attribute = element(STRING, name(attribute)?.as_bytes());
    Some(together(SUBSTRINGS, &[attribute, together(SEQUENCE, &parts)]))
}

/// `[attribute][:dn][:rule]:=value`
fn extensible(left: &str, text: &str) -> Option<Vec<u8>> {
    let mut words = left.split(':');
    let attribute = words.next().unwrap_or_default();
    let (mut with_dn, mut rule) = (false, None);
    for word in words {
        match word {
            "dn" | "DN" if !with_dn && rule.is_none() => with_dn = true,
            word if rule.is_none() => rule = Some(name(word)?),
            _ => return None,
        }
    }
    if attribute.is_empty() && rule.is_none() {
        return None;
    }
    let mut parts: Vec<_> = rule
        .map(|rule| element(0x81, rule.as_bytes()))
        .into_iter()
        .collect();
    if !attribute.is_empty() {
        parts.push(element(0x82, name(attribute)?.as_bytes()));
    }
    parts.push(element(0x83, &value(text)?));
    if with_dn {
        parts.push(element(0x84, &[0xff]));
    }
    Some(together(EXTENSIBLE, &parts))
}

/// The name of an attribute, with options, or of a rule.
fn name(text: &str) -> Option<&str> {
    let is_sound = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | ';' | '_');
    (!text.is_empty() && text.chars().all(is_sound)).then_some(text)
}

/// A value, in which a backslash and two digits stand for a byte.
fn value(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'\\' {
            let (digits, after) = rest.split_first_chunk::<2>()?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*byte);
        }
    }
    Some(bytes)
}
