//! All clients that are logged in: their number, their cancel keys, and how to reach them.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Context;
use std::time::Duration;

use parking_lot::Mutex;
use thin_vec::ThinVec;
use tokio_util::sync::CancellationToken;

use crate::error::{Refusal, SqlState};
use crate::net::{PeerAddr, TlsInfo, within};

use super::handle::{Birth, Ear, Handle, Order, Secret};
use super::random;

/// The clients of this process.
#[derive(Debug, Default)]
pub struct Clients {
    next_id: AtomicU64,
    /// Connections that are not logged in yet.
    logging_in: AtomicUsize,
    /// The same by where they come from.
    logging_in_from: Mutex<HashMap<IpAddr, usize>>,
    inner: Mutex<Inner>,
    /// Cancelled when nobody is let in any more.
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Inner {
    clients: HashMap<i32, Arc<Handle>>,
    of_databases: HashMap<Arc<str>, usize>,
    of_users: HashMap<Arc<str>, usize>,
}

/// How many clients there may be; 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientLimits {
    /// `max_client_conn`.
    pub all: u32,
    /// `max_db_client_connections`.
    pub database: u32,
    /// `max_user_client_connections`.
    pub user: u32,
}

/// A client as it asks to be let in.
#[derive(Debug)]
pub struct Newcomer {
    /// Its address.
    pub peer: PeerAddr,
    /// Ours.
    pub local: PeerAddr,
    /// Its TLS session.
    pub tls: Option<Arc<TlsInfo>>,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The protocol, as major << 16 | minor.
    pub protocol: u32,
}

/// A place among the clients, given up when dropped.
#[derive(Debug)]
pub struct Seat {
    clients: Arc<Clients>,
    handle: Arc<Handle>,
    ear: Ear,
}

impl Seat {
    /// The orders that have come; `cx` is woken by the next.
    pub(super) fn poll_orders(&mut self, cx: &mut Context<'_>) -> Option<ThinVec<Order>> {
        self.ear.poll(&self.handle, cx)
    }
}

impl std::ops::Deref for Seat {
    type Target = Arc<Handle>;

    fn deref(&self) -> &Arc<Handle> {
        &self.handle
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clients.leave(&self.handle);
    }
}

/// Secrets of protocol 3.2 sessions are as long as PostgreSQL's own.
const SECRET_LEN_3_2: usize = 32;
/// Those of 3.0 sessions have to be this long.
const SECRET_LEN_3_0: usize = 4;

impl Clients {
    /// Lets a client in and gives it a cancel key, or says why not.
    pub fn admit(self: &Arc<Self>, newcomer: Newcomer, limits: ClientLimits) -> Result<Seat, Refusal> {
        let full = |max: u32, count: usize| max > 0 && count >= max as usize;
        let mut inner = self.inner.lock();
        if full(limits.all, inner.clients.len()) {
            return Err(too_many("max_client_conn"));
        }
        if full(
            limits.database,
            inner.of_databases.get(&*newcomer.database).copied().unwrap_or(0),
        ) {
            return Err(too_many("max_db_client_connections"));
        }
        if full(
            limits.user,
            inner.of_users.get(&*newcomer.user).copied().unwrap_or(0),
        ) {
            return Err(too_many("max_user_client_connections"));
        }
        let long = newcomer.protocol >= crate::wire::startup::PROTOCOL_3_2;
        let (pid, secret) = free_key(&inner, if long { SECRET_LEN_3_2 } else { SECRET_LEN_3_0 });
        let handle = Arc::new(Handle::new(Birth {
            id: self.next_id.fetch_add(1, Ordering::Relaxed) + 1,
            peer: newcomer.peer,
            local: newcomer.local,
            tls: newcomer.tls,
            user: name_in(&inner.of_users, newcomer.user),
            database: name_in(&inner.of_databases, newcomer.database),
            protocol: newcomer.protocol,
            pid,
            secret,
        }));
        *inner.of_databases.entry(handle.database.clone()).or_default() += 1;
        *inner.of_users.entry(handle.user.clone()).or_default() += 1;
        inner.clients.insert(pid, handle.clone());
        Ok(Seat {
            clients: self.clone(),
            handle,
            ear: Ear::default(),
        })
    }

    fn leave(&self, handle: &Handle) {
        let mut inner = self.inner.lock();
        inner.clients.remove(&handle.pid);
        forget_one(&mut inner.of_databases, &handle.database);
        forget_one(&mut inner.of_users, &handle.user);
    }

