//! What the clients of a simulation say: one request after the other, each by the dice and by how its session stands.

use bytes::{BufMut, BytesMut};

use super::session::Session;
use super::settings::{JUNK, OTHERS_ROLE, ROLES};
use crate::net::simulated::Dice;
use crate::wire::write;

/// What else there is to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// It takes a while, and can be cancelled.
    Sleeps,
    /// It may be refused, for want of a server of the client's own.
    Pins,
}

/// What is sent at once.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: BytesMut,
    /// How many times the server will be ready.
    pub(super) ends: usize,
    pub(super) kind: Kind,
    /// Rows for the ledger.
    pub(super) inserts: Vec<String>,
}

/// Where the tokens of one visit come from.
#[derive(Debug)]
pub(super) struct Author {
    pub(super) name: String,
    pub(super) visit: u64,
    pub(super) serial: u64,
    /// Transaction blocks are refused, so that they are not often tried.
    pub(super) is_shy: bool,
}

impl Author {
    fn token(&mut self) -> String {
        self.serial += 1;
        format!("{}-{}-{}", self.name, self.visit, self.serial)
    }

    /// The next request.
    pub(super) fn write(&mut self, dice: &mut Dice, session: &Session) -> Batch {
        let mut batch = Batch {
            bytes: BytesMut::new(),
            ends: 1,
            kind: Kind::Plain,
            inserts: Vec::new(),
        };
        let token = self.token();
        match (session.status, dice.below(20)) {
            (b'E', 0..14) | (b'T', 4) => batch.query("ROLLBACK"),
            (b'E', 14..17) | (b'T', 0..4) => batch.query("COMMIT"),
            (b'E', _) => batch.query(&format!("SELECT '{token}'")),
            (b'I', 0..4) if !self.is_shy || dice.one_in(20) => batch.query("BEGIN"),
            _ => self.request(&mut batch, &token, dice, session),
        }
        batch
    }

    fn request(&mut self, batch: &mut Batch, token: &str, dice: &mut Dice, session: &Session) {
        match dice.below(22) {
            0 | 1 => batch.query(&format!("SELECT '{token}'")),
            2 => self.pipelined(batch, dice),
            3..6 => named(batch, token, dice, session),
            6 | 7 => extended(batch, &format!("SELECT '{token}', $1"), Some(token), dice),
            8 => batch.fails(token, dice),
            9 | 10 => settings(batch, dice),
            11 | 12 => {
                batch.inserts.push(token.to_owned());
                let text = format!("INSERT INTO ledger VALUES ('{token}')");
                if dice.one_in(2) {
                    batch.query(&text);
                } else {
                    extended(batch, &text, None, dice);
                }
            }
            13 => {
                let rows = dice.pick(&[20, 300, 2000]);
                let text = format!("SELECT '{token}' FROM generate_series(1,{rows})");
                if dice.one_in(2) {
                    batch.query(&text);
                } else {
                    batch.in_pieces(&text);
                }
            }
            14 => batch.copies(token, dice),
            15 => {
                batch.kind = Kind::Sleeps;
                let time = dice.pick(&["0.05", "1", "4"]);
                batch.query(&format!("SELECT '{token}', pg_sleep({time})"));
            }
            16 | 17 => {
                batch.kind = Kind::Pins;
                batch.query(&pinning(token, &self.name, dice, session));
            }
            18 => {
                let other = self.token();
                batch.query(&format!("SELECT '{token}'; SELECT '{other}'"));
            }
            19 => forgets(batch, dice, session),
            _ => by_sql(batch, token, dice, session),
        }
    }

    /// Several segments, one behind the other.
    fn pipelined(&mut self, batch: &mut Batch, dice: &mut Dice) {
        batch.ends = 2 + dice.below(4) as usize;
        for _ in 0..batch.ends {
            let token = self.token();
            let fails = if dice.one_in(8) { ", 1/0" } else { "" };
            batch.parse("", &format!("SELECT '{token}'{fails}"));
            batch.bind("", "", None);
            batch.execute("", 0);
            batch.sync();
        }
    }
}

impl Batch {
    fn query(&mut self, text: &str) {
        write::query(&mut self.bytes, text.as_bytes());
    }

    fn parse(&mut self, name: &str, text: &str) {
        write::message(&mut self.bytes, b'P', |out| {
            write::cstr(out, name.as_bytes());
            write::cstr(out, text.as_bytes());
            out.put_u16(0);
        });
    }

