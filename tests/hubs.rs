//! How many connections listen for clients: one for each encoding, up to three.

mod common;

use common::console::Console;
use common::heard::payloads;
use common::net::wait_until;
use common::{Cluster, Howdah, Wire};

const ENCODINGS: [&str; 8] = [
    "UTF8",
    "LATIN1",
    "LATIN2",
    "LATIN5",
    "WIN1250",
    "WIN1251",
    "KOI8R",
    "SQL_ASCII",
];

#[track_caller]
fn run(wire: &mut Wire, sql: &str) {
    assert_eq!(wire.query(sql).code(), "", "{sql}");
}

#[test]
fn who_goes_through_all_encodings_opens_three_connections_to_listen() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let mut wire = Wire::app(howdah.target());
    for encoding in ENCODINGS {
        for sql in [
            &*format!("SET client_encoding = '{encoding}'"),
            "LISTEN a",
            "UNLISTEN a",
        ] {
            run(&mut wire, sql);
        }
        assert!(
            cluster.backends("usename = 'app'") <= 5,
            "two servers and three hubs"
        );
    }
}

#[test]
fn who_finds_no_place_keeps_its_server_and_hears_all_the_same() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    if !howdah.is_howdah() {
        return;
    }
    let mut console = Console::open(howdah.target());
    let mut hubs = || {
        let hubs = console.show("LISTENERS").rows;
        hubs.iter()
            .map(|hub| hub["client_encoding"].clone())
            .collect::<Vec<_>>()
    };
    let mut listeners: Vec<_> = ENCODINGS[..4]
        .iter()
        .map(|encoding| {
            let mut wire = Wire::app(howdah.target());
            run(&mut wire, &format!("SET client_encoding = '{encoding}'"));
            run(&mut wire, "LISTEN a");
            wire
        })
        .collect();
    let mut sender = Wire::app(cluster.target());
    run(&mut sender, "NOTIFY a, 'first'");
    for wire in &mut listeners {
        assert_eq!(payloads(wire, 1), ["first"]);
    }
    assert_eq!(hubs(), ["LATIN1", "LATIN2", "UTF8"]);
    // Whose hub nobody needs any more makes way.
    listeners.remove(1).terminate();
    wait_until("there is one for the last encoding", || {
        run(&mut listeners[2], "SELECT 1");
        hubs() == ["LATIN2", "LATIN5", "UTF8"]
    });
    run(&mut sender, "NOTIFY a, 'second'");
    for wire in &mut listeners {
        assert_eq!(payloads(wire, 1), ["second"]);
    }
}
