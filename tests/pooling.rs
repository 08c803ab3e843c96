//! Who gets a server, when, and what it looks like when they get it.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::net::{eventually, wait_until};
use common::wire::{Answer, PgError};
use common::{Cluster, Howdah, Wire, msg, run};

const PID: &str = "SELECT pg_backend_pid()";

/// What the refusal of a query looks like: an answer with an error, or an error and the end.
fn refusal(wire: &mut Wire, sql: &str) -> PgError {
    wire.send(&msg::query(sql));
    match wire.try_answer() {
        Ok(Answer {
            error: Some(error), ..
        })
        | Err(Some(error)) => error,
        Ok(answer) => panic!("{sql} should be refused: {answer:?}"),
        Err(None) => panic!("{sql}: closed without a reason"),
    }
}

#[test]
fn in_transaction_mode_clients_share_servers_between_transactions() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut wires: Vec<Wire> = (0..5).map(|_| Wire::app(howdah.target())).collect();
    let pids: Vec<String> = wires.iter_mut().map(|wire| wire.value(PID)).collect();
    if howdah.target() != cluster.target() {
        assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    }
    wires[0].query("BEGIN");
    let pid = wires[0].value(PID);
    assert_eq!(wires[0].value(PID), pid);
    wires[0].query("COMMIT");
    assert_eq!(cluster.backends("state <> 'idle'"), 0);
}

#[test]
fn a_transaction_keeps_its_server_from_the_others() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut one = Wire::app(howdah.target());
    let mut two = Wire::app(howdah.target());
    one.query("BEGIN");
    one.query("SELECT 1/0");
    two.send(&msg::query("SELECT 'had to wait'"));
    if howdah.target() != cluster.target() {
        two.expect_silence(Duration::from_millis(300));
    }
    one.query("ROLLBACK");
    assert_eq!(two.answer().value(), "had to wait");
}

#[test]
fn in_session_mode_a_client_keeps_its_server_and_leaves_it_clean() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("pool_mode", "session")
        .set("default_pool_size", 1)
        .start();
    let mut one = Wire::app(howdah.target());
    let pid = one.value(PID);
    one.query("SET statement_timeout = '77s'");
    one.query("SET application_name = 'one'");
    one.query("CREATE TEMP TABLE mine (a int)");
    one.query("PREPARE p AS SELECT 1; SELECT pg_advisory_lock(7); LISTEN here");
    assert_eq!(one.batch(&[msg::parse("s", "SELECT 's'")]), "1Z");
    assert_eq!(one.value("SHOW statement_timeout"), "77s");
    assert_eq!(one.value(PID), pid);
    if howdah.target() == cluster.target() {
        return;
    }
    let target = howdah.target();
    let waiting = thread::spawn(move || {
        let mut two = Wire::app(target);
        (two.value(PID), two)
    });
    thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished(), "the only server is taken");
    one.terminate();
    let (_, mut two) = waiting.join().expect("served when the first has gone");
    assert_eq!(two.value("SHOW statement_timeout"), "0");
    assert_eq!(two.value("SHOW application_name"), "");
    assert_eq!(
        two.value("SELECT count(*) FROM pg_class WHERE relname = 'mine'"),
        "0"
    );
    assert_eq!(
        two.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
        "0"
    );
    assert_eq!(two.value("SELECT count(*) FROM pg_listening_channels()"), "0");
    assert_eq!(
        two.value("SELECT count(*) FROM pg_prepared_statements WHERE from_sql"),
        "0"
    );
    assert_eq!(
        two.batch(&[msg::parse("s", "SELECT 't'"), msg::run("s", &[])]),
        "12TDCZ"
    );
}

#[test]
fn in_statement_mode_transactions_are_refused() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("pool_mode", "statement")
        .set("default_pool_size", 1)
        .start();
    if howdah.target() == cluster.target() {
        return;
    }
    let mut one = Wire::app(howdah.target());
    assert_eq!(one.value("SELECT 1; SELECT 2"), "1");
    assert_eq!(one.extended(&[msg::extended("SELECT 3", &[])]).value(), "3");
    // The refusal may come instead of the answer or, as PgBouncer does it, behind it; the transaction never lives on.
    one.send(&msg::query("BEGIN"));
    let fatal = one.expect_fatal();
    assert!(!fatal.message().is_empty(), "{fatal:?}");
    assert_eq!(
        Wire::app(howdah.target()).value("SELECT 'the server is free'"),
        "the server is free"
    );
    assert_eq!(cluster.backends("state LIKE 'idle in%'"), 0);
}

