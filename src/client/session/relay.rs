//! While a client holds a server: bytes go through, in both directions at once.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::config::PoolMode;
use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::server::Connection;
use crate::wire::store::CHUNK;

use super::Session;
use crate::client::talk::responses::server_violation;
use crate::client::talk::{HIGH_WATER, Pause};

/// Why the relay stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// Everything has been answered and no transaction is open.
    Settled,
    /// A request is done, and something is to be put right before the client hears of it.
    Interlude,
    /// The next request would leave something behind for which the client needs a server of its own.
    WantsPin,
    /// The next request may have to do with notifications, and the client does not hear them from its server.
    WantsChannels,
    /// The client ends.
    Client(Farewell),
    /// The server has broken.
    Server(Farewell),
}

impl Session {
    /// Moves what can be moved. Ready when the client lets go of the server.
    pub(super) fn poll_relay(&mut self, cx: &mut Context<'_>, server: &mut Connection) -> Poll<Stop> {
        if let Err(farewell) = self.obey(cx) {
            return Poll::Ready(Stop::Client(farewell));
        }
        if self.may_move(cx, server) {
            return Poll::Ready(Stop::Settled);
        }
        loop {
            let answers = self.talk.answers;
            let pause = match self.talk.requests(server) {
                // What was asked before a proper goodbye is answered first, as PostgreSQL does.
                Pause::Over(Farewell::Terminated) if may_be_finished(server) => Pause::Blocked,
                Pause::Over(farewell) => return Poll::Ready(Stop::Client(farewell)),
                Pause::WantsPin => return Poll::Ready(Stop::WantsPin),
                Pause::WantsChannels => return Poll::Ready(Stop::WantsChannels),
                pause => pause,
            };
            self.note_requests(server);
            if !server.output.is_empty()
                && let Poll::Ready(Err(_)) = server.stream.poll_drain(cx, &mut server.output)
            {
                // Its last words may still be there to be read.
                server.output.clear();
            }
            let unsent = server.output.len();
            if self.has_something_to_hear(server)
                && let Some(stop) = self.hear(server)
            {
                return Poll::Ready(stop);
            }
            let is_blocked = matches!(pause, Pause::Blocked);
            // Something is to be put right there, or what the client waits for has come.
            if server.output.len() > unsent || is_blocked && self.talk.answers != answers {
                continue;
            }
            if is_blocked && !server.pipeline.in_flight() {
                // A fault of howdah's own; it shall not become a client that waits for ever.
                return Poll::Ready(Stop::Server(server_violation("an answer is missing")));
            }
            let crowded = self.talk.output.len() >= HIGH_WATER;
            let moved = match self.read(cx, server, &pause, crowded) {
                Ok(moved) => moved,
                Err(stop) => return Poll::Ready(stop),
            };
            if moved && !crowded {
                continue;
            }
            // Nothing more comes for the moment: what there is goes out in one write.
            let written = match self.poll_write_client(cx) {
                Poll::Ready(Err(farewell)) => return Poll::Ready(Stop::Client(farewell)),
                written => written.is_ready(),
            };
            let more_to_send = matches!(pause, Pause::Full)
                && server.output.len() < HIGH_WATER
                && self.talk.output.len() < HIGH_WATER;
            if !(moved || more_to_send || crowded && written) {
                let unfinished = (!self.talk.up.is_done()).then_some(self.talk.tally.bytes_received);
                if let Poll::Ready(farewell) = self.poll_pin(cx, server) {
                    return Poll::Ready(Stop::Client(farewell));
                }
                let limit = self.clock.poll_busy(cx, &self.policy, server, unfinished);
                return limit.map(Stop::Client);
            }
        }
    }

