//! SHOW POOLS.

use crate::admin::Console;
use crate::admin::rows::{Cell, Column, Row, int4, split_time, text};
use crate::config::{Config, PoolMode};
use crate::pool::{PoolKey, PoolSnapshot};

pub(super) const POOLS: [Column; 17] = [
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
    let mut rows: Vec<Row> = front
        .pools
        .all()
        .iter()
        .map(|pool| {
            let key = pool.key();
            let there = clients.get(key).copied().unwrap_or(0);
            let mode = pool.source().policy().pool_mode;
            row(
                key,
                &pool.snapshot(),
                there,
                mode,
                balance(&house.config, &key.database),
            )
        })
        .collect();
    rows.push(console_row(console.sessions() as u32));
    rows
}

fn row(key: &PoolKey, pool: &PoolSnapshot, clients: u32, mode: PoolMode, balance: Cell) -> Row {
    let [maxwait, maxwait_us] = split_time(pool.maxwait);
    vec![
        key.database.as_str().into(),
        key.user.as_str().into(),
        // The line is counted in the same instant as the servers; who is not in it is not waiting.
        clients.saturating_sub(pool.cl_waiting).max(pool.cl_active).into(),
        pool.cl_waiting.into(),
        pool.sv_active_cancel.into(),
        0u32.into(),
        pool.sv_active.into(),
        pool.sv_active_cancel.into(),
        pool.sv_being_canceled.into(),
        pool.sv_idle.into(),
        pool.sv_used.into(),
        pool.sv_tested.into(),
        pool.sv_login.into(),
        maxwait,
        maxwait_us,
        mode.to_string().into(),
        balance,
    ]
}

/// The console's own line, as `PgBouncer` has it.
fn console_row(sessions: u32) -> Row {
    let mut row: Row = vec!["pgbouncer".into(), "pgbouncer".into(), sessions.into()];
    row.extend((3..15).map(|_| Cell::Number(0)));
    row.extend(["statement".into(), Cell::Null]);
    row
}
