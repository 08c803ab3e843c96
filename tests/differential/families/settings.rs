//! Programs about settings.

use super::Author;
use crate::program::{Message, Step};
use crate::rng::Rng;

type Choice = (&'static str, &'static [&'static str]);

/// No value makes anything depend on how quick a machine is.
const UNREPORTED: [Choice; 12] = [
    ("work_mem", &["64kB", "1MB", "7MB"]),
    ("statement_timeout", &["61s", "62s", "0"]),
    ("lock_timeout", &["63s", "64s"]),
    ("idle_in_transaction_session_timeout", &["65s", "66s"]),
    ("extra_float_digits", &["0", "3", "-3"]),
    ("enable_seqscan", &["off", "on"]),
    ("bytea_output", &["hex", "escape"]),
    ("xmloption", &["document", "content"]),
    ("synchronous_commit", &["off", "local"]),
    ("search_path", &["pg_catalog", "public", "pg_catalog,public"]),
    ("client_min_messages", &["warning", "notice", "error"]),
    ("transform_null_equals", &["on", "off"]),
];
const REPORTED: [Choice; 6] = [
    ("timezone", &["UTC", "Asia/Tokyo", "America/New_York"]),
    ("datestyle", &["ISO, DMY", "German", "SQL, MDY", "ISO, MDY"]),
    ("intervalstyle", &["postgres", "iso_8601", "sql_standard"]),
    ("standard_conforming_strings", &["off", "on"]),
    ("application_name", &["one", "two", ""]),
    ("client_encoding", &["UTF8", "LATIN1", "SQL_ASCII"]),
];
const CUSTOM: [Choice; 4] = [
    ("app.a", &["1", "2", ""]),
    ("app.b", &["x y", "z"]),
    ("App.C", &["it is", "3"]),
    ("app.d", &["true", "4"]),
];

fn change(author: &mut Author<'_>, choices: &[Choice]) -> String {
    let (name, values) = choices[author.rng.below(choices.len())];
    let value = author.pick(values);
    let (other, other_values) = choices[author.rng.below(choices.len())];
    let other_value = author.pick(other_values);
    match author.rng.below(14) {
        0..=2 => format!("SET {name} = '{value}'"),
        3 => format!("SET SESSION {name} TO '{value}'"),
        4 => format!("SET LOCAL {name} = '{value}'"),
        5 => format!("SELECT set_config('{name}', '{value}', false)"),
        6 => format!("SELECT set_config('{name}', '{value}', true)"),
        7 => computed((name, value), (other, other_value)),
        8 => format!("RESET {name}"),
        9 => format!("SET {name} TO DEFAULT"),
        10 => format!("SET {name} = '{value}'; SET {other} = '{other_value}'"),
        11 => format!("SET {name} = '{value}'; SELECT 1/0"),
        12 => format!("WITH s AS (SELECT set_config('{name}', '{value}', false) AS v) SELECT v FROM s"),
        _ => format!("SELECT nullif(current_setting('{name}', true), '')"),
    }
}

/// What a setting is set to whose name nobody can read. Not to what it is in a new session of the server: that looks as
/// if it had been reset, which leads back to startup parameters.
fn unlike_reset<'a>(name: &str, value: &'a str) -> &'a str {
    match (name, value) {
        (_, "") => "some",
        ("statement_timeout", "0") => "69s",
        ("bytea_output", "hex") => "escape",
        _ => value,
    }
}

/// Sets two settings whose names are computed.
fn computed((name, value): (&str, &str), (other, other_value): (&str, &str)) -> String {
    let (value, other_value) = (unlike_reset(name, value), unlike_reset(other, other_value));
    format!(
        "SELECT set_config(n, v, false) FROM (VALUES ('{name}', '{value}'), ('{other}', '{other_value}')) AS s(n, v)"
    )
}

/// A change whose name or value comes with the Bind.
fn bound(author: &mut Author<'_>, choices: &[Choice]) -> Step {
    let (name, values) = choices[author.rng.below(choices.len())];
    let value = unlike_reset(name, author.pick(values)).to_owned();
    let sql = author.pick(&[
        "SELECT set_config($1, $2, false)",
        "SELECT set_config($1, $2, true)",
        "SELECT set_config(lower($1), $2, false)",
    ]);
    let mut messages = vec![Message::Parse(String::new(), sql.to_owned())];
    messages.extend(super::run("", vec![Some(name.to_owned()), Some(value)]));
    Step::Send(messages)
}

