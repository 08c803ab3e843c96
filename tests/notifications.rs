//! LISTEN and NOTIFY: what was sent is heard once, in the order of the commits, by those who listen and by nobody else.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::console::Console;
use common::heard::{Heard, heard, payloads, run, told_pid};
use common::net::wait_until;
use common::{Cluster, Howdah, Wire, msg};
use rustix::process::Signal;

#[test]
fn ones_own_comes_before_the_end_of_ones_answer_and_from_the_pid_that_one_was_told() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 3);
    let mut wire = Wire::app(howdah.target());
    assert_eq!(run(&mut wire, "LISTEN a"), []);
    for sql in [
        "NOTIFY a, 'mine'",
        "SELECT pg_notify('a', 'mine')",
        "DO $$ BEGIN PERFORM pg_notify('a', 'mine'); END $$",
        "BEGIN; NOTIFY a, 'mine'; COMMIT",
    ] {
        let mine = Heard {
            pid: told_pid(&wire),
            channel: "a".to_owned(),
            payload: "mine".to_owned(),
        };
        assert_eq!(run(&mut wire, sql), [mine], "{sql}");
    }
}

#[test]
fn nothing_is_lost_while_howdah_asks_the_server_something() {
    const MESSAGES: usize = 2000;
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 3);
    let mut wire = Wire::app(howdah.target());
    run(&mut wire, "LISTEN a");
    let target = cluster.target();
    let sender = thread::spawn(move || {
        let mut sender = Wire::app(target);
        for n in 0..MESSAGES {
            run(&mut sender, &format!("NOTIFY a, '{n}'"));
        }
    });
    let mut got = Vec::new();
    while !sender.is_finished() {
        // Each is followed by a question of howdah's.
        for sql in ["SET work_mem = '1MB'", "DO $$ BEGIN END $$", "RESET work_mem"] {
            got.extend(run(&mut wire, sql).into_iter().map(|heard| heard.payload));
        }
    }
    sender.join().expect("the sender has sent everything");
    let missing = MESSAGES - got.len();
    got.extend(payloads(&mut wire, missing));
    let all: Vec<_> = (0..MESSAGES).map(|n| n.to_string()).collect();
    assert_eq!(got, all);
    wire.expect_silence(Duration::from_millis(200));
}

/// Waits until nobody keeps a server, so that all who listen hear from the hub.
fn all_on_the_hub(howdah: &Howdah) {
    let mut console = Console::open(howdah.target());
    wait_until("all listen on the hub", || {
        console
            .show("CLIENTS")
            .rows
            .iter()
            .all(|client| client["pin"].is_empty() && client["state"] != "active")
    });
}

#[test]
fn many_clients_and_channels_need_few_servers() {
    const CLIENTS: usize = 200;
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 3);
    let mut wires: Vec<_> = (0..CLIENTS).map(|_| Wire::app(howdah.target())).collect();
    for (n, wire) in wires.iter_mut().enumerate() {
        run(wire, &format!("LISTEN all_of_us; LISTEN \"Channel {n}\""));
    }
    all_on_the_hub(&howdah);
    assert!(
        cluster.backends("usename = 'app'") <= 4,
        "three servers and a hub"
    );
    let mut sender = Wire::app(cluster.target());
    for n in 0..CLIENTS {
        run(&mut sender, &format!("NOTIFY \"Channel {n}\", '{n}'"));
    }
    run(&mut sender, "NOTIFY all_of_us, 'to all'");
    for (n, wire) in wires.iter_mut().enumerate() {
        assert_eq!(payloads(wire, 2), [n.to_string(), "to all".to_owned()]);
        assert_eq!(run(wire, "SELECT 1"), [], "nothing comes twice");
    }
}

