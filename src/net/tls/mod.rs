//! TLS, by rustls with aws-lc-rs: towards clients by an [`Acceptor`], towards servers by a [`Connector`].
//!
//! Both are made from files once, and again by a reload; what they make is a session on a socket, which only
//! [`Stream`](super::Stream) sees. Certificates are read by `certificate`; what rustls's own judgement lacks of libpq's
//! is in `trust`.

mod acceptor;
mod certificate;
mod connector;
mod error;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod info;
mod session;
#[cfg(test)]
mod tests;
mod trust;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{SupportedProtocolVersion, version};

use crate::config::TlsVersions;

pub use acceptor::{Acceptor, ClientCertificates};
pub use connector::{Authority, Connector, Roots};
pub use error::HandshakeError;
pub use files::{Identity, PemFile};
pub use info::{PeerCertificate, TlsInfo};
pub use rustls::pki_types::ServerName;
pub(super) use session::Session;

/// The protocol that is negotiated by ALPN ("SSL Session Encryption" in PostgreSQL's manual).
const ALPN: &[u8] = b"postgresql";

fn versions(wanted: TlsVersions) -> Vec<&'static SupportedProtocolVersion> {
    let known = [(wanted.tls13, &version::TLS13), (wanted.tls12, &version::TLS12)];
    known
        .into_iter()
        .filter_map(|(wanted, version)| wanted.then_some(version))
        .collect()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
