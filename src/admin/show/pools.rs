//! SHOW POOLS.

use std::sync::Arc;

use crate::admin::Console;
use crate::admin::rows::{Cell, Column, Row, int4, split_time, text};
use crate::config::Config;
use crate::pool::{Pool, Servers};

/// `PgBouncer`'s columns, and behind them how a pool comes by what it logs in with.
pub(super) const POOLS: [Column; 18] = [
    text("database"),
    text("user"),
    int4("cl_active"),
    int4("cl_waiting"),
    int4("cl_active_cancel_req"),
    int4("cl_waiting_cancel_req"),
    int4("sv_active"),
    int4("sv_active_cancel"),
    int4("sv_being_canceled"),
    int4("sv_idle"),
    int4("sv_used"),
    int4("sv_tested"),
    int4("sv_login"),
    int4("maxwait"),
    int4("maxwait_us"),
    text("pool_mode"),
    text("load_balance_hosts"),
    text("credentials"),
];

pub(super) const PEERS: [Column; 4] = [int4("peer_id"), text("host"), int4("port"), int4("pool_size")];

pub(super) const PEER_POOLS: [Column; 5] = [
    int4("peer_id"),
    int4("cl_active_cancel_req"),
    int4("cl_waiting_cancel_req"),
    int4("sv_active_cancel"),
    int4("sv_login"),
];

/// How hosts are chosen where there are several; one host needs no word for it.
pub(super) fn balance(config: &Config, database: &str) -> Cell {
    let several = config
        .database(database)
        .is_some_and(|database| database.hosts.len() > 1);
    several.then_some("disable").into()
}

pub(super) fn pools(console: &Console) -> Vec<Row> {
    let front = &console.front;
    let house = front.house();
    let clients = front.clients_by_pool(&house.config);
    let row = |pool: &Arc<Pool<Servers>>| {
        let there = clients.get(pool.key()).copied().unwrap_or(0);
        pool_row(pool, there, balance(&house.config, &pool.key().database))
    };
    let mut rows: Vec<Row> = front.pools.all().iter().map(row).collect();
    rows.push(console_row(console.sessions() as u32));
    rows
}

fn pool_row(pool: &Pool<Servers>, clients: u32, balance: Cell) -> Row {
    let (key, now, cancels) = (pool.key(), pool.snapshot(), pool.cancels_under_way());
    let [maxwait, maxwait_us] = split_time(now.maxwait);
    vec![
        key.database.as_str().into(),
        key.user.as_str().into(),
        // The line is counted in the same instant as the servers; who is not in it is not waiting.
        clients.saturating_sub(now.cl_waiting).max(now.cl_active).into(),
        now.cl_waiting.into(),
        cancels.into(),
        0u32.into(),
        now.sv_active.into(),
        cancels.into(),
        now.sv_being_canceled.into(),
        now.sv_idle.into(),
        now.sv_used.into(),
        now.sv_tested.into(),
        now.sv_login.into(),
        maxwait,
        maxwait_us,
        pool.source().policy().pool_mode.to_string().into(),
        balance,
        pool.source().credentials().word().into(),
    ]
}

/// The console's own line, as `PgBouncer` has it.
fn console_row(sessions: u32) -> Row {
    let mut row: Row = vec!["pgbouncer".into(), "pgbouncer".into(), sessions.into()];
    row.extend((3..15).map(|_| Cell::Number(0)));
    row.extend(["statement".into(), Cell::Null, Cell::Null]);
    row
}
