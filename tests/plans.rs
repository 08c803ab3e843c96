//! What PostgreSQL remembers of a statement that it has planned is the session's. Where servers change hands nobody finds in
//! a plan what another client's settings, or temporary tables, have made of it.

mod common;

use common::{Cluster, Howdah, Pair, Wire, msg};

/// The first column of the first row.
fn run(wire: &mut Wire, name: &str) -> Option<String> {
    let answer = wire.extended(&[msg::run(name, &[])]);
    answer
        .rows
        .into_iter()
        .next()
        .and_then(|mut row| row.swap_remove(0))
}

#[test]
fn no_plan_holds_what_another_clients_settings_have_made_of_constants() {
    let pair = Pair::with_pool(1);
    let [mut first, mut second] = [(); 2].map(|()| Wire::app(pair.howdah.target()));
    for (text, set, wanted) in [
        (
            "SELECT (1::float8 / 3)::text",
            "extra_float_digits = -10",
            "0.3333333333333333",
        ),
        (
            r"SELECT '\x4142'::bytea::text",
            "bytea_output = escape",
            r"\x4142",
        ),
        (
            "SELECT '1 year 2 days'::interval::text",
            "IntervalStyle = iso_8601",
            "1 year 2 days",
        ),
        (
            "SELECT quote_ident('plain')",
            "quote_all_identifiers = on",
            "plain",
        ),
    ] {
        for (way, ends) in [("SET", "COMMIT"), ("SET", "ROLLBACK"), ("SET LOCAL", "COMMIT")] {
            // Another text for each, which both share.
            let text = format!("{text} AS \"{way}{ends}\"");
            for wire in [&mut first, &mut second] {
                wire.batch(&[msg::parse("s", &text)]);
            }
            first.query("BEGIN");
            first.query(&format!("{way} {set}"));
            let own = run(&mut first, "s");
            assert_ne!(own.as_deref(), Some(wanted), "{text}: the setting has an effect");
            first.query(ends);
            assert_eq!(run(&mut second, "s").as_deref(), Some(wanted), "{text}");
            first.query("RESET ALL");
            for wire in [&mut first, &mut second] {
                wire.batch(&[msg::close_statement("s")]);
            }
        }
    }
}

/// Declared to be constant, which it is within one session that never changes.
#[test]
fn no_plan_holds_what_a_function_has_read_of_another_clients_session() {
    let pair = Pair::with_pool(1);
    pair.cluster.sql(
        "CREATE FUNCTION tenant() RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT current_setting('app.tenant', true) $$;
         CREATE FUNCTION who() RETURNS text IMMUTABLE LANGUAGE sql RETURN current_user;
         CREATE TABLE docs (t text, body text); INSERT INTO docs VALUES ('a', 'of a'), ('b', 'of b'); GRANT SELECT ON docs TO app",
    );
    let bodies = "SELECT body FROM docs WHERE t = tenant()";
    let client = |tenant: &str| {
        let mut wire = Wire::app(pair.howdah.target());
        wire.batch(&[msg::parse("s", bodies)]);
        wire.query(&format!("SET app.tenant = '{tenant}'"));
        wire
    };
    let (mut a, mut b) = (client("a"), client("b"));
    for _ in 0..3 {
        assert_eq!(run(&mut a, "s").as_deref(), Some("of a"));
        assert_eq!(run(&mut b, "s").as_deref(), Some("of b"));
    }
    // For the transaction only, as programs with many tenants do.
    let mut third = Wire::app(pair.howdah.target());
    third.batch(&[msg::parse("s", bodies)]);
    for tenant in ["a", "b"] {
        for wire in [&mut third, &mut b] {
            wire.query("BEGIN");
            wire.query(&format!("SET LOCAL app.tenant = '{tenant}'"));
            assert_eq!(run(wire, "s"), Some(format!("of {tenant}")));
            wire.query("COMMIT");
        }
    }
    assert_eq!(run(&mut a, "s").as_deref(), Some("of a"));
    for wire in [&mut a, &mut b] {
        wire.batch(&[msg::parse("w", "SELECT who()")]);
    }
    a.query("SET ROLE pg_read_all_data");
    let _ = run(&mut a, "w");
    assert_eq!(run(&mut b, "w").as_deref(), Some("app"));
    // What functions there are is not known any more after that.
    a.query("RESET ROLE");
    for _ in 0..2 {
        assert_eq!(run(&mut a, "s").as_deref(), Some("of a"));
        a.query("CREATE OR REPLACE FUNCTION another() RETURNS int LANGUAGE sql AS 'SELECT 1'");
        assert_eq!(run(&mut b, "s").as_deref(), Some("of b"));
    }
}

