//! TLS towards clients.

use std::sync::Arc;

use bytes::BytesMut;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoClientAuth, UnbufferedServerConnection};

use super::certificate::Certificate;
use super::error::HandshakeError;
use super::files::{self, Fingerprint, Identity, PemFile};
use super::session::Session;
use super::trust::ClientTrust;
use super::{ALPN, provider};
use crate::config::TlsVersions;

/// Accepts TLS from clients.
#[derive(Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    end_point: Option<Arc<[u8]>>,
    fingerprint: Fingerprint,
    seed: [u8; 32],
}

/// What is asked of clients. A certificate that is shown is verified, or the handshake fails.
pub enum ClientCertificates {
    /// Nothing.
    NotAsked,
    /// Clients may show a certificate of these authorities.
    Asked(PemFile),
    /// They must.
    Required(PemFile),
}

/// Equal if made from the same files in the same way: nothing is gained by taking another one then.
impl PartialEq for Acceptor {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Acceptor {
    /// Makes one; the error names the file that is at fault.
    pub fn new(
        identity: &Identity,
        certificates: &ClientCertificates,
        versions: TlsVersions,
    ) -> Result<Self, String> {
        let key = identity.certified_key()?;
        let end_point = key
            .cert
            .first()
            .and_then(|der| Certificate::parse(der).ok()?.end_point());
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&super::versions(versions))
            .map_err(|error| error.to_string())?;
        let builder = builder.with_client_cert_verifier(match certificates {
            ClientCertificates::NotAsked => Arc::new(NoClientAuth),
            ClientCertificates::Asked(file) => ClientTrust::verifier(file, false)?,
            ClientCertificates::Required(file) => ClientTrust::verifier(file, true)?,
        });
        let mut config = builder.with_cert_resolver(files::always(key));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Tickets need no memory here, and die with this acceptor: a reload that changes who is trusted leaves no way round.
        config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
        Ok(Self {
            config: Arc::new(config),
            end_point: end_point.map(Into::into),
            seed: identity.seed()?,
            fingerprint: files::fingerprint(|context| {
                identity.mix_into(context);
                let (word, file) = match certificates {
                    ClientCertificates::NotAsked => (0, None),
                    ClientCertificates::Asked(file) => (1, Some(file)),
                    ClientCertificates::Required(file) => (2, Some(file)),
                };
                context.update(&[word, u8::from(versions.tls12), u8::from(versions.tls13)]);
                file.inspect(|file| file.mix_into(context));
            }),
        })
    }

    /// What nobody can guess who does not have the private key, and is the same wherever that is.
    pub fn seed(&self) -> [u8; 32] {
        self.seed
    }

    /// A session that begins with these bytes of the client's.
    pub(in crate::net) fn session(&self, begun: BytesMut) -> Result<Session, HandshakeError> {
        let connection = UnbufferedServerConnection::new(self.config.clone())?;
        Ok(Session::server(connection, begun, self.end_point.clone()))
    }
}
