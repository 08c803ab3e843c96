//! A logged-in connection: its buffers, what is in flight on it, and what is known of its session.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::{Buf, BytesMut};

use crate::error::{Refusal, SqlState};
use crate::net::{PeerAddr, Stream, TlsInfo};
use crate::sql::{Deallocation, Verdict, deallocations};
use crate::wire::backend::{self, ErrorFields, Status};
use crate::wire::pipeline::{Answer, Pipeline, Request};
use crate::wire::{WireError, write};

use super::beginning::Beginning;
use super::connect::Message;
use super::defaults::Defaults;
use super::note::{Deallocates, Note};
use super::questions::Rows;
use super::repose::Repose;
use super::statements::{NOTHING, text_of};
use super::unseen::{SOMEBODY, Unseen};
use super::{CancelKey, Prepared, Remains, Settings};

/// A row if the session has temporary replication slots, which DISCARD ALL does not drop.
const HAS_SLOTS: &[u8] = b"SELECT 1 FROM pg_catalog.pg_replication_slots WHERE temporary \
AND active_pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()";

fn doomed_by(kinds: Remains) -> Failure {
    Failure::Lost(format!("its client has left what cannot be cleaned: {kinds}"))
}

/// A client's unnamed statement.
#[derive(Debug)]
pub struct Unnamed {
    /// Unique in this process; from 1.
    pub id: u64,
    /// Text and parameter types, as in the Parse message that the server gets.
    pub definition: Box<[u8]>,
    /// What it removes when it is executed, if it is a DEALLOCATE or a DISCARD ALL.
    pub deallocates: Option<Deallocates>,
    /// What it may leave behind, if anything.
    pub verdict: Option<Box<Verdict>>,
    /// It looks at the prepared statements of its session.
    pub shows_statements: bool,
    /// The settings that it was prepared under, once others hold; `None` if nobody knows.
    pub settings: OnceLock<Option<Settings>>,
}

impl Unnamed {
    /// Other settings are going to hold than these, which it was prepared under if they were known then.
    pub fn outlives(&self, settings: &Settings) {
        self.settings.get_or_init(|| Some(settings.clone()));
    }

    /// Its text.
    pub fn text(&self) -> &[u8] {
        text_of(&self.definition)
    }
}

/// What the unnamed statement of a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnnamedSlot {
    /// There is none.
    Empty,
    /// The one of this id.
    Holds(u64),
    /// The one of this id, once the Parse that was sent in this segment has been answered.
    Expects(u64, u64),
    /// Nobody knows.
    Unknown,
}

impl UnnamedSlot {
    /// The one of this id; 0 is none.
    pub fn of(id: u64) -> Self {
        if id == 0 { Self::Empty } else { Self::Holds(id) }
    }
}

/// What a client that is gone has left on its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// Nothing, or what can be put right by settings.
    None,
    /// These kinds of state, and no others.
    Kinds(Remains),
    /// Nobody knows what.
    Unknown,
}

/// What others may know of a connection while somebody uses it.
#[derive(Debug)]
pub struct Info {
    /// Unique in this process.
    pub id: u64,
    /// The server's address.
    pub peer: PeerAddr,
    /// Our address.
    pub local: PeerAddr,
    /// Its TLS session; `None` without TLS.
    pub tls: Option<Arc<TlsInfo>>,
    /// The role that is logged in.
    pub user: String,
    /// The server's database.
    pub database: String,
    /// When it was opened.
    pub connected_at: SystemTime,
    /// How to cancel on it.
    pub cancel: CancelKey,
    /// Cancel requests that are on their way to the server.
    pub cancels: AtomicU32,
    /// The client that it serves, by id; 0 for none.
    pub client: AtomicU64,
    /// How many prepared statements it holds.
    pub prepared: AtomicU32,
}

/// Why a connection cannot be used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone(pub String);

/// Why something that howdah asked of a server failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server said no; the connection may still be good.
    Sql(Refusal),
    /// The connection broke, or the server does not speak the protocol.
    Lost(String),
}

