//! What a certificate (X.509, RFC 5280) says.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest::{self, Algorithm, SHA224, SHA256, SHA384, SHA512};
use rustls::pki_types::{ServerName, UnixTime};
use x509_cert::certificate::Version;
use x509_cert::der::asn1::ContextSpecific;
use x509_cert::der::asn1::ObjectIdentifier as Oid;
use x509_cert::der::{Decode, Encode, SliceReader, TagNumber};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::AlgorithmIdentifierOwned;

const RSA_PSS: Oid = Oid::new_unwrap("1.2.840.113549.1.1.10");

/// Signature algorithms and what tls-server-end-point hashes the certificate with (RFC 5929, section 4.1): the hash of
/// the signature, but SHA-256 in the place of MD5 and SHA-1.
const SIGNATURES: [(Oid, &Algorithm); 14] = [
    (Oid::new_unwrap("1.2.840.113549.1.1.4"), &SHA256), // md5WithRSAEncryption
    (Oid::new_unwrap("1.2.840.113549.1.1.5"), &SHA256), // sha1WithRSAEncryption
    (Oid::new_unwrap("1.2.840.113549.1.1.14"), &SHA224), // sha224WithRSAEncryption
    (Oid::new_unwrap("1.2.840.113549.1.1.11"), &SHA256), // sha256WithRSAEncryption
    (Oid::new_unwrap("1.2.840.113549.1.1.12"), &SHA384), // sha384WithRSAEncryption
    (Oid::new_unwrap("1.2.840.113549.1.1.13"), &SHA512), // sha512WithRSAEncryption
    (Oid::new_unwrap("1.2.840.10045.4.1"), &SHA256),    // ecdsa-with-SHA1
    (Oid::new_unwrap("1.2.840.10045.4.3.1"), &SHA224),  // ecdsa-with-SHA224
    (Oid::new_unwrap("1.2.840.10045.4.3.2"), &SHA256),  // ecdsa-with-SHA256
    (Oid::new_unwrap("1.2.840.10045.4.3.3"), &SHA384),  // ecdsa-with-SHA384
    (Oid::new_unwrap("1.2.840.10045.4.3.4"), &SHA512),  // ecdsa-with-SHA512
    (Oid::new_unwrap("1.2.840.10040.4.3"), &SHA256),    // dsa-with-sha1
    (Oid::new_unwrap("2.16.840.1.101.3.4.3.1"), &SHA224), // dsa-with-sha224
    (Oid::new_unwrap("2.16.840.1.101.3.4.3.2"), &SHA256), // dsa-with-sha256
];

/// Hashes that RSASSA-PSS names in its parameters.
const HASHES: [(Oid, &Algorithm); 6] = [
    (Oid::new_unwrap("1.2.840.113549.2.5"), &SHA256),     // md5
    (Oid::new_unwrap("1.3.14.3.2.26"), &SHA256),          // sha1
    (Oid::new_unwrap("2.16.840.1.101.3.4.2.4"), &SHA224), // sha224
    (Oid::new_unwrap("2.16.840.1.101.3.4.2.1"), &SHA256), // sha256
    (Oid::new_unwrap("2.16.840.1.101.3.4.2.2"), &SHA384), // sha384
    (Oid::new_unwrap("2.16.840.1.101.3.4.2.3"), &SHA512), // sha512
];

