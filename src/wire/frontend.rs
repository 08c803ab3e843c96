//! What a client sends once it is logged in.

use super::WireError;
use super::read::Reader;

/// What a Describe or a Close is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement of this name; empty for the unnamed one.
    Statement(&'a [u8]),
    /// A portal of this name; empty for the unnamed one.
    Portal(&'a [u8]),
}

impl<'a> Target<'a> {
    /// From the body of a Describe or Close.
    pub fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let kind = reader.u8()?;
        let name = reader.cstr()?;
        reader.end()?;
        match kind {
            b'S' => Ok(Self::Statement(name)),
            b'P' => Ok(Self::Portal(name)),
            _ => Err(WireError::Format),
        }
    }
}

/// A Parse: the statement's name, and all the rest (text and parameter types) as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The client's name for it; empty for the unnamed statement.
    pub name: &'a [u8],
    /// The text of the statement.
    pub text: &'a [u8],
    /// Text, its zero, count of types and types: what tells one statement from another.
    pub definition: &'a [u8],
}

impl<'a> Parse<'a> {
    /// From the body.
    pub fn read(body: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let name = reader.cstr()?;
        let definition = reader.rest();
        let text = reader.cstr()?;
        let types = usize::from(reader.u16()?);
        reader.bytes(types * 4)?;
        reader.end()?;
        Ok(Self {
            name,
            text,
            definition,
        })
    }
}

/// The names at the start of a Bind: portal, then statement. `None` while they are not all there.
pub fn bind_names(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader::new(body);
    Some((reader.cstr().ok()?, reader.cstr().ok()?))
}

/// The value of parameter `$number` in the body of a Bind, if it is given as text (which is how drivers give a string).
pub fn bound_value(body: &[u8], number: u16) -> Option<&[u8]> {
    bound(body, number)?.ok()
}

/// Whether parameter `$number` in the body of a Bind is NULL.
pub fn is_bound_to_null(body: &[u8], number: u16) -> bool {
    bound(body, number) == Some(Err(Null))
}

/// What is given for a parameter that has no value.
#[derive(PartialEq)]
struct Null;

fn bound(body: &[u8], number: u16) -> Option<Result<&[u8], Null>> {
    let mut reader = Reader::new(body);
    reader.cstr().ok()?;
    reader.cstr().ok()?;
    let formats = reader.u16().ok()?;
    reader.bytes(usize::from(formats) * 2).ok()?;
    let count = reader.u16().ok()?;
    for at in 1..=count {
        let value = match usize::try_from(reader.i32().ok()?) {
            Ok(len) => Ok(reader.bytes(len).ok()?),
            Err(_) => Err(Null),
        };
        if at == number {
            return Some(value);
        }
    }
    None
}

/// The portal of an Execute.
pub fn execute_portal(body: &[u8]) -> Result<&[u8], WireError> {
    let mut reader = Reader::new(body);
    let portal = reader.cstr()?;
    reader.i32()?;
    reader.end()?;
    Ok(portal)
}

/// The text of a Query.
pub fn query_text(body: &[u8]) -> Result<&[u8], WireError> {
    let mut reader = Reader::new(body);
    let text = reader.cstr()?;
    reader.end()?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parse_is_taken_apart() {
        let body = b"s1\0select $1\0\0\x01\0\0\0\x17";
        let parse = Parse::read(body).unwrap();
        assert_eq!((parse.name, parse.text), (&b"s1"[..], &b"select $1"[..]));
        assert_eq!(parse.definition, &body[3..]);
    }

    #[test]
    fn a_parse_that_lies_about_its_types_is_refused() {
        assert_eq!(Parse::read(b"\0x\0\0\x02\0\0\0\x17"), Err(WireError::Format));
        assert_eq!(Parse::read(b"\0x\0\0\0trailing"), Err(WireError::Format));
        assert_eq!(Parse::read(b"\0no end"), Err(WireError::String));
    }

    #[test]
    fn a_bound_value_is_found_by_its_number() {
        let body = b"p\0s\0\0\x01\0\0\0\x02\xff\xff\xff\xff\0\0\0\x02ab\0\0";
        assert_eq!(bound_value(body, 1), None);
        assert!(is_bound_to_null(body, 1) && !is_bound_to_null(body, 2) && !is_bound_to_null(body, 3));
        assert_eq!(bound_value(body, 2), Some(&b"ab"[..]));
        assert_eq!(bound_value(body, 3), None);
        assert_eq!(bound_value(&body[..12], 2), None);
    }

    #[test]
    fn targets_are_statements_or_portals_only() {
        assert_eq!(Target::parse(b"Sx\0"), Ok(Target::Statement(b"x")));
        assert_eq!(Target::parse(b"P\0"), Ok(Target::Portal(b"")));
        assert_eq!(Target::parse(b"Xx\0"), Err(WireError::Format));
    }
}
