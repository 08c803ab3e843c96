//! SQL's EXECUTE of what the client has prepared by the protocol does what that statement's text says.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::net::Target;
use common::{Pair, Wire, msg};

#[test]
fn what_is_executed_sees_the_clients_own_prepared_statements_and_no_others() {
    Pair::alike_one_and_two(|wire| {
        let look = "SELECT name, statement FROM pg_prepared_statements ORDER BY name";
        wire.batch(&[msg::parse("look", look), msg::parse("mine", "SELECT 'mine'")]);
        wire.query("EXECUTE look");
        wire.batch(&[msg::extended("EXECUTE look", &[])]);
        wire.batch(&[msg::parse("indirectly", "EXECUTE look")]);
        wire.query("EXECUTE indirectly");
        wire.query("SELECT 1; EXECUTE look");
        wire.batch(&[msg::run("mine", &[])]);
    });
}

#[test]
fn a_name_that_an_executed_deallocate_has_freed_can_be_taken_again() {
    Pair::alike_one_and_two(|wire| {
        for (free, own) in [
            ("DEALLOCATE self", "self"),
            ("DEALLOCATE other", "free"),
            ("DEALLOCATE ALL", "all"),
        ] {
            wire.batch(&[msg::parse(own, free), msg::parse("other", "SELECT 'other'")]);
            wire.query(&format!("EXECUTE {own}"));
            for name in [own, "other"] {
                wire.batch(&[msg::run(name, &[])]);
            }
            wire.batch(&[msg::parse(own, "SELECT 'again'"), msg::run(own, &[])]);
            wire.query("DEALLOCATE ALL");
        }
        wire.batch(&[msg::parse("self", "DEALLOCATE self")]);
        wire.query("BEGIN; SELECT 1/0; EXECUTE self");
        wire.query("ROLLBACK");
        wire.query("SELECT 1; EXECUTE self; SELECT 1/0");
        wire.batch(&[msg::parse("self", "SELECT 'again'")]);
    });
}

fn login(target: Target) -> Wire {
    let parameters = [
        ("user", "app"),
        ("database", "app"),
        ("application_name", "own"),
        ("options", "-c work_mem=8MB -c app.x=own"),
    ];
    Wire::login_with(target, &parameters, None).expect("the parameters are good")
}

#[test]
fn what_it_resets_is_what_the_client_has_asked_for() {
    let pair = Pair::with_pool(2);
    let look = "SELECT current_setting('application_name'), current_setting('work_mem'), current_setting('app.x', true)";
    let told = |target, how: &dyn Fn(&mut Wire), mut between: Option<&mut Wire>| {
        let mut wire = login(target);
        wire.query("SET work_mem = '9MB'; SET application_name = 'changed'; SET app.x = 'changed'");
        how(&mut wire);
        if let Some(noise) = &mut between {
            noise.query("BEGIN");
        }
        let answer = format!("{:?}", wire.query(look).rows);
        if let Some(noise) = &mut between {
            noise.query("COMMIT");
        }
        answer
    };
    let mut noise = Wire::app(pair.howdah.target());
    for sql in [
        "RESET ALL",
        "DISCARD ALL",
        "RESET application_name",
        "RESET work_mem",
        "SET app.x TO DEFAULT",
    ] {
        let prepare = |wire: &mut Wire| {
            wire.batch(&[msg::parse("s", sql), msg::parse("indirectly", "EXECUTE s")]);
        };
        let ways: [&dyn Fn(&mut Wire); 3] = [
            &|wire| drop((prepare(wire), wire.query("EXECUTE s"))),
            &|wire| drop((prepare(wire), wire.query("EXECUTE indirectly"))),
            &|wire| drop((prepare(wire), wire.batch(&[msg::extended("EXECUTE s", &[])]))),
        ];
        for (number, way) in ways.into_iter().enumerate() {
            let direct = told(pair.cluster.target(), way, None);
            assert_eq!(told(pair.howdah.target(), way, None), direct, "{sql}, {number}");
            let elsewhere = told(pair.howdah.target(), way, Some(&mut noise));
            assert_eq!(elsewhere, direct, "{sql}, {number}, elsewhere");
        }
    }
}

/// It waits for permission to keep a server before it takes what would need one.
#[test]
fn what_it_leaves_behind_is_there_for_as_long_as_the_client_wants() {
    // One for the client to keep, two for the noise.
    Pair::with_pool(3).alike(|wire| {
        wire.batch(&[
            msg::parse("lock", "SELECT pg_advisory_lock(42)"),
            msg::parse("unlock", "SELECT pg_advisory_unlock_all()"),
            msg::parse("set", "SELECT set_config($1, $2, false)"),
        ]);
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
        for sql in [
            "EXECUTE lock",
            locks,
            "EXECUTE unlock",
            locks,
            "EXECUTE set ('app.executed', 'here')",
            "SELECT current_setting('app.executed')",
            "EXECUTE set ('work_mem', '3MB')",
            "SHOW work_mem",
        ] {
            wire.query(sql);
        }
    });
}

#[test]
fn what_executes_a_statement_that_executes_another_returns_its_rows() {
    Pair::alike_one_and_two(|wire| {
        wire.batch(&[
            msg::parse("s", "SELECT 1 AS a"),
            msg::parse("d", "EXECUTE s"),
            msg::parse("e", "EXECUTE d"),
        ]);
        wire.batch(&[msg::run("e", &[])]);
        wire.query("EXECUTE e");
        wire.query("EXECUTE s; EXECUTE e; EXECUTE d");
        wire.batch(&[msg::extended("EXECUTE e", &[])]);
    });
}

/// Two of them share a server with others who wait for it, while that is given what the statement is to find there.
#[test]
fn who_looks_at_prepared_statements_finds_its_own_where_others_wait() {
    let pair = Pair::with_pool(2);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut other = Wire::app(pair.howdah.target());
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    other.query("SELECT 1");
                }
            });
        }
        let mut wire = Wire::app(pair.howdah.target());
        // It may do anything, so that it waits until the answers to what goes before it have come.
        let look = "SELECT set_config('app.x', string_agg(name, ' ' ORDER BY name), false) FROM pg_prepared_statements";
        wire.batch(&[msg::parse("look", look), msg::parse("mine", "SELECT 'mine'")]);
        let mut answers: Vec<_> = (0..30)
            .map(|_| format!("{:?}", wire.extended(&[msg::run("look", &[])])))
            .collect();
        over.store(true, Ordering::Relaxed);
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert!(answers[0].contains("look mine"), "{answers:?}");
    });
}

#[test]
fn what_a_server_has_for_a_client_that_looks_is_gone_with_it() {
    let pair = Pair::with_pool(1);
    let mut other = Wire::app(pair.howdah.target());
    let look = "SELECT string_agg(name, ' ' ORDER BY name) FROM pg_prepared_statements";
    for text in [
        look,
        &look.replace("SELECT", "SELECT set_config('app.x', '1', false), "),
    ] {
        let run = [msg::run("mine", &[]), msg::flush()].concat();
        for (request, waits) in [(&run, true), (&run, false), (&msg::query(text), false)] {
            for _ in 0..5 {
                let mut wire = Wire::app(pair.howdah.target());
                wire.batch(&[msg::parse("mine", text)]);
                wire.send(request);
                while waits && wire.read().kind != b'C' {}
                wire.vanish();
                assert_eq!(other.value(look), "NULL");
            }
        }
    }
}
