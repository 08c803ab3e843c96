//! Sockets: one stream type for all that a session may run over, what is set on it, and how long to wait for it.

mod options;
mod patience;
#[cfg(test)]
pub mod simulated;
mod socket;
mod stream;
pub mod tls;

pub use options::Keepalive;
pub use patience::within;
pub use socket::PeerAddr;
pub use stream::Stream;
pub use tls::{PeerCertificate, TlsInfo};
