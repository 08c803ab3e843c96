//! COPY in every direction, with every kind of accident.

mod common;

use std::time::Duration;

use common::net::wait_until;
use common::{Cluster, Howdah, Pair, Wire, msg};

/// So many rows for `t (a int, b text)`.
fn rows(count: u32) -> Vec<u8> {
    (0..count)
        .flat_map(|number| msg::copy_data(format!("{number}\trow {number}\n").as_bytes()))
        .collect()
}

fn make_table(wire: &mut Wire) {
    wire.query("CREATE TABLE t (a int, b text)");
}

#[test]
fn copy_in_by_a_simple_query() {
    Pair::alike_one_and_two(|wire| {
        make_table(wire);
        for _ in 0..3 {
            wire.send(&msg::query("COPY t FROM STDIN"));
            wire.expect("G");
            wire.send(&[rows(500), msg::copy_done()].concat());
            wire.until_ready();
            wire.query("SELECT count(*), sum(a) FROM t");
        }
        // All of it in one write, with what comes behind.
        wire.send(
            &[
                msg::query("COPY t FROM STDIN"),
                rows(10),
                msg::copy_done(),
                msg::query("SELECT 1"),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.until_ready();
        // Empty, in pieces that are no lines, and two in one query.
        wire.send(&[msg::query("COPY t FROM STDIN"), msg::copy_done()].concat());
        wire.until_ready();
        let pieces: Vec<u8> = b"1\tone\n2\ttwo\n"
            .iter()
            .flat_map(|byte| msg::copy_data(&[*byte]))
            .collect();
        wire.send(&[msg::query("COPY t FROM STDIN"), pieces, msg::copy_done()].concat());
        wire.until_ready();
        wire.send(&msg::query(
            "COPY t FROM STDIN; SELECT 'between'; COPY t FROM STDIN; SELECT 'last'",
        ));
        wire.expect("G");
        wire.send(&[rows(2), msg::copy_done()].concat());
        wire.expect("CTDCG");
        wire.send(&[rows(3), msg::copy_done()].concat());
        wire.until_ready();
        wire.query("SELECT count(*), sum(a) FROM t");
    });
}

#[test]
fn copy_in_by_the_extended_protocol() {
    Pair::alike_one_and_two(|wire| {
        make_table(wire);
        wire.send(&[msg::extended("COPY t FROM STDIN", &[]), msg::flush()].concat());
        wire.expect("12nG");
        wire.send(&[rows(100), msg::copy_done(), msg::sync()].concat());
        wire.until_ready();
        // A Sync that arrives during the copy is ignored: one ReadyForQuery comes, for the Sync behind.
        wire.send(&[msg::extended("COPY t FROM STDIN", &[]), msg::sync()].concat());
        wire.expect("12nG");
        wire.expect_silence(Duration::from_millis(100));
        wire.send(
            &[
                rows(10),
                msg::flush(),
                msg::sync(),
                rows(10),
                msg::copy_done(),
                msg::sync(),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.expect_silence(Duration::from_millis(100));
        wire.query("SELECT count(*) FROM t");
        // The whole in one write.
        wire.send(
            &[
                msg::extended("COPY t FROM STDIN", &[]),
                msg::sync(),
                rows(5),
                msg::copy_done(),
                msg::sync(),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.expect_silence(Duration::from_millis(100));
        wire.query("SELECT count(*) FROM t");
    });
}

#[test]
fn copy_out() {
    Pair::alike_one_and_two(|wire| {
        make_table(wire);
        wire.query("INSERT INTO t SELECT i, repeat('b', i % 100) FROM generate_series(1, 2000) i");
        for sql in [
            "COPY t TO STDOUT",
            "COPY t TO STDOUT (FORMAT csv, HEADER)",
            "COPY t TO STDOUT (FORMAT binary)",
            "COPY (SELECT 1 WHERE false) TO STDOUT",
            "COPY (SELECT 10 / (5 - i) FROM generate_series(1, 9) i) TO STDOUT",
            "COPY t TO STDOUT; SELECT 1; COPY (SELECT 2) TO STDOUT",
        ] {
            wire.query(sql);
        }
        wire.batch(&[
            msg::extended("COPY t TO STDOUT", &[]),
            msg::extended("SELECT 2", &[]),
        ]);
        wire.batch(&[msg::extended(
            "COPY (SELECT 10/(5-i) FROM generate_series(1, 9) i) TO STDOUT",
            &[],
        )]);
        wire.query("SELECT 'after'");
    });
}

#[test]
fn copy_that_the_client_gives_up() {
    Pair::alike_one_and_two(|wire| {
        make_table(wire);
        wire.send(
            &[
                msg::query("COPY t FROM STDIN"),
                rows(100),
                msg::copy_fail("changed my mind"),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.send(
            &[
                msg::extended("COPY t FROM STDIN", &[]),
                rows(9),
                msg::copy_fail("again"),
                msg::sync(),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.query("BEGIN");
        wire.send(
            &[
                msg::query("COPY t FROM STDIN"),
                rows(100),
                msg::copy_fail("in a transaction"),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.query("ROLLBACK");
        wire.query("SELECT count(*) FROM t");
    });
}

#[test]
fn a_query_during_copy_ends_the_connection() {
    let pair = Pair::with_pool(1);
    pair.alike(|wire| {
        make_table(wire);
        wire.send(&[msg::query("COPY t FROM STDIN"), rows(9), msg::query("SELECT 1")].concat());
        let fatal = wire.expect_fatal();
        assert_eq!(fatal.code(), "08P01");
    });
    assert_eq!(
        Wire::app(pair.howdah.target()).value("SELECT count(*) FROM t"),
        "0"
    );
}

#[test]
fn an_error_in_the_middle_and_late_copy_data() {
    Pair::alike_one_and_two(|wire| {
        make_table(wire);
        let bad = [rows(3), msg::copy_data(b"not a number\tx\n"), rows(2000)].concat();
        wire.send(&[msg::query("COPY t FROM STDIN"), bad.clone()].concat());
        wire.until_ready();
        // The client has not read yet that it failed, and goes on; PostgreSQL drops this without a word.
        wire.send(&[rows(10), msg::copy_done()].concat());
        wire.expect_silence(Duration::from_millis(100));
        wire.query("SELECT count(*) FROM t");
        wire.send(&[rows(1), msg::copy_fail("late")].concat());
        wire.query("SELECT 'copy messages out of place are dropped'");
        wire.send(
            &[
                msg::query("COPY t FROM STDIN"),
                bad.clone(),
                msg::copy_done(),
                msg::query("SELECT 1"),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.until_ready();
        // In the extended protocol the error skips to the Sync.
        wire.send(
            &[
                msg::extended("COPY t FROM STDIN", &[]),
                bad,
                msg::copy_done(),
                msg::sync(),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.expect_silence(Duration::from_millis(100));
        wire.send(
            &[
                msg::query("COPY no_such_table FROM STDIN"),
                rows(5),
                msg::copy_done(),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.query("SELECT 'after'");
    });
}

#[test]
fn copy_in_a_pipeline() {
    Pair::alike_one_and_two(|wire| {
        make_table(wire);
        wire.send(
            &[
                msg::extended("INSERT INTO t VALUES (1, 'before')", &[]),
                msg::extended("COPY t FROM STDIN", &[]),
                rows(5),
                msg::copy_done(),
                msg::extended("SELECT count(*) FROM t", &[]),
                msg::sync(),
                msg::query("SELECT 'next'"),
                msg::extended("COPY t TO STDOUT", &[]),
                msg::sync(),
            ]
            .concat(),
        );
        (0..3).for_each(|_| drop(wire.until_ready()));
        wire.query("SELECT 'after'");
    });
}

#[test]
fn a_hundred_megabytes_in_and_out() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut wire = Wire::app(howdah.target());
    wire.query("CREATE UNLOGGED TABLE big (line text)");
    wire.send(&msg::query("COPY big FROM STDIN"));
    wire.expect("G");
    let line = format!("{}\n", "l".repeat(9999));
    let chunk = msg::copy_data(line.repeat(100).as_bytes());
    (0..50).for_each(|_| wire.send(&chunk));
    wire.send(&msg::copy_done());
    assert_eq!(wire.answer().tags, ["COPY 5000"]);
    for _ in 0..2 {
        wire.send(&msg::query("COPY big TO STDOUT"));
        let frames = wire.until_ready();
        let bytes: usize = frames
            .iter()
            .filter(|frame| frame.kind == b'd')
            .map(|frame| frame.body.len())
            .sum();
        assert_eq!(bytes, 50_000_000);
    }
}

#[test]
fn a_client_that_dies_during_copy_leaves_nothing() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    cluster.sql("CREATE TABLE t (a int, b text); GRANT ALL ON t TO app");
    for extended in [false, true] {
        let mut wire = Wire::app(howdah.target());
        let sql = "COPY t FROM STDIN";
        wire.send(&if extended {
            [msg::extended(sql, &[]), msg::flush()].concat()
        } else {
            msg::query(sql)
        });
        while wire.read().kind != b'G' {}
        wire.send(&rows(1000));
        wire.vanish();
        assert_eq!(
            Wire::app(howdah.target()).value("SELECT count(*) FROM t"),
            "0",
            "extended: {extended}"
        );
    }
    // In the middle of one CopyData.
    let mut wire = Wire::app(howdah.target());
    wire.send(&msg::query("COPY t FROM STDIN"));
    wire.expect("G");
    wire.send(&msg::copy_data(&[b'x'; 5000])[..2500]);
    wire.vanish();
    assert_eq!(Wire::app(howdah.target()).value("SELECT count(*) FROM t"), "0");
}

#[test]
fn a_client_that_dies_during_copy_out_stops_it() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for (polite, transaction) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut wire = Wire::app(howdah.target());
        if transaction {
            wire.query("BEGIN");
        }
        wire.send(&msg::query(
            "COPY (SELECT repeat('x', 1000), generate_series(1, 100000000)) TO STDOUT",
        ));
        wire.expect("Hd");
        // psycopg's `break` out of a copy block: Terminate while rows are still coming.
        if polite {
            wire.terminate();
        } else {
            wire.vanish();
        }
        wait_until("the copy is stopped", || {
            cluster.backends("state = 'active'") == 0
        });
        assert_eq!(Wire::app(howdah.target()).value("SELECT 'next'"), "next");
    }
}

/// tokio-postgres ends its COPY so: a Sync behind the Execute, which the copy data swallow, and one behind `CopyFail`.
#[test]
fn who_keeps_its_server_keeps_it_behind_a_copy_that_fails() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    for (at, end) in [msg::copy_fail("enough"), msg::copy_done()]
        .into_iter()
        .enumerate()
    {
        let mut wire = Wire::app(howdah.target());
        wire.query("CREATE TEMPORARY TABLE foo (id int)");
        let pid = wire.value("SELECT pg_backend_pid()");
        wire.batch(&[
            msg::parse("copy", "COPY foo FROM STDIN"),
            msg::describe_statement("copy"),
        ]);
        let copy = [msg::bind("", "copy", &[]), msg::execute("", 0), msg::sync()].concat();
        wire.send(&copy);
        wire.expect("2G");
        let select = [
            msg::parse("s", "SELECT count(*) FROM foo"),
            msg::describe_statement("s"),
            msg::sync(),
        ]
        .concat();
        wire.send(&[msg::copy_data(b"1\n"), end, msg::sync(), select].concat());
        wire.until_ready();
        wire.until_ready();
        assert_eq!(wire.value("SELECT pg_backend_pid()"), pid);
        let counted = wire.extended(&[msg::run("s", &[])]);
        assert_eq!(counted.value(), ["0", "1"][at]);
    }
}
