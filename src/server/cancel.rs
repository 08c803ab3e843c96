//! Cancelling what a server does.

use std::io;

use bytes::BytesMut;

use crate::wire::startup;

use super::route::{Route, RouteError};

/// What it takes to cancel a query on one server ("Canceling Requests in Progress" in the manual).
#[derive(Clone)]
pub struct CancelKey {
    route: Route,
    pid: i32,
    secret: Box<[u8]>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey")
            .field("route", &self.route)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl CancelKey {
    pub(super) fn new(route: Route, pid: i32, secret: &[u8]) -> Self {
        Self {
            route,
            pid,
            secret: secret.into(),
        }
    }

    /// The process id of the server's backend.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks the server to cancel, under TLS if that is how the session is, and waits until it has taken note: it closes
    /// the connection without a word.
    pub async fn send(&self) -> io::Result<()> {
        let mut stream = self.route.open().await.map_err(RouteError::into_io)?;
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
