//! From the client to the server.

use crate::error::Refusal;
use crate::farewell::Farewell;
use crate::server::{Connection, Deallocates, Forgotten, NAME_PREFIX, NOTHING, Note, UnnamedSlot};
use crate::sql::{Deallocation, contains_name, deallocation};
use crate::wire::backend::Status;
use crate::wire::frontend::{self, Target};
use crate::wire::pipeline::{Answer, Request};
use crate::wire::scan::Header;
use crate::wire::write::{self, Severity};

use super::names::Known;
use super::quiet::{close_quietly, hide_shared, lend, prepare_empty};
use super::trail::{Barrier, Judged};
use super::watch::Watched;
use super::{Batch, HIGH_WATER, Pause, QUERY_LOOK_MAX, Talk};

impl Talk {
    /// Deals with what the client has sent while it holds no server: the few messages that need none.
    pub(in crate::client) fn requests_without_server(&mut self) -> Pause {
        loop {
            if self.output.len() >= HIGH_WATER {
                return Pause::Full;
            }
            self.up.pass(&mut self.input, &mut self.output);
            if !self.up.is_done() {
                return Pause::NeedMore;
            }
            let header = match self.next() {
                Ok(header) => header,
                Err(pause) => return pause,
            };
            match header.tag {
                b'X' => return Pause::Over(Farewell::Terminated),
                tag if self.batch == Batch::Refused && tag != b'S' => self.discard(header),
                // "will simply be dropped", as the manual says of late copy data; a Flush has nothing to flush.
                b'd' | b'c' | b'f' | b'H' => self.discard(header),
                b'S' => {
                    self.batch = Batch::Served;
                    self.discard(header);
                    let status = self.status_without_server();
                    write::ready_for_query(&mut self.output, status.byte());
                }
                b'C' if self.close_without_server(header) => {}
                b'P' if self.parse_without_server(header) => {}
                b'Q' if self.transact_without_server(header) => {}
                b'Q' if self.deallocate_without_server(header) => {}
                // A client that stops within a message should keep no server from others meanwhile.
                _ if header.len <= QUERY_LOOK_MAX && self.input.len() < header.len => return Pause::NeedMore,
                _ => return Pause::NeedServer,
            }
        }
    }

    /// Fails the request for which no server could be had, as PostgreSQL fails one: the session goes on.
    pub(in crate::client) fn fail_request(&mut self, refusal: &Refusal) {
        write::refusal(&mut self.output, Severity::Error, refusal);
        match self.next() {
            Ok(header) if matches!(header.tag, b'Q' | b'F') => {
                self.discard(header);
                write::ready_for_query(&mut self.output, Status::Idle.byte());
            }
            _ => self.batch = Batch::Refused,
        }
    }

    /// A Close of a named statement concerns this client's names only.
    fn close_without_server(&mut self, header: Header) -> bool {
        let name = match Target::parse(self.body(header)) {
            Ok(Target::Statement(name)) if self.bounds.shared && !name.is_empty() => name.to_vec(),
            _ => return false,
        };
        self.names.remove(&name);
        self.discard(header);
        write::empty(&mut self.output, b'3');
        true
    }

    fn deallocate_without_server(&mut self, header: Header) -> bool {
        let done = match self.deallocation_in(header) {
            Some((Deallocates::All, _)) if self.trail.may_have_sql_statements() => false,
            Some((effect, true)) => self.deallocate_now(&effect, self.status_without_server()),
            _ => false,
        };
        if done {
            self.discard(header);
        }
        done
    }

    /// Deals with what the client has sent, until something is missing.
    pub(in crate::client) fn requests(&mut self, server: &mut Connection) -> Pause {
        self.begin_at_last(server);
        loop {
            if server.output.len() >= HIGH_WATER || self.output.len() >= HIGH_WATER {
                return Pause::Full;
            }
            self.up.pass(&mut self.input, &mut server.output);
            if !self.up.is_done() {
                return Pause::NeedMore;
            }
            if server.pipeline.is_full() || self.is_barred(server) {
                return wait_for_answers(server);
            }
            if let Err(pause) = self.next().and_then(|header| self.request(header, server)) {
                return pause;
            }
        }
    }

