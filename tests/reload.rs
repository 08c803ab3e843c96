//! SIGHUP: what can be changed is changed, nobody is dropped, and a file that makes no sense changes nothing.

mod common;

use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

use common::cluster::password_of;
use common::console::Console;
use common::net::{eventually, wait_until};
use common::{Cluster, Howdah, Target, Wire, login, msg};

const PORT: &str = "SELECT inet_server_port()";
const SOON: Duration = Duration::from_secs(10);

fn try_login(target: Target, user: &str, database: &str, password: &str) -> Result<Wire, login::LoginError> {
    Wire::login_with(target, &[("user", user), ("database", database)], Some(password))
}

fn refusal(target: Target, user: &str, database: &str, password: &str) -> String {
    let refused = try_login(target, user, database, password).err();
    refused.map(|error| error.code().to_owned()).unwrap_or_default()
}

/// Reloads and waits until that is done.
fn reload(howdah: &mut Howdah, change: impl FnOnce(common::howdah::Config) -> common::howdah::Config) {
    let before = howdah.log().matches("configuration reloaded").count();
    howdah.reload(change);
    wait_until("the configuration is reloaded", || {
        howdah.log().matches("configuration reloaded").count() > before
    });
}

#[test]
fn what_is_reloaded_during_a_login_holds_for_it() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::before(&cluster)
        .set("auth_type", "password")
        .user("app", "secret")
        .database("app", &cluster.location("app"))
        .database("gone", &cluster.location("other"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let begin = |database: &str| {
        let mut wire = Wire::connect(target).expect("somebody listens");
        wire.send(&msg::startup(&[("user", "app"), ("database", database)]));
        wire.expect("R");
        wire
    };
    let params = [("user", "app"), ("database", "app")];
    let mut stays = Wire::login_with(target, &params, Some("secret")).expect("there is room");
    let (mut late, mut lost) = (begin("app"), begin("gone"));
    reload(&mut howdah, |mut config| {
        config.databases.remove("gone");
        config.set("max_client_conn", 1)
    });
    for (wire, code) in [(&mut late, "53300"), (&mut lost, "3D000")] {
        wire.send(&msg::password(b"secret\0"));
        assert_eq!(wire.expect_fatal().code(), code);
    }
    assert_eq!(stays.value("SELECT 1"), "1");
}

#[test]
fn a_database_that_is_removed_lets_its_transactions_end() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::before(&cluster)
        .database("app", &cluster.location("app"))
        .database("gone", &cluster.location("other"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let mut stays = Wire::login(target, "app", "app");
    let mut idle = Wire::login(target, "app", "gone");
    let mut busy = Wire::login(target, "app", "gone");
    let mut listens = Wire::login(target, "app", "gone");
    idle.value("SELECT 1");
    let mut keeps = Wire::login(target, "app", "gone");
    listens.query("LISTEN a");
    keeps.query("CREATE TEMP TABLE kept (n int)");
    busy.query("BEGIN");
    reload(&mut howdah, |mut config| {
        config.databases.remove("gone");
        config
    });
    assert_eq!(refusal(target, "app", "gone", ""), "3D000");
    assert_eq!(busy.value("SELECT 'still here'"), "still here");
    assert_eq!(busy.query("COMMIT").status, 'I');
    assert_eq!(stays.value("SELECT 'untouched'"), "untouched");
    wait_until("its servers are closed", || {
        cluster.backends("datname = 'other'") == 0
    });
    assert_eq!(listens.expect_fatal().code(), "3D000");
    assert_eq!(keeps.expect_fatal().code(), "3D000");
    assert_eq!(idle.expect_fatal().code(), "3D000");

    reload(&mut howdah, |config| {
        config.database("gone", &cluster.location("other"))
    });
    assert_eq!(
        Wire::login(target, "app", "gone").value("SELECT current_database()"),
        "other"
    );
}

#[test]
fn a_host_that_is_changed_is_used_from_the_next_transaction_on() {
    let (old, new) = (Cluster::start(), Cluster::start());
    let mut howdah = Howdah::before(&old).database("app", &old.location("app")).start();
    if !howdah.is_howdah() {
        return;
    }
    let (old_port, new_port) = (old.target().port.to_string(), new.target().port.to_string());
    let mut wires: Vec<Wire> = (0..3).map(|_| Wire::app(howdah.target())).collect();
    for wire in &mut wires {
        assert_eq!(wire.value(PORT), old_port);
    }
    wires[0].query("BEGIN");
    reload(&mut howdah, |config| config.database("app", &new.location("app")));
    assert_eq!(wires[1].value(PORT), new_port);
    assert_eq!(wires[0].value(PORT), old_port, "a transaction stays where it is");
    assert_eq!(wires[0].query("COMMIT").status, 'I');
    for wire in &mut wires {
        assert_eq!(wire.value(PORT), new_port);
    }
    wait_until("nothing is left on the old one", || old.backends("true") == 0);
}

#[test]
fn a_password_for_the_server_is_changed_without_a_restart() {
    let cluster = Cluster::start();
    let forced = |password: &str| format!("{} user=scram_u password='{password}'", cluster.location("app"));
    let mut howdah = Howdah::before(&cluster)
        .database("app", &forced(&password_of("scram_u")))
        .set("query_wait_timeout", "10s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let mut wire = Wire::login(target, "anybody", "app");
    assert_eq!(wire.value("SELECT current_user"), "scram_u");
    cluster.sql("ALTER ROLE scram_u PASSWORD 'changed'");
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'scram_u'");
    wait_until("the servers are gone", || cluster.backends("true") == 0);
    wire.send(&msg::query("SELECT 1"));
    assert_eq!(wire.expect_fatal().code(), "28P01");
    reload(&mut howdah, |config| config.database("app", &forced("changed")));
    let mut wire = eventually("served with the new password", SOON, || {
        Wire::login_with(target, &[("user", "anybody"), ("database", "app")], None).ok()
    });
    assert_eq!(wire.value("SELECT current_user"), "scram_u");
}

#[test]
fn a_password_that_clients_must_say_is_changed_for_the_next_login() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::before(&cluster)
        .set("auth_type", "scram-sha-256")
        .user("app", "one")
        .user("trust_u", "another")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let mut inside = try_login(target, "app", "app", "one").expect("the password is right");
    reload(&mut howdah, |config| config.user("app", "two"));
    assert_eq!(refusal(target, "app", "app", "one"), "28P01");
    try_login(target, "app", "app", "two").expect("the new password");
    assert_eq!(inside.value("SELECT 'still here'"), "still here");
    reload(&mut howdah, |mut config| {
        config.users.remove("app");
        config
    });
    assert_eq!(refusal(target, "app", "app", "two"), "28P01");
    assert_eq!(inside.value("SELECT 'still here'"), "still here");
}

#[test]
fn limits_on_time_and_modes_hold_from_the_next_transaction_on() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    wire.value("SELECT 1");
    reload(&mut howdah, |config| config.set("query_timeout", "500ms"));
    wire.send(&msg::query("SELECT pg_sleep(30)"));
    assert_eq!(wire.expect_fatal().code(), "57014");
    reload(&mut howdah, |config| {
        config.set("query_timeout", 0).set("pool_mode", "statement")
    });
    let mut wire = Wire::app(howdah.target());
    wire.send(&msg::query("BEGIN"));
    let refused = match wire.try_answer() {
        Ok(answer) => answer.error,
        Err(fatal) => fatal,
    };
    assert!(refused.is_some(), "a transaction in statement mode");
}

#[test]
fn what_is_logged_can_be_changed() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let visit = |howdah: &Howdah, logged: (usize, usize)| {
        Wire::app(howdah.target()).terminate();
        thread::sleep(Duration::from_millis(300));
        wait_until("the log says it", || {
            let log = howdah.log();
            let count = |what: &str| {
                log.lines()
                    .filter(|line| line.contains(what) && line.contains("user=\"app\""))
                    .count()
            };
            (count("client logged in"), count("client left")) == logged
        });
    };
    visit(&howdah, (1, 1));
    reload(&mut howdah, |config| config.set("log_connections", false));
    visit(&howdah, (1, 2));
    reload(&mut howdah, |config| config.set("log_disconnections", false));
    visit(&howdah, (1, 2));
    reload(&mut howdah, |config| {
        config
            .set("log_connections", true)
            .set("log_disconnections", true)
    });
    visit(&howdah, (2, 3));
}

