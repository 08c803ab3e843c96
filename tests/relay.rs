//! Messages go through: simple, extended, pipelined, flushed, huge, and by clients that die on the way.

mod common;

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use common::net::wait_until;
use common::{Cluster, Howdah, Pair, Wire, msg};

#[test]
fn simple_queries() {
    Pair::with_pool(2).alike(|wire| {
        for sql in [
            "SELECT 1, NULL, 'text', 1.5::float8",
            "SELECT 1; SELECT 2; SELECT 3",
            "",
            "   ",
            ";",
            "-- nothing\n",
            "SELECT",
            "SELECT 1/0",
            "SELECT 1; SELECT 1/0; SELECT 3",
            "SELEKT",
            "CREATE TABLE t (a int PRIMARY KEY, b text)",
            "INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 100) i",
            "SELECT * FROM t ORDER BY a",
            "UPDATE t SET b = 'x' WHERE a < 10 RETURNING a",
            "INSERT INTO t VALUES (1, 'twice')",
            "EXPLAIN (COSTS OFF) SELECT * FROM t WHERE a = 1",
            "SHOW server_version",
            "VACUUM t",
            "SELECT 'é', E'a\\nb', $$ dollar $$, U&'\\0041'",
        ] {
            wire.query(sql);
        }
    });
}

#[test]
fn transactions_in_every_shape() {
    Pair::with_pool(2).alike(|wire| {
        wire.query("CREATE TABLE t (a int)");
        for sql in [
            "BEGIN",
            "INSERT INTO t VALUES (1)",
            "COMMIT",
            "BEGIN",
            "INSERT INTO t VALUES (2)",
            "SELECT 1/0",
            "SELECT 1",
            "COMMIT",
            "SELECT count(*) FROM t",
            "BEGIN; SELECT 1/0; ROLLBACK",
            "SELECT 1",
            "ROLLBACK",
            "BEGIN",
            "SAVEPOINT a",
            "SELECT 1/0",
            "ROLLBACK TO a",
            "INSERT INTO t VALUES (3)",
            "RELEASE a",
            "COMMIT",
            "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
            "INSERT INTO t VALUES (4)",
            "ROLLBACK",
            "COMMIT",
            "ROLLBACK",
            "BEGIN",
            "BEGIN",
            "COMMIT AND CHAIN",
            "SELECT 5",
            "ROLLBACK",
            "INSERT INTO t VALUES (5); SELECT 1/0",
            "SELECT count(*) FROM t",
            "BEGIN; INSERT INTO t VALUES (6)",
            "COMMIT; SELECT 1",
            "BEGIN",
            "PREPARE TRANSACTION 'two'",
            "SELECT 1",
            "COMMIT PREPARED 'two'",
        ] {
            wire.query(sql);
        }
    });
}

#[test]
fn extended_queries() {
    Pair::alike_one_and_two(|wire| {
        wire.query("CREATE TABLE t (a int, b text)");
        wire.batch(&[msg::extended("SELECT $1::int + 1", &[Some("41")])]);
        wire.batch(&[msg::extended("INSERT INTO t VALUES ($1, $2)", &[Some("1"), None])]);
        wire.batch(&[msg::extended("", &[])]);
        wire.batch(&[]);
        wire.batch(&[
            msg::parse("s", "SELECT a, b FROM t WHERE a = $1"),
            msg::describe_statement("s"),
        ]);
        wire.batch(&[
            msg::bind("p", "s", &[Some("1")]),
            msg::describe_portal("p"),
            msg::execute("p", 0),
        ]);
        wire.batch(&[msg::execute("p", 0)]);
        wire.batch(&[msg::bind("", "s", &[Some("not a number")]), msg::execute("", 0)]);
        wire.batch(&[msg::bind("", "s", &[]), msg::execute("", 0)]);
        wire.batch(&[
            msg::close_statement("s"),
            msg::close_statement("never was"),
            msg::close_portal("nor this"),
        ]);
        wire.batch(&[msg::run("s", &[Some("1")])]);
        wire.batch(&[
            msg::parse_types("", "SELECT $1", &[17]),
            msg::bind_binary("", "", b"\0\xff"),
            msg::execute("", 0),
        ]);
        wire.batch(&[msg::extended("SELECT 1; SELECT 2", &[])]);
        wire.batch(&[msg::extended("BEGIN", &[])]);
        wire.batch(&[msg::extended("SELECT 1/0", &[]), msg::extended("SELECT 2", &[])]);
        wire.batch(&[msg::extended("SELECT 3", &[])]);
        wire.batch(&[msg::extended("ROLLBACK", &[])]);
    });
}

