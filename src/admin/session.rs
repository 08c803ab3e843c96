//! One session on the console: messages in, answers out.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::act::act;
use super::command::{Command, HELP, Known};
use super::extended::Extended;
use super::rows::{Cell, Column, Formats, Row, Type, write_columns, write_row};
use super::words::{self, Statement};
use super::{Console, Rights, SERVER_VERSION, Seat};
use crate::client::Visit;
use crate::error::{Refusal, SqlState};
use crate::farewell::{Denial, Farewell};
use crate::net::Stream;
use crate::wire::write::{self, Severity};
use crate::wire::{frontend, scan};

/// The longest message in bytes; commands are short.
const MESSAGE_MAX: usize = 64 * 1024;
/// What is written before more is done, in bytes: whoever asks much at once gets it as fast as they read.
const OUTPUT_MAX: usize = 64 * 1024;
/// How long a peer may take to read the last words.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// One session.
pub(super) struct Session<'a> {
    console: &'a Console,
    seat: Seat<'a>,
    stream: Stream,
    input: BytesMut,
    pub(super) output: BytesMut,
    user: String,
    rights: Rights,
    pub(super) extended: Extended,
    in_transaction: bool,
}

/// What a command has come to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    notices: Vec<Refusal>,
    pub(super) rows: Vec<Row>,
    pub(super) tag: String,
}

/// The columns of what a command answers with; `None` if it answers without rows.
pub(super) fn columns(command: &Command) -> Option<&'static [Column]> {
    match command {
        Command::Show(table) => Some(table.columns()),
        Command::Ask(known) => Some(std::slice::from_ref(&known.column)),
        _ => None,
    }
}

impl<'a> Session<'a> {
    /// A session whose greeting is about to be written.
    pub(super) fn new(console: &'a Console, seat: Seat<'a>, visit: Visit) -> Self {
        let mut session = Self {
            console,
            seat,
            stream: visit.stream,
            input: visit.input,
            output: BytesMut::new(),
            user: visit.user,
            rights: if visit.is_admin {
                Rights::Admin
            } else {
                Rights::Stats
            },
            extended: Extended::default(),
            in_transaction: false,
        };
        session.greet(&visit.application_name);
        session
    }

    pub(super) async fn run(mut self) -> Farewell {
        loop {
            let step = match self.next_message() {
                Ok(Some((tag, body))) => self.handle(tag, &body).await,
                Ok(None) => self.exchange().await,
                Err(farewell) => Err(farewell),
            };
            let step = match step {
                Ok(()) => self.relieve().await,
                over => over,
            };
            if let Err(farewell) = step {
                return self.leave(farewell).await;
            }
        }
    }

    /// What a server says between `AuthenticationOk` and the first query.
    fn greet(&mut self, application_name: &str) {
        let superuser = if self.rights == Rights::Admin { "on" } else { "off" };
        for (name, value) in [
            ("server_version", SERVER_VERSION),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("application_name", application_name),
            ("is_superuser", superuser),
            ("session_authorization", self.user.as_str()),
            ("DateStyle", "ISO"),
            ("IntervalStyle", "postgres"),
            ("TimeZone", "GMT"),
            ("integer_datetimes", "on"),
            ("standard_conforming_strings", "on"),
            ("default_transaction_read_only", "off"),
            ("in_hot_standby", "off"),
        ] {
            write::parameter_status(&mut self.output, name.as_bytes(), value.as_bytes());
        }
        write::message(&mut self.output, b'K', |out| {
            out.put_i32(self.seat.pid);
            out.put_slice(&self.seat.secret);
        });
        self.ready();
    }

    fn next_message(&mut self) -> Result<Option<(u8, Bytes)>, Farewell> {
        let header = scan::header(&self.input).map_err(|error| violation(error.to_string()))?;
        let Some(header) = header else { return Ok(None) };
        if header.len > MESSAGE_MAX {
            return Err(violation(format!(
                "messages to the console have at most {MESSAGE_MAX} bytes"
            )));
        }
        if self.input.len() < header.len {
            return Ok(None);
        }
        let mut message = self.input.split_to(header.len);
        message.advance(scan::HEADER_LEN);
        Ok(Some((header.tag, message.freeze())))
    }