    fn bind(&mut self, portal: &str, name: &str, parameter: Option<&str>) {
        write::message(&mut self.bytes, b'B', |out| {
            write::cstr(out, portal.as_bytes());
            write::cstr(out, name.as_bytes());
            out.put_u16(0);
            out.put_u16(u16::from(parameter.is_some()));
            if let Some(parameter) = parameter {
                out.put_u32(parameter.len() as u32);
                out.put_slice(parameter.as_bytes());
            }
            out.put_u16(0);
        });
    }

    fn describe(&mut self, kind: u8, name: &str) {
        write::message(&mut self.bytes, b'D', |out| {
            out.put_u8(kind);
            write::cstr(out, name.as_bytes());
        });
    }

    fn execute(&mut self, portal: &str, rows: u32) {
        write::message(&mut self.bytes, b'E', |out| {
            write::cstr(out, portal.as_bytes());
            out.put_u32(rows);
        });
    }

    fn sync(&mut self) {
        write::empty(&mut self.bytes, b'S');
    }

    /// A portal that is fetched from more than once.
    fn in_pieces(&mut self, text: &str) {
        self.parse("", text);
        self.bind("p", "", None);
        self.describe(b'P', "p");
        self.execute("p", 7);
        write::empty(&mut self.bytes, b'H');
        self.execute("p", 0);
        self.sync();
    }

    fn fails(&mut self, token: &str, dice: &mut Dice) {
        match dice.below(4) {
            0 => self.query(&format!("SELECT '{token}', 1/0")),
            1 => self.query("SELEKT"),
            2 => {
                self.bind("", "never", None);
                self.execute("", 0);
                self.sync();
            }
            _ => {
                self.parse("", &format!("SELECT '{token}', 1/0"));
                self.bind("", "", None);
                self.execute("", 0);
                self.parse("lost", "SELECT 'skipped'");
                self.sync();
            }
        }
    }

    fn copies(&mut self, token: &str, dice: &mut Dice) {
        if dice.one_in(2) {
            return self.query(&format!("COPY (SELECT '{token}') TO STDOUT"));
        }
        self.query(&format!("COPY ledger FROM STDIN /* '{token}' */"));
        for line in 0..dice.below(6) {
            let line = format!("{token}-{line}");
            write::message(&mut self.bytes, b'd', |out| out.put_slice(line.as_bytes()));
            self.inserts.push(line);
        }
        if dice.one_in(5) {
            write::message(&mut self.bytes, b'f', |out| write::cstr(out, b"no more"));
        } else {
            write::empty(&mut self.bytes, b'c');
        }
    }
}

/// One statement in the extended protocol.
fn extended(batch: &mut Batch, text: &str, parameter: Option<&str>, dice: &mut Dice) {
    batch.parse("", text);
    if dice.one_in(3) {
        batch.describe(b'S', "");
    }
    batch.bind("", "", parameter);
    if dice.one_in(2) {
        batch.describe(b'P', "");
    }
    batch.execute("", 0);
    batch.sync();
}

/// One statement in the extended protocol that nobody wants to have described.
fn plainly(batch: &mut Batch, text: &str) {
    batch.parse("", text);
    batch.bind("", "", None);
    batch.execute("", 0);
    batch.sync();
}

/// A statement for a name: every client has the same ones.
fn definition(token: &str, dice: &mut Dice) -> String {
    if dice.one_in(3) {
        format!("INSERT INTO ledger VALUES ('{token}')")
    } else {
        format!("SELECT 'any{}', $1", dice.below(4))
    }
}

/// What it means to execute this text: rows for the ledger, or a server of one's own.
fn foresee(batch: &mut Batch, text: &str, session: &Session) {
    let executed = text.strip_prefix("EXECUTE ").map_or(text, |rest| {
        let name = rest.split('(').next().unwrap_or_default();
        let prepared = session.statements.get(name);
        prepared.map_or("", |prepared| &prepared.text)
    });
    if executed.starts_with("INSERT") {
        batch
            .inserts
            .extend(executed.split('\'').nth(1).map(str::to_owned));
    }
    if executed.starts_with("PREPARE") {
        batch.kind = Kind::Pins;
    }
}