/// The statements of both must leave both listening to the same, having heard the same.
fn alike(cluster: &Cluster, howdah: &Howdah, script: &[&str]) {
    let mut pooled = Wire::app(howdah.target());
    // Notifications stay in their database.
    let mut direct = Wire::login(cluster.target(), "app", "other");
    let mut channels = |sql: &str| {
        let heard = [&mut pooled, &mut direct].map(|wire| {
            wire.send(&msg::query(sql));
            let frames = wire.until_ready();
            let heard = frames.iter().filter_map(heard);
            let answer = common::wire::gather(&frames);
            let heard: Vec<_> = heard.map(|heard| (heard.channel, heard.payload)).collect();
            (
                answer.rows,
                answer.tags,
                answer.error.map(|error| error.0[&'C'].clone()),
                heard,
            )
        });
        assert_eq!(heard[0], heard[1], "{sql}, in {script:?}");
    };
    for sql in script {
        channels(sql);
        if !sql.starts_with("BEGIN") && !sql.starts_with("SAVEPOINT") {
            channels("SELECT pg_listening_channels()");
        }
    }
    channels("ROLLBACK");
    // Whoever listens to nothing hears this.
    channels("LISTEN last");
    for database in ["app", "other"] {
        let sql = "NOTIFY a, '1'; NOTIFY b, '2'; NOTIFY c, '3'; NOTIFY d, '4'; NOTIFY last";
        run(&mut Wire::login(cluster.target(), "app", database), sql);
    }
    let until_last = |wire: &mut Wire| {
        let mut all = Vec::new();
        while all.last().is_none_or(|last| last != "last") {
            all.extend(heard(&wire.read()).map(|heard| heard.channel));
        }
        all
    };
    assert_eq!(until_last(&mut pooled), until_last(&mut direct), "{script:?}");
}

#[test]
fn who_listens_to_what_is_as_on_a_connection_of_its_own() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let alike = |script: &[&str]| alike(&cluster, &howdah, script);
    alike(&[
        "LISTEN a",
        "LISTEN b",
        "UNLISTEN a",
        "LISTEN c",
        "UNLISTEN *",
        "LISTEN d",
    ]);
    alike(&[
        "LISTEN a",
        "BEGIN",
        "LISTEN b",
        "ROLLBACK",
        "BEGIN",
        "UNLISTEN a",
        "ROLLBACK",
    ]);
    alike(&["LISTEN a", "BEGIN", "LISTEN b", "UNLISTEN a", "COMMIT"]);
    alike(&[
        "LISTEN a",
        "BEGIN",
        "LISTEN b",
        "SAVEPOINT s",
        "LISTEN c",
        "UNLISTEN a",
        "ROLLBACK TO s",
        "UNLISTEN b",
        "LISTEN d",
        "COMMIT",
    ]);
    alike(&[
        "LISTEN a",
        "BEGIN",
        "UNLISTEN *",
        "SELECT 1/0",
        "COMMIT",
        "LISTEN b",
    ]);
    alike(&[
        "LISTEN a",
        "DO $$ BEGIN EXECUTE 'LISTEN b'; EXECUTE 'UNLISTEN a'; END $$",
        "SELECT 1",
    ]);
    alike(&[
        "LISTEN a; LISTEN b; SELECT 1/0",
        "LISTEN c; UNLISTEN c; LISTEN d",
        "DISCARD ALL",
        "LISTEN a",
    ]);
    alike(&[
        "LISTEN a",
        "BEGIN; LISTEN b; NOTIFY a, '1'; NOTIFY b, '2'; COMMIT",
        "NOTIFY b",
        "NOTIFY c",
    ]);
    alike(&[
        "LISTEN a",
        "SET client_encoding = 'LATIN1'",
        "NOTIFY a",
        "LISTEN b",
        "NOTIFY b",
        "RESET client_encoding",
    ]);
}

#[test]
fn an_implicit_transaction_of_several_requests_may_do_anything_with_channels() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let mut wire = Wire::app(howdah.target());
    run(&mut wire, "LISTEN a");
    all_on_the_hub(&howdah);
    let batch = |sql: [&str; 2]| sql.map(|sql| msg::extended(sql, &[])).to_vec();
    assert_eq!(wire.batch(&batch(["SELECT 1", "SELECT 2"])), "12TDC12TDCZ");
    assert_eq!(
        wire.batch(&batch(["SELECT 1", "NOTIFY a, 'mine'"])),
        "12TDC12nCAZ"
    );
    assert_eq!(wire.batch(&batch(["SELECT 1", "UNLISTEN a"])), "12TDC12nCZ");
    run(&mut Wire::app(cluster.target()), "NOTIFY a");
    assert_eq!(wire.value("SELECT count(*) FROM pg_listening_channels()"), "0");
    wire.expect_silence(Duration::from_millis(100));
    // Statements that were prepared before, several units at once, and a unit whose end comes later.
    run(&mut wire, "LISTEN a");
    wire.batch(&[
        msg::parse("n", "SELECT pg_notify('a', $1)"),
        msg::parse("s", "SELECT 1"),
    ]);
    all_on_the_hub(&howdah);
    let run_named =
        |name: &str, values: &[Option<&str>]| [msg::bind("", name, values), msg::execute("", 0)].concat();
    let mixed = [
        run_named("s", &[]),
        msg::sync(),
        run_named("n", &[Some("x")]),
        msg::sync(),
        run_named("s", &[]),
    ];
    wire.send(&mixed.concat());
    assert_eq!(wire.kinds_until_ready(), "2DCZ");
    assert_eq!(wire.kinds_until_ready(), "2DCAZ");
    wire.send(&msg::sync());
    assert_eq!(wire.kinds_until_ready(), "2DCZ");
}

