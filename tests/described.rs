//! What clients have been told that their statements return holds, or they are told that it does not any more: a driver
//! reads rows by the description that it has, be it of long ago.

mod common;

use common::{Cluster, Howdah, Target, Wire, msg};

/// A client, and others that have a server each but for one that this client has not had.
struct Scene {
    wire: Wire,
    holder: Wire,
}

const NAME: &str = "s";

impl Scene {
    fn new(target: Target, sql: &str, describes: bool) -> Self {
        let (mut wire, mut holder) = (Wire::app(target), Wire::app(target));
        let mut messages = vec![msg::parse(NAME, sql)];
        if describes {
            messages.push(msg::describe_statement(NAME));
        }
        wire.batch(&messages);
        assert_eq!(
            wire.extended(&[msg::bind("", NAME, &[]), msg::execute("", 0)])
                .code(),
            ""
        );
        // It had the first server, which is the one that somebody gets who comes next.
        assert_eq!(holder.query("BEGIN").code(), "");
        Self { wire, holder }
    }

    /// Without a word about what comes back.
    fn executes(&mut self) -> String {
        let answer = self
            .wire
            .extended(&[msg::bind("", NAME, &[]), msg::execute("", 0)]);
        match answer.code() {
            "" => answer
                .rows
                .iter()
                .flatten()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
                .join(","),
            code => code.to_owned(),
        }
    }
}

fn targets(script: impl Fn(Target, &Cluster)) {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    for target in [cluster.target(), howdah.target()] {
        cluster.sql_in("app", "DROP TABLE IF EXISTS t");
        cluster.sql_in("app", "CREATE TABLE t (a int, b text)");
        cluster.sql_in("app", "INSERT INTO t VALUES (1, 'one')");
        cluster.sql_in("app", "GRANT ALL ON t TO app");
        script(target, &cluster);
    }
}

#[test]
fn no_driver_reads_rows_by_a_description_that_does_not_hold_any_more() {
    for change in [
        "ALTER TABLE t ALTER a TYPE real",
        "ALTER TABLE t ADD c int DEFAULT 3",
        "ALTER TABLE t DROP b",
        "ALTER TABLE t RENAME b TO c",
    ] {
        targets(|target, cluster| {
            let mut scene = Scene::new(target, "SELECT * FROM t", true);
            // Nobody told howdah.
            cluster.sql_in("app", change);
            for _ in 0..2 {
                assert_eq!(scene.executes(), "0A000", "{change}");
            }
            scene.holder.query("COMMIT");
            assert_eq!(scene.executes(), "0A000", "{change}");
            // Who prepares it anew has it anew.
            scene.wire.batch(&[msg::close_statement(NAME)]);
            scene.wire.batch(&[
                msg::parse(NAME, "SELECT * FROM t -- again"),
                msg::describe_statement(NAME),
            ]);
            assert!(scene.executes().starts_with('1'), "{change}");
        });
    }
}

#[test]
fn what_returns_the_same_as_before_goes_on() {
    for change in [
        "ALTER TABLE t ADD c int; ALTER TABLE t DROP c",
        "DROP TABLE t; CREATE TABLE t AS SELECT 1 AS a, 'one'::text AS b; GRANT ALL ON t TO app",
    ] {
        targets(|target, cluster| {
            let mut scene = Scene::new(target, "SELECT * FROM t", true);
            for sql in change.split("; ") {
                cluster.sql_in("app", sql);
            }
            assert_eq!(scene.executes(), "1,one", "{change}");
            scene.holder.query("COMMIT");
            assert_eq!(scene.executes(), "1,one", "{change}");
        });
    }
    targets(|target, _| {
        let mut scene = Scene::new(target, "INSERT INTO t VALUES (2)", true);
        assert_eq!(scene.executes(), "");
    });
}

