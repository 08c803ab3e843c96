//! Replication connections: a walsender of their own, and bytes through, one to one.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;

use crate::farewell::{Denial, Farewell};
use crate::net::Stream;
use crate::pool::{Pool, Servers};
use crate::server::{Connection, Lore, Target};
use crate::wire::write;

use crate::client::clients::Seat;
use crate::client::login::startup::Wishes;

/// A walsender, logged in, for a client that has not been welcomed yet.
pub(in crate::client) struct Ready {
    seat: Seat,
    server: Box<Connection>,
}

/// A replication session.
pub struct Replication {
    stream: Stream,
    input: BytesMut,
    seat: Seat,
    server: Box<Connection>,
}

/// Logs in at the server as this client's walsender. It counts against no pool: it is never shared.
pub(in crate::client) async fn connect(
    wishes: &Wishes,
    pool: &Arc<Pool<Servers>>,
    seat: Seat,
) -> Result<Ready, Farewell> {
    let base = pool.source().target();
    let mut parameters = wishes.settings.clone();
    parameters.extend(
        wishes
            .application_name
            .clone()
            .map(|name| ("application_name".to_owned(), name)),
    );
    parameters.extend(
        wishes
            .replication
            .clone()
            .map(|value| ("replication".to_owned(), value)),
    );
    let target = Target {
        addresses: base.addresses.clone(),
        database: base.database.clone(),
        credentials: base.credentials.clone(),
        parameters,
        timeout: base.timeout,
        keepalive: base.keepalive,
        encryption: base.encryption.clone(),
        connect_query: String::new(),
        prepared_max: 1,
        resolver: base.resolver.clone(),
        lore: Lore::default(),
    };
    target.lore.inherit(&base.lore);
    let server = target
        .connect()
        .await
        .map_err(|error| Farewell::LoginRefused(Denial::Server, error.refusal))?;
    Ok(Ready {
        seat,
        server: Box::new(server),
    })
}

impl Ready {
    pub(in crate::client) fn with(self, stream: Stream, input: BytesMut) -> Replication {
        Replication {
            stream,
            input,
            seat: self.seat,
            server: self.server,
        }
    }
}

impl Replication {
    /// The public face of this client.
    pub fn handle(&self) -> &Arc<crate::client::Handle> {
        &self.seat
    }

    /// Welcomes the client, then passes on whatever either side says until one of them ends.
    pub async fn serve(mut self) -> Farewell {
        let mut welcome = BytesMut::new();
        write::message(&mut welcome, b'R', |out| out.extend_from_slice(&[0; 4]));
        for (name, value) in self.server.settings.reported.iter() {
            write::parameter_status(&mut welcome, name, value);
        }
        write::message(&mut welcome, b'K', |out| {
            out.extend_from_slice(&self.seat.pid.to_be_bytes());
            out.extend_from_slice(&self.seat.secret);
        });
        write::ready_for_query(&mut welcome, b'I');
        if let Err(error) = self.stream.drain(&mut welcome).await {
            return Farewell::ClientIo(error.to_string());
        }
        self.seat.now_holds(self.server.info());
        self.seat.set_busy(true);
        let farewell = self.relay().await;
        self.seat.now_idles();
        farewell
    }

    async fn relay(&mut self) -> Farewell {
        poll_fn(|cx| {
            if let Some(farewell) = self.poll_orders(cx) {
                return Poll::Ready(farewell);
            }
            let Self {
                stream,
                input,
                server,
                ..
            } = self;
            let Connection {
                stream: server,
                input: answers,
                ..
            } = &mut **server;
            let ended = match pass(cx, stream, server, input) {
                Poll::Ready(ended) => Poll::Ready(ended),
                Poll::Pending => pass(cx, server, stream, answers),
            };
            ended.map(|result| match result {
                Ok(()) => Farewell::Finished,
                Err(error) => Farewell::ClientIo(error.to_string()),
            })
        })
        .await
    }

    fn poll_orders(&mut self, cx: &mut Context<'_>) -> Option<Farewell> {
        let orders = self.seat.poll_orders(cx)?;
        orders.into_iter().find_map(|order| match order {
            crate::client::Order::Kill(refusal) | crate::client::Order::Drain(refusal) => {
                Some(Farewell::Administrator(refusal))
            }
            crate::client::Order::Dequeue(_) => None,
        })
    }
}

/// Passes on what comes, in one direction. Ready at its end, when all that came has gone out.
fn pass(
    cx: &mut Context<'_>,
    from: &mut Stream,
    to: &mut Stream,
    buffer: &mut BytesMut,
) -> Poll<io::Result<()>> {
    loop {
        ready!(to.poll_drain(cx, buffer))?;
        if ready!(from.poll_fill(cx, buffer))? == 0 {
            return Poll::Ready(Ok(()));
        }
    }
}
