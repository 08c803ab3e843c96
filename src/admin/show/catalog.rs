//! SHOW DATABASES, USERS and LISTS.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::pools::balance;
use crate::admin::Console;
use crate::admin::rows::{Cell, Column, Row, int4, text};
use crate::client::{Front, House};
use crate::config::Host;
use crate::pool::{CredentialsState, LimitName, Pool, Servers};

/// `PgBouncer`'s columns, and behind them one by its old name, which older exporters look for, and the number of pools
/// that cannot be filled before a client has logged in.
pub(super) const DATABASES: [Column; 19] = [
    text("name"),
    text("host"),
    int4("port"),
    text("database"),
    text("force_user"),
    int4("pool_size"),
    int4("min_pool_size"),
    int4("reserve_pool_size"),
    int4("server_lifetime"),
    text("pool_mode"),
    text("load_balance_hosts"),
    int4("max_connections"),
    int4("current_connections"),
    int4("max_client_connections"),
    int4("current_client_connections"),
    int4("paused"),
    int4("disabled"),
    int4("reserve_pool"),
    int4("awaiting_login"),
];

pub(super) const USERS: [Column; 8] = [
    text("name"),
    text("pool_size"),
    text("reserve_pool_size"),
    text("pool_mode"),
    int4("max_user_connections"),
    int4("current_connections"),
    int4("max_user_client_connections"),
    int4("current_client_connections"),
];

pub(super) const LISTS: [Column; 2] = [text("list"), int4("items")];

/// Databases that are configured, and those that the fallback stands in for and that are in use.
fn database_names(front: &Front, house: &House) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = house.config.databases.keys().cloned().collect();
    names.extend(front.pools.all().iter().map(|pool| pool.key().database.clone()));
    names.extend(
        front
            .clients
            .all()
            .iter()
            .map(|client| client.database.to_string()),
    );
    names
}

/// Users that are configured, and those who are there.
fn user_names(front: &Front, house: &House) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = house.config.users.keys().cloned().collect();
    names.extend(front.pools.all().iter().map(|pool| pool.key().user.clone()));
    names.extend(front.clients.all().iter().map(|client| client.user.to_string()));
    names
}

pub(super) fn databases(console: &Console) -> Vec<Row> {
    let front = &console.front;
    let house = front.house();
    let names = database_names(front, &house);
    let mut rows: Vec<Row> = names
        .iter()
        .filter_map(|name| database_row(front, &house, name))
        .collect();
    rows.push(console_row(console, house.config.settings.listen_port));
    rows
}

fn database_row(front: &Front, house: &House, name: &str) -> Option<Row> {
    let database = house.config.database(name)?;
    let policy = house
        .config
        .pool_settings(&database, database.user.as_deref().unwrap_or_default());
    let hosts: Vec<&str> = database
        .hosts
        .iter()
        .map(|host: &Host| host.name.as_str())
        .collect();
    let (connections, _) = front.pools.book().get(&LimitName::Database(name.to_owned()));
    Some(vec![
        name.into(),
        hosts.join(",").into(),
        database.hosts.first().map_or(0, |host| host.port).into(),
        database.dbname_for(name).into(),
        database.user.as_deref().into(),
        policy.pool_size.into(),
        policy.min_pool_size.into(),
        policy.reserve_pool_size.into(),
        policy.server_lifetime.as_secs().into(),
        database.overrides.pool_mode.map(|mode| mode.to_string()).into(),
        balance(&house.config, name),
        policy.max_db_connections.into(),
        connections.into(),
        policy.max_db_client_connections.into(),
        front.clients.of_database(name).into(),
        front.is_paused(name).into(),
        front.is_disabled(name).into(),
        policy.reserve_pool_size.into(),
        awaiting_login(front, name).into(),
    ])
}

/// The pools of a database that lack what the server asks for.
fn awaiting_login(front: &Front, database: &str) -> usize {
    let pools = front.pools.of_database(database);
    let awaits = |pool: &&Arc<Pool<Servers>>| pool.source().credentials() == CredentialsState::Awaited;
    pools.iter().filter(awaits).count()
}

/// The console's own line, as `PgBouncer` has it.
fn console_row(console: &Console, port: u16) -> Row {
    let nothing = || Cell::Number(0);
    vec![
        "pgbouncer".into(),
        Cell::Null,
        port.into(),
        "pgbouncer".into(),
        "pgbouncer".into(),
        nothing(),
        nothing(),
        nothing(),
        nothing(),
        "statement".into(),
        Cell::Null,
        nothing(),
        nothing(),
        nothing(),
        console.sessions().into(),
        nothing(),
        nothing(),
        nothing(),
        nothing(),
    ]
}

pub(super) fn users(front: &Front) -> Vec<Row> {
    let house = front.house();
    let settings = &house.config.settings;
    let row = |name: String| {
        let own = house.config.users.get(&name).map(|user| &user.overrides);
        let (connections, _) = front.pools.book().get(&LimitName::User(name.clone()));
        let clients = front.clients.of_user(&name);
        let max = own.and_then(|own| own.max_user_connections);
        let max_clients = own.and_then(|own| own.max_user_client_connections);
        vec![
            name.into(),
            own.and_then(|own| own.pool_size)
                .map(|size| size.to_string())
                .into(),
            Cell::Null,
            own.and_then(|own| own.pool_mode)
                .map(|mode| mode.to_string())
                .into(),
            max.unwrap_or(settings.max_user_connections).into(),
            connections.into(),
            max_clients.unwrap_or(settings.max_user_client_connections).into(),
            clients.into(),
        ]
    };
    user_names(front, &house).into_iter().map(row).collect()
}

pub(super) fn lists(front: &Front) -> Vec<Row> {
    let house = front.house();
    let pools = front.pools.all();
    let servers: u32 = pools.iter().map(|pool| pool.snapshot().servers()).sum();
    let logging_in = front.clients.logging_in();
    [
        ("databases", database_names(front, &house).len()),
        ("users", user_names(front, &house).len()),
        ("peers", 0),
        ("pools", pools.len()),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", front.clients.len() + logging_in),
        ("login_clients", logging_in),
        ("free_servers", 0),
        ("used_servers", servers as usize),
        ("dns_names", front.resolver.lookups().len()),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ]
    .map(|(list, items)| vec![list.into(), items.into()])
    .into()
}
