//! Sockets: one stream type for all that a session may run over, what is set on it, and how long to wait for it.

mod options;
mod patience;
mod stream;

pub use options::Keepalive;
pub use patience::within;
pub use stream::{PeerAddr, Stream};
