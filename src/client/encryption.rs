//! From the settings to what does TLS.

use std::sync::Arc;

use crate::config::{Config, SslMode};
use crate::net::tls::{Acceptor, ClientCertificates, Identity, PemFile};

/// What shakes hands with clients; `None` where they cannot have TLS. The error names the setting and the file.
pub(super) fn acceptor(config: &Config) -> Result<Option<Arc<Acceptor>>, String> {
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
