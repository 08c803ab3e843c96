//! howdah: a PostgreSQL connection pooler that programs do not notice.
//!
//! The map of the house. A module uses lower floors only; `tests/tidy.rs` reads the imports and fails on an
//! upward arrow.
//!
//! | floor | module | what it holds |
//! |---|---|---|
//! | 8 | `fuzz` | any bytes at all for whatever reads them; in tests only |
//! | 7 | [`app`] | puts it together: listeners, accept, workers, signals, drain, the demo |
//! | 6 | [`admin`], [`metrics`], [`log`] | what is seen from outside: console, Prometheus, logs |
//! | 5 | [`client`] | one application connection: login, session loop, relay |
//! | 4 | [`pool`], [`authority`] | who gets which server, when; who is asked about those who log in |
//! | 3 | [`server`] | one connection to PostgreSQL |
//! | 2 | [`auth`], [`net`] | SCRAM, md5, secrets, hba rules, ident maps and LDAP as exchanges without IO; sockets |
//! | 1 | [`wire`], [`sql`] | bytes to meaning; what a statement may leave behind. No IO, no clock, no panic |
//! | 0 | [`error`], [`farewell`], [`stats`], [`config`]; `chance` | words that everyone shares; bytes as decisions, in tests only |

#[cfg(any(test, fuzzing))]
pub mod chance;
pub mod config;
pub mod error;
pub mod farewell;
pub mod stats;

pub mod sql;
pub mod wire;

pub mod auth;
pub mod net;

pub mod server;

pub mod authority;
pub mod pool;

pub mod client;

pub mod admin;
pub mod log;
pub mod metrics;

pub mod app;

#[cfg(any(test, fuzzing))]
pub mod fuzz;
