//! SHOW LISTENERS: the connections that listen for clients.

use crate::admin::rows::{Column, Row, int4, int8, text};
use crate::client::Front;
use crate::pool::HubView;

use super::sockets::place;

pub(super) const LISTENERS: [Column; 11] = [
    text("database"),
    text("user"),
    text("client_encoding"),
    text("state"),
    text("addr"),
    int4("port"),
    int4("remote_pid"),
    int4("clients"),
    int4("channels"),
    int8("notifications"),
    int8("unread_bytes"),
];

pub(super) fn listeners(front: &Front) -> Vec<Row> {
    let port = front.house().config.settings.listen_port;
    let pools = front.pools.all();
    let rows = pools.iter().flat_map(|pool| {
        let key = pool.key();
        let hubs = pool.source().hubs.views();
        hubs.into_iter()
            .map(|hub| row(&key.database, &key.user, &hub, port))
            .collect::<Vec<_>>()
    });
    rows.collect()
}

fn row(database: &str, user: &str, hub: &HubView, port: u16) -> Row {
    let server = hub.server.as_deref();
    let [addr, port] = match server {
        Some(server) => place(&server.peer, port),
        None => ["".into(), 0u32.into()],
    };
    let state = if server.is_some() { "listening" } else { "login" };
    vec![
        database.into(),
        user.into(),
        hub.encoding.as_str().into(),
        state.into(),
        addr,
        port,
        server.map(|server| server.cancel.pid().unsigned_abs()).into(),
        hub.clients.into(),
        hub.channels.into(),
        hub.notifications.into(),
        hub.bytes.into(),
    ]
}
