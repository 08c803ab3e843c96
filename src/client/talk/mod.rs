//! The conversation of one client, without its sockets: bytes in, bytes out, and what has to be remembered.

mod concerns;
mod deferral;
mod described;
mod detour;
mod errors;
mod executed;
mod extended;
mod freeing;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(super) mod leading_back;
mod long;
pub(super) mod marks;
#[cfg(any(test, fuzzing))]
mod model;
mod name_set;
pub(super) mod names;
mod quiet;
mod requests;
pub(super) mod responses;
pub(super) mod shown;
#[cfg(test)]
mod tests;
pub(super) mod trail;
mod unnamed;
mod unread;
mod watch;

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use thin_vec::ThinVec;

use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::server::{Connection, Deallocates, Parameters, Settings, StatementCache};
use crate::sql::Resets;
use crate::stats::Tally;
use crate::wire::scan::HEADER_LEN;
use crate::wire::store::{self, CHUNK};
use crate::wire::{scan, write};

use self::deferral::Deferral;
use self::names::Names;
use self::trail::Trail;
use self::unnamed::OwnUnnamed;
use super::session::listening::Ear;

/// Output is not added to beyond this many bytes before it is written.
pub(super) const HIGH_WATER: usize = 4 * CHUNK;
/// Longer queries are streamed, and looked at in passing only.
pub(super) const QUERY_LOOK_MAX: usize = 64 * CHUNK;
/// A message up to this is waited for before there is a server for it.
const MESSAGE_WAIT_MAX: usize = 4 * CHUNK;
/// The longest message of a type that is always short; PostgreSQL's `PQ_SMALL_MESSAGE_LIMIT`.
pub(super) const SMALL_MAX: usize = 10_000;
/// The longest names that a Bind may begin with, in bytes.
const NAMES_MAX: usize = CHUNK;

/// What becomes of the rest of a message whose beginning has been dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passing {
    /// So many bytes go on to the other side.
    Forward(usize),
    /// So many bytes are dropped.
    Drop(usize),
}

impl Passing {
    pub(super) const DONE: Self = Self::Forward(0);

    pub(super) fn is_done(self) -> bool {
        matches!(self, Self::Forward(0) | Self::Drop(0))
    }

    /// Whether the other side has the beginning of a message and not its end.
    pub(super) fn is_within(self) -> bool {
        matches!(self, Self::Forward(1..))
    }

    /// How many bytes of the message are still to come.
    pub(super) fn left(self) -> usize {
        match self {
            Self::Forward(left) | Self::Drop(left) => left,
        }
    }

    /// Deals with as much of `input` as belongs to the message.
    pub(super) fn pass(&mut self, input: &mut BytesMut, output: &mut BytesMut) {
        let (Self::Forward(left) | Self::Drop(left)) = self;
        let n = (*left).min(input.len());
        if n == 0 {
            return;
        }
        *left -= n;
        if matches!(self, Self::Forward(_)) {
            move_on(n, input, output);
        } else {
            input.advance(n);
        }
    }
}

/// Moves so many bytes, which are there, from one buffer to another.
pub(super) fn move_on(n: usize, input: &mut BytesMut, output: &mut BytesMut) {
    if n > 0 {
        store::open(output);
        output.extend_from_slice(&input[..n]);
        input.advance(n);
    }
}

/// What a client may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Transaction blocks may be begun (not so in statement mode).
    pub(super) transactions: bool,
    /// Prepared statements; 0 turns sharing off, and names go to the server as they are.
    pub(super) shared: bool,
    /// `max_client_prepared_statements`.
    pub(super) prepared: usize,
    /// `max_client_prepared_bytes`.
    pub(super) prepared_bytes: u64,
}

/// Why the conversation does not go on for the moment, or for good.
#[derive(Debug)]
pub(super) enum Pause {
    /// The next message is not all there.
    NeedMore,
    /// What has been written should go out first.
    Full,
    /// What the next message means depends on answers that have not come.
    Blocked,
    /// The next message needs a server.
    NeedServer,
    /// The next message would leave something behind for which the client needs a server of its own.
    WantsPin,
    /// The next message may have to do with notifications, and the client does not hear them from its server.
    WantsChannels,
    /// The client's end.
    Over(Farewell),
}

