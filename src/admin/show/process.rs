//! SHOW CONFIG, STATE, VERSION, MEM, `DNS_HOSTS` and `DNS_ZONES`.

use crate::admin::rows::{Cell, Column, Row, int4, int8, text};
use crate::client::{Front, Handle};
use crate::pool::{Pool, Servers};
use crate::server::Connection;

pub(super) const CONFIG: [Column; 4] = [text("key"), text("value"), text("default"), text("changeable")];
pub(super) const STATE: [Column; 2] = [text("key"), text("value")];
pub(super) const VERSION: [Column; 1] = [text("version")];
pub(super) const MEM: [Column; 5] = [
    text("name"),
    int4("size"),
    int4("used"),
    int4("free"),
    int4("memtotal"),
];
pub(super) const DNS_HOSTS: [Column; 3] = [text("hostname"), int8("ttl"), text("addrs")];
pub(super) const DNS_ZONES: [Column; 3] = [text("zonename"), int8("serial"), int4("count")];

pub(super) fn config(front: &Front) -> Vec<Row> {
    let rows = front.house().config.rows(front.started()).into_iter();
    rows.map(|row| {
        let changeable = if row.changeable { "yes" } else { "no" };
        vec![
            row.name.into(),
            row.value.into(),
            row.default.into(),
            changeable.into(),
        ]
    })
    .collect()
}

pub(super) fn state(front: &Front) -> Vec<Row> {
    let word = |flag: bool| Cell::from(if flag { "yes" } else { "no" });
    let paused = front.is_all_paused();
    vec![
        vec!["active".into(), word(!paused)],
        vec!["paused".into(), word(paused)],
        vec!["suspended".into(), word(false)],
    ]
}

pub(super) fn version() -> Vec<Row> {
    vec![vec![crate::admin::VERSION.into()]]
}

/// What is held for each of those who are there. Buffers are not among it: they belong to whoever is moving bytes.
pub(super) fn mem(front: &Front) -> Vec<Row> {
    let pools = front.pools.all();
    let servers: u32 = pools.iter().map(|pool| pool.snapshot().servers()).sum();
    [
        ("client", size_of::<Handle>(), front.clients.len()),
        ("server", size_of::<Connection>(), servers as usize),
        ("pool", size_of::<Pool<Servers>>(), pools.len()),
    ]
    .map(|(name, size, used)| {
        vec![
            name.into(),
            size.into(),
            used.into(),
            0u32.into(),
            (size * used).into(),
        ]
    })
    .into()
}

pub(super) fn dns_hosts(front: &Front) -> Vec<Row> {
    let lookups = front.resolver.lookups().into_iter();
    lookups
        .map(|lookup| {
            let addresses: Vec<_> = lookup.addresses.iter().map(ToString::to_string).collect();
            vec![
                lookup.name.into(),
                lookup.ttl.as_secs().into(),
                addresses.join(",").into(),
            ]
        })
        .collect()
}
