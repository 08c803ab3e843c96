//! The tests' own tools work: else a failure elsewhere says nothing.

mod common;

use common::alike::Noise;
use common::bank::{self, Trade};
use common::cluster::password_of;
use common::{Cluster, Wire, msg, run};

#[test]
fn every_login_method_of_the_cluster_works_and_refuses() {
    let cluster = Cluster::start();
    for user in ["password_u", "md5_u", "scram_u"] {
        let params = [("user", user), ("database", "app")];
        let mut wire = Wire::login_with(cluster.target(), &params, Some(&password_of(user))).expect(user);
        assert_eq!(wire.value("SELECT current_user"), user);
        let refused = Wire::login_with(cluster.target(), &params, Some("wrong"))
            .err()
            .expect("a refusal");
        assert_eq!(refused.code(), "28P01", "{refused}");
    }
    assert_eq!(
        Wire::login(cluster.target(), "trust_u", "app").value("SELECT 1"),
        "1"
    );
}

#[test]
fn a_cluster_can_be_crashed_frozen_and_started_again() {
    let mut cluster = Cluster::start();
    let before = Wire::app(cluster.target());
    cluster.stop(rustix::process::Signal::KILL);
    drop(before);
    cluster.launch();
    assert_eq!(cluster.value("SELECT 1"), "1");
    cluster.pause();
    cluster.resume();
    assert_eq!(cluster.backends("true"), 0);
}

#[test]
fn psql_and_pgbench_find_the_cluster() {
    let cluster = Cluster::start();
    let out = run::psql(cluster.target(), "app", "app", "SELECT 6 * 7");
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "42");
    let mut pgbench = run::client("pgbench", cluster.target(), "app", "app");
    run::succeed(
        pgbench.args(["-i", "-q", "-s", "1"]),
        std::time::Duration::from_secs(60),
    );
}

#[test]
fn the_noise_is_quiet_where_there_is_no_pool() {
    let cluster = Cluster::start();
    let mut noise = Noise::new(cluster.target(), 2);
    for _ in 0..4 {
        noise.turn();
    }
}

#[test]
fn postgresql_18_speaks_protocol_3_2() {
    let cluster = Cluster::version(18);
    let mut wire = Wire::connect(cluster.target()).expect("it listens");
    wire.send(&msg::startup_version(
        msg::PROTOCOL_3_2,
        &[("user", "app"), ("database", "app")],
    ));
    wire.until_ready();
    assert_eq!(wire.key.expect("a key").1.len(), 32);
}

#[test]
fn the_bank_notices_what_is_lost_doubled_made_up_or_unbalanced() {
    let cluster = bank::cluster().start();
    bank::open(&cluster);
    let ledger = Trade::start(cluster.target()).finish();
    assert_eq!(ledger.faults(&cluster), [""; 0]);
    let tampering = [
        "DELETE FROM tokens WHERE ctid IN (SELECT ctid FROM tokens WHERE run > 0 LIMIT 1)",
        "INSERT INTO tokens SELECT * FROM tokens WHERE run = 0 LIMIT 1",
        "INSERT INTO tokens VALUES (0, 0, 1000000)",
        "UPDATE accounts SET balance = balance + 1 WHERE id = 1",
    ];
    for (before, sql) in tampering.iter().enumerate() {
        cluster.sql(sql);
        let faults = ledger.faults(&cluster);
        assert_eq!(faults.len(), before + 1, "{sql}: {faults:#?}");
    }
}
