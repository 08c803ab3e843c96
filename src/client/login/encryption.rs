//! From the settings to what does TLS.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::config::{Config, Overrides, PoolSettings, SslMode, SslNegotiation, TlsVersions};
use crate::net::tls::{Acceptor, Authority, ClientCertificates, Connector, Identity, PemFile, Roots};
use crate::server::Encryption;

/// What shakes hands with clients; `None` where they cannot have TLS. The error names the setting and the file.
pub(in crate::client) fn acceptor(config: &Config) -> Result<Option<Arc<Acceptor>>, String> {
    let settings = &config.settings;
    if settings.client_tls_sslmode == SslMode::Disable {
        return Ok(None);
    }
    let blame = |name: &'static str| move |message: String| format!("{name}: {message}");
    let (certificate, key) = (&settings.client_tls_cert_file, &settings.client_tls_key_file);
    let identity = Identity::read(&config.path(certificate), &config.path(key))
        .map_err(blame("client_tls_cert_file and client_tls_key_file"))?;
    let authorities = match settings.client_tls_ca_file.as_str() {
        "" => None,
        file => Some(PemFile::read(&config.path(file)).map_err(blame("client_tls_ca_file"))?),
    };
    let certificates = match authorities {
        Some(file) if settings.client_tls_sslmode.is_verified() => ClientCertificates::Required(file),
        Some(file) => ClientCertificates::Asked(file),
        None => ClientCertificates::NotAsked,
    };
    Acceptor::new(&identity, &certificates, settings.client_tls_protocols)
        .map(|acceptor| Some(Arc::new(acceptor)))
        .map_err(blame("TLS for clients"))
}

/// What begins TLS with servers, once for each way in which the configuration asks for it.
#[derive(Debug, Default)]
pub(in crate::client) struct Connectors(HashMap<Wish, Arc<Connector>>);

/// What makes two connectors differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wish {
    verifies: Option<SslMode>,
    authorities: String,
    certificate: String,
    key: String,
    versions: TlsVersions,
}

impl Wish {
    /// `None` where there is never TLS.
    fn of(policy: &PoolSettings) -> Option<Self> {
        (policy.sslmode != SslMode::Disable).then(|| Self {
            verifies: policy.sslmode.is_verified().then_some(policy.sslmode),
            authorities: policy.sslrootcert.clone(),
            certificate: policy.sslcert.clone(),
            key: policy.sslkey.clone(),
            versions: policy.server_tls_protocols,
        })
    }

    /// What servers have to prove. As in libpq, whoever names authorities wants them asked, whatever the mode.
    fn authority(&self, config: &Config) -> Result<Authority, String> {
        let roots = match self.authorities.as_str() {
            "" | "system" => Roots::System,
            file => Roots::File(PemFile::read(&config.path(file))?),
        };
        Ok(match self.verifies {
            Some(SslMode::VerifyFull) => Authority::ChainAndName(roots),
            None if self.authorities.is_empty() => Authority::Nobody,
            _ => Authority::Chain(roots),
        })
    }

    fn connector(&self, config: &Config) -> Result<Connector, String> {
        let identity = if self.certificate.is_empty() {
            None
        } else {
            Some(Identity::read(
                &config.path(&self.certificate),
                &config.path(&self.key),
            )?)
        };
        Connector::new(&self.authority(config)?, identity.as_ref(), self.versions)
    }
}

impl Connectors {
    /// Reads the files of every database; the error names the database and the file.
    pub(in crate::client) fn new(config: &Config) -> Result<Self, String> {
        let none = Overrides::default();
        let mut connectors = HashMap::new();
        for database in config.databases.values().chain(&config.fallback) {
            let policy = PoolSettings::resolve(&config.settings, &database.overrides, &none);
            let Some(wish) = Wish::of(&policy) else { continue };
            if let Entry::Vacant(vacant) = connectors.entry(wish) {
                let made = vacant.key().connector(config);
                let connector = made.map_err(|error| {
                    format!("TLS to the server of database \"{}\": {error}", database.name)
                })?;
                vacant.insert(Arc::new(connector));
            }
        }
        Ok(Self(connectors))
    }

    /// How the servers of a pool are spoken to.
    pub(in crate::client) fn encryption(&self, policy: &PoolSettings) -> Encryption {
        Encryption {
            mode: policy.sslmode,
            is_direct: policy.sslnegotiation == SslNegotiation::Direct,
            binding: policy.channel_binding,
            connector: Wish::of(policy).and_then(|wish| self.0.get(&wish).cloned()),
        }
    }
}
