//! The queue against a small model of PostgreSQL's message loop: whatever a client sends and whenever the answers come,
//! it counts as settled exactly when the server has nothing more to say.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Select,
    Fail,
    Begin,
    Commit,
    CopyIn,
    /// Fails when the copy has begun but nothing has been read: a trigger before the statement does that.
    CopyInTooEarly,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Message {
    /// A request of the extended protocol, and whether it is right in itself.
    Plain(Request, bool),
    Execute(Command),
    Query(Vec<Command>),
    Function,
    Sync,
    Flush,
    Data(bool),
    CopyDone,
    CopyFail,
}

/// The server: `postgres.c` and `copyfromparse.c` in fifty lines.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "it mirrors PostgreSQL's own variables"
)]
struct Server {
    /// What has been said and not been delivered: type and status.
    said: VecDeque<(u8, Status)>,
    status: Status,
    skips_to_sync: bool,
    segment_open: bool,
    /// A COPY reads; the commands behind it in its Query, or none if it is an Execute.
    #[expect(clippy::option_option, reason = "no COPY, a COPY by Execute, a COPY by Query")]
    copy: Option<Option<Vec<Command>>>,
    /// The session is over.
    fatal: bool,
    /// Requests that were carried out, by number.
    done: Vec<usize>,
}

impl Server {
    fn new() -> Self {
        Self {
            said: VecDeque::new(),
            status: Status::Idle,
            skips_to_sync: false,
            segment_open: false,
            copy: None,
            fatal: false,
            done: Vec::new(),
        }
    }

    fn say(&mut self, tags: &[u8]) {
        self.said.extend(tags.iter().map(|tag| (*tag, self.status)));
    }

    fn fail(&mut self, extended: bool) {
        self.say(b"E");
        if self.status == Status::InTransaction {
            self.status = Status::Failed;
        }
        self.copy = None;
        if extended {
            self.skips_to_sync = true;
        } else {
            self.say(b"Z");
        }
    }

    /// False if it failed or waits for copy data.
    fn command(&mut self, command: Command, extended: bool) -> bool {
        let aborted = self.status == Status::Failed && command != Command::Commit;
        match command {
            _ if aborted => self.fail(extended),
            Command::Fail => self.fail(extended),
            Command::CopyIn | Command::CopyInTooEarly => {
                self.say(b"G");
                if command == Command::CopyIn {
                    self.copy = Some(None);
                } else {
                    self.fail(extended);
                }
            }
            Command::Select => {
                self.say(if extended { b"DDC" } else { b"TDC" });
                return true;
            }
            Command::Begin | Command::Commit => {
                self.status = if command == Command::Begin {
                    Status::InTransaction
                } else {
                    Status::Idle
                };
                self.say(b"C");
                return true;
            }
        }
        false
    }

    fn commands(&mut self, commands: &[Command]) {
        for (at, command) in commands.iter().enumerate() {
            if !self.command(*command, false) {
                if self.copy.is_some() {
                    self.copy = Some(Some(commands[at + 1..].to_vec()));
                }
                return;
            }
        }
        self.say(b"Z");
    }

    fn hear(&mut self, number: usize, message: &Message) {
        if let Some(rest) = self.copy.clone() {
            return self.hear_copy(message, rest);
        }
        if self.skips_to_sync && *message != Message::Sync {
            return;
        }
        match message {
            Message::Plain(request, right) => {
                self.segment_open = true;
                let answer: &[u8] = match request {
                    Request::Parse => b"1",
                    Request::Bind => b"2",
                    Request::Describe => b"tn",
                    _ => b"3",
                };
                if *right && (self.status != Status::Failed || *request == Request::Close) {
                    self.say(answer);
                    self.done.push(number);
                } else {
                    self.fail(true);
                }
            }
            Message::Execute(command) => {
                self.segment_open = true;
                self.command(*command, true);
            }
            Message::Query(commands) => {
                self.segment_open = false;
                self.commands(commands);
            }
            Message::Function => {
                self.segment_open = false;
                self.say(b"VZ");
            }
            Message::Sync => {
                (self.skips_to_sync, self.segment_open) = (false, false);
                self.say(b"Z");
            }
            Message::Flush | Message::Data(_) | Message::CopyDone | Message::CopyFail => {}
        }
    }

    fn hear_copy(&mut self, message: &Message, rest: Option<Vec<Command>>) {
        match message {
            Message::Data(true) | Message::Sync | Message::Flush => {}
            Message::Data(false) | Message::CopyFail => self.fail(rest.is_none()),
            Message::CopyDone => {
                self.copy = None;
                self.say(b"C");
                if let Some(rest) = rest {
                    self.commands(&rest);
                }
            }
            _ => self.fatal = true,
        }
    }

    fn is_idle(&self) -> bool {
        let open = self.segment_open || self.skips_to_sync || self.copy.is_some();
        self.said.is_empty() && !open && self.status == Status::Idle
    }
}

/// Client, queue and server together.
#[derive(Debug)]
struct World {
    pipeline: Pipeline<usize>,
    server: Server,
    done: Vec<usize>,
}

impl World {
    /// Sends a message as `client` does; false once the session is over.
    fn send(&mut self, number: usize, message: &Message) -> bool {
        let pipeline = &mut self.pipeline;
        let request = match message {
            _ if pipeline.is_skipping() && *message != Message::Sync => return true,
            Message::Data(_) | Message::Flush | Message::CopyDone | Message::CopyFail
                if pipeline.is_quiet() =>
            {
                return true;
            }
            Message::Data(_) | Message::Flush => None,
            Message::CopyDone | Message::CopyFail => Some(Request::CopyEnd),
            Message::Plain(request, _) => Some(*request),
            Message::Execute(_) => Some(Request::Execute),
            Message::Query(_) => Some(Request::Query),
            Message::Function => Some(Request::Function),
            Message::Sync => Some(Request::Sync),
        };
        if let Some(request) = request {
            pipeline.sent(request, Answer::Forward, Some(number));
        }
        self.server.hear(number, message);
        !self.server.fatal
    }

    fn deliver(&mut self) -> Result<(), TestCaseError> {
        let Some((tag, status)) = self.server.said.pop_front() else {
            return Ok(());
        };
        let done = &mut self.done;
        let route = self.pipeline.received(tag, status, |entry, outcome| {
            if outcome == Outcome::Done && !entry.request.ends_unit() && entry.request != Request::Execute {
                done.extend(entry.note);
            }
        });
        prop_assert!(
            route.is_ok() || self.pipeline.is_doubtful(),
            "{} was not expected",
            tag as char
        );
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        if self.pipeline.is_doubtful() {
            return Ok(());
        }
        prop_assert_eq!(self.pipeline.is_settled(), self.server.is_idle(), "{:?}", self);
        if self.server.said.is_empty() {
            prop_assert_eq!(&self.done, &self.server.done);
        }
        Ok(())
    }
}

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
        let mut world = World { pipeline: Pipeline::default(), server: Server::new(), done: Vec::new() };
        let end = [Message::CopyFail, Message::Sync, Message::Query(vec![Command::Commit])];
        let end = end.into_iter().map(|message| (message, 100));
        for (number, (message, pace)) in program.into_iter().chain(end).enumerate() {
            if !world.send(number, &message) {
                return Ok(());
            }
            world.check()?;
            for _ in 0..pace {
                world.deliver()?;
                world.check()?;
            }
        }
        prop_assert!(world.pipeline.is_settled() || world.pipeline.is_doubtful());
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
