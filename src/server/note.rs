//! What is remembered with a request in flight, to be taken over or taken back when it has been answered.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Statement;
use super::connection::Unnamed;
use crate::error::Refusal;
use crate::sql::{Deallocation, deallocations};
use crate::wire::pipeline::Weigh;

/// What is remembered with a request in flight.
#[derive(Debug)]
pub enum Note {
    /// A Parse of howdah's own of this statement.
    Injected(u64),
    /// A Close of howdah's own of this statement, which the server no longer counts as having.
    Evicted(Arc<Statement>),
    /// A client's Parse.
    Learn {
        /// The client's name.
        name: Box<[u8]>,
        /// The statement that is prepared on the server with it, unless the server has it already.
        prepares: Option<Arc<Statement>>,
        /// Whoever prepares it under these settings has it accepted as well.
        proves: bool,
    },
    /// A Describe of howdah's own of this statement.
    Describes(u64),
    /// A query of howdah's own that asks for the settings that this statement is prepared under.
    Asks(Arc<Statement>),
    /// A client's Close of this name, which stood for this statement.
    Forget(Forgotten),
    /// A request that replaces the client's unnamed statement by this one, or removes it.
    Unnamed(Option<Arc<Unnamed>>),
    /// A Parse of howdah's own of the client's unnamed statement of this id; with 0 a Close.
    InjectedUnnamed(u64),
    /// A request that is bound to fail, with what the client is told of it.
    Refuse(Box<Refusal>),
    /// A request that is bound to fail over the statement 0, which the client calls by this name.
    Alias(Box<[u8]>),
    /// A Bind or Describe of one of the shared statements, by a client's name.
    Uses {
        /// Of the statement.
        id: u64,
        /// Which of the client's names for it was used: see `client::talk::names`.
        order: u64,
    },
    /// A Parse of howdah's own, in a unit of its own, of what the query behind it speaks of.
    Lent,
    /// The same of what it may only look at.
    Shown,
    /// An Execute of a DEALLOCATE by a client.
    Deallocate(Box<Freeing>),
    /// An Execute of a BEGIN that the client has been told is done.
    Begin,
    /// A simple query, which does away with the unnamed statement; with what else it does to statements, if anything.
    Query(Option<Box<Freeing>>),
}

impl Note {
    /// The server has sent a notice on the request.
    pub fn has_notices(&self) {
        if let Self::Learn {
            prepares: Some(statement),
            ..
        } = self
        {
            statement.has_notices();
        }
    }
}

impl Weigh for Note {
    fn bytes(&self) -> usize {
        match self {
            Self::Learn { name, prepares, .. } => {
                name.len()
                    + prepares
                        .as_ref()
                        .map_or(0, |statement| statement.definition.len())
            }
            Self::Alias(name) => name.len(),
            Self::Forget((name, statement)) => name.len() + statement.definition.len(),
            Self::Evicted(statement) => statement.definition.len(),
            Self::Unnamed(unnamed) => unnamed.as_ref().map_or(0, |unnamed| unnamed.definition.len()),
            Self::Deallocate(freeing) | Self::Query(Some(freeing)) => freeing.bytes(),
            Self::Injected(_)
            | Self::Describes(_)
            | Self::InjectedUnnamed(_)
            | Self::Refuse(_)
            | Self::Uses { .. }
            | Self::Query(None)
            | Self::Asks(_)
            | Self::Lent
            | Self::Shown
            | Self::Begin => 0,
        }
    }
}

/// A name that a client is giving up, and what it stood for.
pub type Forgotten = (Box<[u8]>, Arc<Statement>);

/// What a request does to the statements of its client and its server, beside what the client is told.
#[derive(Debug, Default)]
pub struct Freeing {
    /// What its statements deallocate, one after the other, each with what of the client's that is.
    pub steps: Vec<(Deallocates, Vec<Forgotten>)>,
    /// Names under which the server has something for this request's sake.
    pub borrowed: BTreeSet<Box<[u8]>>,
}

impl Freeing {
    fn bytes(&self) -> usize {
        let forgotten = self.steps.iter().flat_map(|(_, forgotten)| forgotten);
        let names = forgotten.map(|(name, _)| name);
        names.chain(&self.borrowed).map(|name| name.len()).sum()
    }
}

/// What a DEALLOCATE removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deallocates {
    /// The statement of this name.
    Name(Box<[u8]>),
    /// All statements.
    All,
    /// All statements, and all else (`DISCARD ALL`).
    Everything,
}

impl Deallocates {
    /// What a text removes that is a DEALLOCATE or a DISCARD ALL, and nothing else.
    pub fn of(text: &[u8]) -> Option<Self> {
        deallocations(text, true).sole().map(Self::from)
    }
}

impl From<Deallocation<'_>> for Deallocates {
    fn from(found: Deallocation<'_>) -> Self {
        match found {
            Deallocation::Name(name) => Self::Name(name.into_owned().into()),
            Deallocation::All => Self::All,
            Deallocation::DiscardAll => Self::Everything,
        }
    }
}
