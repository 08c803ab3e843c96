//! Prepared statements belong to the client, whichever server it meets.

mod common;

use std::time::Duration;

use common::net::wait_until;
use common::{Cluster, Howdah, Pair, Wire, msg};

#[test]
fn names_live_and_die_as_in_postgresql() {
    Pair::alike_one_and_two(|wire| {
        wire.batch(&[msg::parse("s", "SELECT 's one'")]);
        wire.batch(&[msg::run("s", &[])]);
        wire.batch(&[msg::parse("s", "SELECT 's two'")]);
        wire.batch(&[msg::run("s", &[])]);
        wire.batch(&[msg::describe_statement("s")]);
        wire.batch(&[msg::close_statement("s")]);
        wire.batch(&[msg::run("s", &[])]);
        wire.batch(&[msg::describe_statement("s")]);
        wire.batch(&[
            msg::parse("s", "SELECT 's three'"),
            msg::run("s", &[]),
            msg::close_statement("s"),
        ]);
        wire.batch(&[
            msg::close_statement("s"),
            msg::parse("s", "SELECT 4"),
            msg::run("s", &[]),
        ]);
        wire.batch(&[
            msg::parse("s1", "SELECT $1::int + $2"),
            msg::describe_statement("s1"),
        ]);
        wire.batch(&[
            msg::run("s1", &[Some("1"), Some("2")]),
            msg::run("s", &[]),
            msg::run("s1", &[None, Some("2")]),
        ]);
        wire.batch(&[msg::run("s1", &[Some("1")])]);
        wire.batch(&[msg::run("_pg3_0", &[])]);
        wire.batch(&[
            msg::parse_types("s2", "SELECT $1, $2", &[23, 25]),
            msg::describe_statement("s2"),
        ]);
        wire.batch(&[
            msg::parse_types("s3", "SELECT $1, $2", &[25, 23]),
            msg::describe_statement("s3"),
        ]);
        wire.batch(&[
            msg::run("s2", &[Some("7"), Some("x")]),
            msg::run("s3", &[Some("x"), Some("7")]),
        ]);
    });
}

#[test]
fn a_failed_parse_leaves_nothing() {
    Pair::alike_one_and_two(|wire| {
        wire.batch(&[msg::parse("s", "SELECT * FROM not_yet")]);
        wire.batch(&[msg::run("s", &[])]);
        wire.query("CREATE TABLE not_yet (a int)");
        wire.batch(&[
            msg::parse("s", "SELECT * FROM not_yet"),
            msg::describe_statement("s"),
        ]);
        wire.batch(&[msg::run("s", &[])]);
        wire.query("DROP TABLE not_yet");
        wire.batch(&[msg::run("s", &[])]);
        wire.batch(&[msg::parse("s1", "SELECT * FROM not_yet")]);
        wire.query("CREATE TABLE not_yet (a int)");
        wire.batch(&[msg::run("s", &[])]);
        wire.batch(&[msg::run("s1", &[])]);
        // Skipped after an error: not prepared either, and a Close that was skipped closed nothing.
        wire.batch(&[
            msg::extended("SELECT 1/0", &[]),
            msg::parse("s1", "SELECT 'skipped'"),
            msg::close_statement("s"),
        ]);
        wire.batch(&[msg::run("s1", &[])]);
        wire.batch(&[msg::run("s", &[])]);
        wire.query("BEGIN");
        wire.query("SELECT 1/0");
        wire.batch(&[msg::parse("s1", "SELECT 'in a failed transaction'")]);
        wire.batch(&[msg::run("s", &[])]);
        wire.query("ROLLBACK");
        wire.batch(&[msg::run("s1", &[])]);
        // What was prepared in a transaction that is rolled back stays.
        wire.query("BEGIN");
        wire.batch(&[msg::parse("s2", "SELECT 'stays'")]);
        wire.query("ROLLBACK");
        wire.batch(&[msg::run("s2", &[])]);
    });
}

