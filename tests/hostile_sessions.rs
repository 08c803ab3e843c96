//! Logged-in clients who want more than their share, or what is another's: servers, memory, connections, names.

mod common;

use std::io::Write as _;
use std::thread;

use common::net::wait_until;
use common::{Cluster, Howdah, Wire, msg};

/// The most memory that a process has ever used, in kB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the pooler runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.expect("Linux tells it").split_whitespace().nth(1);
    number.expect("a number").parse().expect("of kB")
}

#[test]
fn a_client_that_stops_within_a_message_keeps_no_server_from_others() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let bind = msg::bind("", "", &[Some("a value")]);
    let [query, long] =
        [10_000, 1_000_000].map(|len| msg::query(&format!("SELECT 1 -- {}", "x".repeat(len))));
    let call = msg::function_call(1, &["a value"]);
    for message in [&bind, &query, &long, &call] {
        let mut slow = Wire::app(howdah.target());
        let (first, second) = message.split_at(message.len() - 3);
        slow.send(first);
        for turn in 0..3 {
            let mut other = Wire::app(howdah.target());
            assert_eq!(other.value(&format!("SELECT {turn}")), turn.to_string());
        }
        // It is carried out when it is whole.
        slow.send(&[second, &msg::sync()].concat());
        while slow.read().kind != b'Z' {}
        slow.vanish();
    }
}

#[test]
fn a_client_that_stops_within_a_long_message_is_idle_with_a_server() {
    let cluster = Cluster::start();
    let config = Howdah::with_pool(&cluster, 1).config.clone();
    let howdah = config.set("idle_transaction_timeout", "500ms").start();
    if !howdah.is_howdah() {
        return;
    }
    let query = msg::query(&format!("SELECT 1 -- {}", "x".repeat(2_000_000)));
    let mut slow = Wire::app(howdah.target());
    slow.send(&query[..200_000]);
    assert_eq!(Wire::app(howdah.target()).value("SELECT 'served'"), "served");
    assert_eq!(slow.expect_fatal().code(), "25P03");
    // Whoever goes on is not idle.
    let mut steady = Wire::app(howdah.target());
    for piece in query.chunks(200_000) {
        steady.send(piece);
        thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(steady.kinds_until_ready(), "TDCZ");
}

#[test]
fn texts_on_their_way_are_bounded_in_memory() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let Some(pid) = howdah.pid() else { return };
    const COUNT: usize = 60;
    let text = format!("SELECT 1 -- {}", "x".repeat(1_000_000));
    let mut wire = Wire::app(howdah.target());
    let before = peak(pid);
    let mut writer = wire.writer();
    // PostgreSQL holds its short answers back until it is asked for them, and howdah remembers the texts until then.
    let writing = thread::spawn(move || {
        for _ in 0..COUNT {
            writer.write_all(&msg::parse("", &text))?;
        }
        writer.write_all(&msg::sync())
    });
    assert_eq!(wire.kinds_until_ready(), format!("{}Z", "1".repeat(COUNT)));
    writing.join().expect("it does not panic").expect("all is taken");
    let grown = peak(pid) - before;
    assert!(grown < 25_000, "{grown} kB for {COUNT} MB of texts");
}

#[test]
fn prepared_statements_are_limited_in_number_and_size() {
    let cluster = Cluster::start();
    let config = Howdah::with_pool(&cluster, 1).config.clone();
    let howdah = config
        .set("max_client_prepared_statements", 3)
        .set("max_client_prepared_bytes", "10kB")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let long = format!("SELECT '{}'", "x".repeat(6_000));
    let endless = format!("SELECT '{}'", "x".repeat(11_000));
    let mut wire = Wire::app(howdah.target());
    let parse = |wire: &mut Wire, name: &str, text: &str| {
        let answer = wire.extended(&[msg::parse(name, text)]);
        answer.code().to_owned()
    };
    // The second time the texts are known, and no server is asked.
    for _ in 0..2 {
        assert_eq!(parse(&mut wire, "long", &long), "");
        assert_eq!(parse(&mut wire, "longer", &long), "53400");
        assert_eq!(parse(&mut wire, "", &endless), "53400", "without a name too");
        assert_eq!(parse(&mut wire, "b", "SELECT 2"), "");
        assert_eq!(parse(&mut wire, "c", "SELECT 3"), "");
        assert_eq!(parse(&mut wire, "d", "SELECT 4"), "53400");
        assert_eq!(parse(&mut wire, "", "SELECT 4"), "", "it takes no place");
        assert_eq!(wire.extended(&[msg::run("c", &[])]).value(), "3");
        // Another has limits of its own.
        assert_eq!(parse(&mut Wire::app(howdah.target()), "d", "SELECT 4"), "");
        wire.batch(&[msg::close_statement("c")]);
        assert_eq!(parse(&mut wire, "d", "SELECT 4"), "");
        wire.query("DEALLOCATE ALL");
    }
}

