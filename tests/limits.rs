//! How many servers and how many clients: every limit there is, and that it holds.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::net::{eventually, wait_until};
use common::wire::PgError;
use common::{Cluster, Howdah, Target, Wire, login, msg};

const PID: &str = "SELECT pg_backend_pid()";
/// So long a limit is watched for being passed.
const WATCH: Duration = Duration::from_millis(400);
const SOON: Duration = Duration::from_secs(10);

/// Clients that each want a server for themselves; those who get none wait.
fn greedy(target: Target, user: &str, database: &str, count: usize) -> Vec<Wire> {
    let one = |_| {
        let mut wire = Wire::login(target, user, database);
        wire.send(&msg::query("BEGIN"));
        wire
    };
    (0..count).map(one).collect()
}

/// Lets them finish, each as soon as it has its server.
fn finish(wires: Vec<Wire>) {
    thread::scope(|scope| {
        for mut wire in wires {
            scope.spawn(move || {
                assert_eq!(wire.answer().status, 'T');
                assert_eq!(wire.query("COMMIT").status, 'I');
            });
        }
    });
}

/// Exactly so many servers are there soon, and no more than that for a while.
#[track_caller]
fn exactly(cluster: &Cluster, filter: &str, count: usize) {
    let mut last = usize::MAX;
    let end = Instant::now() + SOON;
    while last != count && Instant::now() < end {
        last = cluster.backends(filter);
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(last, count, "servers where {filter}");
    let end = Instant::now() + WATCH;
    while Instant::now() < end {
        assert_eq!(cluster.backends(filter), count, "servers where {filter}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn try_login(target: Target, user: &str, database: &str) -> Result<Wire, login::LoginError> {
    Wire::login_with(target, &[("user", user), ("database", database)], None)
}

#[track_caller]
fn refused(target: Target, user: &str, database: &str) -> PgError {
    match try_login(target, user, database).err().expect("a refusal") {
        login::LoginError::Refused(error) => error,
        login::LoginError::Broken(why) => panic!("closed without a word: {why}"),
    }
}

#[track_caller]
fn admitted_in_the_end(target: Target, user: &str, database: &str) -> Wire {
    eventually("there is room again", SOON, || {
        try_login(target, user, database).ok()
    })
}

#[test]
fn pool_size_is_the_users_or_the_databases_or_the_default() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .database("app", &cluster.location("app"))
        .database("other", &format!("{} pool_size=2", cluster.location("other")))
        .user_set("trust_u", "pool_size", 3)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    for (user, database, size) in [
        ("app", "app", 1),
        ("app", "other", 2),
        ("trust_u", "app", 3),
        ("trust_u", "other", 3),
    ] {
        let wires = greedy(howdah.target(), user, database, size + 2);
        let filter = format!("usename = '{user}' AND datname = '{database}'");
        exactly(&cluster, &filter, size);
        finish(wires);
    }
}

#[test]
fn a_pool_size_of_zero_is_without_limit() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 0);
    if !howdah.is_howdah() {
        return;
    }
    let wires = greedy(howdah.target(), "app", "app", 30);
    exactly(&cluster, "true", 30);
    finish(wires);
}

#[test]
fn the_minimum_is_there_before_the_first_client_and_after_every_loss() {
    let cluster = Cluster::start();
    let forced = format!("{} user=trust_u min_pool_size=1", cluster.location("other"));
    let howdah = Howdah::before(&cluster)
        .database("app", &cluster.location("app"))
        .database("other", &forced)
        .user_set("app", "min_pool_size", 2)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let (of_user, of_forced) = ("datname = 'app' AND usename = 'app'", "datname = 'other'");
    exactly(&cluster, of_user, 2);
    exactly(&cluster, of_forced, 1);
    for pid in cluster.backend_pids("true") {
        cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
    }
    exactly(&cluster, of_user, 2);
    exactly(&cluster, of_forced, 1);
    assert_eq!(cluster.backends("usename = 'trust_u' AND datname = 'other'"), 1);
}

#[test]
fn the_reserve_is_for_those_who_wait_too_long() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .set("reserve_pool_size", 1)
        .set("reserve_pool_timeout", "1s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut holder = Wire::app(howdah.target());
    holder.query("BEGIN");
    let start = Instant::now();
    let mut second = Wire::app(howdah.target());
    second.query("BEGIN");
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(900), "served after {waited:?}");
    assert!(waited < SOON, "served after {waited:?}");
    let mut third = Wire::app(howdah.target());
    third.send(&msg::query("SELECT 'third'"));
    third.expect_silence(Duration::from_secs(2));
    assert_eq!(cluster.backends("true"), 2);
    second.query("COMMIT");
    assert_eq!(third.answer().value(), "third");
    holder.query("COMMIT");
    wait_until("the reserve is closed again", || cluster.backends("true") == 1);
}

