//! The end of a transaction that may have left something: the server is asked, and what it says follows the client or
//! keeps it where it is.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::net::within;
use crate::server::{
    Answer, Chosen, Connection, Extra, Failure, IDLE_SESSION_TIMEOUT, Leftovers, Manner, Question, Remains,
    restoring,
};
use crate::sql::{CURRENT_USER, Effects, Resets};
use crate::wire::backend::Status;
use crate::wire::write;

use super::Session;
use super::pin::Pin;
use super::reports::cannot_follow;
use crate::client::handle::PinView;
use crate::client::talk::Done;
use crate::client::talk::marks::{Interlude, Marks, Own, UNASKED};
use crate::client::talk::trail::{Following, Licence};

/// A question that a timeout of the client's own, or its cancel request, may have spoilt is asked again.
pub(super) const TRIES: usize = 5;
/// How long to wait before a client that keeps its server is asked again whether it still has to; doubled every time.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(50);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(10);
/// A custom setting that is only the trace of one is not brought to other servers by who has so many settings.
const TRACES_MAX: usize = 256;
/// How long a server may take to answer a question.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Not by this client, or not by anybody while PostgreSQL runs.
const MAY_NOT_BE_SET: [SqlState; 2] = [
    SqlState::INSUFFICIENT_PRIVILEGE,
    SqlState::CANT_CHANGE_RUNTIME_PARAM,
];

/// Whether the client keeps its server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Release,
}

impl Session {
    /// Asks the server what the client has left, if anything says that there may be something.
    pub(super) async fn look_back(&mut self, server: &mut Connection) -> Result<After, Farewell> {
        self.answer().await?;
        let mut marks = self.talk.trail.marks.take();
        let keeps = self.pin.as_ref().map_or(Remains::NONE, |pin| pin.remains);
        let now = Instant::now();
        let is_due = self.pin.as_ref().is_some_and(|pin| pin.ask_at <= now);
        if let Some(marks) = &mut marks {
            self.know_functions(marks, server).await?;
            if marks.may_be_unseen() {
                server.has_unseen_of(self.seat.id);
            }
            if marks.crowds {
                server.crowd();
            }
        }
        let functions_set = self.talk.trail.functions.customs();
        let mut question = marks
            .as_ref()
            .and_then(|marks| marks.question(&self.talk.settings, keeps, &functions_set));
        if is_due {
            question.get_or_insert_with(Question::default).state = true;
        }
        if (marks.as_ref()).is_some_and(|marks| marks.resets(IDLE_SESSION_TIMEOUT)) {
            server.may_be_as_new();
        }
        let (mut remains, mut taken) = (None, Vec::new());
        if let Some(question) = &question {
            let answer = self.ask(question, server).await?;
            let Some(mut answer) = answer else {
                self.hear_meanwhile(server);
                let after = self.keep(Remains::UNKNOWN, marks.as_deref())?;
                // What may have changed is still to be learnt.
                self.talk.trail.marks = marks;
                return Ok(after);
            };
            if let Some(marks) = &mut marks {
                self.learn_new_defaults(&mut answer, std::mem::take(&mut marks.suspects), server);
            }
            taken = self.take_over(&answer, marks.as_deref(), server);
            self.talk.trail.learn_stuck(&answer);
            if let Some(state) = answer.state {
                remains = Some(state.remains);
                self.talk.trail.sql_names = state.prepared.into_iter().collect();
                self.note_channels(state.channels);
            }
        }
        self.hear_meanwhile(server);
        self.talk.trail.settle(marks.as_deref(), server);
        let has_set = self.talk.doings.done.take(Done::SOMETHING);
        let has_reset = self.talk.doings.done.take(Done::RESET);
        if let Some(marks) = &marks {
            self.note_choices(marks, (has_set, has_reset), server);
        }
        let mut remains = remains.unwrap_or(keeps);
        remains = remains.without(UNASKED);
        remains.insert((marks.as_ref()).map_or(keeps.intersection(UNASKED), |marks| {
            marks.still_unseen(keeps, has_reset)
        }));
        remains.insert(marks.as_ref().map_or(Remains::NONE, |marks| marks.unseen()));
        remains = self.with_stuck(remains);
        if remains == Remains::LISTEN && self.move_to_hub(server).await? {
            remains = Remains::NONE;
        } else if question.is_none() && self.pin.is_some() && remains == keeps {
            return Ok(After::Keep);
        }
        self.part(remains, marks.as_deref(), &taken, server).await
    }

