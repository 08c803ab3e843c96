//! Objects that are temporary because the `search_path` says so, and the servers that they keep.

mod common;

use common::console::Console;
use common::{Cluster, Howdah, Pair, Wire, msg};

/// Every statement by itself, with another client's doings in between.
fn each(wire: &mut Wire, statements: &[&str]) {
    for statement in statements {
        wire.query(statement);
    }
}

#[test]
fn objects_that_only_the_path_makes_temporary_keep_the_server_too() {
    Pair::with_pool(3).alike(|wire| {
        each(
            wire,
            &[
                "SET search_path = pg_temp, public; CREATE TABLE at_once (n int)",
                "SELECT count(*) FROM at_once",
                "DISCARD ALL",
                "BEGIN",
                "SET LOCAL search_path = pg_temp, public",
                "CREATE TABLE of_a_local_path (n int)",
                "COMMIT",
                "SELECT count(*) FROM pg_temp.of_a_local_path",
                "DISCARD ALL",
                "BEGIN",
                "SELECT set_config('search_path', 'pg_temp', false)",
                "CREATE TABLE within (n int)",
                "COMMIT",
                "SELECT count(*) FROM within",
                "DISCARD ALL",
                "BEGIN",
                "SELECT set_config('search_path', 'pg_temp', true)",
                "CREATE TABLE of_a_local_call (n int)",
                "COMMIT",
                "SELECT count(*) FROM pg_temp.of_a_local_call",
                "DISCARD ALL",
            ],
        );
        wire.batch(&[
            msg::extended("SET search_path = pg_temp, public", &[]),
            msg::extended("CREATE TABLE in_a_pipeline (n int)", &[]),
        ]);
        wire.query("SELECT count(*) FROM in_a_pipeline");
    });
}

/// Of these paths no text tells what they lead to.
#[test]
fn objects_of_a_path_that_only_the_server_can_read_keep_the_server_too() {
    let paths = [
        r"SET LOCAL search_path = U&'pg\005ftemp', public",
        r"SET LOCAL search_path = E'pg\x5ftemp', public",
        r#"SET LOCAL U&"search\005fpath" = E'pg\x5ftemp'"#,
        "SET LOCAL search_path = 'pg_'\n'temp'",
        r"SELECT set_config('search_path', E'pg\x5ftemp', true)",
        "SELECT set_config('search_path', 'pg_' || 'temp', true)",
        "SELECT set_config(setting_name => 'search_path', new_value => 'pg_temp', is_local => true)",
        "SELECT set_config(a, 'pg_' || b, true) FROM (VALUES ('search_path', 'temp')) AS v (a, b)",
    ];
    Pair::with_pool(3).alike(|wire| {
        for (n, path) in paths.iter().enumerate() {
            each(
                wire,
                &[
                    "BEGIN",
                    path,
                    &format!("CREATE TABLE unread_{n} (n int)"),
                    "COMMIT",
                    &format!("SELECT count(*) FROM pg_temp.unread_{n}"),
                    "DISCARD ALL",
                ],
            );
        }
    });
}

#[test]
fn objects_of_a_path_that_comes_as_a_parameter_keep_the_server_too() {
    let named = "SELECT set_config('search_path', $1, true)";
    let temporary = [Some("pg_temp")];
    Pair::with_pool(3).alike(|wire| {
        wire.batch(&[
            msg::extended("BEGIN", &[]),
            msg::extended(named, &temporary),
            msg::extended("CREATE TABLE of_a_parameter AS SELECT 1", &[]),
            msg::extended("COMMIT", &[]),
        ]);
        wire.query("SELECT count(*) FROM pg_temp.of_a_parameter");
        wire.query("DISCARD ALL");
        wire.batch(&[
            msg::extended(
                "SELECT set_config($1, $2, true)",
                &[Some("search_path"), Some("pg_temp")],
            ),
            msg::extended("SELECT 1 AS n INTO of_a_pipeline", &[]),
        ]);
        wire.query("SELECT count(*) FROM pg_temp.of_a_pipeline");
        wire.query("DISCARD ALL");
        wire.batch(&[
            msg::parse("path", named),
            msg::parse("make", "CREATE VIEW of_statements AS SELECT 1"),
        ]);
        wire.query("BEGIN");
        wire.batch(&[msg::run("path", &temporary), msg::run("make", &[])]);
        wire.query("COMMIT");
        wire.query("SELECT count(*) FROM pg_temp.of_statements");
        wire.query("DISCARD ALL");
        // The path of the transaction alone: what comes later is everybody's again.
        wire.batch(&[msg::extended("CREATE TABLE of_nobodys (n int)", &[])]);
        wire.query("SELECT count(*) FROM public.of_nobodys");
    });
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let mut wire = Wire::app(howdah.target());
    let mut console = Console::open(howdah.target());
    wire.batch(&[
        msg::extended(named, &[Some("public")]),
        msg::extended("CREATE TABLE everybodys (n int)", &[]),
    ]);
    assert_eq!(console.show("CLIENTS").row(&[("database", "app")])["pin"], "");
}
