//! A client's conversation against a small server without sockets: however its bytes and the answers are cut into
//! pieces, the client reads what it would read from the server itself.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::Pause;
use super::model::{Server, World, message, socket, told};
use super::trail::{Barrier, Following, Trail};
use crate::server::{Deallocates, Freeing, FunctionTable, Remains, Settings};
use crate::sql;

fn said(tag: u8, parts: &[&[u8]]) -> Message {
    Message(message(tag, parts))
}

/// Bytes that a failing case shows as text.
#[derive(Clone)]
struct Message(Vec<u8>);

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let names = prop_oneof![Just(""), Just("a"), Just("b"), Just("c"), Just("howdah_1")];
    let portals = prop_oneof![4 => Just(""), 1 => Just("p")];
    let texts = prop_oneof![
        8 => Just("one"),
        8 => Just("two"),
        8 => Just("three"),
        1 => Just("bad"),
        1 => Just("fail"),
        2 => Just("DEALLOCATE a"),
        1 => Just("DEALLOCATE howdah_1"),
        1 => Just("DEALLOCATE ALL")
    ];
    let queries = prop_oneof![
        Just("one"),
        Just("fail"),
        Just("DEALLOCATE a"),
        Just("DEALLOCATE ALL"),
        Just("one;DEALLOCATE a;DEALLOCATE b"),
        Just("DEALLOCATE b;fail;DEALLOCATE a"),
        Just("DEALLOCATE ALL;DEALLOCATE a"),
        Just("DEALLOCATE howdah_1;one")
    ];
    let bind = |(portal, name): (&str, &str)| {
        said(
            b'B',
            &[portal.as_bytes(), b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"],
        )
    };
    let execute = |portal: &str| said(b'E', &[portal.as_bytes(), b"\0\0\0\0\0"]);
    prop_oneof![
        6 => (names.clone(), texts).prop_map(|(name, text)| Message(parse(name, text))),
        6 => names.clone().prop_map(|name| Message(run(name))),
        2 => (portals.clone(), names.clone()).prop_map(bind),
        2 => portals.clone().prop_map(execute),
        1 => portals.prop_map(|name| said(b'C', &[b"P", name.as_bytes(), b"\0"])),
        2 => names.clone().prop_map(|name| said(b'D', &[b"S", name.as_bytes(), b"\0"])),
        3 => names.prop_map(|name| said(b'C', &[b"S", name.as_bytes(), b"\0"])),
        3 => queries.prop_map(|text| Message(query(text))),
        1 => Just(said(b'H', &[])),
        6 => Just(Message(sync())),
    ]
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"])
}

/// Bind and Execute.
fn run(name: &str) -> Vec<u8> {
    let bind = message(b'B', &[b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"]);
    [bind, message(b'E', &[b"\0\0\0\0\0"])].concat()
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), b"\0"])
}

fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// What was assumed of the unnamed statement by one segment must not be taken back by the end of another.
#[tokio::test]
async fn a_query_that_is_passed_over_leaves_later_unnamed_statements_uncertain() {
    let parts = [
        [parse("c", "one"), sync()].concat(),
        // Nothing to bind, so that the query is passed over.
        [run(""), query("fail"), sync()].concat(),
        // The name is taken, so that the unnamed statement is not made.
        [parse("c", "one"), parse("", "one"), sync()].concat(),
        [run(""), sync()].concat(),
    ];
    let mut direct = Server::default();
    for part in &parts {
        direct.hear(part);
    }
    let mut world = World::new(socket());
    // The answers to the second part are read once the third has gone out.
    for (part, heard) in parts.iter().zip([usize::MAX, 0, 40, usize::MAX]) {
        world.talk.input.extend_from_slice(part);
        world.step(heard).expect("nothing is wrong");
    }
    while world.step(usize::MAX).expect("nothing is wrong") {}
    assert_eq!(told(&world.read), told(&direct.output));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_client_cannot_tell_howdah_from_its_server(
        program in vec(messages(), 1..30),
        pieces in vec((1..60_usize, 0..40_usize), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _inside = runtime.enter();
        let program: Vec<u8> = program.into_iter().flat_map(|message| message.0).chain(sync()).collect();
        let mut direct = Server::default();
        direct.hear(&program);

        let mut world = World::new(socket());
        let mut rest = program.as_slice();
        for (sent, heard) in pieces.iter().cycle() {
            let (piece, tail) = rest.split_at((*sent).min(rest.len()));
            world.talk.input.extend_from_slice(piece);
            world.step(*heard).unwrap();
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        while world.step(usize::MAX).unwrap() {}
        prop_assert_eq!(told(&world.read), told(&direct.output));
        prop_assert!(world.connection.pipeline.is_settled() && world.talk.input.is_empty());
    }

    #[test]
    fn no_bytes_of_a_client_or_a_server_make_howdah_panic(
        steps in vec((any::<bool>(), prop_oneof![messages().prop_map(|message| message.0), vec(any::<u8>(), 1..30)]), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _inside = runtime.enter();
        let mut world = World::new(socket());
        for (from_client, bytes) in steps {
            if from_client {
                world.talk.input.extend_from_slice(&bytes);
            } else {
                world.connection.input.extend_from_slice(&bytes);
            }
            if matches!(world.talk.requests(&mut world.connection), Pause::Over(_))
                || world.talk.responses(&mut world.connection).is_err()
            {
                break;
            }
        }
    }
}

/// So many that whoever looks at each for each of them does not come to an end within the time of a test.
const MANY: usize = 100_000;

#[test]
fn what_many_settings_of_one_transaction_cost_is_in_proportion_to_their_number() {
    let set = (0..MANY / 2).map(|n| format!("SET app.s{n}=1;"));
    let reset = (0..MANY / 2).map(|n| format!("RESET app.r{n};"));
    let text: String = set.chain(reset).collect();
    let verdict = sql::verdict(
        text.as_bytes(),
        sql::Reading::default(),
        &FunctionTable::default(),
    );
    let mut trail = Trail::new(Arc::default(), Arc::default());
    trail.following = Following::All;
    for at in [Barrier::Now, Barrier::AtSync] {
        trail.mark(&verdict, text.as_bytes(), at);
    }
    let marks = trail.marks.expect("marks");
    let question = marks
        .question(&Settings::default(), Remains::NONE, &[])
        .expect("a question");
    assert!(
        question.every_setting && question.names.len() == 1,
        "past some, nobody remembers them"
    );
}

#[tokio::test]
async fn what_many_deallocates_of_one_query_cost_is_in_proportion_to_their_number() {
    let mut world = World::new(socket());
    let names: Vec<Box<[u8]>> = (0..MANY).map(|n| format!("s{n}").into_bytes().into()).collect();
    let one = |name: Box<[u8]>| (Deallocates::Name(name), Vec::new());
    let freeing = Freeing {
        steps: names.iter().cloned().map(one).collect(),
        borrowed: names.iter().cloned().collect(),
    };
    world.talk.doings.deallocated = MANY - 1;
    world.talk.leave_the_stage(freeing, &mut world.connection);
    // What has not been carried out is taken back.
    world.server.hear(&world.connection.output.split());
    assert_eq!(told(&world.server.output), [('3', vec![]), ('Z', b"I".to_vec())]);
}