#[test]
fn max_db_connections_holds_over_all_users_and_idle_servers_make_room() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 5)
        .set("max_db_connections", 2)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let (target, in_app) = (howdah.target(), "datname = 'app'");
    // The first login to a pool needs a server, to see what it says of itself.
    Wire::login(target, "trust_u", "app").terminate();
    let mut wires = greedy(target, "app", "app", 2);
    exactly(&cluster, in_app, 2);
    let mut stranger = Wire::login(target, "app", "other");
    assert_eq!(stranger.value("SELECT 'another database'"), "another database");
    wires.extend(greedy(target, "trust_u", "app", 2));
    exactly(&cluster, in_app, 2);
    finish(wires);
    // Whose servers are idle gives them up to the other, again and again.
    let mut clients: Vec<Wire> = ["app", "trust_u"]
        .map(|user| Wire::login(target, user, "app"))
        .into();
    for round in 0..10 {
        for wire in &mut clients {
            assert_eq!(wire.value(&format!("SELECT {round}")), round.to_string());
        }
        wait_until("no more than two are left", || cluster.backends(in_app) <= 2);
    }
}

#[test]
fn max_user_connections_holds_over_all_databases_and_idle_servers_make_room() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 5)
        .user_set("app", "max_user_connections", 1)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let mut here = Wire::login(target, "app", "app");
    let mut there = Wire::login(target, "app", "other");
    for _ in 0..5 {
        assert_eq!(here.value("SELECT current_database()"), "app");
        assert_eq!(there.value("SELECT current_database()"), "other");
    }
    here.query("BEGIN");
    there.send(&msg::query("SELECT 'at last'"));
    there.expect_silence(WATCH);
    assert_eq!(cluster.backends("usename = 'app'"), 1);
    let free = greedy(target, "trust_u", "app", 3);
    exactly(&cluster, "usename = 'trust_u'", 3);
    finish(free);
    here.query("COMMIT");
    assert_eq!(there.answer().value(), "at last");
}

#[test]
fn pools_that_outnumber_their_limit_all_get_their_turn() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("max_db_connections", 1)
        .set("query_wait_timeout", "30s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    thread::scope(|scope| {
        for user in ["app", "app", "trust_u", "trust_u", "postgres"] {
            scope.spawn(move || {
                let mut wire = Wire::login(target, user, "app");
                for _ in 0..10 {
                    assert_eq!(wire.value("SELECT current_user"), user);
                }
            });
        }
    });
    wait_until("one is left", || cluster.backends("datname = 'app'") <= 1);
}

#[test]
fn max_client_conn_is_for_all_together_and_can_be_raised_while_it_runs() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::before(&cluster).set("max_client_conn", 3).start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let mut inside = vec![
        Wire::login(target, "app", "app"),
        Wire::login(target, "app", "other"),
        Wire::login(target, "trust_u", "app"),
    ];
    for (user, database) in [("app", "app"), ("trust_u", "other")] {
        let error = refused(target, user, database);
        assert_eq!((error.code(), error.severity()), ("53300", "FATAL"), "{error:?}");
    }
    howdah.reload(|config| config.set("max_client_conn", 4));
    inside.push(admitted_in_the_end(target, "app", "app"));
    howdah.reload(|config| config.set("max_client_conn", 2));
    inside.pop();
    eventually("the smaller limit is in force", SOON, || {
        try_login(target, "app", "app").err()
    });
    for wire in &mut inside {
        assert_eq!(wire.value("SELECT 'still here'"), "still here");
    }
}

