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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in vec(prop_oneof![any::<u8>(), Just(0), Just(1)], 0..64)) {
            let _ = scan::message(&bytes);
            let _ = frontend::Target::parse(&bytes);
            let _ = frontend::Parse::read(&bytes);
            let _ = frontend::bind_names(&bytes);
            let _ = frontend::execute_portal(&bytes);
            let _ = frontend::query_text(&bytes);
            let _ = backend::Status::parse(&bytes);
            let _ = backend::parameter_status(&bytes);
            let _ = backend::command_tag(&bytes);
            let _ = backend::key_data(&bytes);
            let _ = backend::data_row(&bytes);
            let fields = backend::ErrorFields::new(&bytes);
            let _ = (fields.iter().count(), fields.is_fatal(), fields.text(b'M'));
            let _ = startup::packet_len(&bytes);
            let _ = startup::split_options(&String::from_utf8_lossy(&bytes));
            let versions = [[0, 3, 0, 0], [0, 3, 0, 2], [4, 0xd2, 0x16, 0x2e], [4, 0xd2, 0x16, 0x2f]];
            for version in versions {
                if let Ok(startup::Initial::Startup(startup)) =
                    startup::Initial::parse(&[&version[..], &bytes].concat())
                {
                    startup.negotiate(&mut bytes::BytesMut::new());
                }
            }
        }
    }
}