    async fn handle(&mut self, tag: u8, body: &Bytes) -> Result<(), Farewell> {
        match tag {
            b'X' => return Err(Farewell::Finished),
            b'S' => {
                self.extended.sync(self.in_transaction);
                self.ready();
            }
            _ if self.extended.is_skipping => {}
            b'Q' => match frontend::query_text(body) {
                Ok(text) => self.query(&String::from_utf8_lossy(text)).await?,
                Err(error) => return Err(violation(error.to_string())),
            },
            b'P' | b'B' | b'D' | b'E' | b'C' => self.extended_message(tag, body).await?,
            b'H' => self.write().await?,
            // What is left of a COPY that never was.
            b'd' | b'c' | b'f' => {}
            b'F' => {
                self.error(&Refusal::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "the console has no functions to call",
                ));
                self.ready();
            }
            other => return Err(violation(format!("invalid frontend message type {other}"))),
        }
        Ok(())
    }

    async fn query(&mut self, text: &str) -> Result<(), Farewell> {
        match words::statements(text) {
            Err(refusal) => self.error(&refusal),
            Ok(statements) if statements.is_empty() => write::empty(&mut self.output, b'I'),
            Ok(statements) => {
                for statement in &statements {
                    if !self.statement(statement).await? {
                        break;
                    }
                }
            }
        }
        self.ready();
        Ok(())
    }

    /// Answers one statement of a simple query. Says whether it went well.
    async fn statement(&mut self, statement: &Statement) -> Result<bool, Farewell> {
        let command = match Command::parse(statement) {
            Ok(command) => command,
            Err(refusal) => {
                self.error(&refusal);
                return Ok(false);
            }
        };
        let Some(outcome) = self.perform(&command).await? else {
            return Ok(false);
        };
        if let Some(columns) = columns(&command) {
            let formats = Formats::default();
            write_columns(&mut self.output, columns, &formats);
            for row in &outcome.rows {
                write_row(&mut self.output, columns, row, &formats);
            }
        }
        write::command_complete(&mut self.output, outcome.tag.as_bytes());
        self.relieve().await?;
        Ok(true)
    }

    /// Does what a command says. `None`: it was refused, and the client has been told so.
    pub(super) async fn perform(&mut self, command: &Command) -> Result<Option<Outcome>, Farewell> {
        let answer = if self.rights < command.needs() {
            Err(Refusal::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied for {}", command.word()),
            )
            .hint("Only users in admin_users may do that."))
        } else {
            self.outcome(command).await?
        };
        match answer {
            Ok(outcome) => {
                for notice in &outcome.notices {
                    write::refusal(&mut self.output, Severity::Notice, notice);
                }
                Ok(Some(outcome))
            }
            Err(refusal) => {
                self.error(&refusal);
                Ok(None)
            }
        }
    }

    async fn outcome(&mut self, command: &Command) -> Result<Result<Outcome, Refusal>, Farewell> {
        let mut outcome = Outcome {
            tag: command.word().to_owned(),
            ..Outcome::default()
        };
        match command {
            Command::Show(table) => outcome.rows = table.rows(self.console),
            Command::Help => outcome
                .notices
                .push(notice("commands of the console").detail(HELP)),
            Command::Ask(known) => outcome.rows.push(vec![answer(known)]),
            Command::Begin(_) => self.in_transaction = true,
            Command::End(_) => self.in_transaction = false,
            Command::Harmless(_) => {}
            Command::Deallocate(name) => self.extended.deallocate(name.as_deref()),
            _ => match self.attend(command).await? {
                Ok(notices) => outcome.notices = notices.into_iter().map(notice).collect(),
                Err(refusal) => return Ok(Err(refusal)),
            },
        }
        Ok(Ok(outcome))
    }

    /// Carries out a command that may take long, unless the client leaves, cancels, or the process ends meanwhile.
    async fn attend(&mut self, command: &Command) -> Result<super::Answer, Farewell> {
        let user = self.user.as_str();
        tracing::info!(user, peer = %self.stream.peer(), command = command.spoken(), "console command");
        let canceled = self.seat.canceled.clone();
        tokio::select! {
            biased;
            answer = act(self.console, command) => Ok(answer),
            () = self.console.stop.cancelled() => Err(stopped()),
            () = canceled.notified() => Ok(Err(Refusal::new(
                SqlState::QUERY_CANCELED,
                "canceling statement due to user request",
            ))),
            farewell = end_of(&mut self.stream, &mut self.input) => Err(farewell),
        }
    }

    pub(super) fn error(&mut self, refusal: &Refusal) {
        write::refusal(&mut self.output, Severity::Error, refusal);
    }

    fn ready(&mut self) {
        let status = if self.in_transaction { b'T' } else { b'I' };
        write::ready_for_query(&mut self.output, status);
    }

    async fn write(&mut self) -> Result<(), Farewell> {
        tokio::select! {
            biased;
            written = self.stream.drain(&mut self.output) => written.map_err(|error| Farewell::ClientIo(error.to_string())),
            () = self.console.stop.cancelled() => Err(stopped()),
        }
    }

    /// Writes what there is to say if it has become much.
    async fn relieve(&mut self) -> Result<(), Farewell> {
        if self.output.len() < OUTPUT_MAX {
            return Ok(());
        }
        self.write().await
    }

    /// Writes what there is to say, then waits for more to hear.
    async fn exchange(&mut self) -> Result<(), Farewell> {
        self.write().await?;
        tokio::select! {
            biased;
            () = self.console.stop.cancelled() => Err(stopped()),
            read = self.stream.fill(&mut self.input) => match read {
                Ok(0) => Err(Farewell::Vanished),
                Ok(_) => Ok(()),
                Err(error) => Err(Farewell::ClientIo(error.to_string())),
            },
        }
    }

    async fn leave(mut self, farewell: Farewell) -> Farewell {
        if let Some(refusal) = farewell.refusal() {
            write::refusal(&mut self.output, Severity::Fatal, refusal);
            // Whoever does not read it will not miss it.
            let _ = tokio::time::timeout(FAREWELL_TIMEOUT, self.stream.drain(&mut self.output)).await;
        }
        farewell
    }
}

