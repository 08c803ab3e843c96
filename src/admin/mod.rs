//! The console: databases `howdah` and `pgbouncer`, for the users in `admin_users` and `stats_users`.
//!
//! Commands, tables and columns are `PgBouncer`'s, so that its exporters and habits work; unlike its console this one
//! speaks the extended protocol too. What concerns the process as a whole is not done here: it leaves as an [`Order`],
//! which `app` carries out.

mod act;
mod command;
mod extended;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod order;
mod rows;
mod sampler;
mod session;
mod show;
mod words;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::client::{Front, Visit};
use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;

pub use order::{Answer, Order, Shutdown, Task};
pub use sampler::Sampler;

/// What `SHOW VERSION` says. Exporters take the first number in it for `PgBouncer`'s version and refuse old ones.
const VERSION: &str = concat!("PgBouncer 1.25.0 (howdah ", env!("CARGO_PKG_VERSION"), ")");
/// What drivers take for the version of a server: the console whose language this one speaks.
const SERVER_VERSION: &str = "1.25.0/howdah";

/// What somebody may do on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rights {
    /// Look: a user of `stats_users`.
    Stats,
    /// Do anything: a user of `admin_users`.
    Admin,
}

/// As long as it must be before protocol 3.2, and may be since. All that it opens is the end of somebody's waiting.
const SECRET_LEN: usize = 4;

/// Sessions of those who may only look; beyond them there is room for as many administrators. Each takes a connection and
/// the memory of an answer, which no limit on clients counts.
const SESSIONS_MAX: usize = 100;

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
    secret: [u8; SECRET_LEN],
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

    /// Serves a visitor, from right after `AuthenticationOk` to the end.
    pub async fn serve(&self, visit: Visit) -> Farewell {
        match self.sit(visit.is_admin) {
            Ok(seat) => session::Session::new(self, seat, visit).run().await,
            Err(refusal) => session::turn_away(visit.stream, refusal).await,
        }
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

    fn sit(&self, is_admin: bool) -> Result<Seat<'_>, Refusal> {
        let mut secret = [0; SECRET_LEN];
        random(&mut secret);
        let canceled = Arc::new(Notify::new());
        let key = Key {
            secret,
            canceled: canceled.clone(),
        };
        let mut seats = self.seats.lock();
        if seats.len() >= if is_admin { 2 * SESSIONS_MAX } else { SESSIONS_MAX } {
            let message = "sorry, too many visitors on the console already";
            return Err(Refusal::new(SqlState::TOO_MANY_CONNECTIONS, message));
        }
        let pid = loop {
            let mut bytes = [0; 4];
            random(&mut bytes);
            let pid = i32::from_be_bytes(bytes) & i32::MAX;
            if pid > 0 && !seats.contains_key(&pid) {
                break pid;
            }
        };
        seats.insert(pid, key);
        Ok(Seat {
            console: self,
            pid,
            secret,
            canceled,
        })
    }
}

/// A session's place, given up when dropped.
struct Seat<'a> {
    console: &'a Console,
    pid: i32,
    secret: [u8; SECRET_LEN],
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