    /// Counts a connection that is not logged in, until the guard is dropped.
    pub fn count_login(self: &Arc<Self>, peer: &PeerAddr) -> LoggingIn {
        let ahead = self.logging_in.fetch_add(1, Ordering::Relaxed);
        let from = origin(peer);
        let mut counts = self.logging_in_from.lock();
        let count = from.map(|from| counts.entry(from).or_default());
        let ahead_there = count.map_or(0, |count| {
            *count += 1;
            *count - 1
        });
        drop(counts);
        LoggingIn {
            clients: self.clone(),
            ahead,
            from,
            ahead_there,
        }
    }

    /// From now on nobody is let in, those neither who are logging in.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Connections that are not logged in yet.
    pub fn logging_in(&self) -> usize {
        self.logging_in.load(Ordering::Relaxed)
    }

    /// Those who are logged in.
    pub fn len(&self) -> usize {
        self.inner.lock().clients.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Clients that are logged in to a database.
    pub fn of_database(&self, database: &str) -> usize {
        self.inner.lock().of_databases.get(database).copied().unwrap_or(0)
    }

    /// Clients that are logged in as a user.
    pub fn of_user(&self, user: &str) -> usize {
        self.inner.lock().of_users.get(user).copied().unwrap_or(0)
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Handle>> {
        let mut all: Vec<_> = self.inner.lock().clients.values().cloned().collect();
        all.sort_by_key(|handle| handle.id);
        all
    }

    /// Tells every client something.
    pub fn order_all(&self, order: &Order, whom: impl Fn(&Handle) -> bool) {
        for handle in self.all().iter().filter(|handle| whom(handle)) {
            handle.order(order.clone());
        }
    }

    /// Carries out a cancel request, if its key is right: cancels what the client's server does for it, or takes the
    /// client out of the queue. Never says what it did. `timeout` bounds the request to the server; zero: it does not.
    pub async fn cancel(&self, pid: i32, secret: &[u8], timeout: Duration) {
        let handle = self.inner.lock().clients.get(&pid).cloned();
        let Some(handle) = handle else { return };
        if aws_lc_rs::constant_time::verify_slices_are_equal(&handle.secret, secret).is_err() {
            return;
        }
        if let Some(info) = handle.begin_cancel() {
            let mark = CancelMark(&info.cancels);
            match within(timeout, info.cancel.send()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(server = %info.peer, %error, "cancel request failed"),
                Err(_) => {
                    tracing::warn!(server = %info.peer, "cancel request was not taken in time");
                    // It may yet be: whoever gets this server next must not suffer from it, so nobody does.
                    std::mem::forget(mark);
                    return;
                }
            }
            drop(mark);
        } else {
            // Whoever waits for nothing takes no notice.
            let taken = handle.dequeue();
            drop(handle);
            drop(within(timeout, taken).await);
        }
    }
}

/// A cancel request on its way, counted until dropped.
struct CancelMark<'a>(&'a std::sync::atomic::AtomicU32);

impl Drop for CancelMark<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection that is not logged in, counted until dropped.
#[derive(Debug)]
pub struct LoggingIn {
    clients: Arc<Clients>,
    /// How many others were at it when it began.
    pub(super) ahead: usize,
    from: Option<IpAddr>,
    /// How many of them came from the same place.
    pub(super) ahead_there: usize,
}

impl LoggingIn {
    /// What comes of a login, unless nobody is let in any more.
    pub(super) async fn unless_closed<T>(&self, login: impl Future<Output = T>) -> Option<T> {
        self.clients.closed.run_until_cancelled(login).await
    }
}

impl Drop for LoggingIn {
    fn drop(&mut self) {
        self.clients.logging_in.fetch_sub(1, Ordering::Relaxed);
        if let Some(from) = &self.from {
            forget_one(&mut self.clients.logging_in_from.lock(), from);
        }
    }
}

/// What an address is counted as: itself, or the network that somebody with IPv6 has at hand.
fn origin(peer: &PeerAddr) -> Option<IpAddr> {
    let PeerAddr::Tcp(address) = peer else {
        return None;
    };
    Some(match address.ip().to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    })
}

fn too_many(limit: &str) -> Refusal {
    Refusal::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        .detail(format!("The limit {limit} has been reached."))
}

/// No process has a higher number on Linux: nobody takes a notification of some backend's for one of its own.
const BACKEND_PID_MAX: i32 = 1 << 22;

/// A process id that nobody has, and a secret. Both are drawn at once, for each draw takes a while.
fn free_key(inner: &Inner, secret_len: usize) -> (i32, Secret) {
    loop {
        let mut bytes = [0; 4 + SECRET_LEN_3_2];
        let drawn = &mut bytes[..4 + secret_len];
        random(drawn);
        let (pid, secret) = drawn.split_at(4);
        let pid = pid.iter().fold(0, |pid, byte| pid << 8 | i32::from(*byte)) & i32::MAX;
        if pid > BACKEND_PID_MAX && !inner.clients.contains_key(&pid) {
            return (pid, Secret::new(secret));
        }
    }
}

