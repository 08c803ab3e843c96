//! ALTER ROLE and ALTER DATABASE … SET: what new sessions begin with, whatever servers there are.

mod common;

use common::net::wait_until;
use common::{Pair, Wire, msg};

/// What a role or a database is given by ALTER … SET, every session has that begins later, whatever servers there are.
#[test]
fn who_logs_in_after_defaults_were_altered_has_the_new_ones() {
    let pair = Pair::with_pool(2);
    let login = || Wire::app(pair.howdah.target());
    let mut early = login();
    let mut admin = Wire::login(pair.howdah.target(), "postgres", "app");
    assert_eq!(early.value("SHOW work_mem"), "4MB");
    // It keeps an old server, and its old settings with it.
    let mut keeps = login();
    keeps.query("CREATE TEMP TABLE kept (n int)");
    for (alter, setting, value) in [
        ("ALTER ROLE app SET work_mem = '7MB'", "work_mem", "7MB"),
        (
            "ALTER DATABASE app SET TimeZone = 'Asia/Tokyo'",
            "TimeZone",
            "Asia/Tokyo",
        ),
        (
            "ALTER ROLE app IN DATABASE app SET app.x = 'mine'",
            "app.x",
            "mine",
        ),
    ] {
        admin.query(alter);
        let mut late = login();
        assert_eq!(late.value(&format!("SHOW {setting}")), value, "{alter}");
        if setting == "TimeZone" {
            assert_eq!(late.params["TimeZone"], value);
            assert_ne!(early.value("SHOW TimeZone"), value, "it has begun with another");
        }
    }
    assert_eq!(keeps.value("SHOW work_mem"), "4MB");
}

/// Somebody who may not alter defaults costs nobody a server, whatever else they may alter.
#[test]
fn servers_are_replaced_for_defaults_that_were_altered_and_for_no_attempt() {
    let pair = Pair::with_pool(2);
    let mut app = Wire::app(pair.howdah.target());
    let servers = || pair.cluster.backend_pids("usename = 'app'");
    app.query("SELECT 1");
    let before = servers();
    let own = "ALTER ROLE app PASSWORD 'another'";
    let all = "ALTER ROLE ALL SET work_mem = '9MB'";
    let mine = "ALTER ROLE app SET work_mem = '9MB'";
    let attempts: [&[&str]; 7] = [
        &[own, all],
        &[&format!("{own}; {all}")],
        &["BEGIN", own, all, "ROLLBACK"],
        &["BEGIN", own, "SAVEPOINT a", all, "ROLLBACK TO a", "COMMIT"],
        &["BEGIN", own, "SAVEPOINT a", all, "ROLLBACK TO a", own, "COMMIT"],
        &["BEGIN", mine, "ROLLBACK", own],
        &[&format!("{mine}; SELECT 1/0"), own],
    ];
    for attempt in attempts {
        for sql in attempt {
            app.query(sql);
        }
        let mut late = Wire::app(pair.howdah.target());
        assert_eq!(late.value("SHOW work_mem"), "4MB", "{attempt:?}");
        assert_eq!(servers(), before, "{attempt:?}");
    }
    // What is bound and not executed has not happened, whatever else has.
    let bound = [
        msg::parse("of_all", all),
        msg::parse("execute", "EXECUTE of_all"),
        msg::bind("a", "of_all", &[]),
        msg::bind("b", "execute", &[]),
        msg::extended("ALTER ROLE trust_u SET work_mem = '9MB'", &[]),
    ];
    let mut stranger = Wire::login(pair.howdah.target(), "trust_u", "app");
    assert_eq!(stranger.batch(&bound), "112212nCZ");
    let _late = Wire::app(pair.howdah.target());
    assert_eq!(servers(), before, "bound");
    app.query(mine);
    let mut late = Wire::app(pair.howdah.target());
    assert_eq!(late.value("SHOW work_mem"), "9MB");
    assert_ne!(servers(), before);
}

