//! What has to hold at every step of a simulation, whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::world::World;
use crate::client::{Handle, State};
use crate::pool::{LimitName, Pool, PoolSnapshot, ServerState, Servers};

/// How many clients are looked at with every step; with more of them it is not every step.
const LOOKED_AT: usize = 40;

/// What was seen with the last step.
#[derive(Default)]
pub(super) struct Seen {
    steps: usize,
    /// Sizes of pools, of databases and of all clients, and their limits, past which they may not grow.
    sizes: BTreeMap<String, (u32, u32)>,
    /// Since when clients have been waiting, by id.
    waiting: BTreeMap<u64, Instant>,
}

impl World {
    /// Looks at everything that is true at every moment.
    pub(super) fn check(&self) {
        if let Some(panic) = super::panicked() {
            self.trace.fail(panic);
        }
        let pools = self.process.front.pools.all();
        for pool in &pools {
            self.check_pool(pool);
        }
        self.check_databases(&pools);
        let front = &self.process.front;
        let limit = front.house().config.settings.max_client_conn;
        self.keeps("all clients", front.clients.len() as u32, limit);
        let is_due = {
            let mut seen = self.seen.lock();
            seen.steps += 1;
            seen.steps.is_multiple_of(1 + front.clients.len() / LOOKED_AT)
        };
        if is_due {
            let clients = front.clients.all();
            self.check_clients(&clients);
        }
    }

    /// Past a limit nothing grows; what has grown before the limit was another one is not to blame.
    fn keeps(&self, what: &str, size: u32, limit: u32) {
        let now = (size, limit);
        let (before, same) = self
            .seen
            .lock()
            .sizes
            .insert(what.to_owned(), now)
            .unwrap_or((0, limit));
        if limit == same && limit > 0 && size > limit && size > before {
            self.trace.fail(format!("{what}: {size} are more than {limit}"));
        }
    }

    /// Counters say what the list says, and the pool is no larger than it may be.
    fn check_pool(&self, pool: &Arc<Pool<Servers>>) {
        let snapshot = pool.snapshot();
        let listed = listed(pool);
        let count = |state: ServerState| listed.get(&(state as usize)).copied().unwrap_or(0);
        let key = pool.key();
        let pairs = [
            ("active", snapshot.sv_active, count(ServerState::Leased)),
            (
                "idle",
                snapshot.sv_idle + snapshot.sv_used,
                count(ServerState::Idle),
            ),
            (
                "tested",
                snapshot.sv_tested,
                count(ServerState::Checking) + count(ServerState::Cleaning),
            ),
            ("login", snapshot.sv_login, count(ServerState::Opening)),
            (
                "canceled",
                snapshot.sv_being_canceled,
                count(ServerState::Canceling),
            ),
        ];
        for (what, counted, listed) in pairs {
            if counted != listed {
                self.trace.fail(format!(
                    "pool {key}: {counted} servers are counted as {what}, {listed} are"
                ));
            }
        }
        let settings = &snapshot.settings;
        let limit = settings.pool_size.saturating_add(settings.reserve_pool_size);
        self.keeps(&format!("servers of pool {key}"), snapshot.servers(), limit);
        let stats = &snapshot.stats;
        if stats.requests_num < stats.server_assignment_count + stats.requests_errors {
            self.trace
                .fail(format!("pool {key}: more was given than asked for: {stats:?}"));
        }
    }

    /// The limits over several pools, and what is taken under them.
    fn check_databases(&self, pools: &[Arc<Pool<Servers>>]) {
        let mut sums: BTreeMap<&str, u32> = BTreeMap::new();
        for pool in pools {
            *sums.entry(&pool.key().database).or_default() += pool.snapshot().servers();
        }
        let book = self.process.front.pools.book();
        for (database, sum) in sums {
            let (taken, max) = book.get(&LimitName::Database(database.to_owned()));
            if taken != sum {
                self.trace.fail(format!(
                    "database {database}: {taken} servers are in the book, {sum} in the pools"
                ));
            }
            self.keeps(&format!("servers of database {database}"), sum, max);
        }
    }

