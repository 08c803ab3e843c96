//! A client of a simulation: it comes, says what its program says, and holds every answer against its oracle's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::timeout;

use super::plan::{DATABASES, Logins, USERS};
use super::program::{Author, Batch, Kind};
use super::proof::Proof;
use super::session::{Fault, Session};
use super::world::World;
use crate::net::simulated::{Dice, Socket};
use crate::wire::backend::ErrorFields;
use crate::wire::{scan, startup, write};

/// What takes longer than this, in virtual time, would take for ever.
const FOR_EVER: Duration = Duration::from_secs(4 * 3600);

/// What begins a transaction block in statement mode is told.
const NO_BLOCKS: &str = "0A000 transaction blocks are not allowed";

/// A message that a client has read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    tag: u8,
    body: Vec<u8>,
}

impl Message {
    /// The first message of these bytes.
    fn take(input: &mut BytesMut) -> Option<Self> {
        let (header, body) = scan::message(input).ok().flatten()?;
        let message = Self {
            tag: header.tag,
            body: body.to_vec(),
        };
        input.advance(header.len);
        Some(message)
    }

    /// The code of an error.
    fn code(&self) -> Option<String> {
        let code = ErrorFields::new(&self.body)
            .get(b'C')
            .filter(|_| self.tag == b'E')?;
        Some(String::from_utf8_lossy(code).into_owned())
    }

    fn is_fatal(&self) -> bool {
        self.tag == b'E' && ErrorFields::new(&self.body).is_fatal()
    }

    /// The same for the client's purposes.
    fn is(&self, other: &Self) -> bool {
        let words = |message: &Self| {
            let fields = ErrorFields::new(&message.body);
            [b'C', b'M'].map(|field| fields.get(field).map(<[u8]>::to_vec))
        };
        match (self.tag, other.tag) {
            (b'E', b'E') => words(self) == words(other),
            _ => self == other,
        }
    }

    fn shown(&self) -> String {
        let body = &self.body[..self.body.len().min(160)];
        format!("{} {}", self.tag as char, body.escape_ascii())
    }
}

/// How a connection ended.
#[derive(Debug)]
enum End {
    /// With a last word: its code, and more.
    Fatal(String),
    /// Without one.
    Silent,
}

/// One visit.
struct Visit {
    world: Arc<World>,
    socket: Socket,
    input: BytesMut,
    oracle: Session,
    author: Author,
    dice: Dice,
    reported: BTreeMap<String, String>,
    key: Option<(i32, Vec<u8>)>,
    proof: Proof,
}

/// A client's whole life.
pub(super) async fn live(world: Arc<World>, id: usize, mut dice: Dice) {
    let name = format!("c{id}");
    for visit in 0..world.plan.visits {
        tokio::time::sleep(dice.pause(world.plan.spread_ms)).await;
        let author = Author {
            name: name.clone(),
            visit,
            serial: 0,
            is_shy: world.plan.is_statement_mode(),
        };
        let (user, database) = (dice.below(USERS), dice.below(DATABASES as u64));
        let mut parameters = vec![
            ("user".to_owned(), format!("u{user}")),
            ("database".to_owned(), format!("d{database}")),
            ("application_name".to_owned(), name.clone()),
        ];
        if dice.one_in(4) {
            parameters.push(("TimeZone".to_owned(), "Asia/Tokyo".to_owned()));
        }
        if dice.one_in(4) {
            let options = dice.pick(&["-c statement_timeout=2h", "-c app.tenant=red"]);
            parameters.push(("options".to_owned(), options.to_owned()));
        }
        let is_forger = world.plan.logins == Logins::Scram && dice.one_in(12);
        let Some(socket) = world.dial(&mut dice) else {
            return;
        };
        let own = parameters.iter().skip(2).map(|(name, value)| {
            let option = value
                .strip_prefix("-c ")
                .and_then(|option| option.split_once('='));
            option.unwrap_or((name, value))
        });
        let mut visit = Visit {
            oracle: Session::new(&parameters[0].1, own),
            world: world.clone(),
            socket,
            input: BytesMut::new(),
            author,
            dice: dice.fork(),
            reported: BTreeMap::new(),
            key: None,
            proof: Proof::new(&parameters[0].1, is_forger, dice.fork()),
        };
        visit.oracle.output.clear();
        let end = visit.run(&parameters).await;
        visit.farewell(end);
    }
}

