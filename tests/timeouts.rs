//! How long things may take, and that a pool is as good as new after whatever took too long. What is done to every
//! server when it is new, idle or given back.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::howdah::Config;
use common::net::{eventually, wait_until};
use common::wire::PgError;
use common::{Cluster, Howdah, Wire, msg};

const PID: &str = "SELECT pg_backend_pid()";
const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(10);

/// A pool of one server.
fn one(cluster: &Cluster) -> Config {
    Howdah::before(cluster).set("default_pool_size", 1)
}

/// Within which a limit of one second ends a client that has just begun to offend.
#[track_caller]
fn ended_after_a_second(wire: &mut Wire) -> PgError {
    let start = Instant::now();
    let error = wire.expect_fatal();
    let after = start.elapsed();
    assert!(
        after > SECOND / 2 && after < SOON,
        "ended after {after:?}: {error:?}"
    );
    assert_eq!(error.severity(), "FATAL", "{error:?}");
    error
}

/// The one server is there as before, has no transaction open, and serves the next client.
#[track_caller]
fn as_good_as_new(cluster: &Cluster, howdah: &Howdah, server: &str) {
    wait_until("the server is idle", || cluster.backends("state = 'idle'") == 1);
    let mut next = Wire::app(howdah.target());
    assert_eq!(next.value(PID), server, "the server was worth keeping");
    assert_eq!(
        next.value("SELECT count(*) FROM touched"),
        "0",
        "what was done is rolled back"
    );
    assert_eq!(next.query("BEGIN").status, 'T');
    assert_eq!(next.query("COMMIT").status, 'I');
}

fn touch(wire: &mut Wire) -> String {
    let server = wire.value(PID);
    assert_eq!(wire.query("BEGIN").status, 'T');
    assert_eq!(wire.query("INSERT INTO touched VALUES (1)").tags, ["INSERT 0 1"]);
    server
}

fn with_table() -> Cluster {
    let cluster = Cluster::start();
    cluster.sql("CREATE TABLE touched (a int); GRANT ALL ON touched TO app");
    cluster
}

#[test]
fn query_timeout_ends_the_query_and_its_client() {
    let cluster = with_table();
    let howdah = one(&cluster).set("query_timeout", "1s").start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    let server = touch(&mut wire);
    thread::sleep(SECOND * 2);
    wire.send(&msg::query("SELECT pg_sleep(30)"));
    assert_eq!(ended_after_a_second(&mut wire).code(), "57014");
    as_good_as_new(&cluster, &howdah, &server);

    // The extended protocol, and a query that talks all the time.
    let mut wire = Wire::app(howdah.target());
    let endless = "SELECT i, pg_sleep(0.01) FROM generate_series(1, 100000) i";
    wire.send(&[msg::extended(endless, &[]), msg::sync()].concat());
    assert_eq!(ended_after_a_second(&mut wire).code(), "57014");
    as_good_as_new(&cluster, &howdah, &server);
}

#[test]
fn idle_transaction_timeout_ends_the_client_and_rolls_back() {
    let cluster = with_table();
    let howdah = one(&cluster).set("idle_transaction_timeout", "2s").start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    let server = touch(&mut wire);
    assert_eq!(wire.value("SELECT pg_sleep(3)"), "", "a query is not idleness");
    for _ in 0..6 {
        thread::sleep(SECOND / 2);
        wire.value("SELECT 1");
    }
    assert_eq!(ended_after_a_second(&mut wire).code(), "25P03");
    as_good_as_new(&cluster, &howdah, &server);

    let mut wire = Wire::app(howdah.target());
    wire.query("BEGIN");
    assert_eq!(wire.query("SELECT nonsense").status, 'E');
    assert_eq!(
        ended_after_a_second(&mut wire).code(),
        "25P03",
        "in a failed one, too"
    );
    as_good_as_new(&cluster, &howdah, &server);

    let mut wire = Wire::app(howdah.target());
    wire.send(&[msg::extended("SELECT 1", &[]), msg::flush()].concat());
    wire.expect("12TDC");
    assert_eq!(
        ended_after_a_second(&mut wire).code(),
        "25P03",
        "in one that only the protocol has begun, too"
    );
    as_good_as_new(&cluster, &howdah, &server);
}

