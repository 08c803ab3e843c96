//! The queue against its model, by programs that are made up.

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{Command, Message, World};
use super::*;

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => Just(Command::Select),
        1 => Just(Command::Fail),
        1 => Just(Command::Begin),
        1 => Just(Command::Commit),
        2 => Just(Command::CopyIn),
        1 => Just(Command::CopyInTooEarly),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    let plain = prop_oneof![
        Just(Request::Parse),
        Just(Request::Bind),
        Just(Request::Describe),
        Just(Request::Close)
    ];
    prop_oneof![
        6 => (plain, prop::bool::weighted(0.9)).prop_map(|(request, right)| Message::Plain(request, right)),
        3 => commands().prop_map(Message::Execute),
        3 => vec(commands(), 1..4).prop_map(Message::Query),
        1 => Just(Message::Function),
        5 => Just(Message::Sync),
        1 => Just(Message::Flush),
        4 => prop::bool::weighted(0.9).prop_map(Message::Data),
        4 => Just(Message::CopyDone),
        1 => Just(Message::CopyFail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// After each message there come `pace` answers, if there are so many.
    #[test]
    fn the_queue_is_settled_exactly_when_the_server_is(
        program in vec((messages(), prop_oneof![Just(0_usize), Just(100), 0..5_usize]), 1..40)
    ) {
        World::play(program);
    }

    /// A server may say anything.
    #[test]
    fn no_answer_makes_the_queue_panic(
        steps in vec((prop::option::of(messages()), any::<u8>(), 0..3_u8), 1..100)
    ) {
        let mut pipeline: Pipeline<usize> = Pipeline::default();
        let request = |message: &Message| match message {
            Message::Plain(request, _) => *request,
            Message::Execute(_) => Request::Execute,
            Message::Query(_) => Request::Query,
            Message::Function => Request::Function,
            Message::Sync => Request::Sync,
            _ => Request::CopyEnd,
        };
        let tags = b"123CDEGHIKNRSTVWZdcnst";
        for (message, tag, answer) in steps {
            if let Some(message) = message {
                let answer = [Answer::Forward, Answer::Skip, Answer::Fake][usize::from(answer)];
                pipeline.sent(request(&message), answer, None);
            }
            let tag = tags[usize::from(tag) % tags.len()];
            let _ = pipeline.received(tag, Status::Idle, |_, _| ());
            pipeline.take_fake();
        }
    }
}