/// PREPARE, EXECUTE and DEALLOCATE, of names that are in use in the protocol too.
fn by_sql(batch: &mut Batch, token: &str, dice: &mut Dice, session: &Session) {
    let known: Vec<&String> = session
        .statements
        .keys()
        .filter(|name| !name.is_empty())
        .collect();
    let name = if known.is_empty() || dice.one_in(6) {
        format!("s{}", dice.below(6))
    } else {
        dice.pick(&known).clone()
    };
    let text = match dice.below(8) {
        0..3 => {
            let name = format!("s{}", dice.below(6));
            format!("PREPARE {name} AS {}", definition(token, dice))
        }
        3..7 => {
            let text = session
                .statements
                .get(&name)
                .map_or("", |prepared| &prepared.text);
            if text.contains("$1") {
                format!("EXECUTE {name}('{token}')")
            } else {
                format!("EXECUTE {name}")
            }
        }
        _ => format!("DEALLOCATE PREPARE {name}"),
    };
    foresee(batch, &text, session);
    if dice.one_in(3) {
        plainly(batch, &text);
    } else {
        batch.query(&text);
    }
}

/// A statement with a name: made, or used again.
fn named(batch: &mut Batch, token: &str, dice: &mut Dice, session: &Session) {
    // The unnamed one outlives its segment too.
    let names = session.statements.keys();
    let names: Vec<&String> = names
        .filter(|name| name.is_empty() || name.starts_with('s'))
        .collect();
    if names.is_empty() || dice.one_in(4) {
        let name = format!("s{}", dice.below(6));
        batch.parse(&name, &definition(token, dice));
        if dice.one_in(2) {
            batch.describe(b'S', &name);
        }
    } else if let Some(name) = names.get(dice.below(names.len() as u64) as usize) {
        let text = session
            .statements
            .get(*name)
            .map_or("", |prepared| &prepared.text);
        let parameter = text.contains("$1").then_some(token);
        batch.bind("", name, parameter);
        batch.execute("", 0);
        foresee(batch, text, session);
    }
    batch.sync();
}

fn settings(batch: &mut Batch, dice: &mut Dice) {
    let (name, values) = dice.pick(&[
        ("TimeZone", ["UTC", "Europe/Berlin", "Asia/Tokyo"]),
        ("DateStyle", ["ISO, MDY", "German, DMY", "ISO, MDY"]),
        ("statement_timeout", ["1min", "2h", JUNK]),
        ("lock_timeout", ["3s", "4s", "5s"]),
        ("work_mem", ["1MB", "2MB", JUNK]),
        ("app.tenant", ["blue", "it''s \\\\ odd", "green"]),
        ("app.other", ["one", "two", "three"]),
    ]);
    let value = dice.pick(&values);
    if dice.one_in(4) {
        return batch.query(&role(dice));
    }
    match dice.below(8) {
        0 | 1 => batch.query(&format!("RESET {name}")),
        2 => batch.query("RESET ALL"),
        3 => batch.query(&format!("SET LOCAL {name} = '{value}'")),
        4 => extended(batch, &format!("SET {name} = '{value}'"), None, dice),
        _ => batch.query(&format!("SET {name} = '{value}'")),
    }
}

/// Another role, or none.
fn role(dice: &mut Dice) -> String {
    let role = dice.pick(&ROLES);
    match dice.below(8) {
        0 => "RESET ROLE".to_owned(),
        1 => "SET ROLE NONE".to_owned(),
        2 => format!("SET LOCAL ROLE {role}"),
        3 => format!("SET ROLE {OTHERS_ROLE}"),
        4 => "SET ROLE nobody".to_owned(),
        _ => format!("SET ROLE {role}"),
    }
}

/// State that cannot follow its client: made, looked at, or given up.
fn pinning(token: &str, name: &str, dice: &mut Dice, session: &Session) -> String {
    let table = format!("t_{name}");
    match dice.below(7) {
        0 if session.temp.contains(&table) => format!("DROP TABLE {table}"),
        0 | 1 => format!("CREATE TEMP TABLE {table} ()"),
        2 => format!("SELECT '{token}' FROM {table}"),
        3 if session.channels.is_empty() => format!("LISTEN c_{name}"),
        3 | 4 => "UNLISTEN *".to_owned(),
        5 if session.locks.is_empty() => format!("SELECT '{token}', pg_advisory_lock(7)"),
        _ => format!("SELECT '{token}', pg_advisory_unlock(7)"),
    }
}

/// Statements go.
fn forgets(batch: &mut Batch, dice: &mut Dice, session: &Session) {
    let known = session.statements.keys().find(|name| !name.is_empty());
    let name = known.cloned().unwrap_or_else(|| "s9".to_owned());
    match dice.below(5) {
        0 => batch.query("DEALLOCATE ALL"),
        1 => batch.query("DISCARD ALL"),
        2 => batch.query(&format!("DEALLOCATE {name}")),
        _ => {
            write::close_statement(&mut batch.bytes, name.as_bytes());
            batch.sync();
        }
    }
}