fn changes(author: &mut Author<'_>, choices: &[Choice], probes: &[&str]) -> Step {
    match author.rng.below(10) {
        0..=5 => {
            let sql = change(author, choices);
            author.send(sql)
        }
        6 => bound(author, choices),
        7 => {
            let sql = author.pick(&["RESET ALL", "SHOW work_mem", "RESET ALL; SELECT 1"]);
            author.send(sql)
        }
        _ => {
            let sql = author.pick(probes);
            author.send(sql)
        }
    }
}

pub(super) fn unreported(author: &mut Author<'_>) -> Step {
    changes(
        author,
        &UNREPORTED,
        &[
            "SHOW statement_timeout",
            "SHOW lock_timeout",
            "SELECT '\\x01ff'::bytea",
            "SELECT 0.1::float8 + 0.2::float8",
            "SELECT NULL = NULL, current_schemas(false)",
            "SELECT current_setting('work_mem')",
            "DROP TABLE IF EXISTS never_was",
            "SELECT name, setting FROM pg_settings WHERE name IN ('work_mem', 'lock_timeout') ORDER BY name",
        ],
    )
}

pub(super) fn reported(author: &mut Author<'_>) -> Step {
    match author.rng.below(12) {
        0 => author.send("SET NAMES 'LATIN1'"),
        1 => author.send("SET TIME ZONE 'Europe/Paris'"),
        2 => author.send("SET TIME ZONE LOCAL"),
        3 => author.send("SET LOCAL TIME ZONE 5"),
        _ => changes(
            author,
            &REPORTED,
            &[
                "SELECT '2020-02-03 04:05:06+00'::timestamptz, now() IS NULL",
                "SELECT '1/2/2020'::date",
                "SELECT '1 day 2 hours'::interval",
                "SELECT 'a\\\\b'",
                "SHOW timezone",
                "SHOW application_name",
                "SHOW client_encoding",
            ],
        ),
    }
}

pub(super) fn custom(author: &mut Author<'_>) -> Step {
    changes(
        author,
        &CUSTOM,
        &[
            "SELECT nullif(current_setting('app.a', true), '')",
            "SELECT nullif(current_setting(n, true), '') FROM unnest('{app.a,app.b,app.c}'::text[]) AS n",
            "SELECT current_setting('never.was')",
        ],
    )
}

/// Settings of any kind.
pub(super) fn any(author: &mut Author<'_>) -> Step {
    match author.rng.below(6) {
        0 => unreported(author),
        1 => reported(author),
        2 => custom(author),
        3 | 4 => among_others(author),
        _ => {
            let sql = author.pick(&[
                "RESET ALL",
                "RESET timezone",
                "RESET work_mem",
                "DISCARD ALL",
                "RESET app.b",
                "SHOW work_mem",
            ]);
            author.send(sql)
        }
    }
}

/// What leads back to startup parameters, among statements that depend on it: in one query, or in one batch.
fn among_others(author: &mut Author<'_>) -> Step {
    let in_query = author.rng.percent(50);
    let statements: Vec<_> = (0..2 + author.rng.below(3))
        .map(|_| one_of_several(author))
        .collect();
    if in_query {
        return author.send(statements.join("; "));
    }
    let batches = statements.into_iter().map(super::run_unnamed);
    let mut messages: Vec<_> = batches
        .flatten()
        .filter(|message| *message != Message::Sync)
        .collect();
    messages.push(Message::Sync);
    Step::Send(messages)
}

fn one_of_several(author: &mut Author<'_>) -> String {
    let choices: &[Choice] = [&UNREPORTED[..], &REPORTED, &CUSTOM][author.rng.below(3)];
    let (name, values) = choices[author.rng.below(choices.len())];
    match author.rng.below(12) {
        0 => format!("SET {name} = '{}'", author.pick(values)),
        1 => format!("SET LOCAL {name} = '{}'", author.pick(values)),
        2 | 3 => format!("RESET {name}"),
        4 => format!("SET {name} TO DEFAULT"),
        5 => format!("SET LOCAL {name} TO DEFAULT"),
        6 => "RESET ALL".to_owned(),
        7 if author.rng.percent(30) => "SELECT 1/0".to_owned(),
        _ => "SELECT current_setting('search_path'), current_setting('work_mem'), current_setting('timezone'), \
              nullif(current_setting('app.a', true), ''), current_setting('statement_timeout'), \
              current_setting('datestyle'), current_setting('application_name')"
            .to_owned(),
    }
}

