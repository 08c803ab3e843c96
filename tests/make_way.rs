//! PostgreSQL drops, renames and copies a database only while nobody is connected to it. Idle servers of pools make way.

mod common;

use common::{Cluster, Howdah, Wire, msg};

const IN_OTHER: &str = "datname = 'other'";

/// Pools of `other` have idle servers, kept warm if `min` says so; the client is connected to `app`.
fn with_idle_servers(min: i64) -> Option<(Cluster, Howdah, Wire)> {
    let cluster = Cluster::start();
    cluster.sql("ALTER ROLE app CREATEDB");
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 3)
        .set("min_pool_size", min)
        .start();
    if !howdah.is_howdah() {
        return None;
    }
    for user in ["app", "postgres"] {
        let mut wires = [(); 2].map(|()| Wire::login(howdah.target(), user, "other"));
        for wire in &mut wires {
            wire.query("BEGIN; SELECT 1");
        }
        for wire in &mut wires {
            wire.query("COMMIT");
        }
    }
    assert_eq!(cluster.backends(IN_OTHER), 4);
    let wire = Wire::app(howdah.target());
    Some((cluster, howdah, wire))
}

#[track_caller]
fn done(wire: &mut Wire, sql: &str) {
    let answer = wire.query(sql);
    assert!(answer.error.is_none(), "{sql}: {:?}", answer.error);
}

#[test]
fn a_database_is_dropped_while_pools_have_idle_servers_there() {
    for min in [0, 1] {
        let Some((cluster, _howdah, mut wire)) = with_idle_servers(min) else {
            return;
        };
        done(&mut wire, "DROP DATABASE other");
        assert_eq!(
            cluster.value("SELECT count(*) FROM pg_database WHERE datname = 'other'"),
            "0"
        );
        assert_eq!(wire.value("SELECT 1"), "1");
    }
}

#[test]
fn a_database_is_renamed_and_the_pool_goes_on_under_the_old_name_once_it_is_back() {
    let Some((_cluster, howdah, mut wire)) = with_idle_servers(1) else {
        return;
    };
    done(&mut wire, "ALTER DATABASE other RENAME TO another");
    done(&mut wire, "ALTER DATABASE another RENAME TO other");
    let mut client = Wire::login(howdah.target(), "app", "other");
    assert_eq!(client.value("SELECT current_database()"), "other");
}

#[test]
fn a_database_is_copied_in_the_extended_protocol_too() {
    let Some((cluster, howdah, mut wire)) = with_idle_servers(1) else {
        return;
    };
    let copy = "CREATE DATABASE copy TEMPLATE other";
    assert_eq!(wire.batch(&[msg::extended(copy, &[])]), "12nCZ");
    // A prepared one runs again and again.
    let again = msg::parse("again", "CREATE DATABASE copy2 TEMPLATE other");
    assert_eq!(wire.batch(&[again]), "1Z");
    Wire::login(howdah.target(), "app", "other").value("SELECT 1");
    assert!(cluster.backends(IN_OTHER) > 0);
    assert_eq!(wire.batch(&[msg::run("again", &[])]), "2nCZ");
}

#[test]
fn without_a_template_it_is_template1_that_has_to_be_free() {
    let Some((cluster, howdah, mut wire)) = with_idle_servers(1) else {
        return;
    };
    Wire::login(howdah.target(), "app", "template1").value("SELECT 1");
    assert_eq!(cluster.backends("datname = 'template1'"), 1);
    done(&mut wire, "CREATE DATABASE fresh");
    assert_eq!(cluster.backends(IN_OTHER), 4, "others keep their servers");
}

#[test]
fn who_may_not_drop_a_database_does_not_close_its_servers() {
    let Some((cluster, howdah, _wire)) = with_idle_servers(0) else {
        return;
    };
    let before = cluster.backend_pids(IN_OTHER);
    let mut stranger = Wire::login(howdah.target(), "trust_u", "app");
    for _ in 0..3 {
        assert_eq!(stranger.query("DROP DATABASE other").code(), "42501");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let slowly = "SELECT pg_sleep(0.3)";
    // Behind something that keeps the client busy, or in front of it; or not at all.
    let among = stranger.query(&format!("{slowly}; DROP DATABASE other"));
    assert_eq!(among.code(), "25001");
    stranger.send(&[msg::query("DROP DATABASE other"), msg::query(slowly)].concat());
    assert_eq!(stranger.answer().code(), "42501");
    assert!(stranger.answer().error.is_none());
    let drop = msg::parse("drop", "DROP DATABASE other");
    let bound = stranger.batch(&[drop, msg::bind("p", "drop", &[]), msg::extended(slowly, &[])]);
    assert_eq!(bound, "1212nDCZ".replace('n', "T"));
    let behind = stranger.batch(&[msg::extended(slowly, &[]), msg::run("drop", &[])]);
    assert!(behind.ends_with("EZ"), "{behind}");
    let denied = [msg::run("drop", &[]), msg::extended(slowly, &[])];
    assert_eq!(stranger.extended(&denied).code(), "42501");
    assert_eq!(cluster.backend_pids(IN_OTHER), before);
}

#[test]
fn a_database_that_somebody_uses_is_not_dropped() {
    let Some((_cluster, howdah, mut wire)) = with_idle_servers(0) else {
        return;
    };
    let mut user = Wire::login(howdah.target(), "app", "other");
    user.query("BEGIN");
    let pid = user.value("SELECT pg_backend_pid()");
    assert_eq!(wire.query("DROP DATABASE other").code(), "55006");
    assert_eq!(user.value("SELECT pg_backend_pid()"), pid);
    assert_eq!(user.query("COMMIT").status, 'I');
}