    /// No server is used by two clients, and none waits for longer than somebody who has been served.
    fn check_clients(&self, clients: &[Arc<Handle>]) {
        let mut used = BTreeSet::new();
        for client in clients {
            if let Some(server) = client.server()
                && !used.insert(server.id)
            {
                self.trace.fail(format!("two clients use server {}", server.id));
            }
        }
        let now = Instant::now();
        let since = |client: &Handle| client.requested().1.map(|time| now - time);
        let waiting: BTreeMap<u64, Instant> = clients
            .iter()
            .filter_map(|client| Some((client.id, since(client)?)))
            .collect();
        let before = std::mem::replace(&mut self.seen.lock().waiting, waiting.clone());
        let mut longest: BTreeMap<(&str, &str), (Instant, u64)> = BTreeMap::new();
        for client in clients {
            if let Some(at) = waiting
                .get(&client.id)
                .filter(|at| before.get(&client.id) == Some(at))
            {
                let first = longest
                    .entry((&*client.database, &*client.user))
                    .or_insert((*at, client.id));
                *first = (*first).min((*at, client.id));
            }
        }
        for client in clients.iter().filter(|client| client.state() == State::Active) {
            if let Some(began) = before.get(&client.id)
                && let Some((at, id)) = longest.get(&(&*client.database, &*client.user))
                && began > at
            {
                let ahead = began.duration_since(*at);
                self.trace.fail(format!(
                    "client {} was served before {id}, who has waited {ahead:?} longer",
                    client.id
                ));
            }
        }
    }

    /// Looks again and again, whether anything happens or not; and at what is true only while nothing moves.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(700)).await;
            // Everybody who has got up at this moment does what he has to do.
            for _ in 0..40 {
                tokio::task::yield_now().await;
            }
            self.check();
            self.check_rest();
        }
    }

    /// Nobody is on the move: what the pools count is what the clients do.
    fn check_rest(&self) {
        let front = &self.process.front;
        if front.clients.logging_in() > 0 {
            return;
        }
        let clients = front.clients.all();
        for pool in front.pools.all() {
            let key = pool.key();
            let of_pool =
                |client: &&Arc<Handle>| *client.database == *key.database && *client.user == *key.user;
            let count = |state: State| {
                let of_pool = clients.iter().filter(of_pool);
                of_pool.filter(|client| client.state() == state).count()
            };
            let snapshot = pool.snapshot();
            let pairs = [
                ("waiting", snapshot.cl_waiting as usize, count(State::Waiting)),
                ("active", snapshot.cl_active as usize, count(State::Active)),
            ];
            for (what, counted, are) in pairs {
                if counted != are {
                    self.trace.fail(format!(
                        "pool {key}: {counted} clients are counted as {what}, {are} are"
                    ));
                }
            }
        }
    }

    /// Why this is not the rest that comes when nobody wants anything any more; `None` if it is.
    pub(super) fn unrest(&self) -> Option<String> {
        let front = &self.process.front;
        let (clients, logins) = (front.clients.len(), front.clients.logging_in());
        if clients + logins > 0 {
            return Some(format!("{clients} clients stay, {logins} log in for ever"));
        }
        let mut servers = 0;
        for pool in front.pools.all() {
            let snapshot = pool.snapshot();
            let PoolSnapshot { sv_idle, sv_used, .. } = snapshot;
            if snapshot.servers() != sv_idle + sv_used
                || snapshot.cl_waiting > 0
                || pool.source().pins.count() > 0
            {
                return Some(format!("pool {} does not come to rest: {snapshot:?}", pool.key()));
            }
            servers += snapshot.servers() as usize;
        }
        let sockets = Arc::strong_count(&self.cluster.sockets) - 1;
        let sessions = self.cluster.sessions();
        (servers != sockets || servers != sessions).then(|| {
            format!("{servers} servers in the pools, {sockets} sockets, {sessions} sessions on the hosts")
        })
    }

    /// Nobody has left a line but to be served or to hear why not.
    pub(super) fn accounts(&self, all_stayed: bool) {
        for pool in self.process.front.pools.all() {
            let stats = pool.snapshot().stats;
            let ends = stats.server_assignment_count + stats.requests_errors;
            if all_stayed && self.plan.is_calm() && ends != stats.requests_num {
                self.trace.fail(format!(
                    "pool {}: {ends} ends of {} requests",
                    pool.key(),
                    stats.requests_num
                ));
            }
        }
    }

    /// What is left when howdah has ended; `None` if nothing is.
    pub(super) fn leftovers(&self) -> Option<String> {
        let sockets = Arc::strong_count(&self.cluster.sockets) - 1;
        let served = Arc::strong_count(&self.served) - 1;
        let (clients, sessions) = (self.process.front.clients.len(), self.cluster.sessions());
        (sockets + served + clients + sessions > 0).then(|| {
            format!(
                "left behind: {clients} clients, {served} connections, {sockets} sockets, {sessions} sessions"
            )
        })
    }
}

fn listed(pool: &Pool<Servers>) -> BTreeMap<usize, u32> {
    let mut listed = BTreeMap::new();
    pool.for_each_server(|server| *listed.entry(server.state as usize).or_default() += 1);
    listed
}
