//! Whole sessions over a pair of sockets.

mod commands;
mod extended;
mod permissions;
mod sessions;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::command::Command;
use super::*;
use crate::auth::Learned;
use crate::client::{ClientLimits, House, Newcomer, Seat as ClientSeat};
use crate::config::Config;
use crate::net::{PeerAddr, Stream};
use crate::pool::{Pool, Servers};
use crate::wire::backend::ErrorFields;
use crate::wire::startup::PROTOCOL_3_0;
use crate::wire::{scan, write};

/// A console whose database nobody can connect to, and what comes out of it.
pub(super) fn console() -> (Arc<Console>, mpsc::Receiver<Order>) {
    let url = "postgres://bob:hunter2@127.0.0.1:1/app?pool_size=7&max_db_connections=9";
    let front = Front::new(House::new(Config::for_url(url).unwrap()).unwrap());
    let (orders, received) = mpsc::channel(8);
    let console = Console::new(front, Arc::default(), orders, CancellationToken::new());
    (console, received)
}

pub(super) fn open_pool(console: &Console) -> Arc<Pool<Servers>> {
    let house = console.front.house();
    let database = house.config.database("app").unwrap();
    console.front.pool(&house, &database, "bob", Learned::default())
}

pub(super) fn client(console: &Console) -> ClientSeat {
    let newcomer = Newcomer {
        peer: PeerAddr::Tcp("10.0.0.9:4711".parse().unwrap()),
        local: PeerAddr::Unix,
        tls: None,
        user: "bob".to_owned(),
        database: "app".to_owned(),
        protocol: PROTOCOL_3_0,
    };
    let clients = &console.front.clients;
    clients.admit(newcomer, ClientLimits::default()).unwrap()
}

fn visit(stream: UnixStream, rights: Rights) -> Visit {
    Visit {
        stream: Stream::from(stream),
        input: BytesMut::new(),
        user: "root".to_owned(),
        is_admin: rights == Rights::Admin,
        application_name: "test".to_owned(),
    }
}

/// The other end of a session.
struct Guest {
    stream: UnixStream,
    heard: BytesMut,
    session: JoinHandle<Farewell>,
}

type Message = (u8, Vec<u8>);

impl Guest {
    /// Somebody who has heard the greeting.
    async fn new(console: &Arc<Console>, rights: Rights) -> Self {
        let mut guest = Self::silent(console, rights);
        let greeting = guest.listen().await;
        assert_eq!(tags(&greeting), "SSSSSSSSSSSSSKZ");
        guest
    }

    fn silent(console: &Arc<Console>, rights: Rights) -> Self {
        let (stream, theirs) = UnixStream::pair().unwrap();
        let console = console.clone();
        let visit = visit(theirs, rights);
        let session = async move { console.serve(visit).await };
        Self {
            stream,
            heard: BytesMut::new(),
            session: tokio::spawn(session),
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn message(&mut self) -> Option<Message> {
        loop {
            if let Some((header, body)) = scan::message(&self.heard).unwrap() {
                let message = (header.tag, body.to_vec());
                self.heard.advance(header.len);
                return Some(message);
            }
            if self.stream.read_buf(&mut self.heard).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// Everything up to `ReadyForQuery`, or to the end.
    async fn listen(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.message().await {
            messages.push(message);
            if messages.last().is_some_and(|(tag, _)| *tag == b'Z') {
                break;
            }
        }
        messages
    }

    async fn query(&mut self, text: &str) -> Vec<Message> {
        let mut out = BytesMut::new();
        write::query(&mut out, text.as_bytes());
        self.send(&out).await;
        self.listen().await
    }
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|(tag, _)| char::from(*tag)).collect()
}

fn field(messages: &[Message], tag: u8, code: u8) -> String {
    let (_, body) = messages
        .iter()
        .find(|(have, _)| *have == tag)
        .expect("such a message");
    ErrorFields::new(body).text(code)
}

/// The SQLSTATE of the error among the messages.
fn code(messages: &[Message]) -> String {
    field(messages, b'E', b'C')
}

fn completion(messages: &[Message]) -> String {
    let (_, body) = messages
        .iter()
        .find(|(tag, _)| *tag == b'C')
        .expect("a completion");
    String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap()).into_owned()
}

/// The texts of a `DataRow`.
fn cells(body: &[u8]) -> Vec<String> {
    let mut body = body;
    let count = body.get_u16();
    let mut cells = Vec::new();
    for _ in 0..count {
        let len = usize::try_from(body.get_i32()).unwrap_or(0);
        cells.push(String::from_utf8_lossy(&body[..len]).into_owned());
        body.advance(len);
    }
    cells
}

fn rows(messages: &[Message]) -> Vec<Vec<String>> {
    let rows = messages.iter().filter(|(tag, _)| *tag == b'D');
    rows.map(|(_, body)| cells(body)).collect()
}
