//! Verdicts on requests before they go out: some wait, some are refused, some leave marks.

use crate::error::Refusal;
use crate::server::{Connection, Deallocates, NAME_PREFIX, NOTHING, Note, Statement, Unnamed, UnnamedSlot};
use crate::sql::{
    Effects, Nullable, SettingName, Verdict, contains_either, has_escaped_name, is_described_by_session,
};
use crate::wire::backend::Status;
use crate::wire::frontend;
use crate::wire::pipeline::{Answer, Request};
use crate::wire::scan::{HEADER_LEN, Header};
use crate::wire::write;

use super::concerns::{Concerns, clears};
use super::executed::{Executed, Lent};
use super::long::Long;
use super::quiet::{close_quietly, hide_shared, refuse};
use super::requests::wait_for_answers;
use super::trail::{Barrier, Following, Judged};
use super::{Does, Pause, QUERY_LOOK_MAX, Talk};

impl Talk {
    /// Whether nothing may go out before what is in flight has been answered, which may change what it means.
    pub(super) fn is_barred(&mut self, server: &Connection) -> bool {
        match self.trail.barrier {
            Barrier::Now if server.pipeline.is_quiet() => {
                self.trail.barrier = Barrier::None;
                false
            }
            Barrier::Now if server.pipeline.is_copying_in() => false,
            Barrier::Now if !server.pipeline.in_flight() => {
                // A COPY has swallowed the Sync: there will be another.
                self.trail.barrier = Barrier::AtSync;
                false
            }
            Barrier::Now => true,
            Barrier::None | Barrier::AtSync => false,
        }
    }

    /// A Sync goes out.
    pub(super) fn close_barrier(&mut self) {
        if self.trail.barrier == Barrier::AtSync {
            self.trail.barrier = Barrier::Now;
        }
    }

    /// Looks at a simple query.
    pub(super) fn watch_query(&mut self, header: Header, server: &mut Connection) -> Result<Watched, Pause> {
        if self.trail.following == Following::Not {
            return Ok(Watched::Plain);
        }
        if header.len > AT_ONCE_MAX && server.pipeline.in_flight() {
            // It is not to be judged again at each answer that it may have to wait for.
            return Err(wait_for_answers(server));
        }
        let (judged, shows) = if header.len > QUERY_LOOK_MAX {
            (self.trail.unread(), self.bounds.shared)
        } else {
            let text = frontend::query_text(self.body(header)).unwrap_or_default();
            let shows = self.bounds.shared && shows_statements(text);
            (self.trail.judge(text), shows)
        };
        let mut executed = Executed::default();
        let verdict = match judged {
            Judged::Inert if !shows => return Ok(Watched::Inert),
            Judged::Passing if !shows => return Ok(Watched::Plain),
            Judged::Inert | Judged::Passing => None,
            Judged::Marked(mut verdict) => {
                executed = self.spoken_of(&verdict, 0);
                self.mind_paths(&mut verdict, &mut executed, server);
                let concerns = Self::concerns(&verdict, &executed);
                if !concerns.are_none() && server.pipeline.in_flight() {
                    return Err(wait_for_answers(server));
                }
                if (verdict.is_inert() || clears(&verdict)) && !shows {
                    self.trail.concern(concerns);
                    return Ok(Watched::Plain);
                }
                Some(verdict).filter(|verdict| !verdict.is_inert())
            }
        };
        if server.pipeline.in_flight() {
            return Err(wait_for_answers(server));
        }
        if let Some(verdict) = verdict {
            if let Some(refusal) = self.admit(&verdict, &executed)? {
                self.discard(header);
                self.refuse_query(refusal, server);
                return Ok(Watched::Refused);
            }
            let here = self.input.len().min(header.len);
            let text = self.input.get(HEADER_LEN..here).unwrap_or_default();
            self.trail.mark(&verdict, text, Barrier::Now);
            if let Some(marks) = self.trail.marks.as_mut().filter(|_| header.len > QUERY_LOOK_MAX) {
                marks.long = Some(Long::default());
            }
            self.lead_back_in_query(&verdict, header, server);
            self.mark_executed(&executed, Barrier::Now);
            let concerns = Self::concerns(&verdict, &executed);
            self.trail.concern(concerns);
        }
        if server.pipeline.status() == Status::Failed {
            // Nothing could be prepared, and nothing is going to be found.
            return Ok(Watched::Plain);
        }
        let hides = shows || executed.shows;
        Ok(Watched::Finds(Stage {
            lent: if hides {
                self.names.all()
            } else {
                executed.spoken_of
            },
            hides,
            frees: executed.frees,
        }))
    }