#[test]
fn the_unnamed_statement_lives_from_unit_to_unit() {
    Pair::alike_one_and_two(|wire| {
        wire.batch(&[msg::bind("", "", &[])]);
        wire.batch(&[msg::parse("", "SELECT $1::text || ' unnamed'")]);
        wire.batch(&[msg::run("", &[Some("first")])]);
        wire.batch(&[msg::run("", &[Some("second")])]);
        wire.batch(&[msg::describe_statement("")]);
        wire.batch(&[msg::run("", &[Some("third")]), msg::run("", &[Some("fourth")])]);
        wire.batch(&[msg::close_statement("")]);
        wire.batch(&[msg::run("", &[Some("closed")])]);
        wire.batch(&[msg::parse("", "SELECT 'again'")]);
        wire.batch(&[msg::parse("", "SELEKT")]);
        wire.batch(&[msg::run("", &[])]);
        wire.batch(&[msg::parse("", "SELECT 'a query forgets it'")]);
        wire.query("SELECT 1");
        wire.batch(&[msg::run("", &[])]);
        wire.batch(&[msg::parse("", "SELECT 'an empty query too'")]);
        wire.query("");
        wire.batch(&[msg::run("", &[])]);
        wire.batch(&[msg::parse("", "SELECT 'deallocate does not reach it'")]);
        wire.batch(&[msg::parse("s", "SELECT 's'")]);
        wire.batch(&[msg::run("", &[])]);
        wire.batch(&[
            msg::parse("", "SELECT 'in a transaction'"),
            msg::extended("BEGIN", &[]),
        ]);
        wire.batch(&[msg::run("", &[])]);
        wire.query("ROLLBACK");
    });
}

#[test]
fn errors_in_the_middle_of_pipelines_and_reuse() {
    Pair::alike_one_and_two(|wire| {
        for round in 0..3 {
            wire.send(
                &[
                    msg::parse("a", "SELECT 'a'"),
                    msg::run("a", &[]),
                    msg::extended("SELECT 1/0", &[]),
                    msg::parse("b", "SELECT 'b'"),
                    msg::run("b", &[]),
                    msg::sync(),
                    msg::run("a", &[]),
                    msg::sync(),
                    msg::run("b", &[]),
                    msg::sync(),
                    msg::parse("b", "SELECT 'b after all'"),
                    msg::sync(),
                ]
                .concat(),
            );
            (0..4).for_each(|_| drop(wire.until_ready()));
            wire.batch(&[msg::run("b", &[]), msg::close_statement("b")]);
            wire.batch(&[
                msg::run("a", &[]),
                msg::parse("a", "SELECT 'twice'"),
                msg::run("a", &[]),
            ]);
            if round == 1 {
                wire.batch(&[msg::close_statement("a")]);
            }
        }
    });
}

#[test]
fn prepared_by_sql_and_used_in_one_transaction() {
    Pair::with_pool(2).alike(|wire| {
        wire.query("BEGIN");
        wire.query("PREPARE q (int) AS SELECT $1 + 1");
        wire.query("EXECUTE q (41)");
        wire.query("DEALLOCATE q");
        wire.query("EXECUTE q (41)");
        wire.query("ROLLBACK");
    });
}

#[test]
fn settings_decide_what_a_prepared_text_means() {
    Pair::with_pool(2).alike(|wire| {
        wire.query("CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE one.t AS SELECT 1 AS a; CREATE TABLE two.t AS SELECT 2 AS a");
        for schema in ["one", "two"] {
            wire.query("BEGIN");
            wire.query(&format!("SET LOCAL search_path = {schema}"));
            wire.batch(&[msg::parse(schema, "SELECT a FROM t"), msg::run(schema, &[])]);
            wire.query("COMMIT");
        }
        wire.query("DROP SCHEMA one, two CASCADE");
    });
}