/// However it is sent, it holds for who logs in next.
#[test]
fn defaults_are_altered_by_prepared_statements_and_among_others_too() {
    let pair = Pair::with_pool(2);
    let mut app = Wire::app(pair.howdah.target());
    let late = |wanted: &str| {
        let mut late = Wire::app(pair.howdah.target());
        assert_eq!(late.value("SHOW work_mem"), wanted);
    };
    late("4MB");
    app.batch(&[msg::extended("ALTER ROLE app SET work_mem = '5MB'", &[])]);
    late("5MB");
    app.batch(&[
        msg::parse("alter", "ALTER ROLE app SET work_mem = '6MB'"),
        msg::run("alter", &[]),
        msg::extended("SELECT 1", &[]),
    ]);
    late("6MB");
    app.query("ALTER ROLE app SET work_mem = '7MB'; SELECT 1");
    late("7MB");
    app.query("EXECUTE alter");
    late("6MB");
    app.batch(&[
        msg::bind("p", "alter", &[]),
        msg::extended("ALTER ROLE app SET work_mem = '8MB'", &[]),
        msg::execute("p", 0),
    ]);
    late("6MB");
}

/// What an administrator changes under sessions that are there, clients follow as PostgreSQL's own sessions do; and back.
#[test]
fn who_has_chosen_nothing_follows_the_servers_configuration() {
    for size in [1, 2] {
        let pair = Pair::with_pool(size);
        let mut admin = Wire::login(pair.cluster.target(), "postgres", "app");
        admin.query("CREATE TABLE written (n int); GRANT ALL ON written TO app");
        let own_zone = [("user", "app"), ("database", "app"), ("TimeZone", "Europe/Paris")];
        // On its own connection, and through howdah: who says nothing, who has chosen, who has chosen at its login.
        let mut clients: Vec<[Wire; 3]> = [pair.cluster.target(), pair.howdah.target()]
            .map(|target| {
                let mut chooses = Wire::app(target);
                // One of them is the default.
                chooses.query("SET default_transaction_read_only = off; SET TimeZone = 'America/Lima'");
                let asks = Wire::login_with(target, &own_zone, None).expect("a login");
                [Wire::app(target), chooses, asks]
            })
            .into();
        let zone = clients[0][0].params["TimeZone"].clone();
        let mut look = |when: &str, read_only: &str, zone: &str| {
            let mut seen: Vec<Vec<String>> = Vec::new();
            let fresh = [pair.cluster.target(), pair.howdah.target()].map(Wire::app);
            for (all, mut fresh) in clients.iter_mut().zip(fresh) {
                let mut lines = Vec::new();
                for wire in all.iter_mut().chain([&mut fresh]) {
                    // PostgreSQL tells of it behind the first query.
                    wire.query("SELECT 1");
                    let wrote = wire.query("INSERT INTO written VALUES (1)").code().to_owned();
                    let shown = wire.value("SHOW TimeZone");
                    lines.push(format!("{wrote} {shown} {}", wire.params["TimeZone"]));
                }
                seen.push(lines);
            }
            assert_eq!(seen[1], seen[0], "{when}, a pool of {size}");
            assert!(seen[0][0].starts_with(read_only), "{when}: {:?}", seen[0]);
            assert!(seen[0][0].ends_with(zone), "{when}: {:?}", seen[0]);
        };
        look("before", " ", &zone);
        for _ in 0..2 {
            admin.query("ALTER SYSTEM SET default_transaction_read_only = on");
            admin.query("ALTER SYSTEM SET TimeZone = 'Asia/Tokyo'");
            admin.query("SELECT pg_reload_conf()");
            wait_until("the server has read it", || {
                let mut fresh = Wire::app(pair.cluster.target());
                fresh.value("SHOW default_transaction_read_only") == "on"
            });
            look("frozen", "25006", "Asia/Tokyo");
            admin.query("SET default_transaction_read_only = off");
            admin.query("ALTER SYSTEM RESET ALL");
            admin.query("SELECT pg_reload_conf()");
            wait_until("the server has read it", || {
                let mut fresh = Wire::app(pair.cluster.target());
                fresh.value("SHOW default_transaction_read_only") == "off"
            });
            look("thawed", " ", &zone);
        }
    }
}

/// What a client sets unseen is its own, and no administrator's: others keep what they have.
#[test]
fn nobody_takes_what_another_client_sets_unseen_for_a_new_default() {
    let pair = Pair::with_pool(1);
    pair.cluster.sql(
        "CREATE FUNCTION lies() RETURNS text STABLE LANGUAGE plpgsql AS
         $$ BEGIN RETURN set_config('TimeZone', 'Asia/Tokyo', false); END $$",
    );
    let [mut liar, mut other] = [(); 2].map(|()| Wire::app(pair.howdah.target()));
    let zone = other.value("SHOW TimeZone");
    // It is known to be harmless from the second time on.
    for _ in 0..3 {
        liar.query("SELECT lies()");
        assert_eq!(other.value("SHOW TimeZone"), zone);
        assert_eq!(Wire::app(pair.howdah.target()).value("SHOW TimeZone"), zone);
    }
}