#[test]
fn transaction_timeout_ends_the_client_whatever_it_does() {
    let cluster = with_table();
    let howdah = one(&cluster).set("transaction_timeout", "3s").start();
    if !howdah.is_howdah() {
        return;
    }
    for last in ["", "SELECT pg_sleep(30)"] {
        let mut wire = Wire::app(howdah.target());
        let server = touch(&mut wire);
        thread::sleep(SECOND / 2);
        assert_eq!(wire.value("SELECT count(*) FROM touched"), "1");
        if !last.is_empty() {
            wire.send(&msg::query(last));
        }
        assert_eq!(ended_after_a_second(&mut wire).code(), "25P04");
        as_good_as_new(&cluster, &howdah, &server);
    }
    let mut wire = Wire::app(howdah.target());
    for _ in 0..5 {
        thread::sleep(SECOND * 3 / 4);
        assert_eq!(
            wire.query("BEGIN; SELECT 1; COMMIT").status,
            'I',
            "many short ones are none too long"
        );
    }
}

#[test]
fn in_session_mode_a_transaction_is_not_as_old_as_its_session() {
    let cluster = with_table();
    let howdah = one(&cluster)
        .set("pool_mode", "session")
        .set("transaction_timeout", "2s")
        .set("query_timeout", "2s")
        .set("idle_transaction_timeout", "2s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    wire.value("SELECT 1");
    for _ in 0..2 {
        thread::sleep(SECOND * 3);
        assert_eq!(wire.query("BEGIN").status, 'T');
        assert_eq!(wire.value("SELECT 1"), "1");
        assert_eq!(wire.query("COMMIT").status, 'I');
        assert_eq!(wire.value("SELECT 'still here'"), "still here");
    }
    let server = touch(&mut wire);
    let code = ended_after_a_second(&mut wire);
    assert!(["25P03", "25P04"].contains(&code.code()), "{code:?}");
    as_good_as_new(&cluster, &howdah, &server);
}

#[test]
fn client_idle_timeout_is_for_those_who_do_nothing() {
    let cluster = with_table();
    for mode in ["transaction", "session"] {
        let howdah = one(&cluster)
            .set("pool_mode", mode)
            .set("client_idle_timeout", "1s")
            .start();
        if !howdah.is_howdah() {
            return;
        }
        let mut wire = Wire::app(howdah.target());
        assert_eq!(wire.value("SELECT pg_sleep(2)"), "");
        let server = touch(&mut wire);
        thread::sleep(SECOND * 2);
        assert_eq!(wire.query("ROLLBACK").status, 'I', "not idle in a transaction");
        assert_eq!(ended_after_a_second(&mut wire).code(), "57P05");
        as_good_as_new(&cluster, &howdah, &server);
        drop(howdah);
        wait_until("its server is gone", || cluster.backends("true") == 0);
    }
}

#[test]
fn client_login_timeout_is_for_those_who_do_not_log_in() {
    let cluster = Cluster::start();
    let howdah = one(&cluster)
        .set("auth_type", "password")
        .set("client_login_timeout", "1s")
        .user("app", "secret")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut silent = Wire::connect(howdah.target()).expect("it listens");
    ended_after_a_second(&mut silent);
    let mut shy = Wire::connect(howdah.target()).expect("it listens");
    shy.send(&msg::startup(&[("user", "app"), ("database", "app")]));
    let start = Instant::now();
    let error = shy.expect_fatal();
    assert!(start.elapsed() < SOON);
    assert_eq!(error.code(), "57014", "{error:?}");
    let params = [("user", "app"), ("database", "app")];
    let mut swift = Wire::login_with(howdah.target(), &params, Some("secret")).expect("a swift login");
    thread::sleep(SECOND * 2);
    assert_eq!(
        swift.value("SELECT 'the limit was for the login'"),
        "the limit was for the login"
    );
}

#[test]
fn limits_on_time_are_the_users_or_the_databases_or_the_default() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .database("app", &cluster.location("app"))
        .database(
            "other",
            &format!("{} query_timeout=1s", cluster.location("other")),
        )
        .user_set("trust_u", "query_timeout", "0")
        .user_set("postgres", "idle_transaction_timeout", "1s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let ask = |user: &str, database: &str| {
        let mut wire = Wire::login(howdah.target(), user, database);
        wire.send(&msg::query("SELECT pg_sleep(3)"));
        wire
    };
    let mut lasting = [ask("app", "app"), ask("trust_u", "other"), ask("postgres", "app")];
    assert_eq!(ended_after_a_second(&mut ask("app", "other")).code(), "57014");
    for wire in &mut lasting {
        assert_eq!(wire.answer().code(), "");
    }
    let mut wire = Wire::login(howdah.target(), "postgres", "app");
    wire.query("BEGIN");
    assert_eq!(ended_after_a_second(&mut wire).code(), "25P03");
}

