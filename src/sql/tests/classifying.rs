//! What texts may leave behind: tables, one for each class.

use super::*;

/// Functions of a made-up database: `vol` is volatile, a few are harmless, and there are no others.
pub(super) struct Few;

impl Functions for Few {
    fn volatility(&self, name: &[u8]) -> Volatility {
        const HARMLESS: &[&str] = &[
            "abs",
            "avg",
            "btrim",
            "count",
            "f",
            "generate_series",
            "g",
            "jsonb_to_recordset",
            "left",
            "lower",
            "max",
            "min",
            "nextval",
            "now",
            "pg_advisory_xact_lock",
            "random",
            "rank",
            "row_number",
            "sum",
            "system",
            "unnest",
            "upper",
            "Odd Name",
        ];
        match name {
            b"vol" => Volatility::Volatile,
            name if HARMLESS.iter().any(|known| known.as_bytes() == name) => Volatility::Harmless,
            _ => Volatility::Absent,
        }
    }
}

pub(super) fn judged(text: &str) -> Verdict {
    verdict(text.as_bytes(), Reading::default(), &Few)
}

#[track_caller]
pub(super) fn each(texts: &[&str], effects: Effects) {
    for text in texts {
        assert_eq!(judged(text).effects, effects, "{text}");
        // What is said of a text holds among others as well.
        let among = format!("SELECT 1; {text}\n; COMMIT;");
        assert_eq!(judged(&among).effects, effects, "{among}");
    }
}

#[track_caller]
fn inert(texts: &[&str]) {
    each(texts, Effects::NONE);
    for text in texts {
        assert!(judged(text).details.is_none(), "{text}");
    }
}

pub(super) fn names(names: &[Box<[u8]>]) -> String {
    let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
    names.join(" ")
}

#[test]
fn queries_are_inert() {
    inert(&[
        "",
        ";",
        " -- nothing",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
        "UPDATE pgbench_accounts SET abalance = abalance + 5 WHERE aid = 7",
        "INSERT INTO t (a,b) VALUES ($1,$2) RETURNING id",
        "INSERT INTO \"T\".\"t\" (\"a\", b) VALUES (1, DEFAULT), (2, 'x(') ON CONFLICT (lower(b)) DO UPDATE SET (a, b) = (1, 2)",
        "INSERT INTO t AS x (a) SELECT count(*) FROM u v (b) WHERE a IN (1, 2) AND NOT (b)",
        "DELETE FROM t USING u AS x (a), v y(b) WHERE EXISTS (SELECT FROM w) RETURNING (a)",
        "SELECT count(*), max(a)::numeric(10,2), CAST(b AS varchar(3)), CAST(c AS s.mytype(3)) FROM t",
        "SELECT a::mytype(3), b::s.mytype (4)[], c :: \"My Type\"(5) FROM t",
        "WITH x (a, b) AS (VALUES (1, 2)), y(c) AS NOT MATERIALIZED (SELECT 1) SELECT * FROM x JOIN y ON (a = c)",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL (SELECT n + 1 FROM t LIMIT (10))) SELECT sum(n) FROM t",
        "SELECT * FROM unnest($1, $2) AS u(a, b) JOIN LATERAL unnest(c) v(d) USING (a) WHERE (a, b) = ANY ($3)",
        "SELECT * FROM t x(a), (SELECT 1) y(b) CROSS JOIN (VALUES (1)) AS z (c) JOIN (u w(d) JOIN r q(e) ON true) ON (1 = 1)",
        "SELECT * FROM jsonb_to_recordset($1) AS x(a int, b numeric(10, 2)) WHERE a BETWEEN (1) AND (2)",
        "SELECT * FROM generate_series(1, 2) WITH ORDINALITY t(a, b) TABLESAMPLE system (10) REPEATABLE (3)",
        "SELECT sum(a) FILTER (WHERE b > 0) OVER (PARTITION BY (c) ORDER BY (d)), rank() OVER w FROM t WINDOW w AS (ORDER BY a)",
        "SELECT a FROM t GROUP BY GROUPING SETS ((a), ()), ROLLUP (a), CUBE (b) HAVING (true) ORDER BY (a) LIMIT (1) OFFSET (2)",
        "SELECT DISTINCT ON (a) lower(b) FROM t FETCH FIRST (1) ROWS ONLY FOR UPDATE OF t",
        "SELECT extract(year FROM now()), trim(both from lower(x)), substring(a from 1 for (2)), position('a' in b), overlay(a placing b from 1)",
        "SELECT coalesce(a, (b)), nullif(a, b), greatest(1), ROW(1, 2), ARRAY(SELECT 1), interval(3) '1 s', a OPERATOR(pg_catalog.+) (b)",
        "SELECT CASE WHEN (a) THEN (b) ELSE (c) END, current_time(3), a AT TIME ZONE ('UTC'), a IS DISTINCT FROM lower(b) FROM t",
        "SELECT 'set_config(''a'', ''b'', false)', $$pg_advisory_lock(1)$$, E'\\'vol()', \"vol\", vol FROM \"set_config\"",
        "SELECT /* set_config( */ 1 -- vol(\n, 2 /* /* vol( */ vol( */",
        "SELECT \"Odd Name\"(1), pg_catalog . lower /* x */ ('A'), LOWER('A'), \"lower\"('a')",
        "SELECT a.into, b AS into, c.set FROM t",
        "SELECT pg_advisory_xact_lock(1)",
        "VALUES (1), (lower('A'))",
        "TABLE t",
        "(SELECT 1) UNION (SELECT 2 ORDER BY (1))",
        "MERGE INTO t AS x USING u y(a) ON x.a = y.a WHEN MATCHED THEN UPDATE SET b = lower(c) WHEN NOT MATCHED THEN INSERT (a) VALUES (1)",
        "UPDATE t SET (a, b) = (SELECT 1, 2), c = lower(c) FROM u x(a) WHERE (true) RETURNING lower(a)",
    ]);
}

