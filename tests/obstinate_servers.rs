//! A server in which others have done something that cannot be taken back, and that is not to be set as it ought to be.

mod common;

use common::net::Target;
use common::{Pair, Wire};

const WANTED: (&str, &str) = ("options", "-c temp_buffers=16MB");

fn login(target: Target, parameter: (&str, &str)) -> Wire {
    let parameters = [("user", "app"), ("database", "app"), parameter];
    Wire::login_with(target, &parameters, None).expect("PostgreSQL lets it in")
}

/// `temp_buffers` cannot be changed any more once a session has used a temporary table.
fn use_a_temporary_table(target: Target) {
    let made = Wire::app(target)
        .query("BEGIN; CREATE TEMP TABLE t (n int) ON COMMIT DROP; INSERT INTO t VALUES (1); COMMIT");
    assert!(made.error.is_none(), "{made:?}");
}

#[test]
fn what_others_have_done_on_a_server_ends_nobody_whom_a_new_one_would_serve() {
    let pair = Pair::with_pool(2);
    let target = pair.howdah.target();
    let mut wire = Wire::app(target);
    wire.query("SET temp_buffers = '16MB'");
    // Every server, whichever the client gets next.
    let mut others = [(); 2].map(|()| Wire::app(target));
    for other in &mut others {
        other.query("BEGIN");
    }
    for other in &mut others {
        other.query("CREATE TEMP TABLE t (n int) ON COMMIT DROP; INSERT INTO t VALUES (1); COMMIT");
    }
    assert_eq!(wire.value("SHOW temp_buffers"), "16MB");
    assert_eq!(
        pair.cluster.backends("usename = 'app'"),
        2,
        "one has been replaced"
    );
}

#[test]
fn who_logs_in_is_refused_by_no_word_of_a_server_that_others_have_used() {
    let pair = Pair::with_pool(1);
    let target = pair.howdah.target();
    use_a_temporary_table(target);
    let mut wire = login(target, WANTED);
    assert_eq!(wire.value("SHOW temp_buffers"), "16MB");
    use_a_temporary_table(target);
    assert_eq!(login(target, WANTED).value("SHOW temp_buffers"), "16MB");
    assert_eq!(wire.value("SHOW temp_buffers"), "16MB");
}

/// A name that nobody owns is taken by a session that has not loaded the library whose prefix it has.
#[test]
fn a_setting_that_only_new_sessions_know_nothing_against_is_taken_by_one() {
    let pair = Pair::with_pool(1);
    let target = pair.howdah.target();
    let options = ("options", "-c plpgsql.no_such_setting=1");
    let loads = || assert!(Wire::app(target).query("DO $$ BEGIN END $$").error.is_none());
    loads();
    let mut wire = login(target, options);
    loads();
    assert_eq!(
        wire.value("SELECT current_setting('plpgsql.no_such_setting')"),
        "1"
    );
}

/// What no server takes is refused, and costs one server.
#[test]
fn what_a_new_server_refuses_too_is_refused_for_good() {
    let pair = Pair::with_pool(3);
    let target = pair.howdah.target();
    let mut wires = [(); 3].map(|()| Wire::app(target));
    for sql in ["BEGIN", "COMMIT"] {
        for wire in &mut wires {
            wire.query(sql);
        }
    }
    let before = pair.cluster.backend_pids("usename = 'app'");
    let parameters = [
        ("user", "app"),
        ("database", "app"),
        ("options", "-c work_mem=nonsense"),
    ];
    let refused = Wire::login_with(target, &parameters, None)
        .err()
        .expect("PostgreSQL refuses it");
    assert_eq!(refused.code(), "22023");
    let after = pair.cluster.backend_pids("usename = 'app'");
    let kept = before.iter().filter(|pid| after.contains(pid)).count();
    assert!(kept >= 2, "{before:?} {after:?}");

    for wire in &mut wires {
        wire.query("SELECT 1");
    }
    for _ in 0..5 {
        let again = Wire::login_with(target, &parameters, None)
            .err()
            .expect("it still refuses it");
        assert_eq!(again.code(), "22023");
    }
    let later = pair.cluster.backend_pids("usename = 'app'");
    let kept = before.iter().filter(|pid| later.contains(pid)).count();
    assert!(
        kept >= 2,
        "one that keeps trying costs no more: {before:?} {later:?}"
    );
}