impl Failure {
    pub(super) fn protocol(what: impl Into<String>) -> Self {
        Self::Lost(format!("unexpected {}", what.into()))
    }

    pub(super) fn wire(error: WireError) -> Self {
        Self::Lost(error.to_string())
    }

    /// What a client is told.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Sql(refusal) => refusal,
            Self::Lost(reason) => {
                Refusal::new(SqlState::CONNECTION_FAILURE, "server connection was lost").detail(reason)
            }
        }
    }
}

/// A server's error as a refusal of our own.
pub fn refusal_of(fields: ErrorFields<'_>) -> Refusal {
    let code = fields
        .get(b'C')
        .and_then(SqlState::from_bytes)
        .unwrap_or(SqlState::INTERNAL_ERROR);
    let mut refusal = Refusal::new(code, fields.text(b'M'));
    refusal.detail = fields
        .get(b'D')
        .map(|text| String::from_utf8_lossy(text).into_owned());
    refusal.hint = fields
        .get(b'H')
        .map(|text| String::from_utf8_lossy(text).into_owned());
    refusal
}

/// One connection to PostgreSQL.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// Bytes from the server that are not dealt with yet.
    pub input: BytesMut,
    /// Bytes for the server that are not written yet.
    pub output: BytesMut,
    /// What is in flight.
    pub pipeline: Pipeline<Note>,
    /// What the session is set to.
    pub settings: Settings,
    /// What it was set to when it was new.
    pub baseline: Settings,
    /// The shared statements that it has.
    pub prepared: Prepared,
    /// Its unnamed statement.
    pub unnamed: UnnamedSlot,
    /// So many bytes of the message that a client left half read are still to come.
    pub tail: usize,
    /// `NotificationResponse` messages that came while howdah itself was asking something: its client's, if it listens.
    pub notifications: BytesMut,
    /// What its last client has left there that the next one may not find.
    pub leftovers: Leftovers,
    /// It cannot serve anybody any more: it waits for the rest of a message, or may owe answers that nobody counts.
    pub is_spent: bool,
    pub(super) repose: Repose,
    pub(super) defaults: Defaults,
    pub(super) beginning: Beginning,
    pub(super) unseen: Unseen,
    pub(super) info: Option<Arc<Info>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Connection {
    pub(crate) fn new(stream: Stream, prepared_max: usize) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            pipeline: Pipeline::default(),
            settings: Settings::default(),
            baseline: Settings::default(),
            prepared: Prepared::new(prepared_max),
            unnamed: UnnamedSlot::Empty,
            tail: 0,
            notifications: BytesMut::new(),
            leftovers: Leftovers::None,
            is_spent: false,
            repose: Repose::default(),
            defaults: Defaults::default(),
            beginning: Beginning::default(),
            unseen: Unseen::default(),
            info: None,
        }
    }

    pub(super) fn logged_in(&mut self, cancel: CancelKey, user: &str, database: &str) {
        self.info = Some(Arc::new(Info {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            peer: self.stream.peer(),
            local: self.stream.local(),
            tls: self.stream.tls().cloned(),
            user: user.to_owned(),
            database: database.to_owned(),
            connected_at: SystemTime::now(),
            cancel,
            cancels: AtomicU32::new(0),
            client: AtomicU64::new(0),
            prepared: AtomicU32::new(0),
        }));
        self.baseline = self.settings.clone();
        self.begins_by_default();
    }

    /// What others may know of it.
    pub fn info(&self) -> &Arc<Info> {
        self.info
            .as_ref()
            .expect("a connection is handed out only after it has logged in")
    }

    /// Takes in a `ParameterStatus`; tells whether anything changed.
    pub fn learn(&mut self, body: &[u8]) -> Result<(), Failure> {
        let (name, value) = backend::parameter_status(body).map_err(Failure::wire)?;
        if self.settings.reported.get(name) != Some(value) {
            self.settings
                .reported
                .has_room_for(name, value)
                .map_err(Failure::wire)?;
            Arc::make_mut(&mut self.settings.reported).set(name, value);
        }
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        self.stream
            .drain(&mut self.output)
            .await
            .map_err(|error| Failure::Lost(error.to_string()))
    }

    pub(super) async fn receive(&mut self) -> Result<Message, Failure> {
        loop {
            let skipped = self.tail.min(self.input.len());
            self.input.advance(skipped);
            self.tail -= skipped;
            if self.tail == 0
                && let Some(message) = Message::take(&mut self.input)?
            {
                crate::wire::store::give_back(&mut self.input);
                return Ok(message);
            }
            match self.stream.fill(&mut self.input).await {
                Ok(0) => {
                    return Err(Failure::Lost(
                        "server closed the connection unexpectedly".to_owned(),
                    ));
                }
                Ok(_) => {}
                Err(error) => return Err(Failure::Lost(error.to_string())),
            }
        }
    }

    /// Runs SQL of howdah's own as a simple query, and throws its rows away. Nothing else may be in flight.
    pub async fn run(&mut self, sql: impl AsRef<[u8]>) -> Result<(), Failure> {
        self.send_query(sql.as_ref()).await?;
        self.wait_until_quiet(usize::MAX, |_| ()).await.map(|_| ())
    }

    /// Runs SQL of howdah's own as a simple query. Returns the rows of each statement that has any to return.
    pub(super) async fn query(&mut self, sql: &[u8]) -> Result<Vec<Rows>, Failure> {
        self.send_query(sql).await?;
        let mut results: Vec<Rows> = Vec::new();
        let mut malformed = false;
        let collect = |message: &Message| match (message.tag(), results.last_mut()) {
            (b'T', _) => results.push(Rows::new()),
            (b'D', Some(rows)) => match backend::data_row(message.body()) {
                Ok(row) => rows.push(row),
                Err(_) => malformed = true,
            },
            _ => {}
        };
        self.wait_until_quiet(usize::MAX, collect).await?;
        if malformed {
            return Err(Failure::protocol("data row"));
        }
        Ok(results)
    }

    async fn send_query(&mut self, sql: &[u8]) -> Result<(), Failure> {
        write::query(&mut self.output, sql);
        self.pipeline.sent(Request::Query, Answer::Skip, None);
        self.unnamed = UnnamedSlot::Empty;
        self.flush().await
    }

    /// Reads until everything asked has been answered, and shows `each` message; the first error is the result, once all
    /// is answered. Gives up with `false` after `bytes_max` of answers.
    pub(super) async fn wait_until_quiet(
        &mut self,
        bytes_max: usize,
        mut each: impl FnMut(&Message),
    ) -> Result<bool, Failure> {
        let mut error = None;
        let mut bytes = 0;
        loop {
            while self.pipeline.take_fake().is_some() {}
            self.end_what_is_open().await?;
            if self.pipeline.is_quiet() {
                break;
            }
            if bytes > bytes_max {
                return Ok(false);
            }
            let message = self.receive().await?;
            let (tag, body) = (message.tag(), message.body());
            bytes += body.len();
            each(&message);
            match tag {
                b'S' => self.learn(body)?,
                b'A' => self.notifications.extend_from_slice(message.bytes()),
                b'E' => {
                    let fields = ErrorFields::new(body);
                    if fields.is_fatal() {
                        return Err(Failure::Lost(refusal_of(fields).to_string()));
                    }
                    error.get_or_insert_with(|| refusal_of(fields));
                }
                _ => {}
            }
            let status = if tag == b'Z' {
                Status::parse(body).map_err(Failure::wire)?
            } else {
                Status::Idle
            };
            let unexpected = self.pipeline.received(tag, status, |_, _| ());
            unexpected.map_err(|tag| Failure::protocol(format!("message {:?}", tag.0 as char)))?;
        }
        if self.pipeline.is_doubtful() {
            return Err(Failure::protocol("end of a COPY"));
        }
        error.map_or(Ok(true), |refusal| Err(Failure::Sql(refusal)))
    }

    /// Ends copy data and segments that nobody else is going to end, whenever they come to light. What a segment has done
    /// is undone, as it is where a connection ends without its Sync.
    async fn end_what_is_open(&mut self) -> Result<(), Failure> {
        if self.pipeline.is_copying_in() {
            write::message(&mut self.output, b'f', |out| write::cstr(out, b"client is gone"));
            self.pipeline.sent(Request::CopyEnd, Answer::Skip, None);
        }
        if !self.pipeline.is_quiet() && !self.pipeline.unit_in_flight() {
            write::close_statement(&mut self.output, NOTHING);
            self.pipeline.sent(Request::Close, Answer::Skip, None);
            write::bind(&mut self.output, b"", NOTHING);
            self.pipeline.sent(Request::Bind, Answer::Skip, None);
            write::empty(&mut self.output, b'S');
            self.pipeline.sent(Request::Sync, Answer::Skip, None);
        }
        self.flush().await
    }

    /// Looks after an idle connection: ready when it is of no more use. Registers `cx` to be woken.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        loop {
            if let Err(gone) = self.hear_while_idle() {
                return Poll::Ready(gone);
            }
            match self.stream.poll_fill(cx, &mut self.input) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Gone("server closed the connection".to_owned())),
                Poll::Ready(Err(error)) => return Poll::Ready(Gone(error.to_string())),
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// Whether certainly nothing has come since it was last listened to.
    pub fn is_silent(&self) -> bool {
        self.input.is_empty() && self.stream.is_silent()
    }

    /// Takes in what came behind the last answer. Whatever it is, it is nothing that the next client has asked for.
    pub(super) fn hear_while_idle(&mut self) -> Result<(), Gone> {
        let taken = |failure: Failure| Gone(failure.refusal().to_string());
        if self.notifications.capacity() > 0 {
            self.notifications = BytesMut::new();
        }
        while let Some(message) = Message::take(&mut self.input).map_err(taken)? {
            self.heard_while_idle(&message)?;
        }
        crate::wire::store::give_back(&mut self.input);
        Ok(())
    }

    /// A configuration reload, a notice, a notification that nobody waits for; or the end.
    fn heard_while_idle(&mut self, message: &Message) -> Result<(), Gone> {
        match message.tag() {
            b'S' => {
                let (name, value) =
                    backend::parameter_status(message.body()).map_err(|error| Gone(error.to_string()))?;
                let room = self.settings.reported.has_room_for(name, value);
                room.map_err(|error| Gone(error.to_string()))?;
                let before = self.settings.reported.clone();
                Arc::make_mut(&mut self.settings.reported).set(name, value);
                self.has_set_nothing_since(&before);
                Ok(())
            }
            b'N' | b'A' => Ok(()),
            b'E' => Err(Gone(refusal_of(ErrorFields::new(message.body())).to_string())),
            other => Err(Gone(format!(
                "unexpected message {:?} on an idle connection",
                other as char
            ))),
        }
    }

    /// Ends whatever was going on for a client that is gone: copy data, an open segment, a transaction. What is in
    /// flight is carried out first, but `false` is returned, and the rest is still to do, once more than `bytes_max` of
    /// answers have come: PostgreSQL stops as well when nobody reads what it sends. Afterwards the session is idle and
    /// has no prepared statements.
    pub async fn abandon(&mut self, bytes_max: usize) -> Result<bool, Failure> {
        let was_busy = self.is_busy();
        let is_finished = self.finish(bytes_max).await?;
        if is_finished {
            self.start_over(was_busy).await?;
        }
        Ok(is_finished)
    }

    /// Whether something is in flight, or a request that has been begun is not.
    pub fn is_busy(&self) -> bool {
        self.pipeline.in_flight() || !self.pipeline.is_quiet()
    }

    /// Ends copy data and an open segment, and waits for all answers, unless there are more of them than that.
    pub async fn finish(&mut self, bytes_max: usize) -> Result<bool, Failure> {
        match self.wait_until_quiet(bytes_max, |_| ()).await {
            Err(Failure::Sql(_)) => Ok(true),
            finished => finished,
        }
    }

    /// Ends the transaction, and forgets what was prepared if the end of a client's requests has not been seen by it.
    pub async fn start_over(&mut self, was_busy: bool) -> Result<(), Failure> {
        if self.pipeline.status() != Status::Idle {
            self.run("ROLLBACK").await?;
        }
        if was_busy {
            self.run("DEALLOCATE ALL").await?;
            self.has_nothing_prepared();
        }
        Ok(())
    }

    /// Runs a reset query, after which the session counts as new; so do its prepared statements, unless the query leaves
    /// them where they are.
    pub async fn reset(&mut self, query: &str) -> Result<(), Failure> {
        if query.is_empty() {
            return Ok(());
        }
        self.run(query).await?;
        self.has_nothing_set(false);
        let freed = deallocations(query.as_bytes(), true).found;
        if freed.is_empty() {
            return Ok(());
        }
        if freed.iter().all(|found| matches!(found, Deallocation::Name(_))) {
            self.run("DEALLOCATE ALL").await?;
        }
        self.has_nothing_prepared();
        Ok(())
    }

    /// Cleans exactly what the last client has left. Fails where it cannot be cleaned.
    pub async fn clean_leftovers(&mut self) -> Result<(), Failure> {
        if self.is_crowded() {
            return Err(Failure::Lost("it has had too many custom settings".to_owned()));
        }
        let kinds = match std::mem::replace(&mut self.leftovers, Leftovers::None) {
            Leftovers::None => return Ok(()),
            Leftovers::Unknown => {
                self.run("DISCARD ALL").await?;
                self.has_nothing_set(false);
                self.has_nothing_prepared();
                self.has_unseen_of(SOMEBODY);
                return self.must_have_no_slots().await;
            }
            Leftovers::Kinds(kinds) => kinds,
        };
        let for_life = kinds.intersection(Remains::FOR_LIFE);
        if !for_life.is_empty() {
            return Err(doomed_by(for_life));
        }
        if kinds.contains(Remains::SETTING) {
            // Nobody may set it, but everybody may reset all.
            self.run("DISCARD ALL").await?;
            self.has_nothing_set(false);
            self.has_nothing_prepared();
        }
        // A role of the client's might not be allowed to, and a timeout of its could strike.
        let login = Settings {
            extra: self.baseline.extra.clone(),
            ..self.settings.clone()
        };
        self.align(&login).await?;
        for (kind, sql) in [
            (Remains::HOLD, "CLOSE ALL"),
            (Remains::TEMP, "DISCARD TEMP"),
            (Remains::LOCK, "SELECT pg_catalog.pg_advisory_unlock_all()"),
            (Remains::LISTEN, "UNLISTEN *"),
        ] {
            if kinds.contains(kind) {
                self.run(sql).await?;
            }
        }
        if kinds.contains(Remains::PREPARE) {
            self.run("DEALLOCATE ALL").await?;
            self.has_nothing_prepared();
        }
        Ok(())
    }

    /// Fails if there is what DISCARD ALL does not drop.
    pub async fn must_have_no_slots(&mut self) -> Result<(), Failure> {
        let slots = self.query(HAS_SLOTS).await?;
        match slots.into_iter().flatten().next() {
            Some(_) => Err(doomed_by(Remains::SLOT)),
            None => Ok(()),
        }
    }

    fn has_nothing_prepared(&mut self) {
        self.prepared = Prepared::new(self.prepared.max());
        self.info().prepared.store(0, Ordering::Relaxed);
    }

    /// Waits until cancel requests that are on their way have arrived, and for what they may still do.
    pub async fn outlive_cancels(&mut self) -> Result<(), Failure> {
        while self.info().cancels.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        match self.run("").await {
            Err(Failure::Sql(refusal)) if refusal.code == SqlState::QUERY_CANCELED => Ok(()),
            other => other,
        }
    }

    /// Says goodbye as far as that is possible without waiting.
    pub fn close(mut self) {
        let _ = self.stream.try_write(b"X\0\0\0\x04");
    }
}