    /// The client keeps its server, which has again what was taken of the client's own, or what it has left there is to be
    /// taken away.
    async fn part(
        &mut self,
        remains: Remains,
        marks: Option<&Marks>,
        taken: &[Own],
        server: &mut Connection,
    ) -> Result<After, Farewell> {
        let after = self.keep(remains, marks)?;
        if after == After::Release {
            if !remains.is_empty() {
                server.leftovers = Leftovers::Kinds(remains);
            }
            return Ok(after);
        }
        if taken.is_empty() {
            return Ok(after);
        }
        let sql = restoring(taken.iter().map(|(name, value)| (&**name, &**value)), false);
        match Self::put_back(&sql.join(&b";"[..]), server).await {
            Ok(()) => {}
            Err(Failure::Lost(why)) => return Err(lost(&why)),
            Err(Failure::Sql(refusal)) => return Err(Farewell::Limit(cannot_follow(refusal))),
        }
        let is_extra = |own: &&Own| server.settings.reported.spelling(&own.0).is_none();
        let mut there = Extra::clone(&server.settings.extra);
        for (name, value) in taken.iter().filter(is_extra) {
            there.put(name, Some(value));
        }
        server.settings.extra = Arc::new(there);
        self.hear_meanwhile(server);
        Ok(after)
    }

