//! A client from login to farewell: idle, waiting for a server, holding one, and again.

mod clock;
mod defaults;
pub(super) mod listening;
mod pin;
mod relay;
pub(super) mod replication;
mod reports;
pub(super) mod settle;
mod waiting;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use crate::config::{PoolMode, PoolSettings};
use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::net::Stream;
use crate::pool::{Dirt, Lease, PinPermit, Pool, Servers, Waiter};
use crate::server::{Failure, Leftovers, Remains};
use crate::wire::write::{self, Severity};

use self::clock::Clock;
use self::pin::Pin;
use self::relay::Stop;
use self::settle::After;
use self::waiting::cancelled;
use super::clients::Seat;
use super::front::Front;
use super::handle::{Order, Taken};
use super::login::Admitted;
use super::talk::trail::{Licence, Trail};
use super::talk::{HIGH_WATER, Pause, Talk};

/// How long a client may take to read its last message.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// A client that has left more than this unread, in bytes, gets no server: so the answer of one finds room, and the
/// server goes back before it has been read.
const UNREAD_MAX: usize = HIGH_WATER / 2;
/// Servers that are tried if they turn out to be dead before anything was sent to them.
pub(super) const DEAD_SERVERS_MAX: usize = 5;

/// Why a client lets go of its server.
enum End {
    /// It needs it no longer.
    Settled,
    /// The client ends.
    Client(Farewell),
    /// The server has broken.
    Server(Farewell),
}

/// What has become of a server that is to be brought to where its client left the last one.
enum Fitted {
    /// It is there.
    Ready(Lease<Servers>),
    /// The client did not want to wait for that.
    Cancelled,
    /// It has gone.
    Lost,
}

impl End {
    fn of(farewell: Farewell) -> Self {
        match farewell {
            Farewell::ServerLost(_) => Self::Server(farewell),
            farewell => Self::Client(farewell),
        }
    }
}

/// A client that is logged in, and its pool.
pub struct Session {
    stream: Stream,
    talk: Talk,
    seat: Seat,
    front: Arc<Front>,
    pool: Arc<Pool<Servers>>,
    policy: Arc<PoolSettings>,
    clock: Clock,
    waiter: Waiter<Servers>,
    /// Why the client keeps its server, if it does.
    pin: Option<Box<Pin>>,
    /// It has been told in the log that this client keeps servers.
    has_pinned: bool,
    /// Permission to keep one, before there is a reason.
    permit: Option<PinPermit>,
    /// The next statement needs such permission first.
    wants_permit: bool,
    /// It follows so many changes of defaults.
    defaults_seen: u32,
    /// The client has been asked to leave at the next transaction boundary.
    leave: Option<Box<Refusal>>,
}

impl Session {
    pub(super) fn new(stream: Stream, input: BytesMut, front: Arc<Front>, admitted: Admitted) -> Self {
        let Admitted {
            seat,
            pool,
            settings,
            own,
            bounds,
        } = admitted;
        let trail = Trail::new(pool.source().functions.clone(), own);
        let mut talk = Talk::new(pool.source().statements.clone(), trail, bounds);
        talk.input = input;
        talk.settings = settings;
        talk.pid = seat.pid;
        let policy = pool.source().policy();
        let defaults_seen = pool.source().defaults.count();
        let mut session = Self {
            stream,
            talk,
            seat,
            front,
            pool,
            policy,
            clock: Clock::new(Instant::now()),
            waiter: Waiter::new(),
            pin: None,
            has_pinned: false,
            permit: None,
            wants_permit: false,
            defaults_seen,
            leave: None,
        };
        session.obey_policy();
        session.settings_changed();
        session.show_application_name();
        session
    }

    /// The public face of this client.
    pub fn handle(&self) -> &Arc<super::Handle> {
        &self.seat
    }

    /// Serves the client to its end, and tells it why if there is something to tell.
    pub async fn serve(mut self: Box<Self>) -> Farewell {
        let farewell = self.run().await;
        // Boxed, because idle clients should not carry around what they need at the end.
        Box::pin(self.see_off(farewell)).await
    }

