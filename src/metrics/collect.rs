//! Everything that `/metrics` tells, from one moment.

use std::collections::BTreeSet;

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};

use super::Exhibit;
use super::families::Families;
use super::pools;
use super::process::Process;
use crate::client::{Front, House};
use crate::pool::LimitName;
use crate::server::Remains;

/// What a scrape is answered with.
pub(super) fn text(exhibit: &Exhibit) -> Result<Vec<u8>, prometheus::Error> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&families(exhibit), &mut text)?;
    Ok(text)
}

pub(super) fn families(exhibit: &Exhibit) -> Vec<MetricFamily> {
    let front = &exhibit.front;
    let house = front.house();
    let views = pools::views(front, &house.config);
    let mut families = Families::default();
    add_process(&mut families, exhibit);
    add_clients(&mut families, front, &house);
    add_databases(&mut families, front, &house);
    add_users(&mut families, front, &house);
    pools::add(&mut families, &views);
    families.into_vec()
}

fn flag(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}

fn add_process(families: &mut Families, exhibit: &Exhibit) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    families.gauge(
        "howdah_build_info",
        "Always 1; its label is the version.",
        &version,
        1.0,
    );
    let uptime = exhibit.started.elapsed().as_secs_f64();
    families.gauge(
        "howdah_uptime_seconds",
        "Time since howdah was started.",
        &[],
        uptime,
    );
    let draining = flag(exhibit.is_draining());
    families.gauge(
        "howdah_draining",
        "1 once no new clients are taken any more.",
        &[],
        draining,
    );
    let paused = flag(exhibit.front.is_all_paused());
    families.gauge("howdah_paused", "1 while everything is paused.", &[], paused);
    let process = Process::now();
    if let Some(count) = process.open_fds {
        families.gauge("howdah_process_open_fds", "File descriptors in use.", &[], count);
    }
    if let Some(bytes) = process.resident_bytes {
        let name = "howdah_process_resident_memory_bytes";
        families.gauge(name, "Memory in use, as the kernel counts it.", &[], bytes);
    }
    if let Some(seconds) = process.cpu_seconds {
        let name = "howdah_process_cpu_seconds_total";
        families.counter(name, "CPU time used, in user and in kernel mode.", &[], seconds);
    }
    if let Some(count) = process.tasks {
        families.gauge("howdah_process_tasks", "Tasks that have not ended.", &[], count);
    }
}

fn add_clients(families: &mut Families, front: &Front, house: &House) {
    let clients = front.clients.len() as f64;
    families.gauge("howdah_clients", "Clients that are logged in.", &[], clients);
    let logging_in = front.clients.logging_in() as f64;
    let help = "Connections that are not logged in yet.";
    families.gauge("howdah_clients_logging_in", help, &[], logging_in);
    let pins: Vec<_> = front
        .clients
        .all()
        .iter()
        .filter_map(|client| client.pin())
        .collect();
    for (kind, reason) in Remains::WORDS {
        let count = pins.iter().filter(|pin| pin.remains.contains(kind)).count();
        let help = "Clients that keep their server between transactions, by what they have there.";
        families.gauge("howdah_pinned_clients", help, &[("reason", reason)], count as f64);
    }
    let max = house.config.settings.max_client_conn.into();
    let help = "Clients that may be logged in at once; 0 is without limit.";
    families.gauge("howdah_max_clients", help, &[], max);
    for (reason, count) in front.farewells() {
        let labels = [("reason", reason)];
        let help = "Client connections that have ended, by reason.";
        families.counter("howdah_farewells_total", help, &labels, count as f64);
    }
    for (reason, count) in front.denials() {
        let labels = [("reason", reason)];
        let help = "Logins that were refused, by reason.";
        families.counter("howdah_logins_refused_total", help, &labels, count as f64);
    }
    for (result, count) in front.handshakes.counts() {
        let help = "TLS handshakes with clients, by what came of them.";
        families.counter(
            "howdah_tls_handshakes_total",
            help,
            &[("result", result)],
            count as f64,
        );
    }
    let names = front.resolver.lookups().len() as f64;
    families.gauge(
        "howdah_dns_names",
        "Host names whose addresses are remembered.",
        &[],
        names,
    );
}

fn add_databases(families: &mut Families, front: &Front, house: &House) {
    let mut names: BTreeSet<String> = house.config.databases.keys().cloned().collect();
    names.extend(front.pools.all().iter().map(|pool| pool.key().database.clone()));
    for name in &names {
        let Some(database) = house.config.database(name) else {
            continue;
        };
        let user = database.user.as_deref().unwrap_or_default();
        let policy = house.config.pool_settings(&database, user);
        let (servers, _) = front.pools.book().get(&LimitName::Database(name.clone()));
        let labels = [("database", name.as_str())];
        let mut gauge = |name, help, value| families.gauge(name, help, &labels, value);
        gauge(
            "howdah_database_servers",
            "Server connections of all pools of a database.",
            servers.into(),
        );
        gauge(
            "howdah_database_max_servers",
            "Server connections that a database may have; 0 is without limit.",
            policy.max_db_connections.into(),
        );
        gauge(
            "howdah_database_clients",
            "Clients that are logged in to a database.",
            front.clients.of_database(name) as f64,
        );
        gauge(
            "howdah_database_max_clients",
            "Clients that may be logged in to a database; 0 is without limit.",
            policy.max_db_client_connections.into(),
        );
        gauge(
            "howdah_database_disabled",
            "1 while new clients of a database are turned away.",
            flag(front.is_disabled(name)),
        );
    }
}

fn add_users(families: &mut Families, front: &Front, house: &House) {
    let users: BTreeSet<String> = front
        .pools
        .all()
        .iter()
        .map(|pool| pool.key().user.clone())
        .collect();
    for user in &users {
        let (servers, max) = front.pools.book().get(&LimitName::User(user.clone()));
        let own = house.config.users.get(user).map(|user| &user.overrides);
        let max_clients = own
            .and_then(|own| own.max_user_client_connections)
            .unwrap_or(house.config.settings.max_user_client_connections);
        let labels = [("user", user.as_str())];
        let mut gauge = |name, help, value| families.gauge(name, help, &labels, value);
        gauge(
            "howdah_user_servers",
            "Server connections of all pools of a user.",
            servers.into(),
        );
        gauge(
            "howdah_user_max_servers",
            "Server connections that a user may have; 0 is without limit.",
            max.into(),
        );
        gauge(
            "howdah_user_clients",
            "Clients that are logged in as a user.",
            front.clients.of_user(user) as f64,
        );
        gauge(
            "howdah_user_max_clients",
            "Clients that may be logged in as a user; 0 is without limit.",
            max_clients.into(),
        );
    }
}
