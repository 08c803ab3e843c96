//! What is in flight between a client and the server that it holds.
//!
//! One queue describes every request that has been sent and not been answered, each with who the answer is for. It is
//! told what goes out ([`Pipeline::sent`]) and what comes back ([`Pipeline::received`]), follows PostgreSQL's rules on
//! errors, Sync and COPY ("Message Flow" in the manual), and says when nothing is left. It holds no bytes.
//!
//! A request may carry a note of the caller's, which comes back with its [`Outcome`].

use std::collections::VecDeque;

use super::backend::Status;

/// A request that the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Answered by `ParseComplete`.
    Parse,
    /// Answered by `BindComplete`.
    Bind,
    /// Answered by `RowDescription` or `NoData`.
    Describe,
    /// Answered by `CommandComplete`, `EmptyQueryResponse` or `PortalSuspended`.
    Execute,
    /// Answered by `CloseComplete`.
    Close,
    /// Answered by `ReadyForQuery`; ends a segment.
    Sync,
    /// A simple query, answered by `ReadyForQuery` after all else.
    Query,
    /// A function call, likewise.
    Function,
    /// `CopyDone` or `CopyFail`: never answered, but ends a COPY that it meets.
    CopyEnd,
}

impl Request {
    /// Whether it ends with a `ReadyForQuery` of its own.
    fn ends_unit(self) -> bool {
        matches!(self, Self::Sync | Self::Query | Self::Function)
    }
}

/// Who gets the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The client.
    Forward,
    /// Nobody: the request is howdah's own.
    Skip,
    /// The client, and howdah makes it: the server has never seen the request.
    Fake,
}

/// A request in flight.
#[derive(Debug)]
pub struct Entry<N> {
    /// What was asked.
    pub request: Request,
    /// Who gets the answer.
    pub answer: Answer,
    /// What the caller wants to remember with it.
    pub note: Option<N>,
}

/// What a note takes of memory beside itself.
pub trait Weigh {
    /// So many bytes.
    fn bytes(&self) -> usize;
}

impl Weigh for () {
    fn bytes(&self) -> usize {
        0
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It failed: the error was its own.
    Failed,
    /// The server passed over it because something before it failed.
    Skipped,
}

/// Whether a message of the server goes on to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It does.
    Forward,
    /// It answers a request of howdah's own.
    Skip,
}

/// The server sent an answer to which there was no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unexpected(pub u8);

/// Where a COPY FROM STDIN stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// None is running.
    Normal,
    /// The server reads copy data.
    CopyIn,
    /// A request of the extended protocol failed: the server passes over everything until Sync.
    Skipping,
}

/// Whether it is known which requests the server answers.
///
/// A request that is sent while copy data is read is swallowed by the COPY, but answered if the COPY has failed by then.
/// As long as the COPY goes well there is no doubt about it. When it fails nobody can tell from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It is.
    Sure,
    /// Only if the COPY that is running does not fail.
    Swallowed,
    /// It is not, for good.
    Doubtful,
}

/// Requests in flight beyond which no more should be sent, so that a client which never stops asking cannot fill the
/// memory.
const REQUESTS_MAX: usize = 10_000;
/// The same for what their notes hold, in bytes: the texts of statements, mostly.
const NOTES_MAX: usize = 1 << 20;

/// The queue of requests in flight.
#[derive(Debug)]
pub struct Pipeline<N> {
    queue: VecDeque<Entry<N>>,
    mode: Mode,
    trust: Trust,
    status: Status,
    /// Requests of the extended protocol have gone out and no Sync after them.
    segment_open: bool,
    /// Nothing has gone out since the server was asked for the answers that it holds back.
    flushed: bool,
    /// Sync, Query and Function entries in the queue.
    units: usize,
    /// What the notes in the queue hold, in bytes.
    notes: usize,
    /// Counts the segments that were begun, from 1.
    segment: u64,
}