/// One client's conversation.
#[derive(Debug)]
pub(super) struct Talk {
    /// Bytes from the client that are not dealt with yet.
    pub(super) input: BytesMut,
    /// Bytes for the client that are not written yet.
    pub(super) output: BytesMut,
    /// The rest of the client's current message.
    pub(super) up: Passing,
    /// The rest of the server's current message.
    pub(super) down: Passing,
    pub(super) names: Names,
    pub(super) unnamed: OwnUnnamed,
    /// Portals that are bound to a DEALLOCATE.
    pub(super) portals: ThinVec<Portal>,
    pub(super) statements: Arc<StatementCache>,
    pub(super) trail: Trail,
    /// What the client's session is set to.
    pub(super) settings: Settings,
    /// What the server reported when `context` was last made, be it within a transaction.
    pub(super) reported: Arc<Parameters>,
    /// Digest of the settings that decide what statements mean.
    pub(super) context: u64,
    pub(super) bounds: Bounds,
    pub(super) tally: Tally,
    /// The server has said that it ends the session.
    pub(super) server_left: Option<Box<Refusal>>,
    /// What the commands that are being answered have done.
    pub(in crate::client) doings: Doings,
    /// Messages of the server, and answers in its place, that were dealt with.
    pub(super) answers: u64,
    /// What becomes of requests while there is no server.
    pub(super) batch: Batch,
    pub(super) deferral: Deferral,
    /// What the client listens to, if it does.
    pub(super) ear: Option<Box<Ear>>,
    /// The process id that the client was told at its login.
    pub(super) pid: i32,
}

/// A portal whose execution has to be known of.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) name: Box<[u8]>,
    pub(super) does: Does,
}

/// What a portal does once it is executed.
#[derive(Debug)]
pub(super) enum Does {
    /// It deallocates.
    Frees {
        /// What the client gives up.
        effect: Deallocates,
        /// The server is told to deallocate the decoy instead.
        by_decoy: bool,
    },
    /// It concerns others than the client.
    Concerns(concerns::Concerns),
    /// It leads these settings back to what they were at login, with `true` for the transaction only.
    LeadsBack(Resets, bool),
}

/// What commands have done, until it has been taken note of.
#[derive(Debug, Default)]
pub(in crate::client) struct Doings {
    /// What the running transaction has changed of the schema.
    pub(super) touched: Touched,
    /// What it has done, as far as nothing has failed or been rolled back since. What an earlier command has done may stand
    /// for all that, and is not counted: others must not pay for what has not happened.
    pub(in crate::client) done: Done,
    /// So many of its DEALLOCATEs the running Query has carried out.
    pub(super) deallocated: usize,
}

/// Kinds of what commands do: a set.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::client) struct Done(u8);

impl Done {
    /// Altered a role or a database.
    pub(in crate::client) const ALTERED: u8 = 1;
    /// Carried out anything.
    pub(in crate::client) const SOMETHING: u8 = 2;
    /// Reset settings, perhaps all of them.
    pub(in crate::client) const RESET: u8 = 4;

    pub(super) fn insert(&mut self, kind: u8) {
        self.0 |= kind;
    }

    /// Whether it has done this.
    pub(in crate::client) fn has(self, kind: u8) -> bool {
        self.0 & kind != 0
    }

    /// Whether it has done this; it is forgotten then.
    pub(in crate::client) fn take(&mut self, kind: u8) -> bool {
        let has_done = self.0 & kind != 0;
        self.0 &= !kind;
        has_done
    }
}

/// What of the schema a transaction has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    /// Nothing.
    #[default]
    Nothing,
    /// Something that is no function.
    Schema,
    /// Functions, among other things.
    Functions,
}

/// Where a batch of requests stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// Its requests are carried out.
    Served,
    /// One of them was refused while there was no server: the rest is passed over, up to Sync.
    Refused,
}

impl Talk {
    pub(super) fn new(statements: Arc<StatementCache>, trail: Trail, bounds: Bounds) -> Self {
        Self {
            input: BytesMut::new(),
            output: BytesMut::new(),
            up: Passing::DONE,
            down: Passing::DONE,
            names: Names::default(),
            unnamed: OwnUnnamed::default(),
            portals: ThinVec::new(),
            statements,
            trail,
            settings: Settings::default(),
            reported: Arc::default(),
            context: 0,
            bounds,
            tally: Tally::default(),
            server_left: None,
            doings: Doings::default(),
            answers: 0,
            batch: Batch::Served,
            deferral: Deferral::Never,
            ear: None,
            pid: 0,
        }
    }

