//! The console, its tables as maps, and the metrics port.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::net::{PATIENCE, Target, eventually};
use super::wire::{Frame, PgError, Wire, take_cstr};
use super::{Howdah, msg};

/// A row by its columns' names; NULL is empty.
pub type Record = BTreeMap<String, String>;

/// What SHOW answers.
pub struct Table {
    /// The names of the columns, in order.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Record>,
}

/// The names that a `RowDescription` holds.
pub fn column_names(frame: &Frame) -> Vec<String> {
    let (count, mut rest) = frame.body.split_first_chunk::<2>().expect("a count");
    let mut name = || {
        let name = take_cstr(&mut rest).to_owned();
        rest = &rest[18..];
        name
    };
    (0..u16::from_be_bytes(*count)).map(|_| name()).collect()
}

impl Table {
    fn from_frames(what: &str, frames: &[Frame]) -> Self {
        if let Some(error) = frames.iter().find(|frame| frame.kind == b'E') {
            panic!("{what}: {:?}", error.error());
        }
        let header = frames.iter().find(|frame| frame.kind == b'T');
        let columns = column_names(header.unwrap_or_else(|| panic!("{what}: no columns in {frames:?}")));
        let record = |frame: &Frame| {
            let values = frame.row().into_iter().map(Option::unwrap_or_default);
            columns.iter().cloned().zip(values).collect()
        };
        let rows = frames.iter().filter(|frame| frame.kind == b'D');
        let rows = rows.map(record).collect();
        Self { columns, rows }
    }

    /// The only row in which these columns have these values.
    #[track_caller]
    pub fn row(&self, wanted: &[(&str, &str)]) -> &Record {
        let fits = |row: &&Record| wanted.iter().all(|(column, value)| row[*column] == *value);
        let found: Vec<&Record> = self.rows.iter().filter(fits).collect();
        match found[..] {
            [row] => row,
            _ => panic!("{} rows with {wanted:?} in {:#?}", found.len(), self.rows),
        }
    }
}

/// A number of a row.
#[track_caller]
pub fn number(row: &Record, column: &str) -> u64 {
    let value = row
        .get(column)
        .unwrap_or_else(|| panic!("no column {column} in {row:?}"));
    value.parse().unwrap_or_else(|_| panic!("{column} is {value:?}"))
}

/// Several numbers of a row.
#[track_caller]
pub fn numbers<const N: usize>(row: &Record, columns: [&str; N]) -> [u64; N] {
    columns.map(|column| number(row, column))
}

/// A session of an administrator.
pub struct Console(pub Wire);

impl Console {
    /// As `postgres`, on the database `pgbouncer`.
    pub fn open(target: Target) -> Self {
        Self(Wire::login(target, "postgres", "pgbouncer"))
    }

    /// `SHOW` something.
    #[track_caller]
    pub fn show(&mut self, what: &str) -> Table {
        self.0.send(&msg::query(&format!("SHOW {what}")));
        Table::from_frames(what, &self.0.until_ready())
    }

    /// The same over the extended protocol.
    #[track_caller]
    pub fn show_extended(&mut self, what: &str) -> Table {
        self.0
            .send(&[msg::extended(&format!("SHOW {what}"), &[]), msg::sync()].concat());
        Table::from_frames(what, &self.0.until_ready())
    }

    /// The line of a pool.
    #[track_caller]
    pub fn pool(&mut self, database: &str, user: &str) -> Record {
        self.show("POOLS")
            .row(&[("database", database), ("user", user)])
            .clone()
    }

    /// The line of a database.
    #[track_caller]
    pub fn stats(&mut self, database: &str) -> Record {
        self.show("STATS").row(&[("database", database)]).clone()
    }

    /// A setting as SHOW CONFIG has it.
    #[track_caller]
    pub fn setting(&mut self, name: &str) -> String {
        self.show("CONFIG").row(&[("key", name)])["value"].clone()
    }

    /// A command that is carried out; its tag is its first word.
    #[track_caller]
    pub fn does(&mut self, command: &str) {
        let answer = self.0.query(command);
        assert!(answer.error.is_none(), "{command}: {:?}", answer.error);
        let word = command.split(' ').next().unwrap_or_default();
        assert_eq!(answer.tags, [word], "{command}");
    }

    /// A command that is refused.
    #[track_caller]
    pub fn refuses(&mut self, command: &str) -> PgError {
        let answer = self.0.query(command);
        answer
            .error
            .unwrap_or_else(|| panic!("{command} was carried out: {:?}", answer.tags))
    }

    /// Waits until clients of `app` wait for a server.
    pub fn wait_for_waiting(&mut self, count: u64) {
        eventually(&format!("{count} clients wait"), PATIENCE, || {
            let waiting = number(&self.pool("app", "app"), "cl_waiting");
            (waiting == count).then_some(())
        });
    }

    /// Waits until no client is logged in.
    pub fn wait_for_nobody(&mut self) {
        eventually("all clients have left", PATIENCE, || {
            self.show("CLIENTS").rows.is_empty().then_some(())
        });
    }
}

/// What a request over HTTP brought.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The status line and headers, in small letters.
    pub head: String,
    /// What follows.
    pub body: String,
}

/// One request; `None` when nobody answers.
pub fn request(port: u16, method: &str, path: &str) -> Option<Response> {
    let mut stream = TcpStream::connect_timeout(&Target { port }.addr(), Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some(Response {
        status: head.split(' ').nth(1)?.parse().ok()?,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

/// GET, which must be answered.
#[track_caller]
pub fn get(port: u16, path: &str) -> Response {
    request(port, "GET", path).unwrap_or_else(|| panic!("no answer to GET {path}"))
}

/// The port of `metrics_addr` in a pooler's configuration.
pub fn metrics_port(howdah: &Howdah) -> u16 {
    let address = howdah.config.settings["metrics_addr"].as_str();
    let port = address.and_then(|address| address.rsplit(':').next()?.parse().ok());
    port.expect("an address with a port")
}
