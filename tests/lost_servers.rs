//! Wherever in an answer a server is lost, be it in one of howdah's own questions: the client has what came before, is told
//! why it has to go, and only where the answer ends in the middle of a message is there no room for that.

mod common;

use common::net::{eventually, wait_until};
use common::proxy::{Fate, Proxy};
use common::wire::{NoFrame, kinds};
use common::{Cluster, Howdah, Wire, msg};
use std::time::Duration;

/// What a client does where its server is lost.
struct Exchange {
    /// What it prepares as `s` and has on a server that is gone by then.
    prepared: &'static str,
    /// What it does on the new server before.
    before: &'static str,
    /// What it sends.
    requests: Vec<Vec<u8>>,
    /// What comes of it, all in all.
    kinds: &'static str,
}

/// Loses servers after each number of bytes of their answer (where it is long, not after all of them), until it was all
/// there.
fn lose_everywhere(exchange: &Exchange) {
    let cluster = Cluster::start();
    let proxy = Proxy::before(cluster.target(), |_| Fate::FINE);
    let port = proxy.target().port;
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .database("app", &format!("host=127.0.0.1 port={port} sslmode=disable"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    // What is learnt once is no part of it.
    let undisturbed = lose_after(u64::MAX - 1, exchange, &cluster, &proxy, &howdah);
    assert_eq!(undisturbed, None);
    let told = (0..100)
        .chain((100..).step_by(17))
        .map_while(|bytes| lose_after(bytes, exchange, &cluster, &proxy, &howdah))
        .filter(|told| *told)
        .count();
    assert!(told > 20, "told {told} times only: was anything lost?");
}

/// Whether the client was told that its server is lost after so many bytes; nothing once all had come by then.
fn lose_after(
    bytes: u64,
    exchange: &Exchange,
    cluster: &Cluster,
    proxy: &Proxy,
    howdah: &Howdah,
) -> Option<bool> {
    let mut client = eventually("there is a server again", Duration::from_secs(15), || {
        let mut client =
            Wire::login_with(howdah.target(), &[("user", "app"), ("database", "app")], None).ok()?;
        let prepared = client.batch(&[msg::parse("s", exchange.prepared)]);
        (prepared == "1Z").then_some(client)
    });
    proxy.cut();
    wait_until("the server is gone", || cluster.backends("usename = 'app'") == 0);
    client.query(exchange.before);
    proxy.cut_after(bytes);
    client.send(&exchange.requests.concat());
    let mut frames = Vec::new();
    while kinds(&frames) != exchange.kinds {
        match client.try_read() {
            Ok(frame) => frames.push(frame),
            Err(NoFrame::Timeout) => panic!("no answer after {bytes} bytes, but for {frames:?}"),
            Err(NoFrame::Closed) if client.is_within_frame() => return Some(false),
            Err(NoFrame::Closed) => {
                let last = frames.pop().map(|frame| (frame.kind, frame.error()));
                let (kind, error) =
                    last.unwrap_or_else(|| panic!("closed without a word after {bytes} bytes"));
                assert_eq!(kind, b'E', "after {bytes} bytes; before it came {frames:?}");
                assert_eq!(error.code(), "08006", "after {bytes} bytes");
                let had = kinds(&frames);
                assert!(exchange.kinds.starts_with(&had), "{had} after {bytes} bytes");
                return Some(true);
            }
        }
    }
    None
}

fn execute(name: &str) -> Vec<u8> {
    [msg::bind("", name, &[]), msg::execute("", 0)].concat()
}

#[test]
fn while_a_statement_is_prepared_there_under_settings_of_then() {
    lose_everywhere(&Exchange {
        prepared: "SELECT '2020-01-01 00:00'::timestamptz",
        before: "SET TimeZone TO 'Asia/Tokyo'",
        requests: vec![execute("s"), msg::sync()],
        kinds: "2DCZ",
    });
}

#[test]
fn while_what_sql_executes_is_prepared_and_given_up() {
    lose_everywhere(&Exchange {
        prepared: "SELECT 1",
        before: "SELECT 2",
        requests: vec![msg::query("EXECUTE s"), msg::query("DEALLOCATE s; SELECT 3")],
        kinds: "TDCZCTDCZ",
    });
}

/// What howdah does for the client's EXECUTE is not the client's affair, but the end of its server is.
#[test]
fn while_what_sql_executes_waits_to_be_prepared() {
    let cluster = Cluster::start();
    cluster.sql_in("app", "CREATE TABLE locked (n int); GRANT ALL ON locked TO app");
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut client = Wire::app(howdah.target());
    client.batch(&[msg::parse("s", "SELECT n FROM locked")]);
    let end_server = |filter: &str| {
        for pid in cluster.backend_pids(filter) {
            cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
        }
    };
    end_server("usename = 'app'");
    wait_until("the server is gone", || cluster.backends("usename = 'app'") == 0);
    let mut owner = Wire::login(cluster.target(), "postgres", "app");
    owner.query("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE");
    client.send(&msg::query("EXECUTE s"));
    wait_until("it waits", || cluster.backends("wait_event_type = 'Lock'") == 1);
    end_server("wait_event_type = 'Lock'");
    assert_eq!(client.expect_fatal().code(), "57P01");
}
