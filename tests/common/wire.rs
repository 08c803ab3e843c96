//! A client without a driver: it sends any bytes and reads typed frames, every read with a time limit.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::net::{PATIENCE, Target};
use super::{login, msg};

/// One message from the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The message's type.
    pub kind: u8,
    /// All behind the length.
    pub body: Vec<u8>,
}

/// Why no frame came.
#[derive(Debug, PartialEq, Eq)]
pub enum NoFrame {
    /// Nothing came in time.
    Timeout,
    /// The peer closed or reset the connection.
    Closed,
}

/// An `ErrorResponse` or `NoticeResponse`: its fields by their letter.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PgError(pub BTreeMap<char, String>);

impl PgError {
    fn field(&self, letter: char) -> &str {
        self.0.get(&letter).map_or("", String::as_str)
    }

    /// The SQLSTATE.
    pub fn code(&self) -> &str {
        self.field('C')
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        self.field('M')
    }

    /// The severity, not translated.
    pub fn severity(&self) -> &str {
        self.field('V')
    }
}

impl PgError {
    /// What must be alike. Where in PostgreSQL's source an error about the name of a prepared statement arose is not
    /// part of it, nor the like about DEALLOCATE in a failed transaction: a pooler that keeps these names may have to
    /// say it itself.
    fn comparable(mut self) -> BTreeMap<char, String> {
        if ["26000", "42P05", "25P02"].contains(&self.code()) {
            self.0.retain(|letter, _| !['F', 'L', 'R'].contains(letter));
        }
        self.0
    }
}

impl fmt::Debug for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity(), self.code(), self.message())
    }
}

/// The next NUL-terminated text of `bytes`.
pub fn take_cstr<'a>(bytes: &mut &'a [u8]) -> &'a str {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .expect("a text ends with NUL");
    let (text, rest) = bytes.split_at(end);
    *bytes = &rest[1..];
    std::str::from_utf8(text).expect("the tests speak UTF-8")
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (first, rest) = bytes
        .split_first_chunk::<N>()
        .expect("the message is long enough");
    *bytes = rest;
    *first
}

fn take_i32(bytes: &mut &[u8]) -> i32 {
    i32::from_be_bytes(take(bytes))
}

fn take_i16(bytes: &mut &[u8]) -> i16 {
    i16::from_be_bytes(take(bytes))
}

impl Frame {
    /// The fields of an error or notice.
    pub fn error(&self) -> PgError {
        let mut rest = self.body.as_slice();
        let mut fields = BTreeMap::new();
        while rest.first().is_some_and(|letter| *letter != 0) {
            let [letter] = take::<1>(&mut rest);
            fields.insert(char::from(letter), take_cstr(&mut rest).to_owned());
        }
        PgError(fields)
    }

