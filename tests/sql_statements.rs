//! Prepared statements of the protocol and of SQL, which share one space of names.

mod common;

use common::{Pair, Wire, msg};

#[test]
fn sql_and_protocol_share_one_space_of_names() {
    // One for the client to keep, two for the noise.
    Pair::with_pool(3).alike(|wire| {
        wire.batch(&[msg::parse("mine", "SELECT $1::int * 2")]);
        wire.query("EXECUTE mine (21)");
        wire.query("PREPARE mine AS SELECT 1");
        wire.query("BEGIN");
        wire.query("EXECUTE mine (4)");
        wire.query("COMMIT");
        wire.query("PREPARE theirs AS SELECT 'theirs'");
        wire.batch(&[msg::run("theirs", &[])]);
        wire.batch(&[msg::parse("theirs", "SELECT 1")]);
        wire.batch(&[msg::close_statement("theirs")]);
        wire.query("EXECUTE theirs");
        wire.query("DEALLOCATE ALL");
        wire.query("EXECUTE mine (21)");
        // In one transaction, before anybody has been asked.
        wire.query("BEGIN");
        wire.query("PREPARE early AS SELECT 'early'");
        wire.batch(&[msg::parse("early", "SELECT 1")]);
        wire.query("ROLLBACK");
        wire.batch(&[
            msg::close_statement("early"),
            msg::parse("early", "SELECT 2"),
            msg::run("early", &[]),
        ]);
        wire.batch(&[msg::extended("PREPARE early AS SELECT 3", &[])]);
        wire.batch(&[msg::run("early", &[])]);
        wire.batch(&[
            msg::parse("both", "SELECT 1"),
            msg::extended("PREPARE both AS SELECT 2", &[]),
        ]);
        wire.batch(&[msg::parse("self", "DEALLOCATE self"), msg::run("self", &[])]);
        wire.batch(&[msg::run("self", &[])]);
    });
}

