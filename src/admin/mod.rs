//! The console: databases `howdah` and `pgbouncer`, for the users in `admin_users` and `stats_users`.
//!
//! Commands, tables and columns are `PgBouncer`'s, so that its exporters and habits work; unlike its console this one
//! speaks the extended protocol too. What concerns the process as a whole is not done here: it leaves as an [`Order`],
//! which `app` carries out.

mod act;
mod command;
mod extended;
mod order;
mod rows;
mod sampler;
mod session;
mod show;
mod words;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::client::Front;
use crate::farewell::Farewell;
use crate::net::Stream;
use crate::wire::startup::PROTOCOL_3_2;

pub use order::{Answer, Order, Shutdown, Task};
pub use sampler::Sampler;

/// What `SHOW VERSION` says.
const VERSION: &str = concat!(
    "howdah ",
    env!("CARGO_PKG_VERSION"),
    " (console of PgBouncer 1.25)"
);
/// What drivers take for the version of a server: the console whose language this one speaks.
const SERVER_VERSION: &str = "1.25.0/howdah";

/// What somebody may do on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rights {
    /// Look: a user of `stats_users`.
    Stats,
    /// Do anything: a user of `admin_users`.
    Admin,
}

/// Who has logged in to the console.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The role.
    pub user: String,
    /// What it may do.
    pub rights: Rights,
    /// The `application_name` of the startup message; may be empty.
    pub application_name: String,
    /// The protocol that the session speaks, as major << 16 | minor.
    pub protocol: u32,
}

/// What all sessions on the console share.
pub struct Console {
    front: Arc<Front>,
    sampler: Arc<Sampler>,
    orders: mpsc::Sender<Order>,
    stop: CancellationToken,
    seats: Mutex<HashMap<i32, Key>>,
}

/// What a cancel request has to know, and whom it wakes.
struct Key {
    secret: Box<[u8]>,
    canceled: Arc<Notify>,
}

impl Console {
    /// A console that gives its orders to whoever receives them, and ends its sessions when `stop` is cancelled.
    pub fn new(
        front: Arc<Front>,
        sampler: Arc<Sampler>,
        orders: mpsc::Sender<Order>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            front,
            sampler,
            orders,
            stop,
            seats: Mutex::default(),
        })
    }

    /// Serves a session, from right after `AuthenticationOk` to its end. `input` is what has been read already.
    pub async fn serve(&self, stream: Stream, input: BytesMut, visitor: Visitor) -> Farewell {
        let seat = self.sit(visitor.protocol);
        session::Session::new(self, seat, stream, input, visitor)
            .run()
            .await
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.seats.lock().len()
    }

    /// Carries out a cancel request if it is for a session on the console; that one stops waiting, for the end of a
    /// PAUSE for instance. Says whether it was.
    pub fn cancel(&self, pid: i32, secret: &[u8]) -> bool {
        let seats = self.seats.lock();
        let Some(key) = seats.get(&pid) else { return false };
        let right = aws_lc_rs::constant_time::verify_slices_are_equal(&key.secret, secret).is_ok();
        if right {
            key.canceled.notify_waiters();
        }
        right
    }

    fn sit(&self, protocol: u32) -> Seat<'_> {
        let mut secret = vec![0; if protocol >= PROTOCOL_3_2 { 32 } else { 4 }];
        random(&mut secret);
        let canceled = Arc::new(Notify::new());
        let key = Key {
            secret: secret.clone().into(),
            canceled: canceled.clone(),
        };
        let mut seats = self.seats.lock();
        let pid = loop {
            let mut bytes = [0; 4];
            random(&mut bytes);
            let pid = i32::from_be_bytes(bytes) & i32::MAX;
            if pid > 0 && !seats.contains_key(&pid) {
                break pid;
            }
        };
        seats.insert(pid, key);
        Seat {
            console: self,
            pid,
            secret,
            canceled,
        }
    }
}

/// A session's place, given up when dropped.
struct Seat<'a> {
    console: &'a Console,
    pid: i32,
    secret: Vec<u8>,
    canceled: Arc<Notify>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.console.seats.lock().remove(&self.pid);
    }
}

fn random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the operating system's random source does not fail");
}

#[cfg(test)]
mod tests;
