//! RESET leads back to what the client logged in with, where a server's own default may be something else: what it takes away
//! is set again right behind the statement that has taken it, in the same transaction, before anything else of the client's runs.
//!
//! Among the requests of a batch howdah runs that as requests of its own (`lead_back_in_batch`). In a query of several statements, which are one
//! request and one transaction, it goes into the text, and howdah keeps to itself what the server says of it. Where nothing of the
//! client's stands behind, it is done before the client hears of the end: see `session::settle`.

use bytes::{BufMut, BytesMut};

use crate::server::{Connection, Note, restoring};
use crate::sql::{Details, Effects, Resets, Verdict, rewinds};
use crate::wire::backend::{ErrorFields, Status};
use crate::wire::frontend;
use crate::wire::pipeline::{Answer, Request};
use crate::wire::scan::{HEADER_LEN, Header};
use crate::wire::write;

use super::names::key;
use super::quiet::{run_quietly, sync};
use super::trail::Trail;
use super::{Does, Talk};

/// So many bytes are added to a query at most; what is reset beyond that, as no program does, is put back at its end.
const ADDED_MAX: usize = 64 * 1024;

/// What is added to the query on its way.
#[derive(Debug, Default)]
pub(in crate::client) struct Added {
    due: Vec<Addition>,
    /// So many of them have been come to.
    begun: usize,
    /// So many statements of the client's are complete.
    complete: usize,
    /// So many of howdah's come next.
    ours: usize,
}

/// Statements that are added behind one of the client's.
#[derive(Debug)]
struct Addition {
    /// The number of that, from 1.
    behind: usize,
    /// Where it ends, in bytes, and in letters.
    at: usize,
    letters: usize,
    /// Each with a semicolon before it: ASCII, so that bytes are letters.
    sql: Vec<u8>,
    count: usize,
}

impl Added {
    /// The message of a query with this text, and with what is added to it.
    fn write(&self, text: &[u8], out: &mut BytesMut) {
        let len = text.len() + self.due.iter().map(|addition| addition.sql.len()).sum::<usize>();
        write::header(out, b'Q', len + 1);
        let mut from = 0;
        for addition in &self.due {
            out.put_slice(text.get(from..addition.at).unwrap_or_default());
            out.put_slice(&addition.sql);
            from = addition.at;
        }
        write::cstr(out, text.get(from..).unwrap_or_default());
    }

    /// A statement is complete: tells whether it is one of howdah's.
    fn completes_ours(&mut self) -> bool {
        if self.ours > 0 {
            self.ours -= 1;
            return true;
        }
        self.complete += 1;
        if let Some(addition) = self
            .due
            .get(self.begun)
            .filter(|next| next.behind == self.complete)
        {
            self.ours = addition.count;
            self.begun += 1;
        }
        false
    }

    /// Where a letter of the query that was sent is in the client's, both from 1.
    fn position(&self, sent: usize) -> usize {
        let mut at = sent;
        for addition in &self.due {
            if at <= addition.letters {
                break;
            }
            at = at.saturating_sub(addition.sql.len()).max(addition.letters);
        }
        at
    }
}

impl Trail {
    /// Whether a text of this verdict takes away values that the client has asked for.
    pub(super) fn takes_own(&self, details: &Details) -> bool {
        let takes = |name: &[u8]| details.resets.contains(name) || details.local_resets.contains(name);
        self.own.iter().any(|(name, _)| takes(name))
    }

    /// What sets again what this takes away, unless it is what the server has by default.
    fn led_back(&self, resets: &Resets, is_local: bool, server: &Connection) -> Vec<Vec<u8>> {
        let is_default = |name: &[u8], value: &[u8]| {
            let reported = server.settings.reported.spelling(name);
            reported.is_some_and(|name| server.defaults().get(name) == Some(value))
        };
        let own = self.own.iter().map(|(name, value)| (&**name, &**value));
        let taken = own.filter(|(name, value)| resets.contains(name) && !is_default(name, value));
        restoring(taken, is_local)
    }

    /// What such a statement takes away is put back before the client hears of it.
    pub(super) fn lead_back_at_end(&mut self, resets: &Resets) {
        if !self.own.iter().any(|(name, _)| resets.contains(name)) {
            return;
        }
        self.interlude.get_or_insert_default().resets.add(resets);
        if let Some(marks) = &mut self.marks {
            marks.led_back.add(resets);
        }
    }
}