#[test]
fn an_error_skips_to_the_next_sync() {
    Pair::alike_one_and_two(|wire| {
        let unit = |sql| [msg::extended(sql, &[]), msg::sync()].concat();
        wire.send(
            &[
                unit("SELECT 1"),
                msg::extended("SELECT 1/0", &[]),
                unit("SELECT 2"),
                unit("SELECT 3"),
            ]
            .concat(),
        );
        (0..3).for_each(|_| drop(wire.until_ready()));
        wire.send(
            &[
                msg::parse("s", "SELEKT"),
                msg::describe_statement("s"),
                msg::close_statement("s"),
            ]
            .concat(),
        );
        wire.send(&[msg::parse("s", "SELECT 7"), msg::sync()].concat());
        wire.until_ready();
        wire.batch(&[msg::run("s", &[])]);
        wire.batch(&[
            msg::bind("", "unknown", &[]),
            msg::flush(),
            msg::parse("x", "SELECT 1"),
            msg::flush(),
        ]);
        wire.batch(&[msg::run("x", &[])]);
    });
}

#[test]
fn pipelines_with_many_syncs_in_flight() {
    Pair::alike_one_and_two(|wire| {
        let mut pipeline = Vec::new();
        for number in 0..300 {
            let sql = match number % 7 {
                3 => "SELECT 1/$1::int * 0".to_owned(),
                5 => "BEGIN".to_owned(),
                6 => "COMMIT".to_owned(),
                _ => format!("SELECT $1::int + {number}"),
            };
            let values: &[Option<&str>] = if sql.contains('$') { &[Some("0")] } else { &[] };
            pipeline.extend(msg::extended(&sql, values));
            pipeline.extend(msg::sync());
            if number % 11 == 0 {
                pipeline.extend(msg::query("SELECT 'a simple query between'"));
            }
        }
        wire.send(&pipeline);
        for _ in 0..300 + 28 {
            wire.until_ready();
        }
        wire.expect_silence(Duration::from_millis(50));
    });
}

#[test]
fn simple_queries_one_behind_the_other() {
    Pair::with_pool(2).alike(|wire| {
        let all: Vec<u8> = (0..50)
            .flat_map(|number| msg::query(&format!("SELECT {number}; SELECT 'b'")))
            .collect();
        wire.send(&all);
        (0..50).for_each(|_| drop(wire.until_ready()));
    });
}

#[test]
fn flush_brings_what_is_there_and_nothing_else() {
    Pair::alike_one_and_two(|wire| {
        wire.send(&msg::flush());
        wire.expect_silence(Duration::from_millis(100));
        wire.query("SELECT 1");
        wire.send(&[msg::flush(), msg::flush()].concat());
        wire.expect_silence(Duration::from_millis(100));
        wire.query("SELECT 2");
        wire.send(&[msg::parse("", "SELECT 3"), msg::flush()].concat());
        wire.expect("1");
        wire.send(&[msg::bind("", "", &[]), msg::describe_portal(""), msg::flush()].concat());
        wire.expect("2T");
        wire.send(&[msg::execute("", 0), msg::flush()].concat());
        wire.expect("DC");
        wire.expect_silence(Duration::from_millis(100));
        wire.batch(&[]);
        wire.send(
            &[
                msg::extended("SELECT 1/0", &[]),
                msg::flush(),
                msg::extended("SELECT 4", &[]),
                msg::flush(),
            ]
            .concat(),
        );
        wire.expect("1E");
        wire.expect_silence(Duration::from_millis(100));
        wire.batch(&[]);
        wire.send(&[msg::extended("SELECT 5", &[]), msg::sync(), msg::flush()].concat());
        wire.until_ready();
        wire.expect_silence(Duration::from_millis(100));
    });
}

