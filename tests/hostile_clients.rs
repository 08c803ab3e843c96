//! Clients that bend the protocol, by mistake or on purpose: whatever they do, they do it to themselves.

mod common;

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use common::net::wait_until;
use common::{Cluster, Howdah, Pair, Wire, msg};

/// A table of numbers, on which letters are an error.
fn make_table(cluster: &Cluster) {
    cluster.sql("CREATE TABLE numbers (n int); GRANT ALL ON numbers TO PUBLIC");
}

#[test]
fn a_query_that_was_passed_over_leaves_no_other_clients_unnamed_statement_behind() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let (mut owner, mut thief) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
    assert_eq!(owner.batch(&[msg::parse("", "SELECT 'secret'")]), "1Z");
    // The Query would have done away with the unnamed statement, but the error before it keeps it from running.
    let answer = thief.extended(&[msg::bind("", "no such", &[]), msg::query("SELECT 1")]);
    assert_eq!(answer.code(), "26000");
    let answer = thief.extended(&[msg::bind("", "", &[]), msg::execute("", 0)]);
    assert_eq!((answer.code(), answer.rows.len()), ("26000", 0));
    // Nor has a client lost its own in that way.
    assert_eq!(owner.batch(&[msg::parse("", "SELECT 'secret'")]), "1Z");
    owner.extended(&[msg::bind("", "no such", &[]), msg::query("SELECT 1")]);
    let answer = owner.extended(&[msg::bind("", "", &[]), msg::execute("", 0)]);
    assert_eq!(answer.value(), "secret");
}

#[test]
fn answers_that_nobody_can_count_never_reach_another_client() {
    let cluster = Cluster::start();
    make_table(&cluster);
    let howdah = Howdah::with_pool(&cluster, 1);
    let bad = || msg::copy_data(b"not a number\n");
    let slow = || msg::query("SELECT 'poison' FROM pg_sleep(0.2)");
    let copy = || {
        [
            msg::parse("", "COPY numbers FROM STDIN"),
            msg::bind("", "", &[]),
            msg::execute("", 0),
        ]
        .concat()
    };
    let attacks = [
        // By the time the server reads the Query the COPY has failed, and so it answers.
        (msg::query("COPY numbers FROM STDIN"), [bad(), slow()].concat()),
        // The first Sync may be read as part of the COPY or not.
        (
            [copy(), msg::flush()].concat(),
            [bad(), msg::sync(), msg::copy_done(), msg::sync(), slow()].concat(),
        ),
        (
            [copy(), msg::sync()].concat(),
            [bad(), msg::sync(), msg::sync(), slow()].concat(),
        ),
    ];
    for (begin, end) in attacks {
        let (mut attacker, mut other) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
        attacker.send(&begin);
        while attacker.read().kind != b'G' {}
        attacker.send(&end);
        for turn in 0..20 {
            let wanted = turn.to_string();
            let answer = other.query(&format!("SELECT {turn}"));
            assert_eq!((answer.value(), answer.status), (wanted.as_str(), 'I'));
        }
        attacker.vanish();
    }
}

#[test]
fn a_deallocation_in_an_open_segment_is_answered_and_ends_it() {
    Pair::alike_one_and_two(|wire| {
        for sql in [
            "DEALLOCATE ALL",
            "DEALLOCATE s",
            "DEALLOCATE \"no such\"",
            "SELECT 1; DEALLOCATE s",
        ] {
            wire.query("CREATE TABLE IF NOT EXISTS t (a int)");
            wire.batch(&[msg::parse("s", "SELECT 's'")]);
            wire.send(&[msg::extended("INSERT INTO t VALUES (1)", &[]), msg::query(sql)].concat());
            wire.until_ready();
            wire.query("SELECT count(*) FROM t");
            wire.batch(&[msg::run("s", &[])]);
            wire.batch(&[msg::close_statement("s")]);
        }
    });
}