/// A freeze that is taken back while nobody is there holds again the next time.
#[test]
fn a_change_that_was_forgotten_is_followed_again() {
    let pair = Pair::with_pool(2);
    let mut admin = Wire::login(pair.cluster.target(), "postgres", "app");
    admin.query("CREATE TABLE written (n int); GRANT ALL ON written TO app");
    let mut set = |value: &str| {
        admin.query("SET default_transaction_read_only = off");
        admin.query(&format!(
            "ALTER SYSTEM SET default_transaction_read_only = {value}"
        ));
        admin.query("SELECT pg_reload_conf()");
        wait_until("the server has read it", || {
            let mut fresh = Wire::app(pair.cluster.target());
            fresh.value("SHOW default_transaction_read_only") == value
        });
    };
    let insert = "INSERT INTO written VALUES (1)";
    let mut client = Wire::app(pair.howdah.target());
    for _ in 0..2 {
        set("on");
        client.query("SELECT 1");
        assert_eq!(client.query(insert).code(), "25006");
        // Every server that has heard of it goes.
        let pids = pair.cluster.backend_pids("usename = 'app'");
        set("off");
        for pid in pids {
            pair.cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
        }
        wait_until("they are gone", || {
            pair.cluster.backend_pids("usename = 'app'").is_empty()
        });
        let mut fresh = Wire::app(pair.howdah.target());
        assert_eq!(
            fresh.query(insert).code(),
            "",
            "new servers know nothing of a freeze"
        );
    }
}

/// Servers whose defaults differ, because one began before a role was altered, do not make clients waver.
#[test]
fn what_one_server_has_by_default_is_no_news_for_those_of_another() {
    let pair = Pair::with_pool(2);
    let mut admin = Wire::login(pair.cluster.target(), "postgres", "app");
    let app = || Wire::app(pair.howdah.target());
    let (mut early, mut other) = (app(), app());
    early.query("BEGIN");
    let old = early.value("SELECT pg_backend_pid()");
    admin.query("ALTER ROLE app SET TimeZone = 'UTC'");
    // A server that begins with that.
    assert_ne!(other.value("SELECT pg_backend_pid()"), old);
    early.query("COMMIT");
    admin.query("ALTER SYSTEM SET TimeZone = 'Asia/Tokyo'");
    admin.query("SELECT pg_reload_conf()");
    wait_until("it has been read", || {
        Wire::login(pair.cluster.target(), "postgres", "app").value("SHOW TimeZone") == "Asia/Tokyo"
    });
    // Both servers tell of what they have.
    for _ in 0..3 {
        early.query("BEGIN");
        other.query("SELECT 1");
        early.query("COMMIT");
        other.query("BEGIN");
        early.query("SELECT 1");
        other.query("COMMIT");
    }
    let zones: Vec<_> = [&mut early, &mut other]
        .map(|wire| wire.value("SHOW TimeZone"))
        .into();
    let mut holder = app();
    for _ in 0..3 {
        // Whichever servers they meet.
        holder.query("BEGIN");
        for (wire, zone) in [&mut early, &mut other].into_iter().zip(&zones) {
            assert_eq!(wire.value("SHOW TimeZone"), *zone);
            assert_eq!(wire.params["TimeZone"], *zone);
        }
        holder.query("COMMIT");
        for (wire, zone) in [&mut early, &mut other].into_iter().zip(&zones) {
            assert_eq!(wire.value("SHOW TimeZone"), *zone);
        }
    }
}

