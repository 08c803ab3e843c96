//! Errors of the server, in the words that the client knows.

use bytes::BufMut;

use crate::server::{Connection, NAME_PREFIX, Note, refusal_of};
use crate::stats::ErrorClass;
use crate::wire::backend::{ErrorFields, Status};
use crate::wire::pipeline::{Route, Unexpected};
use crate::wire::scan::{HEADER_LEN, Header};
use crate::wire::write::{self, Severity};

use super::Talk;

/// Errors that name a prepared statement: there is none, there is one, it wants other parameters.
const NAMING: [&[u8]; 3] = [b"26000", b"42P05", b"08P01"];

impl Talk {
    pub(super) fn error(&mut self, header: Header, server: &mut Connection) -> Result<(), Unexpected> {
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
}