#[test]
fn what_is_made_anew_is_meant_anew() {
    Pair::alike_one_and_two(|wire| {
        let insert = "INSERT INTO t VALUES ($1::mood)";
        let make = "CREATE TYPE mood AS ENUM ('calm'); CREATE TABLE t (m mood)";
        for undo in ["ROLLBACK", "COMMIT; DROP TABLE t; DROP TYPE mood"] {
            wire.query("BEGIN");
            wire.query(make);
            wire.batch(&[msg::parse("s", insert), msg::run("s", &[Some("calm")])]);
            wire.query(undo);
            wire.batch(&[msg::close_statement("s"), msg::parse("s", insert)]);
        }
        wire.query("BEGIN");
        for name in ["a", "b"] {
            wire.query("SAVEPOINT before");
            wire.query(make);
            wire.batch(&[msg::parse(name, insert), msg::run(name, &[Some("calm")])]);
            wire.query("ROLLBACK TO before");
        }
        wire.batch(&[msg::parse("c", insert), msg::run("c", &[Some("calm")])]);
        wire.query("ROLLBACK");
        // In one batch: an error takes back what was made before it.
        wire.batch(&[
            msg::parse("make", "CREATE TYPE mood AS ENUM ('calm')"),
            msg::run("make", &[]),
            msg::parse("use", "SELECT $1::mood IS NULL"),
            msg::run("use", &[Some("calm")]),
            msg::parse("fail", "SELECT 1/0"),
            msg::run("fail", &[]),
        ]);
        wire.batch(&[msg::parse("again", "SELECT $1::mood IS NULL")]);
    });
}

#[test]
fn a_new_table_hides_one_of_a_later_schema() {
    Pair::alike_one_and_two(|wire| {
        wire.query(
            "CREATE SCHEMA near; CREATE TABLE public.t (a) AS VALUES ('far'); SET search_path = near, public",
        );
        wire.batch(&[msg::parse("before", "SELECT a FROM t"), msg::run("before", &[])]);
        wire.query("CREATE TABLE near.t (a text)");
        wire.batch(&[msg::parse("after", "SELECT a FROM t"), msg::run("after", &[])]);
        wire.query("DROP SCHEMA near CASCADE");
    });
}

/// Three clients take turns with the same names for other texts.
fn interleave(pool: u32, statements: u32, max_prepared: i64) {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", i64::from(pool))
        .set("max_prepared_statements", max_prepared)
        .start();
    let mut clients: Vec<Wire> = (0..3).map(|_| Wire::app(howdah.target())).collect();
    // One more client occupies a server every other round, so that the others meet another one.
    let mut keeper = (pool > 1).then(|| Wire::app(howdah.target()));
    for (number, wire) in clients.iter_mut().enumerate() {
        for statement in 0..statements {
            let sql = format!("SELECT 'client {number} statement {statement} ' || $1::text");
            assert_eq!(
                wire.batch(&[msg::parse(&format!("_pg3_{statement}"), &sql)]),
                "1Z"
            );
        }
    }
    for round in 0..6 {
        if let Some(keeper) = &mut keeper {
            keeper.query(if round % 2 == 0 { "BEGIN" } else { "COMMIT" });
        }
        for statement in 0..statements {
            for (number, wire) in clients.iter_mut().enumerate() {
                let name = format!("_pg3_{statement}");
                let answer = wire.extended(&[msg::run(&name, &[Some("x")])]);
                let wanted = format!("client {number} statement {statement} x");
                assert_eq!(answer.value(), wanted, "round {round}: {answer:?}");
            }
        }
    }
}

#[test]
fn the_same_names_for_other_texts() {
    interleave(1, 4, 200);
    interleave(2, 4, 200);
}

#[test]
fn more_statements_than_a_server_may_hold() {
    interleave(1, 5, 2);
    interleave(2, 5, 2);
}

/// A client does not see what its server holds for others, but within a function.
const HELD: &str = "CREATE FUNCTION held() RETURNS SETOF pg_prepared_statements LANGUAGE sql AS \
                    'SELECT * FROM pg_prepared_statements'";

