//! The extended query protocol, with every client's statement names kept apart from the servers'.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{Buf, BufMut};

use crate::error::{Refusal, SqlState};
use crate::server::{Connection, DECOY, Deallocates, Note, Standing, Statement, Unnamed, UnnamedSlot};
use crate::sql::Bearing;
use crate::wire::backend::Status;
use crate::wire::frontend::{self, Parse, Target};
use crate::wire::pipeline::{Answer, Request};
use crate::wire::scan::{HEADER_LEN, Header};
use crate::wire::write;

use super::names::{Known, key};
use super::quiet::{
    bind_nothing, close_on_server, close_quietly, duplicate, on_a_detour, refuse, try_name, write_parse,
};
use super::requests::{looks_like_ours, wait_for_answers};
use super::trail::{Barrier, Following, Judged};
use super::watch::{Bindable, Bound, shows_statements};
use super::{Does, Pause, Portal, Talk};

static NEXT_UNNAMED: AtomicU64 = AtomicU64::new(1);

/// Text and (no) types of the statement that an intercepted DEALLOCATE ALL becomes.
fn decoy_definition() -> Vec<u8> {
    [b"DEALLOCATE ", DECOY, b"\0\0\0"].concat()
}

impl Talk {
    pub(super) fn parse(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        self.tally.client_parses += 1;
        if header.len as u64 > self.bounds.prepared_bytes {
            self.discard(header);
            refuse(server, too_large(self.bounds.prepared_bytes));
            return Ok(());
        }
        let message = self.input.get(HEADER_LEN..header.len).unwrap_or_default();
        let shows = Parse::read(message).is_ok_and(|parse| shows_statements(parse.text));
        if shows && server.pipeline.is_quiet() {
            // Here one that cannot be prepared any more fails nothing of the client's.
            self.show_statements(server)?;
        }
        let message = self.input.get(HEADER_LEN..header.len).unwrap_or_default();
        let Ok(parse) = Parse::read(message) else {
            self.pass_on(header, Request::Parse, server);
            return Ok(());
        };
        let lent = self.lend_to_describe(parse.text, server)?;
        self.trail.lent.extend(lent);
        let segment = server.pipeline.segment();
        if parse.name.is_empty() {
            let unnamed = self.unnamed_from(parse, shows);
            self.discard(header);
            self.parse_unnamed(unnamed, server);
            return Ok(());
        }
        match self.names.get(parse.name, segment) {
            Known::Uncertain => return Err(Pause::Blocked),
            Known::Statement(_) => duplicate(parse, server),
            Known::Nothing if self.names.len() >= self.bounds.prepared => {
                refuse(server, too_many(self.bounds.prepared));
            }
            Known::Nothing if self.names.bytes() + header.len as u64 > self.bounds.prepared_bytes => {
                refuse(server, too_large(self.bounds.prepared_bytes));
            }
            Known::Nothing => {
                let statement = self.statement(&parse);
                let name = parse.name.to_vec();
                if self.trail.may_have_sql_statements() {
                    try_name(&parse, server);
                    self.names.learn(&name, statement.clone(), segment);
                } else {
                    self.parse_named(&name, statement.clone(), server)?;
                }
                self.ask_what_holds(&statement, server);
            }
        }
        self.discard(header);
        Ok(())
    }

    fn unnamed_from(&self, parse: Parse<'_>, shows_statements: bool) -> Unnamed {
        let deallocates = Deallocates::of(parse.text);
        let definition = match deallocates {
            Some(Deallocates::All) => decoy_definition().into(),
            _ => parse.definition.into(),
        };
        Unnamed {
            id: NEXT_UNNAMED.fetch_add(1, Ordering::Relaxed),
            definition,
            deallocates,
            verdict: match self.trail.judge(parse.text) {
                Judged::Inert | Judged::Passing => None,
                Judged::Marked(verdict) => Some(verdict),
            },
            shows_statements,
            settings: if self.trail.shifted == Bearing::Meaning {
                None.into()
            } else {
                OnceLock::new()
            },
        }
    }

