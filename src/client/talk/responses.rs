//! From the server to the client.

use bytes::{Buf, BufMut};

use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::server::{Connection, Deallocates, NAME_PREFIX, Note, Statement, UnnamedSlot, refusal_of};
use crate::sql::Bearing;
use crate::stats::ErrorClass;
use crate::wire::backend::{self, ErrorFields, Status};
use crate::wire::pipeline::{Outcome, Request, Route, Unexpected};
use crate::wire::scan::{self, HEADER_LEN, Header};
use crate::wire::write::{self, Severity};

use super::deferral::Deferral;
use super::{HIGH_WATER, Passing, Talk, Touched, move_on};

/// The longest error that is read; longer ones go on unread.
const ERROR_READ_MAX: usize = 64 * 1024;
/// Errors that name a prepared statement: there is none, there is one, it wants other parameters.
const NAMING: [&[u8]; 3] = [b"26000", b"42P05", b"08P01"];
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
            let Some(header) = header.filter(|header| is_ready(*header, server.input.len())) else {
                return Ok(heard);
            };
            self.response(header, server, &mut heard)?;
            self.never_begun()?;
        }
    }

    /// The messages that carry results go on together, in one copy.
    fn run_of_rows(&mut self, server: &mut Connection) -> Result<(), scan_error::ScanError> {
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
            match self.received(header.tag, Status::Idle, server) {
                Ok(Route::Forward) => end += header.len,
                Ok(Route::Skip) => {
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
            b'Z' => return self.ready_for_query(header, server, heard),
            _ => {}
        }
        let route = self
            .received(header.tag, Status::Idle, server)
            .map_err(unexpected)?;
        self.send_on(header, route, server);
        Ok(())
    }

    fn send_on(&mut self, header: Header, route: Route, server: &mut Connection) {
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
        if server.pipeline.is_settled() {
            // They end with their transaction.
            self.portals.clear();
        }
        if status == Status::Idle && self.trail.marks.is_none() && !server.pipeline.in_flight() {
            self.trail.shifted = Bearing::None;
        }
        if status == Status::Idle {
            let touched = std::mem::take(&mut self.doings.touched);
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
        self.trail.has_completed();
        let everything = matches!(tag, b"DEALLOCATE ALL" | b"DISCARD ALL");
        // What a savepoint gives up is gone like after a DROP.
        let touched = match tag {
            b"ROLLBACK" => self.doings.touched,
            tag => touched_by(tag),
        };
        self.doings.touched = self.doings.touched.max(touched);
        match tag {
            b"ALTER ROLE" | b"ALTER DATABASE" => self.doings.altered = true,
            b"RESET" | b"DISCARD ALL" => self.doings.reset = true,
            b"ROLLBACK" => self.doings.take_back(),
            _ => {}
        }
        self.schema_changed(touched);
        if let Some(interlude) = &mut self.trail.interlude {
            interlude.failed |= tag == b"ROLLBACK";
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

    /// What is known of the schema may have become wrong.
    fn schema_changed(&self, touched: Touched) {
        if touched >= Touched::Schema {
            self.statements.schema_changed();
        }
        if touched >= Touched::Functions {
            self.trail.functions.forget();
        }
    }

    fn error(&mut self, header: Header, server: &mut Connection) -> Result<(), Unexpected> {
        let body = server
            .input
            .get(HEADER_LEN..header.len)
            .unwrap_or_default()
            .to_vec();
        let fields = ErrorFields::new(&body);
        if fields.is_fatal() {
            self.server_left = Some(Box::new(refusal_of(fields)));
        }
        if let Some(interlude) = &mut self.trail.interlude {
            interlude.failed = true;
        }
        self.doings.take_back();
        self.trail.alter_none();
        if let Some(Note::Lent) = server.pipeline.head().and_then(|entry| entry.note.as_ref()) {
            // It is the client's error if the client's query comes to need the statement.
            self.trail.excuse(body);
            self.received(b'E', Status::Idle, server)?;
            self.send_on(header, Route::Skip, server);
            return Ok(());
        }
        self.tally
            .error(ErrorClass::of(fields.get(b'C').unwrap_or_default()));
        let code = fields.get(b'C').unwrap_or_default();
        if code == b"0A000" && fields.get(b'R') == Some(b"RevalidateCachedQuery") {
            self.plan_is_stale(server);
        }
        let (refusal, alias) = match server.pipeline.head().and_then(|entry| entry.note.as_ref()) {
            Some(Note::Refuse(refusal)) if code == b"26000" => (Some(refusal.clone()), None),
            Some(Note::Alias(name)) => (None, Some(name.clone())),
            _ => (None, None),
        };
        let order = match server.pipeline.head().and_then(|entry| entry.note.as_ref()) {
            Some(Note::Uses { order, .. }) => Some(*order),
            _ => None,
        };
        let ours = NAMING.contains(&code) && memchr::memmem::find(&body, NAME_PREFIX.as_bytes()).is_some();
        if ours && code == b"26000" && refusal.is_none() && alias.is_none() {
            // A function may have deallocated what we had prepared, or the client may have made the error up.
            server.prepared.doubt_all();
        }
        self.received(b'E', Status::Idle, server)?;
        if let Some(excuse) = self.trail.excuse_for(code) {
            self.send_on(header, Route::Skip, server);
            write::message(&mut self.output, b'E', |out| out.put_slice(&excuse));
        } else if let Some(refusal) = refusal {
            self.send_on(header, Route::Skip, server);
            write::refusal(&mut self.output, Severity::Error, &refusal);
        } else if ours {
            self.send_on(header, Route::Skip, server);
            self.error_in_clients_words(fields, alias.as_deref(), order);
        } else {
            self.send_on(header, Route::Forward, server);
        }
        Ok(())
    }

    /// Somebody changed the schema: whoever prepares anew gets a new plan, and nobody keeps the old one.
    fn plan_is_stale(&mut self, server: &Connection) {
        self.statements.schema_changed();
        let head = server.pipeline.head().and_then(|entry| entry.note.as_ref());
        if let Some(Note::Uses { id, order }) = head {
            let statement = server.prepared.get(*id).or_else(|| self.names.statement(*id));
            statement.inspect(|statement| statement.result_changed());
            if let Some(name) = self.names.name_of(*id, Some(*order)).map(<[u8]>::to_vec) {
                self.names.catch_up(&name);
            }
        }
    }

    /// An error that speaks of a statement by its name on the server is told with the client's name for it.
    fn error_in_clients_words(&mut self, fields: ErrorFields<'_>, alias: Option<&[u8]>, order: Option<u64>) {
        let names = &self.names;
        let name_of = |id| alias.or_else(|| names.name_of(id, order));
        write::message(&mut self.output, b'E', |out| {
            for (code, text) in fields.iter() {
                out.put_u8(code);
                write::cstr(out, &translate(text, name_of));
            }
            out.put_u8(0);
        });
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

    fn received(&mut self, tag: u8, status: Status, server: &mut Connection) -> Result<Route, Unexpected> {
        self.answers += 1;
        // Few requests carry a note, and few answers settle more than one.
        let mut first = None;
        let mut more = Vec::new();
        let unnamed = &mut server.unnamed;
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
        for (note, outcome) in first.into_iter().chain(more) {
            self.settle(note, outcome, server);
        }
        Ok(route)
    }

    /// Takes over, or takes back, what was assumed when a request went out.
    fn settle(&mut self, note: Note, outcome: Outcome, server: &mut Connection) {
        let done = outcome == Outcome::Done;
        match note {
            Note::Injected(id) => server.prepared.settle(id, done),
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
            | Note::Lent
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
fn is_ready(header: Header, here: usize) -> bool {
    let whole = match header.tag {
        b'S' | b'C' | b'Z' | b'A' => header.len <= SMALL_MAX,
        b'E' => header.len <= ERROR_READ_MAX,
        _ => false,
    };
    !whole || here >= header.len
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
    let holds_functions: [&[u8]; 5] = [b"FUNCTION", b"PROCEDURE", b"ROUTINE", b"EXTENSION", b"SCHEMA"];
    if holds_functions.iter().any(|object| tag.ends_with(object)) {
        Touched::Functions
    } else {
        Touched::Schema
    }
}

/// Replaces names of ours by those that `name_of` knows.
fn translate<'a>(text: &[u8], name_of: impl Fn(u64) -> Option<&'a [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, NAME_PREFIX.as_bytes()) {
        let (before, found) = rest.split_at(at);
        out.extend_from_slice(before);
        let tail = found.get(NAME_PREFIX.len()..).unwrap_or_default();
        let digits = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let id = tail
            .get(..digits)
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let end = NAME_PREFIX.len() + digits;
        out.extend_from_slice(id.and_then(&name_of).or(found.get(..end)).unwrap_or_default());
        rest = found.get(end..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
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
    fn errors_speak_of_statements_by_the_clients_name() {
        let name_of = |id| (id == 12).then_some(&b"mine"[..]);
        let text = br#"prepared statement "howdah_12" is not "howdah_13", see howdah_"#;
        let told = br#"prepared statement "mine" is not "howdah_13", see howdah_"#;
        assert_eq!(translate(text, name_of), told);
    }

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
        for tag in ["CREATE FUNCTION", "ALTER EXTENSION", "DROP SCHEMA"] {
            assert_eq!(touched_by(tag.as_bytes()), Touched::Functions, "{tag}");
        }
    }
}
