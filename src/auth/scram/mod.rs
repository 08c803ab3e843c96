//! SCRAM-SHA-256 (RFC 5802, RFC 7677), both sides, as PostgreSQL speaks it.
//!
//! Each side is a chain of values: every step consumes the one before it, so that no step can be repeated or left out.

mod client;
mod keys;
mod message;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientBinding, ClientExchange, ClientFinal};
pub use keys::{MockKey, SaltedKeys, Verifier, VerifierError, prepare};
pub use server::{Binding, ServerExchange, ServerFinal};

pub(super) use keys::{VERIFIER_PREFIX, sha256};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Random;

/// The mechanism without channel binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding, on offer over TLS only.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// Iterations of a verifier of our own making; PostgreSQL's default.
pub const ITERATIONS_DEFAULT: u32 = 4096;
/// The most iterations that a server or a stored verifier may ask for: about half a second of one CPU
/// (CVE-2026-42198 was the lack of such a limit).
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// Length of a salt of our own making, in bytes.
pub const SALT_LEN: usize = 16;
/// The longest salt that a server or a stored verifier may have, in bytes.
pub const SALT_LEN_MAX: usize = 256;
/// The longest SCRAM message that is read, in bytes; PostgreSQL's own is below 200.
pub const MESSAGE_LEN_MAX: usize = 4096;

/// Random bytes in a nonce of ours, before base64.
const NONCE_LEN: usize = 18;
/// Length of keys, signatures and proofs: that of SHA-256.
const KEY_LEN: usize = 32;
type Key = [u8; KEY_LEN];

/// The hash of the server's certificate that both ends of one TLS connection can see: `tls-server-end-point`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBinding(Box<[u8]>);

impl ChannelBinding {
    /// From the hash of the server's certificate (RFC 5929, section 4.1).
    pub fn tls_server_end_point(certificate_hash: impl Into<Box<[u8]>>) -> Self {
        Self(certificate_hash.into())
    }

    /// What attribute `c=` must carry, with the header that the client began with.
    fn attribute(&self, header: &[u8]) -> Vec<u8> {
        encode(&[header, &self.0].concat())
    }
}

/// A fresh nonce: printable, without a comma.
pub fn nonce(random: Random<'_>) -> Vec<u8> {
    let mut raw = [0; NONCE_LEN];
    random(&mut raw);
    encode(&raw)
}

fn encode(bytes: &[u8]) -> Vec<u8> {
    STANDARD.encode(bytes).into_bytes()
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
