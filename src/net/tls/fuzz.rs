//! Any bytes as a certificate.

use rustls::pki_types::{CertificateDer, ServerName};

use super::certificate::Certificate;
use super::trust;

/// A certificate, as a server or a client shows it.
pub fn certificate(data: &[u8]) {
    let der = CertificateDer::from(data);
    for host in ["localhost", "db.example.com", "127.0.0.1"] {
        let host = ServerName::try_from(host).expect("a name");
        if trust::check_name(&der, &host).is_ok() {
            assert!(
                Certificate::parse(data).is_ok() || data.len() > 100,
                "it is for somebody"
            );
        }
    }
    let Ok(certificate) = Certificate::parse(data) else {
        return;
    };
    let (begin, end) = certificate.validity();
    let now = rustls::pki_types::UnixTime::since_unix_epoch(begin);
    assert!(begin > end || certificate.is_current(now).is_ok());
    if let Ok(Some(name)) = certificate.common_name() {
        assert!(!name.contains('\0'));
    }
    let _ = (
        certificate.subject(),
        certificate.is_version_1(),
        certificate.is_self_signed(),
    );
    let _ = (
        certificate.public_key(),
        certificate.bare_key(),
        certificate.end_point(),
    );
    let _ = certificate.has_alternative_names();
    let _ = trust::explain(rustls::Error::DecryptError, &der);
}
