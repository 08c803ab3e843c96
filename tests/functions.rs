//! What functions do that are called without being named: the parts of aggregates, the defaults of arguments.

mod common;

use common::{Cluster, Howdah, Pair, Wire};

const FUNCTIONS: [&str; 9] = [
    "CREATE FUNCTION leaves(a int, b int) RETURNS int LANGUAGE plpgsql AS $$BEGIN
        PERFORM set_config('parts.transition', b::text, false); CREATE TEMP TABLE IF NOT EXISTS part (n int); RETURN a + b; END$$",
    "CREATE FUNCTION ends(a int) RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM set_config('parts.final', a::text, false); RETURN a; END$$",
    "CREATE AGGREGATE by_transition(int) (sfunc = leaves, stype = int, initcond = 0)",
    "CREATE AGGREGATE by_final(int) (sfunc = int4pl, stype = int, initcond = 0, finalfunc = ends)",
    "CREATE AGGREGATE by_own(text, bool) (sfunc = set_config, stype = text, initcond = 'statement_timeout')",
    "CREATE FUNCTION default_of() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM set_config('parts.given', '1', false); RETURN 1; END$$",
    "CREATE FUNCTION stable(a int DEFAULT default_of()) RETURNS int LANGUAGE sql STABLE AS 'SELECT a'",
    "CREATE FUNCTION nested(a int DEFAULT abs(1 + default_of())) RETURNS int LANGUAGE sql STABLE AS 'SELECT a'",
    "CREATE FUNCTION sets(a text DEFAULT set_config('lock_timeout', '9s', false)) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT a'",
];

#[test]
fn what_parts_of_aggregates_and_defaults_of_arguments_leave_follows_and_never_leaks() {
    Pair::with_pool(3).alike(|wire| {
        for sql in FUNCTIONS {
            wire.query(sql);
        }
        let look = "SELECT name, nullif(current_setting(name, true), '') \
                    FROM unnest('{parts.transition,parts.final,parts.given,statement_timeout,lock_timeout}'::text[]) AS name";
        for call in [
            "SELECT by_transition(n) FROM generate_series(1, 3) AS n",
            "SELECT count(*) FROM part",
            "DROP TABLE part",
            "SELECT by_final(n) OVER () FROM generate_series(1, 3) AS n",
            "SELECT by_own('7s', false)",
            "SELECT stable()",
            "SET parts.given = 2",
            "SELECT nested()",
            "SELECT sets()",
            "RESET ALL",
        ] {
            wire.query(call);
            wire.query(look);
        }
    });
}

#[test]
fn aggregates_and_defaults_that_leave_nothing_are_inert() {
    let cluster = Cluster::start();
    cluster.sql("ALTER ROLE app SET log_statement = 'all'");
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    for sql in [
        "CREATE AGGREGATE plain(int) (sfunc = int4pl, stype = int, initcond = 0)",
        "CREATE FUNCTION since(a timestamptz DEFAULT now(), b uuid DEFAULT gen_random_uuid(), c int DEFAULT 1 + 2) \
         RETURNS bool LANGUAGE sql STABLE AS 'SELECT a <= now()'",
        "DO $$BEGIN END$$",
    ] {
        assert_eq!(wire.query(sql).code(), "", "{sql}");
    }
    wire.query("SELECT 'from here on'");
    assert_eq!(wire.value("SELECT plain(n) FROM generate_series(1, 3) AS n"), "6");
    assert_eq!(wire.value("SELECT since()"), "t");
    let log = cluster.log();
    let (_, behind) = log.rsplit_once("'from here on'").expect("it is logged");
    assert_eq!(behind.matches("statement: ").count(), 2, "{behind}");
}

#[test]
fn what_one_functions_body_names_hides_no_others() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let [mut wire, mut other] = [(); 2].map(|()| Wire::app(howdah.target()));
    let names: Vec<_> = (0..20_000).map(|n| format!("set a.b{n}")).collect();
    let names = names.join(" ");
    for sql in [
        &*format!("CREATE FUNCTION names() RETURNS void LANGUAGE plpgsql AS $$BEGIN END /* {names} */$$"),
        "CREATE FUNCTION sets() RETURNS void LANGUAGE plpgsql AS $$BEGIN SET zz.last = 2; END$$",
    ] {
        assert_eq!(wire.query(sql).code(), "");
    }
    wire.query("SELECT sets()");
    for _ in 0..4 {
        assert_eq!(wire.value("SELECT current_setting('zz.last', true)"), "2");
        other.query("SELECT 1");
        other.query("ROLLBACK");
        other.query("BEGIN");
    }
}

#[test]
fn catalogs_that_cannot_be_read_are_not_read_for_every_client() {
    let cluster = Cluster::start();
    cluster.sql("ALTER ROLE app SET log_statement = 'all'");
    cluster.sql_in("app", "REVOKE SELECT ON pg_proc FROM PUBLIC");
    let howdah = Howdah::with_pool(&cluster, 2);
    for n in 0..4 {
        let mut wire = Wire::app(howdah.target());
        wire.query("DO $$BEGIN PERFORM set_config('work_mem', '7MB', false); END$$");
        assert_eq!(wire.value("SHOW work_mem"), "7MB", "everything is asked about");
        wire.query(&format!("SELECT unknown{n}()"));
    }
    if howdah.is_howdah() {
        let log = cluster.log();
        let readings = log
            .lines()
            .filter(|line| line.contains("statement: ") && line.contains("proargdefaults"));
        assert_eq!(readings.count(), 1, "{log}");
    }
}

#[test]
fn defaults_that_are_too_long_to_be_looked_at_may_set_anything() {
    let cluster = Cluster::start();
    cluster.sql("ALTER ROLE app SET log_statement = 'all'");
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    let calls = ["abs(1)"; 1000].join(",");
    for sql in [
        &*format!(
            "CREATE FUNCTION long(a int[] DEFAULT ARRAY[{calls}]) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'"
        ),
        "CREATE FUNCTION short(a int DEFAULT abs(1)) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'",
        "DO $$BEGIN END$$",
    ] {
        assert_eq!(wire.query(sql).code(), "");
    }
    let mut statements = |call: &str| {
        let mark = format!("SELECT 'before {call}'");
        wire.query(&mark);
        assert_eq!(wire.value(call), "1");
        wire.query("SELECT 'behind'");
        let log = cluster.log();
        let (_, behind) = log.rsplit_once(&mark).expect("it is logged");
        behind.matches("statement: ").count()
    };
    assert_eq!(statements("SELECT short()"), 2);
    assert!(statements("SELECT long()") > 2, "it is asked what is set");
}