    /// Reads from both sides, and hears what the server says. Tells whether anything came.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut Connection,
        pause: &Pause,
        crowded: bool,
    ) -> Result<bool, Stop> {
        let mut moved = false;
        if !crowded && let Poll::Ready(read) = self.poll_read_server(cx, server) {
            read?;
            moved = true;
            // Nearly always this is the whole answer, and there is nothing else to be done.
            if let Some(stop) = self.hear(server) {
                return Err(stop);
            }
        }
        let reads = matches!(pause, Pause::NeedMore) || self.talk.input.len() < CHUNK;
        if reads
            && !self.talk.has_said_goodbye()
            && let Poll::Ready(read) = self.poll_read_client(cx)
        {
            read.map_err(Stop::Client)?;
            moved = true;
        }
        Ok(moved)
    }

    fn poll_read_server(&mut self, cx: &mut Context<'_>, server: &mut Connection) -> Poll<Result<(), Stop>> {
        match server.stream.poll_fill(cx, &mut server.input) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(
                self.server_is_lost("server closed the connection unexpectedly")
            )),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.server_is_lost(&error.to_string()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_read_client(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Farewell>> {
        let farewell = match self.stream.poll_fill(cx, &mut self.talk.input) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => Farewell::Vanished,
            Poll::Ready(Ok(n)) => {
                self.talk.tally.bytes_received += n as u64;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => Farewell::ClientIo(error.to_string()),
        };
        // What it has asked for before a goodbye is done first.
        if self.talk.says_goodbye() {
            return Poll::Pending;
        }
        Poll::Ready(Err(farewell))
    }

    fn server_is_lost(&self, why: &str) -> Stop {
        let refusal = match self.talk.server_left.as_deref() {
            // The client has been told by the server itself.
            Some(last_words) => last_words.clone(),
            None => Refusal::new(SqlState::CONNECTION_FAILURE, "server connection was lost").detail(why),
        };
        // The line that the client's end makes says it as well, if there is going to be one.
        if !self.front.house().config.settings.log_disconnections {
            let (client, why) = (self.seat.id, refusal.to_string());
            tracing::warn!(client, why, "server connection was lost while in use");
        }
        Stop::Server(Farewell::ServerLost(refusal))
    }

    /// Whether [`Session::hear`] could come to anything: it need not be asked while all there is to do is to wait.
    fn has_something_to_hear(&self, server: &Connection) -> bool {
        !server.input.is_empty()
            || server.pipeline.is_settled()
            || server.pipeline.is_fake_next()
            || self.talk.trail.interlude.is_some()
    }

    /// Deals with what the server has said.
    fn hear(&mut self, server: &mut Connection) -> Option<Stop> {
        let heard = match self.talk.responses(server) {
            Ok(heard) => heard,
            Err(farewell @ Farewell::Limit(_)) => return Some(Stop::Client(farewell)),
            Err(farewell) => return Some(Stop::Server(farewell)),
        };
        let pauses = (self.talk.trail.interlude.as_ref()).is_some_and(|interlude| interlude.held.is_some());
        let settled = server.pipeline.is_settled()
            && self.talk.up.is_done()
            && self.talk.down.is_done()
            && server.output.is_empty()
            // What has been put there for the next request to find is taken back behind it.
            && !self.talk.has_lent();
        if heard.units > 0 {
            let now = self.clock.now();
            let took = self.clock.end_unit(now, server.pipeline.in_flight());
            for _ in 0..heard.units {
                if self.talk.tally.is_full() {
                    self.pool.absorb(&mut self.talk.tally);
                }
                self.talk.tally.query(took);
            }
            self.seat.set_busy(server.pipeline.in_flight());
        } else if !server.pipeline.in_flight() {
            self.clock.rest();
        }
        // What howdah has to take back comes behind the client's last request.
        let has_ended = heard.units > 0 || heard.ends_of_ours;
        if settled && has_ended {
            let now = self.clock.now();
            self.talk.tally.transaction(self.clock.end_transaction(now));
        }
        if pauses && server.pipeline.is_quiet() && self.talk.down.is_done() {
            return Some(Stop::Interlude);
        }
        if !settled {
            return None;
        }
        if self.policy.pool_mode != PoolMode::Session && (self.pin.is_none() || has_ended) {
            return Some(Stop::Settled);
        }
        if has_ended {
            // A session keeps its server: what it does is reported as it goes on.
            self.pool.absorb(&mut self.talk.tally);
        }
        self.leave
            .clone()
            .map(|refusal| Stop::Client(Farewell::Administrator(*refusal)))
    }

    /// Something has been asked of the server: from now on it can be cancelled, and its time counts.
    fn note_requests(&mut self, server: &Connection) {
        if server.pipeline.in_flight() {
            self.seat.set_busy(true);
            self.clock.begin_unit();
        }
        if !self.talk.trail.cleared.is_empty() {
            self.clear_databases();
        }
    }
}

/// What PostgreSQL refuses, it refuses within this time; what it waits for, it looks for again as often.
const MAKE_WAY_AFTER: Duration = Duration::from_millis(50);

impl Session {
    /// PostgreSQL waits a few seconds for those who are connected to a database that is to go away; howdah's own idle
    /// servers go. Not at once, for who may not drop a database shall not be able to close its servers either.
    fn clear_databases(&mut self) {
        let claim = self.talk.trail.claim();
        let client = self.seat.id;
        let front = Arc::clone(&self.front);
        let target = self.pool.source().target();
        tokio::spawn(async move {
            tokio::time::sleep(MAKE_WAY_AFTER).await;
            // Only while just that statement is being carried out.
            for database in claim.upgrade().iter().flat_map(|databases| databases.iter()) {
                let database = String::from_utf8_lossy(database);
                tracing::info!(client, ?database, "servers make way for a statement");
                front.pools.make_way(&target.addresses, &database);
            }
        });
    }
}

/// Whether what is in flight comes to an end without more from the client.
fn may_be_finished(server: &Connection) -> bool {
    server.pipeline.unit_in_flight() && !server.pipeline.is_copying_in()
}
