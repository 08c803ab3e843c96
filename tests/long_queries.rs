//! Queries of many rows, as bulk INSERTs are: what they leave behind follows the client as after any other.

mod common;

use common::console::{Console, number};
use common::{Cluster, Howdah, Pair, Wire, msg};

/// A statement of about this many bytes, which leaves nothing.
fn insert(bytes: usize) -> String {
    let row = "(1, 'somebody''s name; into a.b@example.org -- of (many)')";
    format!("INSERT INTO t VALUES {}", vec![row; bytes / row.len()].join(", "))
}

/// Three are read as a whole, the last is streamed.
const SIZES: [usize; 4] = [70_000, 300_000, 900_000, 3_000_000];

#[test]
fn a_custom_setting_is_the_clients_wherever_in_a_long_query_it_is_set() {
    Pair::alike_one_and_two(|wire| {
        wire.query("CREATE TABLE t (n int, v text)");
        for (number, size) in SIZES.into_iter().enumerate() {
            let insert = insert(size);
            wire.query(&format!(
                "SET long.first{number} = 'a'; {insert}; SELECT set_config('long.last{number}', 'b', false)"
            ));
            wire.query(&format!(
                "SELECT current_setting('long.first{number}'), current_setting('long.last{number}')"
            ));
            wire.query(&format!("{insert}; SET work_mem = '{}MB'; {insert}", number + 10));
            wire.query("SHOW work_mem");
        }
        wire.query("SELECT count(*) FROM t");
    });
}

#[test]
fn a_long_query_frees_the_statements_that_it_deallocates() {
    Pair::alike_one_and_two(|wire| {
        wire.query("CREATE TABLE t (n int, v text)");
        for size in &SIZES[..3] {
            let insert = insert(*size / 2);
            wire.batch(&[
                msg::parse("kept", "SELECT 'kept'"),
                msg::parse("freed", "SELECT 'freed'"),
            ]);
            wire.query(&format!("{insert}; DEALLOCATE freed; {insert}"));
            wire.batch(&[msg::run("kept", &[])]);
            wire.batch(&[msg::run("freed", &[])]);
            wire.batch(&[msg::parse("freed", "SELECT 'again'"), msg::run("freed", &[])]);
            wire.query("DEALLOCATE ALL");
        }
    });
}

#[test]
fn a_long_insert_takes_nothing_off_its_server() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    wire.query("CREATE TABLE t (n int, v text)");
    let statements: Vec<_> = (0..20)
        .map(|n| msg::parse(&n.to_string(), &format!("SELECT {n}")))
        .collect();
    wire.batch(&statements);
    let mut console = Console::open(howdah.target());
    for size in &SIZES[..3] {
        assert_eq!(wire.query(&insert(*size)).code(), "");
        let servers = console.show("SERVERS");
        let server = servers.row(&[("user", "app")]);
        assert_eq!(number(server, "prepared_statements"), 20, "{size}");
    }
}

#[test]
fn a_long_statement_leaves_its_settings_with_whoever_executes_it_however_often() {
    let cluster = Cluster::start();
    let padding = "x".repeat(70_000);
    let sets = format!("SELECT /* {padding} */ set_config('long.mine', $1, false)");
    let sticks =
        format!("DO $$BEGIN /* {padding} */ PERFORM set_config('long.' || 'other', 'a', false); END$$");
    for size in [1, 2] {
        let howdah = Howdah::with_pool(&cluster, size);
        let mut clients: Vec<_> = (0..4).map(|_| Wire::app(howdah.target())).collect();
        for round in 0..3 {
            for (number, wire) in clients.iter_mut().enumerate() {
                if round == 0 {
                    wire.batch(&[msg::parse("sets", &sets)]);
                }
                let value = format!("{number} of {round}");
                let answer = wire.extended(&[msg::run("sets", &[Some(&value)])]);
                assert_eq!(answer.value(), value, "pool of {size}");
            }
            for (number, wire) in clients.iter_mut().enumerate() {
                assert_eq!(
                    wire.value("SHOW long.mine"),
                    format!("{number} of {round}"),
                    "pool of {size}"
                );
            }
        }
        // Who has done what cannot be handed on keeps its server, the second time too.
        let wire = &mut clients[0];
        wire.batch(&[msg::parse("sticks", &sticks)]);
        for _ in 0..2 {
            wire.batch(&[msg::run("sticks", &[])]);
            if size == 2 {
                let mut other = Wire::app(howdah.target());
                let look = "SELECT coalesce(current_setting('long.other', true), '')";
                assert_eq!(other.value(look), "");
            }
            assert_eq!(wire.value("SHOW long.other"), "a", "pool of {size}");
            wire.query("RESET ALL");
        }
    }
}
