//! A client's conversation against a small server without sockets: however its bytes and the answers are cut into
//! pieces, the client reads what it would read from the server itself.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::talk::{Bounds, Pause, Talk};
use super::trail::Trail;
use crate::net::Stream;
use crate::server::{Connection, UnnamedSlot};
use crate::wire::read::Reader;
use crate::wire::{scan, write};

/// The statements and the portal of one session of PostgreSQL. A row holds the text that was executed.
#[derive(Default)]
struct Server {
    input: BytesMut,
    /// Answers that are held back until somebody asks for them.
    held: BytesMut,
    output: BytesMut,
    statements: HashMap<Vec<u8>, Vec<u8>>,
    portal: Option<Vec<u8>>,
    skips_to_sync: bool,
}

impl Server {
    fn hear(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while let Some((header, body)) = scan::message(&self.input).unwrap() {
            let body = body.to_vec();
            self.input.advance(header.len);
            if self.skips_to_sync && header.tag != b'S' {
                continue;
            }
            if self.answer(header.tag, &body).is_none() {
                self.held.put_slice(b"E\0\0\0\x0cC26000\0\0");
                self.skips_to_sync = header.tag != b'Q';
                self.portal = None;
                // PostgreSQL holds no error back.
                self.output.unsplit(self.held.split());
            }
            if matches!(header.tag, b'S' | b'Q') {
                self.portal = None;
                write::ready_for_query(&mut self.held, b'I');
            }
            if matches!(header.tag, b'S' | b'Q' | b'H') {
                self.output.unsplit(self.held.split());
            }
        }
    }

    /// `None` is an error.
    fn answer(&mut self, tag: u8, body: &[u8]) -> Option<()> {
        let mut reader = Reader::new(body);
        match tag {
            b'P' => {
                let (name, text) = (reader.cstr().unwrap().to_vec(), reader.cstr().unwrap().to_vec());
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
                let (_, name) = (reader.cstr().unwrap(), reader.cstr().unwrap());
                self.portal = Some(self.statements.get(name)?.clone());
                write::empty(&mut self.held, b'2');
            }
            b'D' => {
                let (_, name) = (reader.u8().unwrap(), reader.cstr().unwrap());
                self.statements.get(name)?;
                write::message(&mut self.held, b't', |out| out.put_u16(0));
                write::empty(&mut self.held, b'n');
            }
            b'E' => {
                let text = self.portal.clone()?;
                self.run(&text)?;
            }
            b'C' => {
                self.statements.remove(&body[1..body.len() - 1]);
                write::empty(&mut self.held, b'3');
            }
            b'Q' => {
                self.statements.remove(&b""[..]);
                self.run(reader.cstr().unwrap())?;
            }
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
struct World {
    talk: Talk,
    connection: Connection,
    server: Server,
    /// What the client has read.
    read: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let (ours, _) = tokio::net::UnixStream::pair().unwrap();
        let bounds = Bounds {
            transactions: true,
            shared: true,
            prepared: 100,
            prepared_bytes: 10_000,
        };
        let mut connection = Connection::new(Stream::from(ours), 2);
        let mut server = Server::default();
        // Another client has been here.
        connection.unnamed = UnnamedSlot::Holds(u64::MAX);
        server.statements.insert(Vec::new(), b"somebody else's".to_vec());
        Self {
            talk: Talk::new(Arc::default(), Trail::new(Arc::default(), Arc::default()), bounds),
            connection,
            server,
            read: Vec::new(),
        }
    }

    /// Moves what can be moved, and no more than so many bytes of the server's. Tells whether anything was.
    fn step(&mut self, bytes_max: usize) -> bool {
        let before = (self.talk.input.len(), self.talk.answers);
        let pause = self.talk.requests(&mut self.connection);
        assert!(!matches!(pause, Pause::Over(_)), "{pause:?}");
        let asked = self.connection.output.split();
        self.server.hear(&asked);
        let n = bytes_max.min(self.server.output.len());
        let said = self.server.output.split_to(n);
        self.connection.input.extend_from_slice(&said);
        self.talk.responses(&mut self.connection).unwrap();
        self.read.extend_from_slice(&self.talk.output.split());
        !asked.is_empty() || n > 0 || before != (self.talk.input.len(), self.talk.answers)
    }
}

/// The messages that were read: their types, and the texts of rows.
fn told(mut bytes: &[u8]) -> Vec<(char, Vec<u8>)> {
    let mut told = Vec::new();
    while let Some((header, body)) = scan::message(bytes).unwrap() {
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

fn message(tag: u8, parts: &[&[u8]]) -> Message {
    let mut out = BytesMut::new();
    write::message(&mut out, tag, |out| out.put_slice(&parts.concat()));
    Message(out.to_vec())
}

/// Bytes that a failing case shows as text.
#[derive(Clone)]
struct Message(Vec<u8>);

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let names = prop_oneof![Just(""), Just("a"), Just("b"), Just("c"), Just("howdah_1")];
    let texts = prop_oneof![
        8 => Just("one"),
        8 => Just("two"),
        8 => Just("three"),
        1 => Just("bad"),
        1 => Just("fail")
    ];
    let queries = prop_oneof![
        Just("one"),
        Just("fail"),
        Just("DEALLOCATE a"),
        Just("DEALLOCATE ALL")
    ];
    let run = |name: &str| {
        let bind = message(b'B', &[b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"]);
        Message([bind.0, message(b'E', &[b"\0\0\0\0\0"]).0].concat())
    };
    prop_oneof![
        6 => (names.clone(), texts)
            .prop_map(|(name, text)| message(b'P', &[name.as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"])),
        6 => names.clone().prop_map(run),
        2 => names.clone().prop_map(|name| message(b'D', &[b"S", name.as_bytes(), b"\0"])),
        3 => names.prop_map(|name| message(b'C', &[b"S", name.as_bytes(), b"\0"])),
        2 => queries.prop_map(|text| message(b'Q', &[text.as_bytes(), b"\0"])),
        1 => Just(message(b'H', &[])),
        6 => Just(message(b'S', &[])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_client_cannot_tell_howdah_from_its_server(
        program in vec(messages(), 1..30),
        pieces in vec((1..60_usize, 0..40_usize), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _inside = runtime.enter();
        let sync = message(b'S', &[]).0;
        let program: Vec<u8> = program.into_iter().flat_map(|message| message.0).chain(sync).collect();
        let mut direct = Server::default();
        direct.hear(&program);

        let mut world = World::new();
        let mut rest = program.as_slice();
        for (sent, heard) in pieces.iter().cycle() {
            let (piece, tail) = rest.split_at((*sent).min(rest.len()));
            world.talk.input.extend_from_slice(piece);
            world.step(*heard);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        while world.step(usize::MAX) {}
        prop_assert_eq!(told(&world.read), told(&direct.output));
        prop_assert!(world.connection.pipeline.is_settled() && world.talk.input.is_empty());
    }

    #[test]
    fn no_bytes_of_a_client_or_a_server_make_howdah_panic(
        steps in vec((any::<bool>(), prop_oneof![messages().prop_map(|message| message.0), vec(any::<u8>(), 1..30)]), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _inside = runtime.enter();
        let mut world = World::new();
        for (from_client, bytes) in steps {
            if from_client {
                world.talk.input.extend_from_slice(&bytes);
            } else {
                world.connection.input.extend_from_slice(&bytes);
            }
            if matches!(world.talk.requests(&mut world.connection), Pause::Over(_))
                || world.talk.responses(&mut world.connection).is_err()
            {
                break;
            }
        }
    }
}