#[test]
fn what_is_set_for_the_transaction_changes_what_comes_behind_it() {
    each(
        &[
            "SET LOCAL search_path = a",
            "SET LOCAL ROLE a",
            "SET LOCAL SESSION AUTHORIZATION a",
            "SELECT set_config('search_path', 'a', true), pg_catalog.set_config($$role$$, (SELECT 'b'), TRUE)",
        ],
        Effects::LOCAL_NAMES,
    );
    each(
        &[
            "SET LOCAL TIME ZONE 5",
            "SET LOCAL standard_conforming_strings = off",
            "SELECT set_config('transform_null_equals', 'on', true)",
        ],
        Effects::LOCAL_MEANING,
    );
    each(
        &[
            "SET LOCAL TIME ZONE LOCAL",
            "SET LOCAL TIME ZONE DEFAULT",
            "SET LOCAL xmloption = DEFAULT",
        ],
        Effects::LOCAL_MEANING.union(Effects::LOCAL_RESETS),
    );
}

#[test]
fn what_ends_with_the_transaction_is_inert() {
    inert(&[
        "BEGIN",
        "begin transaction isolation level serializable, read only",
        "START TRANSACTION",
        "COMMIT AND CHAIN",
        "END",
        "ROLLBACK TO SAVEPOINT a",
        "ABORT",
        "SAVEPOINT \"set\"",
        "RELEASE a",
        "PREPARE TRANSACTION 'x'",
        "COMMIT PREPARED 'x'",
        "SHOW search_path",
        "SET LOCAL work_mem = '1MB'",
        "SET TRANSACTION READ ONLY",
        "SET SESSION TRANSACTION READ ONLY",
        "SET LOCAL SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET transaction_isolation = 'serializable'",
        "SET CONSTRAINTS ALL DEFERRED",
        "SELECT set_config('lock_timeout', 'a', true), pg_catalog.set_config($$jit$$, (SELECT 'b'), TRUE)",
        "DECLARE c SCROLL CURSOR FOR SELECT 1",
        "DECLARE hold CURSOR WITHOUT HOLD FOR SELECT \"with\" hold",
        "FETCH ALL FROM c",
        "MOVE 1 IN c",
        "LOCK TABLE a IN SHARE MODE",
        "CREATE TEMP TABLE a (b numeric(10, 2)) ON COMMIT DROP",
        "CREATE TABLE pg_temp.a ON COMMIT DROP AS SELECT 1",
    ]);
}

