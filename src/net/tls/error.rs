//! Why a handshake failed, in words for whoever has to mend it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer closed the connection in the middle.
    #[error("the connection was closed during the TLS handshake")]
    Closed,
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer, or its certificate, is not acceptable; or ours is not to the peer.
    #[error("{}", describe(.0))]
    Tls(#[from] Error),
    /// What the peer's certificate says cannot be used.
    #[error("{0}")]
    Certificate(String),
}

fn describe(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => format!("certificate verify failed: {}", certificate(error)),
        Error::NoCertificatesPresented => "the peer has shown no certificate".to_owned(),
        Error::AlertReceived(alert) => format!("the peer refused TLS: {}", self::alert(*alert)),
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => "the peer speaks no TLS from 1.2 on that is enabled here".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic) => "TLS 1.3 is needed".to_owned(),
        Error::NoApplicationProtocol => {
            "the peer offers other protocols than \"postgresql\" by ALPN".to_owned()
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "the peer does not speak TLS".to_owned(),
        other => format!("TLS failed: {other}"),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "it is not signed by an authority that is trusted here".to_owned(),
        CertificateError::BadSignature => "it is not signed by the authority that it names".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!("it names no host, and \"{}\" was expected", expected.to_str())
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            format!(
                "it is for {}, not for \"{}\"",
                names.join(", "),
                expected.to_str()
            )
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is for another purpose (extended key usage)".to_owned()
        }
        CertificateError::Other(error) => match error.to_string().as_str() {
            // The name of webpki's own error.
            "CaUsedAsEndEntity" => {
                "it is an authority's own (CA:TRUE), not that of a server or client".to_owned()
            }
            text => text.to_owned(),
        },
        other => other.to_string(),
    }
}

/// A name without what webpki writes around it: `DnsName("db")`, `IpAddress(127.0.0.1)`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => "it demands a certificate".to_owned(),
        AlertDescription::UnknownCA => "it does not trust the authority of our certificate".to_owned(),
        AlertDescription::CertificateExpired => "our certificate has expired".to_owned(),
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it does not accept our certificate".to_owned()
        }
        AlertDescription::ProtocolVersion => "it accepts none of our versions of TLS".to_owned(),
        AlertDescription::HandshakeFailure => "nothing suits both sides".to_owned(),
        AlertDescription::NoApplicationProtocol => "it does not speak \"postgresql\"".to_owned(),
        other => other.as_str().map_or_else(|| format!("{other:?}"), str::to_owned),
    }
}
