//! Programs about prepared statements, portals and COPY.

use super::{Author, run, run_unnamed};
use crate::program::{Message, Step};

const NAMES: [&str; 4] = ["s1", "s2", "s3", ""];

fn parse(name: &str, sql: &str) -> Message {
    Message::Parse(name.to_owned(), sql.to_owned())
}

/// Parse, Bind, Execute and Close in any order, with what goes wrong then.
pub(super) fn statements(author: &mut Author<'_>) -> Step {
    let name = author.pick(&NAMES);
    let text = author.pick(&[
        "SELECT 1",
        "SELECT 'two'::text AS two",
        "SELECT n FROM generate_series(1, 5) AS n",
        "SELECT 1/0",
        "SELEKT",
        "SHOW work_mem",
        "SELECT * FROM nowhere",
        "BEGIN",
        "COMMIT",
        "",
        "DEALLOCATE s1",
        "DEALLOCATE s2",
        "DEALLOCATE ALL",
        "DISCARD ALL",
    ]);
    let owned = name.to_owned();
    let messages = match author.rng.below(14) {
        0 | 1 => vec![parse(name, text), Message::Sync],
        2 => vec![Message::CloseStatement(owned), parse(name, text), Message::Sync],
        3 | 4 => run(name, Vec::new()),
        5 => vec![Message::DescribeStatement(owned), Message::Sync],
        6 => vec![Message::CloseStatement(owned), Message::Sync],
        7 => {
            let mut messages = vec![parse(name, "SELECT $1::int + 1, $2::text")];
            messages.extend(run(name, vec![Some("41".to_owned()), None]));
            messages
        }
        8 => run(name, vec![Some("7".to_owned()), Some("x".to_owned())]),
        9 => {
            let mut messages = vec![parse(name, text)];
            messages.extend(run(name, Vec::new()));
            messages
        }
        10 => portal(author),
        11 => vec![Message::UnreadQuery],
        12 => vec![Message::UnreadParse(owned), Message::Sync],
        _ => vec![Message::Query(
            author
                .pick(&[
                    "DEALLOCATE s1",
                    "DEALLOCATE ALL",
                    "DEALLOCATE s1; DEALLOCATE s2",
                    "SELECT 1; DEALLOCATE s1; SELECT 1/0; DEALLOCATE s2",
                    "DEALLOCATE ALL; DEALLOCATE s1",
                    "SELECT 1",
                    "",
                ])
                .to_owned(),
        )],
    };
    Step::Send(messages)
}

/// Portals that are read in parts.
fn portal(author: &mut Author<'_>) -> Vec<Message> {
    let name = author.pick(&["p", "q", ""]).to_owned();
    match author.rng.below(7) {
        // Of whatever the statement is.
        5 => vec![
            Message::Bind(left_open(name), author.pick(&NAMES).to_owned(), Vec::new()),
            Message::Sync,
        ],
        6 => vec![
            Message::ClosePortal(name.clone()),
            Message::Bind(name.clone(), author.pick(&NAMES).to_owned(), Vec::new()),
            Message::Execute(name, 0),
            Message::Sync,
        ],
        0 | 1 => vec![
            parse("", "SELECT n FROM generate_series(1, 5) AS n"),
            Message::Bind(name.clone(), String::new(), Vec::new()),
            Message::Execute(name.clone(), 2),
            Message::Execute(name, 2),
            Message::Sync,
        ],
        2 => vec![Message::Execute(left_open(name), 1), Message::Sync],
        3 => vec![Message::DescribePortal(left_open(name)), Message::Sync],
        _ => vec![Message::ClosePortal(name), Message::Sync],
    }
}

/// A portal of before. Not the one without a name: a simple query that fails within a transaction leaves its own there,
/// whose statements PostgreSQL 15 has freed by then. Executing it reads freed memory, and may end the server.
fn left_open(name: String) -> String {
    if name.is_empty() { "p".to_owned() } else { name }
}

