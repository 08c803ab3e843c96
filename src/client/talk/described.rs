//! What clients have been told their statements return. A server that prepares one later, after the tables have changed,
//! may return something else: PostgreSQL would tell such a client that its plan must not change its result.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::BufMut;

use crate::server::{Connection, Described, Note, Statement};
use crate::sql::is_read_when_prepared;
use crate::wire::backend::Status;
use crate::wire::pipeline::{Answer, Request};
use crate::wire::scan::{HEADER_LEN, Header};
use crate::wire::write;

use super::requests::wait_for_answers;
use super::{Pause, Talk};

/// Longer descriptions, in bytes, are passed on unread; 1,600 columns with names of 63 bytes have 131,200.
pub(super) const DESCRIPTION_READ_MAX: usize = 256 * 1024;

/// Behind its name each column has a table, a number there, its type, the length and the modifier of that, and a format.
const COLUMN_LEN: usize = 18;
const TYPE: std::ops::Range<usize> = 6..16;

/// Of a `RowDescription` what PostgreSQL holds the result of a plan against: names and types. `None` if it is none.
fn digest(body: &[u8]) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let (count, mut rest) = body.split_at_checked(2)?;
    count.hash(&mut hasher);
    while !rest.is_empty() {
        let end = memchr::memchr(0, rest)?;
        let (name, column) = rest.split_at_checked(end + 1)?;
        let (column, behind) = column.split_at_checked(COLUMN_LEN)?;
        // Other letters come in the encoding that the client talks in.
        let name = Some(name).filter(|name| name.is_ascii());
        (name, column.get(TYPE)).hash(&mut hasher);
        rest = behind;
    }
    Some(hasher.finish())
}

/// Whether the server is about to tell what one of the shared statements returns.
pub(super) fn describes_shared(server: &Connection) -> bool {
    let head = server.pipeline.head();
    let head = head.filter(|head| head.request == Request::Describe);
    head.is_some_and(|head| matches!(head.note, Some(Note::Uses { .. } | Note::Describes(_))))
}

impl Talk {
    /// The message behind the first `at` bytes tells what a statement returns, if that is what the server is at.
    pub(super) fn note_description(&mut self, header: Header, at: usize, server: &mut Connection) {
        if !matches!(header.tag, b'T' | b'n') || !describes_shared(server) {
            return;
        }
        let body = server.input.get(at + HEADER_LEN..at + header.len);
        let described = match (header.tag, body.and_then(digest)) {
            (b'n', _) => Described::Nothing,
            (_, Some(digest)) => Described::Columns(digest),
            (_, None) => Described::Unread,
        };
        match server.pipeline.head().and_then(|head| head.note.as_ref()) {
            Some(Note::Describes(id)) => server.prepared.describe(*id, described),
            Some(Note::Uses { id, order }) => {
                server.prepared.describe(*id, described);
                self.names.tell(*id, *order, described);
            }
            _ => {}
        }
    }

    /// Whether this server's statement returns something else than the client was told of it. It is asked about where
    /// nobody knows.
    pub(super) fn returns_otherwise(
        &self,
        name: &[u8],
        statement: &Arc<Statement>,
        server: &mut Connection,
    ) -> Result<bool, Pause> {
        let told = self.names.told(name);
        let there = server.prepared.described(statement.id);
        // What a FETCH or an EXECUTE returns is as it is at that moment.
        if told.may_be(|| there) || !is_read_when_prepared(statement.text()) {
            return Ok(false);
        }
        match there {
            Described::Untold => {}
            Described::Asked => return Err(wait_for_answers(server)),
            _ => return Ok(true),
        }
        if server.pipeline.status() == Status::Failed {
            if server.pipeline.in_flight() {
                // It may be what ends the transaction.
                return Err(wait_for_answers(server));
            }
            // It says no by itself.
            return Ok(false);
        }
        server.prepared.describe(statement.id, Described::Asked);
        write::message(&mut server.output, b'D', |out| {
            out.put_u8(b'S');
            write::cstr(out, &statement.name);
        });
        let note = Note::Describes(statement.id);
        server.pipeline.sent(Request::Describe, Answer::Skip, Some(note));
        Err(wait_for_answers(server))
    }
}
