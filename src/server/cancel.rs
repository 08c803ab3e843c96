//! Cancelling what a server does.

use std::io;

use bytes::BytesMut;

use crate::net::Stream;
use crate::wire::startup;

use super::connect::Endpoint;

/// What it takes to cancel a query on one server ("Canceling Requests in Progress" in the manual).
#[derive(Clone)]
pub struct CancelKey {
    endpoint: Endpoint,
    pid: i32,
    secret: Box<[u8]>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey")
            .field("endpoint", &self.endpoint)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl CancelKey {
    pub(super) fn new(endpoint: Endpoint, pid: i32, secret: &[u8]) -> Self {
        Self {
            endpoint,
            pid,
            secret: secret.into(),
        }
    }

    /// The process id of the server's backend.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks the server to cancel, and waits until it has taken note: it closes the connection without a word.
    pub async fn send(&self) -> io::Result<()> {
        let mut stream: Stream = self.endpoint.open().await?;
        let mut packet = BytesMut::new();
        startup::write_cancel(&mut packet, self.pid, &self.secret);
        stream.drain(&mut packet).await?;
        let mut nothing = BytesMut::new();
        while stream.fill(&mut nothing).await? > 0 {
            nothing.clear();
        }
        Ok(())
    }
}