    /// The header of the client's next message, once so much of it is there that it can be dealt with.
    pub(super) fn next(&self) -> Result<scan::Header, Pause> {
        let header = scan::header(&self.input).map_err(|error| violation(error.to_string()))?;
        let Some(header) = header else {
            return Err(Pause::NeedMore);
        };
        let whole = match header.tag {
            b'D' | b'C' | b'E' | b'S' | b'H' | b'X' if header.len > SMALL_MAX => {
                return Err(violation("invalid message length"));
            }
            b'Q' => header.len <= QUERY_LOOK_MAX,
            b'P' => self.bounds.shared && header.len as u64 <= self.bounds.prepared_bytes,
            b'B' => return self.names_are_there(header),
            b'D' | b'C' | b'E' | b'S' | b'H' | b'X' => true,
            b'F' | b'd' | b'c' | b'f' => false,
            other => return Err(violation(format!("invalid frontend message type {other}"))),
        };
        if whole && self.input.len() < header.len {
            Err(Pause::NeedMore)
        } else {
            Ok(header)
        }
    }

    fn names_are_there(&self, header: scan::Header) -> Result<scan::Header, Pause> {
        let here = self.input.len().min(header.len);
        let body = self.input.get(HEADER_LEN..here).unwrap_or_default();
        if here == header.len || crate::wire::frontend::bind_names(body).is_some() {
            Ok(header)
        } else if here > NAMES_MAX {
            Err(violation("statement or portal name too long"))
        } else {
            Err(Pause::NeedMore)
        }
    }

    /// Whether what the client has sent ends with a goodbye.
    pub(super) fn says_goodbye(&self) -> bool {
        let mut rest = self.input.get(self.up.left()..).unwrap_or_default();
        while let Ok(Some(header)) = scan::header(rest) {
            if header.tag == b'X' {
                return true;
            }
            rest = rest.get(header.len..).unwrap_or_default();
        }
        false
    }

    /// Whether the client's next message is its last.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.up.is_done() && self.input.first() == Some(&b'X') && self.input.len() >= HEADER_LEN
    }

    /// The body of a message that [`Talk::next`] has found to be whole.
    pub(super) fn body(&self, header: scan::Header) -> &[u8] {
        self.input.get(HEADER_LEN..header.len).unwrap_or_default()
    }

    /// Sends the client's message on as it is, whatever of it is there now and the rest when it comes.
    pub(super) fn forward(&mut self, header: scan::Header, server: &mut Connection) {
        self.up = Passing::Forward(header.len);
        self.pass_up(server);
    }

    /// Sends on what is there of the client's message.
    fn pass_up(&mut self, server: &mut Connection) {
        let left = self.up.left();
        if let Some(marks) = &mut self.trail.marks {
            let here = left.min(self.input.len());
            marks.pass(self.input.get(..here).unwrap_or_default(), here == left);
        }
        self.up.pass(&mut self.input, &mut server.output);
    }

    /// Drops the client's message, whatever of it is there now and the rest when it comes.
    pub(super) fn discard(&mut self, header: scan::Header) {
        self.up = Passing::Drop(header.len);
        self.up.pass(&mut self.input, &mut self.output);
    }

    /// Passes on notifications that have come from `server`, which sends as itself what its client has sent.
    pub(super) fn tell_notifications(&mut self, mut messages: &[u8], server: &Connection) {
        while let Ok(Some((header, body))) = scan::message(messages) {
            let start = self.output.len();
            let (message, rest) = messages.split_at(header.len);
            self.output.extend_from_slice(message);
            let is_own = (server.pid()).is_some_and(|pid| body.starts_with(&pid.to_be_bytes()));
            if let Some(pid) = self.output.get_mut(start + HEADER_LEN..).filter(|_| is_own) {
                pid[..4].copy_from_slice(&self.pid.to_be_bytes());
            }
            messages = rest;
        }
    }

    /// What the session is set to at this moment, within a transaction too.
    pub(super) fn current_settings(&self) -> Settings {
        Settings {
            reported: self.reported.clone(),
            ..self.settings.clone()
        }
    }

    /// Statements mean from now on what they mean under these parameters.
    pub(super) fn read_as(&mut self, reported: &Arc<Parameters>) {
        self.settings_end();
        self.reported = reported.clone();
        let current = self.current_settings();
        self.context = current.digest();
        self.trail.read_as(&current);
    }

    /// The session is about to be set to something else.
    pub(super) fn settings_end(&self) {
        if let Some(unnamed) = self.unnamed.get() {
            unnamed.outlives(&self.current_settings());
        }
    }

    /// Answers a simple query without a server.
    pub(super) fn answer_query(&mut self, tag: &[u8], status: u8) {
        write::command_complete(&mut self.output, tag);
        write::ready_for_query(&mut self.output, status);
    }
}

/// The client broke the protocol.
pub(super) fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> Pause {
    Pause::Over(Farewell::ClientProtocol(Refusal::new(
        SqlState::PROTOCOL_VIOLATION,
        message,
    )))
}
