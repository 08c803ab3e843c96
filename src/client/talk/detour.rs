//! Statements that are prepared under other settings than their session has, and those of which only the server can tell
//! what they were prepared under.

use std::sync::Arc;

use crate::server::{Connection, Note, Settings, Standing, Statement, fixed_question};
use crate::sql::{Bearing, has_literals, is_described_by_session, is_read_when_prepared, may_mean_now};
use crate::wire::backend;
use crate::wire::frontend::Parse;
use crate::wire::pipeline::{Answer, Request};

use super::quiet::{ask_quietly, on_a_detour};
use super::trail::{Barrier, Following};
use super::{Talk, Touched};

impl Talk {
    /// The statement of a Parse that goes out now. Behind a SET in the same segment nobody can tell what it is going to
    /// mean, nor in the same transaction what servers do not report, so that it is like no other. Nor is one that the
    /// client's own cursors, statements or uncommitted tables describe, or that means the moment at which it is read.
    pub(super) fn statement(&self, parse: &Parse<'_>) -> Arc<Statement> {
        let is_alone = self.trail.is_apart()
            || self.doings.touched > Touched::Nothing
            || is_described_by_session(parse.text)
            || may_mean_now(parse.text);
        if is_alone || self.trail.barrier == Barrier::AtSync || self.trail.shifted > Bearing::None {
            let is_known = self.trail.shifted < Bearing::Meaning;
            let settings = is_known.then(|| self.current_settings());
            self.statements.alone(parse.definition, settings)
        } else {
            self.statements
                .intern(parse.definition, self.context, &self.current_settings())
        }
    }

    /// Has the server tell what a statement is prepared under whose Parse has just gone out, if nobody knows. What is read
    /// again whenever it is executed is not asked for, as it may be what no query may come before.
    pub(super) fn ask_what_holds(&self, statement: &Arc<Statement>, server: &mut Connection) {
        let may_be_elsewhere = self.trail.following != Following::Resets;
        if may_be_elsewhere && statement.settings().is_none() && is_read_when_prepared(statement.text()) {
            ask_quietly(&fixed_question(), Note::Asks(statement.clone()), server);
        }
    }

    /// The answer to such a question.
    pub(super) fn take_told(&self, row: &[u8], statement: &Statement) {
        if let Ok(row) = backend::data_row(row) {
            let values = row.iter().map(|value| value.as_deref().unwrap_or_default());
            statement.prepared_under(self.current_settings().as_told(values));
        }
    }

    /// Whether PostgreSQL might take the literals of a statement that the server has for something else than when the
    /// client prepared it. It reads a statement anew, under the settings of that moment, once anything has reset the
    /// session's plans: `DISCARD PLANS`, `session_replication_role`, the first temporary object, another `search_path`.
    /// Who did that, and when, nobody knows.
    pub(super) fn may_be_misread_again(&self, statement: &Statement, server: &Connection) -> bool {
        let fixes = |then: &Settings| self.current_settings().fixes_like(then);
        statement.context != Some(self.context)
            && statement.has_literals
            && self.trail.shifted < Bearing::Meaning
            && !server.prepared.is_on_its_way(statement.id)
            && !statement.settings().is_none_or(fixes)
    }

    /// Has the server prepare what this client prepared before, elsewhere.
    pub(super) fn inject(&mut self, statement: &Arc<Statement>, standing: Standing, server: &mut Connection) {
        let detour = self.detour(statement);
        on_a_detour(detour.as_deref(), server, |server| {
            self.make_room_and_parse(statement, standing, server);
            let note = Some(Note::Injected(statement.id));
            server.pipeline.sent(Request::Parse, Answer::Skip, note);
        });
    }

    /// What makes the literals of a statement mean what they meant when the client prepared it, and undoes that.
    pub(super) fn detour(&self, statement: &Statement) -> Option<Vec<u8>> {
        let fits = statement.context == Some(self.context) && self.trail.shifted < Bearing::Meaning;
        self.detour_to(statement.settings().filter(|_| !fits)?, statement.text())
    }

    /// The same for these settings.
    pub(super) fn detour_to(&self, then: &Settings, text: &[u8]) -> Option<Vec<u8>> {
        if !has_literals(text) || !is_read_when_prepared(text) {
            // It may be what no query may come before.
            return None;
        }
        // Behind a setting that is not known yet, it leads through everything.
        let is_known = self.trail.shifted < Bearing::Meaning;
        then.detour(is_known.then(|| self.current_settings()).as_ref())
    }
}

/// The statement that the server is answering a question about.
pub(super) fn asked_by(server: &Connection) -> Option<&Statement> {
    match server.pipeline.head()?.note.as_ref()? {
        Note::Asks(statement) => Some(statement),
        _ => None,
    }
}