    /// The values of a `DataRow`, lossily as text.
    pub fn row(&self) -> Vec<Option<String>> {
        let mut rest = self.body.as_slice();
        let count = take_i16(&mut rest);
        let mut value = || {
            let len = usize::try_from(take_i32(&mut rest)).ok()?;
            let (value, tail) = rest.split_at(len);
            rest = tail;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        (0..count).map(|_| value()).collect()
    }

    /// The first NUL-terminated text: the tag of a `CommandComplete`, the name of a `ParameterStatus`.
    pub fn text(&self) -> &str {
        take_cstr(&mut self.body.as_slice())
    }

    /// Name and value of a `ParameterStatus`.
    pub fn parameter(&self) -> (String, String) {
        let mut rest = self.body.as_slice();
        (take_cstr(&mut rest).to_owned(), take_cstr(&mut rest).to_owned())
    }

    /// The fields of a `RowDescription`; whether a column belongs to a table is kept, that table's OID is not.
    fn columns(&self) -> Vec<String> {
        let mut rest = self.body.as_slice();
        let count = take_i16(&mut rest);
        let mut column = || {
            let name = take_cstr(&mut rest).to_owned();
            let table = if take_i32(&mut rest) == 0 { "" } else { "table." };
            let number = take_i16(&mut rest);
            let (oid, size, modifier, format) = (
                take_i32(&mut rest),
                take_i16(&mut rest),
                take_i32(&mut rest),
                take_i16(&mut rest),
            );
            format!("{name}={table}{number} type {oid}/{size}/{modifier} format {format}")
        };
        (0..count).map(|_| column()).collect()
    }

    /// The frame as one line of a transcript.
    pub fn describe(&self) -> String {
        let kind = char::from(self.kind);
        match self.kind {
            b'T' => format!("T {:?}", self.columns()),
            b'D' if self.body.len() < 2000 => format!("D {:?}", self.row()),
            b'C' => format!("C {}", self.text()),
            b'E' | b'N' => format!("{kind} {:?}", self.error().comparable()),
            b'Z' => format!("Z {}", char::from(self.body[0])),
            b'S' => format!("S {:?}", self.parameter()),
            _ if self.body.len() < 2000 => format!("{kind} {}", self.body.escape_ascii()),
            _ => format!(
                "{kind} {} bytes with sum {}",
                self.body.len(),
                checksum(&self.body)
            ),
        }
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(14_695_981_039_346_656_037, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211)
    })
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// What a query brought, up to and with its `ReadyForQuery`.
#[derive(Debug, Default)]
pub struct Answer {
    /// The rows of all statements, values as text.
    pub rows: Vec<Vec<Option<String>>>,
    /// The command tags.
    pub tags: Vec<String>,
    /// The error, if there was one.
    pub error: Option<PgError>,
    /// The notices.
    pub notices: Vec<PgError>,
    /// The transaction status: `I`, `T` or `E`.
    pub status: char,
}

impl Answer {
    /// The first value of the first row.
    pub fn value(&self) -> &str {
        let row = self.rows.first().unwrap_or_else(|| panic!("no rows: {self:?}"));
        row.first().and_then(Option::as_deref).unwrap_or("NULL")
    }

    /// The SQLSTATE of the error, or nothing.
    pub fn code(&self) -> &str {
        self.error.as_ref().map_or("", PgError::code)
    }
}

/// Something to do each time before the client, idle until then, sends again.
pub type Disturbance = Box<dyn FnMut() + Send>;

/// A raw connection.
pub struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    start: usize,
    settled: bool,
    /// How long a read waits.
    pub patience: Duration,
    /// Process id and secret of `BackendKeyData`.
    pub key: Option<(u32, Vec<u8>)>,
    /// What `ParameterStatus` said last.
    pub params: BTreeMap<String, String>,
    /// Every frame that was read, as a line (`BackendKeyData` left out).
    pub transcript: Vec<String>,
    /// See [`Disturbance`].
    pub disturbance: Option<Disturbance>,
}

