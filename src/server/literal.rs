//! How howdah writes values into SQL of its own, and has servers tell them, whatever encoding a session talks in.
//!
//! Values that follow a client are kept in the encoding of the database: bytes of the client's would be others in another
//! session, and in some encodings a byte that looks like a quote or a backslash is the second half of a character. So what is
//! not ASCII is written in hexadecimal digits, and comes back with such bytes escaped.

/// A string of SQL, whatever `standard_conforming_strings` says. Of ASCII only: an encoding could hide what ends it.
pub(super) fn quote_ascii(text: &[u8]) -> Vec<u8> {
    let mut quoted = b"E'".to_vec();
    for byte in text {
        if matches!(byte, b'\'' | b'\\') {
            quoted.push(*byte);
        }
        quoted.push(*byte);
    }
    quoted.push(b'\'');
    quoted
}

/// A value in the encoding of the database.
pub(super) fn text(value: &[u8]) -> Vec<u8> {
    converted(value, b"pg_catalog.getdatabaseencoding()")
}

/// A value as a session with this `client_encoding` would send it.
pub(super) fn text_in(value: &[u8], encoding: &[u8]) -> Vec<u8> {
    converted(value, &quote_ascii(encoding))
}

fn converted(value: &[u8], encoding: &[u8]) -> Vec<u8> {
    if value.is_ascii() {
        return quote_ascii(value);
    }
    let mut digits = String::with_capacity(2 * value.len());
    for byte in value {
        use std::fmt::Write;
        let _ = write!(digits, "{byte:02x}");
    }
    [
        b"pg_catalog.convert_from(pg_catalog.decode('",
        digits.as_bytes(),
        b"','hex'),",
        encoding,
        b")",
    ]
    .concat()
}

/// A name in double quotes, whatever is in it.
pub fn quote_identifier(name: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in name {
        quoted.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
    }
    quoted.push(b'"');
    quoted
}

/// An expression, as [`told`] can read it whatever the session's encoding.
pub(super) fn telling(expression: &[u8]) -> Vec<u8> {
    [
        b"pg_catalog.encode(pg_catalog.convert_to(",
        expression,
        b",pg_catalog.getdatabaseencoding()),'escape')",
    ]
    .concat()
}

/// The value of such an expression, in the encoding of the database.
pub(super) fn told(answer: &[u8]) -> Box<[u8]> {
    let mut value = Vec::with_capacity(answer.len());
    let mut rest = answer;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let octal = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (byte, len) = match byte {
            Some(byte) => (byte, 4),
            None if *first == b'\\' => (b'\\', 2),
            None => (*first, 1),
        };
        value.push(byte);
        rest = rest.get(len..).unwrap_or_default();
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ascii_is_written_in_digits() {
        assert_eq!(text(br"a'\b"), br"E'a''\\b'");
        let sjis = b"\x95\x5c',false);DROP TABLE t;--";
        let written = String::from_utf8(text_in(sjis, b"SJIS")).unwrap();
        assert_eq!(
            written,
            "pg_catalog.convert_from(pg_catalog.decode('955c272c66616c7365293b44524f50205441424c4520743b2d2d','hex'),E'SJIS')"
        );
        assert_eq!(quote_identifier(b"a\"b"), b"\"a\"\"b\"");
    }

    #[test]
    fn what_is_told_is_read_as_it_was() {
        for (answer, value) in [
            (&b"plain"[..], &b"plain"[..]),
            (br"a\\b", br"a\b"),
            (br"\303\251", "é".as_bytes()),
            (br"\\303", br"\303"),
            (br"\", br"\"),
            (b"", b""),
        ] {
            assert_eq!(&*told(answer), value);
        }
    }
}