impl Visit {
    async fn run(&mut self, parameters: &[(String, String)]) -> Result<(), End> {
        let mut hello = BytesMut::new();
        let pairs = parameters.iter();
        startup::write_startup(
            &mut hello,
            startup::PROTOCOL_3_0,
            pairs.map(|(name, value)| (name.as_str(), value.as_bytes())),
        );
        self.say(|| format!("comes as {} to {}", parameters[0].1, parameters[1].1));
        let welcome = self.exchange(hello, 1).await.map_err(|(_, end)| end)?;
        if self.proof.is_forged {
            let name = &self.author.name;
            self.world
                .trace
                .fail(format!("{name} is let in without the password"));
        }
        for message in &welcome {
            if message.tag == b'K' {
                let (pid, secret) = message.body.split_at(4);
                let pid = i32::from_be_bytes(pid.try_into().expect("four bytes"));
                self.key = Some((pid, secret.to_vec()));
            }
        }
        self.same_reports("at its login");
        self.say(|| "is logged in".to_owned());
        for _ in 0..=self.dice.below(self.world.plan.steps) {
            if self.dice.one_in(2) {
                let longest = self.dice.pick(&[20, 500, 2500]);
                tokio::time::sleep(self.dice.pause(longest)).await;
            }
            let batch = self.author.write(&mut self.dice, &self.oracle);
            self.world.asked(&batch.inserts);
            let said = batch.bytes.escape_ascii().to_string();
            self.say(|| format!("asks {}", &said[..said.len().min(200)]));
            if self.world.plan.has_vanishers && self.dice.one_in(40) {
                return self.vanish(batch).await;
            }
            self.ask(batch).await?;
            self.world.check();
        }
        if self.dice.one_in(3) {
            self.say(|| "leaves without a word".to_owned());
        } else {
            let mut goodbye = BytesMut::new();
            write::empty(&mut goodbye, b'X');
            let _ = self.socket.write(&mut goodbye).await;
            self.say(|| "says goodbye".to_owned());
        }
        Ok(())
    }

    fn say(&self, what: impl FnOnce() -> String) {
        let author = &self.author;
        self.world
            .trace
            .say(|| format!("{}-{}: {}", author.name, author.visit, what()));
    }

