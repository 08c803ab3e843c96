//! The extended query protocol ("Extended Query" in the manual), for commands without parameters.

use std::collections::{HashMap, VecDeque};

use bytes::{BufMut, Bytes};

use super::command::Command;
use super::rows::{Format, Formats, Row, write_columns, write_row};
use super::session::{Session, columns};
use super::words;
use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::wire::frontend::{Parse, Target};
use crate::wire::read::Reader;
use crate::wire::{WireError, write};

/// Statements that one session may hold.
const STATEMENTS_MAX: usize = 1000;
/// Portals that one session may hold, each with the rows that have not been fetched.
const PORTALS_MAX: usize = 10;

/// What a session has prepared.
#[derive(Debug, Default)]
pub(super) struct Extended {
    /// `None` stands for an empty query.
    statements: HashMap<Vec<u8>, Option<Command>>,
    portals: HashMap<Vec<u8>, Portal>,
    /// An error has been told; everything up to the next Sync is dropped.
    pub(super) is_skipping: bool,
}

/// A command on its way.
#[derive(Debug)]
struct Portal {
    command: Option<Command>,
    formats: Formats,
    /// Rows that are still to be fetched, and the tag behind them, once it has been executed.
    rest: Option<(VecDeque<Row>, String)>,
}

impl Extended {
    /// A Sync: portals end with the transaction.
    pub(super) fn sync(&mut self, in_transaction: bool) {
        self.is_skipping = false;
        if !in_transaction {
            self.portals.clear();
        }
    }

    /// DEALLOCATE of one statement or of all.
    pub(super) fn deallocate(&mut self, name: Option<&str>) {
        match name {
            None => self.statements.clear(),
            Some(name) => drop(self.statements.remove(name.as_bytes())),
        }
    }

    fn prepare(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let parse = Parse::read(body).map_err(malformed)?;
        let types = parse.definition.get(parse.text.len() + 1..).unwrap_or_default();
        if types != [0, 0] {
            return Err(without_parameters());
        }
        if !parse.name.is_empty() && self.statements.contains_key(parse.name) {
            let name = String::from_utf8_lossy(parse.name).into_owned();
            return Err(Refusal::new(
                SqlState::DUPLICATE_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        let statements = words::statements(&String::from_utf8_lossy(parse.text))?;
        let command = match statements.as_slice() {
            [] => None,
            [statement] => Some(Command::parse(statement)?),
            _ => {
                return Err(Refusal::new(
                    SqlState::SYNTAX_ERROR,
                    "a prepared statement has one command only",
                ));
            }
        };
        room(self.statements.len(), STATEMENTS_MAX, "statements")?;
        self.statements.insert(parse.name.to_vec(), command);
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let mut reader = Reader::new(body);
        let portal = reader.cstr().map_err(malformed)?;
        let statement = reader.cstr().map_err(malformed)?;
        formats(&mut reader)?;
        if reader.u16().map_err(malformed)? > 0 {
            return Err(without_parameters());
        }
        let formats = formats(&mut reader)?;
        reader.end().map_err(malformed)?;
        if !portal.is_empty() && self.portals.contains_key(portal) {
            let name = String::from_utf8_lossy(portal);
            return Err(Refusal::new(
                state(*b"42P03"),
                format!("portal \"{name}\" already exists"),
            ));
        }
        room(self.portals.len(), PORTALS_MAX, "portals")?;
        let bound = Portal {
            command: self.statement(statement)?.clone(),
            formats,
            rest: None,
        };
        self.portals.insert(portal.to_vec(), bound);
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<&Option<Command>, Refusal> {
        self.statements.get(name).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            Refusal::new(
                SqlState::INVALID_STATEMENT_NAME,
                format!("prepared statement \"{name}\" does not exist"),
            )
        })
    }

    fn portal(&self, name: &[u8]) -> Result<&Portal, Refusal> {
        self.portals.get(name).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            Refusal::new(state(*b"34000"), format!("portal \"{name}\" does not exist"))
        })
    }
}

