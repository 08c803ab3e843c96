//! From the client to the server.

use std::sync::Arc;

use crate::error::Refusal;
use crate::farewell::Farewell;
use crate::server::{Connection, NAME_PREFIX, NOTHING, Note, Unnamed, UnnamedSlot};
use crate::sql::{Deallocation, deallocation};
use crate::wire::backend::Status;
use crate::wire::frontend::{self, Target};
use crate::wire::pipeline::{Answer, Request};
use crate::wire::scan::Header;
use crate::wire::write::{self, Severity};

use super::extended::{close_quietly, prepare_empty};
use super::names::Known;
use super::talk::{HIGH_WATER, Pause, QUERY_LOOK_MAX, Talk};

impl Talk {
    /// Deals with what the client has sent while it holds no server: the few messages that need none.
    pub(super) fn requests_without_server(&mut self) -> Pause {
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
                tag if self.skips_to_sync && tag != b'S' => self.discard(header),
                // "will simply be dropped", as the manual says of late copy data; a Flush has nothing to flush.
                b'd' | b'c' | b'f' | b'H' => self.discard(header),
                b'S' => {
                    self.skips_to_sync = false;
                    self.discard(header);
                    write::ready_for_query(&mut self.output, Status::Idle.byte());
                }
                b'C' if self.close_without_server(header) => {}
                b'P' if self.parse_without_server(header) => {}
                b'Q' if self.deallocate_without_server(header) => {}
                _ => return Pause::NeedServer,
            }
        }
    }

    /// Fails the request for which no server could be had, as PostgreSQL fails one: the session goes on.
    pub(super) fn fail_request(&mut self, refusal: &Refusal) {
        write::refusal(&mut self.output, Severity::Error, refusal);
        match self.next() {
            Ok(header) if matches!(header.tag, b'Q' | b'F') => {
                self.discard(header);
                write::ready_for_query(&mut self.output, Status::Idle.byte());
            }
            _ => self.skips_to_sync = true,
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
        let Some(effect) = self.sole_deallocation(header) else {
            return false;
        };
        let done = self.deallocate_now(effect.as_deref(), Status::Idle);
        if done {
            self.discard(header);
        }
        done
    }

    /// Deals with what the client has sent, until something is missing.
    pub(super) fn requests(&mut self, server: &mut Connection) -> Pause {
        loop {
            if server.output.len() >= HIGH_WATER || self.output.len() >= HIGH_WATER {
                return Pause::Full;
            }
            self.up.pass(&mut self.input, &mut server.output);
            if !self.up.is_done() {
                return Pause::NeedMore;
            }
            if server.pipeline.is_full() {
                return self.wait_for_answers(server);
            }
            if let Err(pause) = self.next().and_then(|header| self.request(header, server)) {
                return pause;
            }
        }
    }

    fn request(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
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
            b'S' => self.pass_on(header, Request::Sync, server),
            b'F' => self.pass_on(header, Request::Function, server),
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

    /// Nothing goes on before something has been answered; the server is not to sit on its answers meanwhile.
    fn wait_for_answers(&mut self, server: &mut Connection) -> Pause {
        if server.pipeline.take_flush() {
            write::empty(&mut server.output, b'H');
        }
        Pause::Blocked
    }

    fn query(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        let sole = self.sole_deallocation(header);
        let meddles = self.speaks_of_ours(header);
        if (sole.is_some() || meddles) && server.pipeline.in_flight() {
            return Err(self.wait_for_answers(server));
        }
        if meddles {
            server.prepared.forget_all();
        }
        // Within a segment the server has to hear of it, because a Query ends the implicit transaction.
        let alone = server.pipeline.is_quiet();
        if let Some(effect) = &sole {
            if alone && self.deallocate_now(effect.as_deref(), server.pipeline.status()) {
                self.discard(header);
                return Ok(());
            }
        }
        let before = self.unnamed.take();
        if let Some(Some(name)) = sole
            && looks_like_ours(&name)
            && matches!(self.names.get(&name, 0), Known::Nothing)
        {
            self.discard(header);
            deallocate_nothing(name.into(), before, server);
            return Ok(());
        }
        let deallocates = self.deallocation_among_others(header, server);
        if let Some(name) = &deallocates {
            // It is to find a statement of that name, whichever way it goes about it, and to leave none.
            prepare_empty(name, server);
            if alone {
                sync(server);
            }
        }
        let note = Note::Query {
            before,
            deallocates: deallocates.clone(),
        };
        self.forward(header, server);
        server.pipeline.sent(Request::Query, Answer::Forward, Some(note));
        server.unnamed = UnnamedSlot::Empty;
        if let Some(name) = &deallocates {
            close_quietly(name, server);
            sync(server);
        }
        Ok(())
    }

    /// Whether a simple query has a word in it that might be the name of a shared statement, to do who knows what with.
    fn speaks_of_ours(&self, header: Header) -> bool {
        let looked_at = self.bounds.shared && header.len <= QUERY_LOOK_MAX;
        looked_at && memchr::memmem::find(self.body(header), NAME_PREFIX.as_bytes()).is_some()
    }

    /// A name of this client's that a simple query deallocates beside other things.
    fn deallocation_among_others(&self, header: Header, server: &Connection) -> Option<Box<[u8]>> {
        if !self.bounds.shared || header.len > QUERY_LOOK_MAX || server.pipeline.in_flight() {
            return None;
        }
        let text = frontend::query_text(self.body(header)).ok()?;
        if text.windows(5).any(|word| word.eq_ignore_ascii_case(b"stdin")) {
            // What is sent behind the query would be taken for copy data.
            return None;
        }
        match deallocation(text, true) {
            Deallocation::Name { name, .. } if matches!(self.names.get(&name, 0), Known::Statement(_)) => {
                Some(name.into_owned().into())
            }
            _ => None,
        }
    }

    /// What a simple query deallocates, if it does nothing else.
    fn sole_deallocation(&self, header: Header) -> Option<Option<Vec<u8>>> {
        if !self.bounds.shared || header.len > QUERY_LOOK_MAX {
            return None;
        }
        let text = frontend::query_text(self.body(header)).ok()?;
        match deallocation(text, true) {
            Deallocation::All { sole: true } => Some(None),
            Deallocation::Name { name, sole: true } => Some(Some(name.into_owned())),
            _ => None,
        }
    }

    /// Carries out a DEALLOCATE of this client's names, as PostgreSQL would in this transaction status. False if it is
    /// not about them.
    fn deallocate_now(&mut self, name: Option<&[u8]>, status: Status) -> bool {
        if status == Status::Failed {
            // PostgreSQL is to say that the transaction is aborted.
            return false;
        }
        match name {
            None => {
                self.names.clear();
                self.answer_query(b"DEALLOCATE ALL", status.byte());
            }
            Some(name) => {
                if matches!(self.names.get(name, 0), Known::Nothing) {
                    return false;
                }
                self.names.remove(name);
                self.answer_query(b"DEALLOCATE", status.byte());
            }
        }
        self.unnamed = None;
        true
    }
}

/// A DEALLOCATE of a name that only howdah may give: the server is to say that this client has no such statement.
fn deallocate_nothing(name: Box<[u8]>, before: Option<Arc<Unnamed>>, server: &mut Connection) {
    close_quietly(NOTHING, server);
    write::query(&mut server.output, &[b"DEALLOCATE ", NOTHING].concat());
    let note = Note::Query {
        before,
        deallocates: Some(name),
    };
    server.pipeline.sent(Request::Query, Answer::Forward, Some(note));
    server.unnamed = UnnamedSlot::Empty;
}

fn sync(server: &mut Connection) {
    write::empty(&mut server.output, b'S');
    server.pipeline.sent(Request::Sync, Answer::Skip, None);
}

/// Whether a client's name could be mistaken for one of ours on a server.
pub(super) fn looks_like_ours(name: &[u8]) -> bool {
    name.starts_with(NAME_PREFIX.as_bytes())
}