/// Ends a session before it has begun.
pub(super) async fn turn_away(mut stream: Stream, refusal: Refusal) -> Farewell {
    let mut output = BytesMut::new();
    write::refusal(&mut output, Severity::Fatal, &refusal);
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, stream.drain(&mut output)).await;
    Farewell::LoginRefused(Denial::Limit, refusal)
}

/// Ready when the client has left. What it sends meanwhile is kept, up to a bound.
async fn end_of(stream: &mut Stream, input: &mut BytesMut) -> Farewell {
    loop {
        if input.len() > MESSAGE_MAX {
            std::future::pending::<()>().await;
        }
        match stream.fill(input).await {
            Ok(0) => return Farewell::Vanished,
            Ok(_) => {}
            Err(error) => return Farewell::ClientIo(error.to_string()),
        }
    }
}

fn answer(known: &Known) -> Cell {
    match (known.column.kind, known.value.parse::<u64>()) {
        (Type::Text, _) | (_, Err(_)) => known.value.into(),
        (_, Ok(number)) => number.into(),
    }
}

/// A NOTICE; `00000` is the code of success.
fn notice(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    let code = SqlState::from_bytes(b"00000").unwrap_or(SqlState::INTERNAL_ERROR);
    Refusal::new(code, message)
}

fn stopped() -> Farewell {
    Farewell::Administrator(Refusal::new(
        SqlState::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    ))
}

fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> Farewell {
    Farewell::ClientProtocol(Refusal::new(SqlState::PROTOCOL_VIOLATION, message))
}