#[test]
fn a_flush_takes_no_server_from_the_pool() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut flusher = Wire::app(howdah.target());
    flusher.query("SELECT 1");
    flusher.send(&msg::flush());
    assert_eq!(Wire::app(howdah.target()).value("SELECT 2"), "2");
    flusher.send(&[msg::extended("SELECT 3", &[]), msg::sync(), msg::flush()].concat());
    assert_eq!(flusher.kinds_until_ready(), "12TDCZ");
    assert_eq!(Wire::app(howdah.target()).value("SELECT 4"), "4");
}

#[test]
fn portals_are_suspended_and_go_on() {
    Pair::alike_one_and_two(|wire| {
        wire.query("BEGIN");
        let start = [
            msg::parse("", "SELECT generate_series(1, 10)"),
            msg::bind("p", "", &[]),
            msg::execute("p", 3),
        ];
        wire.batch(&start);
        wire.batch(&[msg::execute("p", 3)]);
        wire.query("SELECT 'in between'");
        wire.batch(&[msg::execute("p", 0), msg::execute("p", 0)]);
        wire.query("COMMIT");
        wire.batch(&[msg::execute("p", 0)]);
        wire.batch(&start);
        wire.batch(&[msg::execute("p", 3)]);
        wire.send(&[start.concat(), msg::flush()].concat());
        wire.expect("12DDDs");
        wire.batch(&[msg::execute("p", 4), msg::close_portal("p")]);
        wire.query("BEGIN");
        wire.query("DECLARE c SCROLL CURSOR FOR SELECT generate_series(1, 10)");
        wire.batch(&[msg::describe_portal("c")]);
        wire.query("FETCH 4 FROM c");
        wire.query("MOVE -2 IN c");
        wire.query("FETCH 1 FROM c");
        wire.query("CLOSE c; COMMIT");
        wire.query("FETCH 1 FROM c");
    });
}

#[test]
fn function_calls() {
    Pair::with_pool(2).alike(|wire| {
        const INT4ABS: u32 = 1251;
        for arguments in [&["-5"][..], &["x"], &[]] {
            wire.send(&msg::function_call(INT4ABS, arguments));
            wire.until_ready();
        }
        wire.query("BEGIN");
        wire.send(&msg::function_call(INT4ABS, &["-6"]));
        wire.until_ready();
        wire.query("COMMIT");
        wire.send(
            &[
                msg::function_call(INT4ABS, &["1"]),
                msg::query("SELECT 1"),
                msg::function_call(0, &[]),
            ]
            .concat(),
        );
        (0..3).for_each(|_| drop(wire.until_ready()));
    });
}

#[test]
fn notices_and_warnings() {
    Pair::with_pool(2).alike(|wire| {
        wire.query(
            "DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two' USING HINT = 'h', ERRCODE = '01234'; END $$",
        );
        wire.query("DROP TABLE IF EXISTS not_there");
        wire.query("COMMIT");
        wire.batch(&[msg::extended(
            "DO $$ BEGIN RAISE NOTICE 'three'; RAISE EXCEPTION 'four'; END $$",
            &[],
        )]);
        wire.query("SELECT 1");
    });
}

#[test]
fn every_field_of_an_error_arrives() {
    Pair::with_pool(2).alike(|wire| {
        wire.query("CREATE TABLE t (a int CONSTRAINT positive CHECK (a > 0) NOT NULL UNIQUE)");
        for sql in [
            "INSERT INTO t VALUES (-1)",
            "INSERT INTO t VALUES (NULL)",
            "INSERT INTO t VALUES (1), (1)",
            "SELECT * FROM no_such_table WHERE x = 1",
            "DO $$ BEGIN PERFORM 1/0; END $$",
            "DO $$ BEGIN RAISE EXCEPTION 'm' USING DETAIL='d', HINT='h', ERRCODE='ZZ999', COLUMN='c', TABLE='t'; END $$",
        ] {
            wire.query(sql);
            wire.batch(&[msg::extended(sql, &[])]);
        }
    });
}