impl Talk {
    /// A query of this verdict, which has been marked, is about to be sent.
    pub(super) fn lead_back_in_query(&mut self, verdict: &Verdict, header: Header, server: &Connection) {
        let details = verdict.details();
        if !self.trail.takes_own(details) {
            return;
        }
        let text = frontend::query_text(self.body(header)).unwrap_or_default();
        let rewinds = rewinds(text, self.trail.reading.standard_conforming_strings);
        let is_utf8 = self.reported.get(b"client_encoding") == Some(b"UTF8");
        let mut added = Added::default();
        // What is reset by anything else than a statement of its own is put back at the end.
        let mut at_end = Resets {
            all: false,
            names: details.resets.names.clone(),
        };
        for name in rewinds.found.iter().flat_map(|rewind| &rewind.resets.names) {
            at_end.names.remove(name);
        }
        let (mut at, mut letters_before, mut room) = (0, 0, ADDED_MAX);
        for rewind in rewinds.found {
            let is_last = rewind.number == rewinds.statements;
            let is_over = rewinds.statements == 1 && server.pipeline.status() == Status::Idle;
            let sql = self.trail.led_back(&rewind.resets, rewind.is_local, server);
            let count = sql.len();
            let sql: Vec<u8> = sql.iter().flat_map(|sql| [b";", &**sql].concat()).collect();
            if !rewind.is_local && (is_last || sql.len() > room) {
                at_end.add(&rewind.resets);
            } else if !sql.is_empty() && !is_over && sql.len() <= room {
                room -= sql.len();
                letters_before += letters(text.get(at..rewind.end).unwrap_or_default(), is_utf8);
                at = rewind.end;
                added.due.push(Addition {
                    behind: rewind.number,
                    at,
                    letters: letters_before,
                    sql,
                    count,
                });
            }
        }
        self.trail.lead_back_at_end(&at_end);
        if !added.due.is_empty() {
            self.trail.interlude.get_or_insert_default().added = added;
        }
    }

    /// Sends the query, with what is added to it.
    pub(super) fn forward_query(&mut self, header: Header, server: &mut Connection) {
        match &self.trail.interlude {
            Some(interlude) if !interlude.added.due.is_empty() => {
                let text = frontend::query_text(self.body(header)).unwrap_or_default();
                interlude.added.write(text, &mut server.output);
                self.discard(header);
            }
            _ => self.forward(header, server),
        }
    }

    /// Whether the server is answering what was added to a query.
    pub(super) fn answers_added(&self, server: &Connection) -> bool {
        let interlude = self.trail.interlude.as_deref();
        interlude.is_some_and(|interlude| interlude.added.ours > 0) && is_clients_query(server)
    }

    /// A command of the query is complete: tells whether it was added.
    pub(super) fn completes_added(&mut self, server: &Connection) -> bool {
        let interlude = self.trail.interlude.as_deref_mut();
        let added = interlude.map(|interlude| &mut interlude.added);
        let added = added.filter(|added| !added.due.is_empty() && is_clients_query(server));
        added.is_some_and(Added::completes_ours)
    }

    /// An error of a query to which something was added speaks of a place in that: the same place in the client's. `None`
    /// if there is nothing to change.
    pub(super) fn position_in_clients(&self, fields: ErrorFields<'_>, server: &Connection) -> Option<String> {
        let added = &self.trail.interlude.as_deref()?.added;
        if added.due.is_empty() || !is_clients_query(server) {
            return None;
        }
        let sent = std::str::from_utf8(fields.get(b'P')?).ok()?.parse().ok()?;
        Some(added.position(sent).to_string())
    }

    /// A portal of this verdict and text is about to be bound, and has been marked.
    pub(super) fn lead_back_when_executed(&mut self, verdict: &Verdict, text: &[u8]) {
        let details = verdict.details();
        if !self.trail.takes_own(details) {
            return;
        }
        if verdict.effects.contains(Effects::FREES) {
            // DISCARD ALL: see `lead_back_from_discard`.
            return self.trail.lead_back_at_end(&details.resets);
        }
        let rewinds = rewinds(text, self.trail.reading.standard_conforming_strings);
        let (resets, is_local) = match rewinds.found.into_iter().next() {
            Some(rewind) => (rewind.resets, rewind.is_local),
            None => (details.resets.clone(), false),
        };
        // Whatever comes of it, the client hears of nothing before it is whole.
        self.trail.interlude.get_or_insert_default();
        let body = self.input.get(HEADER_LEN..).unwrap_or_default();
        let portal = frontend::bind_names(body).map(|(portal, _)| portal.to_vec());
        self.note_portal(&portal.unwrap_or_default(), Does::LeadsBack(resets, is_local));
    }

