//! How the process comes to its end: whom it waits for, and what those hear who are still there.

use std::time::Duration;

use crate::admin::Shutdown;
use crate::client::Order;
use crate::error::{Refusal, SqlState};

use super::process::Process;

/// How long clients may take to leave once they have been told to.
const LEAVE_MAX: Duration = Duration::from_secs(3);
/// How often it is looked whether everybody has left.
const LOOK: Duration = Duration::from_millis(20);

/// Whom the end waits for. New connections are not accepted meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Nobody.
    Now,
    /// Transactions; clients leave at the end of theirs.
    Drain,
    /// Servers to be given back; no new ones are given out.
    Servers,
    /// Clients to leave of their own accord.
    Clients,
}

impl From<Shutdown> for Manner {
    fn from(shutdown: Shutdown) -> Self {
        match shutdown {
            Shutdown::Immediate => Self::Now,
            Shutdown::WaitForServers => Self::Servers,
            Shutdown::WaitForClients => Self::Clients,
        }
    }
}

/// Waits for whom it has to, `drain_timeout` at the longest.
pub(super) async fn wait(process: &Process, manner: Manner) {
    process.exhibit.set_draining();
    let clients = process.front.clients.len();
    tracing::info!(?manner, clients, "shutting down");
    let limit = process.front.house().config.settings.drain_timeout;
    let everybody = async {
        match manner {
            Manner::Now => {}
            Manner::Drain => drain(process).await,
            Manner::Servers => servers(process).await,
            Manner::Clients => nobody_is_left(process).await,
        }
    };
    if limit.is_zero() {
        everybody.await;
    } else if tokio::time::timeout(limit, everybody).await.is_err() {
        let clients = process.front.clients.len();
        tracing::warn!(clients, "drain_timeout is over, the rest is sent away");
    }
}

async fn drain(process: &Process) {
    let clients = &process.front.clients;
    // Who says nothing would be waited for until its login is too late.
    clients.close();
    while !clients.is_empty() || clients.logging_in() > 0 {
        // Again and again, for those whose login ended just then.
        clients.order_all(&Order::Drain(shutting_down()), |_| true);
        tokio::time::sleep(LOOK).await;
    }
}

async fn servers(process: &Process) {
    process.pause();
    for pool in process.front.pools.all() {
        pool.emptied().await;
    }
}

async fn nobody_is_left(process: &Process) {
    let clients = &process.front.clients;
    clients.close();
    while !clients.is_empty() || clients.logging_in() > 0 {
        tokio::time::sleep(LOOK).await;
    }
}

/// Ends what is left.
pub(super) async fn send_everybody_away(process: &Process) {
    process.end.cancel();
    process
        .front
        .clients
        .order_all(&Order::Kill(shutting_down()), |_| true);
    let left = async {
        nobody_is_left(process).await;
        while process.console.sessions() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    let _ = tokio::time::timeout(LEAVE_MAX, left).await;
    for pool in process.front.pools.all() {
        pool.close(shutting_down());
    }
    tracing::info!("stopped");
}

fn shutting_down() -> Refusal {
    Refusal::new(
        SqlState::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    )
}