#[test]
fn sent_one_byte_at_a_time() {
    Pair::with_pool(2).alike(|wire| {
        let bytes = [
            msg::query("SELECT 1"),
            msg::extended("SELECT $1::text", &[Some("slowly")]),
            msg::sync(),
            msg::parse("s", "SELECT 'named'"),
            msg::run("s", &[]),
            msg::close_statement("s"),
            msg::sync(),
        ]
        .concat();
        for byte in bytes {
            wire.send(&[byte]);
        }
        (0..3).for_each(|_| drop(wire.until_ready()));
    });
}

#[test]
fn many_rows_and_wide_rows() {
    Pair::with_pool(2).alike(|wire| {
        wire.query("SELECT i, repeat('x', i % 300) FROM generate_series(1, 20000) i");
        wire.query("SELECT repeat('y', 100000 * i) FROM generate_series(1, 12) i");
        wire.batch(&[msg::extended("SELECT repeat($1, 3000000)", &[Some("z")])]);
        let columns: Vec<String> = (0..1000).map(|number| format!("{number} AS c{number}")).collect();
        wire.query(&format!("SELECT {}", columns.join(", ")));
    });
}

/// Peak resident memory of a process in kB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the pooler is running");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("Linux says VmHWM");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number")
}

#[test]
fn huge_values_stream_both_ways_in_little_memory() {
    const SIZE: usize = 64 << 20;
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut wire = Wire::app(howdah.target());
    wire.query("SELECT 1");
    let before = howdah.pid().filter(|_| howdah.is_howdah()).map(peak_memory);
    let value: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    let ask = [
        msg::parse_types("", "SELECT $1", &[17]),
        msg::bind_binary("", "", &value),
        msg::execute("", 0),
        msg::sync(),
    ];
    wire.send(&ask.concat());
    let frames = wire.until_ready();
    let row = frames
        .iter()
        .find(|frame| frame.kind == b'D')
        .unwrap_or_else(|| panic!("no row: {frames:?}"));
    assert!(row.body[6..] == value, "the value came back changed");
    let sql = format!("SELECT length('{}')", "s".repeat(SIZE / 2));
    assert_eq!(wire.value(&sql), (SIZE / 2).to_string());
    assert_eq!(wire.value("SELECT 'well'"), "well");
    if let Some(before) = before {
        let grown = howdah.pid().map(peak_memory).expect("it is running") - before;
        assert!(
            grown < 32 << 10,
            "a value of 64 MB made the pooler grow by {grown} kB"
        );
    }
}

/// Writes a pipeline from another thread, so that the reader can start late.
fn write_aside(wire: &Wire, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    let mut writer = wire.writer();
    writer
        .set_write_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout can be set");
    thread::spawn(move || {
        writer
            .write_all(&bytes)
            .expect("the pipeline is taken in the end (a deadlock?)");
    })
}

#[test]
fn thirty_megabytes_of_requests_before_the_first_read() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut wire = Wire::app(howdah.target());
    let text = "q".repeat(100_000);
    let unit = [
        msg::extended("SELECT length($1)", &[Some(text.as_str())]),
        msg::sync(),
    ]
    .concat();
    write_aside(&wire, unit.repeat(300))
        .join()
        .expect("all was written without a read");
    for number in 0..300 {
        assert_eq!(wire.answer().value(), "100000", "answer {number}");
    }
}

#[test]
fn thirty_megabytes_each_way_do_not_deadlock() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for late in [0, 1000] {
        let mut wire = Wire::app(howdah.target());
        let text = "q".repeat(100_000);
        let unit = [msg::extended("SELECT $1", &[Some(text.as_str())]), msg::sync()].concat();
        let writer = write_aside(&wire, unit.repeat(300));
        thread::sleep(Duration::from_millis(late));
        for number in 0..300 {
            assert_eq!(wire.answer().value().len(), 100_000, "answer {number}");
        }
        writer.join().expect("all was written");
        assert_eq!(wire.value("SELECT 'well'"), "well");
    }
}

