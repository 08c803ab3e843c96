//! SCRAM messages: attributes of one letter, separated by commas.

use super::super::AuthError;
use super::MESSAGE_LEN_MAX;

/// Checks what holds of every SCRAM message before it is read.
pub(super) fn check(message: &[u8]) -> Result<(), AuthError> {
    if message.is_empty() {
        return Err(AuthError::Malformed("the SCRAM message is empty"));
    }
    if message.len() > MESSAGE_LEN_MAX {
        return Err(AuthError::Malformed("the SCRAM message is too long"));
    }
    if message.contains(&0) {
        return Err(AuthError::Malformed("the SCRAM message contains a zero byte"));
    }
    Ok(())
}

/// The part up to the first comma and the part after it; all of it and nothing, if there is no comma.
pub(super) fn split(message: &[u8]) -> (&[u8], &[u8]) {
    split_once(message).unwrap_or((message, &[]))
}

/// The parts on both sides of the first comma.
pub(super) fn split_once(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, tail) = message.split_at_checked(memchr::memchr(b',', message)?)?;
    Some((head, tail.get(1..)?))
}

/// The parts on both sides of the last comma.
pub(super) fn split_last(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, tail) = message.split_at_checked(memchr::memrchr(b',', message)?)?;
    Some((head, tail.get(1..)?))
}

/// The value of an attribute, if the part is that attribute.
pub(super) fn value(part: &[u8], letter: u8) -> Option<&[u8]> {
    part.strip_prefix(&[letter])?.strip_prefix(b"=")
}

/// Whether a nonce is what the grammar allows: printable ASCII without a comma, and not empty.
pub(super) fn is_nonce(nonce: &[u8]) -> bool {
    !nonce.is_empty() && nonce.iter().all(|byte| byte.is_ascii_graphic() && *byte != b',')
}
