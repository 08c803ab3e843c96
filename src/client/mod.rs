//! One application connection: login, session loop, relay.
//!
//! A [`Front`] is what all of them share. [`login`](fn@login) takes a new connection to an [`Outcome`]; a pooled one
//! is then served by its [`Session`] until its [`Farewell`](crate::farewell::Farewell).

mod access;
mod clients;
mod clock;
mod credentials;
mod deferral;
mod door;
mod encryption;
mod extended;
mod front;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handle;
mod hashing;
mod listening;
mod login;
mod lookup;
#[cfg(any(test, fuzzing))]
mod model;
mod names;
mod quiet;
mod relay;
mod replication;
mod requests;
mod responses;
mod secrets;
mod session;
mod settle;
mod startup;
mod talk;
#[cfg(test)]
mod tests;
mod threshold;
mod trail;
mod unnamed;
mod watch;

pub use clients::{ClientLimits, Clients, LoggingIn, Newcomer, Seat};
pub use front::{Front, House, keepalive};
pub use handle::{Handle, Order, PinView, State};
pub use login::{Ended, Outcome, Visit, login};
pub use replication::Replication;
pub use session::Session;
pub use threshold::Handshakes;

/// The operating system's randomness, as the exchanges of `auth` want it.
fn random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the operating system's random source does not fail");
}
