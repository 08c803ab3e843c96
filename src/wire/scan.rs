//! Finding messages in a buffer that may hold less, or more, than one.

use super::WireError;

/// Bytes of a message header: the type and the length word.
pub const HEADER_LEN: usize = 5;
/// The longest message of all; PostgreSQL's own limit (`PQ_LARGE_MESSAGE_LIMIT`).
pub const MESSAGE_LEN_MAX: usize = 0x3fff_ffff;

/// A message's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type byte.
    pub tag: u8,
    /// Length of the whole message in bytes, header included.
    pub len: usize,
}

impl Header {
    /// Length of the body in bytes.
    pub fn body_len(self) -> usize {
        self.len - HEADER_LEN
    }
}

/// The header at the start of `bytes`; `None` while fewer than [`HEADER_LEN`] bytes are there.
#[inline]
pub fn header(bytes: &[u8]) -> Result<Option<Header>, WireError> {
    let &[tag, a, b, c, d, ..] = bytes else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if !(4..=MESSAGE_LEN_MAX).contains(&len) {
        return Err(WireError::Length);
    }
    Ok(Some(Header { tag, len: len + 1 }))
}

/// The header and the body of the first message in `bytes`, once all of it is there.
#[inline]
pub fn message(bytes: &[u8]) -> Result<Option<(Header, &[u8])>, WireError> {
    let Some(header) = header(bytes)? else {
        return Ok(None);
    };
    Ok(bytes.get(HEADER_LEN..header.len).map(|body| (header, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_a_message_asks_for_more() {
        let bytes = [b'Z', 0, 0, 0, 5, b'I'];
        for end in 0..bytes.len() {
            assert_eq!(message(&bytes[..end]), Ok(None), "prefix of {end} bytes");
        }
        let (header, body) = message(&bytes).unwrap().unwrap();
        assert_eq!((header.tag, header.len, body), (b'Z', 6, &b"I"[..]));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for len in [0u32, 3, 0x4000_0000, u32::MAX] {
            let mut bytes = vec![b'Q'];
            bytes.extend(len.to_be_bytes());
            assert_eq!(header(&bytes), Err(WireError::Length), "length {len}");
        }
    }
}
