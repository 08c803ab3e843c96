//! What statements leave that nobody can see: connections of dblink, the globals of languages, seeds.

mod common;

use common::console::Console;
use common::net::wait_until;
use common::{Cluster, Howdah, Wire, msg};

/// A database whose functions connect by dblink: at once, by way of another function, and before they fail.
fn with_dblink() -> Cluster {
    let cluster = Cluster::start();
    for sql in [
        "CREATE EXTENSION dblink",
        "GRANT EXECUTE ON FUNCTION dblink_connect_u(text, text) TO app",
        "CREATE FUNCTION here() RETURNS text LANGUAGE sql STABLE AS
            $$SELECT format('host=127.0.0.1 port=%s dbname=other', current_setting('port'))$$",
        "CREATE FUNCTION connects(name text) RETURNS text LANGUAGE plpgsql AS
            $$BEGIN RETURN dblink_connect_u(name, here()); END$$",
        "CREATE FUNCTION calls_it(name text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN connects(name); END$$",
        "CREATE FUNCTION calls_that(name text) RETURNS text LANGUAGE sql AS 'SELECT calls_it(name)'",
        "CREATE FUNCTION fails(name text) RETURNS text LANGUAGE plpgsql AS
            $$BEGIN PERFORM connects(name); RAISE EXCEPTION 'behind it'; END$$",
    ] {
        cluster.sql_in("app", sql);
    }
    cluster
}

const THERE: &str = "SELECT coalesce(array_to_string(dblink_get_connections(), ','), '')";

#[test]
fn what_a_function_or_block_has_connected_to_is_its_clients_and_nobody_elses() {
    let cluster = with_dblink();
    let howdah = Howdah::with_pool(&cluster, 2);
    for (call, code) in [
        ("SELECT dblink_connect_u('k', here())", ""),
        (
            "SELECT dblink_connect_u('k', here()), 1 / (random() * 0)::int",
            "22012",
        ),
        ("DO $$BEGIN PERFORM dblink_connect_u('k', here()); END$$", ""),
        (
            "DO 'BEGIN EXECUTE ''SELECT dblink_connect_u(''''k'''', here())''; END'",
            "",
        ),
        ("SELECT connects('k')", ""),
        ("SELECT calls_that('k')", ""),
        ("DO $$BEGIN PERFORM calls_it('k'); END$$", ""),
        ("SELECT fails('k')", "P0001"),
    ] {
        for is_extended in [false, true] {
            let mut wire = Wire::app(howdah.target());
            let answer = if is_extended {
                wire.extended(&[msg::extended(call, &[])])
            } else {
                wire.query(call)
            };
            assert_eq!(answer.code(), code, "{call}");
            let mut other = Wire::app(howdah.target());
            for _ in 0..3 {
                assert_eq!(other.value(THERE), "", "while it is there: {call}");
                assert_eq!(wire.value(THERE), "k", "{call}");
            }
            wire.terminate();
            let mut third = Wire::app(howdah.target());
            for wire in [&mut other, &mut third] {
                wire.query("BEGIN");
                assert_eq!(wire.value(THERE), "", "when its client has gone: {call}");
            }
        }
    }
}

#[test]
fn who_vanishes_while_a_function_connects_leaves_nothing() {
    let cluster = with_dblink();
    let howdah = Howdah::with_pool(&cluster, 1);
    for call in ["SELECT connects('k')", "DO $$BEGIN PERFORM calls_it('k'); END$$"] {
        let mut wire = Wire::app(howdah.target());
        for sql in ["BEGIN", call, "SELECT 1"] {
            assert_eq!(wire.query(sql).code(), "", "{sql}");
        }
        wire.vanish();
        assert_eq!(Wire::app(howdah.target()).value(THERE), "", "{call}");
    }
}

