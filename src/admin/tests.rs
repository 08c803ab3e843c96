//! Whole sessions over a pair of sockets.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Buf, BufMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::command::Command;
use super::*;
use crate::client::{ClientLimits, House, Newcomer, Seat as ClientSeat};
use crate::config::Config;
use crate::error::{Refusal, SqlState};
use crate::net::PeerAddr;
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
    console.front.pool(&house, &database, "bob")
}

pub(super) fn client(console: &Console) -> ClientSeat {
    let newcomer = Newcomer {
        peer: PeerAddr::Tcp("10.0.0.9:4711".parse().unwrap()),
        local: PeerAddr::Unix,
        user: "bob".to_owned(),
        database: "app".to_owned(),
        protocol: PROTOCOL_3_0,
    };
    let clients = &console.front.clients;
    clients.admit(newcomer, ClientLimits::default()).unwrap()
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
        let visitor = Visitor {
            user: "root".to_owned(),
            rights,
            application_name: "test".to_owned(),
            protocol: PROTOCOL_3_0,
        };
        let session = async move {
            let stream = Stream::Unix(theirs);
            console.serve(stream, BytesMut::new(), visitor).await
        };
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

#[tokio::test]
async fn the_greeting_satisfies_drivers() {
    let (console, _orders) = console();
    let mut guest = Guest::silent(&console, Rights::Admin);
    let greeting = guest.listen().await;
    let said = |name: &str| {
        let start = format!("{name}\0");
        let (_, body) = greeting
            .iter()
            .find(|(tag, body)| *tag == b'S' && body.starts_with(start.as_bytes()))
            .expect(name);
        String::from_utf8_lossy(&body[start.len()..body.len() - 1]).into_owned()
    };
    assert_eq!(said("client_encoding"), "UTF8");
    assert_eq!(said("standard_conforming_strings"), "on");
    assert_eq!(said("DateStyle"), "ISO");
    let version = said("server_version");
    let number = version.split('/').next().unwrap();
    assert!(
        number.split('.').all(|part| part.parse::<u32>().is_ok()),
        "{version}"
    );
    assert_eq!(console.sessions(), 1);
}

#[tokio::test]
async fn tables_come_with_columns_rows_and_a_tag() {
    let (console, _orders) = console();
    open_pool(&console);
    let _client = client(&console);
    let mut guest = Guest::new(&console, Rights::Stats).await;
    let answer = guest.query("show pools;").await;
    assert_eq!(tags(&answer), "TDDCZ");
    assert_eq!(completion(&answer), "SHOW");
    let rows = rows(&answer);
    assert_eq!(rows[0][..4], ["app", "bob", "1", "0"]);
    assert_eq!(rows[1][..3], ["pgbouncer", "pgbouncer", "1"]);
    let answer = guest
        .query("SHOW CLIENTS; SHOW STATE; nonsense; SHOW LISTS")
        .await;
    assert_eq!(tags(&answer), "TDCTDDDCEZ", "nothing is done behind an error");
    assert_eq!(code(&answer), "42601");
}

#[tokio::test]
async fn what_drivers_say_by_themselves_does_no_harm() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Stats).await;
    for (text, wanted) in [
        ("SET client_encoding TO 'UTF8'", "SET"),
        ("set session datestyle = ISO, MDY", "SET"),
        ("SET extra_float_digits = 3", "SET"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET"),
        ("SET TIME ZONE 'UTC'", "SET"),
        ("SELECT 1", "SELECT 1"),
        ("select version()", "SELECT 1"),
        ("SHOW transaction isolation level", "SHOW"),
        ("DISCARD ALL", "DISCARD ALL"),
        ("DEALLOCATE ALL", "DEALLOCATE"),
        ("SHOW HELP", "SHOW"),
    ] {
        let answer = guest.query(text).await;
        assert_eq!(completion(&answer), wanted, "{text}");
    }
    assert_eq!(tags(&guest.query("").await), "IZ");
    assert_eq!(tags(&guest.query(" ; -- nothing").await), "IZ");
    assert_eq!(code(&guest.query("SHOW server_version").await), "42704");
}

#[tokio::test]
async fn a_transaction_is_shown_to_those_who_begin_one() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Stats).await;
    for (text, status) in [
        ("BEGIN", b'T'),
        ("SHOW VERSION", b'T'),
        ("nonsense", b'T'),
        ("COMMIT", b'I'),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", b'T'),
        ("ROLLBACK", b'I'),
    ] {
        let answer = guest.query(text).await;
        assert_eq!(answer.last().unwrap().1, [status], "{text}");
    }
}