    /// Something stands behind a DISCARD ALL in its batch. That was a transaction of its own, behind which PostgreSQL begins
    /// anew: so is what puts back. Tells whether that has gone out.
    pub(super) fn lead_back_from_discard(&mut self, server: &mut Connection) -> bool {
        let Some(interlude) = &mut self.trail.interlude else {
            return false;
        };
        let is_free = !server.pipeline.in_flight() && !server.pipeline.is_skipping();
        if !std::mem::take(&mut interlude.discarded) || !is_free {
            return false;
        }
        let resets = std::mem::take(&mut interlude.resets);
        if let Some(marks) = &mut self.trail.marks {
            marks.led_back = Resets::default();
        }
        for sql in self.trail.led_back(&resets, false, server) {
            run_quietly(&sql, server);
        }
        sync(server);
        true
    }

    /// Such a portal, of this name, has just been executed.
    pub(super) fn lead_back_in_batch(&self, portal: &[u8], server: &mut Connection) {
        let leads = self.portals.iter().find_map(|known| match &known.does {
            Does::LeadsBack(resets, is_local) if *known.name == *key(portal) => Some((resets, *is_local)),
            _ => None,
        });
        let sql = leads.map(|(resets, is_local)| self.trail.led_back(resets, is_local, server));
        for sql in sql.unwrap_or_default() {
            run_quietly(&sql, server);
        }
    }
}

/// Whether the server is answering a query of the client's.
fn is_clients_query(server: &Connection) -> bool {
    (server.pipeline.head()).is_some_and(|head| {
        head.request == Request::Query
            && head.answer == Answer::Forward
            && !matches!(head.note, Some(Note::Refuse(_)))
    })
}

/// How many letters a text has, as PostgreSQL counts them. Where it is neither UTF-8 nor an encoding with a byte for each
/// letter, this says more.
fn letters(text: &[u8], is_utf8: bool) -> usize {
    let continues = |byte: &u8| is_utf8 && (0x80..0xc0).contains(byte);
    text.iter().filter(|byte| !continues(byte)).count()
}

impl Talk {
    /// An error or notice in which the place is another one.
    pub(super) fn error_at(&mut self, fields: ErrorFields<'_>, position: &str) {
        write::message(&mut self.output, b'E', |out| {
            for (code, text) in fields.iter() {
                out.put_u8(code);
                write::cstr(out, if code == b'P' { position.as_bytes() } else { text });
            }
            out.put_u8(0);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added() -> Added {
        let addition = |behind, at, sql: &str| Addition {
            behind,
            at,
            letters: at,
            sql: sql.as_bytes().to_vec(),
            count: sql.matches(';').count(),
        };
        Added {
            due: [addition(1, 7, ";SET a TO 1"), addition(3, 18, ";X;Y")].into(),
            ..Added::default()
        }
    }

    #[test]
    fn what_is_added_stands_behind_the_statement_that_it_is_for() {
        let mut out = BytesMut::new();
        added().write(b"RESET a; SELECT;  RESET b --", &mut out);
        assert_eq!(
            &out[HEADER_LEN..],
            b"RESET a;SET a TO 1; SELECT;  ;X;YRESET b --\0"
        );
        assert_eq!(out[0], b'Q');
    }

    #[test]
    fn what_the_server_says_of_it_is_told_from_the_rest() {
        let mut added = added();
        let ours: Vec<_> = (0..7).map(|_| added.completes_ours()).collect();
        assert_eq!(ours, [false, true, false, false, true, true, false]);
    }

    #[test]
    fn places_are_told_in_the_clients_text() {
        let added = added();
        for (sent, told) in [
            (1, 1),
            (7, 7),
            (10, 7),
            (18, 7),
            (19, 8),
            (29, 18),
            (33, 18),
            (34, 19),
        ] {
            assert_eq!(added.position(sent), told, "{sent}");
        }
        assert_eq!(letters("aé".as_bytes(), true), 2);
        assert_eq!(letters(b"a\xe9", false), 2);
    }
}