#[test]
fn systemd_is_told_of_a_reload_and_that_the_process_is_alive() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket of ours");
    systemd.set_read_timeout(Some(SOON)).expect("a socket of ours");
    let mut howdah = Howdah::before(&cluster).start_with(move |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    });
    if !howdah.is_howdah() {
        return;
    }
    let told = |wanted: &str| {
        let mut buffer = [0; 1000];
        loop {
            let read = systemd.recv(&mut buffer).expect("it is told in time");
            let message = String::from_utf8_lossy(&buffer[..read]).into_owned();
            if message.contains(wanted) {
                return message;
            }
        }
    };
    assert!(told("READY=1").contains("STATUS=serving clients"));
    told("WATCHDOG=1");
    howdah.reload(|config| config.set("default_pool_size", 2));
    assert!(told("RELOADING=1").contains("MONOTONIC_USEC="));
    told("READY=1");
    howdah.reload_text("[howdah\n");
    assert!(told("READY=1").contains("faulty"));
    howdah.signal(rustix::process::Signal::TERM);
    told("STOPPING=1");
}

#[test]
fn settings_that_need_a_restart_are_named_and_wait_for_it() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    reload(&mut howdah, |config| {
        config
            .set("workers", 1)
            .set("unix_socket_mode", "0700")
            .set("default_pool_size", 2)
    });
    let log = howdah.log();
    let line = log
        .lines()
        .find(|line| line.contains("restart"))
        .unwrap_or_default();
    for name in ["workers", "unix_socket_mode"] {
        assert!(line.contains(name), "{name} is not named: {log}");
    }
    assert!(!line.contains("default_pool_size"), "{line}");
    let mut wires: Vec<Wire> = (0..2).map(|_| Wire::app(howdah.target())).collect();
    for wire in &mut wires {
        assert_eq!(wire.query("BEGIN").status, 'T', "all else is in force");
    }
    let mut console = Console::open(howdah.target());
    let shown = ["workers", "unix_socket_mode", "default_pool_size"].map(|name| console.setting(name));
    assert_eq!(shown, ["2", "0777", "2"], "what is in force");
    // What is as it was at the start needs no restart, whatever the file said meanwhile.
    reload(&mut howdah, |config| {
        config.set("workers", 2).set("unix_socket_mode", "0777")
    });
    reload(&mut howdah, |config| config.set("default_pool_size", 3));
    assert_eq!(
        howdah.log().matches("after a restart").count(),
        1,
        "{}",
        howdah.log()
    );
}