/// Every command there is, and who may say it.
const COMMANDS: [(&str, Rights); 41] = [
    ("SHOW ACTIVE_SOCKETS", Rights::Stats),
    ("SHOW CLIENTS", Rights::Stats),
    ("SHOW CONFIG", Rights::Stats),
    ("SHOW DATABASES", Rights::Stats),
    ("SHOW DNS_HOSTS", Rights::Stats),
    ("SHOW DNS_ZONES", Rights::Stats),
    ("SHOW LISTS", Rights::Stats),
    ("SHOW MEM", Rights::Stats),
    ("SHOW PEER_POOLS", Rights::Stats),
    ("SHOW PEERS", Rights::Stats),
    ("SHOW POOLS", Rights::Stats),
    ("SHOW SERVERS", Rights::Stats),
    ("SHOW SOCKETS", Rights::Stats),
    ("SHOW STATE", Rights::Stats),
    ("SHOW STATS", Rights::Stats),
    ("SHOW STATS_AVERAGES", Rights::Stats),
    ("SHOW STATS_TOTALS", Rights::Stats),
    ("SHOW TOTALS", Rights::Stats),
    ("SHOW USERS", Rights::Stats),
    ("SHOW VERSION", Rights::Stats),
    ("SHOW HELP", Rights::Stats),
    ("SHOW client_encoding", Rights::Stats),
    ("BEGIN", Rights::Stats),
    ("COMMIT", Rights::Stats),
    ("SET client_encoding = 'UTF8'", Rights::Stats),
    ("DEALLOCATE ALL", Rights::Stats),
    ("SHOW FDS", Rights::Admin),
    ("SET default_pool_size = 3", Rights::Admin),
    ("RELOAD", Rights::Admin),
    ("PAUSE", Rights::Admin),
    ("PAUSE app", Rights::Admin),
    ("RESUME", Rights::Admin),
    ("RECONNECT", Rights::Admin),
    ("KILL", Rights::Admin),
    ("KILL_CLIENT 7", Rights::Admin),
    ("WAIT_CLOSE", Rights::Admin),
    ("DISABLE app", Rights::Admin),
    ("ENABLE app", Rights::Admin),
    ("SUSPEND", Rights::Admin),
    ("SHUTDOWN", Rights::Admin),
    ("SHUTDOWN WAIT_FOR_CLIENTS", Rights::Admin),
];

#[tokio::test]
async fn whoever_may_look_may_change_nothing() {
    let (console, mut orders) = console();
    let carry_out = tokio::spawn(async move {
        let mut tasks = Vec::new();
        while let Some(order) = orders.recv().await {
            tasks.push(order.task);
            order.reply.send(Ok(Vec::new())).unwrap();
        }
        tasks
    });
    for rights in [Rights::Stats, Rights::Admin] {
        let mut guest = Guest::new(&console, rights).await;
        for (text, needed) in COMMANDS {
            let answer = guest.query(text).await;
            let denied = tags(&answer).contains('E') && code(&answer) == "42501";
            assert_eq!(denied, rights < needed, "{text} as {rights:?}");
        }
    }
    drop(console);
    // The guests' sessions hold the console and end when their sockets close.
    let tasks = carry_out.await.unwrap();
    assert_eq!(tasks.len(), 4, "{tasks:?}");
}

#[test]
fn the_table_of_permissions_is_complete() {
    // Fails to compile when a command is added: add it here and to COMMANDS.
    let number = |command: &Command| match command {
        Command::Show(_) => 0,
        Command::Help => 1,
        Command::Ask(_) => 2,
        Command::Begin(_) => 3,
        Command::End(_) => 4,
        Command::Harmless(_) => 5,
        Command::Deallocate(_) => 6,
        Command::Set { .. } => 7,
        Command::Reload => 8,
        Command::Shutdown(_) => 9,
        Command::Pause(_) => 10,
        Command::Resume(_) => 11,
        Command::Reconnect(_) => 12,
        Command::Kill(_) => 13,
        Command::KillClient(_) => 14,
        Command::WaitClose(_) => 15,
        Command::Disable(_) => 16,
        Command::Enable(_) => 17,
        Command::Unsupported { .. } => 18,
    };
    let mut seen = BTreeSet::new();
    for (text, needed) in COMMANDS {
        let statement = words::statements(text).unwrap().remove(0);
        let command = Command::parse(&statement).unwrap();
        assert_eq!(command.needs(), needed, "{text}");
        seen.insert(number(&command));
    }
    assert_eq!(seen.len(), 19);
}