/// What a client has set stays its own where it makes no difference.
#[test]
fn a_choice_that_is_the_default_outlives_the_default() {
    for size in [1, 2] {
        let pair = Pair::with_pool(size);
        let mut admin = Wire::login(pair.cluster.target(), "postgres", "app");
        let mut client = Wire::app(pair.howdah.target());
        let zone = client.params["TimeZone"].clone();
        client.query(&format!("SET TimeZone = '{zone}'"));
        Wire::app(pair.howdah.target()).query("SELECT 1");
        admin.query("ALTER SYSTEM SET TimeZone = 'Asia/Tokyo'");
        admin.query("SELECT pg_reload_conf()");
        wait_until("it has been read", || {
            Wire::app(pair.cluster.target()).value("SHOW TimeZone") == "Asia/Tokyo"
        });
        // Each with one meaning, from the first on.
        for _ in 0..3 {
            assert_eq!(client.value("SHOW TimeZone"), zone, "a pool of {size}");
            let mut other = Wire::app(pair.howdah.target());
            other.query("SELECT 1");
            assert_eq!(other.value("SHOW TimeZone"), "Asia/Tokyo");
        }
    }
}

/// A session with a value of its own hears of no new default, and RESET leads there all the same.
#[test]
fn reset_leads_back_to_what_the_client_has_asked_for_whatever_the_default_has_become() {
    let pair = Pair::with_pool(1);
    let mut admin = Wire::login(pair.cluster.target(), "postgres", "app");
    let params = [("user", "app"), ("database", "app"), ("TimeZone", "PST8PDT")];
    let mut own = Wire::login_with(pair.howdah.target(), &params, None).expect("it logs in");
    for (at, reset) in [
        "RESET ALL",
        "RESET TimeZone",
        "DISCARD ALL",
        "SELECT 1; RESET TimeZone",
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(own.value("SHOW TimeZone"), "PST8PDT");
        let zone = ["Asia/Tokyo", "Europe/Paris"][at % 2];
        admin.query(&format!("ALTER SYSTEM SET TimeZone = '{zone}'"));
        admin.query("SELECT pg_reload_conf()");
        wait_until("it has been read", || {
            Wire::app(pair.cluster.target()).value("SHOW TimeZone") == zone
        });
        own.query(reset);
        for _ in 0..2 {
            assert_eq!(own.params["TimeZone"], "PST8PDT", "{reset}");
            assert_eq!(own.value("SHOW TimeZone"), "PST8PDT", "{reset}");
        }
        // What it has set behind that stays.
        own.query(&format!("{reset}; SET TimeZone = 'UTC'"));
        own.query(
            "BEGIN; SELECT set_config('TimeZone', NULL, false), set_config('TimeZone', 'UTC', false); COMMIT",
        );
        assert_eq!(own.value("SHOW TimeZone"), "UTC", "{reset}");
        own.query("RESET TimeZone");
        assert_eq!(
            Wire::app(pair.howdah.target()).value("SHOW TimeZone"),
            zone,
            "{reset}"
        );
    }
}

/// `SET statement_timeout = 0`, as migrations say it: it is theirs, and nobody else's, whatever becomes the default.
#[test]
fn a_choice_of_what_is_not_reported_is_its_clients_own_too() {
    for size in [1, 2] {
        let pair = Pair::with_pool(size);
        let mut admin = Wire::login(pair.cluster.target(), "postgres", "app");
        let mut client = Wire::app(pair.howdah.target());
        client.query("SET statement_timeout = 0");
        let mut gone = Wire::app(pair.howdah.target());
        gone.query("SET lock_timeout = 0");
        gone.query("BEGIN; SET work_mem = '4MB'; ROLLBACK");
        gone.terminate();
        for name in ["statement_timeout", "lock_timeout"] {
            admin.query(&format!("ALTER SYSTEM SET {name} = '30s'"));
        }
        admin.query("SELECT pg_reload_conf()");
        wait_until("it has been read", || {
            Wire::app(pair.cluster.target()).value("SHOW lock_timeout") == "30s"
        });
        let mut holder = Wire::app(pair.howdah.target());
        for _ in 0..3 {
            let mut new = Wire::app(pair.howdah.target());
            assert_eq!(new.value("SHOW statement_timeout"), "30s", "a pool of {size}");
            assert_eq!(new.value("SHOW lock_timeout"), "30s", "a pool of {size}");
            assert_eq!(client.value("SHOW statement_timeout"), "0", "a pool of {size}");
            if size > 1 {
                // On another server.
                holder.query("BEGIN");
                assert_eq!(client.value("SHOW statement_timeout"), "0");
                holder.query("COMMIT");
            }
        }
        client.query("RESET statement_timeout");
        assert_eq!(client.value("SHOW statement_timeout"), "30s");
    }
}
