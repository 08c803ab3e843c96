//! What is said before a login begins: questions about encryption, and TLS itself.

use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};

use crate::config::SslMode;
use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::net::Stream;
use crate::net::tls::{Acceptor, HandshakeError};
use crate::wire::startup::{self, Initial};

use super::login::{refused_startup, violation};

/// The first byte of TLS: a record with a message of the handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection on which nothing has been said yet.
pub(super) struct Door<'a> {
    pub(super) stream: &'a mut Stream,
    pub(super) input: &'a mut BytesMut,
    /// Who shakes hands; nobody where clients cannot have TLS.
    pub(super) acceptor: Option<Arc<Acceptor>>,
    pub(super) mode: SslMode,
}

impl Door<'_> {
    /// The first packet that is more than a question about encryption. Where TLS is required, a startup packet without it
    /// is refused; a cancel request is not, for clients before libpq 17 send it in clear whatever their session is.
    pub(super) async fn first_packet(mut self) -> Result<Initial, Farewell> {
        if self.stream.is_unix() {
            self.acceptor = None;
        }
        let (mut asked_ssl, mut asked_gss) = (false, false);
        if self.begins_with_tls().await? {
            self.accept_direct_tls().await?;
            (asked_ssl, asked_gss) = (true, true);
        }
        loop {
            let initial = self.packet().await?;
            let is_ssl = matches!(initial, Initial::Ssl);
            let asked = match initial {
                Initial::Ssl => &mut asked_ssl,
                Initial::Gssenc => &mut asked_gss,
                Initial::Startup(_) if self.lacks_tls() => return Err(without_tls()),
                other => return Ok(other),
            };
            if std::mem::replace(asked, true) {
                return Err(violation("encryption was asked for twice"));
            }
            if !self.input.is_empty() {
                // What follows without waiting for the answer was put there by somebody else (CVE-2021-3935).
                return Err(violation("received unencrypted data after an encryption request"));
            }
            match self.acceptor.clone().filter(|_| is_ssl) {
                None => self.answer(b'N').await?,
                Some(acceptor) => {
                    self.answer(b'S').await?;
                    let accepted = self.stream.accept_tls(&acceptor, BytesMut::new());
                    accepted.await.map_err(|error| failed(&error))?;
                    asked_gss = true;
                }
            }
        }
    }

    fn lacks_tls(&self) -> bool {
        self.mode.is_required() && self.stream.tls().is_none() && !self.stream.is_unix()
    }

    async fn begins_with_tls(&mut self) -> Result<bool, Farewell> {
        while self.input.is_empty() {
            self.fill().await?;
        }
        Ok(self.input.first() == Some(&TLS_HANDSHAKE))
    }

    /// TLS without having asked for it. As in PostgreSQL the client must name the protocol, so that nobody can be led here
    /// who meant to speak another one.
    async fn accept_direct_tls(&mut self) -> Result<(), Farewell> {
        let acceptor = self
            .acceptor
            .clone()
            .ok_or_else(|| violation("TLS is not available on this connection"))?;
        let begun = self.input.split();
        let accepted = self.stream.accept_tls(&acceptor, begun).await;
        accepted.map_err(|error| failed(&error))?;
        if self.stream.tls().is_some_and(|tls| tls.has_alpn) {
            Ok(())
        } else {
            Err(violation("direct TLS without ALPN (the protocol is \"postgresql\")"))
        }
    }

    async fn packet(&mut self) -> Result<Initial, Farewell> {
        loop {
            let malformed = |error| refused_startup(startup::StartupError::Malformed(error));
            if let Some(len) = startup::packet_len(self.input).map_err(malformed)?
                && self.input.len() >= len
            {
                let initial = Initial::parse(&self.input[4..len]).map_err(refused_startup)?;
                self.input.advance(len);
                return Ok(initial);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Farewell> {
        match self.stream.fill(self.input).await {
            Ok(0) => Err(Farewell::Vanished),
            Ok(_) => Ok(()),
            Err(error) => Err(Farewell::ClientIo(error.to_string())),
        }
    }

    async fn answer(&mut self, answer: u8) -> Result<(), Farewell> {
        let mut output = BytesMut::new();
        output.put_u8(answer);
        let written = self.stream.drain(&mut output).await;
        written.map_err(|error| Farewell::ClientIo(error.to_string()))
    }
}

fn failed(error: &HandshakeError) -> Farewell {
    Farewell::ClientIo(error.to_string())
}

fn without_tls() -> Farewell {
    let message = "connections without TLS are not accepted";
    let hint = "The client has to ask for TLS, with sslmode=require for example.";
    Farewell::LoginRefused(Refusal::new(SqlState::INVALID_AUTHORIZATION, message).hint(hint))
}