#[test]
fn functions_that_keep_globals_keep_their_clients_server() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    if !howdah.is_howdah() {
        return;
    }
    let mut console = Console::open(howdah.target());
    for (language, body, pin) in [
        ("plperl", "$_SHARED{user} = $_[0]", "sticky"),
        ("plpython3u", "GD['user'] = 1", "sticky"),
        (
            "plpython3u",
            "SD.setdefault('plan', plpy.prepare('SELECT 1'))",
            "",
        ),
        ("pltcl", "global user", "sticky"),
        ("plv8", "globalThis.user = 1", "sticky"),
        ("plpgsql", "GD, $_SHARED", ""),
    ] {
        // Languages of these names; that they read what PL/pgSQL does makes no difference.
        let handler = "HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler";
        if language != "plpgsql" {
            cluster.sql_in(
                "app",
                &format!("CREATE OR REPLACE TRUSTED LANGUAGE {language} {handler}"),
            );
        }
        let body = format!("/*\n{body}\n*/ BEGIN END");
        let create =
            format!("CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE {language} AS $body${body}$body$");
        for call in [
            "SELECT f()",
            &format!("DO LANGUAGE {language} $body${body}$body$"),
        ] {
            let mut wire = Wire::app(howdah.target());
            assert_eq!(wire.query(&create).code(), "", "{create}");
            assert_eq!(wire.query(call).code(), "", "{call}");
            wire.query("SELECT 1");
            let seen = console.show("CLIENTS").row(&[("user", "app")])["pin"].clone();
            assert_eq!(seen, pin, "{body}: {call}");
            wire.terminate();
            wait_until("it has gone", || {
                console
                    .show("CLIENTS")
                    .rows
                    .iter()
                    .all(|row| row["user"] != "app")
            });
        }
    }
}

#[test]
fn nobody_can_foretell_what_random_gives_another() {
    let cluster = Cluster::start();
    cluster.sql_in(
        "app",
        "CREATE FUNCTION seeds() RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE 'SET LOCAL seed = 0.5'; END$$",
    );
    let howdah = Howdah::with_pool(&cluster, 1);
    let random = "SELECT random()";
    let extended = |sql, values: &[_]| [msg::extended(sql, values), msg::sync()].concat();
    let foretold = {
        let mut direct = Wire::app(cluster.target());
        direct.query("SELECT setseed(0.5)");
        direct.value(random)
    };
    let seed = [Some("seed"), Some("0.5")];
    let ways = [
        msg::query("SELECT setseed(0.5)"),
        msg::query("SET seed = 0.5"),
        msg::query("BEGIN; SET LOCAL seed TO 0.5; ROLLBACK"),
        msg::query("SELECT set_config('seed', '0.5', true)"),
        msg::query("DO $$BEGIN PERFORM setseed(0.5); END$$"),
        msg::query("SELECT seeds()"),
        extended("SELECT setseed($1)", &[Some("0.5")]),
        extended("SELECT set_config($1, $2, false)", &seed),
        extended("SELECT set_config($1, $2, true)", &seed),
    ];
    for way in ways {
        for vanishes in [false, true] {
            let mut wire = Wire::app(howdah.target());
            if vanishes {
                wire.query("BEGIN");
            }
            wire.send(&way);
            assert_eq!(wire.answer().code(), "", "{}", way.escape_ascii());
            if vanishes {
                wire.vanish();
            } else {
                assert_eq!(wire.value(random), foretold, "{}", way.escape_ascii());
                wire.query("SELECT setseed(0.5)");
                wire.terminate();
            }
            let mut other = Wire::app(howdah.target());
            assert_ne!(other.value(random), foretold, "{}", way.escape_ascii());
        }
    }
}

#[test]
fn a_server_that_has_had_a_thousand_custom_settings_is_closed() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    let backend = "SELECT pg_backend_pid()";
    let first = wire.value(backend);
    let mut use_names = |names: std::ops::Range<u32>| {
        let set: Vec<_> = names.map(|n| format!("SET LOCAL a.b{n} = 1;")).collect();
        assert_eq!(wire.query(&format!("BEGIN; {} COMMIT", set.concat())).code(), "");
    };
    use_names(0..500);
    use_names(0..500);
    assert_eq!(
        Wire::app(howdah.target()).value(backend),
        first,
        "those are not many"
    );
    use_names(500..1000);
    use_names(900..1100);
    assert_ne!(Wire::app(howdah.target()).value(backend), first);
    howdah.wait_log("it has had too many custom settings");
    // Nor does their client bring them to others.
    let second = wire.value(backend);
    wire.query("SELECT 1");
    assert_eq!(Wire::app(howdah.target()).value(backend), second);
    // More at once than are remembered.
    let set: Vec<_> = (0..3000).map(|n| format!("SET LOCAL c.d{n} = 1;")).collect();
    assert_eq!(wire.query(&format!("BEGIN; {} COMMIT", set.concat())).code(), "");
    wire.query("RESET ALL");
    assert_ne!(Wire::app(howdah.target()).value(backend), second);
}
