//! Who gets which server, when.
//!
//! A [`Pool`] holds the connections of one (database, user). Its `core` is pure: no IO, no clock, no randomness;
//! what it decides comes back as `Effects`, and the shell (`house`, `janitor`, `keeper`) carries them
//! out once the lock is released. Nothing is awaited under a lock, and whatever is awaited is wrapped first, so that a
//! future dropped at any await gives back what it held.
//!
//! ```text
//! lease ──► idle server? ──► Lease ──► release ──────► longest waiter, or idle
//!   │ no                       │  └──► release_dirty ► cleaned, then the same
//!   └─► line of waiters        └─────► dropped ──────► closed, counted lost
//!          ▲ served in order by whatever comes first: a returned, checked or new server
//! ```
//!
//! Locks are taken in one order: a pool's core, then a waiter's cell or the book of limits. No two pools' cores are
//! ever held together.

mod backoff;
mod control;
mod core;
mod deadlines;
mod defaults;
mod effects;
mod house;
mod janitor;
mod keeper;
mod lease;
mod limits;
mod line;
mod listening;
mod pins;
mod registry;
mod returns;
mod servers;
mod settings;
mod slots;
mod snapshot;
mod source;
mod wait;

#[cfg(test)]
mod tests;

pub use house::Pool;
pub use janitor::CancelMark;
pub use lease::{Lease, LeaseError};
pub use limits::{Book, LimitName};
pub use listening::{HubView, Hubs, Marker, Subscription, Turn};
pub use pins::{PinPermit, Pins, max_pinned};
pub use registry::Registry;
pub use servers::{CredentialsState, Servers, bounds};
pub use settings::{PoolKey, Settings};
pub use slots::ServerState;
pub use snapshot::{PoolSnapshot, ServerView};
pub use source::{Dirt, Gone, OpenError, Source};
pub use wait::{Asked, Queued, Waiter};