/// Nor by another function, nor by a policy of what it reads.
#[test]
fn no_plan_holds_what_a_function_has_others_read() {
    for (number, constant) in [
        "CREATE FUNCTION constant() RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN asks(); END $$",
        "CREATE FUNCTION constant() RETURNS text IMMUTABLE LANGUAGE sql RETURN asks()",
        "CREATE FUNCTION constant() RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT t FROM mine $$",
        "CREATE FUNCTION constant() RETURNS text IMMUTABLE LANGUAGE sql BEGIN ATOMIC SELECT t FROM mine; END",
    ]
    .into_iter()
    .enumerate()
    {
        let pair = Pair::with_pool(1);
        pair.cluster.sql(
            "CREATE FUNCTION asks() RETURNS text STABLE LANGUAGE sql AS $$ SELECT current_setting('app.tenant', true) $$;
             CREATE TABLE mine (t text); INSERT INTO mine VALUES ('a'), ('b'); GRANT SELECT ON mine TO app;
             ALTER TABLE mine ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON mine USING (t = current_setting('app.tenant', true))",
        );
        pair.cluster.sql(constant);
        let client = |tenant: &str| {
            let mut wire = Wire::app(pair.howdah.target());
            wire.batch(&[msg::parse("s", "SELECT constant()")]);
            wire.query(&format!("SET app.tenant = '{tenant}'"));
            wire
        };
        let (mut a, mut b) = (client("a"), client("b"));
        for _ in 0..2 {
            assert_eq!(run(&mut a, "s").as_deref(), Some("a"), "{number}");
            assert_eq!(run(&mut b, "s").as_deref(), Some("b"), "{number}");
        }
    }
}

/// A session reads a function's text once, when it is first called there.
#[test]
fn a_literal_in_a_function_means_what_its_caller_is_set_to() {
    let pair = Pair::with_pool(1);
    pair.cluster.sql(
        "CREATE FUNCTION year() RETURNS text LANGUAGE plpgsql AS
             $$ BEGIN RETURN extract(epoch FROM '2020-01-01'::timestamptz); END $$;
         CREATE FUNCTION inlined() RETURNS text LANGUAGE sql STABLE AS
             $$ SELECT extract(epoch FROM '2020-01-01'::timestamptz)::text $$",
    );
    const UTC: &str = "1577836800";
    const CET: &str = "1577833200";
    let client = |zone: &str| {
        let params = [("user", "app"), ("database", "app"), ("TimeZone", zone)];
        let mut wire = Wire::login_with(pair.howdah.target(), &params, None).expect("it logs in");
        for (name, text) in [("p", "SELECT year()"), ("i", "SELECT inlined()")] {
            wire.batch(&[msg::parse(name, text)]);
        }
        wire
    };
    let (mut utc, mut cet) = (client("UTC"), client("CET"));
    let means = |wire: &mut Wire, wanted: &str| {
        for name in ["p", "i"] {
            let told = run(wire, name).expect("a row");
            assert!(told.starts_with(wanted), "{name}: {told}, not {wanted}");
        }
    };
    for _ in 0..2 {
        means(&mut utc, UTC);
        means(&mut cet, CET);
    }
    // For a transaction only, or for a while.
    let again = "CREATE OR REPLACE FUNCTION year() RETURNS text LANGUAGE plpgsql AS
                 $$ BEGIN RETURN extract(epoch FROM '2020-01-01'::timestamptz); END $$";
    let mut other = client("UTC");
    for set in [
        "SET LOCAL TimeZone = 'CET'",
        "SET TimeZone = 'CET'",
        "SELECT set_config('TimeZone', 'CET', true)",
    ] {
        for end in ["COMMIT", "ROLLBACK"] {
            pair.cluster.sql(again);
            other.query("BEGIN");
            other.query(set);
            means(&mut other, CET);
            other.query(end);
            means(&mut utc, UTC);
            other.query("RESET TimeZone");
        }
    }
    // By the trial of a login, and by what has to be cleaned behind its client.
    let mut new = client("Asia/Tokyo");
    means(&mut new, "1577804400");
    new.query("SELECT pg_advisory_lock(7)");
    new.terminate();
    means(&mut utc, UTC);
    // Who goes in the middle has left it too.
    pair.cluster.sql(again);
    other.query("BEGIN");
    other.query("SET LOCAL TimeZone = 'CET'");
    let _ = run(&mut other, "p");
    other.vanish();
    means(&mut utc, UTC);
}

