//! Errors of the server, in the words that the client knows.

use bytes::BufMut;

use crate::server::{Connection, NAME_PREFIX, Note, refusal_of};
use crate::stats::ErrorClass;
use crate::wire::backend::{ErrorFields, Status};
use crate::wire::pipeline::{Route, Unexpected};
use crate::wire::scan::{HEADER_LEN, Header};
use crate::wire::write::{self, Severity};

use super::{Done, Talk};

/// Errors that name a prepared statement: there is none, there is one, it wants other parameters.
const NAMING: [&[u8]; 3] = [b"26000", b"42P05", b"08P01"];

/// Errors of those who cannot read a message: its text is in no encoding, or does not end.
const UNREAD: [&[u8]; 2] = [b"22021", b"08P01"];

impl Talk {
    pub(super) fn error(&mut self, header: Header, server: &mut Connection) -> Result<(), Unexpected> {
        let body = server
            .input
            .get(HEADER_LEN..header.len)
            .unwrap_or_default()
            .to_vec();
        let fields = ErrorFields::new(&body);
        let is_fatal = fields.is_fatal();
        if is_fatal {
            self.server_left = Some(Box::new(refusal_of(fields)));
        }
        self.has_failed();
        let head = server.pipeline.head().and_then(|entry| entry.note.as_ref());
        if matches!(head, Some(Note::Lent | Note::Shown)) && !is_fatal {
            if matches!(head, Some(Note::Lent)) {
                // It is the client's error if the client's query comes to need the statement.
                self.trail.excuse(body);
            }
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
        if UNREAD.contains(&code) && fields.get(b'P').is_none() {
            let head = server.pipeline.head().and_then(|entry| entry.note.as_ref());
            if matches!(head, Some(Note::Query(_) | Note::Unnamed(Some(_)))) {
                self.unnamed.is_unread();
            }
        }
        let refusal = match server.pipeline.head().and_then(|entry| entry.note.as_ref()) {
            Some(Note::Refuse(refusal)) if code == b"26000" => Some(refusal.clone()),
            _ => None,
        };
        let ours = NAMING.contains(&code) && memchr::memmem::find(&body, NAME_PREFIX.as_bytes()).is_some();
        let renamed = if ours { self.renamed(server) } else { None };
        let is_alias = renamed.as_ref().is_some_and(|(id, _)| *id == 0);
        if ours && code == b"26000" && refusal.is_none() && !is_alias {
            // A function may have deallocated what we had prepared, or the client may have made the error up.
            server.prepared.doubt_all();
        }
        let position = self.position_in_clients(fields, server);
        self.received(b'E', Status::Idle, server)?;
        if let Some(excuse) = self.trail.excuse_for(code) {
            self.send_on(header, Route::Skip, server);
            write::message(&mut self.output, b'E', |out| out.put_slice(&excuse));
        } else if let Some(refusal) = refusal {
            self.send_on(header, Route::Skip, server);
            write::refusal(&mut self.output, Severity::Error, &refusal);
        } else if let Some((id, name)) = renamed {
            self.send_on(header, Route::Skip, server);
            self.error_in_clients_words(fields, id, &name);
        } else if let Some(position) = position {
            self.send_on(header, Route::Skip, server);
            self.error_at(fields, &position);
        } else {
            self.send_on(header, Route::Forward, server);
        }
        Ok(())
    }

    /// What the server has said was an error, whatever stands in it.
    pub(super) fn has_failed(&mut self) {
        if let Some(interlude) = &mut self.trail.interlude {
            interlude.failed = true;
        }
        self.doings.done = Done::default();
        self.trail.alter_none();
        self.trail.is_answered();
    }

    /// Somebody changed the schema: whoever prepares anew gets a new plan, and nobody keeps the old one.
    fn plan_is_stale(&mut self, server: &Connection) {
        self.statements.schema_changed();
        let head = server.pipeline.head().and_then(|entry| entry.note.as_ref());
        if let Some(Note::Uses { id, order }) = head {
            let statement = server.prepared.get(*id).or_else(|| self.names.statement(*id));
            statement.inspect(|statement| statement.result_changed());
            if let Some(name) = self.names.name_of(*id, *order).map(<[u8]>::to_vec) {
                self.names.catch_up(&name);
            }
        }
    }

    /// The statement that the request at the head speaks of by another name than the client did, by its number, and the
    /// client's name for it. What else an error says is as it was written: the client's own words may look like such a name.
    fn renamed(&self, server: &Connection) -> Option<(u64, Box<[u8]>)> {
        match server.pipeline.head()?.note.as_ref()? {
            Note::Alias(name) => Some((0, name.clone())),
            Note::Uses { id, order } => Some((*id, self.names.name_of(*id, *order)?.into())),
            _ => None,
        }
    }

    /// An error that speaks of a statement by its name on the server is told with the client's name for it.
    fn error_in_clients_words(&mut self, fields: ErrorFields<'_>, id: u64, name: &[u8]) {
        write::message(&mut self.output, b'E', |out| {
            for (code, text) in fields.iter() {
                out.put_u8(code);
                write::cstr(out, &translate(text, id, name));
            }
            out.put_u8(0);
        });
    }
}

/// Puts `name` in the place of the name that the statement `ours` has on servers.
fn translate(text: &[u8], ours: u64, name: &[u8]) -> Vec<u8> {
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
        let theirs = found.get(..NAME_PREFIX.len() + digits).unwrap_or_default();
        out.extend_from_slice(if id == Some(ours) { name } else { theirs });
        rest = found.get(theirs.len()..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_speak_of_statements_by_the_clients_name() {
        let text = br#"prepared statement "howdah_12" is not "howdah_13", see howdah_"#;
        let told = br#"prepared statement "mine" is not "howdah_13", see howdah_"#;
        assert_eq!(translate(text, 12, b"mine"), told);
    }
}
