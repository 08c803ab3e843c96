//! DEALLOCATE and DISCARD ALL, which concern the client's names. PostgreSQL itself carries them out, on what it is given
//! under these names for the moment; so it decides whether they may run, and what becomes of the rest.

use crate::server::{Connection, DECOY, Deallocates, Forgotten, Freeing, Note};
use crate::sql::deallocations;
use crate::wire::backend::Status;
use crate::wire::frontend;
use crate::wire::pipeline::{Answer, Request};
use crate::wire::scan::Header;

use super::executed::Lent;
use super::names::{Known, key};
use super::quiet::{close_quietly, hide_shared, on_a_detour, prepare_empty, run_quietly, sync, write_parse};
use super::requests::{looks_like_ours, wait_for_answers};
use super::trail::Barrier;
use super::watch::Stage;
use super::{Does, Pause, QUERY_LOOK_MAX, Talk};

impl Talk {
    /// A simple query that is nothing but a DEALLOCATE of this client's names, while it holds no server.
    pub(super) fn deallocate_without_server(&mut self, header: Header) -> bool {
        let first = self.body(header).trim_ascii_start().first();
        if first.is_some_and(|byte| byte.is_ascii_alphabetic() && !byte.eq_ignore_ascii_case(&b'd')) {
            // It begins with another word, as nearly every query does.
            return false;
        }
        let (frees, is_all) = self.deallocations_in(header);
        let done = is_all && self.deallocate_now(&frees, self.status_without_server());
        if done {
            self.discard(header);
        }
        done
    }

    /// What a simple query deallocates, statement by statement, and whether it does nothing else.
    pub(super) fn deallocations_in(&self, header: Header) -> (Vec<Deallocates>, bool) {
        if !self.bounds.shared || header.len > QUERY_LOOK_MAX {
            return (Vec::new(), false);
        }
        let text = frontend::query_text(self.body(header)).unwrap_or_default();
        let in_text = deallocations(text, self.trail.reading.standard_conforming_strings);
        let frees = in_text.found.into_iter().map(Deallocates::from).collect();
        (frees, !in_text.is_mixed)
    }

    /// Carries out a DEALLOCATE of this client's names, as PostgreSQL would in this transaction status. False if it is
    /// not about them, or not one.
    pub(super) fn deallocate_now(&mut self, frees: &[Deallocates], status: Status) -> bool {
        match frees {
            // PostgreSQL is to say that the transaction is aborted.
            _ if status == Status::Failed => return false,
            [Deallocates::All] if !self.trail.may_have_sql_statements() => {
                self.names.clear();
                self.answer_query(b"DEALLOCATE ALL", status.byte());
            }
            [Deallocates::Name(name)] if !matches!(self.names.get(name, 0), Known::Nothing) => {
                self.names.remove(name);
                self.answer_query(b"DEALLOCATE", status.byte());
            }
            _ => return false,
        }
        self.unnamed.clear();
        true
    }

    /// Gives the server what a simple query is to find there under the client's names: statements that are `lent`, those
    /// that it is going to deallocate, and, if it `hides` them, none of the shared ones. Nothing may be in flight.
    pub(super) fn set_the_stage(
        &mut self,
        Stage { lent, hides, frees }: Stage,
        server: &mut Connection,
    ) -> Result<Option<Box<Freeing>>, Pause> {
        let is_plain = lent.is_empty() && !hides && frees.is_empty() && !self.has_lent();
        if is_plain {
            return Ok(None);
        }
        let (alone, before) = (server.pipeline.is_quiet(), server.output.len());
        // What an open segment has been given, the query that ends it takes over.
        let mut borrowed = self.trail.lent.take();
        borrowed.append(&mut self.trail.doomed.take());
        if hides {
            hide_shared(server);
        }
        if alone && hides {
            self.lend_apart(&lent, server);
        } else {
            self.lend(&lent, || alone.then_some(Note::Lent), server);
        }
        borrowed.extend(lent.into_iter().map(|(name, _)| name));
        for effect in &frees {
            if let Deallocates::Name(name) = effect
                && !matches!(self.names.get(name, 0), Known::Nothing)
                && borrowed.insert(name.clone())
            {
                prepare_empty(name, server);
            }
        }
        if alone && server.output.len() > before {
            sync(server);
        }
        if !borrowed.is_empty() {
            self.trail.barrier = Barrier::Now;
        }
        let segment = server.pipeline.segment();
        let mut freeing = Freeing {
            steps: Vec::new(),
            borrowed,
        };
        let mut nothing_left = false;
        for effect in frees {
            let forgotten = if nothing_left {
                Vec::new()
            } else {
                self.forget(&effect, segment)?
            };
            nothing_left |= !matches!(effect, Deallocates::Name(_));
            freeing.steps.push((effect, forgotten));
        }
        Ok(Some(Box::new(freeing)))
    }