    fn parse_unnamed(&mut self, unnamed: Unnamed, server: &mut Connection) {
        let segment = server.pipeline.segment();
        let id = unnamed.id;
        write_parse(&mut server.output, b"", &unnamed.definition);
        self.tally.server_parses += 1;
        let unnamed = Some(Arc::new(unnamed));
        self.unnamed.change(unnamed.clone(), segment);
        server.unnamed = UnnamedSlot::Expects(id, segment);
        server
            .pipeline
            .sent(Request::Parse, Answer::Forward, Some(Note::Unnamed(unnamed)));
    }

    /// A new name: the server may have the statement already, under the one name that it has everywhere.
    fn parse_named(
        &mut self,
        name: &[u8],
        statement: Arc<Statement>,
        server: &mut Connection,
    ) -> Result<(), Pause> {
        let segment = server.pipeline.segment();
        let standing = server.prepared.standing(&statement, segment);
        // In a failed transaction, or where there may be one, PostgreSQL is to say no itself.
        let proves = self.trail.shifted == Bearing::None;
        let certain =
            proves && server.pipeline.status() != Status::Failed && !server.pipeline.unit_in_flight();
        let note = |prepares| {
            Some(Note::Learn {
                name: name.into(),
                prepares,
                proves,
            })
        };
        let unsent = match standing {
            Standing::Uncertain => return Err(Pause::Blocked),
            Standing::Ready | Standing::Absent if certain && statement.is_proven() => {
                server.pipeline.sent(Request::Parse, Answer::Fake, note(None))
            }
            Standing::Ready | Standing::Stale | Standing::Absent => {
                wait_for_room(server)?;
                self.make_room_and_parse(&statement, standing, server);
                server
                    .pipeline
                    .sent(Request::Parse, Answer::Forward, note(Some(statement.clone())))
            }
        };
        debug_assert!(
            unsent.is_none(),
            "requests are discarded while the server passes over them"
        );
        self.names.learn(name, statement, segment);
        Ok(())
    }

    /// While the client holds no server: a statement that has been accepted before is accepted again.
    pub(super) fn parse_without_server(&mut self, header: Header) -> bool {
        if !self.bounds.shared || header.len as u64 > self.bounds.prepared_bytes {
            return false;
        }
        let Ok(parse) = Parse::read(self.body(header)) else {
            return false;
        };
        let bytes = self.names.bytes() + header.len as u64;
        let has_room = self.names.len() < self.bounds.prepared && bytes <= self.bounds.prepared_bytes;
        if parse.name.is_empty() || !has_room || !matches!(self.names.get(parse.name, 0), Known::Nothing) {
            return false;
        }
        let statement = self.statement(&parse);
        if !statement.is_proven() {
            return false;
        }
        let name = parse.name.to_vec();
        self.names.learn(&name, statement, 0);
        self.names.confirm(&name);
        self.tally.client_parses += 1;
        self.discard(header);
        write::empty(&mut self.output, b'1');
        true
    }

    pub(super) fn make_room_and_parse(
        &mut self,
        statement: &Arc<Statement>,
        standing: Standing,
        server: &mut Connection,
    ) {
        let segment = server.pipeline.segment();
        if standing == Standing::Absent {
            // Should a client have taken the name by a PREPARE of its own, nobody else is to suffer for it.
            close_quietly(&statement.name, server);
        } else {
            close_on_server(statement.clone(), server);
        }
        for evicted in server.prepared.insert(statement.clone(), segment) {
            close_on_server(evicted, server);
        }
        write_parse(&mut server.output, &statement.name, &statement.definition);
        self.tally.server_parses += 1;
    }

    /// What the client calls `name`. `None` if that is nothing of howdah's: then it is PostgreSQL's to say whether there
    /// is such a statement (SQL's own PREPARE makes some).
    fn known(&self, name: &[u8], server: &Connection) -> Result<Option<Arc<Statement>>, Pause> {
        match self.names.get(name, server.pipeline.segment()) {
            Known::Uncertain => Err(Pause::Blocked),
            Known::Statement(statement) => Ok(Some(statement)),
            Known::Nothing => Ok(None),
        }
    }

    /// Makes sure that the server has a statement.
    fn ensure(&mut self, statement: &Arc<Statement>, server: &mut Connection) -> Result<(), Pause> {
        let standing = match server.prepared.standing(statement, server.pipeline.segment()) {
            Standing::Ready if self.may_be_misread_again(statement, server) => Standing::Stale,
            standing => standing,
        };
        match standing {
            Standing::Uncertain => Err(Pause::Blocked),
            Standing::Ready => Ok(()),
            Standing::Stale | Standing::Absent => {
                wait_for_room(server)?;
                self.inject(statement, standing, server);
                Ok(())
            }
        }
    }