#[test]
fn a_temporary_table_hides_a_table_from_its_own_client_only() {
    let pair = Pair::with_pool(2);
    pair.cluster
        .sql("CREATE TABLE hidden (a int); INSERT INTO hidden VALUES (7); GRANT SELECT ON hidden TO app");
    let mut owner = Wire::app(pair.howdah.target());
    owner.query("CREATE TEMP TABLE own (a int); CREATE TEMP TABLE hidden (x text, y text)");
    for (name, text) in [("own", "SELECT * FROM own"), ("both", "SELECT * FROM hidden")] {
        assert_eq!(
            owner.batch(&[msg::parse(name, text), msg::run(name, &[])]),
            "12TCZ"
        );
    }
    let mut others = Wire::app(pair.howdah.target());
    let answer = others.extended(&[msg::parse("own", "SELECT * FROM own")]);
    assert_eq!(answer.code(), "42P01");
    others.batch(&[msg::parse("both", "SELECT * FROM hidden")]);
    assert_eq!(run(&mut others, "both").as_deref(), Some("7"));
    owner.query("DISCARD TEMP");
    owner.terminate();
    let mut held = Wire::app(pair.howdah.target());
    held.query("BEGIN");
    for _ in 0..2 {
        assert_eq!(run(&mut others, "both").as_deref(), Some("7"), "on either server");
        held.query("COMMIT");
    }
}