#[tokio::test]
async fn orders_leave_the_console_and_answers_come_back() {
    let (console, mut orders) = console();
    let mut guest = Guest::new(&console, Rights::Admin).await;
    let process = tokio::spawn(async move {
        let order = orders.recv().await.unwrap();
        assert_eq!(order.task, Task::Reload);
        order
            .reply
            .send(Ok(vec!["restart for listen_port".to_owned()]))
            .unwrap();
        let order = orders.recv().await.unwrap();
        let wanted = Task::Set {
            name: "server_check_query".to_owned(),
            value: Some("select 'a'".to_owned()),
        };
        assert_eq!(order.task, wanted);
        order
            .reply
            .send(Err(Refusal::new(SqlState::INVALID_PARAMETER_VALUE, "no")))
            .unwrap();
    });
    let answer = guest.query("reload").await;
    assert_eq!(tags(&answer), "NCZ");
    assert_eq!(field(&answer, b'N', b'M'), "restart for listen_port");
    let answer = guest.query("SET server_check_query TO 'select ''a'''").await;
    assert_eq!(code(&answer), "22023");
    process.await.unwrap();
    // Nobody receives orders any more.
    assert_eq!(code(&guest.query("SHUTDOWN").await), "57P01");
}

#[tokio::test]
async fn pause_holds_pools_that_come_later_until_resume() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Admin).await;
    assert_eq!(completion(&guest.query("PAUSE app").await), "PAUSE");
    let pool = open_pool(&console);
    assert!(pool.is_paused());
    let paused = |answer: &[Message]| rows(answer)[0][15].clone();
    assert_eq!(paused(&guest.query("SHOW DATABASES").await), "1");
    assert_eq!(completion(&guest.query("RESUME app").await), "RESUME");
    assert!(!pool.is_paused());
    assert_eq!(code(&guest.query("RESUME app").await), "55000");
    assert_eq!(code(&guest.query("RESUME").await), "55000");
    assert_eq!(completion(&guest.query("PAUSE").await), "PAUSE");
    assert!(pool.is_paused());
    assert_eq!(rows(&guest.query("SHOW STATE").await)[1], ["paused", "yes"]);
    assert_eq!(code(&guest.query("RESUME app").await), "55000");
    assert_eq!(completion(&guest.query("RESUME").await), "RESUME");
    assert!(!pool.is_paused());
}

#[tokio::test]
async fn databases_are_named_exactly_and_the_console_is_none() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Admin).await;
    assert_eq!(code(&guest.query("PAUSE nowhere").await), "3D000");
    assert_eq!(code(&guest.query("KILL pgbouncer").await), "55000");
    assert_eq!(code(&guest.query("DISABLE howdah").await), "55000");
    assert_eq!(code(&guest.query("DISABLE").await), "42601");
    assert_eq!(completion(&guest.query("DISABLE \"app\"").await), "DISABLE");
    assert!(console.front.is_disabled("app"));
    assert_eq!(completion(&guest.query("ENABLE app").await), "ENABLE");
    assert!(!console.front.is_disabled("app"));
}

#[tokio::test]
async fn killed_clients_are_told_and_their_pool_is_held() {
    let (console, _orders) = console();
    let pool = open_pool(&console);
    let client = client(&console);
    let mut guest = Guest::new(&console, Rights::Admin).await;
    assert_eq!(code(&guest.query("KILL_CLIENT 999").await), "42704");
    assert_eq!(code(&guest.query("KILL_CLIENT x").await), "42601");
    let kill = format!("KILL_CLIENT {}", client.id);
    assert_eq!(completion(&guest.query(&kill).await), "KILL_CLIENT");
    assert_eq!(completion(&guest.query("KILL app").await), "KILL");
    assert!(pool.is_paused());
    assert!(console.front.is_paused("app"));
}

/// A pool that is connecting to somebody who never answers.
async fn busy_console() -> (Arc<Console>, tokio::net::TcpListener, Arc<Pool<Servers>>) {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let config = Config::for_url(&format!("postgres://bob:x@127.0.0.1:{port}/app")).unwrap();
    let front = Front::new(House::new(config).unwrap());
    let (orders, _) = mpsc::channel(1);
    let console = Console::new(front, Arc::default(), orders, CancellationToken::new());
    let pool = open_pool(&console);
    let asking = pool.clone();
    tokio::spawn(async move {
        let mut waiter = crate::pool::Waiter::new();
        let _ = asking.lease(&mut waiter).await;
    });
    while pool.snapshot().sv_login == 0 {
        tokio::task::yield_now().await;
    }
    (console, silent, pool)
}

