//! The connection of somebody who has not been let in yet: its stream, and what is read of it and written to it.

use std::borrow::Cow;

use bytes::{Buf, BufMut, BytesMut};

use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::net::{PeerAddr, Stream};
use crate::wire::scan::{self, HEADER_LEN};
use crate::wire::store::CHUNK;
use crate::wire::write;

/// The longest password message, in bytes; PostgreSQL's `PG_MAX_AUTH_TOKEN_LENGTH`.
const PASSWORD_LEN_MAX: usize = 65_535;

/// A connection that is being logged in.
pub(super) struct Door {
    pub(super) stream: Stream,
    /// The address of the other end.
    pub(super) peer: PeerAddr,
    /// What has been read and not dealt with.
    pub(super) input: BytesMut,
    /// What is to be written.
    pub(super) output: BytesMut,
    /// What the log is told of a refusal beyond what the client is told.
    pub(super) note: Option<String>,
}

impl Door {
    pub(in crate::client) fn new(stream: Stream, peer: PeerAddr) -> Self {
        Self {
            stream,
            peer,
            input: BytesMut::new(),
            output: BytesMut::new(),
            note: None,
        }
    }

    /// Reads what there is, at least one byte.
    pub(super) async fn fill(&mut self) -> Result<(), Farewell> {
        match self.stream.fill(&mut self.input).await {
            Ok(0) => Err(Farewell::Vanished),
            Ok(_) => Ok(()),
            Err(error) => Err(Farewell::ClientIo(error.to_string())),
        }
    }

    /// Writes all that is to be written.
    pub(super) async fn flush(&mut self) -> Result<(), Farewell> {
        self.stream
            .drain(&mut self.output)
            .await
            .map_err(|error| Farewell::ClientIo(error.to_string()))
    }

    /// Ends when the client does; for the time in which nothing is expected of it.
    pub(super) async fn gone(&mut self) -> Farewell {
        while self.input.len() < CHUNK {
            if let Err(farewell) = self.fill().await {
                return farewell;
            }
        }
        std::future::pending().await
    }

    /// Puts a message of type Authentication with this body behind what is to be written.
    pub(super) fn authentication(&mut self, body: &[u8]) {
        write::message(&mut self.output, b'R', |out| out.put_slice(body));
    }

    /// The body of the next message, which must be of type `p`.
    pub(super) async fn password_message(&mut self) -> Result<Vec<u8>, Farewell> {
        loop {
            let header = scan::header(&self.input).map_err(|error| violation(error.to_string()))?;
            if let Some(header) = header {
                if header.tag != b'p' {
                    return Err(violation(format!(
                        "expected password response, got message type {}",
                        header.tag
                    )));
                }
                if header.len > PASSWORD_LEN_MAX {
                    return Err(violation("invalid message length"));
                }
                if self.input.len() >= header.len {
                    let body = self.input[HEADER_LEN..header.len].to_vec();
                    self.input.advance(header.len);
                    return Ok(body);
                }
            }
            self.fill().await?;
        }
    }
}

/// The end of a client that breaks the protocol.
pub(super) fn violation(message: impl Into<Cow<'static, str>>) -> Farewell {
    Farewell::ClientProtocol(Refusal::new(SqlState::PROTOCOL_VIOLATION, message))
}