#[test]
fn definitions_that_stay_are_inert() {
    inert(&[
        "ALTER SYSTEM SET work_mem = 1",
        "ALTER ROLE a PASSWORD 'b'",
        "ALTER USER MAPPING FOR a SERVER b OPTIONS (SET c 'd')",
        "ALTER TABLE a ADD COLUMN b numeric(10, 2) DEFAULT nextval('c'), ALTER c TYPE s.d(3) USING lower(c)",
        "ALTER TABLE a ADD CONSTRAINT b FOREIGN KEY (c) REFERENCES d (e), ADD UNIQUE (f) INCLUDE (g), SET (fillfactor = 10)",
        "CREATE INDEX ON a USING btree (lower(b), (vol(c))) INCLUDE (d) WHERE e(f)",
        "CREATE UNIQUE INDEX CONCURRENTLY a ON b (c)",
        "CREATE ROLE a LOGIN",
        "CREATE TRIGGER a AFTER INSERT ON b EXECUTE FUNCTION vol()",
        "CREATE RULE a AS ON INSERT TO b DO (SELECT vol(); SET c = d; LISTEN e)",
        "CREATE SCHEMA a CREATE TABLE b (c int DEFAULT vol()) CREATE VIEW d AS SELECT vol()",
        "COPY a (b, c) FROM STDIN WITH (FORMAT csv, FORCE_NULL (b)) WHERE lower(b) = 'x'",
        "COPY a TO PROGRAM 'x'",
        "COPY (SELECT lower(a) FROM b) TO STDOUT",
        "EXPLAIN (ANALYZE, FORMAT json) SELECT 1",
        "EXPLAIN ANALYZE VERBOSE UPDATE a SET b = 1",
        "EXPLAIN (SELECT lower(a))",
        "REFRESH MATERIALIZED VIEW a",
        "VACUUM (FULL) a (b)",
        "ANALYZE a (b)",
        "GRANT EXECUTE ON FUNCTION vol(int) TO a",
        "COMMENT ON FUNCTION vol(int) IS 'set_config('",
        "TRUNCATE a",
        "DISCARD PLANS",
        "DISCARD SEQUENCES",
        "SELECT pg_create_logical_replication_slot('a', 'b'), pg_create_physical_replication_slot('a', true, false)",
        "SELECT pg_copy_logical_replication_slot('a', 'b', false)",
    ]);
}

#[test]
fn temporary_objects() {
    each(
        &[
            "CREATE TEMP TABLE a (b int)",
            "create local temporary table a on commit delete rows as select 1",
            "CREATE GLOBAL TEMP TABLE a (b int) ON COMMIT PRESERVE ROWS",
            "CREATE TEMP VIEW a AS SELECT 1",
            "CREATE OR REPLACE TEMP RECURSIVE VIEW a (b) AS SELECT 1",
            "CREATE TEMPORARY SEQUENCE a",
            "CREATE TABLE pg_temp.a (b int)",
            "CREATE TABLE \"pg_temp\".a (b int)",
            "CREATE TABLE PG_Temp_3 . a (b int)",
            r#"CREATE TABLE U&"pg_t\0065mp".a (b int)"#,
            "SELECT 1 INTO TEMP a",
            "SELECT 1 INTO LOCAL TEMPORARY TABLE a",
            "SELECT 1 INTO UNLOGGED pg_temp.a",
            "WITH x AS (SELECT 1) SELECT * INTO TEMP a FROM x",
            "SELECT insert INTO TEMP a FROM b",
            "SELECT (1) insert INTO TEMP a FROM b",
            "EXPLAIN ANALYZE CREATE TEMP TABLE a AS SELECT 1",
            "ALTER TABLE a SET SCHEMA pg_temp",
            "ALTER TYPE a SET SCHEMA \"pg_temp\"",
            "CREATE SCHEMA a CREATE TEMP TABLE b (c int)",
        ],
        Effects::TEMP,
    );
    let both = Effects::TEMP.union(Effects::CREATES);
    each(
        &[
            "CREATE FUNCTION pg_temp.a() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE TYPE pg_temp.a AS ENUM ('b')",
            "CREATE DOMAIN pg_temp.a AS int",
            "CREATE OPERATOR pg_temp.+ (FUNCTION = a)",
            "CREATE COLLATION pg_temp.a FROM \"C\"",
            "CREATE VIEW pg_temp.a AS SELECT 1",
        ],
        both,
    );
    each(
        &[
            "CREATE TABLE a (b int DEFAULT vol(), CHECK (vol(b)), c numeric(10, 2) REFERENCES d (e))",
            "CREATE TABLE a PARTITION OF b FOR VALUES FROM (1) TO (lower('2'))",
            "CREATE TABLE temp (temp int)",
            "CREATE UNLOGGED TABLE a AS SELECT temp FROM temporary",
            "CREATE VIEW a (b) AS SELECT vol()",
            "CREATE MATERIALIZED VIEW a AS SELECT lower('A') WITH NO DATA",
            "SELECT 1 INTO a",
            "SELECT a FROM b UNION SELECT 1 INTO TABLE c",
            "CREATE FUNCTION a(b int DEFAULT vol()) RETURNS int LANGUAGE plpgsql SET c = d AS $$ select vol() $$",
            "CREATE FUNCTION a() RETURNS int BEGIN ATOMIC SELECT 1; RETURN (lower('a')); END",
            "CREATE TYPE a AS (b int)",
            "CREATE AGGREGATE a (int) (SFUNC = vol, STYPE = int)",
        ],
        Effects::CREATES,
    );
}