#[test]
fn a_lifetime_of_zero_means_used_once() {
    let cluster = Cluster::start();
    let howdah = one(&cluster).set("server_lifetime", 0).start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    let mut pids: Vec<String> = (0..5).map(|_| wire.value(PID)).collect();
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), 5);
    wait_until("none is kept", || cluster.backends("true") == 0);
    wire.query("BEGIN");
    let within = [wire.value(PID), wire.value(PID)];
    assert_eq!(within[0], within[1], "a transaction has one server");
    wire.query("COMMIT");
}

#[test]
fn zero_is_without_limit_for_every_time() {
    let cluster = Cluster::start();
    let mut config = one(&cluster);
    for name in [
        "query_wait_timeout",
        "query_wait_notify",
        "server_idle_timeout",
        "server_connect_timeout",
        "server_check_delay",
        "client_login_timeout",
        "cancel_wait_timeout",
        "query_timeout",
        "idle_transaction_timeout",
        "transaction_timeout",
        "client_idle_timeout",
        "tcp_keepidle",
        "tcp_keepintvl",
        "tcp_keepcnt",
        "dns_max_ttl",
        "max_parallel_connects",
    ] {
        config = config.set(name, 0);
    }
    let howdah = config.start();
    if !howdah.is_howdah() {
        return;
    }
    let mut holder = Wire::app(howdah.target());
    let server = holder.value(PID);
    holder.query("BEGIN");
    let mut waiting = Wire::app(howdah.target());
    waiting.send(&msg::query(PID));
    waiting.expect_silence(SECOND);
    holder.query("COMMIT");
    assert_eq!(
        waiting.answer().value(),
        server,
        "each is tried before use, and passes"
    );
    holder.send(&msg::query("SELECT pg_sleep(30)"));
    wait_until("the query runs", || cluster.backends("state = 'active'") == 1);
    common::wire::cancel(howdah.target(), &holder.key.clone().expect("a key"));
    assert_eq!(holder.answer().code(), "57014", "cancel requests are delivered");
}