    /// Whom a text concerns beside the client, and what it executes.
    fn concerns(verdict: &Verdict, executed: &Executed) -> Concerns {
        let executed = executed.verdicts.iter().map(|(verdict, _)| &**verdict);
        Concerns::of([verdict].into_iter().chain(executed))
    }

    /// Makes what is created without a schema an effect where that may be temporary.
    fn mind_paths(&mut self, verdict: &mut Verdict, executed: &mut Executed, server: &Connection) {
        self.trail.mind_path(verdict, server.pipeline.is_settled());
        for (verdict, _) in &mut executed.verdicts {
            self.trail.mind_path(verdict, false);
        }
    }

    /// Before a text is parsed or described: PostgreSQL finds out then what an EXECUTE returns, from the statement that
    /// there is. Returns the names under which the server has been given some.
    pub(super) fn lend_to_describe(
        &self,
        text: &[u8],
        server: &mut Connection,
    ) -> Result<Vec<Box<[u8]>>, Pause> {
        let nothing = Ok(Vec::new());
        if !is_described_by_session(text) || server.pipeline.status() == Status::Failed {
            return nothing;
        }
        let Judged::Marked(verdict) = self.trail.judge(text) else {
            return nothing;
        };
        let is_there = |name: &[u8]| self.trail.lent.contains(name);
        if verdict.details().executes.iter().all(|name| is_there(name)) {
            return nothing;
        }
        if server.pipeline.unit_in_flight() {
            return Err(wait_for_answers(server));
        }
        let mut spoken_of = self.spoken_of(&verdict, server.pipeline.segment()).spoken_of;
        spoken_of.retain(|(name, _)| !is_there(name));
        self.lend(&spoken_of, || None, server);
        Ok(spoken_of.into_iter().map(|(name, _)| name).collect())
    }

    /// What a portal may do that is about to be bound. `None`: nothing that matters.
    fn judge_bound(
        &mut self,
        bound: Option<&Bound<'_>>,
        server: &mut Connection,
    ) -> Result<Option<Box<Verdict>>, Pause> {
        let judged = match bound {
            _ if self.trail.following == Following::Not => return Ok(None),
            Some(Bound::Named(statement)) => {
                let version = self.trail.functions.version();
                if statement.is_inert(version) {
                    return Ok(None);
                }
                let shows = shows_statements(statement.text());
                if shows {
                    self.show_statements(server)?;
                }
                let judged = self.trail.judge_parsed(statement);
                if matches!(judged, Judged::Inert) && !shows {
                    statement.found_inert(version);
                }
                judged
            }
            Some(Bound::Unnamed(unnamed)) => {
                if unnamed.shows_statements {
                    self.show_statements(server)?;
                }
                return Ok(unnamed.verdict.clone());
            }
            // SQL's own PREPARE made it.
            None => self.trail.unread(),
        };
        Ok(match judged {
            Judged::Marked(verdict) => Some(verdict),
            Judged::Inert | Judged::Passing => None,
        })
    }

