//! From the server to the client.

use bytes::Buf;

use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::server::{Connection, Deallocates, Described, Note, Statement, UnnamedSlot};
use crate::sql::Bearing;
use crate::wire::backend::{self, Status};
use crate::wire::pipeline::{Outcome, Request, Route, Unexpected};
use crate::wire::scan::{self, HEADER_LEN, Header};
use crate::wire::write;

use super::deferral::Deferral;
use super::described::{DESCRIPTION_READ_MAX, describes_shared};
use super::detour::asked_by;
use super::marks::Marks;
use super::{Done, HIGH_WATER, Passing, Talk, Touched, move_on};

/// The longest error that is read; longer ones go on unread.
const ERROR_READ_MAX: usize = 64 * 1024;
/// The longest of the other messages whose meaning matters.
const SMALL_MAX: usize = 64 * 1024;

/// What the last bytes of the server brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::client) struct Heard {
    /// `ReadyForQuery` messages for the client.
    pub(in crate::client) units: u32,
    /// The server has sent one that is not.
    pub(in crate::client) ends_of_ours: bool,
}

/// The server does not speak the protocol.
pub(in crate::client) fn server_violation(what: impl std::fmt::Display) -> Farewell {
    let refusal =
        Refusal::new(SqlState::PROTOCOL_VIOLATION, "server broke the protocol").detail(what.to_string());
    Farewell::ServerProtocol(refusal)
}

impl Talk {
    /// Deals with what the server has sent, until something is missing or the client's output is full.
    pub(in crate::client) fn responses(&mut self, server: &mut Connection) -> Result<Heard, Farewell> {
        let mut heard = Heard::default();
        loop {
            self.down.pass(&mut server.input, &mut self.output);
            if server.pipeline.is_fake_next() {
                self.fakes(server);
            }
            if !self.down.is_done() || self.output.len() >= HIGH_WATER {
                return Ok(heard);
            }
            self.run_of_rows(server).map_err(server_violation)?;
            let header = scan::header(&server.input).map_err(server_violation)?;
            let Some(header) = header.filter(|header| is_ready(*header, server)) else {
                return Ok(heard);
            };
            self.response(header, server, &mut heard)?;
            self.never_begun()?;
        }
    }

    /// The messages that carry results go on together, in one copy.
    fn run_of_rows(&mut self, server: &mut Connection) -> Result<(), scan_error::ScanError> {
        if self.answers_added(server) {
            return Ok(());
        }
        let mut end = 0;
        let limit = HIGH_WATER.saturating_sub(self.output.len());
        while end < limit {
            let Some(header) = scan::header(server.input.get(end..).unwrap_or_default())? else {
                break;
            };
            if !matches!(header.tag, b'D' | b'd' | b'T' | b'2' | b'1')
                || end + header.len > server.input.len()
            {
                break;
            }
            if server.pipeline.is_carried(header.tag) {
                self.answers += 1;
                end += header.len;
                continue;
            }
            self.note_description(header, end, server);
            match self.received(header.tag, Status::Idle, server) {
                Ok(Route::Forward) => end += header.len,
                Ok(Route::Skip) => {
                    if let Some(statement) = asked_by(server).filter(|_| header.tag == b'D') {
                        let row = server.input.get(end + HEADER_LEN..end + header.len);
                        self.take_told(row.unwrap_or_default(), statement);
                    }
                    move_on(end, &mut server.input, &mut self.output);
                    server.input.advance(header.len);
                    end = 0;
                }
                Err(unexpected) => return Err(unexpected.into()),
            }
            if server.pipeline.is_fake_next() {
                break;
            }
        }
        move_on(end, &mut server.input, &mut self.output);
        if server.pipeline.is_fake_next() {
            self.fakes(server);
        }
        Ok(())
    }

