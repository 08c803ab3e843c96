//! What others see of a client, and what they can do to it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use thin_vec::ThinVec;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::Refusal;
use crate::net::{PeerAddr, TlsInfo};
use crate::server;

/// Cancel requests for one query that are on their way at once. Each takes a connection to PostgreSQL, and one that
/// arrives is enough.
const CANCELS_MAX: u32 = 8;

/// What a client is doing, as `SHOW CLIENTS` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Logged in, holding no server.
    Idle = 0,
    /// In the queue for a server.
    Waiting = 1,
    /// Holding a server.
    Active = 2,
}

impl State {
    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Waiting,
            2 => Self::Active,
            _ => Self::Idle,
        }
    }

    /// The word of `SHOW CLIENTS`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Active => "active",
        }
    }
}

/// What a client has been asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// End now, and say this.
    Kill(Refusal),
    /// End at the next transaction boundary, and say this.
    Drain(Refusal),
    /// Leave the queue for a server: the client cancelled what it waits for.
    Dequeue(Taken),
}

/// A cancel request that no server can take. Once this is dropped, it concerns nothing that the client sends from then on.
#[derive(Clone, Debug)]
pub struct Taken(Arc<oneshot::Sender<()>>);

impl Taken {
    fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, taken) = oneshot::channel();
        (Self(Arc::new(sender)), taken)
    }
}

impl PartialEq for Taken {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Taken {}

/// What a cancel request has to know.
#[derive(Clone, Debug)]
pub(super) enum Secret {
    /// As it is in protocol 3.0.
    Short([u8; 4]),
    /// Any other.
    Long(Box<[u8]>),
}

impl Secret {
    pub(super) fn new(bytes: &[u8]) -> Self {
        bytes
            .try_into()
            .map_or_else(|_| Self::Long(bytes.into()), Self::Short)
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Long(bytes) => bytes,
        }
    }
}

/// The public face of one client connection.
#[derive(Debug)]
pub struct Handle {
    /// Unique in this process.
    pub id: u64,
    /// The client's address.
    pub peer: PeerAddr,
    /// The address that it connected to.
    pub local: PeerAddr,
    /// Its TLS session; `None` without TLS.
    pub tls: Option<Arc<TlsInfo>>,
    /// The role that it logged in as.
    pub user: Arc<str>,
    /// The database that it asked for.
    pub database: Arc<str>,
    /// Protocol version, as major << 16 | minor.
    pub protocol: u32,
    /// When it logged in.
    pub connected_at: SystemTime,
    born: Instant,
    pub(super) pid: i32,
    pub(super) secret: Secret,
    state: AtomicU8,
    /// Microseconds from birth to the last request that needed a server.
    requested: AtomicU64,
    /// Whether a query of it is running on its server.
    busy: AtomicBool,
    server: Mutex<Option<Arc<server::Info>>>,
    ordered: AtomicBool,
    orders: Mutex<Orders>,
    application_name: Mutex<Box<[u8]>>,
    prepared: AtomicU32,
    pin: Mutex<Option<Box<PinView>>>,
}

/// Why a client keeps its server between transactions.
#[derive(Clone, Debug)]
pub struct PinView {
    /// Kinds of state that it has there.
    pub remains: server::Remains,
    /// The beginning of the statement that left the first of it.
    pub statement: Box<str>,
    /// Since when.
    pub since: Instant,
}

#[derive(Debug, Default)]
struct Orders {
    given: ThinVec<Order>,
    /// The client's, once it listens.
    waker: Option<Waker>,
}

/// How a client hears its orders: without a lock, until there are some.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// What the handle has been told to wake.
    waker: Option<Waker>,
}

impl Ear {
    /// The orders that have come; `cx` is woken by the next.
    pub(super) fn poll(&mut self, handle: &Handle, cx: &mut Context<'_>) -> Option<ThinVec<Order>> {
        let is_known = (self.waker.as_ref()).is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_known && !handle.ordered.load(Ordering::Acquire) {
            return None;
        }
        let mut orders = handle.orders.lock();
        orders.waker = Some(cx.waker().clone());
        self.waker.clone_from(&orders.waker);
        handle.ordered.store(false, Ordering::Release);
        let given = std::mem::take(&mut orders.given);
        (!given.is_empty()).then_some(given)
    }
}

/// What a new handle is made of.
pub(super) struct Birth {
    pub(super) id: u64,
    pub(super) peer: PeerAddr,
    pub(super) local: PeerAddr,
    pub(super) tls: Option<Arc<TlsInfo>>,
    pub(super) user: Arc<str>,
    pub(super) database: Arc<str>,
    pub(super) protocol: u32,
    pub(super) pid: i32,
    pub(super) secret: Secret,
}

