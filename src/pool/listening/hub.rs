//! A pool's hubs, one for each encoding of clients that listen, and what a client holds of one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Context;

use bytes::BytesMut;
use parking_lot::Mutex;

use super::connection::keep;
use super::core::{Core, EarId, Name, Token};
use super::mailbox::{Mailbox, Notification};
use crate::error::Refusal;
use crate::pool::house::Pool;
use crate::pool::keeper::Bell;
use crate::pool::limits::Neighbour;
use crate::pool::servers::Servers;
use crate::server;

pub use super::core::Turn;

/// Listens on one connection for all clients of a pool that have the same encoding.
pub(super) struct Hub {
    /// `client_encoding`, as servers report it.
    pub(super) encoding: Box<[u8]>,
    /// The channel of markers. Nobody can guess its name.
    pub(super) channel: String,
    pub(super) core: Mutex<Core<Arc<Mailbox>>>,
    /// Gets its keeper up.
    pub(super) bell: Arc<Bell>,
    /// Its connection, while it has one and hears all that is wanted.
    pub(super) info: Mutex<Option<Arc<server::Info>>>,
    /// Its connection is to go.
    is_severed: AtomicBool,
    /// Another encoding would have its place as soon as nobody needs it.
    pub(super) is_in_the_way: AtomicBool,
    /// It has a connection, or is about to have one.
    is_connected: AtomicBool,
    /// Notifications that have been heard, markers left out.
    pub(super) notifications: AtomicU64,
}

/// So many encodings of a pool have a hub: each takes a connection beside the pool's own.
const HUBS_MAX: usize = 3;

/// All hubs of a pool.
#[derive(Default)]
pub struct Hubs {
    by_encoding: Mutex<HashMap<Box<[u8]>, Arc<Hub>>>,
    /// Connections of hubs that were lost.
    pub(super) lost: AtomicU64,
    /// What hubs that are gone have heard.
    retired: AtomicU64,
}

/// What is told of a hub.
#[derive(Debug)]
pub struct HubView {
    /// `client_encoding`.
    pub encoding: String,
    /// Its connection, if it is up.
    pub server: Option<Arc<server::Info>>,
    /// Clients that listen.
    pub clients: usize,
    /// Channels that they listen to.
    pub channels: usize,
    /// Notifications that have been heard.
    pub notifications: u64,
    /// What clients have not taken yet, in bytes.
    pub bytes: usize,
}

impl std::fmt::Debug for Hubs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hubs")
            .field(&self.by_encoding.lock().len())
            .finish()
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("encoding", &self.encoding.escape_ascii())
            .finish_non_exhaustive()
    }
}

impl Hubs {
    /// Somebody begins to listen, with notifications in this encoding. A hub that there is none of is made; it goes
    /// when nobody has needed it for `server_idle_timeout`. `None` if there are as many as there may be; those that nobody
    /// needs make way.
    pub fn subscribe(
        &self,
        pool: &Arc<Pool<Servers>>,
        encoding: &[u8],
        bytes_max: usize,
    ) -> Option<Subscription> {
        let mut hubs = self.by_encoding.lock();
        if hubs.len() >= HUBS_MAX && !hubs.contains_key(encoding) {
            for hub in hubs.values() {
                hub.is_in_the_way.store(true, Ordering::Release);
                hub.bell.ring();
            }
            return None;
        }
        let hub = hubs.entry(encoding.into()).or_insert_with(|| {
            let hub = Arc::new(Hub::new(encoding));
            pool.runtime.spawn(keep(hub.clone(), Arc::downgrade(pool)));
            hub
        });
        let mailbox = Arc::new(Mailbox::new(bytes_max));
        // Under the lock of all hubs: this one is not given up meanwhile.
        let ear = hub.core.lock().join(mailbox.clone());
        Some(Subscription {
            hub: hub.clone(),
            ear,
            mailbox,
        })
    }

    /// Whether there is a hub for this encoding, and it works.
    pub fn is_up(&self, encoding: &[u8]) -> bool {
        self.by_encoding
            .lock()
            .get(encoding)
            .is_some_and(|hub| hub.info.lock().is_some())
    }

    /// The connections of hubs are to go: of those that are needed too, or only of the others.
    pub(in crate::pool) fn sever(&self, needed_too: bool) {
        for hub in self.by_encoding.lock().values() {
            if needed_too || hub.core.lock().len() == 0 {
                hub.is_severed.store(true, Ordering::Release);
                hub.bell.ring();
            }
        }
    }

    /// Whether none of them is connected.
    pub(in crate::pool) fn are_parted(&self) -> bool {
        let hubs = self.by_encoding.lock();
        !hubs.values().any(|hub| hub.is_connected.load(Ordering::Acquire))
    }

    /// A hub that nobody needs goes. False if somebody does.
    pub(super) fn retire(&self, hub: &Hub) -> bool {
        let mut hubs = self.by_encoding.lock();
        if hub.core.lock().len() > 0 {
            return false;
        }
        hubs.remove(&hub.encoding);
        self.retired
            .fetch_add(hub.notifications.load(Ordering::Relaxed), Ordering::Relaxed);
        true
    }

    /// All of them, by encoding.
    pub fn views(&self) -> Vec<HubView> {
        let mut hubs: Vec<_> = self.by_encoding.lock().values().cloned().collect();
        hubs.sort_by(|a, b| a.encoding.cmp(&b.encoding));
        hubs.iter().map(|hub| hub.view()).collect()
    }

