//! A client's conversation and a small server, without sockets: what a session of PostgreSQL says to statements.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};

use super::trail::Trail;
use super::{Bounds, Pause, Talk};
use crate::farewell::Farewell;
use crate::net::Stream;
use crate::server::{Connection, UnnamedSlot};
use crate::wire::frontend::{self, Target};
use crate::wire::read::Reader;
use crate::wire::{scan, write};

/// The statements and the portals of one session of PostgreSQL. A row holds the text that was executed.
#[derive(Default)]
pub(super) struct Server {
    input: BytesMut,
    /// Answers that are held back until somebody asks for them.
    held: BytesMut,
    pub(super) output: BytesMut,
    statements: HashMap<Vec<u8>, Vec<u8>>,
    portals: HashMap<Vec<u8>, Vec<u8>>,
    skips_to_sync: bool,
    /// It has been sent what is no message, and listens no more.
    is_lost: bool,
}

impl Server {
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while !self.is_lost {
            let (header, body) = match scan::message(&self.input) {
                Ok(Some((header, body))) => (header, body.to_vec()),
                Ok(None) => break,
                Err(_) => {
                    self.is_lost = true;
                    break;
                }
            };
            self.input.advance(header.len);
            if self.skips_to_sync && header.tag != b'S' {
                continue;
            }
            if self.answer(header.tag, &body).is_none() {
                self.held.put_slice(b"E\0\0\0\x0cC26000\0\0");
                self.skips_to_sync = !matches!(header.tag, b'Q' | b'F');
                self.portals.clear();
                // PostgreSQL holds no error back.
                self.output.unsplit(self.held.split());
            }
            if matches!(header.tag, b'S' | b'Q' | b'F') {
                self.portals.clear();
                write::ready_for_query(&mut self.held, b'I');
            }
            if matches!(header.tag, b'S' | b'Q' | b'F' | b'H') {
                self.output.unsplit(self.held.split());
            }
        }
    }

    /// `None` is an error.
    fn answer(&mut self, tag: u8, body: &[u8]) -> Option<()> {
        let mut reader = Reader::new(body);
        match tag {
            b'P' => {
                let (name, text) = (reader.cstr().ok()?.to_vec(), reader.cstr().ok()?.to_vec());
                if name.is_empty() {
                    self.statements.remove(&name);
                }
                if text == b"bad" || self.statements.contains_key(&name) {
                    return None;
                }
                self.statements.insert(name, text);
                write::empty(&mut self.held, b'1');
            }
            b'B' => {
                let (portal, name) = frontend::bind_names(body)?;
                let text = self.statements.get(name)?.clone();
                if !portal.is_empty() && self.portals.contains_key(portal) {
                    return None;
                }
                self.portals.insert(portal.to_vec(), text);
                write::empty(&mut self.held, b'2');
            }
            b'D' => {
                match Target::parse(body).ok()? {
                    Target::Statement(name) => {
                        self.statements.get(name)?;
                        write::message(&mut self.held, b't', |out| out.put_u16(0));
                    }
                    Target::Portal(name) => drop(self.portals.get(name)?),
                }
                write::empty(&mut self.held, b'n');
            }
            b'E' => {
                let portal = frontend::execute_portal(body).ok()?;
                let text = self.portals.get(portal)?.clone();
                if text.starts_with(b"DEALLOCATE") {
                    // What returns no rows runs once.
                    self.portals.insert(portal.to_vec(), b"fail".to_vec());
                }
                self.run(&text)?;
            }
            b'C' => {
                match Target::parse(body).ok()? {
                    Target::Statement(name) => drop(self.statements.remove(name)),
                    Target::Portal(name) => drop(self.portals.remove(name)),
                }
                write::empty(&mut self.held, b'3');
            }
            b'Q' => {
                self.statements.remove(&b""[..]);
                let text = frontend::query_text(body).ok()?.to_vec();
                for statement in text.split(|byte| *byte == b';') {
                    self.run(statement)?;
                }
            }
            b'F' => write::message(&mut self.held, b'V', |out| out.put_i32(-1)),
            b'S' => self.skips_to_sync = false,
            _ => {}
        }
        Some(())
    }

    fn run(&mut self, text: &[u8]) -> Option<()> {
        if text == b"fail" {
            return None;
        }
        if text == b"DEALLOCATE ALL" {
            self.statements.retain(|name, _| name.is_empty());
            write::command_complete(&mut self.held, text);
            return Some(());
        }
        if let Some(name) = text.strip_prefix(b"DEALLOCATE ") {
            self.statements.remove(name)?;
            write::command_complete(&mut self.held, b"DEALLOCATE");
            return Some(());
        }
        write::message(&mut self.held, b'D', |out| out.put_slice(text));
        write::command_complete(&mut self.held, b"SELECT 1");
        Some(())
    }
}