    /// Puts the client's own statements in the place of those that are shared, so that it finds its own and no others.
    pub(super) fn lend(&self, lent: &[Lent], note: impl Fn() -> Option<Note>, server: &mut Connection) {
        for (name, statement) in lent {
            on_a_detour(self.detour(statement).as_deref(), server, |server| {
                close_quietly(name, server);
                write_parse(&mut server.output, name, &statement.definition);
                server.pipeline.sent(Request::Parse, Answer::Skip, note());
            });
        }
    }

    /// The same for statements that nothing asks for by name: one that cannot be prepared any more, as its table is gone, is
    /// not to fail the transaction, nor to keep the others away. Nothing is locked for them either.
    pub(super) fn lend_apart(&self, lent: &[Lent], server: &mut Connection) {
        let in_block = server.pipeline.status() != Status::Idle;
        for statement in lent {
            if in_block {
                run_quietly(b"SAVEPOINT howdah", server);
            }
            self.lend(std::slice::from_ref(statement), || Some(Note::Shown), server);
            sync(server);
            if in_block {
                run_quietly(b"ROLLBACK TO SAVEPOINT howdah", server);
                run_quietly(b"RELEASE SAVEPOINT howdah", server);
            }
        }
    }

    /// Such a query has been answered, and has come as far as its command tags have told.
    pub(super) fn leave_the_stage(&mut self, freeing: Freeing, server: &mut Connection) {
        let Freeing { steps, mut borrowed } = freeing;
        let done = std::mem::take(&mut self.doings.deallocated);
        for (at, (effect, forgotten)) in steps.into_iter().enumerate() {
            if at < done {
                // If there is one of that name again, SQL's PREPARE has made it.
                match &effect {
                    Deallocates::Name(name) => drop(borrowed.remove(name)),
                    Deallocates::All | Deallocates::Everything => borrowed.clear(),
                }
            }
            self.settle_freed(forgotten, at < done);
        }
        for name in &borrowed {
            close_quietly(name, server);
        }
        if !borrowed.is_empty() {
            sync(server);
        }
    }

    /// Takes away the names that a DEALLOCATE on its way is about to remove.
    fn forget(&mut self, effect: &Deallocates, segment: u64) -> Result<Vec<Forgotten>, Pause> {
        match effect {
            Deallocates::All | Deallocates::Everything => {
                self.names.forget_all(segment).ok_or(Pause::Blocked)
            }
            Deallocates::Name(name) => {
                let was = self.names.forget(name, segment);
                Ok(was.map(|was| (name.clone(), was)).into_iter().collect())
            }
        }
    }

    fn settle_freed(&mut self, forgotten: Vec<Forgotten>, done: bool) {
        self.settle_names(forgotten.into_iter().map(|(name, was)| (name, Some(was))), done);
    }

    /// A portal of this name is bound to something else, or closed.
    pub(super) fn forget_portal(&mut self, name: &[u8]) {
        self.portals.retain(|portal| *portal.name != *key(name));
    }