    fn request(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        if self.wants_channels(server) {
            return Err(if server.pipeline.in_flight() {
                wait_for_answers(server)
            } else {
                Pause::WantsChannels
            });
        }
        if server.pipeline.is_skipping() && !matches!(header.tag, b'S' | b'X') {
            // The server would pass over it as well.
            self.discard(header);
            return Ok(());
        }
        match header.tag {
            // Late copy data, and nothing to flush: PostgreSQL would drop it too, but only once all of it is there.
            b'H' | b'd' | b'c' | b'f' if server.pipeline.is_quiet() => self.discard(header),
            // It makes the COPY fail and is forgotten, whatever it is.
            b'Q' | b'F' | b'P' | b'B' | b'D' | b'C' | b'E' if server.pipeline.is_copying_in() => {
                self.pass_on(header, Request::Query, server);
            }
            b'Q' => self.query(header, server)?,
            b'P' if self.bounds.shared => self.parse(header, server)?,
            b'B' if self.bounds.shared => self.bind(header, server)?,
            b'D' if self.bounds.shared => self.describe(header, server)?,
            b'C' if self.bounds.shared => self.close(header, server)?,
            b'E' if self.bounds.shared => self.execute(header, server)?,
            b'P' => self.pass_on(header, Request::Parse, server),
            b'B' => self.pass_on(header, Request::Bind, server),
            b'D' => self.pass_on(header, Request::Describe, server),
            b'C' => self.pass_on(header, Request::Close, server),
            b'E' => self.pass_on(header, Request::Execute, server),
            b'S' => {
                self.close_barrier();
                self.pass_on(header, Request::Sync, server);
                let lent = std::mem::take(&mut self.trail.lent);
                if !lent.is_empty() {
                    for name in &lent {
                        close_quietly(name, server);
                    }
                    sync(server);
                }
            }
            b'F' => self.call_function(header, server)?,
            b'H' | b'd' => self.forward(header, server),
            b'c' | b'f' => self.pass_on(header, Request::CopyEnd, server),
            b'X' => return Err(Pause::Over(Farewell::Terminated)),
            _ => unreachable!("Talk::next refuses other types"),
        }
        Ok(())
    }

    /// A request that goes on as it is and carries no note.
    pub(super) fn pass_on(&mut self, header: Header, request: Request, server: &mut Connection) {
        self.forward(header, server);
        server.pipeline.sent(request, Answer::Forward, None);
    }

    /// A function by its number, which may do anything.
    fn call_function(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        if let Judged::Marked(verdict) = self.trail.unread() {
            if server.pipeline.in_flight() {
                return Err(wait_for_answers(server));
            }
            self.trail.mark(&verdict, b"", Barrier::Now);
        }
        self.pass_on(header, Request::Function, server);
        Ok(())
    }

    fn query(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        let (lent, hides) = match self.watch_query(header, server)? {
            Watched::Refused => return Ok(()),
            Watched::Plain => (Vec::new(), false),
            // What is sent behind the query would be taken for copy data.
            Watched::Lends(_) | Watched::Shows(_) if self.may_copy_in(header) => (Vec::new(), false),
            Watched::Lends(lent) => (lent, false),
            Watched::Shows(lent) => (lent, true),
        };
        let found = self.deallocation_in(header);
        let meddles = self.speaks_of_ours(header);
        if (found.is_some() || meddles) && server.pipeline.in_flight() {
            return Err(wait_for_answers(server));
        }
        if meddles {
            server.prepared.forget_all();
        }
        // Within a segment the server has to hear of it, because a Query ends the implicit transaction.
        let alone = server.pipeline.is_quiet();
        if let Some((effect, true)) = &found
            && alone
            && (*effect != Deallocates::All || !self.trail.may_have_sql_statements())
            && self.deallocate_now(effect, server.pipeline.status())
        {
            self.discard(header);
            return Ok(());
        }
        let known = |name: &[u8]| !matches!(self.names.get(name, 0), Known::Nothing);
        let (name, effect) = match found {
            Some((Deallocates::Name(name), true)) if !known(&name) && looks_like_ours(&name) => {
                self.discard(header);
                self.deallocate_nothing(name, server);
                return Ok(());
            }
            Some((Deallocates::Name(name), _)) if !known(&name) => (None, None),
            // What is sent behind the query would be taken for copy data.
            Some((Deallocates::Name(_), _)) if self.may_copy_in(header) => (None, None),
            Some((effect @ Deallocates::All, _)) => (None, Some(effect)),
            Some((Deallocates::Name(name), _)) => (Some(name.clone()), Some(Deallocates::Name(name))),
            None => (None, None),
        };
        if let Some(name) = &name {
            // It is to find a statement of that name, whichever way it goes about it, and to leave none.
            prepare_empty(name, server);
        }
        if hides {
            hide_shared(server);
        }
        lend(&lent, server);
        let helped = hides || name.is_some() || !lent.is_empty();
        if helped && alone {
            sync(server);
        }
        let forgets = match &effect {
            Some(effect) => self.forget(effect, server.pipeline.segment())?,
            None => Vec::new(),
        };
        self.unnamed.change(None, server.pipeline.segment());
        let note = Note::Query {
            alias: name.clone(),
            forgets,
        };
        self.forward(header, server);
        server.unnamed = UnnamedSlot::Expects(0, server.pipeline.segment());
        server.pipeline.sent(Request::Query, Answer::Forward, Some(note));
        let taken_back = name.iter().chain(lent.iter().map(|(name, _)| name));
        taken_back.for_each(|name| close_quietly(name, server));
        if helped {
            sync(server);
        }
        Ok(())
    }