    /// Makes sure that the server's unnamed statement is this client's.
    fn ensure_unnamed(&mut self, server: &mut Connection) -> Result<(), Pause> {
        let segment = server.pipeline.segment();
        if self.unnamed.is_uncertain(segment) {
            return Err(Pause::Blocked);
        }
        match (self.unnamed.get(), server.unnamed) {
            (_, UnnamedSlot::Expects(_, other)) if other != segment => return Err(Pause::Blocked),
            (Some(unnamed), UnnamedSlot::Holds(id) | UnnamedSlot::Expects(id, _)) if unnamed.id == id => {}
            (None, UnnamedSlot::Empty | UnnamedSlot::Expects(0, _)) => {}
            (Some(unnamed), _) => {
                self.tally.server_parses += 1;
                server.unnamed = UnnamedSlot::Expects(unnamed.id, segment);
                let then = unnamed.settings.get().and_then(Option::as_ref);
                on_a_detour(
                    then.and_then(|then| self.detour_to(then, unnamed.text()))
                        .as_deref(),
                    server,
                    |server| {
                        write_parse(&mut server.output, b"", &unnamed.definition);
                        let note = Note::InjectedUnnamed(unnamed.id);
                        server.pipeline.sent(Request::Parse, Answer::Skip, Some(note));
                    },
                );
            }
            (None, _) => {
                write::close_statement(&mut server.output, b"");
                server.unnamed = UnnamedSlot::Expects(0, segment);
                server
                    .pipeline
                    .sent(Request::Close, Answer::Skip, Some(Note::InjectedUnnamed(0)));
            }
        }
        Ok(())
    }

    pub(super) fn bind(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        self.tally.binds += 1;
        let here = self.input.len().min(header.len);
        let body = self.input.get(HEADER_LEN..here).unwrap_or_default();
        let Some((portal, name)) = frontend::bind_names(body) else {
            self.pass_on(header, Request::Bind, server);
            return Ok(());
        };
        let start = HEADER_LEN + portal.len() + 1;
        let name = start..start + name.len();
        if !self.portals.is_empty() {
            let portal = portal.to_vec();
            self.forget_portal(&portal);
        }
        if name.is_empty() {
            return self.bind_unnamed(header, server);
        }
        let made_ready;
        let (statement, order) = match self.ready(self.input.get(name.clone()).unwrap_or_default(), server) {
            Some(ready) => ready,
            None => match self.make_ready(header, name.clone(), server)? {
                Some((statement, order)) => {
                    made_ready = statement;
                    (&*made_ready, order)
                }
                None => return Ok(()),
            },
        };
        let note = Note::Uses {
            id: statement.id,
            order,
        };
        let deallocates = statement.deallocates.clone();
        let out = &mut server.output;
        write::header(out, b'B', header.body_len() - name.len() + statement.name.len());
        out.put_slice(self.input.get(HEADER_LEN..start).unwrap_or_default());
        write::cstr(out, &statement.name);
        if let Some(effect) = deallocates {
            let portal = self.input.get(HEADER_LEN..start - 1).unwrap_or_default().to_vec();
            let by_decoy = false;
            self.note_portal(&portal, Does::Frees { effect, by_decoy });
        }
        self.input.advance(name.end + 1);
        self.up = super::Passing::Forward(header.len - name.end - 1);
        self.up.pass(&mut self.input, &mut server.output);
        server.pipeline.sent(Request::Bind, Answer::Forward, Some(note));
        Ok(())
    }

    fn bind_unnamed(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        if self.unnamed.is_uncertain(server.pipeline.segment()) {
            return Err(Pause::Blocked);
        }
        let unnamed = self.unnamed.get().cloned();
        let bound = unnamed.as_deref().map(Bound::Unnamed);
        let bindable = match &bound {
            Some(_) => self.watch_bind(header, bound.as_ref(), server)?,
            None => Bindable::Unmarked,
        };
        if matches!(bindable, Bindable::Refused) {
            return Ok(());
        }
        self.ensure_unnamed(server)?;
        let text = unnamed.as_deref().map_or(&[][..], Unnamed::text);
        self.mark_bound(header, text, bindable);
        let effect = self.unnamed.get().and_then(|unnamed| unnamed.deallocates.clone());
        if let Some(effect) = effect {
            let body = self.input.get(HEADER_LEN..).unwrap_or_default();
            let portal = frontend::bind_names(body).map(|(portal, _)| portal.to_vec());
            let by_decoy = effect == Deallocates::All;
            self.note_portal(&portal.unwrap_or_default(), Does::Frees { effect, by_decoy });
        }
        self.pass_on(header, Request::Bind, server);
        Ok(())
    }

