//! Programs about what a text means: several clients prepare the same ones, each behind settings of its own, which may hold
//! for the transaction only, be taken back, or come in the same batch.

use super::{Author, run, run_unnamed};
use crate::program::{Message, Step};

const NAMES: [&str; 4] = ["m1", "m2", "m3", ""];
/// What is decided when they are prepared. None speaks of a table: PostgreSQL would read them again once that has changed.
const TEXTS: [&str; 7] = [
    "SELECT '2031-01-01 00:00'::timestamptz AT TIME ZONE 'UTC'",
    "SELECT ('01/02/2003'::date - '2003-01-01'::date)",
    "SELECT (null::int = null)",
    "SELECT ('{NULL}'::text[])[1] IS NULL",
    r"SELECT length('a\\b'), 'c\d'",
    "SELECT extract(epoch FROM '1 2:03:04'::interval), '01/02/2003'::date = '2003-02-01'",
    "SELECT '<a/>'::xml IS DOCUMENT, '2031-06-01'::timestamptz = '2031-06-01 00:00+00'",
];
const VALUES: [(&str, [&str; 2]); 6] = [
    ("TimeZone", ["'Asia/Tokyo'", "'America/Lima'"]),
    ("DateStyle", ["'German'", "'ISO, DMY'"]),
    ("transform_null_equals", ["on", "off"]),
    ("array_nulls", ["off", "on"]),
    ("standard_conforming_strings", ["off", "on"]),
    ("xmloption", ["document", "content"]),
];

fn parse(name: &str, text: &str) -> Vec<Message> {
    vec![
        Message::CloseStatement(name.to_owned()),
        Message::Parse(name.to_owned(), text.to_owned()),
    ]
}

/// A setting, in SQL.
fn setting(author: &mut Author<'_>) -> String {
    let (name, values) = VALUES[author.rng.below(VALUES.len())];
    let value = author.pick(&values);
    let text = value.trim_matches('\'');
    match author.rng.below(8) {
        0 | 1 => format!("SET {name} = {value}"),
        2..=4 => format!("SET LOCAL {name} = {value}"),
        5 => format!("SELECT set_config('{name}', '{text}', true)"),
        6 => format!("SELECT set_config('{name}', '{text}', false)"),
        _ => format!("RESET {name}"),
    }
}

/// A statement is prepared, or run, or the settings change: each by itself, or in one batch.
pub(super) fn texts(author: &mut Author<'_>) -> Step {
    let name = author.pick(&NAMES);
    let text = author.pick(&TEXTS);
    let mut messages = match author.rng.below(8) {
        0 | 1 => {
            let sql = setting(author);
            return author.send(sql);
        }
        // What comes behind the end of a transaction is read as that has left it.
        2 => {
            let end = author.pick(&["COMMIT", "ROLLBACK", "SELECT 1"]);
            let mut messages = vec![Message::Query(end.to_owned())];
            messages.extend(parse(name, text));
            messages
        }
        3 => {
            let mut messages = run_unnamed(setting(author));
            messages.retain(|message| *message != Message::Sync);
            messages.extend(parse(name, text));
            messages
        }
        4 | 5 => parse(name, text),
        _ => Vec::new(),
    };
    if messages.is_empty() || author.rng.percent(60) {
        messages.extend(run(name, Vec::new()));
    } else {
        messages.push(Message::Sync);
    }
    Step::Send(messages)
}
