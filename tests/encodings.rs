//! Settings whose values are no ASCII: the same text on every server, whatever encoding their clients talk in, and never a
//! part of howdah's own SQL.

mod common;

use common::net::Target;
use common::{Pair, Wire, msg};

/// A letter, and a sign whose second byte is a backslash in some encodings.
const TEXTS: [&str; 2] = [r"U&'\00e9'", r"U&'\8868'"];
const SHOWN: &str =
    "SELECT encode(convert_to(current_setting('app.x'), 'UTF8'), 'hex'), length(current_setting('app.x'))";

/// In the encoding of the moment.
fn query_bytes(wire: &mut Wire, sql: &[u8]) {
    wire.send(&msg::typed(b'Q', &[sql, b"\0"].concat()));
    wire.until_ready();
}

#[test]
fn a_value_is_the_same_text_whatever_encoding_its_client_talks_in() {
    Pair::alike_one_and_two(|wire| {
        for (encodings, value) in [
            (["UTF8", "LATIN1", "UTF8"], TEXTS[0]),
            (["LATIN1", "UTF8", "WIN1252"], TEXTS[0]),
            (["SJIS", "UTF8", "BIG5"], TEXTS[1]),
            (["GBK", "GB18030", "EUC_JP"], TEXTS[1]),
        ] {
            wire.query("SET client_encoding = UTF8");
            wire.query(&format!(
                "SELECT set_config('app.x', {value} || chr(92) || chr(39), false)"
            ));
            for encoding in encodings {
                wire.query(&format!("SET client_encoding = {encoding}"));
                for _ in 0..2 {
                    wire.query(SHOWN);
                }
            }
        }
    });
}

#[test]
fn roles_and_paths_with_such_names_follow_too() {
    let run = |size| {
        let pair = Pair::with_pool(size);
        pair.cluster.sql(
            r#"CREATE ROLE U&"\00e9t\00e9"; GRANT U&"\00e9t\00e9" TO app; CREATE SCHEMA U&"\00e9t\00e9";
               CREATE TABLE U&"\00e9t\00e9".there (n int); GRANT ALL ON SCHEMA U&"\00e9t\00e9" TO PUBLIC;
               GRANT ALL ON ALL TABLES IN SCHEMA U&"\00e9t\00e9" TO PUBLIC"#,
        );
        pair.alike(|wire| {
            for encoding in ["UTF8", "LATIN1"] {
                wire.query(&format!("SET client_encoding = {encoding}"));
                wire.query(r#"SET ROLE U&"\00e9t\00e9""#);
                wire.query(r#"SET search_path = U&"\00e9t\00e9""#);
                for other in ["WIN1252", "UTF8"] {
                    wire.query(&format!("SET client_encoding = {other}"));
                    wire.query("SELECT encode(convert_to(current_user::text, 'UTF8'), 'hex')");
                    wire.query("SELECT count(*) FROM there");
                }
                wire.query("RESET ALL");
                wire.query("RESET ROLE");
            }
        });
    };
    run(1);
    run(2);
}

#[test]
fn a_custom_setting_keeps_its_server_whose_name_is_no_ascii() {
    Pair::with_pool(3).alike(|wire| {
        // Where it has been used, and not where it has not, it is empty from then on.
        let shown = r"SELECT nullif(current_setting(U&'app.\00e9', true), '')";
        for encoding in ["UTF8", "LATIN1"] {
            wire.query(&format!("SET client_encoding = {encoding}"));
            wire.query(r#"SET app.U&"\00e9" = 'is no syntax'"#);
            wire.query(r"SELECT set_config(U&'app.\00e9', 'named by escapes', false)");
            wire.query(shown);
            wire.query(shown);
            wire.query("RESET ALL");
            wire.query(shown);
        }
        wire.query("SET client_encoding = UTF8");
        wire.query("SET app.é = 'named'");
        wire.query(shown);
        wire.query("DO $$ BEGIN PERFORM set_config('app.é', 'named in a block', false); END $$");
        wire.query(shown);
        wire.query("RESET ALL");
        wire.query(shown);
    });
}

#[test]
fn values_of_equal_bytes_in_other_encodings_are_other_values() {
    let pair = Pair::with_pool(1);
    let app = |encoding: &str| {
        let mut wire = Wire::app(pair.howdah.target());
        wire.query(&format!("SET client_encoding = {encoding}"));
        query_bytes(&mut wire, b"SET app.x = '\xc3\xa9'");
        wire
    };
    let (mut one, mut two) = (app("UTF8"), app("LATIN1"));
    let length = "SELECT length(current_setting('app.x'))";
    for _ in 0..2 {
        assert_eq!(one.value(length), "1");
        assert_eq!(two.value(length), "2");
    }
}

/// What a server is left with under which a backslash hides a quote, and a value whose bytes look like both.
#[test]
fn no_value_ends_the_literal_that_it_is_written_in() {
    let pair = Pair::with_pool(2);
    pair.cluster
        .sql("CREATE TABLE accounts (a text); INSERT INTO accounts VALUES ('real'); GRANT SELECT ON accounts TO app");
    let app = |target: Target| Wire::app(target);
    let [mut offender, mut other, mut holds] = [(); 3].map(|()| app(pair.howdah.target()));
    offender.query("BEGIN");
    other.query("SET backslash_quote = on");
    offender.query("SET client_encoding = SJIS; SET backslash_quote = on");
    query_bytes(
        &mut offender,
        b"SELECT set_config('app.x', $z$\x95\x5c',false);CREATE TEMP TABLE accounts AS SELECT 'poisoned'::text AS a;--$z$, false)",
    );
    offender.query("COMMIT");
    let had = offender.value("SELECT pg_backend_pid()");
    holds.query("BEGIN");
    let held = holds.value("SELECT pg_backend_pid()");
    assert_eq!(held, had, "the server that the offender has had is taken");
    assert_ne!(offender.value("SELECT pg_backend_pid()"), had);
    assert_eq!(
        offender.value("SELECT length(current_setting('app.x'))"),
        "71",
        "its value follows it all the same"
    );
    offender.terminate();
    other.terminate();
    assert_eq!(app(pair.howdah.target()).value("SELECT a FROM accounts"), "real");
    holds.query("COMMIT");
}