#[test]
fn answers_of_the_console_take_no_more_memory_than_is_read() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("stats_users", "app").start();
    let Some(pid) = howdah.pid().filter(|_| howdah.is_howdah()) else {
        return;
    };
    let mut greedy = Wire::login(howdah.target(), "app", "howdah");
    let before = peak(pid);
    const COUNT: usize = 2_000;
    greedy.send(&msg::query(&"SHOW CONFIG;".repeat(COUNT)));
    assert_eq!(Wire::app(howdah.target()).value("SELECT 'served'"), "served");
    let answers = greedy.until_ready();
    assert_eq!(answers.iter().filter(|frame| frame.kind == b'C').count(), COUNT);
    let bytes: usize = answers.iter().map(|frame| frame.body.len()).sum();
    let grown = peak(pid) - before;
    assert!(
        grown * 1_000 < bytes as u64 / 2,
        "{grown} kB for {bytes} bytes of answers"
    );
}

#[test]
fn a_setting_of_any_size_is_not_kept_in_memory() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let Some(pid) = howdah.pid() else { return };
    let before = peak(pid);
    let mut greedy = Wire::app(howdah.target());
    greedy.send(&msg::query(
        "SELECT length(set_config('app.big', repeat('x', 100000000), false))",
    ));
    while !matches!(greedy.try_read(), Ok(frame) if frame.kind == b'Z') {}
    assert_eq!(Wire::app(howdah.target()).value("SELECT 'served'"), "served");
    let grown = peak(pid) - before;
    assert!(grown < 20_000, "{grown} kB for a setting of 100 MB");
}

#[test]
fn another_clients_statement_cannot_be_replaced_by_a_name_that_is_made_up_at_run_time() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let (mut owner, mut thief) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
    owner.batch(&[msg::parse("mine", "SELECT 'mine'")]);
    assert_eq!(owner.extended(&[msg::run("mine", &[])]).value(), "mine");
    let replace = |n: usize| {
        format!(
            "DO $$BEGIN EXECUTE 'DEALLOCATE how' || 'dah_{n}'; EXECUTE 'PREPARE how' || 'dah_{n} AS SELECT ''evil'''; \
             EXCEPTION WHEN invalid_sql_statement_name THEN NULL; END$$"
        )
    };
    for n in 1..10 {
        thief.query(&replace(n));
    }
    drop(thief);
    for _ in 0..3 {
        let answer = owner.extended(&[msg::run("mine", &[])]);
        // That it costs a failure is a known limit; that it runs somebody else's statement would be another matter.
        assert!(answer.code() == "26000" || answer.value() == "mine", "{answer:?}");
    }
    assert_eq!(owner.extended(&[msg::run("mine", &[])]).value(), "mine");
}

#[test]
fn a_named_deallocate_removes_no_other_clients_statement() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let (mut owner, mut thief) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
    owner.batch(&[msg::parse("mine", "SELECT 'mine'")]);
    assert_eq!(owner.extended(&[msg::run("mine", &[])]).value(), "mine");
    for n in 1..10 {
        let name = format!("d{n}");
        thief.batch(&[msg::parse(&name, &format!("DEALLOCATE howdah_{n}"))]);
        thief.extended(&[msg::run(&name, &[])]);
    }
    assert_eq!(owner.extended(&[msg::run("mine", &[])]).value(), "mine");
}

#[test]
fn a_thousand_cancel_requests_are_as_good_as_one() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut wire = Wire::app(howdah.target());
    let key = wire.key.clone().expect("a key");
    for _ in 0..3 {
        wire.send(&msg::query("SELECT pg_sleep(60)"));
        wait_until("it runs", || cluster.backends("state = 'active'") == 1);
        let target = howdah.target();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        common::wire::cancel(target, &key);
                    }
                });
            }
        });
        assert_eq!(wire.answer().code(), "57014");
        // None of them is left for the next query, whoever's it is.
        assert_eq!(
            Wire::app(howdah.target()).value("SELECT 1 FROM pg_sleep(0.1)"),
            "1"
        );
        assert_eq!(wire.value("SELECT 'well'"), "well");
    }
}

/// How many statements a look at them finds that nobody has said to be made by PREPARE.
const LOOK: &str = "SELECT count(*) FROM pg_prepared_statements";