impl Handle {
    pub(super) fn new(birth: Birth) -> Self {
        Self {
            id: birth.id,
            peer: birth.peer,
            local: birth.local,
            tls: birth.tls,
            user: birth.user,
            database: birth.database,
            protocol: birth.protocol,
            connected_at: SystemTime::now(),
            born: Instant::now(),
            pid: birth.pid,
            secret: birth.secret,
            state: AtomicU8::new(State::Idle as u8),
            requested: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            server: Mutex::new(None),
            ordered: AtomicBool::new(false),
            orders: Mutex::default(),
            application_name: Mutex::default(),
            prepared: AtomicU32::new(0),
            pin: Mutex::new(None),
        }
    }

    /// What the client is doing.
    pub fn state(&self) -> State {
        State::from_byte(self.state.load(Ordering::Relaxed))
    }

    /// When it last asked for a server, and how long it has been waiting for one, if it does.
    pub fn requested(&self) -> (SystemTime, Option<Duration>) {
        let since_birth = Duration::from_micros(self.requested.load(Ordering::Relaxed));
        let waiting =
            (self.state() == State::Waiting).then(|| self.born.elapsed().saturating_sub(since_birth));
        (self.connected_at + since_birth, waiting)
    }

    /// The server that it holds.
    pub fn server(&self) -> Option<Arc<server::Info>> {
        self.server.lock().clone()
    }

    /// Its `application_name`.
    pub fn application_name(&self) -> String {
        String::from_utf8_lossy(&self.application_name.lock()).into_owned()
    }

    /// How many prepared statements it has.
    pub fn prepared(&self) -> u32 {
        self.prepared.load(Ordering::Relaxed)
    }

    /// Why it keeps its server between transactions, if it does.
    pub fn pin(&self) -> Option<Box<PinView>> {
        self.pin.lock().clone()
    }

    pub(super) fn set_pin(&self, pin: Option<PinView>) {
        *self.pin.lock() = pin.map(Box::new);
    }

    /// Asks the client to do something.
    pub fn order(&self, order: Order) {
        let mut orders = self.orders.lock();
        if orders.given.last() != Some(&order) {
            orders.given.push(order);
        }
        self.ordered.store(true, Ordering::Release);
        // It stays where it is: the client tells it once.
        let waker = orders.waker.clone();
        drop(orders);
        waker.inspect(Waker::wake_by_ref);
    }

    /// Has the client look whether it waits for something that is to be cancelled. Ready when it has.
    pub(super) fn dequeue(&self) -> impl Future<Output = ()> + use<> {
        let (order, taken) = Taken::new();
        if self.orders.lock().given.len() < CANCELS_MAX as usize {
            self.order(Order::Dequeue(order));
        }
        async { drop(taken.await) }
    }

    /// What to cancel for this client: the server that runs its query. The server is marked, so that nobody else gets
    /// it before the mark is taken away by [`server::Info::cancels`].
    pub(super) fn begin_cancel(&self) -> Option<Arc<server::Info>> {
        let server = self.server.lock();
        let info = server.as_ref().filter(|_| self.busy.load(Ordering::Acquire))?;
        // Only under this lock does it grow.
        if info.cancels.load(Ordering::Acquire) >= CANCELS_MAX {
            return None;
        }
        info.cancels.fetch_add(1, Ordering::AcqRel);
        Some(info.clone())
    }

    pub(super) fn now_waits(&self, now: Instant) {
        let micros = now.saturating_duration_since(self.born).as_micros();
        self.requested
            .store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.state.store(State::Waiting as u8, Ordering::Relaxed);
    }

    pub(super) fn now_holds(&self, info: &Arc<server::Info>) {
        info.client.store(self.id, Ordering::Relaxed);
        *self.server.lock() = Some(info.clone());
        self.state.store(State::Active as u8, Ordering::Relaxed);
    }

    /// Lets go of the server. Afterwards no cancel request of this client can reach it; those that were under way are
    /// counted in [`server::Info::cancels`].
    pub(super) fn now_idles(&self) {
        self.busy.store(false, Ordering::Release);
        if let Some(info) = self.server.lock().take() {
            info.client.store(0, Ordering::Relaxed);
        }
        self.state.store(State::Idle as u8, Ordering::Relaxed);
    }

    pub(super) fn set_busy(&self, busy: bool) {
        if self.busy.load(Ordering::Relaxed) != busy {
            self.busy.store(busy, Ordering::Release);
        }
    }

    pub(super) fn set_application_name(&self, name: &[u8]) {
        *self.application_name.lock() = name.into();
    }

    pub(super) fn set_prepared(&self, count: usize) {
        self.prepared
            .store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}
