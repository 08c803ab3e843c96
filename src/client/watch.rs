//! Verdicts on requests before they go out: some wait, some are refused, some leave marks.

use crate::error::Refusal;
use crate::server::{Connection, Note, Statement, Unnamed, UnnamedSlot};
use crate::sql::{Effects, Verdict};
use crate::wire::frontend;
use crate::wire::pipeline::{Answer, Request};
use crate::wire::scan::{HEADER_LEN, Header};
use crate::wire::write;

use super::extended::refuse;
use super::requests::wait_for_answers;
use super::talk::{Pause, QUERY_LOOK_MAX, Talk};
use super::trail::{Barrier, Following, Judged};

impl Talk {
    /// Whether nothing may go out before what is in flight has been answered, which may change what it means.
    pub(super) fn is_barred(&mut self, server: &Connection) -> bool {
        match self.trail.barrier {
            Barrier::Now if server.pipeline.is_quiet() => {
                self.trail.barrier = Barrier::None;
                false
            }
            Barrier::Now => !server.pipeline.is_copying_in(),
            Barrier::None | Barrier::AtSync => false,
        }
    }

    /// A Sync goes out.
    pub(super) fn close_barrier(&mut self) {
        if self.trail.barrier == Barrier::AtSync {
            self.trail.barrier = Barrier::Now;
        }
    }

    /// Looks at a simple query. Tells whether it has been refused, and is dealt with.
    pub(super) fn watch_query(&mut self, header: Header, server: &mut Connection) -> Result<bool, Pause> {
        if self.trail.following == Following::Not {
            return Ok(false);
        }
        let judged = if header.len > QUERY_LOOK_MAX {
            self.trail.unread()
        } else {
            let text = frontend::query_text(self.body(header)).unwrap_or_default();
            self.trail.judge(text)
        };
        let Judged::Marked(verdict) = judged else {
            return Ok(false);
        };
        if server.pipeline.in_flight() {
            return Err(wait_for_answers(server));
        }
        if let Some(refusal) = self.admit(&verdict)? {
            self.discard(header);
            self.refuse_query(refusal, server);
            return Ok(true);
        }
        let here = self.input.len().min(header.len);
        let text = self.input.get(HEADER_LEN..here).unwrap_or_default();
        self.trail.mark(&verdict, text, Barrier::Now);
        Ok(false)
    }

    /// Looks at what a Bind is about to make ready to run. Tells whether it has been refused, and is dealt with.
    pub(super) fn watch_bind(
        &mut self,
        header: Header,
        bound: Option<&Bound<'_>>,
        server: &mut Connection,
    ) -> Result<bool, Pause> {
        let judged = match bound {
            _ if self.trail.following == Following::Not => return Ok(false),
            Some(Bound::Named(statement)) => {
                let version = self.trail.functions.version();
                if statement.is_inert(version) {
                    return Ok(false);
                }
                let judged = self.trail.judge(statement.text());
                if matches!(judged, Judged::Inert) {
                    statement.found_inert(version);
                }
                judged
            }
            Some(Bound::Unnamed(unnamed)) => match &unnamed.verdict {
                None => Judged::Inert,
                Some(verdict) => Judged::Marked(verdict.clone()),
            },
            // SQL's own PREPARE made it.
            None => self.trail.unread(),
        };
        let Judged::Marked(mut verdict) = judged else {
            return Ok(false);
        };
        if server.pipeline.unit_in_flight() {
            return Err(wait_for_answers(server));
        }
        if let Some(refusal) = self.admit(&verdict)? {
            self.discard(header);
            refuse(server, refusal);
            return Ok(true);
        }
        self.name_bound_settings(header, &mut verdict);
        let text = bound.map_or(&b""[..], Bound::text);
        self.trail.mark(&verdict, text, Barrier::AtSync);
        Ok(false)
    }

    /// `set_config($1, …)`: the name is in the Bind.
    fn name_bound_settings(&self, header: Header, verdict: &mut Verdict) {
        if verdict.bound_settings.is_empty() {
            return;
        }
        let whole = (self.input.len() >= header.len).then(|| self.body(header));
        for number in std::mem::take(&mut verdict.bound_settings) {
            match whole.and_then(|body| frontend::bound_value(body, number)) {
                Some(name) => verdict.settings.push(name.to_ascii_lowercase().into()),
                None => verdict.effects.insert(Effects::ANY_SETTING),
            }
        }
    }

    /// Whether a statement may run: now, not yet, or never.
    fn admit(&mut self, verdict: &Verdict) -> Result<Option<Refusal>, Pause> {
        if let Some(refusal) = self.trail.refusal(verdict) {
            return Ok(Some(refusal));
        }
        if self.trail.wants_pin(verdict) {
            return match self.trail.turned_down.take() {
                Some(refusal) => Ok(Some(*refusal)),
                None => Err(Pause::WantsPin),
            };
        }
        Ok(None)
    }

    /// Makes a query fail in place of the client's own, so that its transaction fares as PostgreSQL would have it.
    fn refuse_query(&mut self, refusal: Refusal, server: &mut Connection) {
        write::query(&mut server.output, b"DEALLOCATE howdah_0");
        self.unnamed.clear();
        server.unnamed = UnnamedSlot::Unknown;
        let note = Note::Refuse(Box::new(refusal));
        server.pipeline.sent(Request::Query, Answer::Forward, Some(note));
    }
}

/// A statement that a portal is bound to.
pub(super) enum Bound<'a> {
    Named(&'a Statement),
    Unnamed(&'a Unnamed),
}

impl Bound<'_> {
    fn text(&self) -> &[u8] {
        match self {
            Self::Named(statement) => statement.text(),
            Self::Unnamed(unnamed) => unnamed.text(),
        }
    }
}