#[test]
fn every_fault_of_a_new_file_is_logged_with_its_line_and_nothing_of_it_holds() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    howdah.reload_text(
        "[howdah]\nmax_client_conn = 1\npool_mod = \"session\"\nquery_timeout = \"soon\"\n[databases]\nx = \"prot=1\"\n",
    );
    howdah.wait_log("prot");
    let log = howdah.log();
    for part in [
        "howdah.toml:3",
        "pool_mode",
        "howdah.toml:4",
        "howdah.toml:6",
        "not reloaded",
    ] {
        assert!(log.contains(part), "{part} is not in the log:\n{log}");
    }
    assert_eq!(wire.value("SELECT 'as before'"), "as before");
    assert_eq!(
        Wire::app(howdah.target()).value("SELECT 'and for others'"),
        "and for others"
    );
}

#[test]
fn many_reloads_under_load_disturb_nobody() {
    let cluster = Cluster::start();
    let mut howdah = Howdah::with_pool(&cluster, 3);
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    thread::scope(|scope| {
        for client in 0..10 {
            scope.spawn(move || {
                let mut wire = Wire::app(target);
                for round in 0..100 {
                    wire.query("BEGIN");
                    assert_eq!(
                        wire.value(&format!("SELECT {client} * 1000 + {round}")),
                        (client * 1000 + round).to_string()
                    );
                    assert_eq!(wire.query("COMMIT").status, 'I');
                }
            });
        }
        for turn in 0..20 {
            howdah.reload(|config| config.set("default_pool_size", 1 + turn % 5));
            thread::sleep(Duration::from_millis(50));
        }
    });
    howdah.wait_log("configuration reloaded");
    wait_until("the pool has its last size", || cluster.backends("true") <= 5);
}