/// What PostgreSQL lets no query come before, or nothing within a transaction.
#[test]
fn what_has_to_come_first_does_so_after_its_settings_have_changed_too() {
    Pair::alike_one_and_two(|wire| {
        wire.query("CREATE TABLE swept (a int)");
        for (name, text) in [
            ("sweeps", "VACUUM swept"),
            ("isolates", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
            ("indexes", "CREATE INDEX CONCURRENTLY sought ON swept (a)"),
        ] {
            wire.batch(&[msg::parse(name, text)]);
        }
        for zone in ["Europe/Paris", "Asia/Tokyo"] {
            wire.query(&format!("SET TimeZone = '{zone}'"));
            wire.batch(&[msg::run("sweeps", &[])]);
            wire.query("BEGIN");
            wire.batch(&[msg::run("isolates", &[])]);
            wire.query("SHOW transaction_isolation");
            wire.query("ROLLBACK");
            wire.batch(&[msg::run("indexes", &[])]);
            wire.query("DROP INDEX sought");
        }
    });
}

/// Such a word is read when a statement is prepared, and stands for that moment ever after.
#[test]
fn the_moment_at_which_one_client_prepares_a_statement_is_not_anothers() {
    let pair = Pair::with_pool(1);
    let ages = [
        "SELECT clock_timestamp() - 'now'::timestamptz < '0.5 s'",
        "SELECT 'now'::timestamptz = now()",
    ];
    let mut first = Wire::app(pair.howdah.target());
    for (name, text) in ["a", "b"].iter().zip(ages) {
        first.batch(&[msg::parse(name, text)]);
    }
    first.query("SELECT pg_sleep(0.6)");
    let mut second = Wire::app(pair.howdah.target());
    assert_eq!(second.batch(&[msg::parse("a", ages[0])]), "1Z");
    assert_eq!(
        run(&mut second, "a").as_deref(),
        Some("t"),
        "it was prepared just now"
    );
    let answer = second.extended(&[msg::parse("b", ages[1]), msg::run("b", &[])]);
    assert_eq!(
        answer.rows,
        [[Some("t".to_owned())]],
        "prepared in this very transaction"
    );
}

#[test]
fn what_is_prepared_behind_tables_that_are_not_committed_is_nobody_elses() {
    let pair = Pair::with_pool(2);
    pair.cluster.sql(
        "CREATE TABLE changed (a int); INSERT INTO changed VALUES (7); ALTER TABLE changed OWNER TO app",
    );
    let [mut altering, mut others] = [(); 2].map(|()| Wire::app(pair.howdah.target()));
    altering.query("BEGIN; ALTER TABLE changed ADD COLUMN z int; CREATE TABLE coming (n int)");
    for text in ["SELECT * FROM changed", "SELECT * FROM coming"] {
        assert_eq!(altering.batch(&[msg::parse(text, text)]), "1Z");
    }
    let coming = "SELECT * FROM coming";
    assert_eq!(others.extended(&[msg::parse(coming, coming)]).code(), "42P01");
    altering.query("ROLLBACK");
    let changed = "SELECT * FROM changed";
    assert_eq!(others.batch(&[msg::parse(changed, changed)]), "1Z");
    let mut held = Wire::app(pair.howdah.target());
    held.query("BEGIN");
    for _ in 0..2 {
        assert_eq!(
            run(&mut others, changed).as_deref(),
            Some("7"),
            "on either server"
        );
        held.query("COMMIT");
    }
}

/// What is created and altered where no command tag tells of it.
#[test]
fn what_is_prepared_behind_unseen_definitions_is_planned_behind_them() {
    let cluster = Cluster::options().conf("max_prepared_transactions = 2").start();
    let howdah = Howdah::with_pool(&cluster, 2);
    Pair::of(cluster, howdah, 2).alike(|wire| {
        for sql in [
            "CREATE FUNCTION alters() RETURNS void LANGUAGE plpgsql AS $$BEGIN ALTER TABLE t ADD b int; END$$",
            "CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$BEGIN EXECUTE 'ALTER TABLE t ADD b int'; COMMIT; END$$",
            "DO $$BEGIN END$$",
        ] {
            wire.query(sql);
        }
        for way in [
            &["DO $$BEGIN ALTER TABLE t ADD b int; END$$"][..],
            &["BEGIN", "DO $$BEGIN DROP TABLE t; CREATE TABLE t (a int, b int); END$$", "COMMIT"],
            &["SELECT alters()"],
            &["CALL commits()"],
            &["BEGIN", "ALTER TABLE t ADD b int", "PREPARE TRANSACTION 'p'", "SELECT 1", "COMMIT PREPARED 'p'"],
        ] {
            wire.query("CREATE TABLE t (a int)");
            wire.batch(&[msg::parse("before", "SELECT * FROM t"), msg::run("before", &[])]);
            for sql in way {
                wire.query(sql);
            }
            for name in ["behind", "again"] {
                wire.batch(&[msg::parse(name, "SELECT * FROM t"), msg::describe_statement(name)]);
                wire.batch(&[msg::run(name, &[])]);
                wire.batch(&[msg::close_statement(name)]);
            }
            wire.query("DEALLOCATE ALL; DROP TABLE t");
        }
    });
}

/// Whoever differs in what no plan can hold here costs nobody his plans.
#[test]
fn plans_are_kept_where_no_function_can_have_bent_them() {
    let cluster = Cluster::options().conf("log_statement = 'all'").start();
    cluster.sql_in(
        "app",
        "CREATE FUNCTION plain(n int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT n + 1 $$;
         CREATE FUNCTION plain(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN lower(t) || 'x'; END $$;
         CREATE FUNCTION counts() RETURNS bigint STABLE LANGUAGE sql AS $$ SELECT count(*) FROM pg_class $$",
    );
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wires = ["UTC", "CET"].map(|zone| {
        let params = [("user", "app"), ("database", "app"), ("TimeZone", zone)];
        Wire::login_with(howdah.target(), &params, None).expect("it logs in")
    });
    let mut alternate = || {
        for n in 0..2 {
            for wire in &mut wires {
                wire.query(&format!("SET app.tenant = '{n}'"));
                wire.query("SELECT plain(1), plain('a'), counts()");
            }
        }
        cluster.log().matches("DISCARD PLANS").count()
    };
    assert_eq!(alternate(), 0);
    cluster.sql_in(
        "app",
        "CREATE FUNCTION year() RETURNS date STABLE LANGUAGE sql AS $$ SELECT '2020-01-01'::date $$",
    );
    // What others make is found within a minute; what is made through howdah, at once.
    let mut own = Wire::app(howdah.target());
    own.query("CREATE FUNCTION another() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    assert_ne!(alternate(), 0);
}
