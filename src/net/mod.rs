//! Sockets: one stream type for all that a session may run over, and what is set on it.

mod options;
mod stream;

pub use options::Keepalive;
pub use stream::{PeerAddr, Stream};