#[test]
fn nobody_is_told_anything_within_a_transaction() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("defer_begin", true).start();
    let mut sender = Wire::app(cluster.target());
    let mut wire = Wire::app(howdah.target());
    run(&mut wire, "LISTEN a");
    all_on_the_hub(&howdah);
    assert_eq!(run(&mut wire, "BEGIN"), []);
    run(&mut sender, "NOTIFY a, 'one'");
    wire.expect_silence(Duration::from_millis(200));
    assert_eq!(run(&mut wire, "SELECT 1"), []);
    assert_eq!(run(&mut wire, "COMMIT").len(), 1);
    // A statement that takes long is a transaction too.
    all_on_the_hub(&howdah);
    wire.send(&msg::query("SELECT pg_sleep(0.5)"));
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    wait_until("the statement runs", || cluster.value(sleeping) == "1");
    run(&mut sender, "NOTIFY a, 'two'");
    assert_eq!(wire.kinds_until_ready(), "TDCAZ");
}

#[test]
fn who_does_not_read_is_disconnected_and_disturbs_nobody() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("max_client_notification_bytes", "1MB")
        .start();
    let mut reader = Wire::app(howdah.target());
    let mut slow = Wire::app(howdah.target());
    run(&mut reader, "LISTEN a");
    run(&mut slow, "LISTEN a");
    all_on_the_hub(&howdah);
    let mut sender = Wire::app(cluster.target());
    for n in 0..250 {
        let many = "repeat('x', 7000) || g) FROM generate_series(1, 20) g";
        run(&mut sender, &format!("SELECT pg_notify('a', {n} || {many}"));
        assert_eq!(payloads(&mut reader, 20).len(), 20);
    }
    // It is told as well, if it begins to read in time.
    howdah.wait_log("does not read its notifications");
    assert!(
        slow.expect_closed().len() < 5000,
        "not everything has been kept for it"
    );
    assert_eq!(run(&mut reader, "NOTIFY a").len(), 1);
}

/// The process id of the hub's backend.
fn hub_pid(howdah: &Howdah) -> String {
    let mut console = Console::open(howdah.target());
    console.show("LISTENERS").rows[0]["remote_pid"].clone()
}

#[test]
fn when_the_hub_is_lost_those_who_listen_are_told() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let mut wire = Wire::app(howdah.target());
    let mut other = Wire::app(howdah.target());
    run(&mut wire, "LISTEN a");
    assert_eq!(other.value("SELECT 1"), "1");
    all_on_the_hub(&howdah);
    cluster.sql(&format!("SELECT pg_terminate_backend({})", hub_pid(&howdah)));
    assert_eq!(wire.expect_fatal().code(), "57P01");
    assert_eq!(
        other.value("SELECT 1"),
        "1",
        "who does not listen is not concerned"
    );
    // The next one finds a hub again.
    run(&mut other, "LISTEN a");
    all_on_the_hub(&howdah);
    run(&mut Wire::app(cluster.target()), "NOTIFY a, 'again'");
    assert_eq!(payloads(&mut other, 1), ["again"]);
}

#[test]
fn with_resume_another_hub_takes_the_place_of_a_lost_one() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("listen_lost", "resume").start();
    let mut wire = Wire::app(howdah.target());
    run(&mut wire, "LISTEN a");
    all_on_the_hub(&howdah);
    let lost = hub_pid(&howdah);
    cluster.sql(&format!("SELECT pg_terminate_backend({lost})"));
    wait_until("there is another hub", || {
        !["", &lost].contains(&&*hub_pid(&howdah))
    });
    run(&mut Wire::app(cluster.target()), "NOTIFY a, 'again'");
    assert_eq!(payloads(&mut wire, 1), ["again"]);
    assert_eq!(run(&mut wire, "NOTIFY a, 'mine'").len(), 1);
}