impl<N> Default for Pipeline<N> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            mode: Mode::Normal,
            trust: Trust::Sure,
            status: Status::Idle,
            segment_open: false,
            flushed: false,
            units: 0,
            notes: 0,
            segment: 1,
        }
    }
}

impl<N: Weigh> Entry<N> {
    fn weight(&self) -> usize {
        self.note.as_ref().map_or(0, Weigh::bytes)
    }
}

impl<N: Weigh> Pipeline<N> {
    /// Transaction status as of the last `ReadyForQuery`.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether everything that was asked has been answered. The status may still be other than idle.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty() && !self.segment_open && self.mode == Mode::Normal
    }

    /// Whether the server may serve somebody else: quiet, and in no transaction.
    pub fn is_settled(&self) -> bool {
        self.is_quiet() && self.status == Status::Idle
    }

    /// Whether requests of the extended protocol have gone out and no Sync behind them.
    pub fn is_segment_open(&self) -> bool {
        self.segment_open
    }

    /// Whether a `ReadyForQuery` is still to come, so that the state of what is sent next is not known yet.
    pub fn unit_in_flight(&self) -> bool {
        self.units > 0
    }

    /// Whether anything sent has not been answered.
    pub fn in_flight(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the next answer is howdah's to give.
    pub fn is_fake_next(&self) -> bool {
        self.queue
            .front()
            .is_some_and(|entry| entry.answer == Answer::Fake)
    }

    /// Whether it is unknown how many answers are still to come, so that the connection may not serve anybody else.
    pub fn is_doubtful(&self) -> bool {
        self.trust == Trust::Doubtful
    }

    /// Whoever uses the connection has found out that nothing is still to come, or has not.
    pub fn settle_doubt(&mut self, nothing_is_to_come: bool) {
        self.trust = if nothing_is_to_come {
            Trust::Sure
        } else {
            Trust::Doubtful
        };
    }

    /// Whether so much is in flight that some of it should be answered first.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= REQUESTS_MAX || self.notes >= NOTES_MAX
    }

    /// Whether the server has to be asked for the answers that are in flight, which it may hold back until a unit
    /// ends. True once; whoever asks sends a Flush.
    pub fn take_flush(&mut self) -> bool {
        let due = !self.queue.is_empty() && self.units == 0 && !self.flushed;
        self.flushed |= due;
        due
    }

    /// Whether the server will pass over the next request of the extended protocol.
    pub fn is_skipping(&self) -> bool {
        self.mode == Mode::Skipping
    }

    /// Whether the server is reading copy data.
    pub fn is_copying_in(&self) -> bool {
        self.mode == Mode::CopyIn
    }

    /// The number of the segment (the requests up to a Sync or Query) that the next request belongs to.
    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// A request has been written for the server (or, with [`Answer::Fake`], would have been).
    ///
    /// Returns the note if the server will never answer this request: it is passing over everything until Sync, or it
    /// reads copy data and takes the request for a mistake.
    pub fn sent(&mut self, request: Request, answer: Answer, note: Option<N>) -> Option<N> {
        self.flushed = false;
        if !self.accepts(request) {
            return note;
        }
        if request.ends_unit() {
            self.segment_open = false;
            self.units += 1;
            self.segment += 1;
        } else if request != Request::CopyEnd {
            self.segment_open = true;
        }
        let entry = Entry {
            request,
            answer,
            note,
        };
        self.notes += entry.weight();
        self.queue.push_back(entry);
        None
    }

    fn accepts(&mut self, request: Request) -> bool {
        match (self.mode, request) {
            (Mode::Skipping, Request::Sync) => {
                self.mode = Mode::Normal;
                true
            }
            (Mode::Skipping, _) => false,
            (Mode::CopyIn, Request::Sync) => {
                self.swallow();
                false
            }
            (Mode::CopyIn, Request::CopyEnd) => {
                self.mode = Mode::Normal;
                false
            }
            (Mode::CopyIn, _) => {
                // The server fails the COPY and forgets the request ("unexpected message type during COPY from
                // stdin"); from PostgreSQL 14 on it ends the session.
                self.swallow();
                self.mode = Mode::Normal;
                false
            }
            // An end of a COPY that may be about to begin is worth remembering, a late one is not.
            (Mode::Normal, Request::CopyEnd) => !self.queue.is_empty(),
            (Mode::Normal, _) => true,
        }
    }

    /// A message of type `tag` has come from the server. `done` hears of each request that it settles, in the order
    /// in which they are to be undone if they failed: last first.
    ///
    /// For a `ReadyForQuery`, `status` is what it says; for all else it is ignored.
    pub fn received(
        &mut self,
        tag: u8,
        status: Status,
        mut done: impl FnMut(Entry<N>, Outcome),
    ) -> Result<Route, Unexpected> {
        match tag {
            b'N' => return Ok(self.head_route()),
            b'S' | b'A' => return Ok(Route::Forward),
            _ => {}
        }
        let Some(head) = self.queue.front() else {
            return self.out_of_the_blue(tag);
        };
        let (request, route) = (head.request, self.head_route());
        match tag {
            b'E' => {
                self.fail(request, &mut done);
                self.drop_copy_ends();
                return Ok(Route::Forward);
            }
            b'G' if matches!(request, Request::Query | Request::Execute) => self.begin_copy_in(&mut done),
            _ if answers(tag, request) => {
                self.end_copy(tag);
                if tag == b'Z' {
                    self.status = status;
                    self.units -= 1;
                    if self.mode == Mode::CopyIn {
                        self.mode = Mode::Normal;
                    }
                }
                if let Some(entry) = self.pop() {
                    done(entry, Outcome::Done);
                }
            }
            _ if carries(tag, request) => self.end_copy(tag),
            _ => return Err(Unexpected(tag)),
        }
        self.drop_copy_ends();
        Ok(route)
    }

    /// Whether a message of type `tag`, which has come from the server, is a part of the answer that the client is
    /// getting, and changes nothing. [`Pipeline::received`] need not hear of it.
    pub fn is_carried(&self, tag: u8) -> bool {
        self.queue.front().is_some_and(|head| {
            head.answer == Answer::Forward && matches!(tag, b'T' | b'D') && carries(tag, head.request)
        })
    }

    /// The next answer that howdah has to make, if its turn has come.
    pub fn take_fake(&mut self) -> Option<Entry<N>> {
        match self.queue.front() {
            Some(Entry {
                answer: Answer::Fake,
                request,
                ..
            }) => {
                if request.ends_unit() {
                    self.units -= 1;
                }
                let fake = self.pop();
                self.drop_copy_ends();
                fake
            }
            _ => None,
        }
    }

    /// The request that the server is answering.
    pub fn head(&self) -> Option<&Entry<N>> {
        self.queue.front()
    }

    fn pop(&mut self) -> Option<Entry<N>> {
        let entry = self.queue.pop_front()?;
        self.notes -= entry.weight();
        Some(entry)
    }

    fn head_route(&self) -> Route {
        match self.queue.front() {
            Some(Entry {
                answer: Answer::Skip, ..
            }) => Route::Skip,
            _ => Route::Forward,
        }
    }

    /// Ends of COPY that met none: the server has passed over them without a word.
    fn drop_copy_ends(&mut self) {
        while self
            .queue
            .front()
            .is_some_and(|entry| entry.request == Request::CopyEnd)
        {
            self.pop();
        }
    }

    /// A message for which nobody has asked. An error is the server's farewell; but within a segment it may be that
    /// `statement_timeout` is over and was noticed at a Flush, and then the server passes over the rest.
    fn out_of_the_blue(&mut self, tag: u8) -> Result<Route, Unexpected> {
        if tag != b'E' {
            return Err(Unexpected(tag));
        }
        if self.segment_open {
            self.mode = Mode::Skipping;
        }
        Ok(Route::Forward)
    }

    /// An error: of a Query or Function call it is part of the answer; in the extended protocol it takes everything
    /// with it up to the next Sync.
    fn fail(&mut self, request: Request, done: &mut impl FnMut(Entry<N>, Outcome)) {
        self.mode = Mode::Normal;
        if self.trust == Trust::Swallowed {
            self.trust = Trust::Doubtful;
        }
        if request.ends_unit() {
            return;
        }
        let sync = self.queue.iter().position(|entry| entry.request == Request::Sync);
        if sync.is_none() {
            self.mode = Mode::Skipping;
        }
        let end = sync.unwrap_or(self.queue.len());
        let ends_unit = |entry: &&Entry<N>| entry.request.ends_unit();
        self.units -= self.queue.iter().take(end).filter(ends_unit).count();
        self.notes -= self.queue.iter().take(end).map(Entry::weight).sum::<usize>();
        let mut failed = self.queue.drain(..end).rev().peekable();
        while let Some(entry) = failed.next() {
            let outcome = match failed.peek() {
                Some(_) => Outcome::Skipped,
                None => Outcome::Failed,
            };
            done(entry, outcome);
        }
    }

    /// The server begins to read copy data. What went out behind the request is read as such: Syncs before the end of
    /// the copy data are passed over without an answer.
    fn begin_copy_in(&mut self, done: &mut impl FnMut(Entry<N>, Outcome)) {
        let Some(head) = self.queue.pop_front() else {
            return;
        };
        self.mode = Mode::CopyIn;
        while self.mode == Mode::CopyIn {
            let Some(entry) = self.pop() else {
                break;
            };
            self.units -= usize::from(entry.request.ends_unit());
            match entry {
                Entry {
                    request: Request::CopyEnd,
                    ..
                } => self.mode = Mode::Normal,
                // The server has not seen it.
                Entry {
                    answer: Answer::Fake, ..
                } => done(entry, Outcome::Skipped),
                entry => {
                    self.swallow();
                    if entry.request != Request::Sync {
                        self.mode = Mode::Normal;
                    }
                    done(entry, Outcome::Skipped);
                }
            }
        }
        let synced = self.queue.iter().any(|entry| entry.request.ends_unit());
        self.segment_open |= head.request == Request::Execute && !synced;
        self.queue.push_front(head);
    }

    /// A COPY is taken to have read a request as if it were data.
    fn swallow(&mut self) {
        if self.trust == Trust::Sure {
            self.trust = Trust::Swallowed;
        }
    }

    /// A command that ends well has read all that it was to read.
    fn end_copy(&mut self, tag: u8) {
        if tag == b'C' && self.trust == Trust::Swallowed {
            self.trust = Trust::Sure;
        }
    }
}

/// Whether a message of this type is the end of the answer to this request.
fn answers(tag: u8, request: Request) -> bool {
    match request {
        Request::Parse => tag == b'1',
        Request::Bind => tag == b'2',
        Request::Describe => matches!(tag, b'T' | b'n'),
        Request::Execute => matches!(tag, b'C' | b'I' | b's'),
        Request::Close => tag == b'3',
        Request::Sync | Request::Query | Request::Function => tag == b'Z',
        Request::CopyEnd => false,
    }
}

/// Whether a message of this type may be part of the answer to this request, before its end.
fn carries(tag: u8, request: Request) -> bool {
    match request {
        Request::Describe => tag == b't',
        Request::Execute => matches!(tag, b'D' | b'H' | b'd' | b'c'),
        Request::Query => matches!(tag, b'T' | b'D' | b'C' | b'I' | b'H' | b'd' | b'c'),
        Request::Function => tag == b'V',
        Request::Parse | Request::Bind | Request::Close | Request::Sync | Request::CopyEnd => false,
    }
}

#[cfg(any(test, fuzzing))]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub use model::fuzz;