    fn response(
        &mut self,
        header: Header,
        server: &mut Connection,
        heard: &mut Heard,
    ) -> Result<(), Farewell> {
        let unexpected =
            |tag: Unexpected| server_violation(format!("unexpected message {:?}", tag.0 as char));
        match header.tag {
            b'E' if header.len <= ERROR_READ_MAX => return self.error(header, server).map_err(unexpected),
            b'E' => self.has_failed(),
            b'S' => {
                let body = server
                    .input
                    .get(HEADER_LEN..header.len)
                    .unwrap_or_default()
                    .to_vec();
                let before = server.settings.reported.clone();
                server
                    .learn(&body)
                    .map_err(|failure| server_violation(failure.refusal()))?;
                if let Some(interlude) = &mut self.trail.interlude {
                    interlude.believed.get_or_insert(before);
                    // What RESET makes of it may not be what the client is going to have.
                    self.send_on(header, Route::Skip, server);
                    return Ok(());
                }
            }
            b'A' => {
                // PostgreSQL's have 8 kB at most.
                if header.len > server.input.len() {
                    return Err(server_violation(format!(
                        "a notification of {} bytes",
                        header.len
                    )));
                }
                let message = server.input.split_to(header.len);
                self.tell_notifications(&message, server);
                return Ok(());
            }
            b'N' => {
                let note = server.pipeline.head().and_then(|entry| entry.note.as_ref());
                note.inspect(|note| note.has_notices());
            }
            b'C' => return self.command_complete(header, server).map_err(unexpected),
            b's' => self.trail.has_completed(),
            b'T' | b'n' => self.note_description(header, 0, server),
            b'Z' => return self.ready_for_query(header, server, heard),
            _ => {}
        }
        let is_added = self.answers_added(server);
        let route = self
            .received(header.tag, Status::Idle, server)
            .map_err(unexpected)?;
        self.send_on(header, if is_added { Route::Skip } else { route }, server);
        Ok(())
    }

    pub(super) fn send_on(&mut self, header: Header, route: Route, server: &mut Connection) {
        self.down = match route {
            Route::Forward => Passing::Forward(header.len),
            Route::Skip => Passing::Drop(header.len),
        };
        self.down.pass(&mut server.input, &mut self.output);
    }

    fn ready_for_query(
        &mut self,
        header: Header,
        server: &mut Connection,
        heard: &mut Heard,
    ) -> Result<(), Farewell> {
        let body = server.input.get(HEADER_LEN..header.len).unwrap_or_default();
        let status = Status::parse(body).map_err(server_violation)?;
        self.trail.is_answered();
        let route = self
            .received(b'Z', status, server)
            .map_err(|tag| server_violation(format!("unexpected message {:?}", tag.0 as char)))?;
        if route == Route::Forward {
            heard.units += 1;
        } else {
            heard.ends_of_ours = true;
        }
        if !std::sync::Arc::ptr_eq(&self.reported, &server.settings.reported) {
            self.read_as(&server.settings.reported);
        }
        if let (Route::Forward, Some(interlude)) = (route, &mut self.trail.interlude) {
            interlude.held = Some(status);
            self.send_on(header, Route::Skip, server);
            return Ok(());
        }
        if !self.bounds.transactions && status != Status::Idle {
            self.send_on(header, Route::Skip, server);
            return Err(Farewell::Limit(no_transactions()));
        }
        if server.pipeline.is_settled() && !self.portals.is_empty() {
            // They end with their transaction.
            self.portals.clear();
        }
        if status == Status::Idle && self.trail.marks.is_none() && !server.pipeline.in_flight() {
            self.trail.settle(None, server);
        }
        if status == Status::Idle {
            let touched = std::mem::take(&mut self.doings.touched).max(self.touched_unseen());
            self.schema_changed(touched);
        }
        if route == Route::Forward && status == Status::Idle && self.ear.is_some() {
            // Whether the client has to go is seen once it is idle.
            let _ = self.hear_from_hub();
        }
        self.send_on(header, route, server);
        Ok(())
    }