#[test]
fn each_hears_in_its_own_encoding() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let login = |encoding| {
        let params = [
            ("user", "app"),
            ("database", "app"),
            ("client_encoding", encoding),
        ];
        Wire::login_with(howdah.target(), &params, None).expect("it may log in")
    };
    let (mut utf8, mut latin1) = (login("UTF8"), login("LATIN1"));
    let query = |wire: &mut Wire, sql: &[u8]| {
        wire.send(&msg::typed(b'Q', &[sql, b"\0"].concat()));
        assert_eq!(wire.kinds_until_ready(), "CZ");
    };
    query(&mut utf8, "LISTEN \"é\"".as_bytes());
    query(&mut latin1, b"LISTEN \"\xe9\"");
    all_on_the_hub(&howdah);
    run(&mut Wire::app(cluster.target()), "NOTIFY \"é\", 'ü'");
    assert_eq!(utf8.read().body[4..], *"é\0ü\0".as_bytes());
    assert_eq!(latin1.read().body[4..], *b"\xe9\0\xfc\0");
    let mut console = Console::open(howdah.target());
    let encodings: Vec<_> = console
        .show("LISTENERS")
        .rows
        .iter()
        .map(|hub| hub["client_encoding"].clone())
        .collect();
    assert_eq!(encodings, ["LATIN1", "UTF8"]);
}

#[test]
fn where_there_is_no_room_for_a_hub_clients_keep_their_servers() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("max_db_connections", 1).start();
    let mut wire = Wire::app(howdah.target());
    run(&mut wire, "LISTEN a");
    run(&mut Wire::app(cluster.target()), "NOTIFY a, 'heard'");
    assert_eq!(payloads(&mut wire, 1), ["heard"]);
    assert_eq!(cluster.backends("usename = 'app'"), 1);
    // As soon as there is, they do not.
    let mut console = Console::open(howdah.target());
    console.does("SET max_db_connections = 2");
    all_on_the_hub(&howdah);
    run(&mut Wire::app(cluster.target()), "NOTIFY a, 'heard'");
    assert_eq!(payloads(&mut wire, 1), ["heard"]);
}

#[test]
fn a_hub_that_nobody_needs_goes_and_a_pool_can_be_told_that_it_must() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("server_idle_timeout", "1s").start();
    let mut wire = Wire::app(howdah.target());
    run(&mut wire, "LISTEN a");
    all_on_the_hub(&howdah);
    run(&mut wire, "UNLISTEN *");
    wait_until("no server is left", || cluster.backends("usename = 'app'") == 0);
    let mut console = Console::open(howdah.target());
    assert!(console.show("LISTENERS").rows.is_empty());
    run(&mut wire, "LISTEN a");
    all_on_the_hub(&howdah);
    console.does("RECONNECT");
    assert_eq!(wire.expect_fatal().code(), "57P01");
}

/// PostgreSQL is to have nobody connected while it is paused, lest it could not be stopped.
#[test]
fn pause_disconnects_the_hub_too_and_those_who_listen_are_told() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let mut console = Console::open(howdah.target());
    let (mut wire, mut other) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
    run(&mut wire, "LISTEN a");
    assert_eq!(other.value("SELECT 1"), "1");
    all_on_the_hub(&howdah);
    console.does("PAUSE");
    wait_until("nobody is connected", || cluster.backends("usename = 'app'") == 0);
    assert_eq!(wire.expect_fatal().code(), "57P01");
    howdah.wait_log("the connection that listens for clients is closed");
    console.does("RESUME");
    run(&mut other, "LISTEN a");
    all_on_the_hub(&howdah);
    run(&mut Wire::app(cluster.target()), "NOTIFY a, 'again'");
    assert_eq!(payloads(&mut other, 1), ["again"]);
    // Who is in is still served.
    console.does("DISABLE app");
    run(&mut Wire::app(cluster.target()), "NOTIFY a, 'disabled'");
    assert_eq!(payloads(&mut other, 1), ["disabled"]);
    console.does("ENABLE app");
    console.does("KILL app");
    assert_eq!(other.expect_fatal().code(), "57P01");
    wait_until("nobody is connected", || cluster.backends("usename = 'app'") == 0);
}

