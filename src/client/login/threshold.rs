//! What is said before a login begins: questions about encryption, and TLS itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, BytesMut};

use crate::config::SslMode;
use crate::error::{Refusal, SqlState};
use crate::farewell::{Denial, Farewell};
use crate::net::TlsInfo;
use crate::net::tls::Acceptor;
use crate::wire::WireError;
use crate::wire::startup::{self, Initial, StartupError};

use super::door::{Door, violation};

/// The first byte of TLS: a record with a message of the handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// How handshakes with clients have ended.
#[derive(Debug, Default)]
pub struct Handshakes([AtomicU64; 3]);

impl Handshakes {
    const LABELS: [&'static str; 3] = ["full", "resumed", "failed"];

    /// Counts one that led to this session, or to none.
    fn count(&self, tls: Option<&TlsInfo>) {
        let [full, resumed, failed] = &self.0;
        let count = match tls {
            Some(tls) if tls.is_resumed => resumed,
            Some(_) => full,
            None => failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts, by label.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Self::LABELS.into_iter().zip(counts)
    }
}

/// What holds for connections of whom nothing is known yet.
pub(super) struct Threshold<'a> {
    /// Who shakes hands; nobody where clients cannot have TLS.
    pub(super) acceptor: Option<Arc<Acceptor>>,
    /// Whether they must.
    pub(super) mode: SslMode,
    /// Where handshakes are counted.
    pub(super) handshakes: &'a Handshakes,
}

impl Threshold<'_> {
    /// The first packet that is more than a question about encryption. Where TLS is required, a startup packet without it
    /// is refused; a cancel request is not, for clients before libpq 17 send it in clear whatever their session is.
    pub(super) async fn first_packet(mut self, door: &mut Door) -> Result<Initial, Farewell> {
        if door.stream.is_unix() {
            (self.acceptor, self.mode) = (None, SslMode::Disable);
        }
        let (mut asked_ssl, mut asked_gss) = (false, false);
        if begins_with_tls(door).await? {
            self.accept_direct_tls(door).await?;
            (asked_ssl, asked_gss) = (true, true);
        }
        loop {
            let initial = packet(door).await?;
            let is_ssl = matches!(initial, Initial::Ssl);
            let asked = match initial {
                Initial::Ssl => &mut asked_ssl,
                Initial::Gssenc => &mut asked_gss,
                Initial::Startup(_) if self.mode.is_required() && door.stream.tls().is_none() => {
                    return Err(without_tls());
                }
                other => return Ok(other),
            };
            if std::mem::replace(asked, true) {
                return Err(violation("encryption was asked for twice"));
            }
            if !door.input.is_empty() {
                // What follows without waiting for the answer was put there by somebody else (CVE-2021-3935).
                return Err(violation("received unencrypted data after an encryption request"));
            }
            let acceptor = self.acceptor.as_ref().filter(|_| is_ssl);
            door.output.put_u8(if acceptor.is_some() { b'S' } else { b'N' });
            door.flush().await?;
            if let Some(acceptor) = acceptor {
                self.accept_tls(door, acceptor, BytesMut::new()).await?;
                asked_gss = true;
            }
        }
    }

    /// TLS without having asked for it. As in PostgreSQL the client must name the protocol, so that nobody can be led here
    /// who meant to speak another one.
    async fn accept_direct_tls(&self, door: &mut Door) -> Result<(), Farewell> {
        let Some(acceptor) = &self.acceptor else {
            // In clear there is nothing to say to it.
            return Err(Farewell::ClientIo(
                "it begins with TLS, which is not on offer".to_owned(),
            ));
        };
        let begun = door.input.split();
        self.accept_tls(door, acceptor, begun).await?;
        if door.stream.tls().is_some_and(|tls| tls.has_alpn) {
            Ok(())
        } else {
            Err(violation(
                "direct TLS without ALPN (the protocol is \"postgresql\")",
            ))
        }
    }

    async fn accept_tls(
        &self,
        door: &mut Door,
        acceptor: &Acceptor,
        begun: BytesMut,
    ) -> Result<(), Farewell> {
        let accepted = Box::pin(door.stream.accept_tls(acceptor, begun)).await;
        self.handshakes.count(door.stream.tls().map(Arc::as_ref));
        accepted.map_err(|error| Farewell::ClientIo(error.to_string()))
    }
}

async fn begins_with_tls(door: &mut Door) -> Result<bool, Farewell> {
    while door.input.is_empty() {
        door.fill().await?;
    }
    Ok(door.input.first() == Some(&TLS_HANDSHAKE))
}

async fn packet(door: &mut Door) -> Result<Initial, Farewell> {
    loop {
        // Some say goodbye before they have said a word. PostgreSQL has no answer to what is no first packet either.
        let nonsense = |error: WireError| Farewell::ClientIo(format!("first packet: {error}"));
        if let Some(len) = startup::packet_len(&door.input).map_err(nonsense)?
            && door.input.len() >= len
        {
            let initial = Initial::parse(&door.input[4..len]).map_err(refused_startup)?;
            door.input.advance(len);
            return Ok(initial);
        }
        door.fill().await?;
    }
}

fn refused_startup(error: StartupError) -> Farewell {
    let code = match error {
        StartupError::Malformed(_) => SqlState::PROTOCOL_VIOLATION,
        StartupError::Protocol(_) => SqlState::FEATURE_NOT_SUPPORTED,
    };
    Farewell::ClientProtocol(Refusal::new(code, error.to_string()))
}

fn without_tls() -> Farewell {
    let message = "connections without TLS are not accepted";
    let hint = "The client has to ask for TLS, with sslmode=require for example.";
    let refusal = Refusal::new(SqlState::INVALID_AUTHORIZATION, message).hint(hint);
    Farewell::LoginRefused(Denial::Rule, refusal)
}
