//! Whether a certificate is to be believed: rustls's judgement, and what libpq accepts beyond it.
//!
//! PostgreSQL's manual teaches certificates that rustls's webpki will not hear of: self-signed ones that are authorities
//! as well, with the host in the common name. A certificate that is itself in the file of trusted ones is believed, and a
//! common name counts where there is no alternative name. Certificates of version 1, which know neither, can be used
//! where nothing is verified.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved,
    RootCertStore, SignatureScheme,
};

use super::certificate::Certificate;
use super::files::PemFile;
use super::provider;

/// A fault of a certificate that rustls has no word for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fault(String);

fn fault(text: impl Into<String>) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(Fault(text.into()))))
}

/// The certificates that are trusted.
#[derive(Debug)]
struct Anchors {
    roots: RootCertStore,
    /// The same, to be recognized.
    certificates: Vec<CertificateDer<'static>>,
}

impl Anchors {
    fn new(certificates: &[CertificateDer<'static>]) -> (Self, usize) {
        let mut roots = RootCertStore::empty();
        let (_, unusable) = roots.add_parsable_certificates(certificates.iter().cloned());
        let certificates = certificates.to_vec();
        (Self { roots, certificates }, unusable)
    }

    /// Whether the certificate itself is trusted, whoever has signed it. It must not be out of date.
    fn knows(&self, der: &CertificateDer<'_>, now: UnixTime) -> Result<bool, CertificateError> {
        if !self.certificates.iter().any(|known| known == der) {
            return Ok(false);
        }
        let certificate = Certificate::parse(der).map_err(fault)?;
        certificate.is_current(now).map(|()| true)
    }
}

/// Says what is behind a certificate that was refused, where more is known than rustls tells.
pub(super) fn explain(error: Error, der: &CertificateDer<'_>) -> Error {
    let Ok(certificate) = Certificate::parse(der) else {
        return error;
    };
    match error {
        _ if certificate.is_version_1() => {
            let text = "it is an X.509 certificate of version 1, which cannot be verified (make one with a \
                        subjectAltName, which is of version 3)";
            fault(text).into()
        }
        _ if certificate.is_self_signed() => fault("it is self-signed and not trusted here").into(),
        error => error,
    }
}

/// Judges servers, as libpq does.
#[derive(Debug)]
pub(super) struct ServerTrust {
    anchors: Option<Anchors>,
    with_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerTrust {
    /// Believes anybody.
    pub(super) fn blind() -> Self {
        Self {
            anchors: None,
            with_name: false,
            algorithms: provider().signature_verification_algorithms,
        }
    }

    /// Believes whom these have signed; with `with_name` only if the certificate is for the host.
    pub(super) fn new(certificates: &[CertificateDer<'static>], with_name: bool) -> Result<Self, String> {
        let (anchors, unusable) = Anchors::new(certificates);
        if unusable == certificates.len() {
            return Err("no trusted certificate can be used".to_owned());
        }
        Ok(Self {
            anchors: Some(anchors),
            with_name,
            ..Self::blind()
        })
    }

    fn check_chain(
        &self,
        anchors: &Anchors,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if anchors.knows(der, now)? {
            return Ok(());
        }
        let parsed = ParsedCertificate::try_from(der)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &anchors.roots, intermediates, now, algorithms)
    }
}

/// Whether the certificate is for this host.
pub(super) fn check_name(der: &CertificateDer<'_>, host: &ServerName<'_>) -> Result<(), Error> {
    let error = match ParsedCertificate::try_from(der).and_then(|parsed| verify_server_name(&parsed, host)) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let Ok(certificate) = Certificate::parse(der) else {
        return Err(error);
    };
    match certificate.common_name() {
        _ if certificate.is_named(host) => Ok(()),
        Ok(Some(name)) if !certificate.has_alternative_names() => {
            let text = format!("it is for \"{name}\", not for \"{}\"", host.to_str());
            Err(fault(text).into())
        }
        _ => Err(error),
    }
}

impl ServerCertVerifier for ServerTrust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(anchors) = &self.anchors {
            self.check_chain(anchors, end_entity, intermediates, now)
                .map_err(|error| explain(error, end_entity))?;
        }
        if self.with_name {
            check_name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
            .or_else(|error| self.verify_version_1(message, cert, dss, error))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
            .or_else(|error| self.verify_version_1(message, cert, dss, error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerTrust {
    /// Checks a signature by the key of a certificate that rustls has refused to look into; `error` is what it said.
    fn verify_version_1(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
        error: Error,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = match Certificate::parse(cert) {
            Ok(certificate) if certificate.is_version_1() => certificate,
            _ => return Err(error),
        };
        let (algorithm, key) = certificate
            .bare_key()
            .ok_or_else(|| fault("its public key is malformed"))?;
        let candidates = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == dss.scheme);
        let (_, candidates) = candidates.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let is_right = candidates
            .iter()
            .filter(|candidate| candidate.public_key_alg_id().as_ref() == algorithm)
            .any(|candidate| candidate.verify_signature(key, message, dss.signature()).is_ok());
        if is_right {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }
}

/// Judges clients that show a certificate.
#[derive(Debug)]
pub(super) struct ClientTrust {
    anchors: Anchors,
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientTrust {
    /// Believes whom the certificates of the file have signed. Without `is_required` a client may show none.
    pub(super) fn verifier(file: &PemFile, is_required: bool) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let certificates = file.certificates()?;
        let (anchors, _) = Anchors::new(&certificates);
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(anchors.roots.clone()), provider());
        let builder = if is_required {
            builder
        } else {
            builder.allow_unauthenticated()
        };
        let inner = builder
            .build()
            .map_err(|error| file.fault(format!("its certificates cannot be used: {error}")))?;
        Ok(Arc::new(Self { anchors, inner }))
    }
}

impl ClientCertVerifier for ClientTrust {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.anchors.knows(end_entity, now)? {
            return Ok(ClientCertVerified::assertion());
        }
        self.inner
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| explain(error, end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
