//! PostgreSQL is killed, frozen, shut down and replaced while clients move money through howdah: the books balance,
//! every acknowledged commit is there, and everybody trades again.

mod common;

use std::thread;
use std::time::Duration;

use common::bank::{self, Trade};
use common::dice::Dice;
use common::health::Health;
use common::howdah::Config;
use common::net::wait_until;
use common::{Cluster, Howdah};
use rustix::process::{Signal, kill_process};

const SERVERS: usize = 3;

fn config(cluster: &Cluster) -> Config {
    Howdah::before(cluster)
        .set("default_pool_size", i64::try_from(SERVERS).expect("few"))
        .set("query_wait_timeout", "5s")
        .set("server_login_retry", "1s")
}

/// Clients trade while something is done to PostgreSQL.
fn while_trading(mut cluster: Cluster, disturb: impl FnOnce(&mut Cluster, &Trade)) {
    bank::open(&cluster);
    let howdah = config(&cluster).start();
    let health = Health::of(&howdah);
    let trade = Trade::start(howdah.target());
    disturb(&mut cluster, &trade);
    let ledger = trade.finish();
    ledger.audit(&cluster);
    if let Some(health) = health {
        health.check(&howdah, &cluster, SERVERS);
    }
}

/// A backend that works for howdah, if there is one just now.
fn a_backend(cluster: &Cluster, dice: &mut Dice) -> Option<i32> {
    let pids = cluster.backend_pids("usename = 'app'");
    (!pids.is_empty()).then(|| *dice.pick(&pids))
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        kill_process(pid, signal).ok();
    }
}

#[test]
fn the_books_balance_when_backends_are_terminated() {
    let mut dice = Dice::new(1);
    while_trading(bank::cluster().start(), |cluster, _| {
        for _ in 0..30 {
            if let Some(pid) = a_backend(cluster, &mut dice) {
                let function = *dice.pick(&["pg_terminate_backend", "pg_cancel_backend"]);
                cluster.sql(&format!("SELECT {function}({pid})"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn the_books_balance_when_a_backend_is_killed_and_postgresql_recovers() {
    let mut dice = Dice::new(2);
    while_trading(bank::cluster().start(), |cluster, trade| {
        for _ in 0..2 {
            let pid = a_backend(cluster, &mut dice).expect("all trade");
            signal(pid, Signal::KILL);
            trade.progress();
        }
    });
}

#[test]
fn the_books_balance_when_the_postmaster_is_killed() {
    while_trading(bank::cluster().start(), |cluster, trade| {
        cluster.stop(Signal::KILL);
        cluster.launch();
        trade.progress();
    });
}

#[test]
fn the_books_balance_when_postgresql_is_shut_down_at_once_and_in_haste() {
    while_trading(bank::cluster().start(), |cluster, trade| {
        for how in [Signal::QUIT, Signal::INT] {
            cluster.stop(how);
            cluster.launch();
            trade.progress();
        }
    });
}

#[test]
fn the_books_balance_when_postgresql_and_its_backends_freeze() {
    let mut dice = Dice::new(3);
    while_trading(bank::cluster().start(), |cluster, trade| {
        for _ in 0..3 {
            let pid = a_backend(cluster, &mut dice).expect("all trade");
            signal(pid, Signal::STOP);
            thread::sleep(Duration::from_millis(300));
            signal(pid, Signal::CONT);
        }
        cluster.pause();
        thread::sleep(Duration::from_secs(2));
        cluster.resume();
        trade.progress();
        // Longer than the clients' patience: they leave, and their transactions are not.
        let frozen = cluster.backend_pids("usename = 'app'");
        for pid in &frozen {
            signal(*pid, Signal::STOP);
        }
        thread::sleep(Duration::from_secs(8));
        for pid in &frozen {
            signal(*pid, Signal::CONT);
        }
    });
}

#[test]
fn the_books_balance_when_a_standby_is_promoted() {
    let mut primary = bank::cluster().start();
    bank::open(&primary);
    let standby = primary.standby();
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.sql("SELECT pg_reload_conf()");
    wait_until("the standby is asked before anything is acknowledged", || {
        primary.value("SELECT sync_state FROM pg_stat_replication") == "sync"
    });
    let ports = format!("{},{}", primary.target().port, standby.target().port);
    let both = format!("host=127.0.0.1,127.0.0.1 port={ports} dbname=app");
    let howdah = config(&primary).database("app", &both).start();
    if !howdah.is_howdah() {
        return;
    }
    let health = Health::of(&howdah).expect("it runs");
    let trade = Trade::start(howdah.target());
    primary.stop(Signal::QUIT);
    // Clients meet a database that can only be read.
    wait_until("servers are those of the standby", || {
        standby.backends("usename = 'app'") > 0
    });
    standby.sql("SELECT pg_promote()");
    trade.finish().audit(&standby);
    health.check(&howdah, &standby, SERVERS);
}