impl Wire {
    /// A connection on which nothing has been said.
    pub fn connect(target: Target) -> Result<Self, std::io::Error> {
        let stream = TcpStream::connect_timeout(&target.addr(), Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            start: 0,
            settled: false,
            patience: PATIENCE,
            key: None,
            params: BTreeMap::new(),
            transcript: Vec::new(),
            disturbance: None,
        })
    }

    /// Connects and logs in with these startup parameters.
    pub fn login_with(
        target: Target,
        params: &[(&str, &str)],
        password: Option<&str>,
    ) -> Result<Self, login::LoginError> {
        let mut wire = Self::connect(target)?;
        wire.send(&msg::startup(params));
        login::finish(&mut wire, params, password)?;
        wire.settled = true;
        Ok(wire)
    }

    /// Connects as a user who needs no password; panics when refused.
    pub fn login(target: Target, user: &str, database: &str) -> Self {
        Self::login_with(target, &[("user", user), ("database", database)], None)
            .unwrap_or_else(|error| panic!("{user} cannot log in to {database} on {}: {error}", target.port))
    }

    /// Connects as `app` to `app`.
    pub fn app(target: Target) -> Self {
        Self::login(target, "app", "app")
    }

    /// Sends bytes; a peer that has gone is noticed by the next read.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.settled {
            if let Some(disturb) = &mut self.disturbance {
                disturb();
            }
            self.settled = false;
        }
        self.stream
            .set_write_timeout(Some(self.patience))
            .expect("a timeout can be set");
        match self.stream.write_all(bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the peer took no more bytes for {:?} (deadlock?)", self.patience)
            }
            _ => {}
        }
    }

    /// A second handle on the socket, to write from another thread.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("a second handle on a socket")
    }

    /// The raw next byte: the answer to `SSLRequest`.
    pub fn read_byte(&mut self) -> Result<u8, NoFrame> {
        let end = Instant::now() + self.patience;
        while self.input.len() == self.start {
            self.fill(end)?;
        }
        self.start += 1;
        Ok(self.input[self.start - 1])
    }

    /// The next frame, or why there is none.
    pub fn try_read(&mut self) -> Result<Frame, NoFrame> {
        let end = Instant::now() + self.patience;
        loop {
            if let Some(frame) = self.parse_frame() {
                self.note(&frame);
                return Ok(frame);
            }
            self.fill(end)?;
        }
    }

    /// Whether the last that was read is a part of a frame.
    pub fn is_within_frame(&self) -> bool {
        self.start < self.input.len()
    }

    fn parse_frame(&mut self) -> Option<Frame> {
        let rest = &self.input[self.start..];
        let (&kind, rest) = rest.split_first()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len))
            .expect("64 bits")
            .checked_sub(4);
        let len = len.unwrap_or_else(|| panic!("a frame {:?} with an impossible length", char::from(kind)));
        let body = rest.get(..len)?.to_vec();
        self.start += 5 + len;
        if self.start == self.input.len() {
            self.input.clear();
            self.start = 0;
        }
        Some(Frame { kind, body })
    }

    fn fill(&mut self, end: Instant) -> Result<(), NoFrame> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NoFrame::Timeout);
        }
        self.stream
            .set_read_timeout(Some(left))
            .expect("a timeout can be set");
        let mut chunk = [0; 16384];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(NoFrame::Closed),
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(NoFrame::Timeout)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(NoFrame::Closed),
        }
    }

    fn note(&mut self, frame: &Frame) {
        match frame.kind {
            b'K' => {
                let (pid, key) = frame
                    .body
                    .split_first_chunk::<4>()
                    .expect("BackendKeyData has a pid");
                self.key = Some((u32::from_be_bytes(*pid), key.to_vec()));
                return;
            }
            b'S' => {
                let (name, value) = frame.parameter();
                self.params.insert(name, value);
            }
            b'Z' => self.settled = frame.body == b"I",
            _ => {}
        }
        self.transcript.push(frame.describe());
    }

    /// The next frame; panics when none comes.
    #[track_caller]
    pub fn read(&mut self) -> Frame {
        match self.try_read() {
            Ok(frame) => frame,
            Err(why) => panic!(
                "{why:?} instead of a frame; the last ones were {:#?}",
                self.last()
            ),
        }
    }

    fn last(&self) -> &[String] {
        &self.transcript[self.transcript.len().saturating_sub(8)..]
    }

    /// Frames up to and with `ReadyForQuery`.
    #[track_caller]
    pub fn until_ready(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            frames.push(self.read());
            if frames.last().is_some_and(|frame| frame.kind == b'Z') {
                return frames;
            }
        }
    }

    /// The kinds of the frames up to and with `ReadyForQuery`, as in `12nCZ`; `ParameterStatus` is left out.
    #[track_caller]
    pub fn kinds_until_ready(&mut self) -> String {
        kinds(&self.until_ready())
    }

    /// Exactly these kinds come next (`ParameterStatus` left out); nothing is said about what follows.
    #[track_caller]
    pub fn expect(&mut self, wanted: &str) -> Vec<Frame> {
        let mut frames = Vec::new();
        while frames.len() < wanted.len() {
            let frame = self.read();
            if frame.kind != b'S' {
                frames.push(frame);
            }
        }
        assert_eq!(kinds(&frames), wanted, "the frames were {frames:#?}");
        frames
    }

    /// Nothing comes for this long.
    #[track_caller]
    pub fn expect_silence(&mut self, time: Duration) {
        let patience = std::mem::replace(&mut self.patience, time);
        let result = self.try_read();
        self.patience = patience;
        assert_eq!(result, Err(NoFrame::Timeout), "there should be silence");
    }

    /// The peer closes the connection, perhaps after some last frames, which are returned.
    #[track_caller]
    pub fn expect_closed(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.try_read() {
                Ok(frame) => frames.push(frame),
                Err(NoFrame::Closed) => return frames,
                Err(NoFrame::Timeout) => panic!("the connection should be closed; it brought {frames:#?}"),
            }
        }
    }

    /// The peer says an error and closes; returns the error.
    #[track_caller]
    pub fn expect_fatal(&mut self) -> PgError {
        let frames = self.expect_closed();
        let error = frames.iter().rev().find(|frame| frame.kind == b'E');
        error
            .unwrap_or_else(|| panic!("closed without an ErrorResponse, after {frames:?}"))
            .error()
    }

    /// The answer to what was sent, up to the next `ReadyForQuery`.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        gather(&self.until_ready())
    }

    /// As [`Self::answer`]; the error that ended the connection when it was closed instead.
    pub fn try_answer(&mut self) -> Result<Answer, Option<PgError>> {
        let mut frames = Vec::new();
        loop {
            match self.try_read() {
                Ok(frame) => frames.push(frame),
                Err(NoFrame::Timeout) => panic!("no answer in {:?}, after {frames:?}", self.patience),
                Err(NoFrame::Closed) => return Err(gather(&frames).error),
            }
            if frames.last().is_some_and(|frame| frame.kind == b'Z') {
                return Ok(gather(&frames));
            }
        }
    }

    /// A simple query and its answer.
    #[track_caller]
    pub fn query(&mut self, sql: &str) -> Answer {
        self.send(&msg::query(sql));
        self.answer()
    }

    /// A simple query that must succeed; returns the first value ("" without rows).
    #[track_caller]
    pub fn value(&mut self, sql: &str) -> String {
        let answer = self.query(sql);
        assert!(answer.error.is_none(), "{sql}: {:?}", answer.error);
        if answer.rows.is_empty() {
            String::new()
        } else {
            answer.value().to_owned()
        }
    }

    /// Sends messages, ends them with Sync, and returns the kinds of what came.
    #[track_caller]
    pub fn batch(&mut self, messages: &[Vec<u8>]) -> String {
        self.send(&[messages.concat(), msg::sync()].concat());
        self.kinds_until_ready()
    }

    /// Sends messages, ends them with Sync, and returns the answer.
    #[track_caller]
    pub fn extended(&mut self, messages: &[Vec<u8>]) -> Answer {
        self.send(&[messages.concat(), msg::sync()].concat());
        self.answer()
    }

    /// Says goodbye and closes.
    pub fn terminate(mut self) {
        self.send(&msg::terminate());
    }

    /// Goes without a word, as a killed process does (with what was not read yet: a reset).
    pub fn vanish(self) {
        self.stream.shutdown(Shutdown::Both).ok();
    }

    /// Whether the peer has closed it; what it said before is kept.
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.fill(Instant::now() + Duration::from_millis(1)) {
                Ok(()) => {}
                Err(why) => return why == NoFrame::Closed,
            }
        }
    }

    /// Closes the sending half only.
    pub fn close_sending(&self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }
}

/// The kinds of frames as a text; `ParameterStatus` left out.
pub fn kinds(frames: &[Frame]) -> String {
    frames
        .iter()
        .map(|frame| char::from(frame.kind))
        .filter(|kind| *kind != 'S')
        .collect()
}

/// What some frames say together.
pub fn gather(frames: &[Frame]) -> Answer {
    let mut answer = Answer::default();
    for frame in frames {
        match frame.kind {
            b'D' => answer.rows.push(frame.row()),
            b'C' => answer.tags.push(frame.text().to_owned()),
            b'E' => answer.error = Some(frame.error()),
            b'N' => answer.notices.push(frame.error()),
            b'Z' => answer.status = char::from(frame.body[0]),
            _ => {}
        }
    }
    answer
}

/// Sends a `CancelRequest` on a connection of its own and waits until the peer has closed it.
pub fn cancel(target: Target, key: &(u32, Vec<u8>)) {
    let mut wire = Wire::connect(target).expect("the peer takes connections");
    wire.send(&msg::cancel(key.0, &key.1));
    assert_eq!(wire.expect_closed(), [], "a cancel request gets no answer");
}