#[test]
fn what_else_may_stay() {
    each(
        &[
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "declare c no scroll cursor with /**/ hold for table a",
        ],
        Effects::HOLD,
    );
    each(
        &[
            "SELECT pg_advisory_lock(1)",
            "SELECT 1 WHERE pg_catalog.pg_try_advisory_lock(1, 2)",
            "SELECT pg_advisory_lock_shared(1), count(pg_try_advisory_lock_shared(a)) FROM b",
        ],
        Effects::LOCK,
    );
    each(&["LISTEN a", "listen \"A\""], Effects::LISTEN);
    each(
        &["UNLISTEN a", "UNLISTEN *"],
        Effects::UNLISTEN.union(Effects::RELEASES),
    );
    each(&["NOTIFY a, 'b'", "SELECT pg_notify('a', 'b')"], Effects::NOTIFY);
    each(
        &[
            "SELECT pg_create_logical_replication_slot('a', 'b', true)",
            "SELECT pg_create_logical_replication_slot('a', 'b', temporary => true)",
            "SELECT pg_create_physical_replication_slot('a', temporary := true)",
            "SELECT pg_create_physical_replication_slot('a', true, $1)",
            "SELECT * FROM pg_copy_physical_replication_slot('a', 'b')",
        ],
        Effects::SLOT,
    );
    each(&["LOAD 'auto_explain'"], Effects::STICKY);
    each(
        &[
            "SELECT dblink_connect('a', 'b')",
            "SELECT pg_backup_start('a')",
            "SELECT pg_replication_origin_session_setup('a')",
        ],
        Effects::STICKY.union(Effects::OPAQUE),
    );
    each(
        &[
            "CREATE FUNCTION a() RETURNS int LANGUAGE C AS 'b', 'c'",
            "CREATE FUNCTION a() RETURNS int AS 'b' LANGUAGE 'c'",
        ],
        Effects::STICKY.union(Effects::CREATES),
    );
    each(
        &[
            "CLOSE c",
            "CLOSE ALL",
            "DROP TABLE a",
            "SELECT pg_advisory_unlock_all()",
        ],
        Effects::RELEASES,
    );
    each(
        &["DEALLOCATE a", "DEALLOCATE PREPARE ALL"],
        Effects::FREES.union(Effects::RELEASES),
    );
}

#[test]
fn opaque_statements() {
    each(
        &[
            "DO 'a'",
            "CALL p(1)",
            "SELECT vol()",
            "SELECT s.vol /* a */ (1)",
            "SELECT \"vol\"(1)",
            "SELECT * FROM vol(1) AS x (a)",
            "SELECT * FROM t x, LATERAL vol(1)",
            "SELECT * FROM (t JOIN vol(1) ON true)",
            "SELECT * FROM ROWS FROM (lower('a'), vol(1))",
            "SELECT count(*) FROM t WHERE a IN (SELECT vol(b))",
            "SELECT CAST(vol(1) AS int), vol(1)::numeric(10)",
            "SELECT U&\"lower\"('a')",
            "SELECT U&\"lo!0077er\" UESCAPE '!' ('a')",
            "CREATE EXTENSION a",
            "ALTER EXTENSION a UPDATE TO '2'",
            "CREATE LANGUAGE a",
            "ALTER TABLE a ADD b int DEFAULT vol()",
            "ALTER TABLE a ALTER b TYPE int USING vol(b)",
            "EXPLAIN SELECT vol()",
            "COPY a FROM STDIN WHERE vol()",
            "SELECT query_to_xml('SELECT set_config(''a'', ''b'', false)', true, true, '')",
            "BACKUP a",
            "1",
            "\"select\" 1",
            "SET CATALOG 'a'",
            "SET a",
        ],
        Effects::OPAQUE,
    );
    each(
        &[
            "CREATE TABLE a AS SELECT vol()",
            "CREATE TABLE a PARTITION OF b FOR VALUES IN (vol())",
        ],
        Effects::OPAQUE.union(Effects::CREATES),
    );
    let unknown = Effects::OPAQUE.union(Effects::UNKNOWN_FUNCTION);
    each(
        &[
            "SELECT \"VOL\"(1)",
            "SELECT s.values(1)",
            "SELECT \"select\"(1)",
            "SELECT numrange_(1)",
            "SELECT größe(1)",
        ],
        unknown,
    );
    let verdict = judged("SELECT A.Strange(1), \"Stranger\"(vol(2))");
    assert_eq!(verdict.effects, unknown);
    assert_eq!(names(&verdict.details().unknown_functions), "strange Stranger");
}

