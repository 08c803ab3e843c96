//! The queue against a small model of PostgreSQL's message loop: whatever a client sends and whenever the answers come,
//! it counts as settled exactly when the server has nothing more to say.

use std::collections::VecDeque;

use super::{Answer, Outcome, Pipeline, Request, Status, Weigh};
use crate::chance::Input;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
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
pub(super) enum Message {
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
pub(super) struct Server {
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
    pub(super) fn new() -> Self {
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

impl Weigh for usize {
    fn bytes(&self) -> usize {
        *self % 1000
    }
}

/// Client, queue and server together.
#[derive(Debug)]
pub(super) struct World {
    pub(super) pipeline: Pipeline<usize>,
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

    /// One answer, if there is one.
    fn deliver(&mut self) {
        let Some((tag, status)) = self.server.said.pop_front() else {
            return;
        };
        let done = &mut self.done;
        let route = self.pipeline.received(tag, status, |entry, outcome| {
            if outcome == Outcome::Done && !entry.request.ends_unit() && entry.request != Request::Execute {
                done.extend(entry.note);
            }
        });
        assert!(
            route.is_ok() || self.pipeline.is_doubtful(),
            "{} was not expected",
            char::from(tag)
        );
    }

    fn check(&mut self) {
        let notes = self.pipeline.queue.iter().map(super::Entry::weight);
        assert_eq!(self.pipeline.notes, notes.sum::<usize>());
        if self.pipeline.is_doubtful() {
            return;
        }
        assert_eq!(self.pipeline.is_settled(), self.server.is_idle(), "{self:?}");
        if self.server.said.is_empty() {
            // What is in both is compared once, and then forgotten.
            assert_eq!(self.done, self.server.done);
            self.done.clear();
            self.server.done.clear();
        }
    }

    /// Sends the messages, and what ends whatever they have begun. After each there come so many answers, if there are so
    /// many.
    pub(super) fn play(program: impl IntoIterator<Item = (Message, usize)>) {
        let mut world = Self {
            pipeline: Pipeline::default(),
            server: Server::new(),
            done: Vec::new(),
        };
        let end = [
            Message::CopyFail,
            Message::Sync,
            Message::Query(vec![Command::Commit]),
        ];
        let end = end.into_iter().map(|message| (message, 100));
        for (number, (message, pace)) in program.into_iter().chain(end).enumerate() {
            if !world.send(number, &message) {
                return;
            }
            world.check();
            for _ in 0..pace {
                world.deliver();
                world.check();
            }
        }
        while !world.server.said.is_empty() {
            world.deliver();
            world.check();
        }
        assert!(world.pipeline.is_settled() || world.pipeline.is_doubtful());
    }
}

/// A program and the pace of its answers, or any answers to any requests, out of bytes.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte().is_multiple_of(4) {
        return nonsense(&mut input);
    }
    let mut program = Vec::new();
    while !input.is_empty() && program.len() < 60 {
        let message = message(&mut input);
        program.push((message, input.pick(&[0, 0, 1, 2, 3, 4, 100])));
    }
    World::play(program);
}

fn command(input: &mut Input<'_>) -> Command {
    input.pick(&[
        Command::Select,
        Command::Select,
        Command::Fail,
        Command::Begin,
        Command::Commit,
        Command::CopyIn,
        Command::CopyInTooEarly,
    ])
}

fn message(input: &mut Input<'_>) -> Message {
    match input.byte() % 16 {
        0..4 => Message::Plain(
            input.pick(&[Request::Parse, Request::Bind, Request::Describe, Request::Close]),
            !input.byte().is_multiple_of(8),
        ),
        4..6 => Message::Execute(command(input)),
        6..8 => Message::Query((0..=input.byte() % 3).map(|_| command(input)).collect()),
        8 => Message::Function,
        9..12 => Message::Sync,
        12 => Message::Flush,
        13 => Message::Data(!input.byte().is_multiple_of(8)),
        14 => Message::CopyDone,
        _ => Message::CopyFail,
    }
}

/// A server that says anything.
fn nonsense(input: &mut Input<'_>) {
    let mut pipeline: Pipeline<usize> = Pipeline::default();
    while !input.is_empty() {
        if input.byte().is_multiple_of(2) {
            let request = input.pick(&[
                Request::Parse,
                Request::Bind,
                Request::Describe,
                Request::Execute,
                Request::Close,
                Request::Sync,
                Request::Query,
                Request::Function,
                Request::CopyEnd,
            ]);
            let answer = input.pick(&[Answer::Forward, Answer::Skip, Answer::Fake]);
            pipeline.sent(request, answer, None);
        }
        let tag = input.pick(b"123CDEGHIKNRSTVWZdcnst");
        let status = input.pick(&[Status::Idle, Status::InTransaction, Status::Failed]);
        let _ = pipeline.received(tag, status, |_, _| ());
        assert!(pipeline.in_flight() || !pipeline.unit_in_flight());
        pipeline.take_fake();
        pipeline.take_flush();
    }
}