    /// What the client calls `name`, and the number of that name, if nothing has to be done before it is bound. That is
    /// so nearly always, and costs neither memory nor a count of references.
    fn ready(&self, name: &[u8], server: &mut Connection) -> Option<(&Statement, u64)> {
        let segment = server.pipeline.segment();
        let (statement, order, told) = self.names.current(name, segment)?;
        let leaves_nothing =
            self.trail.following == Following::Not || statement.is_inert(self.trail.functions.version());
        let ready = leaves_nothing
            && self.trail.lent.is_empty()
            && server.prepared.standing(statement, segment) == Standing::Ready
            && told.may_be(|| server.prepared.described(statement.id))
            && !self.may_be_misread_again(statement, server);
        ready.then_some((statement, order))
    }

    /// Does what has to be done before `name`, which is at this place in the message, is bound. `None` if the Bind is
    /// dealt with.
    fn make_ready(
        &mut self,
        header: Header,
        name: std::ops::Range<usize>,
        server: &mut Connection,
    ) -> Result<Option<(Arc<Statement>, u64)>, Pause> {
        let name = self.input.get(name).unwrap_or_default().to_vec();
        let known = self.known(&name, server)?;
        let bindable = self.watch_bind(header, known.as_deref().map(Bound::Named).as_ref(), server)?;
        if matches!(bindable, Bindable::Refused) {
            return Ok(None);
        }
        if self.trail.lent.contains(&name) {
            let text = known.as_deref().map_or(&[][..], Statement::text);
            self.mark_bound(header, text, bindable);
            self.pass_on(header, Request::Bind, server);
            return Ok(None);
        }
        let Some(statement) = known else {
            self.mark_bound(header, b"", bindable);
            if looks_like_ours(&name) {
                self.discard(header);
                bind_nothing(server, Note::Alias(name.into()));
            } else {
                self.pass_on(header, Request::Bind, server);
            }
            return Ok(None);
        };
        self.ensure(&statement, server)?;
        let hears_of_it = self.describes_portal_next(header);
        let is_another = !hears_of_it && self.returns_otherwise(&name, &statement, server)?;
        if (self.names.catch_up(&name) || is_another) && !hears_of_it {
            // Its driver relies on the description of long ago: it has to hear of the change, as from PostgreSQL.
            self.discard(header);
            refuse(server, result_changed());
            return Ok(None);
        }
        self.mark_bound(header, statement.text(), bindable);
        let order = self.names.order(&name);
        Ok(Some((statement, order)))
    }

    /// Whether the message behind this one asks what the portal returns.
    fn describes_portal_next(&self, header: Header) -> bool {
        let next = self.input.get(header.len..).unwrap_or_default();
        next.first() == Some(&b'D') && next.get(HEADER_LEN) == Some(&b'P')
    }

    pub(super) fn describe(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        match Target::parse(self.body(header)) {
            Ok(Target::Statement(b"")) => {
                if let Some(unnamed) = self.unnamed.get().cloned() {
                    let lent = self.lend_to_describe(unnamed.text(), server)?;
                    self.trail.lent.extend(lent);
                }
                self.ensure_unnamed(server)?;
            }
            Ok(Target::Statement(name)) => {
                let name = name.to_vec();
                if let Some(statement) = self.known(&name, server)? {
                    let lent = self.lend_to_describe(statement.text(), server)?;
                    self.trail.lent.extend(lent);
                    self.ensure(&statement, server)?;
                    write::message(&mut server.output, b'D', |out| {
                        out.put_u8(b'S');
                        write::cstr(out, &statement.name);
                    });
                    let note = Note::Uses {
                        id: statement.id,
                        order: self.names.order(&name),
                    };
                    server
                        .pipeline
                        .sent(Request::Describe, Answer::Forward, Some(note));
                    self.discard(header);
                    return Ok(());
                }
                if looks_like_ours(&name) {
                    self.discard(header);
                    bind_nothing(server, Note::Alias(name.into()));
                    return Ok(());
                }
            }
            Ok(Target::Portal(_)) | Err(_) => {}
        }
        self.pass_on(header, Request::Describe, server);
        Ok(())
    }

