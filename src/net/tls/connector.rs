//! TLS towards servers.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};

use super::error::HandshakeError;
use super::files::{self, Fingerprint, Identity, PemFile};
use super::session::Session;
use super::trust::ServerTrust;
use super::{ALPN, provider};
use crate::config::TlsVersions;

/// Begins TLS with servers.
#[derive(Debug)]
pub struct Connector {
    config: Arc<ClientConfig>,
    fingerprint: Fingerprint,
}

/// How a server proves who it is.
pub enum Authority {
    /// It need not: what is said is safe from those who only listen.
    Nobody,
    /// Its certificate is signed by one of these.
    Chain(Roots),
    /// Besides, the certificate is for the host that was asked for.
    ChainAndName(Roots),
}

/// Whose signatures are trusted.
pub enum Roots {
    /// Those that the operating system trusts.
    System,
    /// The certificates in this file.
    File(PemFile),
}

/// Equal if made from the same files in the same way.
impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Connector {}

impl Connector {
    /// Makes one; the error names the file that is at fault. `identity` is for servers that ask for a certificate.
    pub fn new(
        authority: &Authority,
        identity: Option<&Identity>,
        versions: TlsVersions,
    ) -> Result<Self, String> {
        let roots = match authority {
            Authority::Nobody => None,
            Authority::Chain(roots) | Authority::ChainAndName(roots) => Some(roots.certificates()?),
        };
        let fingerprint = files::fingerprint(|context| {
            let word = match authority {
                Authority::Nobody => 0,
                Authority::Chain(_) => 1,
                Authority::ChainAndName(_) => 2,
            };
            context.update(&[word, u8::from(versions.tls12), u8::from(versions.tls13)]);
            for root in roots.iter().flatten() {
                context.update(&root.len().to_be_bytes());
                context.update(root);
            }
            identity.inspect(|identity| identity.mix_into(context));
        });
        let with_name = matches!(authority, Authority::ChainAndName(_));
        let trust = match roots {
            Some(certificates) => ServerTrust::new(&certificates, with_name)?,
            None => ServerTrust::blind(),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&super::versions(versions))
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust));
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(files::always(identity.certified_key()?)),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Each server connection lasts, and each time the server shall prove who it is.
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            fingerprint,
        })
    }

    /// The same for servers that speak another protocol than PostgreSQL's, and would stumble over its name (ALPN).
    #[must_use]
    pub fn without_alpn(mut self) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols.clear();
        self
    }

    /// A session with a server of that name.
    pub(in crate::net) fn session(&self, name: ServerName<'static>) -> Result<Session, HandshakeError> {
        let connection = UnbufferedClientConnection::new(self.config.clone(), name)?;
        Ok(Session::client(connection))
    }
}

impl Roots {
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        match self {
            Self::File(file) => file.certificates(),
            Self::System => {
                let found = rustls_native_certs::load_native_certs();
                match found.errors.first() {
                    _ if !found.certs.is_empty() => Ok(found.certs),
                    Some(error) => Err(format!(
                        "the system's trusted certificates cannot be read: {error}"
                    )),
                    None => Err("the system has no trusted certificates".to_owned()),
                }
            }
        }
    }
}