#[test]
fn deep_nesting_is_opaque_and_still_read() {
    let text = format!(
        "SELECT {}set_config('a', 'b', false){}",
        "(".repeat(200),
        ")".repeat(200)
    );
    let verdict = judged(&text);
    assert_eq!(verdict.effects, Effects::OPAQUE.union(Effects::SETTINGS));
    let text = "EXPLAIN ".repeat(10_000);
    assert_eq!(judged(&text).effects, Effects::OPAQUE);
}

#[test]
fn prepared_and_executed_statements() {
    let verdict = judged("PREPARE \"A\" (int, numeric(10, 2)) AS SELECT set_config('a', $1, false)");
    assert_eq!(verdict.effects, Effects::PREPARE);
    let [prepared] = verdict.details().prepares.as_slice() else {
        panic!("{verdict:?}")
    };
    assert_eq!(&*prepared.name, b"A");
    assert_eq!(prepared.verdict.effects, Effects::SETTINGS);
    assert_eq!(names(&prepared.verdict.details().settings), "a");
    assert!(verdict.details().settings.is_empty());

    let executed = Effects::EXECUTE.union(Effects::OPAQUE);
    for (text, beside) in [
        ("EXECUTE A(1, lower('x'))", Effects::EXECUTE),
        ("EXECUTE a(vol())", executed),
        ("EXPLAIN ANALYZE EXECUTE \"a\"", Effects::EXECUTE),
        (
            "CREATE TABLE b AS EXECUTE a",
            Effects::EXECUTE.union(Effects::CREATES),
        ),
    ] {
        let verdict = judged(text);
        assert_eq!(verdict.effects, executed.union(beside), "{text}");
        assert_eq!(verdict.beside_executed(), beside, "{text}");
        assert_eq!(names(&verdict.details().executes), "a", "{text}");
    }
    assert_eq!(judged("LISTEN a").beside_executed(), Effects::LISTEN);
}

#[test]
fn databases_that_must_be_alone() {
    for (text, effects, wanted) in [
        ("DROP DATABASE A", Effects::DATABASE.union(Effects::RELEASES), "a"),
        (
            "DROP DATABASE IF EXISTS \"A\" WITH (FORCE)",
            Effects::DATABASE.union(Effects::RELEASES),
            "A",
        ),
        ("ALTER DATABASE a RENAME TO b", Effects::DATABASE, "a"),
        ("ALTER DATABASE a SET TABLESPACE b", Effects::DATABASE, "a"),
        ("CREATE DATABASE a", Effects::DATABASE, "template1"),
        (
            "CREATE DATABASE a OWNER b CONNECTION LIMIT = -1 TEMPLATE c",
            Effects::DATABASE,
            "c",
        ),
        (
            "CREATE DATABASE a WITH TEMPLATE = 'C' OWNER template",
            Effects::DATABASE,
            "C",
        ),
        (
            "CREATE DATABASE a TEMPLATE DEFAULT",
            Effects::DATABASE,
            "template1",
        ),
    ] {
        let verdict = judged(text);
        assert_eq!(verdict.effects, effects, "{text}");
        assert_eq!(names(&verdict.details().databases), wanted, "{text}");
    }
}

#[test]
fn what_postgresql_refuses_as_a_whole_does_nothing() {
    for text in [
        "SET a = 'b",
        "LISTEN a; SELECT \"b",
        "SELECT vol(); /* c",
        "DO $$ SET a = 1",
    ] {
        assert_eq!(judged(text), Verdict::default(), "{text}");
    }
}