    pub(super) fn close(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        let segment = server.pipeline.segment();
        match Target::parse(self.body(header)) {
            Ok(Target::Statement(b"")) => {
                self.unnamed.change(None, segment);
                self.forward(header, server);
                server.unnamed = UnnamedSlot::Expects(0, segment);
                server
                    .pipeline
                    .sent(Request::Close, Answer::Forward, Some(Note::Unnamed(None)));
            }
            Ok(Target::Statement(name)) => {
                let name = name.to_vec();
                let note = match self.names.get(&name, segment) {
                    Known::Uncertain => return Err(Pause::Blocked),
                    Known::Nothing if self.trail.may_have_sql_statements() && !looks_like_ours(&name) => {
                        self.trail.mark_release();
                        self.pass_on(header, Request::Close, server);
                        return Ok(());
                    }
                    Known::Nothing => None,
                    Known::Statement(_) => {
                        if self.trail.lent.contains(&name) {
                            // It should no longer be found; should the server pass over that, it goes at the next Sync.
                            close_quietly(&name, server);
                            self.trail.lent.remove(&name);
                            self.trail.doomed.extend([name.clone().into()]);
                        }
                        let closed = self.names.forget(&name, segment);
                        closed.map(|statement| Note::Forget((name.into(), statement)))
                    }
                };
                self.discard(header);
                server.pipeline.sent(Request::Close, Answer::Fake, note);
            }
            Ok(Target::Portal(name)) => {
                let name = name.to_vec();
                self.forget_portal(&name);
                self.pass_on(header, Request::Close, server);
            }
            Err(_) => self.pass_on(header, Request::Close, server),
        }
        Ok(())
    }

    pub(super) fn execute(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        self.trail.note_use(Barrier::AtSync);
        let portal = match frontend::execute_portal(self.body(header)) {
            Ok(portal) if !self.portals.is_empty() => portal.to_vec(),
            _ => {
                self.pass_on(header, Request::Execute, server);
                return Ok(());
            }
        };
        self.execute_known(&portal, header, server)?;
        self.lead_back_in_batch(&portal, server);
        Ok(())
    }

    /// Executes what may be one of the portals that are known of.
    fn execute_known(&mut self, portal: &[u8], header: Header, server: &mut Connection) -> Result<(), Pause> {
        let is_it =
            |known: &Portal| *known.name == *key(portal) && !matches!(known.does, Does::LeadsBack(..));
        let Some(at) = self.portals.iter().position(is_it) else {
            self.pass_on(header, Request::Execute, server);
            return Ok(());
        };
        if let Some(Does::Concerns(_)) = self.portals.get(at).map(|portal| &portal.does) {
            self.before_concerning(at, server)?;
            self.pass_on(header, Request::Execute, server);
            return Ok(());
        }
        let note = self.before_freeing(at, server)?;
        self.portals.remove(at);
        self.forward(header, server);
        server.pipeline.sent(Request::Execute, Answer::Forward, note);
        Ok(())
    }
}

/// A server that may hold no more statements is to accept those on their way, so that some of them can be closed.
fn wait_for_room(server: &mut Connection) -> Result<(), Pause> {
    if server.prepared.has_room() || !server.pipeline.in_flight() {
        Ok(())
    } else {
        Err(wait_for_answers(server))
    }
}

fn result_changed() -> Refusal {
    Refusal::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "cached plan must not change result type",
    )
}

fn too_many(limit: usize) -> Refusal {
    Refusal::new(SqlState::CONFIGURATION_LIMIT, "too many prepared statements")
        .detail(format!("max_client_prepared_statements is {limit}."))
        .hint("Deallocate statements that are no longer needed.")
}

fn too_large(limit: u64) -> Refusal {
    Refusal::new(SqlState::CONFIGURATION_LIMIT, "prepared statements are too large")
        .detail(format!("max_client_prepared_bytes is {limit}."))
}
