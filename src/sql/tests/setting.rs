//! What texts do to settings.

use super::classifying::{Few, each, judged, names};
use super::*;

#[track_caller]
fn settings(cases: &[(&str, &str)]) {
    for (text, wanted) in cases {
        let verdict = judged(text);
        assert_eq!(verdict.effects, Effects::SETTINGS, "{text}");
        assert_eq!(names(&verdict.details().settings), *wanted, "{text}");
        assert_eq!(verdict.details().resets, Resets::default(), "{text}");
    }
}

#[test]
fn settings_that_are_set_by_name() {
    settings(&[
        ("SET a = 1", "a"),
        ("set session A.B to 'c'", "a.b"),
        ("SET \"My.Var\" = 1", "my.var"),
        ("SET \"My\".\"Var\".x=-1", "my.var.x"),
        ("SET session = 1", "session"),
        ("SET session.a = 1", "session.a"),
        ("SET local.a = 1", "local.a"),
        ("SET LOCAL TO 1", "local"),
        ("SET time.zone TO 1", "time.zone"),
        ("SET TIME ZONE 'UTC'", "timezone"),
        ("SET SESSION TIME ZONE INTERVAL '1' HOUR TO MINUTE", "timezone"),
        ("SET NAMES 'utf8'", "client_encoding"),
        ("SET SCHEMA 'a'", "search_path"),
        ("SET ROLE a", "role"),
        ("SET ROLE NONE", "role"),
        ("SET SESSION ROLE \"A\"", "role"),
        ("SET SESSION AUTHORIZATION a", "session_authorization role"),
        (
            "SET SESSION SESSION AUTHORIZATION a",
            "session_authorization role",
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "default_transaction_isolation default_transaction_read_only default_transaction_deferrable",
        ),
        ("SET XML OPTION DOCUMENT", "xmloption"),
        ("SET sort_mem = 1", "work_mem"),
        ("SET /* a */ b -- c\n = /* d */ 1", "b"),
        ("SELECT 1; SET x = 2; SET y = 3", "x y"),
        ("SELECT set_config('A.b', 'c', false)", "a.b"),
        ("select pg_catalog . \"set_config\" ($a$b$a$, 'c', $1)", "b"),
        ("SELECT public.SET_CONFIG(E'a', 'b', 't'::bool)", "a"),
        ("SELECT set_config('a'::text, 'b', false)", "a"),
        (
            "with x as (select set_config('a','b',false)) select * from x",
            "a",
        ),
        ("INSERT INTO t VALUES (set_config('a', 'b', false))", "a"),
        ("INSERT INTO t (a) SELECT set_config('a', 'b', false)", "a"),
        ("UPDATE t SET b = set_config('a', 'b', false)", "a"),
        ("DELETE FROM t WHERE set_config('a', 'b', false) IS NULL", "a"),
        ("SELECT * FROM set_config('a', 'b', false)", "a"),
        ("SELECT * FROM t x, set_config('a', 'b', false) AS y (z)", "a"),
        ("SELECT DISTINCT ON (1) set_config('a', 'b', false)", "a"),
        (
            "SELECT (1) OPERATOR(pg_catalog.+) set_config('a', 'b', false)",
            "a",
        ),
        (
            "SELECT * FROM t JOIN u ON (b) OPERATOR(s.=) set_config('a', 'b', false)",
            "a",
        ),
        ("SELECT a IS DISTINCT FROM (b), set_config('a', 'b', false)", "a"),
        ("SELECT CASE WHEN true THEN set_config('a', 'b', false) END", "a"),
        (
            "(SELECT 1) UNION SELECT set_config('a', set_config('b', 'c', false), false)",
            "a b",
        ),
        ("EXPLAIN (ANALYZE) SELECT set_config('a', 'b', false)", "a"),
        ("EXPLAIN (SELECT set_config('a', 'b', false))", "a"),
        ("COPY (SELECT set_config('a', 'b', false)) TO STDOUT", "a"),
        ("DECLARE c CURSOR FOR SELECT set_config('a', 'b', false)", "a"),
        ("TABLE t ORDER BY set_config('a', 'b', false)", "a"),
        ("SELECT set_limit(0.5)", "pg_trgm.similarity_threshold"),
    ]);
    let verdict = judged("SELECT set_config($12, $2, false), set_config($3::text, $4, $5)");
    assert_eq!(verdict.effects, Effects::SETTINGS.union(Effects::TEMP_PATH));
    assert_eq!(verdict.details().bound_settings, [12, 3]);
}