/// A name as those have it who were here before: thousands of clients go by few names.
fn name_in(counts: &HashMap<Arc<str>, usize>, name: String) -> Arc<str> {
    counts
        .get_key_value(&*name)
        .map_or_else(|| name.into(), |(known, _)| Arc::clone(known))
}

fn forget_one<K: Eq + Hash + Borrow<Q>, Q: Eq + Hash + ?Sized>(counts: &mut HashMap<K, usize>, key: &Q) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::startup::{PROTOCOL_3_0, PROTOCOL_3_2};

    fn newcomer(user: &str, protocol: u32) -> Newcomer {
        let (user, database) = (user.to_owned(), "d".to_owned());
        Newcomer {
            peer: PeerAddr::Unix,
            local: PeerAddr::Unix,
            tls: None,
            user,
            database,
            protocol,
        }
    }

    #[test]
    fn limits_count_those_who_are_there() {
        let clients = Arc::new(Clients::default());
        let limits = ClientLimits {
            all: 3,
            database: 0,
            user: 1,
        };
        let a = clients.admit(newcomer("a", PROTOCOL_3_0), limits).unwrap();
        let again = clients.admit(newcomer("a", PROTOCOL_3_0), limits).unwrap_err();
        assert_eq!(again.code, SqlState::TOO_MANY_CONNECTIONS);
        drop(a);
        let _a = clients.admit(newcomer("a", PROTOCOL_3_0), limits).unwrap();
        let _b = clients.admit(newcomer("b", PROTOCOL_3_0), limits).unwrap();
        let _c = clients.admit(newcomer("c", PROTOCOL_3_0), limits).unwrap();
        assert!(clients.admit(newcomer("e", PROTOCOL_3_0), limits).is_err());
        assert_eq!(
            (clients.len(), clients.of_database("d"), clients.of_user("a")),
            (3, 3, 1)
        );
    }

    #[test]
    fn keys_are_as_long_as_the_protocol_wants_them() {
        let clients = Arc::new(Clients::default());
        let old = clients
            .admit(newcomer("a", PROTOCOL_3_0), ClientLimits::default())
            .unwrap();
        let new = clients
            .admit(newcomer("a", PROTOCOL_3_2), ClientLimits::default())
            .unwrap();
        assert_eq!((old.secret.len(), new.secret.len()), (4, 32));
        assert_ne!(old.pid, new.pid);
    }

    #[test]
    fn logins_are_counted_by_where_they_come_from() {
        let clients = Arc::new(Clients::default());
        let begin = |address: &str| clients.count_login(&PeerAddr::Tcp(address.parse().unwrap()));
        let first = begin("10.0.0.1:1");
        let others = [
            begin("10.0.0.1:2"),
            begin("[::ffff:10.0.0.1]:3"),
            begin("10.0.0.2:1"),
        ];
        let seen = |all: &[LoggingIn]| all.iter().map(|one| one.ahead_there).collect::<Vec<_>>();
        assert_eq!(seen(&others), [1, 2, 0]);
        let wide = [
            begin("[2001:db8::1]:1"),
            begin("[2001:db8::2:3]:1"),
            begin("[2001:db8:1::1]:1"),
        ];
        assert_eq!(seen(&wide), [0, 1, 0]);
        assert_eq!(clients.count_login(&PeerAddr::Unix).ahead_there, 0);
        drop((first, others, wide));
        assert_eq!(clients.logging_in(), 0);
        assert!(clients.logging_in_from.lock().is_empty());
    }

    #[tokio::test]
    async fn a_cancel_request_reaches_a_client_without_a_server_once_and_only_with_the_right_key() {
        let clients = Arc::new(Clients::default());
        let mut seat = clients
            .admit(newcomer("a", PROTOCOL_3_0), ClientLimits::default())
            .unwrap();
        let poll = |seat: &mut Seat| seat.poll_orders(&mut Context::from_waker(std::task::Waker::noop()));
        let mut wrong = seat.secret.to_vec();
        wrong[0] ^= 1;
        clients.cancel(seat.pid, &wrong, Duration::ZERO).await;
        assert_eq!(poll(&mut seat), None);
        let (pid, secret) = (seat.pid, seat.secret.to_vec());
        let cancelling = clients.cancel(pid, &secret, Duration::ZERO);
        tokio::pin!(cancelling);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(cancelling.as_mut().poll(&mut cx).is_pending());
        let orders = poll(&mut seat).expect("an order");
        assert!(matches!(orders[..], [Order::Dequeue(_)]), "{orders:?}");
        assert!(
            cancelling.as_mut().poll(&mut cx).is_pending(),
            "it has not been looked into yet"
        );
        drop(orders);
        cancelling.await;
        assert_eq!(poll(&mut seat), None);
    }
}