impl Session<'_> {
    /// Answers Parse, Bind, Describe, Execute or Close.
    pub(super) async fn extended_message(&mut self, tag: u8, body: &Bytes) -> Result<(), Farewell> {
        let answered = match tag {
            b'P' => self
                .extended
                .prepare(body)
                .map(|()| write::empty(&mut self.output, b'1')),
            b'B' => self
                .extended
                .bind(body)
                .map(|()| write::empty(&mut self.output, b'2')),
            b'D' => self.describe(body),
            b'C' => self.close(body),
            _ => return self.execute(body).await,
        };
        self.settle(answered);
        Ok(())
    }

    fn settle(&mut self, answered: Result<(), Refusal>) {
        if let Err(refusal) = answered {
            self.error(&refusal);
            self.extended.is_skipping = true;
        }
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let (command, formats) = match Target::parse(body).map_err(malformed)? {
            Target::Statement(name) => {
                let command = self.extended.statement(name)?;
                // A ParameterDescription of none.
                write::message(&mut self.output, b't', |out| out.put_u16(0));
                (command, &Formats::default())
            }
            Target::Portal(name) => {
                let portal = self.extended.portal(name)?;
                (&portal.command, &portal.formats)
            }
        };
        match command.as_ref().and_then(columns) {
            Some(columns) => write_columns(&mut self.output, columns, formats),
            None => write::empty(&mut self.output, b'n'),
        }
        Ok(())
    }

    fn close(&mut self, body: &[u8]) -> Result<(), Refusal> {
        match Target::parse(body).map_err(malformed)? {
            Target::Statement(name) => drop(self.extended.statements.remove(name)),
            Target::Portal(name) => drop(self.extended.portals.remove(name)),
        }
        write::empty(&mut self.output, b'3');
        Ok(())
    }

    async fn execute(&mut self, body: &[u8]) -> Result<(), Farewell> {
        let found = execution(body).and_then(|(name, limit)| {
            self.extended.portal(name)?;
            Ok((name, limit))
        });
        let (name, limit) = match found {
            Ok(found) => found,
            Err(refusal) => {
                self.settle(Err(refusal));
                return Ok(());
            }
        };
        let Some(mut portal) = self.extended.portals.remove(name) else {
            return Ok(());
        };
        let Some(command) = &portal.command else {
            write::empty(&mut self.output, b'I');
            self.extended.portals.insert(name.to_vec(), portal);
            return Ok(());
        };
        let (mut rows, tag) = if let Some(rest) = portal.rest.take() {
            rest
        } else if let Some(outcome) = self.perform(command).await? {
            (outcome.rows.into(), outcome.tag)
        } else {
            self.extended.is_skipping = true;
            return Ok(());
        };
        let columns = columns(command).unwrap_or_default();
        let limit = if limit == 0 {
            rows.len()
        } else {
            limit.min(rows.len())
        };
        for row in rows.drain(..limit) {
            write_row(&mut self.output, columns, &row, &portal.formats);
        }
        if rows.is_empty() {
            write::command_complete(&mut self.output, tag.as_bytes());
        } else {
            // PortalSuspended.
            write::empty(&mut self.output, b's');
        }
        portal.rest = Some((rows, tag));
        self.extended.portals.insert(name.to_vec(), portal);
        Ok(())
    }
}

/// The portal of an Execute and how many rows it asks for; zero is all.
fn execution(body: &[u8]) -> Result<(&[u8], usize), Refusal> {
    let mut reader = Reader::new(body);
    let name = reader.cstr().map_err(malformed)?;
    let limit = reader.i32().map_err(malformed)?;
    reader.end().map_err(malformed)?;
    // As in PostgreSQL, less than nothing means all.
    Ok((name, usize::try_from(limit).unwrap_or(0)))
}

fn formats(reader: &mut Reader<'_>) -> Result<Formats, Refusal> {
    let count = reader.u16().map_err(malformed)?;
    let mut formats = Vec::new();
    for _ in 0..count {
        formats.push(match reader.u16().map_err(malformed)? {
            0 => Format::Text,
            1 => Format::Binary,
            other => {
                return Err(Refusal::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("there is no format {other}"),
                ));
            }
        });
    }
    Ok(Formats(formats))
}

fn room(held: usize, max: usize, what: &str) -> Result<(), Refusal> {
    if held < max {
        return Ok(());
    }
    Err(Refusal::new(
        SqlState::PROGRAM_LIMIT,
        format!("a session on the console holds at most {max} {what}"),
    ))
}

fn malformed(error: WireError) -> Refusal {
    Refusal::new(SqlState::PROTOCOL_VIOLATION, error.to_string())
}

fn without_parameters() -> Refusal {
    Refusal::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "commands on the console have no parameters",
    )
}

fn state(code: [u8; 5]) -> SqlState {
    SqlState::from_bytes(&code).unwrap_or(SqlState::INTERNAL_ERROR)
}