#[test]
fn a_time_limit_of_the_server_that_strikes_between_two_requests() {
    Pair::alike_one_and_two(|wire| {
        wire.query("BEGIN");
        wire.query("SET LOCAL statement_timeout = '150ms'");
        wire.send(&[msg::parse("", "SELECT 1"), msg::flush()].concat());
        wire.expect("1");
        // It is over, which the server notices with the next message that it reads, whatever that is.
        thread::sleep(Duration::from_millis(300));
        wire.send(&msg::flush());
        wire.expect("E");
        wire.send(
            &[
                msg::extended("SELECT 2", &[]),
                msg::query("SELECT 3"),
                msg::sync(),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.query("ROLLBACK");
        wire.query("SELECT 4");
    });
}

#[test]
fn names_like_those_of_howdah_hurt_nobody_else() {
    let cluster = Cluster::start();
    // PREPARE keeps one of them in the end.
    let howdah = Howdah::with_pool(&cluster, 2);
    let (mut wire, mut other) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
    let mut late = Wire::app(howdah.target());
    for n in 0..5 {
        let name = format!("s{n}");
        wire.batch(&[msg::parse(&name, &format!("SELECT {n}"))]);
        wire.batch(&[msg::run(&name, &[])]);
    }
    let check = |wire: &mut Wire| {
        for n in 0..5 {
            let answer = wire.extended(&[msg::run(&format!("s{n}"), &[])]);
            assert_eq!(answer.value(), n.to_string());
        }
    };
    for n in 0..12 {
        let answer = other.query(&format!("DEALLOCATE howdah_{n}"));
        let message = format!("prepared statement \"howdah_{n}\" does not exist");
        let error = answer.error.expect("nobody else's statement can be deallocated");
        assert_eq!((error.code(), error.message()), ("26000", message.as_str()));
    }
    check(&mut wire);
    for n in 0..12 {
        other.query(&format!("SELECT 1; DEALLOCATE howdah_{n}"));
        other.extended(&[msg::extended(&format!("DEALLOCATE howdah_{n}"), &[])]);
    }
    check(&mut wire);
    // A statement of one's own by such a name is one's own.
    for n in 0..12 {
        let name = format!("howdah_{n}");
        other.batch(&[msg::parse(&name, &format!("SELECT 'mine {n}'"))]);
        assert_eq!(
            other.extended(&[msg::run(&name, &[])]).value(),
            format!("mine {n}")
        );
        assert_eq!(other.query(&format!("SELECT 1; DEALLOCATE {name}")).code(), "");
        assert_eq!(other.extended(&[msg::run(&name, &[])]).code(), "26000");
    }
    check(&mut wire);
    // And names that howdah has not given yet cannot be taken away from it.
    for n in 20..80 {
        other.query(&format!("PREPARE howdah_{n} AS SELECT 'wrong'"));
    }
    for n in 0..20 {
        let name = format!("late{n}");
        assert_eq!(
            late.batch(&[msg::parse(&name, &format!("SELECT 'late {n}'"))]),
            "1Z"
        );
        assert_eq!(
            late.extended(&[msg::run(&name, &[])]).value(),
            format!("late {n}")
        );
    }
}

#[test]
fn a_client_that_leaves_within_a_message_has_its_query_cancelled() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let sleeping = "state = 'active' AND query LIKE '%pg_sleep(1000)%' AND pid <> pg_backend_pid()";
    let half = &msg::copy_data(&[b'x'; 100])[..50];
    let mut wire = Wire::app(howdah.target());
    wire.send(&[&msg::query("SELECT pg_sleep(1000)"), half].concat());
    wait_until("the query runs", || cluster.backends(sleeping) == 1);
    wire.vanish();
    wait_until("the query is cancelled", || cluster.backends(sleeping) == 0);
    assert_eq!(Wire::app(howdah.target()).value("SELECT 'served'"), "served");
}

#[test]
fn a_client_that_leaves_with_answers_of_howdahs_own_due_costs_no_server() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let pid = Wire::app(howdah.target()).value("SELECT pg_backend_pid()");
    for _ in 0..3 {
        let mut wire = Wire::app(howdah.target());
        assert_eq!(wire.query("BEGIN").status, 'T');
        wire.batch(&[msg::parse("s", "SELECT 1")]);
        wire.send(&[msg::close_statement("s"), msg::terminate()].concat());
        wire.expect_closed();
        // A COPY that begins when its client is gone already.
        let mut wire = Wire::app(howdah.target());
        wire.send(
            &[
                msg::query("CREATE TEMP TABLE t (n int) ON COMMIT DROP; COPY t FROM STDIN"),
                msg::terminate(),
            ]
            .concat(),
        );
        wire.expect_closed();
    }
    assert_eq!(Wire::app(howdah.target()).value("SELECT pg_backend_pid()"), pid);
}