    /// Looks at what a Bind is about to make ready to run: whether it may, and what it is then to be marked for.
    pub(super) fn watch_bind(
        &mut self,
        header: Header,
        bound: Option<&Bound<'_>>,
        server: &mut Connection,
    ) -> Result<Bindable, Pause> {
        let Some(mut verdict) = self.judge_bound(bound, server)? else {
            return Ok(Bindable::Unmarked);
        };
        let mut executed = self.spoken_of(&verdict, server.pipeline.segment());
        self.mind_paths(&mut verdict, &mut executed, server);
        let concerns = Self::concerns(&verdict, &executed);
        if !concerns.are_none() {
            let body = self.input.get(HEADER_LEN..).unwrap_or_default();
            let portal = frontend::bind_names(body).map(|(portal, _)| portal.to_vec());
            let portal = portal.unwrap_or_default();
            self.forget_portal(&portal);
            self.note_portal(&portal, Does::Concerns(concerns));
        }
        if verdict.is_inert() || clears(&verdict) {
            return Ok(Bindable::Unmarked);
        }
        if server.pipeline.unit_in_flight() {
            return Err(wait_for_answers(server));
        }
        if let Some(refusal) = self.admit(&verdict, &executed)? {
            self.discard(header);
            refuse(server, refusal);
            return Ok(Bindable::Refused);
        }
        if executed.shows {
            self.show_statements(server)?;
        }
        if server.pipeline.status() != Status::Failed {
            executed
                .spoken_of
                .retain(|(name, _)| !self.trail.lent.contains(name));
            self.lend(&executed.spoken_of, || None, server);
            let names = executed.spoken_of.iter().map(|(name, _)| name.clone());
            self.trail.lent.extend(names);
        }
        Ok(Bindable::Marked(Box::new((verdict, executed))))
    }

    /// Marks what is bound next. What has to be prepared for it has gone out before: it is not behind it.
    pub(super) fn mark_bound(&mut self, header: Header, text: &[u8], bindable: Bindable) {
        let Bindable::Marked(marked) = bindable else {
            return;
        };
        let text = text.get(..MARK_LOOK_MAX).unwrap_or(text);
        let (mut verdict, executed) = *marked;
        let details = verdict.details();
        let names = self.bound_names(header, &details.bound_settings);
        let locals = self.bound_names(header, &details.bound_locals);
        if names.is_none() || locals.is_none() {
            verdict.effects.insert(Effects::ANY_SETTING);
        }
        for name in self.bound_resets(header, &verdict.details().nullables) {
            verdict.add_reset(name);
        }
        self.trail.mark(&verdict, text, Barrier::AtSync);
        self.lead_back_when_executed(&verdict, text);
        let body = self.input.get(..self.input.len().min(header.len));
        self.trail
            .mark_candidates(verdict.effects, body.unwrap_or_default());
        self.trail
            .mark_settings(names.unwrap_or_default(), locals.unwrap_or_default());
        self.mark_executed(&executed, Barrier::AtSync);
    }

    /// The statement that is bound next is to find the client's own statements, up to the next Sync.
    pub(super) fn show_statements(&mut self, server: &mut Connection) -> Result<(), Pause> {
        let fails = server.pipeline.status() == Status::Failed;
        if fails || !self.bounds.shared {
            return Ok(());
        }
        if server.pipeline.unit_in_flight() {
            return Err(wait_for_answers(server));
        }
        let alone = server.pipeline.is_quiet();
        hide_shared(server);
        let mut own = self.names.all();
        own.retain(|(name, _)| !self.trail.lent.contains(name));
        if alone {
            self.lend_apart(&own, server);
        } else {
            self.lend(&own, || None, server);
        }
        self.trail.lent.extend(own.into_iter().map(|(name, _)| name));
        Ok(())
    }

