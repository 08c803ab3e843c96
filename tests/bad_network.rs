//! Clients move money through howdah over a network that cuts, resets, delays, stalls, half-closes and corrupts, on
//! either side of it: the books balance, every acknowledged commit is there, and everybody trades again.
//!
//! `HOWDAH_FAULT_SEEDS=20` tries more seeds than one, from `HOWDAH_FAULT_SEED` on. A seed gives the same fate to the
//! same connection; which transaction meets it is the scheduler's affair.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::bank::{self, Trade};
use common::cluster::Cluster;
use common::health::Health;
use common::howdah::Config;
use common::proxy::{Fate, Proxy, Trouble};
use common::tls::Certificates;
use common::{Howdah, Target};

const SERVERS: usize = 3;
/// How many connections are to have met their fate.
const FATES: u64 = 40;
/// Or how long they may take for it.
const WHILE: Duration = Duration::from_secs(8);

const TROUBLES: &[Trouble] = &[
    Trouble::Cut,
    Trouble::Reset,
    Trouble::Stall,
    Trouble::HalfClose,
    Trouble::Delay(Duration::from_millis(30)),
    Trouble::Trickle(Duration::from_micros(300)),
];

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let first = number("HOWDAH_FAULT_SEED").unwrap_or(1);
    first..first + number("HOWDAH_FAULT_SEEDS").unwrap_or(1)
}

/// A pool whose time limits are what a bad network asks for.
fn pool(cluster: &Cluster) -> Config {
    Howdah::before(cluster)
        .set("default_pool_size", i64::try_from(SERVERS).expect("few"))
        .set("query_wait_timeout", "5s")
        .set("query_timeout", "3s")
        .set("idle_transaction_timeout", "3s")
        .set("client_login_timeout", "3s")
        .set("server_connect_timeout", "2s")
        .set("server_login_retry", "1s")
}

fn at(server: Target, more: &str) -> String {
    format!("host=127.0.0.1 port={} {more}", server.port)
}

/// Waits until enough has happened, then lets the network be good again.
fn endure(proxy: &Proxy, trade: &Trade) {
    let end = Instant::now() + WHILE;
    while proxy.connections() < FATES && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
    }
    eprintln!(
        "{} connections, {} transactions acknowledged",
        proxy.connections(),
        trade.acknowledged()
    );
    proxy.calm();
}

/// The bad network is between howdah and PostgreSQL.
fn behind(cluster: &Cluster, seed: u64, troubles: &'static [Trouble], more: &str) {
    eprintln!("seed {seed}");
    bank::open(cluster);
    let proxy = Proxy::seeded(cluster.target(), seed, troubles);
    let howdah = pool(cluster).database("app", &at(proxy.target(), more)).start();
    let trade = Trade::launch(howdah.target(), &[]);
    endure(&proxy, &trade);
    let ledger = trade.finish();
    ledger.audit(cluster);
    if let Some(health) = Health::of(&howdah) {
        health.check(&howdah, cluster, SERVERS);
    }
}

/// The bad network is between clients and howdah.
fn in_front(
    cluster: &Cluster,
    howdah: &Howdah,
    seed: u64,
    troubles: &'static [Trouble],
    environment: &[(&str, &str)],
) {
    eprintln!("seed {seed}");
    bank::open(cluster);
    let health = Health::of(howdah);
    let proxy = Proxy::seeded(howdah.target(), seed, troubles);
    let trade = Trade::launch(proxy.target(), environment);
    endure(&proxy, &trade);
    let ledger = trade.finish();
    ledger.audit(cluster);
    if let Some(health) = health {
        health.check(howdah, cluster, SERVERS);
    }
}

#[test]
fn the_books_balance_over_a_bad_network_to_postgresql() {
    for seed in seeds() {
        behind(&bank::cluster().start(), seed, TROUBLES, "sslmode=disable");
    }
}

#[test]
fn the_books_balance_over_a_bad_network_to_the_clients() {
    for seed in seeds() {
        let cluster = bank::cluster().start();
        let howdah = pool(&cluster).start();
        in_front(&cluster, &howdah, seed, TROUBLES, &[("TRADE_PATIENCE", "2")]);
    }
}

#[test]
fn the_books_balance_when_what_postgresql_says_under_tls_is_corrupted() {
    for seed in seeds() {
        let certificates = Certificates::new();
        let cluster = bank::durable(certificates.cluster("server")).start();
        behind(&cluster, seed, &[Trouble::Corrupt], "sslmode=require");
    }
}

#[test]
fn the_books_balance_when_what_clients_say_under_tls_is_corrupted() {
    for seed in seeds() {
        let certificates = Certificates::new();
        let cluster = bank::cluster().start();
        let howdah = certificates.offered(pool(&cluster), "allow").start();
        let environment = [("PGSSLMODE", "require"), ("TRADE_PATIENCE", "2")];
        in_front(&cluster, &howdah, seed, &[Trouble::Corrupt], &environment);
    }
}

/// Between howdah and PostgreSQL, for longer than a query may take, and then all that was said arrives.
#[test]
fn the_books_balance_when_nothing_passes_for_a_while() {
    let cluster = bank::cluster().start();
    bank::open(&cluster);
    let proxy = Proxy::before(cluster.target(), |_| Fate::FINE);
    let howdah = pool(&cluster).database("app", &at(proxy.target(), "")).start();
    let trade = Trade::start(howdah.target());
    for seconds in [1, 5] {
        proxy.hold(true);
        thread::sleep(Duration::from_secs(seconds));
        proxy.hold(false);
        trade.progress();
    }
    trade.finish().audit(&cluster);
    if let Some(health) = Health::of(&howdah) {
        health.check(&howdah, &cluster, SERVERS);
    }
}