#[test]
fn a_server_holds_no_more_statements_than_allowed() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .set("max_prepared_statements", 2)
        .start();
    let mut wire = Wire::app(howdah.target());
    for number in 0..50 {
        let name = format!("s{number}");
        assert_eq!(
            wire.batch(&[
                msg::parse(&name, &format!("SELECT {number}")),
                msg::run(&name, &[])
            ]),
            "12TDCZ"
        );
    }
    if howdah.is_howdah() {
        cluster.sql(HELD);
        let held: u32 = wire
            .value("SELECT count(*) FROM held()")
            .parse()
            .expect("a count");
        assert!(held <= 3, "{held} statements on a server that may hold 2");
    }
    // Nor does it after more than that were on their way at once.
    let all = (1000..1050).map(|n| [msg::parse("x", &format!("SELECT {n}")), msg::close_statement("x")]);
    let all: Vec<u8> = all.flatten().flatten().collect();
    assert_eq!(wire.batch(&[all]), format!("{}Z", "13".repeat(50)));
    if howdah.is_howdah() {
        let held = wire.value("SELECT count(*) FROM held()");
        assert_eq!(held, "2", "statements on a server that may hold as many");
    }
    // In one pipeline, more than fit: each is there when its turn comes.
    let mut pipeline = Vec::new();
    for number in 0..50 {
        pipeline.extend(msg::run(&format!("s{number}"), &[]));
    }
    let answer = wire.extended(&[pipeline]);
    let got: Vec<String> = answer
        .rows
        .iter()
        .map(|row| row[0].clone().expect("no NULL"))
        .collect();
    let wanted: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(got, wanted, "{answer:?}");
}

#[test]
fn one_text_of_many_clients_is_prepared_once() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    for number in 0..10 {
        let mut wire = Wire::app(howdah.target());
        let name = format!("name_{number}");
        let sql = "SELECT $1::int * 2 /* shared */";
        assert_eq!(
            wire.batch(&[msg::parse(&name, sql), msg::run(&name, &[Some("21")])]),
            "12TDCZ"
        );
    }
    if howdah.is_howdah() {
        cluster.sql(HELD);
        let count = Wire::app(howdah.target())
            .value("SELECT count(*) FROM held() WHERE statement LIKE '%shared%' AND NOT from_sql");
        assert_eq!(count, "1", "ten clients prepared the same text");
    }
}

#[test]
fn a_clients_deallocate_does_not_poison_the_others() {
    for sql in ["DEALLOCATE ALL", "DISCARD ALL", "DEALLOCATE s"] {
        let cluster = Cluster::start();
        let howdah = Howdah::with_pool(&cluster, 1);
        let (mut one, mut two) = (Wire::app(howdah.target()), Wire::app(howdah.target()));
        for wire in [&mut one, &mut two] {
            assert_eq!(wire.batch(&[msg::parse("s", "SELECT 'shared'")]), "1Z");
        }
        for extended in [false, true] {
            if extended {
                one.batch(&[msg::extended(sql, &[])]);
            } else {
                one.query(sql);
            }
            assert_eq!(one.extended(&[msg::run("s", &[])]).code(), "26000", "after {sql}");
            assert_eq!(
                two.extended(&[msg::run("s", &[])]).value(),
                "shared",
                "after {sql}"
            );
            assert_eq!(
                one.batch(&[msg::parse("s", "SELECT 'shared'"), msg::run("s", &[])]),
                "12TDCZ",
                "{sql}"
            );
        }
    }
}