#[test]
fn settings_whose_names_are_computed() {
    each(
        &[
            "SELECT set_config(a, 'b', false) FROM c",
            "SELECT set_config('a' || 'b', 'c', false)",
            "SELECT set_config('a' 'b', 'c', false)",
            "SELECT set_config('a'\n'b', 'c', false)",
            "SELECT set_config('it''s', 'c', false)",
            r"SELECT set_config(E'\x61', 'c', false)",
            r"SELECT set_config(U&'\0061', 'c', false)",
            "SELECT set_config($70000, 'c', false)",
            r#"SET U&"\0061" = 1"#,
            r#"SET a.U&"!0061" UESCAPE '!' = 1"#,
        ],
        Effects::ANY_SETTING,
    );
    each(
        &[
            "SELECT set_config(a, b, false)",
            "SELECT set_config(setting_name => 'a', new_value => 'b', is_local => true)",
            "SELECT set_config(VARIADIC a)",
            "UPDATE pg_settings SET setting = 'b' WHERE name = 'a'",
            "update only Pg_Catalog . \"pg_settings\" set setting = 'b'",
            "WITH a AS (UPDATE pg_settings SET setting = 'b' RETURNING 1) SELECT 1",
            r#"SET U&"\0061" = E'\x61'"#,
        ],
        Effects::ANY_SETTING.union(Effects::TEMP_PATH),
    );
    assert_eq!(
        judged(r#"RESET U&"a""#).effects,
        Effects::ANY_SETTING.union(Effects::RELEASES)
    );
    let off = Reading {
        standard_conforming_strings: false,
        ..Reading::default()
    };
    let verdict = verdict(br"SELECT set_config('\141', 'b', false)", off, &Few);
    assert_eq!(verdict.effects, Effects::ANY_SETTING);
}

#[test]
fn settings_that_are_given_back() {
    let released = Effects::SETTINGS.union(Effects::RESETS).union(Effects::RELEASES);
    for (text, effects, wanted) in [
        ("RESET a.B", released, "a.b"),
        ("RESET TIME ZONE", released, "timezone"),
        ("RESET time.zone", released, "time.zone"),
        ("RESET role", released, "role"),
        (
            "RESET SESSION AUTHORIZATION",
            released,
            "session_authorization role",
        ),
        ("SET a TO DEFAULT", released.without(Effects::RELEASES), "a"),
        (
            "SET TIME ZONE DEFAULT",
            released.without(Effects::RELEASES),
            "timezone",
        ),
        (
            "SET TIME ZONE LOCAL",
            released.without(Effects::RELEASES),
            "timezone",
        ),
        (
            "SET NAMES",
            released.without(Effects::RELEASES),
            "client_encoding",
        ),
        (
            "SET SESSION AUTHORIZATION DEFAULT",
            released.without(Effects::RELEASES),
            "session_authorization role",
        ),
    ] {
        let verdict = judged(text);
        assert_eq!(verdict.effects, effects, "{text}");
        assert_eq!(names(&verdict.details().settings), wanted, "{text}");
        let resets = &verdict.details().resets;
        let settings = verdict.details().settings.iter().cloned().collect();
        assert_eq!((&resets.names, resets.all), (&settings, false), "{text}");
    }
    let verdict = judged("RESET a; RESET ALL; RESET b");
    assert_eq!(verdict.effects, released);
    let resets = &verdict.details().resets;
    assert!(resets.all && resets.contains(b"c"));
    assert_eq!(names(&verdict.details().settings), "a b");
    // RESET ALL leaves the roles where they are.
    let resets = |text| judged(text).details().resets.clone();
    assert!(!resets("RESET ALL").contains(b"role"));
    assert!(resets("RESET ALL; RESET ROLE").contains(b"role"));
    assert!(resets("RESET ROLE; RESET ALL").contains(b"role"));
    each(&["RESET ALL"], Effects::RESETS.union(Effects::RELEASES));
    each(
        &["RESET TRANSACTION ISOLATION LEVEL", "RESET", "DISCARD TEMP"],
        Effects::RELEASES,
    );
    let verdict = judged("DISCARD ALL");
    assert_eq!(
        verdict.effects,
        released.union(Effects::FREES).union(Effects::UNLISTEN)
    );
    let resets = &verdict.details().resets;
    assert!(resets.all && resets.contains(b"role") && resets.contains(b"session_authorization"));
    assert_eq!(names(&verdict.details().settings), "session_authorization role");
}

#[test]
fn paths_that_may_lead_to_temporary_objects() {
    for text in [
        "SET LOCAL search_path = pg_temp",
        "SET LOCAL SCHEMA 'PG_Temp'",
        r"SET LOCAL search_path = a, U&'\0061'",
        r"SET LOCAL search_path TO E'\x61'",
        "SET LOCAL search_path = 'a'\n'b'",
        "SELECT set_config('search_path', 'a, \"pg_temp\"', true)",
        "SELECT set_config('Search_Path', $1, true)",
        "SELECT set_config('search_path', 'a' || 'b', true)",
        "SELECT set_config('search_path', a, true)",
        "SELECT set_config('search_path', lower('A'), true)",
        "SELECT set_config('search_path', 'pg_temp'::text, true)",
    ] {
        let wanted = Effects::TEMP_PATH.union(Effects::LOCAL_NAMES);
        assert_eq!(judged(text).effects, wanted, "{text}");
    }
    for text in [
        "SET LOCAL search_path = a, \"B\", 'c'",
        "SET LOCAL work_mem = E'\\x61'",
        "SELECT set_config('search_path', 'a, b', true)",
        "SELECT set_config('search_path', 'a'::text, true)",
        "SELECT set_config('work_mem', $1, true)",
    ] {
        let effects = judged(text).effects.without(Effects::LOCAL_NAMES);
        assert_eq!(effects, Effects::NONE, "{text}");
    }
}

#[test]
fn custom_settings_of_the_transaction() {
    for (text, wanted) in [
        ("SET LOCAL a.b = 1", "a.b"),
        ("set local \"A.b\" to default", "a.b"),
        ("SELECT set_config('A.b', 'c', true)", "a.b"),
        ("SELECT set_config($1, 'c', true), set_config(a, 'b', true)", ""),
        (r#"SET LOCAL U&"a" = 1"#, ""),
    ] {
        let verdict = judged(text);
        let beside = Effects::LOCAL_MEANING.union(Effects::LOCAL_RESETS);
        let effects = verdict.effects.without(beside);
        assert_eq!(effects, Effects::LOCAL_CUSTOM, "{text}");
        assert_eq!(names(&verdict.details().local_customs), wanted, "{text}");
    }
    assert_eq!(
        judged("SELECT set_config($7, 'c', true)").details().bound_locals,
        [7]
    );
}