#[test]
fn a_server_that_fails_its_check_is_replaced_unnoticed() {
    let cluster = with_table();
    cluster.sql(
        "CREATE FUNCTION well() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $$
         BEGIN IF EXISTS (SELECT FROM touched) THEN RAISE 'sick'; END IF; RETURN 1; END $$",
    );
    let howdah = one(&cluster)
        .set("server_check_query", "SELECT public.well()")
        .set("server_check_delay", 0)
        .database("app", &cluster.location("app"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    let server = wire.value(PID);
    assert_eq!(wire.value(PID), server);
    cluster.sql("INSERT INTO touched VALUES (1)");
    let another = wire.value(PID);
    assert_ne!(another, server);
    cluster.sql("TRUNCATE touched");
    let third = wire.value(PID);
    assert_eq!(wire.value(PID), third);
}

#[test]
fn an_idle_server_that_died_unseen_is_found_by_its_check() {
    let cluster = Cluster::start();
    let howdah = one(&cluster).set("server_check_delay", 0).start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    for _ in 0..10 {
        let server = wire.value(PID);
        // What howdah asks behind an answer, where it does not know the functions, is over then.
        wire.query("SELECT 1");
        cluster.sql(&format!("SELECT pg_terminate_backend({server})"));
        assert_eq!(wire.query("SELECT 'unharmed'").value(), "unharmed");
    }
}

#[test]
fn connect_query_runs_on_every_new_server_and_its_failure_is_the_servers() {
    let cluster = Cluster::start();
    let location = format!(
        "{} connect_query='SET statement_timeout = 12345'",
        cluster.location("app")
    );
    let mut howdah = Howdah::before(&cluster)
        .database("app", &location)
        .database("other", &cluster.location("other"))
        .set("query_wait_timeout", "5s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    for _ in 0..3 {
        assert_eq!(wire.value("SHOW statement_timeout"), "12345ms");
        let pid = wire.value(PID);
        wire.query("SELECT 1");
        cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
        wait_until("the server is gone", || cluster.backends("true") == 0);
    }
    assert_eq!(
        Wire::login(howdah.target(), "app", "other").value("SHOW statement_timeout"),
        "0"
    );
    let bad = format!("{} connect_query='SELECT nonsense'", cluster.location("app"));
    howdah.reload(|config| config.database("app", &bad));
    howdah.wait_log("reloaded");
    let start = Instant::now();
    wire.send(&msg::query("SELECT 1"));
    let error = wire.expect_fatal();
    assert_eq!(error.code(), "42703", "what PostgreSQL said of it: {error:?}");
    assert!(start.elapsed() < SOON);
    assert_eq!(cluster.backends("datname = 'app'"), 0, "no such server is kept");
    howdah.reload(|config| config.database("app", &location));
    let params = [("user", "app"), ("database", "app")];
    let mut wire = eventually("served again", SOON, || {
        Wire::login_with(howdah.target(), &params, None).ok()
    });
    assert_eq!(wire.value("SHOW statement_timeout"), "12345ms");
}

#[test]
fn a_session_leaves_nothing_to_the_next() {
    let cluster = Cluster::start();
    let howdah = one(&cluster).set("pool_mode", "session").start();
    if !howdah.is_howdah() {
        return;
    }
    let mut server = String::new();
    for vanishes in [false, true, false] {
        let mut wire = Wire::app(howdah.target());
        assert_eq!(wire.value("SHOW search_path"), "\"$user\", public");
        assert_eq!(wire.value("SHOW TimeZone"), "UTC");
        assert_eq!(wire.value("SELECT count(*) FROM pg_prepared_statements"), "0");
        assert_eq!(
            wire.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
            "0"
        );
        assert_eq!(
            wire.query("CREATE TEMP TABLE mine (a int)").tags,
            ["CREATE TABLE"]
        );
        assert_eq!(
            wire.query("SET search_path = pg_catalog; SET TimeZone = 'Asia/Tokyo'")
                .code(),
            ""
        );
        assert_eq!(wire.query("PREPARE mine AS SELECT 1").tags, ["PREPARE"]);
        assert_eq!(wire.batch(&[msg::parse("mine too", "SELECT 1")]), "1Z");
        wire.value("SELECT pg_advisory_lock(42)");
        let same = wire.value(PID);
        assert!(server.is_empty() || same == server, "the server is kept");
        server = same;
        if vanishes {
            wire.query("BEGIN");
            wire.vanish();
        } else {
            wire.terminate();
        }
        wait_until("the server is idle", || cluster.backends("state = 'idle'") == 1);
    }
}

#[test]
fn the_reset_query_may_run_after_every_use() {
    let cluster = Cluster::start();
    cluster.sql("CREATE TABLE resets (a int); GRANT ALL ON resets TO app");
    let howdah = one(&cluster)
        .set("server_reset_query", "INSERT INTO public.resets VALUES (1)")
        .set("server_reset_query_always", true)
        .database("app", &cluster.location("app"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    for _ in 0..3 {
        wire.value("SELECT 1");
    }
    wire.query("BEGIN");
    wire.query("COMMIT");
    assert_eq!(wire.batch(&[msg::parse("s", "SELECT 'prepared'")]), "1Z");
    assert_eq!(wire.extended(&[msg::run("s", &[])]).value(), "prepared");
    wait_until("the last one is done", || {
        cluster.backends("state = 'idle' AND query LIKE 'INSERT%'") == 1
    });
    let resets: usize = cluster
        .value("SELECT count(*) FROM resets")
        .parse()
        .expect("a count");
    assert!((5..=6).contains(&resets), "{resets} resets");
}

#[test]
fn discarding_all_after_every_use_is_not_noticed() {
    let cluster = Cluster::start();
    let howdah = one(&cluster).set("server_reset_query_always", true).start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    let mut other = Wire::app(howdah.target());
    assert_eq!(
        wire.batch(&[msg::parse("s", "SELECT current_setting('TimeZone')")]),
        "1Z"
    );
    wire.query("SET TimeZone = 'Asia/Tokyo'");
    wire.query("SET search_path = pg_catalog");
    for _ in 0..3 {
        assert_eq!(wire.extended(&[msg::run("s", &[])]).value(), "Asia/Tokyo");
        assert_eq!(other.value("SHOW TimeZone"), "UTC");
        assert_eq!(other.value("SHOW search_path"), "\"$user\", public");
    }
}
