//! What is told of each pool: one row for each metric.

use std::sync::Arc;

use super::families::{Families, Labels};
use crate::client::Front;
use crate::config::Config;
use crate::pool::{CredentialsState, HubView, Pool, PoolKey, PoolSnapshot, Servers, max_pinned};
use crate::stats::{ErrorClass, Histogram, PoolStats};

/// A number: its name, what it means, where it stands.
type Number = (&'static str, &'static str, fn(&PoolSnapshot) -> f64);
/// The same of what only grows.
type Count = (&'static str, &'static str, fn(&PoolStats) -> f64);
/// The same of times.
type Times = (&'static str, &'static str, fn(&PoolStats) -> &Histogram);

const CLIENTS: (&str, &str) = ("howdah_pool_clients", "Clients that are logged in, by state.");
const SERVERS: (&str, &str) = ("howdah_pool_servers", "Server connections, by state.");
const ERRORS: (&str, &str) = (
    "howdah_pool_errors_total",
    "Errors that servers reported to clients, by class of SQLSTATE.",
);

const AWAITING: (&str, &str) = (
    "howdah_pool_awaiting_login",
    "1 while the server asks for a secret that only the login of a client can teach.",
);

const PINNED: (&str, &str) = (
    "howdah_pool_pinned",
    "Servers that clients keep, or are about to, for session state that cannot follow them.",
);
const MAX_PINNED: (&str, &str) = ("howdah_pool_max_pinned", "Servers that clients may keep so.");

const LISTENERS: (&str, &str) = (
    "howdah_pool_listeners",
    "Connections that listen for clients, up or on their way.",
);
const LISTENING_CLIENTS: (&str, &str) = (
    "howdah_pool_listening_clients",
    "Clients that listen, or are about to, on such a connection.",
);
const CHANNELS: (&str, &str) = (
    "howdah_pool_listening_channels",
    "Channels that clients listen to on such a connection.",
);
const UNREAD: (&str, &str) = (
    "howdah_pool_unread_notification_bytes",
    "Notifications that clients have not taken yet.",
);
const NOTIFICATIONS: (&str, &str) = (
    "howdah_pool_notifications_total",
    "Notifications that such connections have heard.",
);
const LISTENERS_LOST: (&str, &str) = (
    "howdah_pool_listeners_lost_total",
    "Connections that listened for clients and were lost.",
);

const CANCELS: (&str, &str) = ("howdah_pool_cancels", "Cancel requests on their way to servers.");

const NUMBERS: [Number; 7] = [
    (
        "howdah_pool_size",
        "Server connections that the pool may have.",
        |pool| pool.settings.pool_size.into(),
    ),
    (
        "howdah_pool_min_size",
        "Server connections that the pool keeps open.",
        |pool| pool.settings.min_pool_size.into(),
    ),
    (
        "howdah_pool_reserve_size",
        "Server connections that the pool may have beyond its size while clients wait too long.",
        |pool| pool.settings.reserve_pool_size.into(),
    ),
    (
        "howdah_pool_max_waiting",
        "Clients that may wait at once; 0 is without limit.",
        |pool| pool.settings.max_waiting.into(),
    ),
    (
        "howdah_pool_oldest_wait_seconds",
        "How long the first client in the queue has waited.",
        |pool| pool.maxwait.as_secs_f64(),
    ),
    ("howdah_pool_paused", "1 while the pool is paused.", |pool| {
        f64::from(u8::from(pool.is_paused))
    }),
    (
        "howdah_pool_failing",
        "1 while no attempt to connect has succeeded since the last failure.",
        |pool| f64::from(u8::from(pool.last_error.is_some())),
    ),
];

const COUNTS: [Count; 17] = [
    (
        "howdah_pool_requests_total",
        "Requests for a server connection.",
        |stats| stats.requests_num as f64,
    ),
    (
        "howdah_pool_requests_queued_total",
        "Requests that had to queue.",
        |stats| stats.requests_queued as f64,
    ),
    (
        "howdah_pool_requests_failed_total",
        "Requests that failed: timed out, too many waiting, or no server to be had.",
        |stats| stats.requests_errors as f64,
    ),
    (
        "howdah_pool_assignments_total",
        "Server connections given to clients.",
        |stats| stats.server_assignment_count as f64,
    ),
    (
        "howdah_pool_usage_seconds_total",
        "Time that clients held server connections.",
        |stats| seconds(stats.usage_time),
    ),
    ("howdah_pool_transactions_total", "Transactions.", |stats| {
        stats.xact_count as f64
    }),
    ("howdah_pool_queries_total", "Queries.", |stats| {
        stats.query_count as f64
    }),
    (
        "howdah_pool_received_bytes_total",
        "Bytes received from clients.",
        |stats| stats.bytes_received as f64,
    ),
    (
        "howdah_pool_sent_bytes_total",
        "Bytes sent to clients.",
        |stats| stats.bytes_sent as f64,
    ),
    (
        "howdah_pool_client_parses_total",
        "Parse messages from clients.",
        |stats| stats.client_parse_count as f64,
    ),
    (
        "howdah_pool_server_parses_total",
        "Parse messages to servers.",
        |stats| stats.server_parse_count as f64,
    ),
    ("howdah_pool_binds_total", "Bind messages.", |stats| {
        stats.bind_count as f64
    }),
    (
        "howdah_pool_connects_total",
        "Attempts to connect to a server.",
        |stats| stats.connections_num as f64,
    ),
    (
        "howdah_pool_connects_failed_total",
        "Attempts to connect that failed.",
        |stats| stats.connections_errors as f64,
    ),
    (
        "howdah_pool_connecting_seconds_total",
        "Time spent on attempts to connect, failed ones included.",
        |stats| seconds(stats.connections_time),
    ),
    (
        "howdah_pool_servers_lost_total",
        "Server connections found dead while nobody used them.",
        |stats| stats.connections_lost as f64,
    ),
    (
        "howdah_pool_returns_bad_total",
        "Server connections that came back broken.",
        |stats| stats.returns_bad as f64,
    ),
];