#[test]
fn a_query_too_long_to_be_read_finds_its_own_clients_statements_and_no_others() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let (mut owner, mut thief) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
    let padded = |sql: &str| format!("{sql}{}", " ".repeat(1_100_000));
    owner.batch(&[msg::parse("mine", "SELECT 'mine'")]);
    assert_eq!(owner.extended(&[msg::run("mine", &[])]).value(), "mine");
    assert_eq!(thief.value(&padded(LOOK)), "0");
    for n in 1..10 {
        assert_eq!(owner.extended(&[msg::run("mine", &[])]).value(), "mine");
        let answer = thief.query(&padded(&format!("DEALLOCATE howdah_{n}")));
        assert_eq!(answer.code(), "26000");
    }
    assert_eq!(owner.extended(&[msg::run("mine", &[])]).value(), "mine");
    let names = padded("SELECT name FROM pg_prepared_statements");
    assert_eq!(owner.value(&names), "mine");
    assert_eq!(owner.value(&padded("EXECUTE mine")), "mine");
    assert_eq!(owner.extended(&[msg::run("mine", &[])]).value(), "mine");
}

#[test]
fn no_error_makes_howdah_forget_what_a_server_has() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let [mut owner, mut thief, mut other] = std::array::from_fn(|_| Wire::app(howdah.target()));
    owner.batch(&[msg::parse("mine", "SELECT 'mine'")]);
    let made_up = "DO $$BEGIN RAISE EXCEPTION '%', 'how' || 'dah_' USING errcode = '26000'; END$$";
    assert_eq!(owner.extended(&[msg::run("mine", &[])]).value(), "mine");
    thief.query("BEGIN");
    assert_eq!(thief.query(made_up).code(), "26000");
    thief.query("ROLLBACK");
    assert_eq!(other.value(LOOK), "0");
    assert_eq!(owner.extended(&[msg::run("mine", &[])]).value(), "mine");
    // What would have been taken away from the look stays, because the server passes over that too.
    thief.batch(&[msg::parse("look", LOOK)]);
    let fails = [msg::extended("SELECT 1/0", &[]), msg::run("look", &[])];
    assert_eq!(thief.extended(&fails).code(), "22012");
    thief.batch(&[msg::close_statement("look")]);
    assert_eq!(other.value(LOOK), "0");
    assert_eq!(owner.extended(&[msg::run("mine", &[])]).value(), "mine");
}

#[test]
fn a_reset_that_is_bound_again_and_again_takes_memory_once() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let Some(pid) = howdah.pid() else { return };
    const COUNT: usize = 1000;
    let options: Vec<_> = (0..500).map(|n| format!("-c a.b{n}=x")).collect();
    let options = options.join(" ");
    let login = [("user", "app"), ("database", "app"), ("options", &*options)];
    let mut wire = Wire::login_with(howdah.target(), &login, None).expect("logged in");
    let before = peak(pid);
    for text in [
        "RESET ALL",
        "SET app.x = 1",
        "SET LOCAL app.x = 1",
        "RESET work_mem",
    ] {
        wire.batch(&[msg::parse("", text)]);
        let bind = msg::bind("", "", &[]);
        wire.send(&[bind.repeat(COUNT), msg::sync()].concat());
        assert_eq!(
            wire.kinds_until_ready(),
            format!("{}Z", "2".repeat(COUNT)),
            "{text}"
        );
    }
    let grown = peak(pid) - before;
    assert!(grown < 15_000, "{grown} kB");
    assert_eq!(wire.value("SHOW a.b499"), "x");
}

/// Such a query does away with nothing, not even with what somebody else has left.
#[test]
fn a_query_that_cannot_be_read_leaves_nobody_elses_unnamed_statement() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for unread in [&b"SELECT '\xff'\0"[..], b"no end", b"SEL\0ECT\0"] {
        let login = || Wire::app(howdah.target());
        login().extended(&[msg::extended("SELECT 'a secret'", &[])]);
        let mut other = login();
        other.send(&msg::typed(b'Q', unread));
        assert_ne!(other.answer().code(), "");
        let mut next = login();
        assert_eq!(next.extended(&[msg::run("", &[])]).code(), "26000", "{unread:?}");
        // Whoever has one goes on with it.
        next.batch(&[msg::parse("", "SELECT 'own'")]);
        other.send(&msg::typed(b'Q', unread));
        assert_ne!(other.answer().code(), "");
        assert_eq!(next.extended(&[msg::run("", &[])]).value(), "own");
    }
}
