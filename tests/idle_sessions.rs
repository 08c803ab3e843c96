//! `idle_session_timeout` ends clients, as PostgreSQL would end their sessions, and never a server that is idle in its pool.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::wire::PgError;
use common::{Cluster, Howdah, Wire};

const PID: &str = "SELECT pg_backend_pid()";
const SHOW: &str = "SHOW idle_session_timeout";
const SECOND: Duration = Duration::from_secs(1);

fn one(cluster: &Cluster) -> Option<Howdah> {
    let howdah = Howdah::with_pool(cluster, 1);
    howdah.is_howdah().then_some(howdah)
}

/// A cluster whose role `app` has a limit of a second.
fn with_limit() -> Cluster {
    let cluster = Cluster::start();
    cluster.sql("ALTER ROLE app SET idle_session_timeout = '1s'");
    cluster
}

#[track_caller]
fn ended(wire: &mut Wire) -> PgError {
    let start = Instant::now();
    let error = wire.expect_fatal();
    let after = start.elapsed();
    assert!(
        after > SECOND / 2 && after < SECOND * 8,
        "after {after:?}: {error:?}"
    );
    assert_eq!(error.code(), "57P05", "{error:?}");
    assert_eq!(
        error.message(),
        "terminating connection due to idle-session timeout"
    );
    error
}

#[track_caller]
fn does(wire: &mut Wire, sql: &str) {
    let answer = wire.query(sql);
    assert!(answer.error.is_none(), "{sql}: {:?}", answer.error);
}

#[test]
fn the_limit_of_a_role_ends_clients_and_no_server() {
    let cluster = with_limit();
    let Some(howdah) = one(&cluster) else { return };
    let mut wire = Wire::app(howdah.target());
    let server = wire.value(PID);
    let error = ended(&mut wire);
    let mut direct = Wire::app(cluster.target());
    let said = ended(&mut direct);
    for field in ['S', 'C', 'M', 'D', 'H'] {
        assert_eq!(error.0.get(&field), said.0.get(&field));
    }
    // One that never asked for a server fares no better.
    ended(&mut Wire::app(howdah.target()));
    thread::sleep(SECOND * 2);
    assert_eq!(
        Wire::app(howdah.target()).value(PID),
        server,
        "the server is as it was"
    );
}

#[test]
fn a_client_s_own_limit_is_its_own() {
    let cluster = Cluster::start();
    let Some(howdah) = one(&cluster) else { return };
    let (mut quick, mut patient) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
    let server = patient.value(PID);
    does(&mut quick, "SET idle_session_timeout = '1s'");
    assert_eq!(patient.value(SHOW), "0");
    assert_eq!(quick.value(SHOW), "1s", "it sees what it has set");
    ended(&mut quick);
    thread::sleep(SECOND * 2);
    assert_eq!(patient.value(PID), server);
    assert_eq!(patient.value(SHOW), "0");
}

#[test]
fn a_limit_in_the_startup_message_is_enforced_and_reset_leads_back_to_it() {
    let cluster = Cluster::start();
    let Some(howdah) = one(&cluster) else { return };
    let params = [
        ("user", "app"),
        ("database", "app"),
        ("options", "-c idle_session_timeout=1000"),
    ];
    let login = || Wire::login_with(howdah.target(), &params, None).expect("it logs in");
    ended(&mut login());
    let mut wire = login();
    let server = wire.value(PID);
    assert_eq!(wire.value(SHOW), "1s");
    does(&mut wire, "SET idle_session_timeout = 0");
    thread::sleep(SECOND * 2);
    assert_eq!(wire.value(SHOW), "0");
    does(&mut wire, "RESET idle_session_timeout");
    assert_eq!(wire.value(SHOW), "1s");
    ended(&mut wire);
    thread::sleep(SECOND * 2);
    assert_eq!(Wire::app(howdah.target()).value(PID), server);
}