/// A certificate that has been understood.
pub(super) struct Certificate<'a> {
    der: &'a [u8],
    parsed: x509_cert::Certificate,
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, String> {
        let parsed = x509_cert::Certificate::from_der(der)
            .map_err(|error| format!("the certificate is malformed: {error}"))?;
        Ok(Self { der, parsed })
    }

    /// The subject as RFC 4514 writes it, the innermost part first: `CN=bob,O=example`.
    pub(super) fn subject(&self) -> String {
        self.parsed.tbs_certificate().subject().to_string()
    }

    /// The first common name of the subject. One with a zero byte is an error: somebody would read it as another one.
    pub(super) fn common_name(&self) -> Result<Option<String>, String> {
        let name = self.parsed.tbs_certificate().subject().common_name();
        let name = name.map_err(|_| "the certificate's common name is not text".to_owned())?;
        match name.map(|name| name.value().into_owned()) {
            Some(name) if name.contains('\0') => {
                Err("the certificate's common name has a zero byte".to_owned())
            }
            name => Ok(name),
        }
    }

    pub(super) fn is_version_1(&self) -> bool {
        self.parsed.tbs_certificate().version() == Version::V1
    }

    pub(super) fn is_self_signed(&self) -> bool {
        self.parsed.tbs_certificate().subject() == self.parsed.tbs_certificate().issuer()
    }

    /// `SubjectPublicKeyInfo`, in DER.
    pub(super) fn public_key(&self) -> Option<Vec<u8>> {
        self.parsed
            .tbs_certificate()
            .subject_public_key_info()
            .to_der()
            .ok()
    }

    /// The key's algorithm as webpki compares it (the content of the sequence), and the bits of the key.
    pub(super) fn bare_key(&self) -> Option<(Vec<u8>, &[u8])> {
        let key = self.parsed.tbs_certificate().subject_public_key_info();
        let mut algorithm = key.algorithm.oid.to_der().ok()?;
        if let Some(parameters) = &key.algorithm.parameters {
            algorithm.extend(parameters.to_der().ok()?);
        }
        Some((algorithm, key.subject_public_key.as_bytes()?))
    }

    /// When it begins to be valid and when it ends, since 1970.
    pub(super) fn validity(&self) -> (Duration, Duration) {
        let validity = self.parsed.tbs_certificate().validity();
        (
            validity.not_before.to_unix_duration(),
            validity.not_after.to_unix_duration(),
        )
    }

    pub(super) fn is_current(&self, now: UnixTime) -> Result<(), rustls::CertificateError> {
        let (begin, end) = self.validity();
        let now = now.as_secs();
        if now < begin.as_secs() {
            Err(rustls::CertificateError::NotValidYet)
        } else if now > end.as_secs() {
            Err(rustls::CertificateError::Expired)
        } else {
            Ok(())
        }
    }

    /// The hash that `tls-server-end-point` binds to. `None` where RFC 5929 defines none: the signature has no hash
    /// (Ed25519), or one that is unknown here.
    pub(super) fn end_point(&self) -> Option<Box<[u8]>> {
        let signature = self.parsed.signature_algorithm();
        let algorithm = if signature.oid == RSA_PSS {
            pss_hash(signature)?
        } else {
            hash_of(&SIGNATURES, signature.oid)?
        };
        Some(digest::digest(algorithm, self.der).as_ref().into())
    }

    /// All of them; `None` if they are malformed.
    fn alternative_names(&self) -> Option<Vec<GeneralName>> {
        let names = self.parsed.tbs_certificate().get_extension::<SubjectAltName>();
        Some(names.ok()?.map(|(_, names)| names.0).unwrap_or_default())
    }

    pub(super) fn has_alternative_names(&self) -> bool {
        self.alternative_names().is_none_or(|names| !names.is_empty())
    }

    /// Whether the common name stands for the host, as libpq has it: only where no alternative name is of the host's kind.
    pub(super) fn is_named(&self, host: &ServerName<'_>) -> bool {
        let Some(names) = self.alternative_names() else {
            return false;
        };
        let is_of_kind = |name: &GeneralName| match host {
            ServerName::IpAddress(_) => matches!(name, GeneralName::IpAddress(_)),
            _ => matches!(name, GeneralName::DnsName(_)),
        };
        let common_name = self.common_name().ok().flatten();
        match (host, common_name) {
            _ if names.iter().any(is_of_kind) => false,
            (ServerName::DnsName(host), Some(name)) => matches_host(&name, host.as_ref()),
            (ServerName::IpAddress(host), Some(name)) => name.parse() == Ok(IpAddr::from(*host)),
            _ => false,
        }
    }
}

fn hash_of(table: &[(Oid, &'static Algorithm)], oid: Oid) -> Option<&'static Algorithm> {
    table
        .iter()
        .find(|(known, _)| *known == oid)
        .map(|(_, algorithm)| *algorithm)
}

/// The hash in the parameters of RSASSA-PSS (RFC 4055, section 3.1); it is SHA-1 where none is named.
fn pss_hash(signature: &AlgorithmIdentifierOwned) -> Option<&'static Algorithm> {
    let Some(parameters) = &signature.parameters else {
        return Some(&SHA256);
    };
    let mut reader = SliceReader::new(parameters.value()).ok()?;
    let hash =
        ContextSpecific::<AlgorithmIdentifierOwned>::decode_explicit(&mut reader, TagNumber(0)).ok()?;
    match hash {
        Some(hash) => hash_of(&HASHES, hash.value.oid),
        None => Some(&SHA256),
    }
}

/// Whether a name of a certificate, perhaps with `*` for its first label, is that of the host.
fn matches_host(name: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    match name.strip_prefix("*.") {
        Some(rest) => host
            .split_once('.')
            .is_some_and(|(first, domain)| !first.is_empty() && rest.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        for (name, host, matches) in [
            ("db.example.com", "DB.example.com", true),
            ("db.example.com", "db.example.com.", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*", "db", false),
            ("db", "db.example.com", false),
        ] {
            assert_eq!(matches_host(name, host), matches, "{name} {host}");
        }
    }
}