    /// Before the Execute of such a portal goes out: gives the server what it is to find. Returns what is to be remembered
    /// with it.
    pub(super) fn before_freeing(
        &mut self,
        at: usize,
        server: &mut Connection,
    ) -> Result<Option<Note>, Pause> {
        let (effect, by_decoy) = match self.portals.get(at).map(|portal| &portal.does) {
            Some(Does::Frees { effect, by_decoy }) => (effect.clone(), *by_decoy),
            _ => return Ok(None),
        };
        let borrowed = match &effect {
            Deallocates::Name(name) => match self.lend_to_deallocate(name, server)? {
                Lending::Done => [name.clone()].into(),
                Lending::NotOnes => return Ok(None),
                Lending::Nobodys => return Ok(Some(Note::Alias(name.clone()))),
            },
            Deallocates::All | Deallocates::Everything => {
                self.lend_to_deallocate_all(by_decoy, server)?;
                self.trail.doomed.to_set()
            }
        };
        let forgotten = self.forget(&effect, server.pipeline.segment())?;
        Ok(Some(Note::Deallocate(Box::new(Freeing {
            steps: vec![(effect, forgotten)],
            borrowed,
        }))))
    }

    fn lend_to_deallocate(&mut self, name: &[u8], server: &mut Connection) -> Result<Lending, Pause> {
        let is_known = match self.names.get(name, server.pipeline.segment()) {
            Known::Uncertain => return Err(Pause::Blocked),
            Known::Statement(_) => true,
            Known::Nothing => false,
        };
        if looks_like_ours(name) {
            if server.pipeline.in_flight() {
                return Err(wait_for_answers(server));
            }
            // One of the shared statements may have that name.
            server.prepared.forget(name);
            if !is_known {
                close_quietly(name, server);
                return Ok(Lending::Nobodys);
            }
        }
        if !is_known {
            return Ok(Lending::NotOnes);
        }
        prepare_empty(name, server);
        self.trail.lent.remove(name);
        self.trail.doomed.extend([name.into()]);
        Ok(Lending::Done)
    }

    /// A decoy stands for all statements if nothing but shared ones can be there. Else they are really removed, the shared
    /// ones too.
    fn lend_to_deallocate_all(&mut self, by_decoy: bool, server: &mut Connection) -> Result<(), Pause> {
        let only_shared = !self.trail.may_have_sql_statements() && !self.has_lent();
        if !(by_decoy && only_shared) {
            if server.pipeline.in_flight() {
                return Err(wait_for_answers(server));
            }
            // What the server has will be known when it has been answered.
            self.trail.barrier = Barrier::Now;
            let lent = self.trail.lent.take();
            self.trail.doomed.extend(lent);
            if by_decoy {
                run_quietly(b"DEALLOCATE ALL", server);
            }
        }
        if by_decoy {
            prepare_empty(DECOY, server);
        }
        Ok(())
    }

    /// Such an Execute has been answered, or passed over.
    pub(super) fn after_freeing(&mut self, freeing: Freeing, done: bool) {
        for name in freeing.borrowed.iter().filter(|_| done) {
            self.trail.doomed.remove(name);
        }
        for (_, forgotten) in freeing.steps {
            self.settle_freed(forgotten, done);
        }
    }

    /// Whether the server has anything under the client's names until the next Sync.
    pub(in crate::client) fn has_lent(&self) -> bool {
        !self.trail.lent.is_empty() || !self.trail.doomed.is_empty()
    }

    /// Removes what the server has under the client's names.
    pub(super) fn take_back(&mut self, server: &mut Connection) {
        let (lent, doomed) = (self.trail.lent.take(), self.trail.doomed.take());
        for name in lent.iter().chain(&doomed) {
            close_quietly(name, server);
        }
    }
}

/// What there is for a DEALLOCATE to find.
enum Lending {
    /// What stands for the client's statement.
    Done,
    /// Whatever the server has: the client has no statement of this name that howdah knows of.
    NotOnes,
    /// Nothing: the name is one that howdah gives.
    Nobodys,
}