#[test]
fn two_hundred_clients_on_five_servers() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 5)
        .set("max_client_conn", 500)
        .start();
    let direct = howdah.target() == cluster.target();
    cluster.sql("CREATE TABLE hits (client int, round int); GRANT ALL ON hits TO app");
    let target = howdah.target();
    let clients: u32 = if direct { 50 } else { 200 };
    thread::scope(|scope| {
        for client in 0..clients {
            scope.spawn(move || {
                let mut wire = Wire::app(target);
                for round in 0..5 {
                    wire.query("BEGIN");
                    let sql = "INSERT INTO hits VALUES ($1::int, $2::int) RETURNING client * 1000 + round";
                    let values = [client.to_string(), round.to_string()];
                    let values = [Some(values[0].as_str()), Some(values[1].as_str())];
                    let answer = wire.extended(&[msg::extended(sql, &values)]);
                    assert_eq!(
                        answer.value(),
                        (client * 1000 + round).to_string(),
                        "somebody else's row"
                    );
                    assert_eq!(wire.query("COMMIT").status, 'I');
                    assert_eq!(wire.value(&format!("SELECT {client}")), client.to_string());
                }
                wire.terminate();
            });
        }
        for _ in 0..10 {
            let servers = cluster.backends("true");
            assert!(direct || servers <= 5, "{servers} servers in a pool of 5");
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(
        cluster.value("SELECT count(*) FROM hits"),
        (clients * 5).to_string()
    );
}

#[test]
fn servers_go_to_those_who_waited_longest() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    if howdah.target() == cluster.target() {
        return;
    }
    cluster.sql("CREATE SEQUENCE turn; GRANT ALL ON turn TO app");
    let mut holder = Wire::app(howdah.target());
    holder.query("BEGIN");
    let mut waiting: Vec<Wire> = (0..8).map(|_| Wire::app(howdah.target())).collect();
    for wire in &mut waiting {
        wire.send(&msg::query("SELECT nextval('turn')"));
        thread::sleep(Duration::from_millis(60));
    }
    holder.query("COMMIT");
    let turns: Vec<String> = waiting
        .iter_mut()
        .map(|wire| wire.answer().value().to_owned())
        .collect();
    assert_eq!(turns, ["1", "2", "3", "4", "5", "6", "7", "8"]);
}

#[test]
fn waiting_has_an_end() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .set("query_wait_timeout", "1s")
        .start();
    if howdah.target() == cluster.target() {
        return;
    }
    let mut holder = Wire::app(howdah.target());
    holder.query("BEGIN");
    let mut waiting = Wire::app(howdah.target());
    let start = Instant::now();
    let error = refusal(&mut waiting, "SELECT 1");
    let waited = start.elapsed();
    assert!(
        waited > Duration::from_millis(900) && waited < Duration::from_secs(5),
        "after {waited:?}"
    );
    if howdah.is_howdah() {
        assert!(["57014", "57P03", "53300"].contains(&error.code()), "{error:?}");
    }
    holder.query("COMMIT");
    assert_eq!(
        Wire::app(howdah.target()).value("SELECT 'free again'"),
        "free again"
    );
}

#[test]
fn the_queue_has_an_end() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .set("max_waiting", 2)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut holder = Wire::app(howdah.target());
    holder.query("BEGIN");
    let mut queued: Vec<Wire> = (0..2).map(|_| Wire::app(howdah.target())).collect();
    for wire in &mut queued {
        wire.send(&msg::query("SELECT 'in the end'"));
    }
    thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    let error = refusal(&mut Wire::app(howdah.target()), "SELECT 1");
    assert_eq!(error.code(), "53300", "{error:?}");
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "refused at once, not after {:?}",
        start.elapsed()
    );
    holder.query("COMMIT");
    for wire in &mut queued {
        assert_eq!(wire.answer().value(), "in the end");
    }
}

#[test]
fn too_many_clients_are_told_so() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("max_client_conn", 2).start();
    if !howdah.is_howdah() {
        return;
    }
    let one = Wire::app(howdah.target());
    let _two = Wire::app(howdah.target());
    let refused = Wire::login_with(howdah.target(), &[("user", "app"), ("database", "app")], None).err();
    assert_eq!(refused.expect("a refusal").code(), "53300");
    one.terminate();
    eventually("there is room again", Duration::from_secs(5), || {
        Wire::login_with(howdah.target(), &[("user", "app"), ("database", "app")], None).ok()
    });
}

