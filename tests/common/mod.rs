//! What the integration tests share: a private PostgreSQL, a howdah in front of it, a raw protocol client, and a
//! way to compare what a client sees directly with what it sees through howdah.
//!
//! `HOWDAH_TEST_AGAINST=postgres` leaves the pooler out and `=pgbouncer` puts Debian's PgBouncer in its place: the
//! first says whether a test asks only for what PostgreSQL does, the second whether a test can fail at all.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test program uses its own part of this module"
)]

pub mod alike;
pub mod bank;
pub mod cluster;
pub mod console;
pub mod daemon;
pub mod dice;
pub mod health;
pub mod heard;
pub mod howdah;
pub mod login;
pub mod msg;
pub mod net;
pub mod pam;
pub mod proxy;
pub mod run;
pub mod slapd;
pub mod tls;
pub mod wire;

pub use alike::Pair;
pub use cluster::Cluster;
pub use howdah::Howdah;
pub use net::Target;
pub use wire::Wire;
