//! Waiting in line for a server.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::time::Instant;

use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::pool::{Asked, Lease, Servers};
use crate::wire::store::CHUNK;
use crate::wire::write::{self, Severity};

use super::Session;
use crate::client::handle::Order;

impl Session {
    /// Waits for a server. `None` if the client changed its mind.
    pub(super) async fn wait(&mut self) -> Result<Option<Lease<Servers>>, Farewell> {
        let now = Instant::now();
        self.seat.now_waits(now);
        let result = self.wait_in_line(now).await;
        if !matches!(result, Ok(Some(_))) {
            self.seat.now_idles();
        }
        result
    }

    async fn wait_in_line(&mut self, now: Instant) -> Result<Option<Lease<Servers>>, Farewell> {
        let Self {
            waiter,
            pool,
            seat,
            stream,
            talk,
            policy,
            clock,
            leave,
            ..
        } = self;
        let mut place = match pool.ask(now, waiter, talk.settings.mark()) {
            Ok(Asked::Granted(lease)) => return Ok(Some(lease)),
            Ok(Asked::Queued(place)) => place,
            Err(error) => return Err(Farewell::Limit(error.refusal())),
        };
        let delay = policy.query_wait_notify;
        let mut notify_at = (!delay.is_zero()).then(|| now + delay);
        poll_fn(|cx| {
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
            while talk.input.len() < CHUNK {
                match stream.poll_fill(cx, &mut talk.input) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(Farewell::Vanished)),
                    Poll::Ready(Ok(n)) => talk.tally.bytes_received += n as u64,
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(Farewell::ClientIo(error.to_string())));
                    }
                    Poll::Pending => break,
                }
            }
            Poll::Pending
        })
        .await
    }
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
