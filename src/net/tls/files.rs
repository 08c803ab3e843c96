//! Certificates and keys as they lie on the disk, in PEM.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// What tells two sets of files apart.
pub(super) type Fingerprint = [u8; 32];

/// A file in PEM that has been read.
pub struct PemFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// A certificate with the chain that goes with it, and its private key.
pub struct Identity {
    certificate: PemFile,
    key: PemFile,
}

impl PemFile {
    /// Reads a file. Errors name it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            bytes,
        })
    }

    pub(super) fn fault(&self, what: impl std::fmt::Display) -> String {
        format!("{}: {what}", self.path.display())
    }

    /// All certificates in it, of which there is at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let certificates = read.map_err(|error| self.fault(format!("malformed PEM: {error}")))?;
        if certificates.is_empty() {
            return Err(self.fault("there is no certificate in it"));
        }
        Ok(certificates)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|_| {
            if memchr::memmem::find(&self.bytes, b"ENCRYPTED").is_some() {
                self.fault("the private key is protected by a passphrase, which nobody could type in")
            } else {
                self.fault("there is no private key in it")
            }
        })
    }

    /// Mixes its content into a fingerprint.
    pub(super) fn mix_into(&self, context: &mut Context) {
        context.update(&self.bytes.len().to_be_bytes());
        context.update(&self.bytes);
    }
}

impl Identity {
    /// Reads both files; whether they fit together is seen when they are used.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, String> {
        Ok(Self {
            certificate: PemFile::read(certificate)?,
            key: PemFile::read(key)?,
        })
    }

    pub(super) fn mix_into(&self, context: &mut Context) {
        self.certificate.mix_into(context);
        self.key.mix_into(context);
    }

    /// A hash of the private key, of no use for anything that is done with the key itself.
    pub(super) fn seed(&self) -> Result<[u8; 32], String> {
        let key = self.key.key()?;
        Ok(fingerprint(|context| {
            context.update(b"howdah: seed\0");
            context.update(key.secret_der());
        }))
    }

    /// The certificate with its key, which belong together.
    pub(super) fn certified_key(&self) -> Result<CertifiedKey, String> {
        let chain = self.certificate.certificates()?;
        let first = chain.first().ok_or("there is no certificate")?;
        let certificate = Certificate::parse(first).map_err(|error| self.certificate.fault(error))?;
        let key = super::provider()
            .key_provider
            .load_private_key(self.key.key()?)
            .map_err(|error| self.key.fault(format!("the private key cannot be used: {error}")))?;
        // rustls would compare them itself, but refuses certificates of version 1 to begin with.
        let public = key.public_key();
        if public.is_some_and(|public| Some(public.as_ref()) != certificate.public_key().as_deref()) {
            let other = self.certificate.path.display();
            return Err(self
                .key
                .fault(format!("it is not the key of the certificate in {other}")));
        }
        Ok(CertifiedKey::new(chain, key))
    }
}

/// The fingerprint of what `mix` puts in.
pub(super) fn fingerprint(mix: impl FnOnce(&mut Context)) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    mix(&mut context);
    let digest = context.finish();
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest.as_ref());
    fingerprint
}

/// The key, wherever a resolver of rustls is wanted.
pub(super) fn always(key: CertifiedKey) -> Arc<rustls::sign::SingleCertAndKey> {
    Arc::new(rustls::sign::SingleCertAndKey::from(key))
}