pub(super) fn characteristics(author: &mut Author<'_>) -> Step {
    let table = author.table();
    let sql = match author.rng.below(14) {
        0 => "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE".to_owned(),
        1 => {
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY".to_owned()
        }
        2 => "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE".to_owned(),
        3 => "SET default_transaction_read_only = on".to_owned(),
        4 => "SET default_transaction_read_only = off".to_owned(),
        5 => "SET default_transaction_isolation = 'serializable'".to_owned(),
        6 => "RESET default_transaction_isolation".to_owned(),
        7 => "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE".to_owned(),
        8 => "SET TRANSACTION READ ONLY".to_owned(),
        9 => "SET transaction_read_only = on".to_owned(),
        10 => "SHOW transaction_isolation".to_owned(),
        11 => "SHOW transaction_read_only".to_owned(),
        12 => format!("INSERT INTO {table} VALUES (3, 'three')"),
        _ => format!("SELECT count(*) FROM {table}"),
    };
    author.send(sql)
}

pub(super) fn roles(author: &mut Author<'_>) -> Step {
    match author.rng.below(10) {
        0 => unreported(author),
        1 => custom(author),
        _ => {
            let sql = author.pick(&[
                "SET ROLE reader",
                "SET ROLE writer",
                "SET ROLE 'reader'",
                "SET LOCAL ROLE writer",
                "SET ROLE NONE",
                "RESET ROLE",
                "SET ROLE stranger",
                "SET ROLE nobody_of_this_name",
                "SELECT set_config('role', 'writer', false)",
                "SET SESSION AUTHORIZATION app",
                "SET SESSION AUTHORIZATION DEFAULT",
                "SET SESSION AUTHORIZATION reader",
                "RESET ALL",
                "DISCARD ALL",
                "SELECT current_user, session_user",
                "SELECT * FROM of_reader",
                "SELECT * FROM of_writer",
                "SHOW is_superuser",
            ]);
            author.send(sql)
        }
    }
}

pub(super) fn authorization(author: &mut Author<'_>) -> Step {
    match author.rng.below(10) {
        0 => unreported(author),
        1 | 2 => roles(author),
        _ => {
            let sql = author.pick(&[
                "SET SESSION AUTHORIZATION app",
                "SET SESSION AUTHORIZATION reader",
                "SET LOCAL SESSION AUTHORIZATION writer",
                "SET SESSION SESSION AUTHORIZATION 'app'",
                "SET SESSION AUTHORIZATION DEFAULT",
                "RESET SESSION AUTHORIZATION",
                "SET SESSION AUTHORIZATION nobody_of_this_name",
                "SELECT set_config('session_authorization', 'writer', false)",
                "SET ROLE reader",
                "RESET ROLE",
                "SET log_statement = 'none'",
                "SET zero_damaged_pages = on",
                "SHOW zero_damaged_pages",
                "SHOW is_superuser",
                "SELECT current_user, session_user",
                "SELECT * FROM of_reader",
            ]);
            author.send(sql)
        }
    }
}

/// Startup parameters.
pub(super) fn login(rng: &mut Rng) -> Vec<(&'static str, String)> {
    let mut parameters = Vec::new();
    if rng.percent(50) {
        parameters.push(("TimeZone", rng.pick(&["Asia/Tokyo", "Europe/Paris"]).to_owned()));
    }
    if rng.percent(30) {
        parameters.push(("application_name", rng.pick(&["mine", "the other"]).to_owned()));
    }
    if rng.percent(30) {
        parameters.push(("DateStyle", "SQL, DMY".to_owned()));
    }
    if rng.percent(60) {
        let options = [
            "-c statement_timeout=67s",
            "-cwork_mem=2MB --lock_timeout=68s",
            "-c app.a=mine -c search_path=pg_catalog",
            "-c default_transaction_isolation=repeatable\\ read",
            "--bytea-output=escape",
        ];
        parameters.push(("options", rng.pick(&options).to_owned()));
    }
    parameters
}
