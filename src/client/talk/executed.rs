//! EXECUTE of what the client has prepared by the protocol: it does what that statement's text says.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::server::{Deallocates, Statement};
use crate::sql::{Effects, Verdict};

use super::Talk;
use super::names::Known;
use super::trail::{Barrier, Judged};
use super::watch::shows_statements;

/// A statement of the client's, by its name.
pub(super) type Lent = (Box<[u8]>, Arc<Statement>);

/// What a text of SQL's PREPARE and EXECUTE has to do with the client's own statements.
#[derive(Debug, Default)]
pub(super) struct Executed {
    /// Those that it speaks of, for the server to have, in the order in which it is to be given them.
    pub(super) spoken_of: Vec<Lent>,
    /// What those that are executed do, with their texts.
    pub(super) verdicts: Vec<(Box<Verdict>, Arc<Statement>)>,
    /// What they deallocate.
    pub(super) frees: Vec<Deallocates>,
    /// One of them looks at the prepared statements of its session.
    pub(super) shows: bool,
}

/// What is still to be done with a statement that is spoken of.
enum Step {
    LookUp(Box<[u8]>),
    /// What it speaks of itself is there.
    Lend(Lent),
}

/// To be taken from the end.
fn look_ups(names: &[Box<[u8]>]) -> impl Iterator<Item = Step> {
    names.iter().rev().cloned().map(Step::LookUp)
}

impl Talk {
    /// Looks up, in this segment, what a text of this verdict speaks of by name, and what that speaks of in turn. That comes
    /// first: whether an EXECUTE returns rows is found out when it is parsed.
    pub(super) fn spoken_of(&self, verdict: &Verdict, segment: u64) -> Executed {
        let mut executed = Executed::default();
        let details = verdict.details();
        let mut seen: BTreeSet<Box<[u8]>> = BTreeSet::new();
        let mut due: Vec<Step> = look_ups(&details.executes).collect();
        while let Some(step) = due.pop() {
            let name = match step {
                Step::LookUp(name) => name,
                Step::Lend(lent) => {
                    executed.spoken_of.push(lent);
                    continue;
                }
            };
            if seen.insert(name.clone())
                && let Known::Statement(statement) = self.names.get(&name, segment)
            {
                executed.shows |= shows_statements(statement.text());
                executed.frees.extend(statement.deallocates.clone());
                due.push(Step::Lend((name, statement.clone())));
                if let Judged::Marked(mut verdict) = self.trail.judge_parsed(&statement) {
                    let details = verdict.details();
                    due.extend(look_ups(&details.executes));
                    if !details.bound_settings.is_empty() || !details.bound_locals.is_empty() {
                        // The names are among the values that it is executed with.
                        verdict.effects.insert(Effects::ANY_SETTING);
                    }
                    executed.verdicts.push((verdict, statement));
                }
            }
        }
        for prepared in &details.prepares {
            if seen.insert(prepared.name.clone())
                && let Known::Statement(statement) = self.names.get(&prepared.name, segment)
            {
                executed.spoken_of.push((prepared.name.clone(), statement));
            }
        }
        executed
    }

    /// What is executed goes out.
    pub(super) fn mark_executed(&mut self, executed: &Executed, at: Barrier) {
        for (verdict, statement) in &executed.verdicts {
            self.trail.mark(verdict, statement.text(), at);
            self.trail.lead_back_at_end(&verdict.details().resets);
        }
    }
}
