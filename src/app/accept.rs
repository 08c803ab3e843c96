//! Accepting connections, and handing each to a task of its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::{self, Front, LoggingIn, Outcome, keepalive};
use crate::farewell::Farewell;
use crate::net::Stream;

use super::listen::Listener;
use super::process::Process;

/// The pause after accept has failed for want of file descriptors or memory.
const BACKOFF: Duration = Duration::from_millis(100);
/// How often such a failure is logged.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Accepts until told to stop.
pub(super) async fn accept(listener: Listener, process: Arc<Process>, stop: CancellationToken) {
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept_one(&listener, &process.front) => accepted,
        };
        match accepted {
            Ok(stream) => {
                // Counted here, in the order of their coming: tasks begin in any order.
                let logging_in = process.front.clients.count_login(&stream.peer());
                tokio::spawn(welcome(stream, process.clone(), logging_in));
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

async fn accept_one(listener: &Listener, front: &Front) -> io::Result<Stream> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            keepalive(&front.house().config).apply(&stream);
            Ok(stream.into())
        }
        Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| stream.into()),
    }
}

/// The peer went away before it was accepted: nothing to be sorry for.
fn is_about_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// One connection, from its first byte to its farewell.
pub(super) async fn welcome(stream: Stream, process: Arc<Process>, logging_in: LoggingIn) {
    let front = &process.front;
    let (peer, begun) = (stream.peer(), Instant::now());
    // Boxed, because an idle client should not carry the memory of its login around.
    let outcome = Box::pin(client::login(stream, front.clone(), &logging_in)).await;
    drop(logging_in);
    let farewell = match outcome {
        Outcome::Pooled(session) => {
            let handle = session.handle().clone();
            process.log_connect(&handle);
            let farewell = Box::pin(session.serve()).await;
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
        Outcome::Cancel {
            pid,
            secret,
            stream: _until_then,
        } => {
            Box::pin(process.cancel(pid, &secret)).await;
            Farewell::CancelRequest
        }
        Outcome::Ended(ended) => {
            process.log_refused(&peer, &ended, begun.elapsed());
            ended.farewell
        }
    };
    front.count_farewell(&farewell);
}