#[test]
fn the_log_of_an_orderly_end_has_no_warning() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::with_pool(&cluster, 2);
    let mut wire = Wire::app(howdah.target());
    run(&mut wire, "LISTEN a");
    all_on_the_hub(&howdah);
    howdah.signal(Signal::TERM);
    assert_eq!(wire.expect_fatal().code(), "57P01");
    let status = howdah.wait_exit(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    let log = howdah.log();
    let warned = log
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"));
    assert_eq!(warned.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn with_resume_those_who_listen_live_through_a_pause() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("listen_lost", "resume").start();
    let mut console = Console::open(howdah.target());
    let mut wire = Wire::app(howdah.target());
    run(&mut wire, "LISTEN a");
    all_on_the_hub(&howdah);
    console.does("PAUSE");
    wait_until("nobody is connected", || cluster.backends("usename = 'app'") == 0);
    console.does("RESUME");
    wait_until("there is another hub", || !hub_pid(&howdah).is_empty());
    run(&mut Wire::app(cluster.target()), "NOTIFY a, 'again'");
    assert_eq!(payloads(&mut wire, 1), ["again"]);
}

#[test]
fn with_pin_who_listens_keeps_its_server() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("listen", "pin").start();
    let mut wire = Wire::app(howdah.target());
    run(&mut wire, "LISTEN a");
    run(&mut Wire::app(cluster.target()), "NOTIFY a, 'heard'");
    assert_eq!(payloads(&mut wire, 1), ["heard"]);
    let mut console = Console::open(howdah.target());
    assert_eq!(
        console.show("CLIENTS").row(&[("database", "app")])["pin"],
        "listen"
    );
    assert!(console.show("LISTENERS").rows.is_empty());
}

/// Between a client's end and the UNLISTEN that follows it, PostgreSQL still sends what was asked for.
#[test]
fn what_arrives_while_a_server_is_cleaned_is_told_to_nobody() {
    let cluster = Cluster::start();
    let config = Howdah::before(&cluster).set("listen", "pin");
    let howdah = config.set("default_pool_size", "1").start();
    let mut console = Console::open(howdah.target());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = Wire::app(cluster.target());
            let since = Instant::now();
            while !is_over.load(Ordering::Relaxed) && since.elapsed() < Duration::from_secs(60) {
                run(&mut sender, "NOTIFY theirs");
            }
        });
        for _ in 0..40 {
            let mut leaves = Wire::app(howdah.target());
            run(&mut leaves, "LISTEN theirs");
            // It is the next in the line, so that the server does not rest in between.
            let mut next = Wire::app(howdah.target());
            next.send(&msg::query("LISTEN ours"));
            console.wait_for_waiting(1);
            leaves.vanish();
            assert_eq!(next.kinds_until_ready(), "CZ");
            assert_eq!(run(&mut next, "DO 'BEGIN END'"), []);
            next.terminate();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn who_listens_needs_permission_like_others_for_what_keeps_a_server_for_good() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 3)
        .set("max_pinned", 2)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut first = Wire::app(howdah.target());
    first.query("LISTEN first");
    all_on_the_hub(&howdah);
    let [mut a, mut b, mut c, mut served] = std::array::from_fn(|_| Wire::app(howdah.target()));
    let temp = "CREATE TEMP TABLE t (n int)";
    for wire in [&mut a, &mut b] {
        wire.query("BEGIN; LISTEN x");
        wire.query(temp);
        assert_eq!(wire.query("COMMIT").status, 'I');
    }
    c.query("BEGIN; LISTEN x");
    c.send(&msg::query(temp));
    c.expect_silence(Duration::from_millis(200));
    a.query("DROP TABLE t");
    assert_eq!(c.kinds_until_ready(), "CZ");
    c.query("ROLLBACK");
    // Nor does he who has come from the hub go without.
    first.query(temp);
    c.query("LISTEN x");
    c.send(&msg::query(temp));
    c.expect_silence(Duration::from_millis(200));
    assert_eq!(served.value("SELECT 'served'"), "served");
    first.query("DROP TABLE t");
    assert_eq!(c.kinds_until_ready(), "CZ");
}