    /// The client need not wait for what howdah asks: it is given what there is for it, as far as it takes that at once. What
    /// may be others' business is dealt with before, for they may have been waiting for it to be done.
    async fn answer(&mut self) -> Result<(), Farewell> {
        if let Some(marks) = &self.talk.trail.marks {
            if self.talk.doings.done.take(Done::ALTERED) {
                self.renew(&marks.beginners);
            }
            if !marks.suspects.is_empty() {
                return Ok(());
            }
        }
        poll_fn(|cx| match self.poll_write_client(cx) {
            Poll::Ready(Err(farewell)) => Poll::Ready(Err(farewell)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Whether there are settings that would have to be set elsewhere, and may not be.
    fn with_stuck(&self, remains: Remains) -> Remains {
        if self.talk.trail.stuck.is_empty() {
            remains.without(Remains::SETTING)
        } else {
            remains.union(Remains::SETTING)
        }
    }

    /// New sessions of these roles or databases begin with other settings: the client has altered them.
    fn renew(&self, names: &BTreeSet<Box<[u8]>>) {
        let target = self.pool.source().target();
        for name in names {
            let name = if **name == *CURRENT_USER {
                self.pool.key().user.as_bytes()
            } else {
                name
            };
            self.front.pools.renew(&target.addresses, name);
        }
    }

    /// Learns what the functions of the database do, if the client has left marks that say it is worth it.
    async fn know_functions(&mut self, marks: &mut Marks, server: &mut Connection) -> Result<(), Farewell> {
        let functions = self.talk.trail.functions.clone();
        let effects = marks.effects;
        let is_wanted = || {
            let is_new = effects.contains(Effects::UNKNOWN_FUNCTION) && functions.wants_reading();
            is_new || (effects.contains(Effects::OPAQUE) && functions.is_unread())
        };
        let read = if is_wanted() {
            functions.read(server, is_wanted).await
        } else {
            Ok(())
        };
        // Somebody else may have read them meanwhile.
        marks.look_again(&functions);
        if marks.take_defined() {
            self.talk.statements.schema_changed();
        }
        read.map_err(|failure| match failure {
            Failure::Lost(why) => lost(&why),
            Failure::Sql(refusal) => lost(&refusal.to_string()),
        })
    }

    /// What a client that listens was told while howdah itself was asking.
    fn hear_meanwhile(&mut self, server: &mut Connection) {
        let notifications = std::mem::take(&mut server.notifications);
        self.talk.tell_notifications(&notifications, server);
    }

    /// `None` if the server will not say.
    pub(super) async fn ask(
        &mut self,
        question: &Question,
        server: &mut Connection,
    ) -> Result<Option<Answer>, Farewell> {
        let mut manner = if self.talk.trail.stuck.is_empty() {
            Manner::Plain
        } else {
            Manner::Careful
        };
        for _ in 0..TRIES {
            let asked = async {
                if server.info().cancels.load(std::sync::atomic::Ordering::Acquire) > 0 {
                    server.outlive_cancels().await?;
                }
                server.ask(question, manner).await
            };
            match within(ANSWER_MAX, asked).await {
                Ok(Ok(answer)) => return Ok(Some(answer)),
                Ok(Err(Failure::Sql(refusal))) if refusal.code == SqlState::QUERY_CANCELED => {}
                Ok(Err(Failure::Sql(refusal)))
                    if MAY_NOT_BE_SET.contains(&refusal.code) && manner == Manner::Plain =>
                {
                    manner = Manner::Careful;
                }
                Ok(Err(Failure::Sql(refusal))) => {
                    tracing::debug!(client = self.seat.id, %refusal, "server does not tell what its client has left");
                    return Ok(None);
                }
                Ok(Err(Failure::Lost(why))) => return Err(lost(&why)),
                Err(_) => return Err(lost("a server did not answer in time")),
            }
        }
        Ok(None)
    }

    /// The settings that the server has now are the client's, wherever it goes on; but for those that a function or a block
    /// has reset of what it logged in with, which are told.
    fn take_over(&mut self, answer: &Answer, marks: Option<&Marks>, server: &mut Connection) -> Vec<Own> {
        let had = self.talk.settings.extra.clone();
        let own = self.talk.trail.own.clone();
        let (mut extra, mut there) = self.unnamed_settings(answer, server);
        let own_value = |name: &[u8]| {
            own.iter()
                .find(|(have, _)| **have == *name)
                .map(|(_, value)| &**value)
        };
        let has_set = self.talk.doings.done.has(Done::SOMETHING);
        // What nobody has named for certain, and others have used here, may be their trace.
        let customs = answer
            .customs
            .iter()
            .filter(|value| value.current.as_deref() != Some(b"") || !server.has_seen(&value.name));
        for value in answer.values.iter().chain(customs) {
            let is_default = value.current == value.default;
            // A custom setting that was used once is empty from then on, and never again without a value.
            let is_trace = value.name.contains(&b'.') && value.current.as_deref() == Some(b"");
            let is_nobodys = |now| server.is_at_rest_with(&value.name, now);
            let is_nobodys = value.current.as_deref().is_some_and(is_nobodys);
            // What a text has set is the client's choice, be it what it would have had anyway: that may change.
            let is_set = marks.is_some_and(|marks| marks.sets(&value.name));
            let is_choice = is_set && has_set;
            let is_news = (!is_default || is_trace || is_choice) && !is_nobodys;
            let kept = value.current.as_deref().filter(|_| is_news);
            there.put(&value.name, kept);
            // Where PostgreSQL does not say, RESET and a SET to the same value in a function cannot be told apart.
            let is_reset = answer.is_reset(&value.name).unwrap_or_else(|| {
                (answer.set.is_some() && !is_set) || marks.is_some_and(|marks| marks.is_led_back(&value.name))
            });
            // What the client has had before is what it has again, or still: its RESET has been undone.
            let is_as_before = had.get(&value.name) == value.current.as_deref();
            let restored = is_reset && is_default && !is_as_before;
            match own_value(&value.name) {
                Some(own) if restored || value.current.is_none() => extra.put(&value.name, Some(own)),
                Some(_) => extra.put(&value.name, value.current.as_deref()),
                None if is_trace && extra.len() >= TRACES_MAX => {}
                None => extra.put(&value.name, kept),
            }
        }
        server.see(&there);
        let same = extra == there;
        self.talk.settings_end();
        let mut taken = self.taken_of_reported(answer, server);
        let is_taken = |(name, value): &&Own| {
            let value = Some(&**value);
            extra.get(name) == value && there.get(name) != value
        };
        taken.extend(own.iter().filter(is_taken).cloned());
        self.talk.settings.extra = self.pool.source().intern_extra(extra);
        server.settings.extra = if same {
            self.talk.settings.extra.clone()
        } else {
            Arc::new(there)
        };
        mind_idleness(answer, server);
        self.settings_changed();
        taken
    }

    /// What the client is to have, and what the server has, by all that the question has not named.
    fn unnamed_settings(&self, answer: &Answer, server: &Connection) -> (Extra, Extra) {
        let Some(set) = &answer.set else {
            let had = Extra::clone(&self.talk.settings.extra);
            return (had.clone(), had);
        };
        let is_extra = |(name, _): &&Own| server.settings.reported.spelling(name).is_none();
        let (mut extra, mut there) = (Extra::default(), Extra::default());
        // Custom settings and the role are not among them, and have been asked for by name.
        for (name, value) in self.talk.trail.own.iter().filter(is_extra) {
            extra.put(name, Some(value));
        }
        for (name, value) in set.iter().filter(is_extra) {
            let value = Some(&**value).filter(|value| !server.is_at_rest_with(name, value));
            extra.put(name, value);
            there.put(name, value);
        }
        (extra, there)
    }

    /// The same of settings that servers report. Of the others of these, a client's choice is not set where a server has it
    /// anyway, and cannot be told from a RESET.
    fn taken_of_reported(&mut self, answer: &Answer, server: &Connection) -> Vec<Own> {
        let own = self.talk.trail.own.clone();
        let reported = &server.settings.reported;
        let mut taken = Vec::new();
        for (name, value) in own.iter().filter(|(name, _)| answer.is_reset(name) == Some(true)) {
            let name = reported
                .spelling(name)
                .filter(|name| !Chosen::of(name).is_empty());
            if let Some(name) = name.filter(|name| reported.get(name) != Some(value)) {
                Arc::make_mut(&mut self.talk.settings.reported).set(name, value);
                write::parameter_status(&mut self.talk.output, name, value);
                taken.push((name.into(), value.clone()));
            }
        }
        taken
    }

    /// Whether the client keeps its server for what there is on it.
    fn keep(&mut self, remains: Remains, marks: Option<&Marks>) -> Result<After, Farewell> {
        if remains.is_empty() {
            if let Some(pin) = self.pin.take() {
                let kept = pin.since.elapsed();
                tracing::debug!(client = self.seat.id, reason = %pin.remains, ?kept, "client needs its server no longer");
            }
            self.unpin();
            return Ok(After::Release);
        }
        let following = self.talk.trail.following;
        if !matches!(following, Following::All | Following::SettingsOnly) {
            self.unpin();
            return Ok(After::Release);
        }
        let now = Instant::now();
        let mut pin = self.pin.take().unwrap_or_else(|| Box::new(Pin::new(now)));
        pin.pause = if marks.is_some() {
            ASK_AGAIN
        } else {
            (pin.pause * 2).clamp(ASK_AGAIN, ASK_AGAIN_MAX)
        };
        pin.ask_at = now + pin.pause;
        pin.permit = pin.permit.take().or(self.permit.take());
        pin.update(remains, marks, now);
        if following == Following::All {
            self.count_pin(&mut pin, now);
        }
        let view = pin.view();
        // Whatever becomes of the client, this is what its server is cleaned of.
        self.pin = Some(pin);
        if following == Following::SettingsOnly {
            return Err(Farewell::Limit(left_behind(&view)));
        }
        if let Some(farewell) = self.overdue(now) {
            return Err(farewell);
        }
        if self.seat.pin().is_none_or(|shown| shown.remains != remains) {
            self.say_kept(remains, &view.statement);
            self.seat.set_pin(Some(view));
        }
        // Who listens moves to the hub as soon as that hears it.
        let is_permitted = self.pin.as_ref().is_some_and(|pin| pin.permit.is_some());
        self.talk.trail.licence = if remains == Remains::LISTEN && !is_permitted {
            Licence::Channels
        } else {
            Licence::Anything
        };
        Ok(After::Keep)
    }

    /// The first time is worth a line of the log; a client that does it all the time would fill it.
    fn say_kept(&mut self, remains: Remains, statement: &str) {
        let client = self.seat.id;
        // Who listens keeps it for a moment only.
        let moves = remains == Remains::LISTEN && self.talk.ear.is_some();
        if moves || std::mem::replace(&mut self.has_pinned, true) {
            tracing::debug!(client, reason = %remains, statement, "client keeps its server");
        } else {
            tracing::info!(client, reason = %remains, statement, "client keeps its server");
        }
    }

    /// The client needs no server of its own any more.
    pub(super) fn unpin(&mut self) {
        if self.pin.take().is_some() || self.seat.pin().is_some() {
            self.seat.set_pin(None);
        }
        self.permit = None;
        self.talk.trail.licence = Licence::Nothing;
        std::mem::take(&mut self.talk.trail.sql_names);
    }

    /// Before the client hears that its request is done: where RESET has taken away what it logged in with, that is
    /// put back.
    pub(super) async fn interlude(&mut self, server: &mut Connection) -> Result<(), Farewell> {
        let Some(interlude) = self.talk.trail.interlude.take() else {
            return Ok(());
        };
        let own = self.talk.trail.own.clone();
        let taken = self.taken(&interlude, &own, server).await?;
        let taken = taken.into_iter().map(|(name, value)| (&**name, &**value));
        let sql = restoring(taken, false);
        let believed = interlude.believed;
        let believed = believed.unwrap_or_else(|| server.settings.reported.clone());
        if !sql.is_empty() {
            let done = Self::put_back(&sql.join(&b";"[..]), server).await;
            done.map_err(|failure| match failure {
                Failure::Lost(why) => lost(&why),
                // Its session is not what it was promised.
                Failure::Sql(refusal) => Farewell::Limit(refusal),
            })?;
        }
        if let Some(marks) = self.talk.trail.marks.as_mut().filter(|_| !interlude.failed) {
            marks.led_back = Resets::default();
        }
        self.tell_since(&believed, server);
        self.hear_meanwhile(server);
        if interlude.held.is_some() {
            write::ready_for_query(&mut self.talk.output, server.pipeline.status().byte());
        }
        Ok(())
    }
}

impl Session {
    /// What RESET has taken away of the client's own.
    async fn taken<'o>(
        &self,
        interlude: &'o Interlude,
        own: &'o [Own],
        server: &mut Connection,
    ) -> Result<Vec<&'o Own>, Farewell> {
        let before = &self.talk.settings.reported;
        let (mut taken, mut unclear, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for own in interlude.restores(own) {
            let (name, value) = own;
            let now = &server.settings.reported;
            match now.spelling(name) {
                // It asked for what it would have had anyway, as drivers do with their encoding.
                Some(name) if now.get(name) == Some(value) => {}
                // What has failed has been undone, but not DISCARD ALL, which is a transaction of its own.
                Some(name) if interlude.failed && now.get(name) == before.get(name) => {}
                // It has been set behind that, or led to a default that nobody has heard of.
                Some(name) if now.get(name) != server.defaults().get(name) => {
                    names.push(Box::from(name));
                    unclear.push(own);
                }
                None if interlude.failed => {}
                _ => taken.push(own),
            }
        }
        if names.is_empty() || server.pipeline.status() == Status::Failed {
            return Ok(taken);
        }
        let reset = match server.found_reset(&names).await {
            Ok(reset) => reset,
            Err(Failure::Sql(_)) => Vec::new(),
            Err(Failure::Lost(why)) => return Err(lost(&why)),
        };
        let found = names.iter().zip(unclear).filter(|(name, _)| reset.contains(name));
        taken.extend(found.map(|(_, own)| own));
        Ok(taken)
    }

    /// Runs SQL of howdah's own which the client's cancel request must not hit.
    async fn put_back(sql: &[u8], server: &mut Connection) -> Result<(), Failure> {
        let mut done = Ok(());
        for _ in 0..TRIES {
            if server.info().cancels.load(std::sync::atomic::Ordering::Acquire) > 0 {
                server.outlive_cancels().await?;
            }
            done = server.run(sql).await;
            if !matches!(&done, Err(Failure::Sql(refusal)) if refusal.code == SqlState::QUERY_CANCELED) {
                break;
            }
        }
        done
    }
}

/// The server may have got another limit on its idleness by what it has answered about.
fn mind_idleness(answer: &Answer, server: &mut Connection) {
    let mut asked = answer.values.iter();
    let asked = asked.any(|value| *value.name == *IDLE_SESSION_TIMEOUT);
    if asked || server.settings.extra.get(IDLE_SESSION_TIMEOUT).is_some() {
        server.disturb();
    }
    if let Some(set) = &answer.set
        && !set
            .iter()
            .any(|(name, value)| server.is_at_rest_with(name, value))
    {
        server.may_be_as_new();
    }
}

pub(super) fn lost(why: &str) -> Farewell {
    let refusal = Refusal::new(SqlState::CONNECTION_FAILURE, "server connection was lost");
    Farewell::ServerLost(refusal.detail(why.to_owned()))
}

/// A statement that did not say so has left what may not be left: who cannot have it back shall know.
fn left_behind(view: &PinView) -> Refusal {
    let PinView {
        remains, statement, ..
    } = view;
    Refusal::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "terminating connection because a statement has left session state behind",
    )
    .detail(format!(
        "This cannot follow the client to another server: {remains}. It was left by: {statement}"
    ))
    .hint("session_state = \"follow\" lets clients keep a server for as long as such state exists.")
}