const TIMES: [Times; 5] = [
    (
        "howdah_pool_wait_seconds",
        "How long requests waited for a server connection; those served at once count as zero.",
        |stats| &stats.wait,
    ),
    ("howdah_pool_query_seconds", "How long queries took.", |stats| {
        &stats.query
    }),
    (
        "howdah_pool_transaction_seconds",
        "How long transactions took.",
        |stats| &stats.transaction,
    ),
    (
        "howdah_pool_connect_seconds",
        "How long successful attempts to connect took, the login at the server included.",
        |stats| &stats.connect,
    ),
    (
        "howdah_pool_login_seconds",
        "How long clients' logins took.",
        |stats| &stats.login,
    ),
];

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// One pool at the moment of the scrape.
pub(super) struct PoolView {
    pub(super) key: PoolKey,
    pub(super) pool: PoolSnapshot,
    /// Clients that are logged in and served by it.
    pub(super) clients: u32,
    cancels: u32,
    is_awaiting_login: bool,
    pinned: u32,
    max_pinned: u32,
    hubs: Vec<HubView>,
    /// Notifications that hubs have heard, and connections of hubs that were lost.
    heard_and_lost: (u64, u64),
}

impl PoolView {
    /// Clients that neither have nor want a server.
    pub(super) fn idle_clients(&self) -> u32 {
        let busy = self.pool.cl_active + self.pool.cl_waiting;
        self.clients.saturating_sub(busy)
    }
}

/// All pools.
pub(super) fn views(front: &Front, config: &Config) -> Vec<PoolView> {
    let clients = front.clients_by_pool(config);
    let pools = front.pools.all();
    let view = |pool: &Arc<Pool<Servers>>| PoolView {
        key: pool.key().clone(),
        pool: pool.snapshot(),
        clients: clients.get(pool.key()).copied().unwrap_or(0),
        cancels: pool.cancels_under_way(),
        is_awaiting_login: pool.source().credentials() == CredentialsState::Awaited,
        pinned: pool.source().pins.count(),
        max_pinned: max_pinned(&pool.source().policy()),
        hubs: pool.source().hubs.views(),
        heard_and_lost: pool.source().hubs.totals(),
    };
    pools.iter().map(view).collect()
}

/// Adds what there is to tell of the pools.
pub(super) fn add(families: &mut Families, views: &[PoolView]) {
    for view in views {
        let PoolView { key, pool, .. } = view;
        let labels = [("database", key.database.as_str()), ("user", key.user.as_str())];
        let [database, user] = labels;
        for (state, count) in [
            ("active", pool.cl_active),
            ("idle", view.idle_clients()),
            ("waiting", pool.cl_waiting),
        ] {
            let labels = [database, user, ("state", state)];
            families.gauge(CLIENTS.0, CLIENTS.1, &labels, count.into());
        }
        for (state, count) in [
            ("active", pool.sv_active),
            ("idle", pool.sv_idle),
            ("used", pool.sv_used),
            ("tested", pool.sv_tested),
            ("login", pool.sv_login),
            ("being_canceled", pool.sv_being_canceled),
        ] {
            let labels = [database, user, ("state", state)];
            families.gauge(SERVERS.0, SERVERS.1, &labels, count.into());
        }
        let awaiting = f64::from(u8::from(view.is_awaiting_login));
        families.gauge(AWAITING.0, AWAITING.1, &labels, awaiting);
        families.gauge(PINNED.0, PINNED.1, &labels, view.pinned.into());
        families.gauge(MAX_PINNED.0, MAX_PINNED.1, &labels, view.max_pinned.into());
        families.gauge(CANCELS.0, CANCELS.1, &labels, view.cancels.into());
        add_hubs(families, view, &labels);
        for (name, help, read) in NUMBERS {
            families.gauge(name, help, &labels, read(pool));
        }
        for (name, help, read) in COUNTS {
            families.counter(name, help, &labels, read(&pool.stats));
        }
        for (class, count) in ErrorClass::LABELS.into_iter().zip(pool.stats.errors) {
            let labels = [database, user, ("class", class)];
            families.counter(ERRORS.0, ERRORS.1, &labels, count as f64);
        }
        for (name, help, read) in TIMES {
            families.histogram(name, help, &labels, read(&pool.stats));
        }
    }
}

/// What listens for clients.
fn add_hubs(families: &mut Families, view: &PoolView, labels: Labels<'_>) {
    let sum = |read: fn(&HubView) -> usize| view.hubs.iter().map(read).sum::<usize>() as f64;
    families.gauge(LISTENERS.0, LISTENERS.1, labels, view.hubs.len() as f64);
    for (name, read) in [
        (LISTENING_CLIENTS, (|hub| hub.clients) as fn(&HubView) -> usize),
        (CHANNELS, |hub| hub.channels),
        (UNREAD, |hub| hub.bytes),
    ] {
        families.gauge(name.0, name.1, labels, sum(read));
    }
    let (heard, lost) = view.heard_and_lost;
    families.counter(NOTIFICATIONS.0, NOTIFICATIONS.1, labels, heard as f64);
    families.counter(LISTENERS_LOST.0, LISTENERS_LOST.1, labels, lost as f64);
}
