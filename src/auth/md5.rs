//! PostgreSQL's md5 challenge, which it has deprecated and which is still in use.
//!
//! The stored hash alone is enough to log in with: it is a password equivalent, and as secret as a password.

use std::fmt;

use md5::{Digest, Md5};

use super::same;

const PREFIX: &[u8] = b"md5";
const HEX_LEN: usize = 32;

/// The hash of password and user name that PostgreSQL stores: 32 hexadecimal digits, without the `md5` before them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Md5Hash([u8; HEX_LEN]);

impl Md5Hash {
    /// The hash of a plain password; the user name is its salt.
    pub fn derive(password: &[u8], user: &str) -> Self {
        Self(hex(&[password, user.as_bytes()]))
    }

    /// From the stored form, `md5` and 32 lower-case hexadecimal digits; `None` if it is not that.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits: [u8; HEX_LEN] = text.strip_prefix(PREFIX)?.try_into().ok()?;
        let all_hex = digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        all_hex.then_some(Self(digits))
    }

    /// The 32 digits.
    pub fn as_hex(&self) -> &[u8] {
        &self.0
    }

    /// The response to a challenge: `md5` and 32 digits, without a terminator.
    pub fn respond(&self, salt: [u8; 4]) -> Vec<u8> {
        [PREFIX, &hex(&[&self.0, &salt])].concat()
    }

    /// Whether a client's response to a challenge is right.
    pub fn check(&self, salt: [u8; 4], response: &[u8]) -> bool {
        same(&self.respond(salt), response)
    }
}

impl fmt::Debug for Md5Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Hash(***)")
    }
}

fn hex(parts: &[&[u8]]) -> [u8; HEX_LEN] {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    let mut digits = [0; HEX_LEN];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(digest.finalize()) {
        pair.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
    }
    digits
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' + nibble - 10
    }
}
