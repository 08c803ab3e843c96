//! One application connection: login, session loop, relay.
//!
//! A [`Front`] is what all of them share. [`login`](fn@login) takes a new connection to an [`Outcome`]; a pooled one
//! is then served by its [`Session`] until its [`Farewell`](crate::farewell::Farewell).

mod clients;
mod front;
mod handle;
mod login;
mod session;
mod talk;

pub use clients::{ClientLimits, Clients, LoggingIn, Newcomer, Seat};
pub use front::{Front, House, keepalive};
pub use handle::{Handle, Order, PinView, State};
pub use login::threshold::Handshakes;
pub use login::{Ended, Outcome, Visit, login};
pub use session::Session;
pub use session::replication::Replication;
#[cfg(any(test, fuzzing))]
pub(crate) use talk::fuzz;

/// The operating system's randomness, as the exchanges of `auth` want it.
fn random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the operating system's random source does not fail");
}
