//! One session of a simulated PostgreSQL, without IO: messages go in, answers come out. It is the server, and it is the
//! oracle: every client of a simulation has one to itself and compares what howdah says with what that one says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};

use super::settings::Settings;
use super::sql::{Setting, Statement, parse, split};
use crate::error::{Refusal, SqlState};
use crate::net::simulated::Dice;
use crate::wire::read::Reader;
use crate::wire::write::{self, Severity};
use crate::wire::{WireError, scan};

/// What went wrong with a statement.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) code: SqlState,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(code: [u8; 5], message: impl Into<String>) -> Self {
        let code = SqlState::from_bytes(&code).expect("five letters");
        let message = message.into();
        Self { code, message }
    }
}

/// What is put back if the transaction fails.
#[derive(Debug)]
pub(super) struct Before {
    settings: BTreeMap<String, String>,
    temp: BTreeSet<String>,
    channels: BTreeSet<String>,
}

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) text: String,
    /// SQL's PREPARE made it.
    pub(super) is_sql: bool,
}

/// A portal: its statement, and the rows that have not been fetched.
#[derive(Clone, Debug)]
struct Portal {
    text: String,
    parameter: Option<String>,
    rest: Option<usize>,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    input: BytesMut,
    pub(super) output: BytesMut,
    pub(super) settings: Settings,
    /// `I`, `T` or `E`.
    pub(super) status: u8,
    pub(super) before: Option<Box<Before>>,
    pub(super) statements: BTreeMap<String, Prepared>,
    portals: BTreeMap<String, Portal>,
    skips_to_sync: bool,
    pub(super) copies: Option<Vec<String>>,
    /// What the second row of a detour puts back.
    pub(super) way_back: Vec<Setting>,
    /// What is answered once a sleep is over.
    sleeper: Option<Sleeper>,
    pub(super) temp: BTreeSet<String>,
    pub(super) channels: BTreeSet<String>,
    pub(super) locks: BTreeSet<u32>,
    /// Rows of the ledger that the transaction has put there.
    pub(super) pending: Vec<String>,
    /// Those of transactions that are over.
    pub(super) committed: Vec<String>,
    /// What the next statement fails with: for an oracle that has seen it fail.
    pub(super) inject: Option<Fault>,
    /// Whose transaction it is, and what else may not be shared.
    pub(super) owner: Option<String>,
    /// One in so many of howdah's own statements fails, by these dice.
    pub(super) whims: Option<(u64, Dice)>,
    /// It has been used by two clients at once.
    pub(super) violation: Option<String>,
}

#[derive(Debug)]
struct Sleeper {
    time: Duration,
    row: String,
    is_simple: bool,
}

