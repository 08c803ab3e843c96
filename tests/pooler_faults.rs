//! Faults that other poolers have had without an advisory about them, where no other test is about the same. Which test
//! stands for which fault is in docs/faults.md.

mod common;

use common::net::{eventually, wait_until};
use common::{Cluster, Howdah, Wire, msg};

/// Protocol 3.1, which never was.
const PROTOCOL_3_1: u32 = 3 << 16 | 1;

#[test]
fn settings_that_a_server_has_already_are_not_sent_again() {
    // A value that is not written as PostgreSQL spells it was sent anew for every transaction.
    let cluster = Cluster::start();
    cluster.sql("ALTER ROLE app SET log_statement = 'all'");
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let params = [("user", "app"), ("database", "app"), ("datestyle", "iso")];
    let mut wire = Wire::login_with(howdah.target(), &params, None).expect("a login");
    let mut other = Wire::login_with(howdah.target(), &params, None).expect("a login");
    for client in [&mut wire, &mut other] {
        assert_eq!(client.query("SET IntervalStyle = Postgres").code(), "");
    }
    assert_eq!(wire.query("SET work_mem = '2048'").code(), "");
    assert_eq!(wire.value("SELECT 'from here on'"), "from here on");
    for _ in 0..10 {
        assert_eq!(wire.value("SHOW DateStyle"), "ISO, MDY");
    }
    for _ in 0..3 {
        assert_eq!(other.value("SELECT 'with less memory'"), "with less memory");
        assert_eq!(wire.value("SELECT 'with more memory'"), "with more memory");
    }
    let log = cluster.log();
    let (_, behind) = log.rsplit_once("SELECT 'from here on'").expect("it is logged");
    let (same, differing) = behind
        .split_once("SELECT 'with less memory'")
        .expect("it is logged");
    // The last of them is what the other client differs in.
    assert_eq!(same.matches("statement: ").count(), 12, "{same}");
    assert!(differing.contains("work_mem"), "{differing}");
    for setting in ["DateStyle", "IntervalStyle"] {
        assert!(!behind.contains(&format!("set_config(E'{setting}'")), "{behind}");
    }
}

/// asyncpg asks for its encoding, and its pool runs RESET ALL whenever a connection comes back.
#[test]
fn what_reset_leaves_as_the_client_asked_for_it_is_not_sent_again() {
    let cluster = Cluster::start();
    cluster.sql("ALTER ROLE app SET log_statement = 'all'");
    let howdah = Howdah::with_pool(&cluster, 1);
    let params = [
        ("user", "app"),
        ("database", "app"),
        ("client_encoding", "'utf-8'"),
        ("extra_float_digits", "1"),
    ];
    let mut wire = Wire::login_with(howdah.target(), &params[..3], None).expect("a login");
    // What functions do is found out the first time.
    assert_eq!(wire.query("RESET ALL").code(), "");
    assert_eq!(wire.value("SELECT 'from here on'"), "from here on");
    for _ in 0..3 {
        assert_eq!(wire.query("RESET ALL").code(), "");
        assert_eq!(wire.query("SET client_encoding = 'LATIN1'").code(), "");
        assert_eq!(wire.query("RESET ALL").code(), "");
        assert_eq!(wire.value("SHOW client_encoding"), "UTF8");
    }
    let log = cluster.log();
    let (_, behind) = log.rsplit_once("SELECT 'from here on'").expect("it is logged");
    if howdah.is_howdah() {
        assert_eq!(behind.matches("statement: ").count(), 12, "{behind}");
    }
    // The encoding may stay as it is, and what else there is is put back nevertheless.
    let mut more = Wire::login_with(howdah.target(), &params, None).expect("a login");
    assert_eq!(more.query("RESET ALL").code(), "");
    assert_eq!(more.value("SHOW extra_float_digits"), "1");
    let mut other = Wire::login_with(howdah.target(), &params[..2], None).expect("a login");
    assert_eq!(other.query("SET client_encoding = 'LATIN1'").code(), "");
    assert_eq!(wire.query("RESET ALL").code(), "");
    assert_eq!(wire.value("SHOW client_encoding"), "UTF8");
}

#[test]
fn a_flush_is_no_end_of_a_unit() {
    // A server that was given back there took the portal with it.
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut reads = Wire::app(howdah.target());
    let mut waits = Wire::app(howdah.target());
    let begin = [
        msg::parse("", "SELECT n FROM generate_series(1, 3) n"),
        msg::bind("p", "", &[]),
        msg::execute("p", 1),
        msg::flush(),
    ];
    reads.send(&begin.concat());
    reads.expect("12Ds");
    waits.send(&msg::query("SELECT 'at last'"));
    if howdah.is_howdah() {
        waits.expect_silence(std::time::Duration::from_millis(300));
    }
    reads.send(&[msg::execute("p", 1), msg::flush()].concat());
    reads.expect("Ds");
    reads.send(&[msg::execute("p", 0), msg::sync()].concat());
    reads.expect("DCZ");
    assert_eq!(waits.answer().value(), "at last");
}

