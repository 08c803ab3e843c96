//! What is remembered with a request in flight, to be taken over or taken back when it has been answered.

use std::sync::Arc;

use super::Statement;
use super::connection::Unnamed;
use crate::error::Refusal;
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
    },
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
    /// A Bind of one of the shared statements, by a client's name.
    Uses {
        /// Of the statement.
        id: u64,
        /// Which of the client's names for it was used: see `client::talk::names`.
        order: u64,
    },
    /// An Execute of a DEALLOCATE by a client: of these names, or of all there are.
    Deallocate(Vec<Forgotten>, Deallocates),
    /// An Execute of a BEGIN that the client has been told is done.
    Begin,
    /// A simple query, which does away with the unnamed statement.
    Query {
        /// What the client calls the statement of which an error may speak by another name.
        alias: Option<Box<[u8]>>,
        /// What it deallocates, among other things, if it comes that far.
        forgets: Vec<Forgotten>,
    },
}

impl Weigh for Note {
    fn bytes(&self) -> usize {
        let names = |forgotten: &[Forgotten]| forgotten.iter().map(|(name, _)| name.len()).sum::<usize>();
        match self {
            Self::Learn { name, .. } | Self::Alias(name) | Self::Forget((name, _)) => name.len(),
            Self::Unnamed(unnamed) => unnamed.as_ref().map_or(0, |unnamed| unnamed.definition.len()),
            Self::Deallocate(forgotten, _) => names(forgotten),
            Self::Query { alias, forgets } => alias.as_ref().map_or(0, |name| name.len()) + names(forgets),
            Self::Injected(_)
            | Self::Evicted(_)
            | Self::InjectedUnnamed(_)
            | Self::Refuse(_)
            | Self::Uses { .. }
            | Self::Begin => 0,
        }
    }
}

/// A name that a client is giving up, and what it stood for.
pub type Forgotten = (Box<[u8]>, Arc<Statement>);

/// What a DEALLOCATE removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deallocates {
    /// The statement of this name.
    Name(Box<[u8]>),
    /// All statements.
    All,
}
