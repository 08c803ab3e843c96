//! The few messages that are needed, and where they end.

/// Type byte and length word.
const HEADER_LEN: usize = 5;

/// Appends a message: its type, its length, its body.
pub(crate) fn message(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend(word(body.len() + 4));
    out.extend(body);
}

/// A length as the protocol writes it.
pub(crate) fn word(len: usize) -> [u8; 4] {
    u32::try_from(len)
        .expect("messages of this program are short")
        .to_be_bytes()
}

/// Type and whole length of the first message, once all of it is there.
pub(crate) fn first(bytes: &[u8]) -> Option<(u8, usize)> {
    let &[tag, a, b, c, d, ..] = bytes else {
        return None;
    };
    let len = u32::from_be_bytes([a, b, c, d]) as usize + 1;
    (len >= HEADER_LEN && len <= bytes.len()).then_some((tag, len))
}

/// The messages of a buffer that are whole: calls `each` with their types, and says how many bytes they take.
pub(crate) fn each_message(bytes: &[u8], mut each: impl FnMut(u8)) -> usize {
    let mut taken = 0;
    while let Some((tag, len)) = first(&bytes[taken..]) {
        each(tag);
        taken += len;
    }
    taken
}