#[test]
fn protocol_3_1_is_never_claimed() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::connect(howdah.target()).expect("a connection");
    let params = [("user", "app"), ("database", "app")];
    wire.send(&msg::startup_version(PROTOCOL_3_1, &params));
    let frames = wire.until_ready();
    for frame in frames.iter().filter(|frame| frame.kind == b'v') {
        assert_eq!(frame.body[..4], msg::PROTOCOL_3_0.to_be_bytes());
    }
    assert_eq!(wire.key.as_ref().map(|key| key.1.len()), Some(4), "as 3.0 has it");
    assert_eq!(wire.value("SELECT 'in'"), "in");
}

#[test]
fn passwords_may_be_long_and_messages_not_endless() {
    let long = "x".repeat(5000);
    let almost = format!("{}y", &long[1..]);
    let cluster = Cluster::start();
    for method in ["password", "md5", "scram-sha-256"] {
        let howdah = Howdah::before(&cluster)
            .set("auth_type", method)
            .user("app", &long)
            .start();
        if !howdah.is_howdah() {
            return;
        }
        let target = howdah.target();
        let params = [("user", "app"), ("database", "app")];
        let mut wire = Wire::login_with(target, &params, Some(&long)).expect("the right one");
        assert_eq!(wire.value("SELECT 1"), "1");
        let refused = Wire::login_with(target, &params, Some(&almost)).err();
        assert_eq!(refused.expect("a wrong one").code(), "28P01", "{method}");
        // PostgreSQL reads no longer ones either: 65,535 bytes with the length.
        let mut wire = Wire::connect(target).expect("a connection");
        wire.send(&msg::startup(&params));
        wire.expect("R");
        wire.send(&[&[b'p'][..], &65_536_u32.to_be_bytes()].concat());
        assert_eq!(
            wire.expect_fatal().code(),
            "08P01",
            "before it has come, {method}"
        );
    }
}

#[test]
fn places_are_free_again_however_their_clients_end() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .user_set("app", "max_user_client_connections", 2)
        .set("default_pool_size", 2)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let login = |more: &[(&str, &str)]| {
        let params = [&[("user", "app"), ("database", "app")], more].concat();
        Wire::login_with(target, &params, None)
    };
    for manner in 0..7 {
        let mut wire = eventually("there is a place", common::net::PATIENCE, || login(&[]).ok());
        match manner {
            0 => wire.terminate(),
            1 => wire.vanish(),
            2 => {
                wire.query("BEGIN");
                wire.vanish();
            }
            3 => {
                wire.send(&msg::query("SELECT pg_sleep(30)"));
                wait_until("it runs", || {
                    cluster.backends("query LIKE '%pg_sleep(30)%' AND state = 'active'") > 0
                });
                wire.vanish();
            }
            4 => {
                wire.send(b"nonsense");
                wire.expect_closed();
            }
            5 => {
                wire.query("BEGIN");
                cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
                wire.expect_closed();
            }
            _ => {
                // Let in as far as the limits go, and refused by the server then.
                eventually("the server has refused it", common::net::PATIENCE, || {
                    let refused = login(&[("options", "-c no_such_setting=1")]);
                    let error = refused.err().expect("no such thing");
                    (error.code() == "42704").then_some(())
                });
                wire.terminate();
            }
        }
    }
    let both = eventually("both places are free", common::net::PATIENCE, || {
        Some([login(&[]).ok()?, login(&[]).ok()?])
    });
    assert_eq!(login(&[]).err().expect("a third one").code(), "53300");
    drop(both);
}

#[test]
fn a_path_that_pg_dump_has_set_is_its_own() {
    // It empties search_path for its session; whoever got that server next found no table.
    let cluster = Cluster::start();
    cluster.sql("CREATE TABLE public.found (n int); GRANT SELECT ON found TO app");
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut dumps = Wire::app(howdah.target());
    let mut next = Wire::app(howdah.target());
    for round in 0..3 {
        assert_eq!(
            dumps.value("SELECT pg_catalog.set_config('search_path', '', false)"),
            ""
        );
        assert_eq!(next.value("SELECT count(*) FROM found"), "0", "{round}");
        assert_eq!(next.value("SHOW search_path"), "\"$user\", public", "{round}");
        assert_eq!(
            dumps.query("SELECT count(*) FROM found").code(),
            "42P01",
            "{round}"
        );
    }
    dumps.terminate();
    let mut late = Wire::app(howdah.target());
    assert_eq!(late.value("SELECT count(*) FROM found"), "0");
}

#[test]
fn sql_and_protocol_share_one_space_of_names_in_session_mode_too() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("pool_mode", "session").start();
    let mut wire = Wire::app(howdah.target());
    assert_eq!(wire.batch(&[msg::parse("of_protocol", "SELECT 7")]), "1Z");
    assert_eq!(wire.value("EXECUTE of_protocol"), "7");
    assert_eq!(
        wire.extended(&[msg::extended("EXECUTE of_protocol", &[])])
            .value(),
        "7"
    );
    assert_eq!(wire.query("PREPARE of_protocol AS SELECT 8").code(), "42P05");
    assert_eq!(wire.query("PREPARE of_sql AS SELECT 9").code(), "");
    assert_eq!(wire.extended(&[msg::run("of_sql", &[])]).value(), "9");
    assert_eq!(wire.batch(&[msg::parse("of_sql", "SELECT 10")]), "EZ");
    assert_eq!(wire.query("DEALLOCATE of_sql").code(), "");
    assert_eq!(wire.batch(&[msg::parse("of_sql", "SELECT 10")]), "1Z");
    assert_eq!(wire.value("EXECUTE of_sql"), "10");
}
