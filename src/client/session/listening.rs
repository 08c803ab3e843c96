//! A client that listens: from its server, or from its pool's hub while it needs no server for it (`pool::listening`).

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::config::Listen;
use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::net::within;
use crate::pool::{Marker, Subscription, Turn};
use crate::server::{Connection, Failure, Mark, Question, Remains};
use crate::sql::is_quiet;
use crate::wire::frontend::{self, Parse};
use crate::wire::scan;

use super::pin::Pin;
use super::settle::{ANSWER_MAX, TRIES, lost};
use super::{Session, UNREAD_MAX};
use crate::client::talk::Talk;
use crate::client::talk::names::Known;
use crate::client::talk::trail::{Following, Judged, Licence};

/// Notifications are not added to more output than this, in bytes: so that it does not keep the client from a server.
const HEARD_MAX: usize = UNREAD_MAX / 2;
/// How long a marker that is committed may take to come through the hub.
const PASSING_MAX: Duration = Duration::from_secs(30);
/// From where a client hears that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Server,
    Hub,
}

/// What a client listens to.
#[derive(Debug)]
pub(in crate::client) struct Ear {
    subscription: Subscription,
    /// In the order in which it has begun to listen to them.
    channels: Vec<Box<[u8]>>,
    place: Place,
}

impl Ear {
    fn mark<'a>(&'a self, payload: &'a str) -> Mark<'a> {
        Mark {
            channel: self.subscription.marker_channel(),
            payload,
        }
    }
}

impl Talk {
    /// In which the client is told things.
    fn encoding(&self) -> &[u8] {
        let encoding = self.settings.reported.get(b"client_encoding");
        encoding.unwrap_or_default()
    }

    fn ear_on_hub(&self) -> Option<&Ear> {
        self.ear.as_deref().filter(|ear| ear.place == Place::Hub)
    }

    /// Whether the client hears from the hub, and what it is about to ask for may have to do with what it hears.
    pub(in crate::client) fn wants_channels(&self, server: &Connection) -> bool {
        self.ear_on_hub().is_some() && !server.pipeline.is_segment_open() && !self.is_quiet_ahead()
    }

    /// Whether the client's requests up to the end of the unit are all there, and have nothing to do with notifications.
    fn is_quiet_ahead(&self) -> bool {
        let mut rest = &self.input[..];
        let mut parsed: Vec<&[u8]> = Vec::new();
        while let Ok(Some((header, body))) = scan::message(rest) {
            let is_quiet = match header.tag {
                b'Q' => return frontend::query_text(body).is_ok_and(|text| self.is_quiet(text)),
                b'S' | b'X' => return true,
                b'P' => Parse::read(body).is_ok_and(|parse| {
                    parsed.push(parse.name);
                    self.is_quiet(parse.text)
                }),
                b'B' => frontend::bind_names(body)
                    .is_some_and(|(_, name)| parsed.contains(&name) || self.is_quiet_by_name(name)),
                b'F' => false,
                _ => true,
            };
            if !is_quiet {
                return false;
            }
            rest = rest.get(header.len..).unwrap_or_default();
        }
        false
    }

    fn is_quiet_by_name(&self, name: &[u8]) -> bool {
        if name.is_empty() {
            return self
                .unnamed
                .get()
                .is_some_and(|unnamed| self.is_quiet(unnamed.text()));
        }
        match self.names.get(name, 0) {
            Known::Statement(statement) => self.is_quiet(statement.text()),
            Known::Nothing | Known::Uncertain => false,
        }
    }

    fn is_quiet(&self, text: &[u8]) -> bool {
        is_quiet(text, self.trail.reading.standard_conforming_strings)
            && matches!(self.trail.judge(text), Judged::Inert)
    }

    /// Passes on what the hub has heard, as long as the client reads. Tells whether that was all; the error is why the
    /// client has to go.
    pub(in crate::client) fn hear_from_hub(&mut self) -> Result<bool, Farewell> {
        let Some(ear) = self.ear.as_deref().filter(|ear| ear.place == Place::Hub) else {
            return Ok(true);
        };
        let room = HEARD_MAX.saturating_sub(self.output.len());
        ear.subscription.take(&mut self.output, room).map_err(farewell)
    }
}

