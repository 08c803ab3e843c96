//! What a pool needs of the outside.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::error::Refusal;

/// Opens, watches, cleans and closes the connections of one pool.
///
/// Its functions that are not futures are called under the pool's lock: they must be short and must not call back.
pub trait Source: Send + Sync + 'static {
    /// A connection to a server.
    type Conn: Send + 'static;
    /// What can be said of a connection while somebody else is using it.
    type Info: Send + Sync + 'static;

    /// Opens a connection, login and `connect_query` included. It has its own deadline.
    fn open(&self) -> impl Future<Output = Result<Self::Conn, OpenError>> + Send;

    /// Whether opening a connection for nobody in particular has a chance; if not, the pool waits to be
    /// [encouraged](super::Pool::encourage).
    fn is_hopeful(&self) -> bool {
        true
    }

    /// What can be said of this connection; asked once, when it has been opened.
    fn info(&self, conn: &Self::Conn) -> Arc<Self::Info>;

    /// What its session is set to, as a number that is equal where that is: those who want the same get it first.
    fn mark(&self, conn: &Self::Conn) -> u64;

    /// Pending while an idle connection is healthy and quiet; it has then registered the waker of `cx`. Ready as soon as
    /// it has died or said something that makes it unfit for the next client.
    fn poll_idle(&self, conn: &mut Self::Conn, cx: &mut Context<'_>) -> Poll<Gone>;

    /// Whether an idle connection is healthy and quiet, at this moment.
    fn is_quiet(&self, conn: &mut Self::Conn) -> bool {
        self.poll_idle(conn, &mut Context::from_waker(Waker::noop()))
            .is_pending()
    }

    /// Makes a connection fit for the next client; `None` if it had to be closed.
    fn clean(&self, conn: Self::Conn, dirt: Dirt) -> impl Future<Output = Option<Self::Conn>> + Send;

    /// Asks a connection that has long been idle whether it still works (`server_check_query`); `None` if not.
    fn check(&self, conn: Self::Conn) -> impl Future<Output = Option<Self::Conn>> + Send;

    /// Connections beside the pool's own are to go: those that somebody needs too, or only the others.
    fn part(&self, _needed_too: bool) {}

    /// Whether there are none of those.
    fn is_parted(&self) -> bool {
        true
    }

    /// What is known of new connections may have become wrong.
    fn forget(&self) {}

    /// Closes a connection politely, without blocking.
    fn close(&self, conn: Self::Conn);
}

/// Why an idle connection is of no more use, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone(pub Cow<'static, str>);

/// Why a connection could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// What a client may read of it.
    pub refusal: Refusal,
    /// Waiting will not help (wrong password, no such database): those who wait are told at once.
    pub is_final: bool,
    /// What the log is told beside.
    pub note: Option<String>,
}

/// What has to happen to a returned connection before somebody else may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dirt {
    /// Its client vanished in the middle of something: cancel, roll back, clean.
    Abandoned,
    /// It is in a transaction: roll back, clean.
    InTransaction,
    /// The end of a session in session mode: run the reset query.
    Reset,
    /// Clean, but a cancel request for it is still on its way: wait until that has arrived.
    CancelInFlight,
}