    /// Takes away the names that a DEALLOCATE on its way is about to remove.
    pub(super) fn forget(&mut self, effect: &Deallocates, segment: u64) -> Result<Vec<Forgotten>, Pause> {
        match effect {
            Deallocates::All => self.names.forget_all(segment).ok_or(Pause::Blocked),
            Deallocates::Name(name) => {
                let was = self.names.forget(name, segment);
                Ok(was.map(|was| (name.clone(), was)).into_iter().collect())
            }
        }
    }

    fn may_copy_in(&self, header: Header) -> bool {
        let mut words = self.body(header).windows(5);
        words.any(|word| word.eq_ignore_ascii_case(b"stdin"))
    }

    /// A DEALLOCATE of a name that only howdah may give: the server is to say that this client has no such statement.
    fn deallocate_nothing(&mut self, name: Box<[u8]>, server: &mut Connection) {
        close_quietly(NOTHING, server);
        write::query(&mut server.output, &[b"DEALLOCATE ", NOTHING].concat());
        self.unnamed.change(None, server.pipeline.segment());
        let note = Note::Query {
            alias: Some(name),
            forgets: Vec::new(),
        };
        server.unnamed = UnnamedSlot::Expects(0, server.pipeline.segment());
        server.pipeline.sent(Request::Query, Answer::Forward, Some(note));
    }

    /// Whether a simple query has a word in it that might be the name of a shared statement, to do who knows what with.
    fn speaks_of_ours(&self, header: Header) -> bool {
        let looked_at = self.bounds.shared && header.len <= QUERY_LOOK_MAX;
        looked_at && contains_name(self.body(header), NAME_PREFIX.as_bytes())
    }

    /// What a simple query deallocates, and whether it does nothing else.
    fn deallocation_in(&self, header: Header) -> Option<(Deallocates, bool)> {
        if !self.bounds.shared || header.len > QUERY_LOOK_MAX {
            return None;
        }
        let text = frontend::query_text(self.body(header)).ok()?;
        match deallocation(text, true) {
            Deallocation::All { sole } => Some((Deallocates::All, sole)),
            Deallocation::Name { name, sole } => Some((Deallocates::Name(name.into_owned().into()), sole)),
            Deallocation::DiscardAll { .. } => Some((Deallocates::All, false)),
            _ => None,
        }
    }

    /// Carries out a DEALLOCATE of this client's names, as PostgreSQL would in this transaction status. False if it is
    /// not about them.
    fn deallocate_now(&mut self, effect: &Deallocates, status: Status) -> bool {
        if status == Status::Failed {
            // PostgreSQL is to say that the transaction is aborted.
            return false;
        }
        match effect {
            Deallocates::All => {
                self.names.clear();
                self.answer_query(b"DEALLOCATE ALL", status.byte());
            }
            Deallocates::Name(name) => {
                if matches!(self.names.get(name, 0), Known::Nothing) {
                    return false;
                }
                self.names.remove(name);
                self.answer_query(b"DEALLOCATE", status.byte());
            }
        }
        self.unnamed.clear();
        true
    }
}

fn sync(server: &mut Connection) {
    write::empty(&mut server.output, b'S');
    server.pipeline.sent(Request::Sync, Answer::Skip, None);
}

/// Nothing goes on before something has been answered; the server is not to sit on its answers meanwhile.
pub(super) fn wait_for_answers(server: &mut Connection) -> Pause {
    if server.pipeline.take_flush() {
        write::empty(&mut server.output, b'H');
    }
    Pause::Blocked
}

/// Whether a client's name could be mistaken for one of ours on a server.
pub(super) fn looks_like_ours(name: &[u8]) -> bool {
    name.starts_with(NAME_PREFIX.as_bytes())
}