#[tokio::test]
async fn whoever_waits_for_a_pause_can_cancel_it() {
    let (console, _silent, pool) = busy_console().await;
    let mut guest = Guest::silent(&console, Rights::Admin);
    let greeting = guest.listen().await;
    let (_, key) = greeting.iter().find(|(tag, _)| *tag == b'K').unwrap();
    let mut key = &key[..];
    let pid = key.get_i32();
    let mut out = BytesMut::new();
    write::query(&mut out, b"PAUSE app");
    guest.send(&out).await;
    while !pool.is_paused() {
        tokio::task::yield_now().await;
    }
    assert!(!console.cancel(pid, b"wrong"));
    assert!(!console.cancel(pid.wrapping_add(1), key));
    assert!(console.cancel(pid, key));
    let answer = guest.listen().await;
    assert_eq!(code(&answer), "57014");
    assert!(pool.is_paused(), "what has been done stays");
}

#[tokio::test]
async fn whoever_waits_for_a_pause_learns_that_it_was_taken_back() {
    let (console, _silent, pool) = busy_console().await;
    let mut waiting = Guest::new(&console, Rights::Admin).await;
    let mut out = BytesMut::new();
    write::query(&mut out, b"PAUSE app");
    waiting.send(&out).await;
    while !pool.is_paused() {
        tokio::task::yield_now().await;
    }
    let mut other = Guest::new(&console, Rights::Admin).await;
    assert_eq!(completion(&other.query("RESUME app").await), "RESUME");
    assert_eq!(code(&waiting.listen().await), "55000");
}

#[tokio::test]
async fn sessions_end_in_every_way_with_the_right_word() {
    let (console, _orders) = console();
    let mut polite = Guest::new(&console, Rights::Stats).await;
    polite.send(b"X\0\0\0\x04").await;
    assert_eq!(polite.session.await.unwrap(), Farewell::Finished);

    let rude = Guest::new(&console, Rights::Stats).await;
    drop(rude.stream);
    assert_eq!(rude.session.await.unwrap(), Farewell::Vanished);

    let mut wrong = Guest::new(&console, Rights::Stats).await;
    wrong.send(b"!\0\0\0\x04").await;
    let last = wrong.listen().await;
    assert_eq!(
        (code(&last), field(&last, b'E', b'S')),
        ("08P01".into(), "FATAL".into())
    );
    assert_eq!(wrong.session.await.unwrap().label(), "client_protocol");

    let mut large = Guest::new(&console, Rights::Stats).await;
    large.send(b"Q\x00\x10\0\0").await;
    assert_eq!(code(&large.listen().await), "08P01");

    let mut last = Guest::new(&console, Rights::Stats).await;
    console.stop.cancel();
    assert_eq!(code(&last.listen().await), "57P01");
    assert_eq!(last.session.await.unwrap().label(), "administrator");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(console.sessions(), 0);
}

/// Messages of the extended protocol, one after the other.
#[derive(Default)]
struct Script(BytesMut);

impl Script {
    fn parse(mut self, name: &str, text: &str) -> Self {
        write::message(&mut self.0, b'P', |out| {
            write::cstr(out, name.as_bytes());
            write::cstr(out, text.as_bytes());
            out.put_u16(0);
        });
        self
    }

    fn bind(mut self, portal: &str, statement: &str, parameters: u16, format: u16) -> Self {
        write::message(&mut self.0, b'B', |out| {
            write::cstr(out, portal.as_bytes());
            write::cstr(out, statement.as_bytes());
            out.put_u16(0);
            out.put_u16(parameters);
            for _ in 0..parameters {
                out.put_i32(-1);
            }
            out.put_u16(1);
            out.put_u16(format);
        });
        self
    }

    fn about(mut self, tag: u8, kind: u8, name: &str) -> Self {
        write::message(&mut self.0, tag, |out| {
            out.put_u8(kind);
            write::cstr(out, name.as_bytes());
        });
        self
    }

    fn execute(mut self, portal: &str, limit: i32) -> Self {
        write::message(&mut self.0, b'E', |out| {
            write::cstr(out, portal.as_bytes());
            out.put_i32(limit);
        });
        self
    }

    async fn sync(mut self, guest: &mut Guest) -> Vec<Message> {
        write::empty(&mut self.0, b'S');
        guest.send(&self.0).await;
        guest.listen().await
    }
}