#[test]
fn after_a_change_of_the_result_type_the_retry_works() {
    for pool in [1, 2] {
        let cluster = Cluster::start();
        let howdah = Howdah::with_pool(&cluster, pool);
        let mut wires: Vec<Wire> = (0..3).map(|_| Wire::app(howdah.target())).collect();
        wires[0].query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
        for wire in &mut wires {
            assert_eq!(
                wire.batch(&[msg::parse("s", "SELECT * FROM t"), msg::run("s", &[])]),
                "12TDCZ"
            );
        }
        wires[0].query("ALTER TABLE t ADD COLUMN b text DEFAULT 'new'");
        for wire in &mut wires {
            let first = wire.extended(&[msg::run("s", &[])]);
            assert!(["", "0A000"].contains(&first.code()), "{first:?}");
            // What a driver does then: it forgets the statement and prepares it anew.
            wire.batch(&[msg::close_statement("s")]);
            assert_eq!(wire.batch(&[msg::parse("s", "SELECT * FROM t")]), "1Z");
            let retry = wire.extended(&[msg::run("s", &[])]);
            assert_eq!(
                retry.rows,
                [[Some("1".to_owned()), Some("new".to_owned())]],
                "pool of {pool}: {retry:?}"
            );
        }
        // And without preparing it anew, once the stale plan has been dropped.
        wires[0].query("ALTER TABLE t DROP COLUMN b");
        for wire in &mut wires {
            let last = (0..4)
                .map(|_| wire.extended(&[msg::run("s", &[])]))
                .last()
                .expect("four tries");
            if howdah.is_howdah() {
                assert_eq!(last.rows, [[Some("1".to_owned())]], "pool of {pool}: {last:?}");
            }
        }
    }
}

#[test]
fn who_describes_a_statement_whose_result_has_changed_is_told_once() {
    let pair = Pair::with_pool(1);
    pair.cluster
        .sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1); GRANT ALL ON t TO app");
    let describe = || [msg::describe_statement("s")];
    let (mut wire, mut direct) = (Wire::app(pair.howdah.target()), Wire::app(pair.cluster.target()));
    for wire in [&mut wire, &mut direct] {
        wire.batch(&[msg::parse("s", "SELECT * FROM t")]);
        assert_eq!(wire.batch(&describe()), "tTZ");
    }
    pair.cluster.sql("ALTER TABLE t ADD COLUMN b text DEFAULT 'new'");
    for wire in [&mut wire, &mut direct] {
        assert_eq!(wire.extended(&describe()).code(), "0A000");
    }
    if pair.howdah.is_howdah() {
        assert_eq!(wire.batch(&describe()), "tTZ");
        assert_eq!(wire.extended(&[msg::run("s", &[])]).rows[0].len(), 2);
    }
}

#[test]
fn a_long_lived_client_may_prepare_and_close_without_end() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let mut wire = Wire::app(howdah.target());
    for number in 0..2000 {
        let text = format!("SELECT {number}");
        let messages = [
            msg::parse("s", &text),
            msg::run("s", &[]),
            msg::close_statement("s"),
            msg::sync(),
        ];
        wire.send(&messages.concat());
    }
    for number in 0..2000 {
        assert_eq!(wire.answer().value(), number.to_string());
    }
    wire.expect_silence(Duration::from_millis(50));
}

/// Names that howdah gives on its servers are nothing to a client, whatever the client has prepared by SQL.
#[test]
fn a_close_of_a_name_that_a_shared_statement_has_on_the_server_closes_nothing() {
    let pair = Pair::with_pool(1);
    let [mut owner, mut other] = [(); 2].map(|()| Wire::app(pair.howdah.target()));
    owner.batch(&[msg::parse("mine", "SELECT 'mine'")]);
    owner.batch(&[msg::run("mine", &[])]);
    other.query("PREPARE own AS SELECT 'own'");
    other.query("BEGIN");
    for number in 0..50 {
        other.batch(&[msg::close_statement(&format!("howdah_{number}"))]);
    }
    other.query("COMMIT");
    other.query("DEALLOCATE own");
    for _ in 0..2 {
        let kinds = owner.batch(&[msg::run("mine", &[])]);
        assert!(!kinds.contains('E'), "{kinds}");
    }
}

#[test]
fn what_postgresql_has_to_say_of_a_parse_everybody_is_told_who_parses_it() {
    Pair::alike_one_and_two(|wire| {
        let sql = format!("SELECT 1 AS {}", "x".repeat(80));
        for name in ["a", "b", "c"] {
            wire.batch(&[msg::parse(name, &sql)]);
            wire.batch(&[msg::run(name, &[])]);
        }
    });
}

