//! Bytes to meaning and back: the PostgreSQL frontend/backend protocol ("Message Formats" in the manual).
//!
//! Nothing here does IO, reads a clock, or panics on what a peer sends. [`scan`] finds messages in a partial buffer,
//! [`read`] and [`write`](mod@write) handle their bodies, [`startup`] the packets before login, and [`pipeline`] knows what is in
//! flight between a client and a server.

#![deny(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test may fail loudly"
    )
)]

pub mod backend;
pub mod frontend;
pub mod pipeline;
pub mod read;
pub mod scan;
pub mod startup;
pub mod store;
pub mod write;

/// Why bytes from a peer make no sense. The text may be shown to that peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A length word smaller than itself or larger than the message may be.
    #[error("invalid message length")]
    Length,
    /// A message type that nobody sends in this direction.
    #[error("invalid message type {0}")]
    Tag(u8),
    /// A body that does not hold what its type says.
    #[error("invalid message format")]
    Format,
    /// A string without its terminating zero.
    #[error("invalid string in message")]
    String,
}