#[test]
fn a_name_is_handed_from_the_protocol_to_sql_and_back() {
    Pair::with_pool(3).alike(|wire| {
        wire.batch(&[msg::parse("a", "SELECT 'of the protocol'")]);
        wire.query("DEALLOCATE a; PREPARE a AS SELECT 'of SQL'");
        wire.query("EXECUTE a; DEALLOCATE a; EXECUTE a");
        wire.batch(&[msg::parse("a", "SELECT 'of the protocol'")]);
        wire.query("EXECUTE a; DEALLOCATE a; PREPARE a AS SELECT 'of SQL'; EXECUTE a");
        wire.batch(&[msg::run("a", &[])]);
        wire.query("DEALLOCATE ALL; PREPARE b AS SELECT 'b'");
        wire.batch(&[msg::parse("b", "SELECT 'taken'")]);
        wire.query("DEALLOCATE b");
        // In one segment.
        wire.batch(&[
            msg::parse("a", "SELECT 'of the protocol'"),
            msg::extended("DEALLOCATE a", &[]),
            msg::extended("PREPARE a AS SELECT 'of SQL'", &[]),
        ]);
        wire.query("EXECUTE a");
        wire.batch(&[
            msg::extended("EXECUTE a", &[]),
            msg::extended("DEALLOCATE ALL", &[]),
        ]);
        wire.query("EXECUTE a");
        wire.batch(&[
            msg::parse("a", "SELECT 'of the protocol'"),
            msg::extended("EXECUTE a", &[]),
            msg::extended("DEALLOCATE ALL", &[]),
            msg::extended("PREPARE a AS SELECT 'of SQL'", &[]),
        ]);
        wire.query("EXECUTE a");
        wire.query("DISCARD ALL");
        // A query that ends the segment in which a name was lent, and copy data that Sync is among.
        wire.batch(&[msg::parse("a", "SELECT 'of the protocol'")]);
        wire.send(
            &[
                msg::extended("EXECUTE a", &[]),
                msg::query("EXECUTE a; DEALLOCATE a"),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.query("EXECUTE a");
        wire.query("CREATE TABLE lines (n int)");
        wire.batch(&[msg::parse("a", "SELECT 'of the protocol'")]);
        wire.send(
            &[
                msg::extended("EXECUTE a", &[]),
                msg::extended("COPY lines FROM STDIN", &[]),
                msg::sync(),
            ]
            .concat(),
        );
        while wire.read().kind != b'G' {}
        wire.send(&[msg::copy_data(b"1\n"), msg::copy_done(), msg::sync()].concat());
        wire.until_ready();
        wire.query("SELECT count(*) FROM lines");
        wire.query("PREPARE a AS SELECT 1");
    });
}

/// Whether a name of SQL's is free again, is known before the server has been asked what is left.
#[test]
fn a_name_that_sql_has_just_given_back_can_be_taken_in_the_protocol() {
    Pair::with_pool(3).alike(|wire| {
        let extended = |sql: &str| [msg::extended(sql, &[]), msg::sync()].concat();
        for free in ["DEALLOCATE ALL", "DEALLOCATE theirs", "SELECT 'nothing'"] {
            wire.query("PREPARE theirs AS SELECT 'of SQL'");
            let take = [msg::parse("theirs", "SELECT 'of the protocol'"), msg::sync()].concat();
            let end = [msg::run("theirs", &[]), msg::sync()].concat();
            wire.send(&[extended(free), take.clone(), end.clone()].concat());
            for _ in 0..3 {
                wire.until_ready();
            }
            wire.query("DEALLOCATE ALL");
            wire.query("PREPARE theirs AS SELECT 'of SQL'");
            wire.query("BEGIN");
            wire.query(free);
            wire.send(&[take, end].concat());
            wire.until_ready();
            wire.until_ready();
            wire.query("ROLLBACK");
            wire.query("DEALLOCATE ALL");
        }
    });
}

#[test]
fn literals_mean_what_they_meant_when_they_were_parsed() {
    Pair::alike_one_and_two(|wire| {
        wire.query("SET datestyle = 'ISO, DMY'");
        wire.batch(&[msg::parse("s", "SELECT '1/2/2020'::date")]);
        wire.batch(&[msg::run("s", &[])]);
        wire.query("SET datestyle = 'ISO, MDY'");
        for _ in 0..4 {
            wire.batch(&[msg::run("s", &[])]);
        }
        wire.query("BEGIN");
        wire.batch(&[msg::run("s", &[])]);
        wire.query("SHOW datestyle");
        wire.query("COMMIT");
        wire.batch(&[msg::run("s", &[]), msg::run("s", &[])]);
        wire.query("SHOW datestyle");
        wire.query("EXECUTE s");
        wire.batch(&[msg::extended("EXECUTE s", &[])]);
        wire.query("SHOW datestyle");
    });
}

#[test]
fn a_client_finds_its_own_prepared_statements_in_the_catalog_and_no_others() {
    Pair::alike_one_and_two(|wire| {
        let look = "SELECT name, statement, from_sql FROM pg_prepared_statements ORDER BY prepare_time";
        wire.query(look);
        wire.batch(&[msg::parse("b", "SELECT 'b'")]);
        wire.batch(&[msg::parse("a", "SELECT $1::int")]);
        wire.query(look);
        wire.batch(&[msg::parse("", look), msg::run("", &[])]);
        wire.query("BEGIN");
        wire.query(look);
        wire.query("SELECT 1/0");
        wire.query(look);
        wire.query("ROLLBACK");
        wire.batch(&[msg::run("a", &[Some("1")]), msg::run("b", &[])]);
        wire.batch(&[msg::parse("look", look)]);
        wire.batch(&[msg::run("look", &[]), msg::run("a", &[Some("2")])]);
        wire.batch(&[msg::close_statement("a"), msg::run("look", &[])]);
        wire.query(look);
        wire.query("DEALLOCATE ALL");
        wire.query(look);
    });
}

/// PostgreSQL finds out when it parses an EXECUTE or a FETCH what that returns, from what the session has by that name.
#[test]
fn what_execute_and_fetch_return_is_described_by_the_clients_own() {
    Pair::alike_one_and_two(|wire| {
        wire.batch(&[msg::parse("a", "SELECT 1 AS number, 'text' AS text")]);
        wire.batch(&[msg::parse("", "EXECUTE a"), msg::describe_statement("")]);
        wire.batch(&[msg::describe_statement(""), msg::run("", &[])]);
        wire.batch(&[
            msg::parse("e", "/* mine */ EXECUTE a"),
            msg::describe_statement("e"),
        ]);
        wire.batch(&[msg::describe_statement("e")]);
        wire.batch(&[msg::run("e", &[])]);
        wire.batch(&[
            msg::parse("", ";EXECUTE a"),
            msg::close_statement("a"),
            msg::parse("a", "SELECT 2"),
            msg::run("a", &[]),
        ]);
        wire.batch(&[msg::parse("", "EXECUTE nobodys"), msg::describe_statement("")]);
        wire.query("BEGIN");
        wire.query("DECLARE c CURSOR FOR SELECT 1 AS number, 'text' AS text");
        wire.batch(&[msg::parse("f", "FETCH c"), msg::describe_statement("f")]);
        wire.query("COMMIT");
    });
}

/// Two clients have the same text, and other things by the name in it.
#[test]
fn what_execute_and_fetch_return_is_not_what_another_clients_would() {
    let pair = Pair::with_pool(1);
    let described = |of_whom: &str| {
        let mut wire = Wire::app(pair.howdah.target());
        let own = format!("SELECT 1 AS {of_whom}");
        wire.batch(&[msg::parse("a", &own)]);
        wire.batch(&[msg::parse("e", "EXECUTE a"), msg::describe_statement("e")]);
        wire.query("BEGIN");
        wire.query(&format!("DECLARE c CURSOR FOR {own}"));
        wire.batch(&[msg::parse("f", "FETCH c"), msg::describe_statement("f")]);
        wire.query("COMMIT");
        let told = |frame: &&String| frame.starts_with('T') && frame.contains(of_whom);
        wire.transcript.iter().filter(told).count()
    };
    assert_eq!(described("ones"), 2);
    assert_eq!(described("anothers"), 2);
}

/// Closed behind an EXECUTE in the same batch: it is not found any more. And what cannot be prepared where it is to be
/// found is told as PostgreSQL would tell it, once.
#[test]
fn what_sql_executes_is_gone_once_it_has_been_closed_and_fails_with_its_own_error() {
    Pair::alike_one_and_two(|wire| {
        wire.batch(&[msg::parse("c", "SELECT 1")]);
        wire.batch(&[msg::extended("EXECUTE c", &[])]);
        wire.batch(&[
            msg::extended("EXECUTE c", &[]),
            msg::close_statement("c"),
            msg::extended("EXECUTE c", &[]),
        ]);
        wire.batch(&[msg::extended("EXECUTE c", &[])]);

        wire.query("CREATE TABLE IF NOT EXISTS passing (n int)");
        wire.batch(&[msg::parse("t", "SELECT n FROM passing")]);
        wire.query("EXECUTE t");
        wire.query("DROP TABLE passing");
        wire.query("EXECUTE t");
        wire.query("BEGIN");
        wire.query("EXECUTE t");
        wire.query("SELECT 1");
        wire.query("ROLLBACK");
        wire.query("SELECT 1");
    });
}