#[test]
fn requests_without_end_are_not_kept_in_memory() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let Some(pid) = howdah.pid() else { return };
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the pooler runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .expect("Linux tells it");
        line.split_whitespace()
            .nth(1)
            .and_then(|kb| kb.parse::<u64>().ok())
            .expect("a number of kB")
    };
    const COUNT: usize = 400_000;
    let mut wire = Wire::app(howdah.target());
    let before = peak();
    let mut writer = wire.writer();
    let flood = [
        msg::query("SELECT pg_sleep(1)"),
        msg::close_statement("x").repeat(COUNT),
        msg::sync(),
    ]
    .concat();
    let writing = thread::spawn(move || writer.write_all(&flood));
    wire.expect("TDCZ");
    assert_eq!(wire.kinds_until_ready().len(), COUNT + 1);
    writing.join().expect("it does not panic").expect("all is taken");
    let grown = peak() - before;
    assert!(
        grown < 12_000,
        "{grown} kB for requests that were not answered yet"
    );
}

#[test]
fn what_one_client_set_and_cannot_be_taken_back_is_no_other_clients_error() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let params = [
        ("user", "app"),
        ("database", "app"),
        (
            "options",
            "-c transaction_isolation=serializable -c default_statistics_target=7",
        ),
    ];
    let Ok(mut odd) = Wire::login_with(howdah.target(), &params, None) else {
        return;
    };
    let mut plain = Wire::app(howdah.target());
    for _ in 0..3 {
        odd.query("SELECT 1");
        assert_eq!(plain.value("SHOW default_statistics_target"), "100");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_goodbye_before_the_first_word_gets_no_answer() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for target in [cluster.target(), howdah.target()] {
        let mut wire = Wire::connect(target).expect("it listens");
        wire.send(b"X\0\0\0\x04\0\0\0");
        assert!(wire.expect_closed().is_empty());
    }
}

#[test]
fn a_message_with_more_in_it_than_belongs_there_is_an_error() {
    Pair::alike_one_and_two(|wire| {
        for long in [msg::typed(b'S', b"x"), msg::typed(b'H', b"x")] {
            let needs_sync = long[0] == b'H';
            wire.send(&long);
            if needs_sync {
                wire.send(&[msg::extended("SELECT 1", &[]), msg::sync()].concat());
            }
            wire.until_ready();
            wire.query("SELECT 2");
            wire.query("BEGIN");
            wire.send(&[msg::extended("SELECT 3", &[]), long].concat());
            if needs_sync {
                wire.send(&msg::sync());
            }
            wire.until_ready();
            wire.query("SELECT 4");
            wire.query("ROLLBACK");
        }
    });
}

#[test]
fn an_error_that_a_client_makes_up_says_what_it_was_made_to_say() {
    Pair::alike_one_and_two(|wire| {
        for n in 0..4 {
            wire.batch(&[msg::parse(&format!("s{n}"), &format!("SELECT {n}"))]);
            wire.batch(&[msg::run(&format!("s{n}"), &[])]);
        }
        for code in ["26000", "42P05", "08P01"] {
            let made_up = format!(
                "DO $$BEGIN RAISE EXCEPTION '%', (SELECT string_agg('howdah_' || n, ' ') FROM generate_series(0, 50) n)
                 USING errcode = '{code}'; END$$"
            );
            wire.query(&made_up);
            wire.batch(&[msg::parse("mine", &made_up), msg::run("mine", &[])]);
            wire.batch(&[msg::close_statement("mine")]);
        }
        // What PostgreSQL says itself has the client's name.
        wire.batch(&[msg::bind("", "s0", &[Some("one too many")])]);
        wire.batch(&[msg::parse("s1", "SELECT 1")]);
        wire.batch(&[msg::describe_statement("howdah_1")]);
    });
}