#[test]
fn a_slow_reader_does_not_fill_the_poolers_memory() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let mut wire = Wire::app(howdah.target());
    wire.query("SELECT 1");
    let before = howdah.pid().filter(|_| howdah.is_howdah()).map(peak_memory);
    wire.send(&msg::query(
        "SELECT repeat('x', 10000) FROM generate_series(1, 10000)",
    ));
    thread::sleep(Duration::from_secs(2));
    assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
    if let Some(before) = before {
        let grown = howdah.pid().map(peak_memory).expect("it is running") - before;
        assert!(
            grown < 32 << 10,
            "a client that does not read made the pooler grow by {grown} kB"
        );
    }
    assert_eq!(wire.answer().rows.len(), 10_000);
}

#[test]
fn the_query_of_a_client_that_vanishes_is_cancelled() {
    let cluster = Cluster::options()
        .conf("client_connection_check_interval = 500")
        .start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for extended in [false, true] {
        let mut wire = Wire::app(howdah.target());
        let sql = "SELECT pg_sleep(60)";
        let bytes = if extended {
            [msg::extended(sql, &[]), msg::sync()].concat()
        } else {
            msg::query(sql)
        };
        wire.send(&bytes);
        wait_until("the query runs", || cluster.backends("state = 'active'") == 1);
        wire.vanish();
        wait_until("the query is cancelled", || {
            cluster.backends("state = 'active'") == 0
        });
        assert_eq!(
            Wire::app(howdah.target()).value("SELECT 'the server serves on'"),
            "the server serves on"
        );
    }
}

#[test]
fn the_transaction_of_a_client_that_vanishes_is_rolled_back() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    cluster.sql("CREATE TABLE t (a int); GRANT ALL ON t TO app");
    for failed in [false, true] {
        let mut wire = Wire::app(howdah.target());
        wire.query("BEGIN; INSERT INTO t VALUES (1); LOCK t");
        if failed {
            wire.query("SELECT 1/0");
        }
        wire.vanish();
        assert_eq!(Wire::app(howdah.target()).value("SELECT count(*) FROM t"), "0");
    }
    let mut wire = Wire::app(howdah.target());
    wire.query("BEGIN; INSERT INTO t VALUES (1)");
    wire.terminate();
    assert_eq!(Wire::app(howdah.target()).value("SELECT count(*) FROM t"), "0");
}

#[test]
fn half_a_message_and_then_nothing() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let query = msg::query("SELECT 'never sent to its end'");
    for length in [1, 4, 5, 12] {
        let mut wire = Wire::app(howdah.target());
        wire.send(&query[..length]);
        wire.vanish();
        assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
    }
    let mut wire = Wire::app(howdah.target());
    wire.send(&[msg::extended("SELECT 1", &[]), msg::sync()[..3].to_vec()].concat());
    wire.vanish();
    assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
}

#[test]
fn what_is_no_message_ends_that_client_only() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let broken: [&[u8]; 6] = [
        &[0x7f, 0, 0, 0, 4],
        b"GET / HTTP/1.1\r\n\r\n",
        &[b'Q', 0, 0, 0, 3],
        &[b'Q', 0xff, 0xff, 0xff, 0xff],
        &[b'B', 0, 0, 0, 5, 1],
        &[b'p', 0, 0, 0, 4],
    ];
    for bytes in broken {
        let mut wire = Wire::app(howdah.target());
        wire.patience = Duration::from_secs(5);
        wire.send(bytes);
        wire.send(&msg::sync());
        // A message that is whole but means nothing may also be answered with an error and the session go on.
        if let Ok(answer) = wire.try_answer() {
            assert_eq!(answer.code(), "08P01", "{}", bytes.escape_ascii());
        }
        assert_eq!(
            Wire::app(howdah.target()).value("SELECT 1"),
            "1",
            "after {}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn sql_with_bytes_that_are_not_utf8() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut wire = Wire::app(howdah.target());
    wire.send(&msg::typed(b'Q', b"SELECT '\xff\xfe'\0"));
    assert_eq!(wire.answer().code(), "22021");
    wire.send(&msg::typed(b'P', b"n\xff\0SELECT 1\0\0\0"));
    wire.send(&msg::sync());
    assert!(wire.kinds_until_ready().ends_with('Z'));
    assert_eq!(wire.value("SELECT 1"), "1");
}