#[test]
fn clients_of_one_database_are_limited() {
    let cluster = Cluster::start();
    let limited = format!("{} max_db_client_connections=2", cluster.location("app"));
    let howdah = Howdah::before(&cluster)
        .database("app", &limited)
        .database("other", &cluster.location("other"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let one = Wire::login(target, "app", "app");
    let _two = Wire::login(target, "trust_u", "app");
    assert_eq!(refused(target, "app", "app").code(), "53300");
    let _elsewhere = Wire::login(target, "app", "other");
    one.vanish();
    admitted_in_the_end(target, "app", "app");
}

#[test]
fn clients_of_one_user_are_limited() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .user_set("app", "max_user_client_connections", 2)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let one = Wire::login(target, "app", "app");
    let _two = Wire::login(target, "app", "other");
    assert_eq!(refused(target, "app", "app").code(), "53300");
    let _another = Wire::login(target, "trust_u", "app");
    one.terminate();
    admitted_in_the_end(target, "app", "other");
}

#[test]
fn a_refusal_for_waiting_comes_at_once_and_harms_nobody() {
    let cluster = Cluster::start();
    let location = format!("{} pool_size=1 max_waiting=1", cluster.location("app"));
    let howdah = Howdah::before(&cluster).database("app", &location).start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let mut holder = Wire::app(target);
    holder.query("BEGIN");
    let mut queued = Wire::app(target);
    let mut late = Wire::app(target);
    queued.send(&msg::query("SELECT 'queued'"));
    queued.expect_silence(Duration::from_millis(500));
    let start = Instant::now();
    late.send(&msg::query("SELECT 'late'"));
    assert_eq!(late.expect_fatal().code(), "53300");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // The limit is on those who wait, not on those who are served.
    holder.query("COMMIT");
    assert_eq!(queued.answer().value(), "queued");
    assert_eq!(Wire::app(target).value("SELECT 'after'"), "after");
}

#[test]
fn who_waits_is_told_why_and_is_then_served_or_refused() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .set("query_wait_notify", "300ms")
        .set("query_wait_timeout", "3s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let mut holder = Wire::app(target);
    holder.query("BEGIN");
    let (mut patient, mut unlucky) = (Wire::app(target), Wire::app(target));
    patient.send(&msg::query("SELECT 'patience'"));
    let notice = patient.expect("N")[0].error();
    assert_eq!(notice.severity(), "NOTICE", "{notice:?}");
    assert!(notice.message().contains("wait"), "{notice:?}");
    holder.query("COMMIT");
    assert_eq!(patient.answer().value(), "patience");
    holder.query("BEGIN");
    unlucky.send(&msg::query("SELECT 1"));
    let start = Instant::now();
    unlucky.expect("N");
    assert_eq!(unlucky.expect_fatal().code(), "57014");
    let waited = start.elapsed();
    assert!(waited > Duration::from_secs(2) && waited < SOON, "{waited:?}");
    holder.query("COMMIT");
    assert_eq!(Wire::app(target).value("SELECT 'healthy'"), "healthy");
}

#[test]
fn servers_are_reused_last_in_first_out_or_in_turn() {
    let cluster = Cluster::start();
    for round_robin in [false, true] {
        let howdah = Howdah::before(&cluster)
            .set("default_pool_size", 3)
            .set("server_round_robin", round_robin)
            .start();
        if !howdah.is_howdah() {
            return;
        }
        let wires = greedy(howdah.target(), "app", "app", 3);
        exactly(&cluster, "true", 3);
        finish(wires);
        let mut wire = Wire::app(howdah.target());
        let mut pids: Vec<String> = (0..9).map(|_| wire.value(PID)).collect();
        pids.sort();
        pids.dedup();
        assert_eq!(pids.len(), if round_robin { 3 } else { 1 });
        drop(howdah);
        wait_until("its servers are gone", || cluster.backends("true") == 0);
    }
}

#[test]
fn growth_is_bounded_and_clients_take_what_comes_first() {
    let cluster = Cluster::start();
    let slowly = |parallel: i64| {
        Howdah::before(&cluster)
            .set("default_pool_size", 8)
            .set("max_parallel_connects", parallel)
            .set("connect_query", "SELECT pg_sleep(1)")
    };
    let connecting = "query = 'SELECT pg_sleep(1)' AND state = 'active'";
    let howdah = slowly(2).start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wires = greedy(howdah.target(), "app", "app", 6);
    let mut most = 0;
    while cluster.backends("true") < 6 {
        most = most.max(cluster.backends(connecting));
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(most, 2, "connects at once");
    for wire in &mut wires {
        assert_eq!(wire.answer().status, 'T');
    }
    // Two more are opened for two who wait, but a server that is returned serves them first.
    let mut waiting: Vec<Wire> = (0..2).map(|_| Wire::app(howdah.target())).collect();
    let start = Instant::now();
    for wire in &mut waiting {
        wire.send(&msg::query("SELECT 1"));
    }
    wires[0].query("COMMIT");
    for wire in &mut waiting {
        wire.answer();
    }
    assert!(
        start.elapsed() < Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
    drop((wires, waiting, howdah));
    wait_until("its servers are gone", || cluster.backends("true") == 0);

    let howdah = slowly(0).start();
    let wires = greedy(howdah.target(), "app", "app", 8);
    // One was opened for the first login.
    wait_until("all at once", || cluster.backends(connecting) == 7);
    finish(wires);
}

#[test]
fn a_server_that_refuses_is_left_alone_for_longer_and_longer() {
    let cluster = Cluster::start();
    cluster.sql("ALTER ROLE app CONNECTION LIMIT 0");
    let howdah = Howdah::before(&cluster)
        .set("server_login_retry", "3s")
        .set("query_wait_timeout", "30s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let clients: Vec<_> = (0..10)
        .map(|_| {
            let mut wire = Wire::connect(target).expect("it listens");
            wire.send(&msg::startup(&[("user", "app"), ("database", "app")]));
            wire
        })
        .collect();
    thread::sleep(Duration::from_secs(5));
    // In parallel at first, then one at a time after 1, 2, 3, 3 … s.
    let attempts = cluster.log().matches("too many connections for role").count();
    assert!((2..=8).contains(&attempts), "{attempts} attempts");
    cluster.sql("ALTER ROLE app CONNECTION LIMIT -1");
    let start = Instant::now();
    for mut wire in clients {
        wire.until_ready();
        assert_eq!(wire.value("SELECT 1"), "1");
    }
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn those_who_have_not_logged_in_are_limited_too() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("max_client_conn", 5).start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let mut inside = Wire::app(target);
    let silent: Vec<Wire> = (0..100)
        .map(|_| Wire::connect(target).expect("it listens"))
        .collect();
    let start = Instant::now();
    let mut late = Wire::connect(target).expect("it listens");
    assert_eq!(late.expect_fatal().code(), "53300");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(inside.value("SELECT 'undisturbed'"), "undisturbed");
    drop(silent);
    admitted_in_the_end(target, "app", "app");
}

#[test]
fn a_client_that_goes_while_its_login_waits_for_a_server_is_forgotten() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("max_db_connections", 1)
        .user_set("trust_u", "max_user_client_connections", 1)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let mut holder = Wire::app(target);
    holder.query("BEGIN");
    let startup = msg::startup(&[("user", "trust_u"), ("database", "app")]);
    let mut first = Wire::connect(target).expect("it listens");
    first.send(&startup);
    first.expect_silence(WATCH);
    assert_eq!(refused(target, "trust_u", "other").code(), "53300");
    first.vanish();
    let mut second = eventually("there is room for another", SOON, || {
        let mut second = Wire::connect(target).expect("it listens");
        second.send(&startup);
        second.patience = WATCH;
        second
            .try_read()
            .is_err_and(|why| why == common::wire::NoFrame::Timeout)
            .then_some(second)
    });
    holder.query("COMMIT");
    second.patience = SOON;
    second.until_ready();
    assert_eq!(second.value("SELECT current_user"), "trust_u");
}

#[test]
fn limits_hold_whatever_the_number_of_workers() {
    let cluster = Cluster::start();
    for workers in [1, 2, 7] {
        let howdah = Howdah::before(&cluster)
            .set("workers", workers)
            .set("default_pool_size", 4)
            .set("max_db_connections", 3)
            .start();
        if !howdah.is_howdah() {
            return;
        }
        let target = howdah.target();
        thread::scope(|scope| {
            let load = |client: usize| {
                let mut wire = Wire::login(target, ["app", "trust_u"][client % 2], "app");
                for round in 0..20 {
                    assert_eq!(wire.query("BEGIN").status, 'T');
                    assert_eq!(wire.value(&format!("SELECT {round}")), round.to_string());
                    assert_eq!(wire.query("COMMIT").status, 'I');
                }
            };
            let clients: Vec<_> = (0..30).map(|client| scope.spawn(move || load(client))).collect();
            while clients.iter().any(|client| !client.is_finished()) {
                // An idle one may be on its way out: PostgreSQL takes a moment to notice.
                let servers = cluster.backends("datname = 'app' AND state <> 'idle'");
                assert!(servers <= 3, "{servers} servers with {workers} workers");
                thread::sleep(Duration::from_millis(10));
            }
        });
    }
}