    fn command_complete(&mut self, header: Header, server: &mut Connection) -> Result<(), Unexpected> {
        let body = server.input.get(HEADER_LEN..header.len).unwrap_or_default();
        let tag = backend::command_tag(body).unwrap_or_default();
        if self.completes_added(server) {
            self.received(b'C', Status::Idle, server)?;
            self.send_on(header, Route::Skip, server);
            return Ok(());
        }
        self.trail.has_completed();
        self.trail.is_answered();
        let everything = matches!(tag, b"DEALLOCATE ALL" | b"DISCARD ALL");
        // What a savepoint gives up is gone like after a DROP.
        let touched = match tag {
            b"ROLLBACK" => self.doings.touched,
            b"COMMIT PREPARED" if self.statements.may_change() => Touched::Schema,
            tag => touched_by(tag),
        };
        let touched = touched.max(self.touched_unseen());
        if tag == b"PREPARE TRANSACTION" && self.doings.touched > Touched::Nothing {
            self.statements.schema_may_change();
        }
        self.doings.touched = self.doings.touched.max(touched);
        self.doings.done.insert(Done::SOMETHING);
        match tag {
            b"ALTER ROLE" | b"ALTER DATABASE" => self.doings.done.insert(Done::ALTERED),
            b"RESET" | b"DISCARD ALL" => self.doings.done.insert(Done::RESET),
            b"ROLLBACK" => self.doings.done = Done::default(),
            _ => {}
        }
        self.schema_changed(touched);
        if let Some(interlude) = &mut self.trail.interlude {
            interlude.failed |= tag == b"ROLLBACK";
            interlude.discarded |= tag == b"DISCARD ALL" && server.pipeline.is_segment_open();
        }
        if everything {
            self.names.clear();
            server.prepared.forget_all();
        }
        let by_decoy = match server.pipeline.head().and_then(|entry| entry.note.as_ref()) {
            Some(Note::Query(Some(_))) => {
                self.doings.deallocated += usize::from(everything || tag == b"DEALLOCATE");
                false
            }
            Some(Note::Deallocate(freeing)) => {
                // The portal may be another one, of SQL's own making.
                self.doings.deallocated += usize::from(everything || tag == b"DEALLOCATE");
                tag == b"DEALLOCATE" && matches!(freeing.steps.first(), Some((Deallocates::All, _)))
            }
            _ => false,
        };
        let route = self.received(b'C', Status::Idle, server)?;
        if by_decoy {
            self.send_on(header, Route::Skip, server);
            write::command_complete(&mut self.output, b"DEALLOCATE ALL");
        } else {
            self.send_on(header, route, server);
        }
        Ok(())
    }

    /// What a function or block has changed, as far as words tell.
    fn touched_unseen(&mut self) -> Touched {
        let marks = self.trail.marks.as_deref_mut();
        if marks.is_some_and(Marks::take_defined) {
            Touched::Schema
        } else {
            Touched::Nothing
        }
    }

    /// What is known of the schema may have become wrong.
    fn schema_changed(&self, touched: Touched) {
        if touched >= Touched::Schema {
            self.statements.schema_changed();
        }
        if touched >= Touched::Functions {
            self.trail.functions.forget();
        }
    }

    /// The answers that are howdah's to give, as far as it is their turn.
    pub(super) fn fakes(&mut self, server: &mut Connection) {
        while let Some(entry) = server.pipeline.take_fake() {
            self.answers += 1;
            match entry.request {
                Request::Parse => write::empty(&mut self.output, b'1'),
                Request::Close => write::empty(&mut self.output, b'3'),
                other => unreachable!("{other:?} is never answered by howdah"),
            }
            if let Some(note) = entry.note {
                self.settle(note, Outcome::Done, server);
            }
        }
    }