fn one_server_in_session_mode() -> Option<(Cluster, Howdah)> {
    let cluster = Cluster::start();
    let config = Howdah::before(&cluster).set("default_pool_size", 1);
    let howdah = config.set("pool_mode", "session").start();
    howdah.is_howdah().then_some((cluster, howdah))
}

#[test]
fn a_session_leaves_nothing_when_the_mode_is_changed_meanwhile() {
    let Some((_cluster, mut howdah)) = one_server_in_session_mode() else {
        return;
    };
    let mut wire = Wire::app(howdah.target());
    wire.query("SET search_path = pg_catalog");
    wire.query("BEGIN");
    reload(&mut howdah, |config| config.set("pool_mode", "transaction"));
    assert_eq!(wire.query("COMMIT").status, 'I');
    assert_eq!(
        wire.value("SHOW search_path"),
        "pg_catalog",
        "the session goes on"
    );
    wire.query("BEGIN");
    wire.vanish();
    let mut next = Wire::app(howdah.target());
    assert_eq!(next.value("SHOW search_path"), "\"$user\", public");
}

#[test]
fn who_waits_while_the_mode_is_changed_is_served_by_the_new_one() {
    let Some((_cluster, mut howdah)) = one_server_in_session_mode() else {
        return;
    };
    let mut holds = Wire::app(howdah.target());
    assert_eq!(holds.value("SELECT 1"), "1");
    let mut waits = Wire::app(howdah.target());
    waits.send(&msg::query("SET statement_timeout = '2h'"));
    Console::open(howdah.target()).wait_for_waiting(1);
    reload(&mut howdah, |config| config.set("pool_mode", "transaction"));
    holds.terminate();
    assert_eq!(waits.answer().code(), "");
    waits.query("BEGIN");
    waits.terminate();
    let mut next = Wire::app(howdah.target());
    assert_eq!(next.value("SHOW statement_timeout"), "0");
}

#[test]
fn what_was_ignored_is_nobodys_once_it_is_not() {
    let cluster = Cluster::start();
    for (name, before, after, leaves) in [
        (
            "session_state",
            "ignore",
            "follow",
            "SET work_mem = '99MB'; SELECT pg_advisory_lock(1)",
        ),
        (
            "opaque",
            "trust",
            "check",
            "DO $$ BEGIN PERFORM set_config('work_mem', '99MB', false); END $$",
        ),
    ] {
        let mut howdah = Howdah::before(&cluster)
            .set("default_pool_size", 1)
            .set(name, before)
            .start();
        if !howdah.is_howdah() {
            return;
        }
        let mut wire = Wire::app(howdah.target());
        wire.query(leaves);
        wire.terminate();
        reload(&mut howdah, |config| config.set(name, after));
        let mut next = Wire::app(howdah.target());
        assert_eq!(next.value("SHOW work_mem"), "4MB", "{name}");
        assert_eq!(
            next.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
            "0",
            "{name}"
        );
    }
}