    /// `set_config($1, …)`: the names are in the Bind. `None` if they cannot be found there.
    fn bound_names(&self, header: Header, numbers: &[u16]) -> Option<Vec<Box<[u8]>>> {
        let whole = (self.input.len() >= header.len).then(|| self.body(header));
        let name = |number: &u16| {
            Some(
                frontend::bound_value(whole?, *number)?
                    .to_ascii_lowercase()
                    .into(),
            )
        };
        numbers.iter().map(name).collect()
    }

    /// `set_config(name, $2, false)`: which settings get NULL, so that they are reset.
    fn bound_resets(&self, header: Header, nullables: &[Nullable]) -> Vec<Box<[u8]>> {
        let whole = (self.input.len() >= header.len).then(|| self.body(header));
        let is_null = |value| whole.is_some_and(|body| frontend::is_bound_to_null(body, value));
        let reset = nullables
            .iter()
            .filter(|nullable| nullable.value.is_none_or(is_null));
        let name = |nullable: &Nullable| match &nullable.name {
            SettingName::Is(name) => Some(name.clone()),
            SettingName::Comes(number) => self.bound_names(header, &[*number])?.pop(),
        };
        reset.filter_map(name).collect()
    }

    /// Whether a statement may run: now, not yet, or never.
    fn admit(&mut self, verdict: &Verdict, executed: &Executed) -> Result<Option<Refusal>, Pause> {
        let executed = executed.verdicts.iter().map(|(verdict, _)| &**verdict);
        for verdict in [verdict].into_iter().chain(executed) {
            if let Some(refusal) = self.trail.refusal(verdict) {
                return Ok(Some(refusal));
            }
            if self.trail.wants_pin(verdict) {
                return match self.trail.turned_down.take() {
                    Some(refusal) => Ok(Some(*refusal)),
                    None => Err(Pause::WantsPin),
                };
            }
        }
        Ok(None)
    }

    /// Makes a query fail in place of the client's own, so that its transaction fares as PostgreSQL would have it.
    fn refuse_query(&mut self, refusal: Refusal, server: &mut Connection) {
        close_quietly(NOTHING, server);
        write::query(&mut server.output, b"DEALLOCATE howdah_0");
        self.unnamed.clear();
        server.unnamed = UnnamedSlot::Unknown;
        let note = Note::Refuse(Box::new(refusal));
        server.pipeline.sent(Request::Query, Answer::Forward, Some(note));
    }
}

/// How much of a text is looked through for names, in bytes, each time it is bound.
const MARK_LOOK_MAX: usize = 64 * 1024;
/// Longer queries go out once all before them has been answered.
const AT_ONCE_MAX: usize = 4096;

/// Whether a text looks at the prepared statements of its session, or speaks of one by a name that only howdah gives.
pub(super) fn shows_statements(text: &[u8]) -> bool {
    contains_either(text, [b"pg_prepared_statement", NAME_PREFIX.as_bytes()]) || has_escaped_name(text)
}

/// What is to be done with a query.
pub(super) enum Watched {
    /// Nothing: it has been refused.
    Refused,
    /// It goes on, and has nothing to do with prepared statements: it frees none, and speaks of none by a name of ours.
    Inert,
    /// It goes on.
    Plain,
    /// It goes on, and has to find this.
    Finds(Stage),
}

/// What the server is to have, for as long as a query runs, under the client's names.
#[derive(Default)]
pub(super) struct Stage {
    /// These statements.
    pub(super) lent: Vec<Lent>,
    /// And none of the shared ones.
    pub(super) hides: bool,
    /// What it deallocates.
    pub(super) frees: Vec<Deallocates>,
}

/// What is to be done with a Bind.
pub(super) enum Bindable {
    /// Nothing: it has been refused, and is dealt with.
    Refused,
    /// It goes on.
    Unmarked,
    /// It goes on, and leaves marks.
    Marked(Box<(Box<Verdict>, Executed)>),
}

/// A statement that a portal is bound to.
pub(super) enum Bound<'a> {
    Named(&'a Statement),
    Unnamed(&'a Unnamed),
}