/// Where PostgreSQL gives an error, for whoever asks what comes back each time nothing is lost.
#[test]
fn who_asks_each_time_has_the_new_result() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    if !howdah.is_howdah() {
        return;
    }
    cluster.sql_in("app", "CREATE VIEW v AS SELECT 1 AS a");
    cluster.sql_in("app", "GRANT ALL ON v TO app");
    for describes in [true, false] {
        let sql = format!("SELECT * FROM v -- {describes}");
        let mut scene = Scene::new(howdah.target(), &sql, describes);
        cluster.sql_in("app", "CREATE OR REPLACE VIEW v AS SELECT 1 AS a, 2 AS b");
        let answer = scene.wire.extended(&[msg::run(NAME, &[])]);
        assert_eq!(answer.rows, [[Some("1".to_owned()), Some("2".to_owned())]]);
        cluster.sql_in("app", "DROP VIEW v");
        cluster.sql_in("app", "CREATE VIEW v AS SELECT 1 AS a");
        cluster.sql_in("app", "GRANT ALL ON v TO app");
    }
}

/// What a driver was told in another encoding, or of a cursor that was not there yet.
#[test]
fn what_is_only_spelled_otherwise_is_the_same() {
    targets(|target, cluster| {
        // In Latin 1 it reads as é does in UTF-8.
        cluster.sql_in("app", "ALTER TABLE t RENAME b TO \"Ã©\"");
        let mut scene = Scene::new(target, "SELECT * FROM t", true);
        scene.wire.query("SET client_encoding = 'LATIN1'");
        assert_eq!(scene.executes(), "1,one");
        let describe = [msg::describe_statement(NAME), msg::sync()].concat();
        scene.wire.send(&describe);
        assert_eq!(scene.wire.kinds_until_ready(), "tTZ");
        scene.wire.query("RESET client_encoding");
        assert_eq!(scene.executes(), "1,one");
    });
    targets(|target, _| {
        let (mut wire, mut holder) = (Wire::app(target), Wire::app(target));
        wire.batch(&[
            msg::parse(NAME, "FETCH ALL FROM c"),
            msg::describe_statement(NAME),
        ]);
        holder.query("BEGIN");
        wire.query("BEGIN; DECLARE c CURSOR FOR SELECT 7");
        let answer = wire.extended(&[msg::bind("", NAME, &[]), msg::execute("", 0)]);
        assert_eq!(answer.rows, [[Some("7".to_owned())]]);
    });
}

/// Where it is asked in one write, behind what may have ended a failed transaction, or taken the name away.
#[test]
fn it_holds_behind_what_has_not_been_answered_yet() {
    targets(|target, cluster| {
        let mut scene = Scene::new(target, "SELECT * FROM t", true);
        scene.wire.batch(&[msg::parse("rollback", "ROLLBACK")]);
        cluster.sql_in("app", "ALTER TABLE t ADD c int DEFAULT 3");
        let bind = [msg::bind("", NAME, &[]), msg::execute("", 0)].concat();
        let ends = [
            msg::query("BEGIN"),
            msg::query("SELECT 1/0"),
            [msg::bind("", "rollback", &[]), msg::execute("", 0), msg::sync()].concat(),
            [bind.clone(), msg::sync()].concat(),
        ];
        scene.wire.send(&ends.concat());
        for code in ["", "22012", "", "0A000"] {
            assert_eq!(scene.wire.answer().code(), code);
        }
        let closes = [
            bind.clone(),
            msg::close_statement(NAME),
            msg::sync(),
            bind,
            msg::sync(),
        ];
        scene.wire.send(&closes.concat());
        for code in ["0A000", "0A000"] {
            assert_eq!(scene.wire.answer().code(), code);
        }
    });
}

/// It is prepared anew for each of its uses then.
#[test]
fn a_statement_that_is_used_under_other_settings_is_asked_about_once() {
    targets(|target, _| {
        let mut scene = Scene::new(target, "SELECT '01.02.2024'::date::text, a FROM t", true);
        for (begin, set) in [
            ("SELECT 1", "SET DateStyle = 'German'"),
            ("BEGIN", "SET LOCAL DateStyle = 'SQL, DMY'"),
        ] {
            scene.wire.query(begin);
            scene.wire.query(set);
            for _ in 0..2 {
                // The server that it has had, and the other one.
                scene
                    .holder
                    .query(if begin == "BEGIN" { "COMMIT" } else { "BEGIN" });
                assert!(scene.executes().ends_with(",1"), "{set}");
            }
            scene.wire.query("COMMIT");
        }
    });
}
