//! Authentication as exchanges without IO: bytes in, bytes out.
//!
//! Towards a client, [`ClientAuth`] asks and judges; towards a server, [`ServerAuth`] answers. Both are driven by a
//! login shell that reads and writes messages and knows nothing of what is in them. Beneath them lie the two sides
//! of SCRAM-SHA-256 ([`scram`]) and the older [`md5`] challenge. [`hba`] says who is to be asked for what, [`IdentMaps`] who
//! goes by another name, and [`ldap`] asks a directory.
//!
//! Nothing here draws randomness, reads a clock or waits. What the peer sends is hostile on both sides: every length
//! has a limit, every secret is compared in constant time, and no bytes reach a panic.
#![deny(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]
#![cfg_attr(
    test,
    allow(
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "a test may fail loudly"
    )
)]

mod client;
mod error;
pub mod hba;
mod ident;
pub mod ldap;
pub mod md5;
mod mock;
mod pattern;
pub mod scram;
mod secret;
mod server;
mod tables;
#[cfg(test)]
mod tests;

pub use client::{Admitted, AuthRequest, Challenge, ClientAuth, Method, Proof, Step, password_in};
pub use error::AuthError;
pub use ident::IdentMaps;
pub use mock::{Likeness, Mock};
pub use scram::{ChannelBinding, SaltedKeys, Verifier};
pub use secret::{Password, PlainSecret, SecretError, StoredSecret, verify_password};
pub use server::{Credentials, Learned, Reply, ServerAuth};
pub use tables::{Fault, Faults, Files};

/// A source of unpredictable bytes, lent by the caller: the operating system's in earnest, a seed's in a test.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]);

/// Whether two byte strings are equal, in a time that tells nothing but whether their lengths are.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}