/// How a client ends that can hear no more.
fn farewell(refusal: Refusal) -> Farewell {
    if refusal.code == SqlState::ADMIN_SHUTDOWN {
        Farewell::ServerLost(refusal)
    } else {
        Farewell::Limit(refusal)
    }
}

impl Session {
    /// Whether clients hear from a hub.
    pub(super) fn shares_listening(&self) -> bool {
        self.policy.listen == Listen::Share && self.talk.trail.following == Following::All
    }

    /// Without a server: passes on what has come, and is woken by what comes.
    pub(super) fn poll_hub(&mut self, cx: &Context<'_>) -> Result<bool, Farewell> {
        match self.talk.ear_on_hub() {
            Some(ear) => ear.subscription.is_stirred(cx),
            None => return Ok(true),
        };
        self.talk.hear_from_hub()
    }

    /// Whether a client that keeps its server only to listen, and does nothing else there, may try to move to the hub.
    pub(super) fn may_move(&self, cx: &Context<'_>, server: &Connection) -> bool {
        let Some(ear) = self.talk.ear.as_deref().filter(|ear| ear.place == Place::Server) else {
            return false;
        };
        self.pin
            .as_ref()
            .is_some_and(|pin| pin.remains == Remains::LISTEN)
            && !self.is_session()
            && server.pipeline.is_settled()
            && server.output.is_empty()
            && self.talk.up.is_done()
            && self.talk.down.is_done()
            && ear.subscription.is_stirred(cx)
            && ear.subscription.is_heard()
    }

    /// Whether a statement may LISTEN without permission to keep a server, because it will not have to.
    pub(super) fn listens_freely(&self) -> bool {
        self.talk.trail.wanted == Remains::LISTEN
            && self.shares_listening()
            && self.pool.source().hubs.is_up(self.talk.encoding())
    }

    /// The server has said what the client listens to there.
    pub(super) fn note_channels(&mut self, channels: Vec<Box<[u8]>>) {
        if self.talk.ear_on_hub().is_some() {
            return;
        }
        if channels.is_empty() || !self.shares_listening() {
            self.talk.ear = None;
            return self.obey_policy();
        }
        let mut ear = self.talk.ear.take();
        ear = ear.filter(|ear| ear.subscription.encoding() == self.talk.encoding());
        let mut ear = ear.or_else(|| self.new_ear().map(Box::new));
        if let Some(ear) = &mut ear
            && ear.channels != channels
        {
            ear.subscription.tune(channels.clone());
            ear.channels = channels;
        }
        self.talk.ear = ear;
        self.obey_policy();
    }

    /// `None` if there is no hub for the client's encoding, nor may be.
    fn new_ear(&self) -> Option<Ear> {
        let bytes_max = usize::try_from(self.policy.max_client_notification_bytes).unwrap_or(usize::MAX);
        let hubs = &self.pool.source().hubs;
        Some(Ear {
            subscription: hubs.subscribe(&self.pool, self.talk.encoding(), bytes_max)?,
            channels: Vec::new(),
            place: Place::Server,
        })
    }

    /// Moves the client to the hub, so that it needs its server no longer. False if the hub does not hear all of it yet.
    pub(super) async fn move_to_hub(&mut self, server: &mut Connection) -> Result<bool, Farewell> {
        let has_changed = |ear: &Ear| ear.subscription.encoding() != self.talk.encoding();
        if self.talk.ear.as_deref().is_some_and(has_changed) {
            // Names of channels are spelled in another way.
            let question = Question {
                state: true,
                ..Question::default()
            };
            match self.ask(&question, server).await?.and_then(|answer| answer.state) {
                Some(state) => self.note_channels(state.channels),
                None => return Ok(false),
            }
        }
        let ear = self.talk.ear.as_deref();
        let Some(ear) = ear.filter(|_| self.shares_listening()) else {
            return Ok(false);
        };
        let Some(marker) = ear.subscription.arm(Turn::Open) else {
            return Ok(false);
        };
        let payload = marker.payload();
        let moved = within(ANSWER_MAX, server.listen_until(ear.mark(&payload))).await;
        let Some(heard) = self.outcome(moved, &marker)? else {
            return Ok(false);
        };
        self.talk.tell_notifications(&heard, server);
        if let Some(ear) = &mut self.talk.ear {
            ear.place = Place::Hub;
        }
        Ok(true)
    }