    /// Notifications that have been heard, and connections that were lost, since the pool was made.
    pub fn totals(&self) -> (u64, u64) {
        let hubs = self.by_encoding.lock();
        let heard = hubs.values().map(|hub| hub.notifications.load(Ordering::Relaxed));
        let heard = heard.sum::<u64>() + self.retired.load(Ordering::Relaxed);
        (heard, self.lost.load(Ordering::Relaxed))
    }
}

impl Hub {
    fn new(encoding: &[u8]) -> Self {
        Self {
            encoding: encoding.into(),
            channel: format!("howdah_{:032x}", random()),
            core: Mutex::new(Core::new()),
            bell: Arc::default(),
            info: Mutex::new(None),
            is_severed: AtomicBool::new(false),
            is_in_the_way: AtomicBool::new(false),
            is_connected: AtomicBool::new(false),
            notifications: AtomicU64::new(0),
        }
    }

    /// It is about to connect; what was to sever an earlier connection does not count any more.
    pub(super) fn connects(&self) {
        self.take_severed();
        self.is_connected.store(true, Ordering::Release);
    }

    /// Its connection is closed.
    pub(super) fn is_closed(&self) {
        self.is_connected.store(false, Ordering::Release);
    }

    /// Whether its connection was to go since this was last asked.
    pub(super) fn take_severed(&self) -> bool {
        self.is_severed.swap(false, Ordering::AcqRel)
    }

    /// A notification has come: its channel, its payload, and the whole message.
    pub(super) fn hear(&self, channel: &[u8], payload: &[u8], message: &[u8]) {
        if channel == self.channel.as_bytes() {
            let token = std::str::from_utf8(payload).ok();
            let token = token.and_then(|token| Token::from_str_radix(token, 16).ok());
            let passed = token.and_then(|token| self.core.lock().pass(token));
            if let Some((mailbox, number)) = passed {
                mailbox.pass(number);
            }
            return;
        }
        self.notifications.fetch_add(1, Ordering::Relaxed);
        let notification: Notification = message.into();
        for mailbox in self.core.lock().hearers(channel) {
            mailbox.put(&notification);
        }
    }

    /// The connection is lost. Those who may have missed something are told, unless that is not wanted.
    pub(super) fn lose(&self, tell: Option<&Refusal>) {
        *self.info.lock() = None;
        let deaf = self.core.lock().lose();
        if let Some(refusal) = tell {
            for mailbox in deaf {
                mailbox.end(refusal.clone());
            }
        }
    }

    fn view(&self) -> HubView {
        let core = self.core.lock();
        HubView {
            encoding: String::from_utf8_lossy(&self.encoding).into_owned(),
            server: self.info.lock().clone(),
            clients: core.len(),
            channels: core.channels(),
            notifications: self.notifications.load(Ordering::Relaxed),
            bytes: core.mailboxes().map(|mailbox| mailbox.bytes()).sum(),
        }
    }
}

/// It has no connections to give up to others.
impl Neighbour for Hub {
    fn longest_idle(&self) -> Option<tokio::time::Instant> {
        None
    }

    fn evict(&self) -> bool {
        false
    }
}

/// A place at a hub, given up when dropped.
pub struct Subscription {
    hub: Arc<Hub>,
    ear: EarId,
    mailbox: Arc<Mailbox>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subscription").field(&self.ear).finish()
    }
}

/// A notification of howdah's own at which a client moves.
#[derive(Debug)]
pub struct Marker {
    /// Greater than those of all before.
    pub number: u64,
    token: Token,
}

impl Marker {
    /// Its payload.
    pub fn payload(&self) -> String {
        format!("{:032x}", self.token)
    }
}

impl Subscription {
    /// The encoding of what is heard here.
    pub fn encoding(&self) -> &[u8] {
        &self.hub.encoding
    }

    /// The channel of markers.
    pub fn marker_channel(&self) -> &str {
        &self.hub.channel
    }

    /// Listens to these channels, and to no others.
    pub fn tune(&self, channels: Vec<Name>) {
        self.hub.core.lock().tune(self.ear, channels);
        self.hub.bell.ring();
    }

    /// Whether the hub listens to all of them.
    pub fn is_heard(&self) -> bool {
        self.hub.info.lock().is_some() && self.hub.core.lock().hears(self.ear)
    }

    /// Announces a marker, which whoever asks for it is about to send. `None` if the client cannot move to the hub now.
    pub fn arm(&self, turn: Turn) -> Option<Marker> {
        let token = random();
        let number = self.hub.core.lock().arm(self.ear, turn, token)?;
        Some(Marker { number, token })
    }

    /// The marker has not been sent.
    pub fn disarm(&self, marker: &Marker) {
        self.hub.core.lock().disarm(marker.token);
    }

    /// Whether the marker has come through the hub.
    pub fn has_passed(&self, marker: &Marker) -> bool {
        self.mailbox.passed() >= marker.number
    }

    /// Whether there may be something new. Registers `cx` to be woken.
    pub fn is_stirred(&self, cx: &Context<'_>) -> bool {
        self.mailbox.is_stirred(cx)
    }

    /// Appends what has come to `output`, about `room` bytes at most. Tells whether that was all; the error is why the
    /// client has to go.
    pub fn take(&self, output: &mut BytesMut, room: usize) -> Result<bool, Refusal> {
        self.mailbox.take(output, room)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.core.lock().leave(self.ear);
        self.hub.bell.ring();
    }
}

/// The weak handle by which the book of limits knows a hub.
pub(super) fn neighbour(hub: &Arc<Hub>) -> Weak<dyn Neighbour> {
    let weak: Weak<Hub> = Arc::downgrade(hub);
    weak
}

fn random() -> Token {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system's random source does not fail");
    Token::from_be_bytes(bytes)
}
