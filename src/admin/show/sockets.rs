//! SHOW CLIENTS, SERVERS, SOCKETS and `ACTIVE_SOCKETS`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::admin::rows::{Cell, Column, Row, int4, int8, split_time, text};
use crate::client::{Front, Handle, State};
use crate::config::Config;
use crate::net::PeerAddr;
use crate::pool::{PoolKey, ServerState};
use crate::server::Info;

/// SHOW SERVERS has the columns up to `id`. That one is wider than `PgBouncer`'s: ids do not begin
/// anew.
pub(super) const SOCKETS: [Column; 28] = [
    text("type"),
    text("user"),
    text("database"),
    text("replication"),
    text("state"),
    text("addr"),
    int4("port"),
    text("local_addr"),
    int4("local_port"),
    text("connect_time"),
    text("request_time"),
    int4("wait"),
    int4("wait_us"),
    int4("close_needed"),
    text("ptr"),
    text("link"),
    int4("remote_pid"),
    text("tls"),
    text("application_name"),
    int4("prepared_statements"),
    int8("id"),
    int4("recv_pos"),
    int4("pkt_pos"),
    int4("pkt_remain"),
    int4("send_pos"),
    int4("send_remain"),
    int4("pkt_avail"),
    int4("send_avail"),
];
pub(super) const WITHOUT_BUFFERS: usize = 21;

/// Those of SHOW SERVERS, and why a client keeps its server between transactions.
pub(super) const CLIENTS: [Column; WITHOUT_BUFFERS + 3] = {
    let mut columns = [int4("pin_age"); WITHOUT_BUFFERS + 3];
    let mut at = 0;
    while at < WITHOUT_BUFFERS {
        columns[at] = SOCKETS[at];
        at += 1;
    }
    columns[WITHOUT_BUFFERS] = text("pin");
    columns[WITHOUT_BUFFERS + 1] = text("pin_statement");
    columns
};

/// Address and port; a Unix socket has the port in its name only.
pub(super) fn place(address: &PeerAddr, unix_port: u16) -> [Cell; 2] {
    match address {
        PeerAddr::Tcp(address) => [address.ip().to_string().into(), address.port().into()],
        PeerAddr::Unix => ["unix".into(), unix_port.into()],
    }
}

pub(super) fn clients(front: &Front) -> Vec<Row> {
    let config = &front.house().config;
    let all = front.clients.all();
    all.iter().map(|client| client_row(client, config)).collect()
}

fn client_row(client: &Handle, config: &Config) -> Row {
    let port = config.settings.listen_port;
    let [addr, peer_port] = place(&client.peer, port);
    let [local_addr, local_port] = place(&client.local, port);
    let (requested_at, waiting) = client.requested();
    let [wait, wait_us] = split_time(waiting.unwrap_or_default());
    let link = client.server().map(|server| format!("S{}", server.id));
    let pin = client.pin();
    let pin = pin.as_deref();
    vec![
        "C".into(),
        (&*client.user).into(),
        (&*client.database).into(),
        "none".into(),
        client.state().word().into(),
        addr,
        peer_port,
        local_addr,
        local_port,
        client.connected_at.into(),
        requested_at.into(),
        wait,
        wait_us,
        0u32.into(),
        format!("C{}", client.id).into(),
        link.unwrap_or_default().into(),
        0u32.into(),
        client
            .tls
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
            .into(),
        client.application_name().into(),
        client.prepared().into(),
        client.id.into(),
        pin.map(|pin| pin.remains.to_string()).into(),
        pin.map(|pin| &*pin.statement).into(),
        pin.map(|pin| pin.since.elapsed().as_secs()).into(),
    ]
}

/// A server as it was seen under its pool's lock.
struct Seen {
    state: ServerState,
    info: Option<Arc<Info>>,
    opened_at: Instant,
    since: Instant,
    is_close_needed: bool,
}

pub(super) fn servers(front: &Front) -> Vec<Row> {
    let config = &front.house().config;
    let names: HashMap<u64, String> = front
        .clients
        .all()
        .iter()
        .map(|client| (client.id, client.application_name()))
        .collect();
    let mut rows = Vec::new();
    for pool in front.pools.all() {
        let mut seen = Vec::new();
        pool.for_each_server(|server| {
            seen.push(Seen {
                state: server.state,
                info: server.info.cloned(),
                opened_at: server.opened_at,
                since: server.since,
                is_close_needed: server.is_close_needed,
            });
        });
        let stale_after = pool.settings().server_check_delay;
        let rows_of_pool = seen
            .iter()
            .map(|server| server_row(server, pool.key(), config, stale_after, &names));
        rows.extend(rows_of_pool);
    }
    rows
}

fn server_row(
    server: &Seen,
    key: &PoolKey,
    config: &Config,
    stale_after: Option<Duration>,
    names: &HashMap<u64, String>,
) -> Row {
    let info = server.info.as_deref();
    let database = config.database(&key.database);
    let port = database
        .and_then(|database| {
            database
                .hosts
                .iter()
                .find(|host| host.socket_path().is_some())
                .map(|host| host.port)
        })
        .unwrap_or(0);
    let nowhere = || ["".into(), 0u32.into()];
    let [addr, peer_port] = info.map_or_else(nowhere, |info| place(&info.peer, port));
    let [local_addr, local_port] = info.map_or_else(nowhere, |info| place(&info.local, port));
    let client = info.map_or(0, |info| info.client.load(Ordering::Relaxed));
    let link = (client != 0).then(|| format!("C{client}"));
    let id = info.map_or(0, |info| info.id);
    vec![
        "S".into(),
        key.user.as_str().into(),
        key.database.as_str().into(),
        "none".into(),
        word(server, stale_after).into(),
        addr,
        peer_port,
        local_addr,
        local_port,
        info.map_or_else(|| wall_clock(server.opened_at), |info| info.connected_at)
            .into(),
        wall_clock(server.since).into(),
        0u32.into(),
        0u32.into(),
        server.is_close_needed.into(),
        format!("S{id}").into(),
        link.unwrap_or_default().into(),
        info.and_then(|info| u32::try_from(info.cancel.pid()).ok())
            .unwrap_or(0)
            .into(),
        info.and_then(|info| info.tls.as_ref())
            .map(ToString::to_string)
            .unwrap_or_default()
            .into(),
        names.get(&client).cloned().unwrap_or_default().into(),
        info.map_or(0, |info| info.prepared.load(Ordering::Relaxed))
            .into(),
        id.into(),
    ]
}

/// `PgBouncer`'s word for what a server is doing.
fn word(server: &Seen, stale_after: Option<Duration>) -> &'static str {
    match server.state {
        ServerState::Leased => "active",
        ServerState::Idle if stale_after.is_some_and(|delay| server.since.elapsed() >= delay) => "used",
        ServerState::Idle => "idle",
        ServerState::Checking | ServerState::Cleaning => "tested",
        ServerState::Opening => "new",
        ServerState::Canceling => "being_canceled",
    }
}

fn wall_clock(at: Instant) -> SystemTime {
    SystemTime::now()
        .checked_sub(at.elapsed())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(super) fn sockets(front: &Front, active_only: bool) -> Vec<Row> {
    const STATE: usize = 4;
    let active: Cell = State::Active.word().into();
    let mut rows = clients(front);
    for row in &mut rows {
        row.truncate(WITHOUT_BUFFERS);
    }
    rows.extend(servers(front));
    rows.retain(|row| !active_only || row.get(STATE) == Some(&active));
    for row in &mut rows {
        // Buffers belong to the moment here, not to the connection.
        row.resize(SOCKETS.len(), Cell::Number(0));
    }
    rows
}