#[test]
fn the_setting_decides_what_is_a_string() {
    let text = br"SELECT '\'; SET a = 1; --'";
    let off = Reading {
        standard_conforming_strings: false,
        ..Reading::default()
    };
    assert_eq!(verdict(text, Reading::default(), &Few).effects, Effects::SETTINGS);
    assert_eq!(verdict(text, off, &Few).effects, Effects::NONE);
}

#[test]
fn encodings_with_false_friends_are_opaque_beyond_ascii() {
    let wild = Reading {
        encoding_is_safe: encoding_is_safe(b"SJIS"),
        ..Reading::default()
    };
    assert_eq!(verdict(b"SELECT '\x95\x5c'", wild, &Few).effects, Effects::OPAQUE);
    assert_eq!(verdict(b"SELECT 1", wild, &Few).effects, Effects::NONE);
    assert!(encoding_is_safe(b"UTF8"));
    assert!(encoding_is_safe(b"EUC_JP"));
}

#[test]
fn bare_transaction_statements() {
    for (text, kind) in [
        ("BEGIN", Bare::Begin),
        ("/* a */ begin ; ; -- b", Bare::Begin),
        (";BEGIN WORK;", Bare::Begin),
        ("Begin Transaction", Bare::Begin),
        ("START TRANSACTION", Bare::Start),
        ("COMMIT", Bare::Commit),
        ("end transaction;", Bare::Commit),
        ("ROLLBACK WORK", Bare::Rollback),
        ("ABORT", Bare::Rollback),
    ] {
        assert_eq!(bare(text.as_bytes()), Some(kind), "{text}");
    }
    for text in [
        "",
        ";",
        "BEGIN READ ONLY",
        "START",
        "START WORK",
        "BEGIN; SELECT 1",
        "BEGIN; BEGIN",
        "COMMIT AND CHAIN",
        "COMMIT PREPARED 'a'",
        "ROLLBACK TO a",
        "\"BEGIN\"",
        "BEGIN (",
        "BEGIN /* a",
        "BEGINS",
        "SELECT 1",
    ] {
        assert_eq!(bare(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn what_new_sessions_begin_with() {
    for (text, name) in [
        ("ALTER ROLE a SET work_mem = 1", "a"),
        ("ALTER USER A RESET ALL", "a"),
        ("ALTER ROLE a IN DATABASE b SET work_mem TO DEFAULT", "a"),
        ("ALTER ROLE ALL IN DATABASE \"B\" SET work_mem = 1", "B"),
        ("ALTER ROLE ALL SET work_mem = 1", ""),
        ("ALTER ROLE CURRENT_USER SET work_mem = 1", "\0"),
        ("ALTER DATABASE a SET work_mem = 1", "a"),
        ("ALTER DATABASE a RESET work_mem", "a"),
    ] {
        let verdict = judged(text);
        assert_eq!(verdict.effects, Effects::DEFAULTS, "{text}");
        assert_eq!(*verdict.details().beginners, [name.as_bytes().into()], "{text}");
    }
}

#[test]
fn paths_that_lead_to_temporary_objects() {
    each(
        &[
            "SET LOCAL search_path = pg_temp, public",
            "SET LOCAL SCHEMA 'PG_TEMP'",
            "SELECT set_config('search_path', 'Pg_Temp, public', true)",
        ],
        Effects::TEMP_PATH.union(Effects::LOCAL_NAMES),
    );
    each(
        &["SET search_path TO public, \"pg_temp\"", "SET SCHEMA 'pg_temp'"],
        Effects::TEMP_PATH.union(Effects::SETTINGS),
    );
    each(&["SET LOCAL search_path = tenant_7"], Effects::LOCAL_NAMES);
}

/// As it is before the catalogs have been read for the first time.
struct Nothing;

impl Functions for Nothing {
    fn volatility(&self, _: &[u8]) -> Volatility {
        Volatility::Unknown
    }
}

#[test]
fn words_that_may_be_functions_are_such_as_long_as_nothing_is_known() {
    let unknown = Effects::OPAQUE.union(Effects::UNKNOWN_FUNCTION);
    for text in [
        "SELECT sets()",
        "SELECT key(1) FROM t",
        "SELECT 1 FROM overlay('a')",
    ] {
        let effects =
            |functions: &dyn Functions| verdict(text.as_bytes(), Reading::default(), functions).effects;
        assert_eq!(effects(&Nothing), unknown, "{text}");
        assert_eq!(effects(&Few), Effects::NONE, "{text}");
    }
}
