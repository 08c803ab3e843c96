//! Waiting in line: for a server, and for permission to keep one.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::net::{Stream, within};
use crate::pool::{Asked, Lease, PinPermit, Servers};
use crate::wire::store::CHUNK;
use crate::wire::write::{self, Severity};

use super::Session;
use super::pin::too_many_pinned;
use crate::client::handle::Order;
use crate::client::talk::Talk;
use crate::client::talk::trail::Licence;

/// What a client has that waits for permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// No server, and nothing that it could lose.
    Nothing,
    /// A server, perhaps within a transaction.
    Server,
}

impl Session {
    /// Waits for a server. `None` if the client changed its mind.
    pub(super) async fn wait(&mut self) -> Result<Option<Lease<Servers>>, Farewell> {
        let now = Instant::now();
        self.seat.now_waits(now);
        let delay = self.policy.query_wait_notify;
        let Self {
            waiter,
            pool,
            seat,
            stream,
            talk,
            clock,
            leave,
            ..
        } = &mut *self;
        let mut place = match pool.ask(now, waiter, talk.settings.mark()) {
            Ok(Asked::Granted(lease)) => return Ok(Some(lease)),
            Ok(Asked::Queued(place)) => place,
            Err(error) => {
                seat.now_idles();
                return Err(Farewell::Limit(error.refusal()));
            }
        };
        let mut notify_at = if delay == Duration::ZERO {
            None
        } else {
            Some(now + delay)
        };
        // What is moved into it is not kept beside it as well.
        let result = poll_fn(move |cx| {
            if let Poll::Ready(result) = pin!(&mut place).poll(cx) {
                return Poll::Ready(result.map(Some).map_err(|error| Farewell::Limit(error.refusal())));
            }
            let mut dequeued = false;
            for order in seat.poll_orders(cx).unwrap_or_default() {
                match order {
                    Order::Drain(refusal) if talk.is_deferring() => *leave = Some(Box::new(refusal)),
                    Order::Kill(refusal) | Order::Drain(refusal) => {
                        return Poll::Ready(Err(Farewell::Administrator(refusal)));
                    }
                    Order::Dequeue(_) => dequeued = true,
                }
            }
            if dequeued {
                return Poll::Ready(Ok(None));
            }
            if let Some(at) = notify_at
                && clock.poll_until(cx, at).is_ready()
            {
                notify_at = None;
                write::refusal(&mut talk.output, Severity::Notice, &waiting_notice());
            }
            if let Poll::Ready(Err(error)) = stream.poll_drain(cx, &mut talk.output) {
                return Poll::Ready(Err(Farewell::ClientIo(error.to_string())));
            }
            match read_ahead(stream, talk, cx) {
                Ok(()) => Poll::Pending,
                Err(farewell) => Poll::Ready(Err(farewell)),
            }
        })
        .await;
        if !matches!(result, Ok(Some(_))) {
            self.seat.now_idles();
        }
        result
    }

    /// Waits until the client may keep the server that it has; a refusal is for the statement that would need one.
    pub(super) async fn permit(&mut self) -> Result<(), Farewell> {
        let pool = self.pool.clone();
        match self.attend(PinPermit::wait(&pool), Holds::Server).await? {
            Ok(permit) => self.may_keep(permit),
            Err(refusal) => self.talk.trail.turned_down = Some(Box::new(refusal)),
        }
        Ok(())
    }

    /// Waits, without a server, until it is worth asking again. Tells whether it is: else the statement has failed.
    pub(super) async fn vacancy(&mut self) -> Result<bool, Farewell> {
        let pool = self.pool.clone();
        let Err(refusal) = self.attend(PinPermit::vacancy(&pool), Holds::Nothing).await? else {
            return Ok(true);
        };
        let is_deferring = self.talk.is_deferring();
        if is_deferring {
            // It fails in its transaction.
            self.talk.trail.turned_down = Some(Box::new(refusal));
        } else {
            self.talk.fail_request(&refusal);
        }
        Ok(is_deferring)
    }

    /// The client may keep the server that it has, if nobody else has been quicker.
    pub(super) fn try_permit(&mut self) -> bool {
        let permit = PinPermit::take(&self.pool);
        permit.map(|permit| self.may_keep(permit)).is_some()
    }

    fn may_keep(&mut self, permit: PinPermit) {
        self.permit = Some(permit);
        self.talk.trail.licence = Licence::Anything;
    }

    /// Waits for permission to keep a server, and for the client. A refusal if that took too long, or was cancelled.
    async fn attend<T>(
        &mut self,
        granted: impl Future<Output = T>,
        holds: Holds,
    ) -> Result<Result<T, Refusal>, Farewell> {
        let limit = self.policy.query_wait_timeout;
        let permit = within(limit, granted);
        tokio::pin!(permit);
        poll_fn(|cx| match self.poll_attention(cx) {
            Ok(false) => match self.leaves().filter(|_| holds == Holds::Nothing) {
                Some(farewell) => Poll::Ready(Err(farewell)),
                None => permit
                    .as_mut()
                    .poll(cx)
                    .map_err(|_| too_many_pinned(limit))
                    .map(Ok),
            },
            Ok(true) => Poll::Ready(Ok(Err(cancelled()))),
            Err(farewell) => Poll::Ready(Err(farewell)),
        })
        .await
    }

    /// Orders and the client's end, while nothing else is done for it. Tells whether the client does not want to wait any
    /// more (its cancel request).
    pub(super) fn poll_attention(&mut self, cx: &mut Context<'_>) -> Result<bool, Farewell> {
        let mut is_cancelled = false;
        for order in self.seat.poll_orders(cx).unwrap_or_default() {
            match order {
                Order::Kill(refusal) => return Err(Farewell::Administrator(refusal)),
                Order::Drain(refusal) => self.leave = Some(Box::new(refusal)),
                Order::Dequeue(_) => is_cancelled = true,
            }
        }
        read_ahead(&mut self.stream, &mut self.talk, cx)?;
        Ok(is_cancelled)
    }
}

/// Reads on while the client waits, up to a limit. Its end does not concern what it has asked for before a goodbye.
fn read_ahead(stream: &mut Stream, talk: &mut Talk, cx: &mut Context<'_>) -> Result<(), Farewell> {
    while talk.input.len() < CHUNK {
        let farewell = match stream.poll_fill(cx, &mut talk.input) {
            Poll::Pending => break,
            Poll::Ready(Ok(0)) => Farewell::Vanished,
            Poll::Ready(Ok(n)) => {
                talk.tally.bytes_received += n as u64;
                continue;
            }
            Poll::Ready(Err(error)) => Farewell::ClientIo(error.to_string()),
        };
        return if talk.says_goodbye() {
            Ok(())
        } else {
            Err(farewell)
        };
    }
    Ok(())
}

fn waiting_notice() -> Refusal {
    Refusal::new(
        SqlState::SUCCESSFUL_COMPLETION,
        "no server connection available, waiting in the queue",
    )
}

pub(super) fn cancelled() -> Refusal {
    Refusal::new(
        SqlState::QUERY_CANCELED,
        "canceling statement due to user request",
    )
    .detail("It was still waiting for a server connection.")
}
