//! How clients leave, and what becomes of what they had asked for.

mod common;

use std::io::Write;
use std::thread;
use std::time::Duration;

use common::console::Console;
use common::net::wait_until;
use common::wire::PgError;
use common::{Cluster, Howdah, Wire, msg};

#[test]
fn what_is_asked_before_a_goodbye_is_answered_and_done() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    Wire::app(howdah.target()).query("CREATE TABLE done (n int)");
    let mut wire = Wire::app(howdah.target());
    let slow = msg::query("INSERT INTO done SELECT 1 FROM pg_sleep(0.3)");
    let batch = [
        slow,
        msg::parse("", "SELECT 7"),
        msg::run("", &[]),
        msg::sync(),
        msg::terminate(),
    ];
    wire.send(&batch.concat());
    assert_eq!(wire.answer().tags, ["INSERT 0 1"]);
    assert_eq!(wire.answer().rows, [[Some("7".to_owned())]]);
    assert!(
        matches!(wire.try_answer(), Err(None)),
        "then it is closed without a word"
    );

    // The same from one who does not stay to hear it.
    let mut wire = Wire::app(howdah.target());
    wire.send(
        &[
            msg::query("INSERT INTO done SELECT 2 FROM pg_sleep(0.3)"),
            msg::terminate(),
        ]
        .concat(),
    );
    drop(wire);
    let mut next = Wire::app(howdah.target());
    assert_eq!(
        next.value("SELECT sum(n) FROM done"),
        "3",
        "on the same server, so afterwards"
    );
}

#[test]
fn what_is_asked_before_a_goodbye_is_done_by_a_server_that_comes_later() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut holder = Wire::app(howdah.target());
    holder.query("CREATE TABLE done (n int)");
    let insert = |n| format!("INSERT INTO done SELECT {n} FROM pg_sleep(0.1)");
    holder.query("BEGIN");
    for (n, stays) in [(1, false), (2, true), (4, false)] {
        let mut wire = Wire::app(howdah.target());
        // What it has to wait for is behind something else, too.
        let others = if n == 4 {
            "SET work_mem = '7MB'"
        } else {
            "SELECT 1"
        };
        let requests = [msg::query(others), msg::query(&insert(n)), msg::terminate()];
        wire.send(&requests.concat());
        if stays {
            thread::spawn(move || while wire.try_answer().is_ok() {});
        } else {
            wire.expect_silence(Duration::from_millis(100));
            drop(wire);
        }
    }
    thread::sleep(Duration::from_millis(100));
    holder.query("COMMIT");
    wait_until("all of it is done", || {
        holder.value("SELECT sum(n) FROM done") == "7"
    });
}

/// Sends and sends until nobody takes it any more; what is not read when howdah closes makes the kernel reset the
/// connection, as it does PostgreSQL's.
fn told_while_it_sends(howdah: &Howdah, begin: &str, more: Vec<u8>, end: impl FnOnce()) -> PgError {
    let mut wire = Wire::app(howdah.target());
    wire.send(&msg::query(begin));
    let mut writer = wire.writer();
    let sender = thread::spawn(move || while writer.write_all(&more).is_ok() {});
    end();
    let frames = wire.expect_closed();
    sender.join().expect("it ends with the connection");
    frames.last().expect("an answer").error()
}

#[test]
fn who_is_in_the_middle_of_sending_is_told_why_it_is_let_go() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    Wire::app(howdah.target()).query("CREATE TABLE done (n int)");
    let copy = ("COPY done FROM STDIN", msg::copy_data(&b"1\n".repeat(20_000)));
    let queries = ("SELECT pg_sleep(60)", msg::query("SELECT 1").repeat(1_000));
    for (begin, more) in [copy, queries] {
        let busy = "usename = 'app' AND state = 'active'";
        let terminate = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {busy}");
        let mut console = Console::open(howdah.target());
        let ways: [&mut dyn FnMut(); 2] = [&mut || _ = cluster.sql(&terminate), &mut || {
            console.does("KILL");
        }];
        for end in ways {
            wait_until("nobody is at work", || cluster.backends(busy) == 0);
            let error = told_while_it_sends(&howdah, begin, more.clone(), || {
                wait_until("its server is at work", || cluster.backends(busy) == 1);
                end();
            });
            assert_eq!(
                (error.severity(), error.code()),
                ("FATAL", "57P01"),
                "{begin}: {error:?}"
            );
        }
        console.does("RESUME");
    }
}

/// Without its Sync a batch is not carried out to its end, whoever it is that ends it.
#[test]
fn what_a_client_has_done_in_a_batch_that_it_has_not_ended_is_undone() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut setting_up = Wire::app(cluster.target());
    setting_up.query("CREATE TABLE done (how text)");
    let insert = |how: &str| msg::extended(&format!("INSERT INTO done VALUES ('{how}')"), &[]);
    for (how, flushes, ends) in [
        ("vanished", false, msg::flush()),
        ("vanished behind an answer", true, msg::flush()),
        ("said goodbye", false, msg::terminate()),
        ("said goodbye behind an answer", true, msg::terminate()),
        (
            "behind others",
            true,
            [msg::sync(), insert("behind others"), msg::flush()].concat(),
        ),
    ] {
        let mut wire = Wire::app(howdah.target());
        wire.send(&insert(how));
        if flushes {
            wire.send(&msg::flush());
            wire.expect("12nC");
        }
        wire.send(&ends);
        wire.vanish();
    }
    let mut killed = Wire::app(howdah.target());
    killed.send(&[insert("killed"), msg::flush()].concat());
    killed.expect("12nC");
    if howdah.is_howdah() {
        Console::open(howdah.target()).does("KILL app");
        Console::open(howdah.target()).does("RESUME app");
    }
    drop(killed);
    let mut next = Wire::app(howdah.target());
    let found = next.value("SELECT coalesce(string_agg(how, ', '), '') FROM done");
    assert_eq!(found, "behind others", "its first batch was ended");
}