#[test]
fn a_minimum_of_servers_is_kept_warm() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("min_pool_size", 3)
        .set("server_idle_timeout", "1s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    Wire::app(howdah.target()).value("SELECT 1");
    wait_until("three servers are there", || cluster.backends("true") == 3);
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(
        cluster.backends("true"),
        3,
        "idleness never goes below the minimum"
    );
    for pid in cluster.backend_pids("true") {
        cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
    }
    wait_until("three servers are there again", || cluster.backends("true") == 3);
}

#[test]
fn idle_and_old_servers_are_closed() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("server_idle_timeout", "1s").start();
    let old = Howdah::before(&cluster).set("server_lifetime", "1s").start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    wire.value("SELECT 1");
    wait_until("the idle server is closed", || cluster.backends("true") == 0);
    assert_eq!(wire.value("SELECT 2"), "2");

    let mut wire = Wire::app(old.target());
    let pid = wire.value(PID);
    eventually("another server", Duration::from_secs(8), || {
        thread::sleep(Duration::from_millis(200));
        (wire.value(PID) != pid).then_some(())
    });
    wait_until("the last old server is closed", || cluster.backends("true") == 0);
}

#[test]
fn a_client_idle_in_a_transaction_is_ended() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .set("idle_transaction_timeout", "1s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    wire.query("BEGIN");
    assert_eq!(Wire::app(howdah.target()).value("SELECT 'free'"), "free");
    assert_eq!(wire.expect_fatal().code(), "25P03");
}

#[test]
fn users_and_databases_have_pools_of_their_own() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut wires = Vec::new();
    for user in ["app", "trust_u"] {
        for database in ["app", "other"] {
            wires.push((user, database, Wire::login(howdah.target(), user, database)));
        }
    }
    for _ in 0..3 {
        for (user, database, wire) in &mut wires {
            let sql = "SELECT current_user || ' ' || session_user || ' ' || current_database()";
            assert_eq!(wire.value(sql), format!("{user} {user} {database}"));
        }
    }
}

/// Startup parameters that a client may have, how it may ask for them, and what it must see.
const SETTINGS: [[(&str, &str, &str); 4]; 3] = [
    [
        ("application_name", "first program", "first program"),
        ("DateStyle", "German", "German, DMY"),
        ("TimeZone", "Asia/Tokyo", "Asia/Tokyo"),
        ("client_encoding", "LATIN1", "LATIN1"),
    ],
    [
        ("application_name", "second", "second"),
        ("DateStyle", "SQL, DMY", "SQL, DMY"),
        ("TimeZone", "America/New_York", "America/New_York"),
        ("client_encoding", "utf8", "UTF8"),
    ],
    [
        ("application_name", "", ""),
        ("DateStyle", "ISO", "ISO, MDY"),
        ("TimeZone", "UTC", "UTC"),
        ("client_encoding", "'UTF-8'", "UTF8"),
    ],
];

