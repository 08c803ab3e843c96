//! Rounds from seeds: every client gets a program of one family, and the programs are woven into one sequence.

use std::collections::VecDeque;

use crate::families::{Author, Family, run};
use crate::program::{Login, Message, Round, Step};
use crate::rng::Rng;

/// What every program ends with.
const LOOKS: [&str; 2] = [
    "SELECT current_user, session_user, string_agg(concat(name, '=', nullif(current_setting(name, true), '')), ' ' ORDER BY name) \
     FROM unnest('{application_name,bytea_output,client_encoding,client_min_messages,datestyle,default_transaction_isolation,\
default_transaction_read_only,enable_seqscan,extra_float_digits,idle_in_transaction_session_timeout,intervalstyle,lock_timeout,\
search_path,standard_conforming_strings,statement_timeout,synchronous_commit,timezone,transform_null_equals,work_mem,\
xmloption,app.a,app.b,app.c,app.d}'::text[]) AS name",
    "SELECT (SELECT string_agg(name, ' ' ORDER BY name) FROM pg_cursors WHERE is_holdable), \
     (SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind <> 'i'), \
     (SELECT string_agg(concat(objid, mode), ' ' ORDER BY objid, mode) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
     (SELECT count(*) FROM pg_listening_channels())",
];
/// What those end with that are about prepared statements.
const LOOK_PREPARED: &str = "SELECT name, statement, from_sql FROM pg_prepared_statements ORDER BY name";

/// The round of this seed.
pub(crate) fn round(family: Family, seed: u64) -> Round {
    let mut rng = Rng::new(seed);
    let clients = family.clients();
    let logins = (0..clients).map(|_| family.login(&mut rng)).collect();
    let programs = (0..clients)
        .map(|client| program(family, client, seed, &mut rng))
        .collect();
    Round {
        logins,
        steps: weave(programs, family.servers() - 1, &mut rng),
    }
}

/// A client with nothing of its own.
pub(crate) fn app() -> Login {
    Login {
        user: "app",
        parameters: Vec::new(),
        is_polite: true,
    }
}

fn program(family: Family, client: usize, seed: u64, rng: &mut Rng) -> Vec<Step> {
    let mut author = Author { client, seed, rng };
    let mut steps = family.beginning(&mut author);
    for _ in 0..=author.rng.below(6) {
        steps.extend(unit(family, &mut author));
        if author.rng.percent(15) {
            let look = author.rng.below(LOOKS.len());
            steps.push(Step::query(LOOKS[look]));
        }
    }
    steps.push(Step::query("ROLLBACK"));
    steps.extend(LOOKS.map(Step::query));
    if family.prepares() {
        steps.push(Step::query(LOOK_PREPARED));
    }
    steps
}

/// A statement, or a transaction of some.
fn unit(family: Family, author: &mut Author<'_>) -> Vec<Step> {
    match author.rng.below(10) {
        0..=5 => vec![family.step(author)],
        6 => vec![together(family, author)],
        _ => transaction(family, author),
    }
}

fn transaction(family: Family, author: &mut Author<'_>) -> Vec<Step> {
    let mut steps = vec![Step::query(author.rng.pick(&[
        "BEGIN",
        "BEGIN",
        "START TRANSACTION",
    ]))];
    for _ in 0..=author.rng.below(4) {
        match author.rng.below(12) {
            0 => steps.push(Step::query("SELECT 1/0")),
            1 | 2 => steps.push(Step::query("SAVEPOINT s")),
            3 | 4 => steps.push(Step::query("ROLLBACK TO s")),
            5 => steps.push(Step::query("RELEASE s")),
            _ => steps.push(family.step(author)),
        }
    }
    steps.push(Step::query(
        author.rng.pick(&["COMMIT", "COMMIT", "ROLLBACK", "END"]),
    ));
    steps
}

/// Several statements that go out together: in one query, or in a pipeline.
fn together(family: Family, author: &mut Author<'_>) -> Step {
    let mut texts = Vec::new();
    let mut messages = Vec::new();
    for _ in 0..2 + author.rng.below(2) {
        match family.step(author) {
            Step::Send(sent) => {
                if let [Message::Query(sql)] = sent.as_slice() {
                    texts.push(sql.clone());
                }
                messages.extend(sent);
            }
            Step::CopyIn { .. } => {}
        }
        if author.rng.percent(10) {
            messages.push(Message::Parse(String::new(), "SELECT 1/0".to_owned()));
            messages.extend(run("", Vec::new()));
        }
    }
    if texts.len() > 1 && author.rng.percent(50) {
        return Step::query(texts.join("; "));
    }
    let has_queries = messages
        .iter()
        .any(|message| matches!(message, Message::Query(_) | Message::UnreadQuery));
    if !has_queries && author.rng.percent(50) {
        messages.retain(|message| *message != Message::Sync);
    }
    messages.push(Message::Sync);
    Step::Send(messages)
}

/// Lets the programs go on in turns, with no more than `open_max` of them in a transaction at once.
fn weave(programs: Vec<Vec<Step>>, open_max: usize, rng: &mut Rng) -> Vec<(usize, Step)> {
    let mut waiting: Vec<VecDeque<Step>> = programs.into_iter().map(VecDeque::from).collect();
    let mut open = vec![false; waiting.len()];
    let mut woven = Vec::new();
    loop {
        let is_full = open.iter().filter(|open| **open).count() >= open_max;
        let may_go = |client: &usize| {
            let next = waiting[*client].front();
            next.is_some() && (!is_full || open[*client] || !begins(next))
        };
        let may_go: Vec<usize> = (0..waiting.len()).filter(may_go).collect();
        if may_go.is_empty() {
            return woven;
        }
        let client = may_go[rng.below(may_go.len())];
        for _ in 0..=rng.below(3) {
            let Some(step) = waiting[client].pop_front() else {
                break;
            };
            open[client] = begins(Some(&step)) || open[client] && !ends(&step);
            woven.push((client, step));
        }
    }
}

fn first_word(step: &Step) -> &str {
    match step {
        Step::Send(messages) => match messages.first() {
            Some(Message::Query(sql)) => sql.split([' ', ';']).next().unwrap_or_default(),
            _ => "",
        },
        Step::CopyIn { .. } => "COPY",
    }
}

fn begins(step: Option<&Step>) -> bool {
    step.is_some_and(|step| ["BEGIN", "START"].contains(&first_word(step)))
}

fn ends(step: &Step) -> bool {
    let to_savepoint = matches!(step, Step::Send(sent) if matches!(sent.first(), Some(Message::Query(sql)) if sql.starts_with("ROLLBACK TO")));
    ["COMMIT", "ROLLBACK", "END"].contains(&first_word(step)) && !to_savepoint
}
