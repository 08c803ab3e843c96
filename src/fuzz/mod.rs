//! A function for everything that reads what a peer or a file says. Any bytes at all may go in; a function panics when
//! something that was promised about them does not hold.
//!
//! The `fuzz` package runs them for as long as one likes, `cargo test` over what is in `fuzz/corpus` and some thousand
//! mutations of it. In a build for use they do not exist. Those that need the private parts of a module are in there.

mod auth;
mod files;
#[cfg(test)]
mod smoke;
mod sql;
mod wire;

pub use crate::admin::fuzz::command as console;
pub use crate::client::fuzz::{client_messages, conversation, server_messages};
pub use crate::config::fuzz::file as config;
pub use crate::net::tls::fuzz::certificate;
pub use crate::wire::pipeline::fuzz as pipeline;
pub use auth::{challenge, ldap, scram_client, scram_server};
pub use files::{conninfo, hba, ident, userlist};
pub use sql::sql;
pub use wire::startup;
