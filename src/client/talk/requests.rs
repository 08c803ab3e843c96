//! From the client to the server.

use crate::error::Refusal;
use crate::farewell::Farewell;
use crate::server::{Connection, Deallocates, Freeing, NAME_PREFIX, Note, UnnamedSlot};
use crate::sql::{contains_name, has_escaped_name};
use crate::wire::backend::Status;
use crate::wire::frontend::Target;
use crate::wire::pipeline::{Answer, Request};
use crate::wire::scan::Header;
use crate::wire::write::{self, Severity};

use super::quiet::sync;
use super::trail::{Barrier, Judged};
use super::watch::{Stage, Watched};
use super::{Batch, HIGH_WATER, MESSAGE_WAIT_MAX, Pause, QUERY_LOOK_MAX, Talk};

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
                b'd' | b'c' | b'f' => self.discard(header),
                b'H' if header.body_len() == 0 => self.discard(header),
                // PostgreSQL is to say what it thinks of that.
                b'S' if header.body_len() > 0 => {
                    self.batch = Batch::Served;
                    return Pause::NeedServer;
                }
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
                _ if header.len <= MESSAGE_WAIT_MAX && self.input.len() < header.len => {
                    return Pause::NeedMore;
                }
                _ => return Pause::NeedServer,
            }
        }
    }

    /// Fails the request for which no server could be had, as PostgreSQL fails one: the session goes on.
    pub(in crate::client) fn fail_request(&mut self, refusal: &Refusal) {
        write::refusal(&mut self.output, Severity::Error, refusal);
        self.trail.turned_down = None;
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

    /// Deals with what the client has sent, until something is missing.
    pub(in crate::client) fn requests(&mut self, server: &mut Connection) -> Pause {
        self.begin_at_last(server);
        loop {
            if server.output.len() >= HIGH_WATER || self.output.len() >= HIGH_WATER {
                return Pause::Full;
            }
            if !self.up.is_done() {
                self.pass_up(server);
                if !self.up.is_done() {
                    return Pause::NeedMore;
                }
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
        if header.tag != b'S' && self.lead_back_from_discard(server) {
            return Err(wait_for_answers(server));
        }
        if server.pipeline.is_skipping() && !matches!(header.tag, b'S' | b'X') {
            // The server would pass over it as well.
            self.discard(header);
            return Ok(());
        }
        match header.tag {
            // Late copy data, and nothing to flush: PostgreSQL would drop it too, but only once all of it is there.
            b'H' if header.body_len() > 0 && !server.pipeline.is_copying_in() => {
                // Answered by an error and nothing else.
                self.pass_on(header, Request::Describe, server);
            }
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
            b'S' => self.sync(header, server)?,
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

    fn sync(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        // Copy data goes on until its end, whatever Sync is among it.
        let takes_back = self.has_lent() && !server.pipeline.is_copying_in();
        if takes_back && server.pipeline.in_flight() {
            return Err(wait_for_answers(server));
        }
        self.close_barrier();
        self.pass_on(header, Request::Sync, server);
        if takes_back {
            self.take_back(server);
            sync(server);
        }
        Ok(())
    }

    /// A function by its number, which may do anything.
    fn call_function(&mut self, header: Header, server: &mut Connection) -> Result<(), Pause> {
        if self.has_lent() {
            if server.pipeline.in_flight() {
                return Err(wait_for_answers(server));
            }
            self.take_back(server);
        }
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
        let mut stage = match self.watch_query(header, server)? {
            Watched::Refused => return Ok(()),
            Watched::Inert if !self.has_lent() => {
                self.send_query(header, None, server);
                return Ok(());
            }
            Watched::Inert | Watched::Plain => Stage::default(),
            Watched::Finds(stage) => stage,
        };
        let (mut frees, is_all) = self.deallocations_in(header);
        let names_ours =
            |frees: &Deallocates| matches!(frees, Deallocates::Name(name) if looks_like_ours(name));
        let meddles = self.speaks_of_ours(header) || frees.iter().any(names_ours);
        if (!(frees.is_empty() && stage.frees.is_empty()) || meddles || self.has_lent())
            && server.pipeline.in_flight()
        {
            return Err(wait_for_answers(server));
        }
        // Within a segment or a transaction the server has to hear of it: a Query ends the implicit transaction, and the
        // unnamed portal.
        if is_all && server.pipeline.is_settled() && self.deallocate_now(&frees, Status::Idle) {
            self.discard(header);
            return Ok(());
        }
        // Which comes first is told by nothing, and hardly ever are there both.
        frees.append(&mut stage.frees);
        stage.frees = frees;
        stage.hides |= meddles;
        let freeing = self.set_the_stage(stage, server)?;
        self.send_query(header, freeing, server);
        Ok(())
    }

    fn send_query(&mut self, header: Header, freeing: Option<Box<Freeing>>, server: &mut Connection) {
        let segment = server.pipeline.segment();
        self.trail.note_use(Barrier::Now);
        self.unnamed.change(None, segment);
        self.forward_query(header, server);
        server.unnamed = UnnamedSlot::Expects(0, segment);
        server
            .pipeline
            .sent(Request::Query, Answer::Forward, Some(Note::Query(freeing)));
    }

    /// Whether a simple query has a word in it that might be the name of a shared statement, which it is not to find.
    /// Nobody knows what is in a long one.
    fn speaks_of_ours(&self, header: Header) -> bool {
        self.bounds.shared && (header.len > QUERY_LOOK_MAX || speaks_of_ours(self.body(header)))
    }
}

/// Nothing goes on before something has been answered; the server is not to sit on its answers meanwhile.
pub(super) fn wait_for_answers(server: &mut Connection) -> Pause {
    if server.pipeline.take_flush() {
        write::empty(&mut server.output, b'H');
    }
    Pause::Blocked
}

/// Whether a text may have a name of ours in it, perhaps with escapes.
pub(super) fn speaks_of_ours(text: &[u8]) -> bool {
    contains_name(text, NAME_PREFIX.as_bytes()) || has_escaped_name(text)
}

/// Whether a client's name could be mistaken for one of ours on a server.
pub(super) fn looks_like_ours(name: &[u8]) -> bool {
    name.starts_with(NAME_PREFIX.as_bytes())
}