/// A client of howdah's and the server that it holds.
pub(super) struct World {
    pub(super) talk: Talk,
    pub(super) connection: Connection,
    pub(super) server: Server,
    /// What the client has read.
    pub(super) read: Vec<u8>,
}

/// A socket is part of a server, and never used.
pub(super) fn socket() -> Stream {
    let (ours, _) = tokio::net::UnixStream::pair().expect("two sockets");
    Stream::from(ours)
}

impl World {
    /// A server that another client has used before.
    pub(in crate::client) fn new(socket: Stream) -> Self {
        let bounds = Bounds {
            transactions: true,
            shared: true,
            prepared: 100,
            prepared_bytes: 10_000,
        };
        let mut world = Self {
            talk: Talk::new(Arc::default(), Trail::new(Arc::default(), Arc::default()), bounds),
            connection: Connection::new(socket, 2),
            server: Server::default(),
            read: Vec::new(),
        };
        world.visit();
        world
    }

    /// Another client uses the server.
    pub(super) fn visit(&mut self) {
        self.connection.unnamed = UnnamedSlot::Holds(u64::MAX);
        self.server
            .statements
            .insert(Vec::new(), b"somebody else's".to_vec());
    }

    /// Moves what can be moved, and no more than so many bytes of the server's. Tells whether anything was.
    pub(super) fn step(&mut self, bytes_max: usize) -> Result<bool, Farewell> {
        let before = (self.talk.input.len(), self.talk.answers);
        if let Pause::Over(farewell) = self.talk.requests(&mut self.connection) {
            return Err(farewell);
        }
        let asked = self.connection.output.split();
        self.server.hear(&asked);
        let n = bytes_max.min(self.server.output.len());
        let said = self.server.output.split_to(n);
        self.connection.input.extend_from_slice(&said);
        self.talk.responses(&mut self.connection)?;
        self.read.extend_from_slice(&self.talk.output.split());
        Ok(!asked.is_empty() || n > 0 || before != (self.talk.input.len(), self.talk.answers))
    }

    /// Without a server, if nothing is going on.
    pub(super) fn idle(&mut self) -> Result<(), Farewell> {
        let between = self.talk.up.is_done() && self.talk.down.is_done();
        if !between || !self.connection.pipeline.is_settled() || !self.server.output.is_empty() {
            return Ok(());
        }
        let pause = self.talk.requests_without_server();
        self.read.extend_from_slice(&self.talk.output.split());
        match pause {
            Pause::Over(farewell) => Err(farewell),
            _ => Ok(()),
        }
    }
}

/// The messages that were read: their types, and the texts of rows.
pub(super) fn told(mut bytes: &[u8]) -> Vec<(char, Vec<u8>)> {
    let mut told = Vec::new();
    while let Some((header, body)) = scan::message(bytes).expect("messages") {
        let text = if header.tag == b'E' {
            Vec::new()
        } else {
            body.to_vec()
        };
        told.push((header.tag as char, text));
        bytes = &bytes[header.len..];
    }
    assert!(bytes.is_empty(), "half a message");
    told
}

/// A message of a client.
pub(super) fn message(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write::message(&mut out, tag, |out| out.put_slice(&parts.concat()));
    out.to_vec()
}