#[tokio::test]
async fn the_extended_protocol_is_spoken() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Stats).await;
    let script = || Script::default();
    let answer = script()
        .parse("s", "SHOW STATE")
        .about(b'D', b'S', "s")
        .bind("", "s", 0, 0)
        .about(b'D', b'P', "")
        .execute("", 0)
        .about(b'C', b'S', "s")
        .sync(&mut guest)
        .await;
    assert_eq!(tags(&answer), "1tT2TDDDC3Z");
    assert_eq!(rows(&answer)[0], ["active", "yes"]);
    let answer = script().bind("", "s", 0, 0).sync(&mut guest).await;
    assert_eq!((tags(&answer), code(&answer)), ("EZ".into(), "26000".into()));
    let answer = script()
        .parse("", "SELECT 1")
        .bind("", "", 0, 1)
        .about(b'D', b'P', "")
        .execute("", 0)
        .sync(&mut guest)
        .await;
    assert_eq!(tags(&answer), "12TDCZ");
    assert_eq!(answer[3].1, [0, 1, 0, 0, 0, 4, 0, 0, 0, 1]);
    let answer = script()
        .parse("", "")
        .bind("", "", 0, 0)
        .about(b'D', b'P', "")
        .execute("", 0);
    assert_eq!(tags(&answer.sync(&mut guest).await), "12nIZ");
    let answer = script()
        .parse("", "SET client_encoding TO utf8")
        .bind("", "", 0, 0)
        .execute("", 0);
    assert_eq!(tags(&answer.sync(&mut guest).await), "12CZ");
}

#[tokio::test]
async fn a_portal_gives_as_many_rows_as_are_asked_for() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Stats).await;
    let script = Script::default().parse("", "SHOW STATE").bind("p", "", 0, 0);
    let answer = script
        .execute("p", 2)
        .execute("p", 2)
        .execute("p", 0)
        .sync(&mut guest)
        .await;
    assert_eq!(tags(&answer), "12DDsDCCZ");
    let answer = Script::default().execute("p", 0).sync(&mut guest).await;
    assert_eq!(code(&answer), "34000", "portals end with the transaction");
    guest.query("BEGIN").await;
    let script = Script::default().parse("", "SHOW STATE").bind("p", "", 0, 0);
    assert_eq!(tags(&script.execute("p", 1).sync(&mut guest).await), "12DsZ");
    assert_eq!(
        tags(&Script::default().execute("p", 0).sync(&mut guest).await),
        "DDCZ"
    );
}

#[tokio::test]
async fn behind_an_error_everything_is_dropped_until_sync() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Stats).await;
    let mut script = Script::default()
        .parse("", "RELOAD")
        .bind("", "", 0, 0)
        .execute("", 0);
    script = script.parse("late", "SHOW STATE");
    write::query(&mut script.0, b"SHOW STATE");
    let answer = script.sync(&mut guest).await;
    assert_eq!((tags(&answer), code(&answer)), ("12EZ".into(), "42501".into()));
    let answer = Script::default().about(b'D', b'S', "late").sync(&mut guest).await;
    assert_eq!(code(&answer), "26000");
    for (script, wanted) in [
        (Script::default().parse("", "SHOW STATE; SHOW STATE"), "42601"),
        (
            Script::default().parse("", "SHOW STATE").bind("", "", 1, 0),
            "0A000",
        ),
        (
            Script::default().parse("", "SHOW STATE").bind("", "", 0, 2),
            "22023",
        ),
        (
            Script::default()
                .parse("a", "SHOW STATE")
                .parse("a", "SHOW STATE"),
            "42P05",
        ),
        (Script::default().execute("nothing", 0), "34000"),
        (Script::default().parse("", "nonsense"), "42601"),
    ] {
        assert_eq!(code(&script.sync(&mut guest).await), wanted);
    }
    assert_eq!(tags(&guest.query("SHOW VERSION").await), "TDCZ");
}

#[tokio::test]
async fn no_answer_holds_a_secret() {
    let (console, _orders) = console();
    open_pool(&console);
    let _client = client(&console);
    let mut guest = Guest::new(&console, Rights::Admin).await;
    for (text, _) in COMMANDS.iter().filter(|(text, _)| text.starts_with("SHOW")) {
        for (_, body) in guest.query(text).await {
            assert!(!String::from_utf8_lossy(&body).contains("hunter2"), "{text}");
        }
    }
}
