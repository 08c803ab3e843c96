//! LISTEN for many clients on one connection: who hears what, from where.
//!
//! A client that listens hears from one place at a time: from the server that it holds, or from its pool's [`Hub`] for
//! its encoding, one connection that listens to what anybody there listens to. It moves as a whole, and at a marker: a
//! notification of howdah's own that both connections hear. PostgreSQL sends every session what is committed in the
//! same order, so that what comes before the marker in the one place and behind it in the other is all there is, once.
//!
//! ```text
//!            LISTEN                      the hub hears all of it, marker
//! nowhere ───────────► on a server ─────────────────────────────────────► on the hub
//!    ▲                  │   ▲                                                  │
//!    └──────────────────┘   └──────────────────────────────────────────────────┘
//!     nothing is left        marker: it is about to LISTEN, UNLISTEN, NOTIFY, BEGIN
//! ```
//!
//! `core` decides who hears what, without IO. `hub` is what clients see of it, `connection` keeps it connected,
//! `mailbox` is what has come for one client.

mod connection;
mod core;
mod hub;
mod mailbox;

pub use hub::{HubView, Hubs, Marker, Subscription, Turn};
