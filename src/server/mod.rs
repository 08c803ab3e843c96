//! One connection to PostgreSQL: opening it, what is known of it, keeping it clean.

mod ask;
mod cancel;
mod connect;
mod connection;
mod lore;
mod parameters;
mod resolve;
mod statements;

pub use ask::Row;
pub use cancel::CancelKey;
pub use connect::{Address, ConnectError, Target};
pub use connection::{Connection, Deallocates, Failure, Forgotten, Gone, Info, Note, Unnamed, UnnamedSlot};
pub use lore::Lore;
pub use parameters::{Extra, Parameters, Settings, assignments, quote_identifier, quote_literal};
pub use resolve::Resolver;
pub use statements::{DECOY, NAME_PREFIX, NOTHING, Prepared, Standing, Statement, StatementCache};
