//! One connection to PostgreSQL: opening it, what is known of it, keeping it clean.

mod align;
mod beginning;
mod cancel;
mod chosen;
mod connect;
mod connection;
mod defaults;
mod detour;
mod doubt;
mod functions;
mod literal;
mod lookup;
mod lore;
mod markers;
mod note;
mod parameters;
mod plans;
mod questions;
mod repose;
mod resolve;
mod restoring;
mod route;
mod settings;
mod statements;
mod unseen;

pub use cancel::CancelKey;
pub use chosen::Chosen;
pub use connect::{Address, ConnectError, Target};
pub use connection::{Connection, Failure, Gone, Info, Leftovers, Unnamed, UnnamedSlot, refusal_of};
pub use defaults::NewDefault;
pub use detour::fixed_question;
pub use functions::FunctionTable;
pub use literal::quote_identifier;
pub use lore::Lore;
pub use markers::Mark;
pub use note::{Deallocates, Forgotten, Freeing, Note};
pub use parameters::Parameters;
pub use plans::{Outdated, is_read_in_functions};
pub use questions::{Answer, Manner, Question, Remains, Row, State, Value};
pub use repose::{IDLE_SESSION_TIMEOUT, IdleLimits};
pub use resolve::Resolver;
pub use restoring::restoring;
pub use route::Encryption;
pub use settings::{Extra, Settings, assignments, is_outranked, wished};
pub use statements::{
    DECOY, Described, Findings, NAME_PREFIX, NOTHING, Prepared, Standing, Statement, StatementCache,
};