    async fn see_off(mut self: Box<Self>, farewell: Farewell) -> Farewell {
        let refusal = farewell.refusal().filter(|_| self.talk.server_left.is_none());
        if let Some(refusal) = refusal
            && !self.talk.down.is_within()
        {
            write::refusal(&mut self.talk.output, Severity::Fatal, refusal);
        }
        // What the server said last is the client's, even if it will not read on.
        let last = poll_fn(|cx| self.poll_write_client(cx));
        let _ = tokio::time::timeout(FAREWELL_MAX, last).await;
        self.pool.absorb(&mut self.talk.tally);
        farewell
    }

    async fn run(&mut self) -> Farewell {
        loop {
            if let Err(farewell) = poll_fn(|cx| self.poll_idle(cx)).await {
                return farewell;
            }
            if self.wants_permit {
                self.wants_permit = false;
                match Box::pin(self.vacancy()).await {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(farewell) => return farewell,
                }
            }
            let lease = match self.server().await {
                Ok(Some(lease)) => lease,
                Ok(None) => continue,
                Err(farewell) => return farewell,
            };
            if let Err(farewell) = self.hold(lease).await {
                return farewell;
            }
        }
    }

    /// Without a server: ready when the client wants something that needs one.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Farewell>> {
        // It may have come, and what it is for, while howdah had something to ask after the last answer.
        let mut cancel = match self.obey(cx) {
            Ok(cancel) => cancel,
            Err(farewell) => return Poll::Ready(Err(farewell)),
        };
        loop {
            if let Some(farewell) = self.leaves() {
                return Poll::Ready(Err(farewell));
            }
            let is_all_heard = match self.poll_hub(cx) {
                Ok(is_all) => is_all,
                Err(farewell) => return Poll::Ready(Err(farewell)),
            };
            let unread = self.talk.input.len();
            let pause = self.talk.requests_without_server();
            if self.talk.input.len() < unread {
                self.clock.defer(self.talk.is_deferring());
            }
            if let Some(farewell) = self.leaves() {
                return Poll::Ready(Err(farewell));
            }
            let written = self.poll_write_client(cx);
            if let Poll::Ready(Err(farewell)) = written {
                return Poll::Ready(Err(farewell));
            }
            match pause {
                Pause::Over(farewell) => return Poll::Ready(Err(farewell)),
                // It would keep a server waiting for room for the next answer.
                Pause::NeedServer if written.is_pending() && self.talk.output.len() > UNREAD_MAX => {
                    return Poll::Pending;
                }
                Pause::NeedServer if cancel.is_some() && !self.talk.is_deferring() => {
                    cancel = None;
                    // Whatever it was, the next one may need no permission.
                    self.wants_permit = false;
                    self.talk.fail_request(&cancelled());
                    continue;
                }
                Pause::NeedServer | Pause::WantsPin | Pause::WantsChannels => return Poll::Ready(Ok(())),
                Pause::Full | Pause::Blocked if written.is_ready() => continue,
                Pause::Full | Pause::Blocked => return Poll::Pending,
                Pause::NeedMore if !is_all_heard && written.is_ready() => continue,
                Pause::NeedMore => {}
            }
            match self.stream.poll_fill(cx, &mut self.talk.input) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Farewell::Vanished)),
                Poll::Ready(Ok(n)) => self.talk.tally.bytes_received += n as u64,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Farewell::ClientIo(error.to_string()))),
                Poll::Pending => return self.clock.poll_idle(cx, &self.policy).map(Err),
            }
        }
    }

    /// The client has been asked to leave, and is in no transaction, not even one that no server knows of.
    fn leaves(&self) -> Option<Farewell> {
        let refusal = self.leave.as_ref().filter(|_| !self.talk.is_deferring())?;
        Some(Farewell::Administrator(Refusal::clone(refusal)))
    }

    /// Takes orders from outside. Those that can wait are kept for the next transaction boundary. One may be to cancel what
    /// the client waits for.
    fn obey(&mut self, cx: &mut Context<'_>) -> Result<Option<Taken>, Farewell> {
        let Some(orders) = self.seat.poll_orders(cx) else {
            return Ok(None);
        };
        let mut cancel = None;
        for order in orders {
            match order {
                Order::Kill(refusal) => return Err(Farewell::Administrator(refusal)),
                Order::Drain(refusal) => self.leave = Some(Box::new(refusal)),
                Order::Dequeue(taken) => cancel = Some(taken),
            }
        }
        Ok(cancel)
    }

    /// Gets a server that is set as the client left the last one. Dead ones do not count, nor does one that others have
    /// had and that cannot be set so. `None` if the client changed its mind.
    async fn server(&mut self) -> Result<Option<Lease<Servers>>, Farewell> {
        for _ in 0..DEAD_SERVERS_MAX {
            let Some(mut lease) = self.wait().await? else {
                if self.talk.is_deferring() {
                    // The transaction would have failed, but there is none.
                    return Err(Farewell::Limit(cancelled()));
                }
                self.talk.fail_request(&cancelled());
                return Ok(None);
            };
            // It is cleaned by what holds when it comes back, and may be younger than what held when the wait began.
            self.renew_policy();
            self.seat.now_holds(lease.info());
            self.follow_defaults(&mut lease);
            if !self.is_session() && lease.is_aligned_for(self.seat.id, &self.talk.settings) {
                self.tell_differences(&lease);
                self.clock.begin_lease(lease.since());
                return Ok(Some(lease));
            }
            // Boxed, because it takes room.
            match Box::pin(self.fitted(lease)).await? {
                Fitted::Ready(lease) => {
                    self.clock.begin_lease(Instant::now());
                    return Ok(Some(lease));
                }
                Fitted::Cancelled => return Ok(None),
                Fitted::Lost => {}
            }
        }
        let refusal = Refusal::new(SqlState::CONNECTION_FAILURE, "server connection was lost");
        Err(Farewell::ServerLost(refusal))
    }

    /// A server as the client left the last one; or a new one in its place, if it cannot be set so: what others have done
    /// there may stand in the way, and only the word of a new one is final.
    async fn fitted(&mut self, mut lease: Lease<Servers>) -> Result<Fitted, Farewell> {
        loop {
            match self.align(&mut lease).await {
                Ok(()) => {
                    self.tell_differences(&lease);
                    // That may have taken a while.
                    let cancel = poll_fn(|cx| Poll::Ready(self.obey(cx))).await?;
                    if cancel.is_none() || self.talk.is_deferring() {
                        return Ok(Fitted::Ready(lease));
                    }
                    self.seat.now_idles();
                    lease.release(&mut self.talk.tally);
                    self.talk.fail_request(&cancelled());
                    return Ok(Fitted::Cancelled);
                }
                Err(Failure::Sql(_)) if !lease.is_new() => {
                    self.seat.now_idles();
                    let Some(new) = lease.replaced().await else {
                        return Ok(Fitted::Lost);
                    };
                    lease = new;
                    self.seat.now_holds(lease.info());
                }
                Err(Failure::Sql(refusal)) => return Err(self.cannot_be_set(lease, refusal)),
                Err(Failure::Lost(_)) => {
                    self.seat.now_idles();
                    return Ok(Fitted::Lost);
                }
            }
        }
    }

    fn cannot_be_set(&mut self, lease: Lease<Servers>, refusal: Refusal) -> Farewell {
        self.seat.now_idles();
        lease.release_dirty(Dirt::Reset, &mut self.talk.tally);
        Farewell::Limit(reports::cannot_follow(refusal))
    }

    /// Brings a server to where this client left the last one.
    async fn align(&mut self, lease: &mut Lease<Servers>) -> Result<(), Failure> {
        lease.align_for(self.seat.id, &self.talk.settings).await?;
        if !lease.has_no_news() {
            // What it has heard of on the way may be the client's too.
            self.follow_defaults(lease);
            lease.align_for(self.seat.id, &self.talk.settings).await?;
        }
        lease.renew_plans(&self.talk.trail.functions).await?;
        if self.is_session() {
            let limited = lease.limit_idleness().await;
            limited.map_err(|failure| Failure::Lost(failure.refusal().to_string()))?;
        }
        Ok(())
    }

    /// Takes over what the pool is set to now, if that is something else.
    fn renew_policy(&mut self) {
        if let Some(policy) = self.pool.source().policy_unless(&self.policy) {
            self.policy = policy;
            self.obey_policy();
        }
    }

    /// Has it hold for all that looks at it.
    fn obey_policy(&mut self) {
        let mode = self.policy.pool_mode;
        self.talk.bounds.transactions = mode != PoolMode::Statement;
        // Who listens is told nothing within a transaction, be it one that no server knows of.
        let defers = self.policy.defer_begin && self.talk.ear.is_none();
        self.talk.allow_deferral(defers && mode == PoolMode::Transaction);
        self.talk.trail.obey(&self.policy);
    }

    /// Whether a server is the client's to its end.
    fn is_session(&self) -> bool {
        self.policy.pool_mode == PoolMode::Session
    }

    /// Uses a server until the client has no more claim to it.
    async fn hold(&mut self, mut lease: Lease<Servers>) -> Result<(), Farewell> {
        let end = loop {
            let stop = poll_fn(|cx| self.poll_relay(cx, &mut lease)).await;
            if !matches!(stop, Stop::Interlude) {
                self.keep_settings(&mut lease);
            }
            if matches!(stop, Stop::Settled)
                && !self.may_have_left_something()
                && !lease.pipeline.is_doubtful()
            {
                break End::Settled;
            }
            // Boxed, because it is rare and takes room.
            if let Some(end) = Box::pin(self.end_of_use(stop, &mut lease)).await {
                break end;
            }
        };
        let now = self.clock.now();
        lease.info().prepared.store(
            u32::try_from(lease.prepared.len()).unwrap_or(u32::MAX),
            std::sync::atomic::Ordering::Relaxed,
        );
        self.seat.set_prepared(self.talk.names.len());
        self.seat.now_idles();
        let tally = &mut self.talk.tally;
        // Something may still come of it that is nobody's: the effect of a cancel request, a notice half read.
        let cancels = lease.info().cancels.load(std::sync::atomic::Ordering::Acquire);
        let stirs = cancels > 0 || !lease.input.is_empty();
        match end {
            End::Settled if lease.pipeline.is_doubtful() => lease.report(tally),
            End::Settled if stirs || lease.leftovers != Leftovers::None => {
                lease.release_dirty(Dirt::CancelInFlight, tally);
            }
            End::Settled
                if self.policy.server_reset_query_always && !self.policy.server_reset_query.is_empty() =>
            {
                lease.release_dirty(Dirt::Reset, tally);
            }
            End::Settled => lease.release_at_rest(now, tally),
            End::Server(farewell) => {
                lease.report(tally);
                return Err(farewell);
            }
            End::Client(farewell) => {
                self.give_up(lease, &farewell);
                return Err(farewell);
            }
        }
        self.clock.begin_idle(now);
        Ok(())
    }

    fn may_have_left_something(&self) -> bool {
        self.talk.trail.marks.is_some() || self.pin.is_some()
    }

    /// Why the client lets go of its server; `None` if it does not, and the relay goes on.
    async fn end_of_use(&mut self, stop: Stop, lease: &mut Lease<Servers>) -> Option<End> {
        self.clock.let_pass();
        let stop = match stop {
            Stop::Interlude => match self.interlude(lease).await {
                // It was the end of a transaction, often of what the client has kept its server for.
                Ok(()) if lease.pipeline.is_settled() && !self.is_session() => Stop::Settled,
                Ok(()) => return None,
                Err(farewell) => return Some(End::of(farewell)),
            },
            // Nobody leaves without having been asked what there is.
            Stop::WantsPin if lease.pipeline.is_settled() && self.talk.trail.marks.is_some() => Stop::Settled,
            stop => stop,
        };
        if matches!(stop, Stop::Settled)
            && let Err(failure) = lease.dispel_doubt().await
        {
            return Some(if self.may_have_left_something() {
                End::Server(settle::lost(&failure.refusal().to_string()))
            } else {
                End::Settled
            });
        }
        let interrupted = match stop {
            Stop::Settled => match self.look_back(lease).await {
                Ok(After::Release) => return Some(End::Settled),
                Ok(After::Keep) => match self.leave.clone() {
                    Some(refusal) => Err(Farewell::Administrator(*refusal)),
                    None => Ok(()),
                },
                Err(farewell) => Err(farewell),
            },
            // It has been dealt with.
            Stop::Interlude => Ok(()),
            Stop::WantsChannels => self.move_to_server(lease).await,
            Stop::WantsPin if self.listens_freely() => {
                self.talk.trail.licence = Licence::Channels;
                Ok(())
            }
            Stop::WantsPin if lease.pipeline.is_settled() => {
                if self.try_permit() {
                    return None;
                }
                match self.lets_go(lease).await {
                    // Nobody is to wait for a server while he holds one that others wait for.
                    Ok(true) => {
                        self.wants_permit = true;
                        return Some(End::Settled);
                    }
                    Ok(false) => self.permit().await,
                    Err(farewell) => Err(farewell),
                }
            }
            Stop::WantsPin => self.permit().await,
            Stop::Client(farewell) => return Some(End::Client(farewell)),
            Stop::Server(farewell) => return Some(End::Server(farewell)),
        };
        interrupted.err().map(End::of)
    }

    /// The client ends while it holds a server.
    fn give_up(&mut self, mut lease: Lease<Servers>, farewell: &Farewell) {
        let has_lent = self.talk.has_lent();
        let tally = &mut self.talk.tally;
        let kept = self.pin.as_ref().map_or(Remains::NONE, |pin| pin.remains);
        let marks = self.talk.trail.marks.take();
        self.talk.trail.settle(marks.as_deref(), &mut lease);
        let kept = kept.union(self.talk.trail.spoilt);
        let left = kept.union(
            marks
                .as_ref()
                .map_or(Remains::NONE, |marks| marks.may_have_left()),
        );
        lease.leftovers = match marks {
            _ if !left.intersection(Remains::FOR_LIFE).is_empty() => Leftovers::Kinds(left),
            Some(_) => Leftovers::Unknown,
            None if kept.is_empty() => Leftovers::None,
            None => Leftovers::Kinds(kept),
        };
        // In the middle of a message the server could only wait for the rest. What has been put there for the client to find
        // would be there for others.
        lease.is_spent = !self.talk.up.is_done() || lease.pipeline.is_doubtful() || has_lent;
        if lease.is_spent {
            return lease.release_dirty(Dirt::Abandoned, tally);
        }
        lease.tail = self.talk.down.left();
        let dirt = match farewell {
            _ if lease.pipeline.is_settled() && lease.output.is_empty() && lease.tail == 0 => {
                if self.policy.pool_mode == PoolMode::Session {
                    Dirt::Reset
                } else {
                    Dirt::CancelInFlight
                }
            }
            // What was asked before a proper goodbye is carried out, as PostgreSQL does.
            Farewell::Terminated => Dirt::InTransaction,
            _ => Dirt::Abandoned,
        };
        lease.release_dirty(dirt, tally);
    }

    /// Writes what there is for the client, as far as it takes it.
    fn poll_write_client(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Farewell>> {
        if self.talk.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let before = self.talk.output.len();
        let result = self.stream.poll_drain(cx, &mut self.talk.output);
        self.talk.tally.bytes_sent += (before - self.talk.output.len()) as u64;
        result.map_err(|error| Farewell::ClientIo(error.to_string()))
    }
}