    pub(super) fn received(
        &mut self,
        tag: u8,
        status: Status,
        server: &mut Connection,
    ) -> Result<Route, Unexpected> {
        self.answers += 1;
        // Few requests carry a note, and few answers settle more than one.
        let mut first = None;
        let mut more = Vec::new();
        let unnamed = &mut server.unnamed;
        if tag == b'E'
            && server
                .pipeline
                .head()
                .is_some_and(|head| head.request == Request::Query)
        {
            // What cannot even be read does away with nothing.
            *unnamed = UnnamedSlot::Unknown;
        }
        let route = server.pipeline.received(tag, status, |entry, outcome| {
            if entry.request == Request::Query && outcome != Outcome::Done {
                // It would have done away with the unnamed statement, which may be another client's.
                *unnamed = UnnamedSlot::Unknown;
            }
            if let Some(note) = entry.note {
                if first.is_none() {
                    first = Some((note, outcome));
                } else {
                    more.push((note, outcome));
                }
            }
        })?;
        if let Some((note, outcome)) = first {
            self.settle(note, outcome, server);
            for (note, outcome) in more {
                self.settle(note, outcome, server);
            }
        }
        Ok(route)
    }

    /// Takes over, or takes back, what was assumed when a request went out.
    fn settle(&mut self, note: Note, outcome: Outcome, server: &mut Connection) {
        let done = outcome == Outcome::Done;
        match note {
            Note::Injected(id) => {
                server.prepared.settle(id, done);
                // Otherwise it was put right.
                let is_told = server
                    .prepared
                    .get(id)
                    .is_some_and(|have| have.settings().is_some());
                if self.trail.shifted == Bearing::Meaning && !is_told {
                    server.prepared.doubt(id);
                }
            }
            Note::Evicted(statement) if !done => server.prepared.put_back(statement),
            Note::Learn {
                name,
                prepares,
                proves,
            } => {
                if let Some(statement) = prepares {
                    server.prepared.settle(statement.id, done);
                    if done && proves {
                        statement.prove();
                    }
                }
                self.settle_names([(name, None)], done);
            }
            Note::Forget((name, was)) => self.settle_names([(name, Some(was))], done),
            Note::Deallocate(freeing) => {
                let has_freed = std::mem::take(&mut self.doings.deallocated) > 0;
                self.after_freeing(*freeing, done && has_freed);
            }
            Note::Query(freeing) => {
                if done {
                    self.unnamed.settle(None);
                } else {
                    self.unnamed.undo();
                }
                if let (true, UnnamedSlot::Expects(0, _)) = (done, server.unnamed) {
                    server.unnamed = UnnamedSlot::Empty;
                }
                if let Some(freeing) = freeing {
                    self.leave_the_stage(*freeing, server);
                }
            }
            Note::Describes(id) if !done => server.prepared.describe(id, Described::Untold),
            Note::Unnamed(after) => self.settle_unnamed(after, outcome, server),
            Note::InjectedUnnamed(id) => match (outcome, server.unnamed) {
                (Outcome::Done, UnnamedSlot::Expects(expected, _)) if expected == id => {
                    server.unnamed = UnnamedSlot::of(id);
                }
                (Outcome::Done, _) => {}
                _ => server.unnamed = UnnamedSlot::Unknown,
            },
            Note::Begin if !done => self.deferral = Deferral::Failed,
            Note::Begin
            | Note::Evicted(_)
            | Note::Refuse(_)
            | Note::Alias(_)
            | Note::Asks(_)
            | Note::Lent
            | Note::Shown
            | Note::Describes(_)
            | Note::Uses { .. } => {}
        }
    }

    /// Names have been changed as was assumed, or stand for what they stood for before.
    pub(super) fn settle_names(
        &mut self,
        changed: impl IntoIterator<Item = (Box<[u8]>, Option<std::sync::Arc<Statement>>)>,
        done: bool,
    ) {
        for (name, before) in changed {
            if done {
                self.names.confirm(&name);
            } else {
                self.names.undo(&name, before);
            }
        }
    }