    /// Whether the client has nothing on its server that it keeps it for, be it because it hears from the hub again.
    pub(super) async fn lets_go(&mut self, server: &mut Connection) -> Result<bool, Farewell> {
        let lets_go = match self.pin.as_ref().map(|pin| pin.remains) {
            None => true,
            Some(Remains::LISTEN) => self.move_to_hub(server).await?,
            Some(_) => false,
        };
        if lets_go {
            self.unpin();
        }
        Ok(lets_go)
    }

    /// Moves the client to its server, before a request that may have to do with what it hears.
    pub(super) async fn move_to_server(&mut self, server: &mut Connection) -> Result<(), Farewell> {
        for _ in 0..TRIES {
            let Some(ear) = self.talk.ear_on_hub() else {
                return Ok(());
            };
            let Some(marker) = ear.subscription.arm(Turn::Close) else {
                continue;
            };
            let payload = marker.payload();
            // Should the client end meanwhile, its server is cleaned of what it listens to.
            self.pin = Some(Box::new(Pin::listening()));
            let moved = server.listen_from(ear.mark(&payload), &ear.channels);
            let moved = within(ANSWER_MAX, moved).await;
            if let Some(heard) = self.outcome(moved, &marker)? {
                self.pass(&marker).await?;
                self.talk.tell_notifications(&heard, server);
                self.talk.trail.licence = Licence::Channels;
                return Ok(());
            }
        }
        self.pin = None;
        let refusal = Refusal::new(SqlState::CONNECTION_FAILURE, "a server would not listen");
        Err(Farewell::ServerLost(refusal))
    }

    /// What a server has heard; `None` if it would not move.
    fn outcome<T, E>(
        &self,
        moved: Result<Result<T, Failure>, E>,
        marker: &Marker,
    ) -> Result<Option<T>, Farewell> {
        let failure = match moved {
            Ok(Ok(heard)) => return Ok(Some(heard)),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Lost("a server did not answer in time".to_owned()),
        };
        if let Some(ear) = &self.talk.ear {
            ear.subscription.disarm(marker);
        }
        match failure {
            Failure::Sql(refusal) => {
                tracing::info!(client = self.seat.id, %refusal, "a listening client could not be moved");
                Ok(None)
            }
            Failure::Lost(why) => Err(lost(&why)),
        }
    }

    /// Waits until the hub has come to the marker, and takes what it has heard until then.
    async fn pass(&mut self, marker: &Marker) -> Result<(), Farewell> {
        let passed = poll_fn(|cx| {
            if let Err(farewell) = self.poll_attention(cx) {
                return Poll::Ready(Err(farewell));
            }
            if let Poll::Ready(Err(farewell)) = self.poll_write_client(cx) {
                return Poll::Ready(Err(farewell));
            }
            let Some(ear) = self.talk.ear.as_deref().map(|ear| &ear.subscription) else {
                return Poll::Ready(Ok(()));
            };
            ear.is_stirred(cx);
            let has_passed = ear.has_passed(marker);
            // All that is in it, once the marker was the last.
            let room = if has_passed { usize::MAX } else { HEARD_MAX };
            let room = room.saturating_sub(self.talk.output.len());
            match ear.take(&mut self.talk.output, room) {
                Err(refusal) => Poll::Ready(Err(farewell(refusal))),
                Ok(_) if has_passed => Poll::Ready(Ok(())),
                Ok(_) => Poll::Pending,
            }
        });
        within(PASSING_MAX, passed)
            .await
            .unwrap_or_else(|_| Err(lost("the connection that listens for clients is stuck")))?;
        if let Some(ear) = &mut self.talk.ear {
            ear.place = Place::Server;
        }
        Ok(())
    }
}