#[test]
fn a_client_may_do_without_the_limit_of_its_role() {
    let cluster = with_limit();
    let Some(howdah) = one(&cluster) else { return };
    let mut wire = Wire::app(howdah.target());
    let server = wire.value(PID);
    does(&mut wire, "SET idle_session_timeout TO 0");
    thread::sleep(SECOND * 2);
    assert_eq!(wire.value(PID), server);
    assert_eq!(wire.value(SHOW), "0");
    for back in ["RESET idle_session_timeout", "RESET ALL", "DISCARD ALL"] {
        let mut wire = Wire::app(howdah.target());
        does(&mut wire, "SET idle_session_timeout = '1h'");
        does(&mut wire, back);
        ended(&mut wire);
    }
    thread::sleep(SECOND * 2);
    assert_eq!(wire.value(PID), server, "no RESET has given it to the server");
}

#[test]
fn what_is_rolled_back_was_never_set() {
    for cluster in [Cluster::start(), with_limit()] {
        let Some(howdah) = one(&cluster) else { return };
        let mut wire = Wire::app(howdah.target());
        does(&mut wire, "SET idle_session_timeout = '1s'");
        does(&mut wire, "BEGIN; SET idle_session_timeout = 0; ROLLBACK");
        ended(&mut wire);
        let mut wire = Wire::app(howdah.target());
        does(&mut wire, "SET idle_session_timeout = '1s'");
        does(&mut wire, "BEGIN; SET LOCAL idle_session_timeout = '1h'; COMMIT");
        ended(&mut wire);
    }
    let cluster = with_limit();
    let Some(howdah) = one(&cluster) else { return };
    let mut wire = Wire::app(howdah.target());
    does(&mut wire, "BEGIN; SET idle_session_timeout = 0; ROLLBACK");
    ended(&mut wire);
}

#[test]
fn statements_that_may_do_anything_change_nothing_by_themselves() {
    let cluster = with_limit();
    let Some(howdah) = one(&cluster) else { return };
    let mut wire = Wire::app(howdah.target());
    let server = wire.value(PID);
    does(&mut wire, "DO $$ BEGIN PERFORM 1; END $$");
    ended(&mut wire);
    let mut wire = Wire::app(howdah.target());
    does(&mut wire, "DO $$ BEGIN SET idle_session_timeout = 0; END $$");
    thread::sleep(SECOND * 2);
    assert_eq!(wire.value(SHOW), "0");
    does(&mut wire, "DO $$ BEGIN RESET idle_session_timeout; END $$");
    ended(&mut wire);
    thread::sleep(SECOND * 2);
    assert_eq!(Wire::app(howdah.target()).value(PID), server);
}

#[test]
fn a_client_that_keeps_its_server_is_ended_too() {
    for cluster in [Cluster::start(), with_limit()] {
        let Some(howdah) = one(&cluster) else { return };
        let mut wire = Wire::app(howdah.target());
        does(&mut wire, "SET idle_session_timeout = '1s'");
        does(&mut wire, "SELECT pg_advisory_lock(1)");
        ended(&mut wire);
        let mut next = Wire::app(howdah.target());
        assert_eq!(next.value("SELECT pg_try_advisory_lock(1)"), "t");
    }
}

#[test]
fn in_session_mode_it_is_the_server_s_business_until_it_is_back() {
    let cluster = with_limit();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .set("pool_mode", "session")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    assert_eq!(wire.value(SHOW), "1s");
    ended(&mut wire);
    let mut wire = Wire::app(howdah.target());
    does(&mut wire, "SET idle_session_timeout = 0");
    let server = wire.value(PID);
    thread::sleep(SECOND * 2);
    assert_eq!(
        wire.value(PID),
        server,
        "the session has said that it wants no limit"
    );
    wire.terminate();
    thread::sleep(SECOND * 2);
    assert_eq!(
        Wire::app(howdah.target()).value(PID),
        server,
        "nor has the server in its pool"
    );
}
