//! DEALLOCATE and DISCARD ALL concern the client's own prepared statements, however they are said.

mod common;

use common::{Pair, msg};

#[test]
fn deallocate_in_every_spelling() {
    Pair::alike_one_and_two(|wire| {
        for sql in [
            "DEALLOCATE s",
            "deallocate prepare S",
            "DEALLOCATE \"s\"",
            "/* c */ DEALLOCATE -- d\n s ;",
            "DEALLOCATE ALL",
            "deallocate  prepare all",
            "DISCARD ALL",
            "SELECT 1; DEALLOCATE s; SELECT 2",
            "DEALLOCATE ALL; SELECT 3",
            "DEALLOCATE no_such_name",
            "DEALLOCATE \"S\"",
            "SELECT 'DEALLOCATE ALL'",
            "DISCARD PLANS",
        ] {
            for extended in [false, true] {
                wire.batch(&[msg::parse("s", "SELECT 's'"), msg::parse("s1", "SELECT 's1'")]);
                if extended {
                    wire.batch(&[msg::extended(sql, &[])]);
                } else {
                    wire.query(sql);
                }
                wire.batch(&[msg::run("s", &[])]);
                wire.batch(&[msg::run("s1", &[])]);
                wire.batch(&[msg::close_statement("s"), msg::close_statement("s1")]);
            }
        }
    });
}

#[test]
fn a_deallocate_of_what_has_gone_since_it_was_parsed_fails() {
    Pair::alike_one_and_two(|wire| {
        let gone = [
            msg::parse("", "DEALLOCATE a"),
            msg::close_statement("a"),
            msg::bind("", "", &[]),
            msg::execute("", 0),
        ];
        wire.batch(&[msg::parse("a", "SELECT 1")]);
        wire.batch(&gone);
        wire.batch(&[msg::parse("a", "SELECT 2")]);
        for message in gone {
            wire.batch(&[message]);
        }
        wire.batch(&[msg::parse("a", "SELECT 3"), msg::run("a", &[])]);
    });
}

#[test]
fn several_deallocates_of_one_query_are_carried_out_as_far_as_it_comes() {
    Pair::alike_one_and_two(|wire| {
        for sql in [
            "DEALLOCATE a; DEALLOCATE b",
            "DEALLOCATE b; SELECT 1/0; DEALLOCATE a",
            "DEALLOCATE a; DEALLOCATE nobody; DEALLOCATE b",
            "DEALLOCATE a; DEALLOCATE a",
            "SELECT 1; DEALLOCATE a; SELECT 2; DEALLOCATE PREPARE b; SELECT 3",
            "DEALLOCATE ALL; DEALLOCATE a",
            "DEALLOCATE a; DEALLOCATE ALL; SELECT 3",
            "DEALLOCATE a; SELECT name FROM pg_prepared_statements ORDER BY name; DEALLOCATE b",
            "BEGIN; DEALLOCATE a; ROLLBACK; DEALLOCATE b",
            "DEALLOCATE a; COPY (SELECT 1) TO STDOUT; DEALLOCATE b",
            "DEALLOCATE U&\"\\0061\"; DEALLOCATE U&\"!0062\" UESCAPE '!'",
            "DEALLOCATE a; SELECT 'unterminated",
            "DEALLOCATE howdah_1; SELECT 1",
            "DEALLOCATE howdah_1",
            // SQL folds names, and has escapes for them.
            "DEALLOCATE HOWDAH_1",
            "DEALLOCATE Howdah_2; SELECT 1",
            "DEALLOCATE U&\"howdah\\005f1\"",
            "EXECUTE HOWDAH_1",
            "EXECUTE U&\"\\0068owdah_2\"",
            "SELECT name FROM PG_PREPARED_STATEMENTS ORDER BY name",
            "SELECT name FROM pg_prepared_statement() ORDER BY name",
        ] {
            wire.batch(&[msg::parse("a", "SELECT 'a'"), msg::parse("b", "SELECT 'b'")]);
            wire.query(sql);
            wire.batch(&[msg::run("a", &[])]);
            wire.batch(&[msg::run("b", &[])]);
            wire.batch(&[msg::close_statement("a"), msg::close_statement("b")]);
        }
        // Copy data is no place for what howdah has to take back.
        wire.query("CREATE TABLE lines (n int)");
        wire.batch(&[msg::parse("a", "SELECT 'a'"), msg::parse("b", "SELECT 'b'")]);
        wire.send(&msg::query(
            "DEALLOCATE a; COPY lines FROM STDIN; DEALLOCATE nobody",
        ));
        while wire.read().kind != b'G' {}
        wire.send(&[msg::copy_data(b"1\n"), msg::copy_done()].concat());
        wire.until_ready();
        wire.batch(&[msg::run("a", &[])]);
        wire.batch(&[msg::run("b", &[])]);
        // What comes behind in the same write has to wait.
        wire.send(
            &[
                msg::query("SELECT 1; DEALLOCATE b"),
                msg::parse("b", "SELECT 'again'"),
                msg::run("b", &[]),
                msg::sync(),
            ]
            .concat(),
        );
        wire.until_ready();
        wire.until_ready();
        wire.query("SELECT count(*) FROM lines");
    });
}

