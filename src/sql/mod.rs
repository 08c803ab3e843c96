//! A lexer for PostgreSQL's SQL, and what it says about statements.
//!
//! Texts come from clients: no bytes reach a panic, nothing is allocated for a token, and every text is read in time
//! proportional to its length. A verdict is cheap for the statements that it is not about.
//!
//! The lexer reads bytes as PostgreSQL reads them in its own encodings, in which a byte below 0x80 is always that
//! character of ASCII. In the encodings that only a client can have (SJIS, BIG5, GBK, UHC, GB18030, JOHAB,
//! `SHIFT_JIS_2004`) it may be the second half of another, and an escape string may seem to end where it does not.
#![deny(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]
#![cfg_attr(
    test,
    allow(
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test may fail loudly"
    )
)]

mod arguments;
mod bearing;
mod calls;
mod classify;
mod computed;
mod cursor;
mod custom;
mod deallocation;
mod definitions;
mod functions;
mod glance;
mod hidden;
mod identifier;
mod judge;
mod keywords;
mod lexer;
mod literal;
mod plain;
mod quiet;
mod rewind;
mod scan;
mod settings;
mod statement;
#[cfg(test)]
mod tests;
mod transaction;
mod verdict;

pub use bearing::{Bearing, has_literals, is_folded, is_read_when_prepared, may_mean_now};
pub use classify::{Reading, encoding_is_safe, verdict};
pub use custom::dotted_names;
pub use deallocation::{Deallocation, Deallocations, deallocations};
pub use definitions::CURRENT_USER;
pub use functions::{Functions, Volatility};
pub use glance::{contains_either, contains_name, has_escaped_name, is_described_by_session};
pub use hidden::hidden_effects;
pub use identifier::name;
pub use lexer::{Kind, Lexer, Token};
pub use quiet::is_quiet;
pub use rewind::{Rewind, Rewinds, rewinds};
pub use settings::SEED;
pub use statement::{Statement, Statements};
pub use transaction::{Bare, bare};
pub use verdict::{Details, Effects, NAMES_MAX, Nullable, Prepared, Resets, SettingName, Verdict};