impl Session {
    /// A session that has just logged in with these parameters; its first reports are in the output.
    pub(super) fn new<'a>(user: &str, parameters: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut session = Self {
            input: BytesMut::new(),
            output: BytesMut::new(),
            settings: Settings::new(user, parameters),
            status: b'I',
            before: None,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            skips_to_sync: false,
            copies: None,
            way_back: Vec::new(),
            sleeper: None,
            temp: BTreeSet::new(),
            channels: BTreeSet::new(),
            locks: BTreeSet::new(),
            pending: Vec::new(),
            committed: Vec::new(),
            inject: None,
            owner: None,
            whims: None,
            violation: None,
        };
        session.report();
        session
    }

    /// Takes in bytes.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Deals with what has come, up to a sleep, whose length it returns. The error is a goodbye, or nonsense.
    pub(super) fn work(&mut self) -> Result<Option<Duration>, WireError> {
        while self.sleeper.is_none() {
            let Some((header, body)) = scan::message(&self.input)? else {
                return Ok(None);
            };
            let (tag, body) = (header.tag, body.to_vec());
            self.input.advance(header.len);
            if tag == b'X' {
                return Err(WireError::Format);
            }
            self.message(tag, &body)?;
        }
        Ok(self.sleeper.as_ref().map(|sleeper| sleeper.time))
    }

    /// The sleep is over, or has been cancelled.
    pub(super) fn wake(&mut self, is_cancelled: bool) {
        let Some(sleeper) = self.sleeper.take() else {
            return;
        };
        if is_cancelled {
            self.fail(&Fault::new(*b"57014", "canceling statement due to user request"));
            self.skips_to_sync = !sleeper.is_simple;
        } else {
            if sleeper.is_simple {
                self.describe_rows(1);
            }
            self.row(&[Some(&sleeper.row)]);
            write::command_complete(&mut self.output, b"SELECT 1");
        }
        if sleeper.is_simple {
            self.end_of_request();
        }
    }

    fn message(&mut self, tag: u8, body: &[u8]) -> Result<(), WireError> {
        if self.copies.is_some() {
            return self.copy_message(tag, body);
        }
        if self.skips_to_sync && tag != b'S' {
            return Ok(());
        }
        match tag {
            b'Q' => {
                self.statements.remove("");
                self.portals.remove("");
                self.query(&text(body)?);
            }
            b'S' => {
                self.skips_to_sync = false;
                self.end_of_request();
            }
            // What is left of a COPY that has failed.
            b'H' | b'd' | b'c' | b'f' => {}
            _ => {
                self.begin_implicitly();
                let done = match tag {
                    b'P' => self.parse(body)?,
                    b'B' => self.bind(body)?,
                    b'D' => self.describe(body)?,
                    b'E' => self.execute_portal(body)?,
                    b'C' => self.close(body)?,
                    _ => Err(Fault::new(
                        *b"08P01",
                        format!("invalid frontend message type {tag}"),
                    )),
                };
                if let Err(fault) = done {
                    self.fail(&fault);
                    self.skips_to_sync = true;
                }
            }
        }
        Ok(())
    }

    fn query(&mut self, text: &str) {
        for part in split(text) {
            self.begin_implicitly();
            let done = match parse(part) {
                None => Err(Fault::new(*b"42601", "syntax error")),
                Some(_) if self.is_refused(part) => Err(aborted()),
                Some(Statement::Select(select)) if select.sleep.is_some() && self.inject.is_none() => {
                    let row = self.answer(&select.token, None);
                    self.sleeper = select.sleep.map(|time| Sleeper {
                        time,
                        row,
                        is_simple: true,
                    });
                    return;
                }
                Some(Statement::CopyIn(token)) if self.inject.is_none() => {
                    self.is_used_by(&token);
                    write::message(&mut self.output, b'G', |out| out.put_slice(&[0, 0, 0]));
                    self.copies = Some(Vec::new());
                    return;
                }
                Some(statement) => self.execute(statement, None, true),
            };
            if let Err(fault) = done {
                self.fail(&fault);
                break;
            }
        }
        self.end_of_request();
    }

    fn copy_message(&mut self, tag: u8, body: &[u8]) -> Result<(), WireError> {
        match tag {
            b'd' => {
                let line = String::from_utf8_lossy(body).trim().to_owned();
                self.is_used_by(&line);
                self.copies.iter_mut().for_each(|lines| lines.push(line.clone()));
            }
            b'c' => {
                let lines = self.copies.take().unwrap_or_default();
                let tag = format!("COPY {}", lines.len());
                self.pending.extend(lines);
                write::command_complete(&mut self.output, tag.as_bytes());
                self.end_of_request();
            }
            b'f' => {
                self.copies = None;
                let why = Reader::new(body).cstr()?;
                let message = format!("COPY from stdin failed: {}", String::from_utf8_lossy(why));
                self.fail(&Fault::new(*b"57014", message));
                self.end_of_request();
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether nothing but the end of the transaction is wanted now.
    fn is_refused(&self, text: &str) -> bool {
        let ends = matches!(
            parse(text),
            Some(Statement::Commit | Statement::Rollback | Statement::Empty)
        );
        self.status == b'E' && !ends
    }

    fn parse(&mut self, body: &[u8]) -> Result<Result<(), Fault>, WireError> {
        let mut reader = Reader::new(body);
        let (name, text) = (string(reader.cstr()?), string(reader.cstr()?));
        if name.is_empty() {
            self.statements.remove("");
        }
        if parse(&text).is_none() {
            return Ok(Err(Fault::new(*b"42601", "syntax error")));
        }
        if self.is_refused(&text) {
            return Ok(Err(aborted()));
        }
        let prepared = Prepared { text, is_sql: false };
        if let Err(fault) = self.prepare(name, prepared) {
            return Ok(Err(fault));
        }
        write::empty(&mut self.output, b'1');
        Ok(Ok(()))
    }

    pub(super) fn prepare(&mut self, name: String, prepared: Prepared) -> Result<(), Fault> {
        if self.statements.contains_key(&name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Fault::new(*b"42P05", message));
        }
        self.statements.insert(name, prepared);
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<Result<(), Fault>, WireError> {
        let mut reader = Reader::new(body);
        let (portal, name) = (string(reader.cstr()?), string(reader.cstr()?));
        for _ in 0..reader.u16()? {
            reader.u16()?;
        }
        let mut parameter = None;
        for _ in 0..reader.u16()? {
            let len = reader.u32()? as usize;
            parameter = Some(string(reader.bytes(len)?));
        }
        let text = match self.statement(&name) {
            Ok(text) => text,
            Err(fault) => return Ok(Err(fault)),
        };
        if self.is_refused(&text) {
            return Ok(Err(aborted()));
        }
        if let Some(fault) = self.inject.take() {
            return Ok(Err(fault));
        }
        let rest = None;
        self.portals.insert(
            portal,
            Portal {
                text,
                parameter,
                rest,
            },
        );
        write::empty(&mut self.output, b'2');
        Ok(Ok(()))
    }

    pub(super) fn statement(&self, name: &str) -> Result<String, Fault> {
        let missing = || match name {
            "" => Fault::new(*b"26000", "unnamed prepared statement does not exist"),
            name => Fault::new(*b"26000", format!("prepared statement \"{name}\" does not exist")),
        };
        let found = self.statements.get(name).map(|prepared| prepared.text.clone());
        found.ok_or_else(missing)
    }

    fn describe(&mut self, body: &[u8]) -> Result<Result<(), Fault>, WireError> {
        let mut reader = Reader::new(body);
        let (kind, name) = (reader.u8()?, string(reader.cstr()?));
        let text = if kind == b'S' {
            self.statement(&name)
        } else {
            self.portal(&name).map(|portal| portal.text)
        };
        let text = match text {
            Ok(text) if self.is_refused(&text) => return Ok(Err(aborted())),
            Ok(text) => text,
            Err(fault) => return Ok(Err(fault)),
        };
        if kind == b'S' {
            let count = u16::from(text.contains("$1"));
            write::message(&mut self.output, b't', |out| {
                out.put_u16(count);
                (0..count).for_each(|_| out.put_u32(25));
            });
        }
        if matches!(parse(&text), Some(Statement::Select(_))) {
            self.describe_rows(1);
        } else {
            write::empty(&mut self.output, b'n');
        }
        Ok(Ok(()))
    }

    fn portal(&self, name: &str) -> Result<Portal, Fault> {
        let missing = || Fault::new(*b"34000", format!("portal \"{name}\" does not exist"));
        self.portals.get(name).cloned().ok_or_else(missing)
    }

    fn execute_portal(&mut self, body: &[u8]) -> Result<Result<(), Fault>, WireError> {
        let mut reader = Reader::new(body);
        let (name, max) = (string(reader.cstr()?), reader.u32()? as usize);
        let portal = match self.portal(&name) {
            Ok(portal) if self.is_refused(&portal.text) => return Ok(Err(aborted())),
            Ok(portal) => portal,
            Err(fault) => return Ok(Err(fault)),
        };
        let Some(statement) = parse(&portal.text) else {
            return Ok(Err(Fault::new(*b"42601", "syntax error")));
        };
        let mut select = match statement {
            Statement::Select(select) => select,
            Statement::Detour(there) if max > 0 => return Ok(self.leave(&there)),
            other => return Ok(self.execute(other, None, false)),
        };
        if let (Some(time), None) = (select.sleep, &self.inject) {
            let row = self.answer(&select.token, portal.parameter.as_deref());
            self.sleeper = Some(Sleeper {
                time,
                row,
                is_simple: false,
            });
            return Ok(Ok(()));
        }
        let rest = portal.rest.unwrap_or(select.rows);
        if max > 0 && rest > max && !select.fails {
            let row = self.answer(&select.token, portal.parameter.as_deref());
            (0..max).for_each(|_| self.row(&[Some(&row)]));
            write::empty(&mut self.output, b's');
            self.portals
                .entry(name)
                .and_modify(|portal| portal.rest = Some(rest - max));
            return Ok(Ok(()));
        }
        select.rows = rest;
        self.portals
            .entry(name)
            .and_modify(|portal| portal.rest = Some(0));
        Ok(self.execute(Statement::Select(select), portal.parameter.as_deref(), false))
    }

    fn close(&mut self, body: &[u8]) -> Result<Result<(), Fault>, WireError> {
        let mut reader = Reader::new(body);
        let (kind, name) = (reader.u8()?, string(reader.cstr()?));
        if kind == b'S' {
            self.statements.remove(&name);
        } else {
            self.portals.remove(&name);
        }
        write::empty(&mut self.output, b'3');
        Ok(Ok(()))
    }

    pub(super) fn begin_implicitly(&mut self) {
        if self.before.is_none() && self.status == b'I' {
            self.before = Some(Box::new(Before {
                settings: self.settings.save(),
                temp: self.temp.clone(),
                channels: self.channels.clone(),
            }));
        }
    }

    /// The transaction ends well.
    pub(super) fn commit(&mut self) {
        self.before = None;
        self.status = b'I';
        self.settings.end(None);
        self.portals.clear();
        self.committed.append(&mut self.pending);
        self.disown();
    }

    /// The transaction is undone; a block stays open.
    pub(super) fn undo(&mut self) {
        self.pending.clear();
        self.portals.clear();
        if let Some(before) = self.before.take() {
            self.settings.end(Some(before.settings));
            (self.temp, self.channels) = (before.temp, before.channels);
        }
    }

    fn fail(&mut self, fault: &Fault) {
        self.inject = None;
        let refusal = Refusal::new(fault.code, fault.message.clone());
        write::refusal(&mut self.output, Severity::Error, &refusal);
        self.undo();
        if self.status != b'I' {
            self.status = b'E';
        }
    }

    fn end_of_request(&mut self) {
        match self.status {
            b'I' if self.before.is_some() => self.commit(),
            b'I' => self.disown(),
            _ => {}
        }
        self.report();
        write::ready_for_query(&mut self.output, self.status);
    }

    pub(super) fn report(&mut self) {
        for (name, value) in self.settings.reports() {
            write::parameter_status(&mut self.output, name.as_bytes(), value.as_bytes());
        }
    }

    /// What a client reads: its token, and what it may know of its session.
    pub(super) fn answer(&mut self, token: &str, parameter: Option<&str>) -> String {
        self.is_used_by(parameter.unwrap_or(token));
        let (temp, channels, locks) = (&self.temp, &self.channels, &self.locks);
        let parameter = parameter.unwrap_or_default();
        format!(
            "{token}({parameter}){}{temp:?}{channels:?}{locks:?}",
            self.settings.fingerprint()
        )
    }

    /// Notes whose statement this is. What is not over may not be shared.
    pub(super) fn is_used_by(&mut self, token: &str) {
        let client = token.split('-').next().unwrap_or_default();
        if client.starts_with("any") {
            return;
        }
        match &self.owner {
            Some(owner) if owner != client => {
                self.violation = Some(format!("{client} is on the server that {owner} uses: {token}"));
            }
            Some(_) => {}
            None => self.owner = Some(client.to_owned()),
        }
    }

    fn disown(&mut self) {
        let has_statements = self.statements.values().any(|prepared| prepared.is_sql);
        if self.temp.is_empty() && self.channels.is_empty() && self.locks.is_empty() && !has_statements {
            self.owner = None;
        }
    }

    pub(super) fn describe_rows(&mut self, columns: u16) {
        write::message(&mut self.output, b'T', |out| {
            out.put_u16(columns);
            for _ in 0..columns {
                write::cstr(out, b"answer");
                out.put_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]);
            }
        });
    }

    pub(super) fn row(&mut self, values: &[Option<&str>]) {
        write::message(&mut self.output, b'D', |out| {
            out.put_u16(values.len() as u16);
            for value in values {
                match value {
                    Some(value) => {
                        out.put_u32(value.len() as u32);
                        out.put_slice(value.as_bytes());
                    }
                    None => out.put_u32(u32::MAX),
                }
            }
        });
    }
}

fn aborted() -> Fault {
    Fault::new(
        *b"25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn text(body: &[u8]) -> Result<String, WireError> {
    Reader::new(body).cstr().map(string)
}