#[test]
fn a_deallocate_under_any_name_and_portal_concerns_the_clients_names() {
    Pair::alike_one_and_two(|wire| {
        for sql in [
            "DEALLOCATE a",
            "DEALLOCATE ALL",
            "DEALLOCATE d",
            "DEALLOCATE howdah_1",
        ] {
            for (name, portal) in [("", ""), ("d", ""), ("d", "p"), ("", "p")] {
                // Its name comes into use after it has been parsed, or goes out of use.
                wire.batch(&[msg::close_statement("d"), msg::parse(name, sql)]);
                for there in [true, false] {
                    if there {
                        wire.batch(&[msg::parse("a", "SELECT 'a'")]);
                    }
                    wire.batch(&[msg::parse("", sql)]);
                    wire.batch(&[
                        msg::bind(portal, name, &[]),
                        msg::describe_portal(portal),
                        msg::execute(portal, 0),
                        msg::parse("a", "SELECT 'anew'"),
                        msg::run("a", &[]),
                    ]);
                    wire.batch(&[msg::run("a", &[])]);
                    wire.batch(&[msg::close_statement("a")]);
                    wire.batch(&[msg::parse(name, sql)]);
                }
            }
        }
        // Portals that are bound, and run much later, twice or never.
        wire.batch(&[msg::parse("a", "SELECT 'a'"), msg::parse("d", "DEALLOCATE a")]);
        wire.query("BEGIN");
        wire.batch(&[msg::bind("p", "d", &[]), msg::bind("q", "d", &[])]);
        wire.batch(&[msg::close_portal("p"), msg::bind("p", "a", &[])]);
        wire.batch(&[msg::execute("p", 0)]);
        wire.batch(&[msg::run("a", &[])]);
        wire.batch(&[msg::execute("q", 0)]);
        wire.batch(&[msg::execute("q", 0)]);
        wire.query("ROLLBACK");
        wire.batch(&[msg::run("a", &[])]);
        wire.batch(&[msg::parse("a", "SELECT 'a'")]);
        wire.query("BEGIN");
        wire.query("SELECT 1/0");
        wire.batch(&[msg::run("d", &[])]);
        wire.query("ROLLBACK");
        wire.batch(&[msg::run("a", &[])]);
        wire.batch(&[
            msg::extended("DISCARD ALL", &[]),
            msg::parse("a", "SELECT 'late'"),
        ]);
        wire.batch(&[msg::run("a", &[])]);
    });
}

#[test]
fn deallocate_within_transactions_and_pipelines() {
    Pair::alike_one_and_two(|wire| {
        wire.batch(&[msg::parse("s", "SELECT 's'")]);
        wire.query("BEGIN");
        wire.query("DEALLOCATE s");
        wire.query("ROLLBACK");
        wire.batch(&[msg::run("s", &[])]);
        wire.batch(&[msg::parse("s", "SELECT 's'")]);
        wire.query("BEGIN; SELECT 1/0");
        wire.query("DEALLOCATE ALL");
        wire.query("ROLLBACK");
        wire.batch(&[msg::run("s", &[])]);
        // A query does away with the unnamed portal, whatever it is.
        wire.query("BEGIN");
        wire.batch(&[msg::parse("p", "SELECT 'p'"), msg::bind("", "p", &[])]);
        wire.query("DEALLOCATE p");
        wire.batch(&[msg::execute("", 0)]);
        wire.query("ROLLBACK");
        wire.batch(&[msg::run("p", &[])]);
        // A name prepared behind DEALLOCATE ALL in the same pipeline lives on.
        wire.send(
            &[
                msg::extended("DEALLOCATE ALL", &[]),
                msg::parse("s", "SELECT 'new'"),
                msg::sync(),
                msg::run("s", &[]),
                msg::sync(),
                msg::query("DEALLOCATE ALL"),
                msg::parse("s", "SELECT 'newer'"),
                msg::sync(),
            ]
            .concat(),
        );
        (0..4).for_each(|_| drop(wire.until_ready()));
        wire.batch(&[msg::run("s", &[])]);
        // psycopg's rollback.
        wire.query("BEGIN");
        wire.batch(&[msg::run("s", &[])]);
        wire.query("ROLLBACK");
        wire.query("DEALLOCATE ALL");
        wire.batch(&[msg::parse("_pg3_0", "SELECT 'again'")]);
        wire.batch(&[msg::run("_pg3_0", &[])]);
        wire.query("SELECT 1/0; DEALLOCATE ALL");
        wire.batch(&[msg::run("_pg3_0", &[])]);
        wire.batch(&[
            msg::extended("SELECT 1/0", &[]),
            msg::extended("DEALLOCATE ALL", &[]),
        ]);
        wire.batch(&[msg::run("_pg3_0", &[])]);
    });
}

/// The name is gone by then.
#[test]
fn an_error_in_front_of_a_close_or_deallocate_speaks_of_the_clients_own_name() {
    Pair::alike_one_and_two(|wire| {
        let one_too_many = msg::bind("", "s", &[Some("7")]);
        for behind in [
            msg::close_statement("s"),
            msg::extended("DEALLOCATE s", &[]),
            msg::extended("DEALLOCATE ALL", &[]),
        ] {
            wire.batch(&[msg::parse("s", "SELECT 1")]);
            wire.batch(&[one_too_many.clone(), behind]);
            wire.batch(&[msg::run("s", &[])]);
            wire.query("DEALLOCATE ALL");
        }
    });
}
