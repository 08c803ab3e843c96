//! Writing messages at the end of a buffer.

use bytes::{BufMut, BytesMut};

use super::store;
use crate::error::Refusal;

/// Appends one message: `tag`, the length word, and whatever `body` appends.
pub fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    store::open(out);
    out.put_u8(tag);
    sized(out, body);
}

/// Appends a length word (which counts itself) and whatever `body` appends: a packet without a type.
pub fn sized(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    body(out);
    let len = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(word) = out.get_mut(start..start + 4) {
        word.copy_from_slice(&len.to_be_bytes());
    }
}

/// Appends a header for a body of `body_len` bytes which the caller appends, perhaps piecemeal.
pub fn header(out: &mut BytesMut, tag: u8, body_len: usize) {
    store::open(out);
    out.put_u8(tag);
    out.put_u32(u32::try_from(body_len + 4).unwrap_or(u32::MAX));
}

/// Appends a String with its terminating zero.
pub fn cstr(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}

/// Appends a message without a body.
pub fn empty(out: &mut BytesMut, tag: u8) {
    header(out, tag, 0);
}

/// How bad an error is, as field `S` and `V` of an `ErrorResponse` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement or the transaction failed; the session goes on.
    Error,
    /// The session ends with it.
    Fatal,
    /// Not an error at all: for a `NoticeResponse`.
    Notice,
}

impl Severity {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Error => b"ERROR",
            Self::Fatal => b"FATAL",
            Self::Notice => b"NOTICE",
        }
    }
}

/// Appends an `ErrorResponse` (or, with [`Severity::Notice`], a `NoticeResponse`).
pub fn refusal(out: &mut BytesMut, severity: Severity, refusal: &Refusal) {
    let tag = if severity == Severity::Notice { b'N' } else { b'E' };
    message(out, tag, |out| {
        let mut field = |code: u8, text: &[u8]| {
            out.put_u8(code);
            cstr(out, text);
        };
        field(b'S', severity.text());
        field(b'V', severity.text());
        field(b'C', refusal.code.as_str().as_bytes());
        field(b'M', refusal.message.as_bytes());
        if let Some(detail) = &refusal.detail {
            field(b'D', detail.as_bytes());
        }
        if let Some(hint) = &refusal.hint {
            field(b'H', hint.as_bytes());
        }
        out.put_u8(0);
    });
}

/// Appends a `ParameterStatus`.
pub fn parameter_status(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    message(out, b'S', |out| {
        cstr(out, name);
        cstr(out, value);
    });
}

/// Appends a `ReadyForQuery` with transaction status `status` (`I`, `T` or `E`).
pub fn ready_for_query(out: &mut BytesMut, status: u8) {
    message(out, b'Z', |out| out.put_u8(status));
}

/// Appends a `CommandComplete` with its tag.
pub fn command_complete(out: &mut BytesMut, tag: &[u8]) {
    message(out, b'C', |out| cstr(out, tag));
}

/// Appends a simple `Query`.
pub fn query(out: &mut BytesMut, text: &[u8]) {
    message(out, b'Q', |out| cstr(out, text));
}

/// Appends a Bind of a statement without parameters.
pub fn bind(out: &mut BytesMut, portal: &[u8], statement: &[u8]) {
    message(out, b'B', |out| {
        cstr(out, portal);
        cstr(out, statement);
        out.put_bytes(0, 6);
    });
}

/// Appends a Close of the prepared statement `name`.
pub fn close_statement(out: &mut BytesMut, name: &[u8]) {
    message(out, b'C', |out| {
        out.put_u8(b'S');
        cstr(out, name);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SqlState;
    use crate::wire::{backend::ErrorFields, scan};

    #[test]
    fn a_refusal_reads_back_as_it_was_written() {
        let mut out = BytesMut::new();
        let wrong = Refusal::new(SqlState::PROTOCOL_VIOLATION, "no")
            .detail("d")
            .hint("h");
        refusal(&mut out, Severity::Fatal, &wrong);
        let (header, body) = scan::message(&out).unwrap().unwrap();
        assert_eq!((header.tag, header.len), (b'E', out.len()));
        let fields = ErrorFields::new(body);
        assert_eq!(fields.get(b'V'), Some(&b"FATAL"[..]));
        assert_eq!(fields.get(b'C'), Some(&b"08P01"[..]));
        assert_eq!(fields.get(b'M'), Some(&b"no"[..]));
        assert_eq!(fields.get(b'H'), Some(&b"h"[..]));
        assert_eq!(fields.get(b'W'), None);
    }
}
