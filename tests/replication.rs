//! Replication goes through, one to one.

mod common;

use std::time::Duration;

use common::net::wait_until;
use common::{Cluster, Howdah, Wire, msg, run};

fn setup() -> Option<(Cluster, Howdah)> {
    let cluster = Cluster::options().conf("wal_level = logical").start();
    let howdah = Howdah::with_pool(&cluster, 1);
    // PgBouncer 1.18 refuses such clients.
    (howdah.is_howdah() || howdah.pid().is_none()).then_some((cluster, howdah))
}

fn replicate(howdah: &Howdah, kind: &str) -> Wire {
    let params = [("user", "app"), ("database", "app"), ("replication", kind)];
    Wire::login_with(howdah.target(), &params, None)
        .unwrap_or_else(|error| panic!("replication={kind}: {error}"))
}

#[test]
fn a_replication_session_knows_its_commands() {
    let Some((cluster, howdah)) = setup() else { return };
    for kind in ["true", "database"] {
        let mut wire = replicate(&howdah, kind);
        assert_eq!(wire.query("IDENTIFY_SYSTEM").rows.len(), 1);
        assert_eq!(wire.query("SHOW wal_level").value(), "logical");
        let answer = wire.query("SELECT 1");
        assert_eq!(answer.error.is_none(), kind == "database", "{answer:?}");
        // Ordinary clients are served beside it.
        assert_eq!(Wire::app(howdah.target()).value("SELECT 2"), "2");
        wire.terminate();
    }
    wait_until("the walsenders are gone", || {
        cluster.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'") == "0"
    });
}

#[test]
fn a_stream_starts_and_ends_from_both_sides() {
    let Some((cluster, howdah)) = setup() else { return };
    cluster.sql("SELECT pg_create_logical_replication_slot('slot', 'test_decoding')");
    cluster.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let mut wire = replicate(&howdah, "database");
    wire.send(&msg::query("START_REPLICATION SLOT slot LOGICAL 0/0"));
    wire.expect("W");
    let mut seen = String::new();
    while !seen.contains("INSERT: a[integer]:1") {
        let frame = wire.read();
        assert_eq!(frame.kind, b'd');
        seen += &String::from_utf8_lossy(&frame.body);
    }
    // A standby status update, then the client's half of the end.
    let mut status = vec![b'r'];
    status.extend([0; 32]);
    status.push(0);
    wire.send(&msg::copy_data(&status));
    wire.send(&msg::copy_done());
    let frames = wire.until_ready();
    assert!(frames.iter().any(|frame| frame.kind == b'c'), "{frames:?}");
    assert_eq!(wire.query("IDENTIFY_SYSTEM").rows.len(), 1);
}

#[test]
fn pg_receivewal_and_pg_basebackup() {
    let Some((cluster, howdah)) = setup() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let backup = dir.path().join("backup");
    let mut basebackup = run::client("pg_basebackup", howdah.target(), "app", "app");
    basebackup.args(["-c", "fast", "-X", "stream", "-D"]).arg(&backup);
    run::succeed(&mut basebackup, Duration::from_secs(50));
    assert!(backup.join("PG_VERSION").exists());

    let wal = dir.path().join("wal");
    std::fs::create_dir(&wal).expect("a directory of ours");
    let end = cluster.value("SELECT pg_current_wal_lsn() + 3 * 1024 * 1024");
    let mut receivewal = run::client("pg_receivewal", howdah.target(), "app", "app");
    receivewal.args(["--no-loop", "--endpos", &end, "-D"]).arg(&wal);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| run::succeed(&mut receivewal, Duration::from_secs(30)));
        cluster.sql("CREATE TABLE t (a int)");
        while !receiver.is_finished() {
            cluster.sql("INSERT INTO t VALUES (1); SELECT pg_switch_wal()");
            std::thread::sleep(Duration::from_millis(50));
        }
        receiver.join().expect("pg_receivewal reached the end");
    });
    assert!(std::fs::read_dir(&wal).expect("a directory").count() > 0);
}

#[test]
fn a_stream_whose_client_vanishes_is_ended() {
    let Some((cluster, howdah)) = setup() else { return };
    let mut wire = replicate(&howdah, "true");
    let start = wire.query("IDENTIFY_SYSTEM").rows[0][2]
        .clone()
        .expect("a position");
    wire.send(&msg::query(&format!("START_REPLICATION PHYSICAL {start}")));
    wire.expect("W");
    let senders = || cluster.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'");
    assert_eq!(senders(), "1");
    wire.vanish();
    wait_until("the walsender is gone", || senders() == "0");
}