/// Settings that PostgreSQL does not report decide what a text means once and for all, too.
#[test]
fn a_statement_means_what_it_meant_wherever_it_is_prepared_again() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let [mut wire, mut other, mut holder, mut second] = std::array::from_fn(|_| Wire::app(howdah.target()));
    let sql = "SELECT ((NULL::int = NULL) IS NULL)::text";
    // It is prepared on one server, and then needed on the other.
    holder.query("BEGIN");
    wire.batch(&[msg::parse("s", sql)]);
    assert_eq!(wire.extended(&[msg::run("s", &[])]).value(), "true");
    wire.query("SET transform_null_equals = on");
    second.query("BEGIN");
    holder.query("COMMIT");
    assert_eq!(wire.extended(&[msg::run("s", &[])]).value(), "true");
    assert_eq!(wire.value("SHOW transform_null_equals"), "on");
    // Nor has it become something else for those who have the defaults.
    other.batch(&[msg::parse("t", sql)]);
    assert_eq!(other.extended(&[msg::run("t", &[])]).value(), "true");
    assert_eq!(other.value("SHOW transform_null_equals"), "off");
}

/// psycopg prepares what it runs often, a temporary table's statements too, and does not forget them with the table.
#[test]
fn a_statement_whose_table_is_gone_is_in_nobodys_way() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut wire = Wire::app(howdah.target());
    wire.query("CREATE TEMP TABLE gone (a int)");
    for (name, sql) in [
        ("a", "SELECT 'a'"),
        ("b", "SELECT * FROM gone"),
        ("c", "SELECT 'c'"),
    ] {
        wire.batch(&[msg::parse(name, sql)]);
    }
    wire.query("DROP TABLE gone");
    let look = "SELECT string_agg(name, ' ' ORDER BY name) FROM pg_prepared_statements WHERE name <> 'b'";
    assert_eq!(wire.value(look), "a c");
    wire.batch(&[msg::parse("look", look)]);
    for begin in ["BEGIN", "SAVEPOINT howdah"] {
        wire.query(begin);
        assert_eq!(wire.query(look).status, 'T', "after {begin}");
        assert_eq!(wire.value(look), "a c look", "after {begin}");
        let answer = wire.extended(&[msg::bind("", "look", &[]), msg::execute("", 0)]);
        assert_eq!(answer.rows[0][0].as_deref(), Some("a c look"), "{answer:?}");
        let answer = wire.extended(&[msg::extended(look, &[])]);
        assert_eq!(answer.rows[0][0].as_deref(), Some("a c look"), "{answer:?}");
        assert_eq!(answer.status, 'T', "after {begin}");
    }
    assert_eq!(wire.query("RELEASE howdah").status, 'T');
    assert_eq!(wire.query("EXECUTE c").value(), "c");
    assert_eq!(wire.query("EXECUTE b").code(), "42P01");
}

/// From PostgreSQL 18 on what stands behind another Execute of its batch runs in a transaction block.
#[test]
fn a_procedure_that_commits_can_be_called_by_a_prepared_statement_on_any_server() {
    let cluster = Cluster::version(18);
    cluster.sql_in(
        "app",
        "CREATE TABLE called (at timestamptz); GRANT ALL ON called TO app;
         CREATE PROCEDURE commits(at timestamptz) LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO called VALUES (at); COMMIT; END $$",
    );
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    let call = [msg::bind("", "call", &[]), msg::execute("", 0)];
    wire.batch(&[msg::parse("call", "CALL commits('2020-01-01')")]);
    for done in 1..=2 {
        assert_eq!(wire.batch(&call), "2CZ");
        // Until then its server is asked what the procedure has left.
        wire.query("SELECT 'nothing is asked any more'");
        let pids = cluster.backend_pids("usename = 'app'");
        cluster.sql(&format!("SELECT pg_terminate_backend({})", pids[0]));
        wait_until("howdah knows that the server is gone", || {
            howdah.log().matches("an idle server connection is gone").count() == done
        });
    }
    assert_eq!(wire.value("SELECT count(*) FROM called"), "2");
}