/// SQL's own PREPARE, and the protocol's, of the same names.
pub(super) fn sql_prepare(author: &mut Author<'_>) -> Step {
    let name = author.pick(&["s1", "s2"]);
    match author.rng.below(15) {
        0..=2 => {
            let sql = format!("PREPARE {name} AS SELECT 'sql {name}'");
            author.send_simply(sql)
        }
        3 => {
            let sql = format!("PREPARE {name} (int) AS SELECT $1 + 1");
            author.send_simply(sql)
        }
        4 | 5 => {
            let sql = format!("EXECUTE {name}");
            author.send_simply(sql)
        }
        6 => {
            let sql = format!("EXECUTE {name} (41)");
            author.send_simply(sql)
        }
        7 => {
            let sql = format!("DEALLOCATE {name}");
            author.send_simply(sql)
        }
        8 => author.send_simply("DEALLOCATE ALL".to_owned()),
        12 => Step::query(format!(
            "DEALLOCATE {name}; PREPARE {name} AS SELECT 'anew'; EXECUTE {name}"
        )),
        13 => Step::query(format!(
            "EXECUTE {name}; DEALLOCATE s1; DEALLOCATE s2; EXECUTE {name}"
        )),
        9 => Step::Send(run(name, Vec::new())),
        10 => Step::Send(vec![Message::CloseStatement(name.to_owned()), Message::Sync]),
        _ => {
            let mut messages = vec![parse(name, "SELECT 'of the protocol'")];
            messages.extend(run(name, Vec::new()));
            Step::Send(messages)
        }
    }
}

impl Author<'_> {
    /// As a simple query or under no name, so that no other name comes in between.
    fn send_simply(&mut self, sql: String) -> Step {
        if self.rng.percent(60) {
            return Step::query(sql);
        }
        Step::Send(run_unnamed(sql))
    }
}

/// A prepared statement whose table changes.
pub(super) fn stale_plans(author: &mut Author<'_>) -> Step {
    let table = author.table();
    let name = author.pick(&["s1", "s2"]);
    let prepare = |sql: String| Step::Send(vec![parse(name, &sql), Message::Sync]);
    match author.rng.below(12) {
        0 | 1 => prepare(format!("SELECT * FROM {table} ORDER BY n")),
        2 => prepare(format!("SELECT n FROM {table} ORDER BY n")),
        3..=5 => Step::Send(run(name, Vec::new())),
        6 => Step::Send(vec![Message::DescribeStatement(name.to_owned()), Message::Sync]),
        7 => Step::Send(vec![Message::CloseStatement(name.to_owned()), Message::Sync]),
        8 => author.send(format!(
            "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS more int DEFAULT 9"
        )),
        9 => author.send(format!("ALTER TABLE {table} DROP COLUMN IF EXISTS more")),
        10 => author.send(format!("ALTER TABLE {table} ALTER COLUMN v TYPE varchar(20)")),
        _ => author.send(format!(
            "DROP TABLE {table}; CREATE TABLE {table} (n int, w text)"
        )),
    }
}

pub(super) fn copy(author: &mut Author<'_>) -> Step {
    let table = author.table();
    match author.rng.below(8) {
        0..=2 => {
            let good = author.rng.percent(80);
            Step::CopyIn {
                sql: format!("COPY {table} FROM STDIN"),
                lines: vec![
                    "3\tthree".to_owned(),
                    if good { "4\tfour" } else { "x\tfour" }.to_owned(),
                ],
                done: author.rng.percent(80),
                extended: author.rng.percent(40),
            }
        }
        3 => author.send(format!("COPY {table} TO STDOUT")),
        4 => Step::query(format!(
            "COPY (SELECT 1/(n - 2) FROM {table}) TO STDOUT; SELECT 1"
        )),
        5 => Step::query(format!("SELECT 1; COPY {table} TO STDOUT; SET work_mem = '11MB'")),
        6 => author.send(format!("TRUNCATE {table}")),
        _ => author.send(format!("SELECT count(*) FROM {table}")),
    }
}