#[test]
fn startup_parameters_follow_their_client_and_nobody_else() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let login = |extra: &[(&str, &str)]| {
        let params = [&[("user", "app"), ("database", "app")], extra].concat();
        Wire::login_with(howdah.target(), &params, None).unwrap_or_else(|error| panic!("{extra:?}: {error}"))
    };
    let mut plain = login(&[]);
    let mut wires: Vec<Wire> = SETTINGS
        .iter()
        .map(|settings| {
            login(
                &settings
                    .iter()
                    .map(|(name, ask, _)| (*name, *ask))
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    let defaults = [
        ("application_name", ""),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("client_encoding", "UTF8"),
    ];
    for round in 0..4 {
        for (wire, settings) in wires.iter_mut().zip(&SETTINGS) {
            for (name, _, wanted) in settings {
                assert_eq!(
                    wire.params[*name], *wanted,
                    "ParameterStatus of {name}, round {round}"
                );
                let sql = format!("SHOW {name}");
                assert_eq!(wire.value(&sql), *wanted, "{sql}, round {round}");
                assert_eq!(
                    wire.extended(&[msg::extended(&sql, &[])]).value(),
                    *wanted,
                    "{sql}, extended"
                );
            }
        }
        for (name, wanted) in defaults {
            assert_eq!(
                plain.params[name], wanted,
                "ParameterStatus of {name} for a client that asked for nothing"
            );
            assert_eq!(
                plain.value(&format!("SHOW {name}")),
                wanted,
                "{name} for a client that asked for nothing"
            );
        }
    }
    let noon = "SELECT '2024-02-01 12:00:00+00'::timestamptz";
    assert_eq!(wires[0].value(noon), "01.02.2024 21:00:00 JST");
    assert_eq!(wires[1].value(noon), "01/02/2024 07:00:00 EST");
    assert_eq!(plain.value(noon), "2024-02-01 12:00:00+00");
}

#[test]
fn the_welcome_says_what_postgresql_says() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for user in ["app", "postgres"] {
        for extra in [
            ("application_name", "x"),
            ("IntervalStyle", "iso_8601"),
            ("TimeZone", "europe/berlin"),
        ] {
            let params = [("user", user), ("database", "app"), extra];
            let direct = Wire::login_with(cluster.target(), &params, None)
                .expect("a login")
                .params;
            let pooled = Wire::login_with(howdah.target(), &params, None)
                .expect("a login")
                .params;
            assert_eq!(direct, pooled, "{user} {extra:?}");
        }
    }
}

#[test]
fn a_setting_that_is_reported_follows_its_client_and_nobody_else() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut one = Wire::app(howdah.target());
    let mut two = Wire::app(howdah.target());
    for _ in 0..3 {
        one.query("SET TimeZone = 'Asia/Tokyo'; SET application_name = 'one'; SET DateStyle = 'SQL, DMY'");
        assert_eq!(one.params["TimeZone"], "Asia/Tokyo");
        for (name, wanted) in [
            ("TimeZone", "UTC"),
            ("application_name", ""),
            ("DateStyle", "ISO, MDY"),
        ] {
            assert_eq!(
                two.value(&format!("SHOW {name}")),
                wanted,
                "{name} of another client"
            );
            assert_eq!(
                two.params[name], wanted,
                "ParameterStatus of {name} for another client"
            );
        }
        for (name, wanted) in [
            ("TimeZone", "Asia/Tokyo"),
            ("application_name", "one"),
            ("DateStyle", "SQL, DMY"),
        ] {
            assert_eq!(
                one.value(&format!("SHOW {name}")),
                wanted,
                "{name} of the client that set it"
            );
        }
        // A rolled back SET never was.
        one.query("BEGIN; SET TimeZone = 'America/New_York'; ROLLBACK");
        assert_eq!(one.params["TimeZone"], "Asia/Tokyo");
        two.query("SELECT 1");
        assert_eq!(one.value("SHOW TimeZone"), "Asia/Tokyo");
    }
}

#[test]
fn startup_options_apply_or_are_refused_but_never_dropped_silently() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let params = [
        ("user", "app"),
        ("database", "app"),
        ("options", "-c statement_timeout=33s --TimeZone=Asia/Tokyo"),
    ];
    match Wire::login_with(howdah.target(), &params, None) {
        Ok(mut wire) => {
            assert_eq!(wire.value("SHOW statement_timeout"), "33s");
            assert_eq!(wire.value("SHOW TimeZone"), "Asia/Tokyo");
            let mut other = Wire::app(howdah.target());
            assert_eq!(other.value("SHOW statement_timeout"), "0");
            assert_eq!(wire.value("SHOW statement_timeout"), "33s");
        }
        Err(refused) => assert!(!refused.code().is_empty(), "refused without a reason: {refused}"),
    }
}

#[test]
fn clients_come_over_the_unix_socket_too() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let dir = if howdah.target() == cluster.target() {
        cluster.socket_dir()
    } else {
        howdah.socket_dir()
    };
    let mut psql = run::client("psql", howdah.target(), "app", "app");
    psql.env("PGHOST", dir).args(["-XAt", "-c", "SELECT 6 * 7"]);
    assert_eq!(run::succeed(&mut psql, Duration::from_secs(20)).trim(), "42");
}

#[test]
fn pgbench_in_every_protocol() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 4)
        .set("max_client_conn", 200)
        .start();
    let mut init = run::client("pgbench", howdah.target(), "app", "app");
    run::succeed(init.args(["-i", "-q", "-s", "1"]), Duration::from_secs(12));
    // A thread for each client: pgbench prepares synchronously, and a thread that waits for one client's server would
    // leave another client of its own in the middle of a transaction.
    for protocol in ["simple", "extended", "prepared"] {
        let mut pgbench = run::client("pgbench", howdah.target(), "app", "app");
        pgbench.args(["-n", "-c", "20", "-j", "20", "-t", "20", "-M", protocol]);
        let said = run::succeed(&mut pgbench, Duration::from_secs(12));
        assert!(
            said.contains("number of transactions actually processed: 400/400"),
            "{protocol}: {said}"
        );
    }
    let sums =
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)";
    assert_eq!(cluster.value(sums), "t");
}