    fn settle_unnamed(
        &mut self,
        after: Option<std::sync::Arc<crate::server::Unnamed>>,
        outcome: Outcome,
        server: &mut Connection,
    ) {
        let id = after.as_ref().map_or(0, |unnamed| unnamed.id);
        match outcome {
            Outcome::Done => {
                if let UnnamedSlot::Expects(expected, _) = server.unnamed
                    && expected == id
                {
                    server.unnamed = UnnamedSlot::of(id);
                }
                self.unnamed.settle(after);
            }
            Outcome::Failed => {
                // A Parse that fails has dropped the old statement first.
                server.unnamed = UnnamedSlot::Unknown;
                self.unnamed.settle(None);
            }
            Outcome::Skipped => {
                server.unnamed = UnnamedSlot::Unknown;
                self.unnamed.undo();
            }
        }
    }
}

fn no_transactions() -> Refusal {
    Refusal::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "transaction blocks are not allowed in statement pooling mode",
    )
}

/// Whether so much of a message is there that it can be dealt with.
fn is_ready(header: Header, server: &Connection) -> bool {
    let whole = match header.tag {
        b'S' | b'C' | b'Z' | b'A' => header.len <= SMALL_MAX,
        b'E' => header.len <= ERROR_READ_MAX,
        b'D' => header.len <= SMALL_MAX && asked_by(server).is_some(),
        b'T' => header.len <= DESCRIPTION_READ_MAX && describes_shared(server),
        _ => false,
    };
    !whole || server.input.len() >= header.len
}

/// What a command changes, by its tag: statements mean something else then, and are prepared anew when somebody asks for
/// it.
fn touched_by(tag: &[u8]) -> Touched {
    let changes = match tag.first() {
        Some(b'A') => tag.starts_with(b"ALTER "),
        Some(b'D') => tag.starts_with(b"DROP "),
        Some(b'C') => tag.starts_with(b"CREATE "),
        Some(b'I') => tag == b"IMPORT FOREIGN SCHEMA",
        _ => false,
    };
    if !changes {
        return Touched::Nothing;
    }
    let holds_functions: [&[u8]; 6] = [
        b"FUNCTION",
        b"AGGREGATE",
        b"PROCEDURE",
        b"ROUTINE",
        b"EXTENSION",
        b"SCHEMA",
    ];
    if holds_functions.iter().any(|object| tag.ends_with(object)) {
        Touched::Functions
    } else {
        Touched::Schema
    }
}

mod scan_error {
    //! What may go wrong while rows are passed on.

    use crate::wire::WireError;
    use crate::wire::pipeline::Unexpected;

    #[derive(Debug, thiserror::Error)]
    pub(super) enum ScanError {
        #[error(transparent)]
        Wire(#[from] WireError),
        #[error("unexpected message {0:?}")]
        Unexpected(char),
    }

    impl From<Unexpected> for ScanError {
        fn from(unexpected: Unexpected) -> Self {
            Self::Unexpected(unexpected.0 as char)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_change_the_schema_are_known_by_their_tags() {
        for tag in [
            "ALTER TABLE",
            "DROP VIEW",
            "CREATE VIEW",
            "CREATE TYPE",
            "CREATE TABLE",
        ] {
            assert_eq!(touched_by(tag.as_bytes()), Touched::Schema, "{tag}");
        }
        for tag in ["SELECT 1", "DELETE 3", "DEALLOCATE", "COMMIT", "COPY 5"] {
            assert_eq!(touched_by(tag.as_bytes()), Touched::Nothing, "{tag}");
        }
        for tag in [
            "CREATE FUNCTION",
            "CREATE AGGREGATE",
            "ALTER EXTENSION",
            "DROP SCHEMA",
        ] {
            assert_eq!(touched_by(tag.as_bytes()), Touched::Functions, "{tag}");
        }
    }
}
