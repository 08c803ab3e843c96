//! Accepting connections, and handing each to a task of its own.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::{self, Front, LoggingIn, Outcome, keepalive};
use crate::farewell::Farewell;
use crate::net::{Keepalive, PeerAddr, Stream};

use super::listen::Listener;
use super::process::Process;

/// The pause after accept has failed for want of file descriptors or memory.
const BACKOFF: Duration = Duration::from_millis(100);
/// How often such a failure is logged.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Accepts until told to stop.
pub(super) async fn accept(listener: Listener, process: Arc<Process>, stop: CancellationToken) {
    let mut complained: Option<Instant> = None;
    let mut options = Options::of(&listener, &process.front);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept_one(&listener, &mut options, &process.front) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Counted here, in the order of their coming: tasks begin in any order.
                let logging_in = process.front.clients.count_login(&peer);
                tokio::spawn(welcome(stream, peer, process.clone(), logging_in));
            }
            Err(error) if is_about_the_peer(&error) => {}
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() > COMPLAINT_INTERVAL) {
                    complained = Some(Instant::now());
                    tracing::error!(%error, %listener, "cannot accept connections, trying again");
                }
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

async fn accept_one(
    listener: &Listener,
    options: &mut Options,
    front: &Front,
) -> io::Result<(Stream, PeerAddr)> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            if options.follow(front) {
                options.apply(listener);
                options.apply(&stream);
            }
            Ok((stream.into(), PeerAddr::Tcp(address)))
        }
        Listener::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            Ok((stream.into(), PeerAddr::Unix))
        }
    }
}

/// Socket options of clients. They are set on the listening socket, whose connections have them from the beginning: that
/// saves each of them five system calls.
struct Options {
    wanted: Keepalive,
    /// What the listening socket had before.
    own: Option<Keepalive>,
}

impl Options {
    fn of(listener: &Listener, front: &Front) -> Self {
        let mut options = Self {
            wanted: keepalive(&front.house().config),
            own: None,
        };
        if let Listener::Tcp(listener) = listener {
            options.own = Keepalive::of(listener).ok();
            options.apply(listener);
        }
        options
    }

    /// Takes over what the configuration says now; tells whether that is something else.
    fn follow(&mut self, front: &Front) -> bool {
        let wanted = keepalive(&front.house().config);
        std::mem::replace(&mut self.wanted, wanted) != wanted
    }

    fn apply(&self, socket: &impl AsFd) {
        let own = self.own.as_ref();
        own.map_or(self.wanted, |own| self.wanted.or(own)).apply(socket);
    }
}

/// The peer went away before it was accepted: nothing to be sorry for.
fn is_about_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// One connection, from its first byte to its farewell. Its task holds a box of what it is at, and nothing else: an idle
/// client should not carry the memory of its login around, nor what it began with.
pub(super) fn welcome(
    stream: Stream,
    peer: PeerAddr,
    process: Arc<Process>,
    logging_in: LoggingIn,
) -> impl Future<Output = ()> {
    let login = Box::pin(log_in(stream, peer, process, logging_in));
    async move { Box::pin(serve(login.await)).await }
}

/// A login's outcome, and the process that it was a login to.
async fn log_in(
    stream: Stream,
    peer: PeerAddr,
    process: Arc<Process>,
    logging_in: LoggingIn,
) -> (Outcome, Arc<Process>) {
    let begun = Instant::now();
    let outcome = client::login(stream, peer.clone(), process.front.clone(), &logging_in).await;
    if let Outcome::Ended(ended) = &outcome {
        process.log_refused(&peer, ended, begun.elapsed());
    }
    (outcome, process)
}

/// Serves whoever has come in, to the end. Clients of a pool are many, so what others need is boxed.
async fn serve((outcome, process): (Outcome, Arc<Process>)) {
    let farewell = match outcome {
        Outcome::Pooled(session) => {
            let handle = session.handle().clone();
            process.log_connect(&handle);
            let farewell = session.serve().await;
            process.log_disconnect(&handle, &farewell);
            farewell
        }
        Outcome::Replication(replication) => {
            let handle = replication.handle().clone();
            process.log_connect(&handle);
            let farewell = Box::pin(replication.serve()).await;
            process.log_disconnect(&handle, &farewell);
            farewell
        }
        Outcome::Console(visit) => Box::pin(process.console(*visit)).await,
        Outcome::Cancel(cancel) => {
            Box::pin(process.cancel(cancel.pid, &cancel.secret)).await;
            Farewell::CancelRequest
        }
        Outcome::Ended(ended) => ended.farewell,
    };
    process.front.count_farewell(&farewell);
}
