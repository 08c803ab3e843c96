//! What is known of a TLS session once its handshake is over.

use std::fmt;

use rustls::pki_types::UnixTime;
use rustls::{CommonState, HandshakeKind, ProtocolVersion};

use super::certificate::Certificate;
use super::error::HandshakeError;

/// A TLS session: what was agreed upon, and who the peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: &'static str,
    /// The cipher suite's name at IANA.
    pub cipher: String,
    /// The key exchange: a group's name; none in a session that was resumed without one.
    pub group: Option<String>,
    /// Whether the protocol `postgresql` was agreed upon by ALPN.
    pub has_alpn: bool,
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
    /// The peer's certificate. A client's has been verified, or it would not be here; a server's only if `sslmode` asks
    /// for that.
    pub peer: Option<PeerCertificate>,
    /// The hash for the channel binding `tls-server-end-point`, of the server's certificate: ours towards a client.
    /// `None` if that certificate has none.
    pub end_point: Option<Box<[u8]>>,
}

/// Whose certificate it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The first common name of the subject.
    pub common_name: Option<String>,
    /// The whole subject, as RFC 4514 writes it: `CN=bob,O=example`.
    pub subject: String,
}

/// As `SHOW CLIENTS` tells it: `TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=X25519`.
impl fmt::Display for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.cipher)?;
        match &self.group {
            Some(group) => write!(f, "/ECDH={group}"),
            None => Ok(()),
        }
    }
}

impl TlsInfo {
    /// Of a session whose handshake is over. Towards a client, `own` is what it can be bound to; towards a server that
    /// comes from its certificate.
    pub(super) fn of(
        state: &CommonState,
        own: Option<&[u8]>,
        is_towards_server: bool,
    ) -> Result<Self, HandshakeError> {
        let is_resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
        let shown = state.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|der| Certificate::parse(der)).transpose();
        let (peer, end_point) = match certificate {
            Ok(None) => (None, own.map(Into::into)),
            Ok(Some(certificate)) if is_towards_server => {
                let peer = PeerCertificate::of(&certificate).ok();
                (peer, certificate.end_point())
            }
            Ok(Some(certificate)) => {
                if is_resumed {
                    // It was judged when the session began, which may be hours ago.
                    certificate
                        .is_current(UnixTime::now())
                        .map_err(rustls::Error::InvalidCertificate)?;
                }
                let peer = PeerCertificate::of(&certificate).map_err(HandshakeError::Certificate)?;
                (Some(peer), own.map(Into::into))
            }
            Err(_) if is_towards_server => (None, None),
            Err(error) => return Err(HandshakeError::Certificate(error)),
        };
        let cipher = state.negotiated_cipher_suite();
        Ok(Self {
            protocol: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: cipher
                .map(|suite| format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1))
                .unwrap_or_default(),
            group: state
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name())),
            has_alpn: state.alpn_protocol() == Some(super::ALPN),
            is_resumed,
            peer,
            end_point,
        })
    }
}

impl PeerCertificate {
    fn of(certificate: &Certificate<'_>) -> Result<Self, String> {
        Ok(Self {
            common_name: certificate.common_name()?,
            subject: certificate.subject(),
        })
    }
}