    /// Goes in the middle of a request: at once, or without listening, or with half of it said.
    async fn vanish(&mut self, mut batch: Batch) -> Result<(), End> {
        self.world.vanished();
        self.say(|| "goes in the middle of that".to_owned());
        let half = self.dice.below(batch.bytes.len() as u64 + 1) as usize;
        let all = self.dice.one_in(2);
        let mut part = if all {
            batch.bytes.split()
        } else {
            batch.bytes.split_to(half)
        };
        let written = timeout(Duration::from_secs(60), async {
            while !part.is_empty() && self.socket.write(&mut part).await.is_ok() {}
        });
        let _ = written.await;
        tokio::time::sleep(self.dice.pause(200)).await;
        match self.dice.below(3) {
            0 => self.socket.link().reset(),
            // It will hear what there is to hear, and say no more.
            1 => {
                self.socket.shutdown();
                let mut rest = BytesMut::new();
                let end = timeout(FOR_EVER, async {
                    while self.socket.read(&mut rest, 5000).await.is_ok_and(|n| n > 0) {}
                });
                if end.await.is_err() {
                    self.world
                        .trace
                        .fail(format!("{}: half closed, and never ended", self.author.name));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts a request and compares the answer.
    async fn ask(&mut self, batch: Batch) -> Result<(), End> {
        let cancels = batch.kind == Kind::Sleeps && self.dice.one_in(2);
        let asked = batch.bytes.clone();
        let answers = if cancels {
            let cancelling = cancel(
                self.world.clone(),
                self.author.name.clone(),
                self.key.clone(),
                self.dice.fork(),
            );
            // Until that is over, it could hit the next request.
            tokio::join!(self.exchange(batch.bytes, batch.ends), cancelling).0
        } else {
            self.exchange(batch.bytes, batch.ends).await
        };
        match answers {
            Ok(answers) => {
                self.compare(&asked, &answers, batch.kind, cancels, true);
                self.world.acknowledged(self.oracle.committed.drain(..));
                self.same_reports("after an answer");
                let plan = &self.world.plan;
                if plan.is_statement_mode() && plan.is_calm() && self.oracle.status != b'I' {
                    let name = &self.author.name;
                    self.world
                        .trace
                        .fail(format!("{name} is in a transaction in statement mode"));
                }
                Ok(())
            }
            Err((answers, end)) => {
                self.compare(&asked, &answers, batch.kind, cancels, false);
                Err(end)
            }
        }
    }

    fn compare(&mut self, asked: &[u8], answers: &[Message], kind: Kind, cancels: bool, is_all: bool) {
        let error = answers
            .iter()
            .filter(|answer| !answer.is_fatal())
            .find_map(Message::code);
        self.oracle.inject = match error.as_deref() {
            Some("53300") if kind == Kind::Pins => {
                let message = "too many clients keep a server for their session state";
                Some(Fault::new(*b"53300", message))
            }
            // There was none for what howdah did on behalf of this request.
            Some("53200") => Some(Fault::new(*b"53200", "out of memory")),
            _ => None,
        };
        let is_cancelled = cancels && error.as_deref() == Some("57014");
        if is_cancelled {
            // Perhaps while it was still waiting for a server.
            self.world.vanished();
        }
        self.oracle.hear(asked);
        while let Ok(Some(_)) = self.oracle.work() {
            self.oracle.wake(is_cancelled);
        }
        let mut output = self.oracle.output.split();
        let mut wanted = Vec::new();
        while let Some(message) = Message::take(&mut output) {
            wanted.push(message);
        }
        wanted.retain(is_compared);
        let got: Vec<&Message> = answers
            .iter()
            .filter(|answer| is_compared(answer) && !answer.is_fatal())
            .collect();
        let is_same =
            got.len() <= wanted.len() && got.iter().zip(&wanted).all(|(got, wanted)| got.is(wanted));
        if is_same && (!is_all || got.len() == wanted.len()) {
            return;
        }
        let at = got
            .iter()
            .zip(&wanted)
            .take_while(|(got, wanted)| got.is(wanted))
            .count();
        let (got, wanted) = (
            got.get(at).map(|got| got.shown()),
            wanted.get(at).map(Message::shown),
        );
        let name = &self.author.name;
        self.world
            .trace
            .fail(format!("{name} reads {got:?} where PostgreSQL says {wanted:?}"));
    }

    /// What the client was told of its session is how its session is.
    fn same_reports(&self, when: &str) {
        let told = self.oracle.settings.told();
        if self.reported != *told {
            let (name, has) = (&self.author.name, &self.reported);
            self.world.trace.fail(format!(
                "{name} believes {when} {has:?}, and PostgreSQL would have it believe {told:?}"
            ));
        }
    }

    /// Writes all of it and reads until the server has been ready so many times.
    async fn exchange(
        &mut self,
        mut bytes: BytesMut,
        ends: usize,
    ) -> Result<Vec<Message>, (Vec<Message>, End)> {
        let mut answers = Vec::new();
        let mut seen = 0;
        while seen < ends {
            let read = async {
                let input = &mut self.input;
                let (socket, bytes) = (&self.socket, &mut bytes);
                if bytes.is_empty() {
                    return socket.read(input, 8000).await;
                }
                tokio::select! {
                    biased;
                    read = socket.read(input, 8000) => read,
                    written = socket.write(bytes) => written.map(|()| usize::MAX),
                }
            };
            match timeout(FOR_EVER, read).await {
                Ok(Ok(0)) => return Err(Self::end(answers)),
                Ok(Ok(_)) => {}
                // What it has been told before may still be there.
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => bytes.clear(),
                Ok(Err(_)) => return Err(Self::end(answers)),
                Err(_) => {
                    let name = &self.author.name;
                    self.world.trace.fail(format!("{name} waits for ever"));
                    return Err(Self::end(answers));
                }
            }
            while let Some(message) = Message::take(&mut self.input) {
                seen += usize::from(message.tag == b'Z');
                if message.tag == b'R'
                    && let Err(fault) = self.proof.answer(&message.body, &mut bytes)
                {
                    let name = &self.author.name;
                    self.world.trace.fail(format!("{name}: {fault}"));
                }
                self.learn(&message);
                answers.push(message);
            }
        }
        Ok(answers)
    }

    fn learn(&mut self, message: &Message) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if message.tag == b'S' {
            let mut parts = message.body.split(|byte| *byte == 0);
            let (name, value) = (parts.next().map(text), parts.next().map(text));
            self.reported
                .insert(name.unwrap_or_default(), value.unwrap_or_default());
        }
    }

    fn end(answers: Vec<Message>) -> (Vec<Message>, End) {
        let last = answers.last().filter(|last| last.is_fatal());
        let end = match last {
            Some(last) => {
                let words = ErrorFields::new(&last.body).text(b'M');
                End::Fatal(format!("{} {words}", last.code().unwrap_or_default()))
            }
            None => End::Silent,
        };
        (answers, end)
    }

    fn farewell(&self, end: Result<(), End>) {
        let Err(end) = end else { return };
        self.say(|| format!("ends: {end:?}"));
        let name = &self.author.name;
        let is_right = match &end {
            // A fault of howdah's own, whatever else goes wrong.
            End::Fatal(words)
                if ["08P01", "XX000", "26000"]
                    .iter()
                    .any(|code| words.starts_with(code)) =>
            {
                false
            }
            // In other words than those who know the password ever hear.
            End::Fatal(words) if words.starts_with("28P01") => self.proof.is_forged,
            End::Fatal(words) if self.world.plan.is_statement_mode() && words.starts_with(NO_BLOCKS) => {
                self.oracle.status != b'I'
            }
            End::Fatal(_) | End::Silent => !self.world.plan.is_calm() || self.world.is_over(),
        };
        if !is_right {
            self.world.trace.fail(format!("{name} was sent away: {end:?}"));
        }
    }
}

fn is_compared(message: &Message) -> bool {
    !matches!(message.tag, b'S' | b'N')
}

/// Sends a cancel request after a while, and waits until it has been taken.
async fn cancel(world: Arc<World>, name: String, key: Option<(i32, Vec<u8>)>, mut dice: Dice) {
    tokio::time::sleep(dice.pause(1500)).await;
    let (Some((pid, secret)), Some(socket)) = (key, world.dial(&mut dice)) else {
        return;
    };
    world.trace.say(|| format!("{name}: cancels"));
    let mut packet = BytesMut::new();
    startup::write_cancel(&mut packet, pid, &secret);
    let mut rest = BytesMut::new();
    let taken = timeout(FOR_EVER, async {
        while !packet.is_empty() && socket.write(&mut packet).await.is_ok() {}
        while socket.read(&mut rest, 100).await.is_ok_and(|n| n > 0) {}
    });
    if taken.await.is_err() {
        world.trace.fail("a cancel request is never taken");
    }
}
