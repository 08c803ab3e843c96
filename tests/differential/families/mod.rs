//! Kinds of programs, each about one kind of session state.

mod meaning;
mod protocol;
mod settings;
mod state;

use crate::program::{Login, Message, Step};
use crate::rng::Rng;

/// Who writes a program, with what.
pub(crate) struct Author<'r> {
    /// The client's number.
    pub(crate) client: usize,
    /// The round's seed.
    pub(crate) seed: u64,
    /// Where chances come from.
    pub(crate) rng: &'r mut Rng,
}

impl Author<'_> {
    /// One of these texts.
    pub(crate) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.rng.pick(from)
    }

    /// The table that is this client's.
    pub(crate) fn table(&self) -> String {
        format!("t_{}", self.client)
    }

    /// A key of an advisory lock that only this client takes.
    pub(crate) fn own_key(&mut self) -> u64 {
        self.seed % 1_000_000 * 100 + self.client as u64 * 10 + self.rng.below(3) as u64
    }

    /// A key of an advisory lock that others of this round take as well.
    pub(crate) fn shared_key(&mut self) -> u64 {
        self.seed % 1_000_000 * 100 + 90 + self.rng.below(2) as u64
    }

    /// A statement without parameters, sent in one way or another.
    pub(crate) fn send(&mut self, sql: impl Into<String>) -> Step {
        let sql = sql.into();
        match self.rng.below(10) {
            0..=5 => Step::query(sql),
            6..=8 => Step::Send(run_unnamed(sql)),
            _ => {
                let name = self.pick(&["s1", "s2", ""]).to_owned();
                let mut messages = vec![
                    Message::CloseStatement(name.clone()),
                    Message::Parse(name.clone(), sql),
                ];
                messages.extend(run(&name, Vec::new()));
                Step::Send(messages)
            }
        }
    }
}

/// A statement without a name, run once.
fn run_unnamed(sql: String) -> Vec<Message> {
    let mut messages = vec![Message::Parse(String::new(), sql)];
    messages.extend(run("", Vec::new()));
    messages
}

/// Bind, Describe, Execute and Sync.
pub(crate) fn run(statement: &str, values: Vec<Option<String>>) -> Vec<Message> {
    vec![
        Message::Bind(String::new(), statement.to_owned(), values),
        Message::DescribePortal(String::new()),
        Message::Execute(String::new(), 0),
        Message::Sync,
    ]
}

/// What a program is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// Settings that a server does not report.
    Unreported,
    /// Settings that it reports, and what they do to values.
    Reported,
    /// Startup parameters and `options`, and RESET, which leads back to them.
    Options,
    /// How transactions begin.
    Characteristics,
    /// Custom settings.
    Custom,
    /// SET ROLE.
    Roles,
    /// SET SESSION AUTHORIZATION of a superuser.
    Authorization,
    /// Cursors WITH HOLD and others.
    Hold,
    /// Temporary objects.
    Temp,
    /// Advisory locks.
    Locks,
    /// SQL's PREPARE, also of names that the protocol knows.
    SqlPrepare,
    /// Prepared statements and portals of the protocol.
    Protocol,
    /// Plans whose tables change.
    StalePlans,
    /// COPY.
    Copy,
    /// Functions and DO blocks with hidden effects.
    Hidden,
    /// DISCARD and its like.
    Discard,
    /// Most of them.
    Mixed,
    /// LISTEN and NOTIFY.
    Listen,
    /// The same texts, prepared under different settings.
    Meaning,
}

impl Family {
    /// Every one.
    pub(crate) const ALL: [Self; 19] = [
        Self::Unreported,
        Self::Reported,
        Self::Options,
        Self::Characteristics,
        Self::Custom,
        Self::Roles,
        Self::Authorization,
        Self::Hold,
        Self::Temp,
        Self::Locks,
        Self::SqlPrepare,
        Self::Protocol,
        Self::StalePlans,
        Self::Copy,
        Self::Hidden,
        Self::Discard,
        Self::Mixed,
        Self::Listen,
        Self::Meaning,
    ];

    /// Whether its clients may keep servers: then there have to be enough, or they would wait for each other.
    fn pins(self) -> bool {
        matches!(
            self,
            Self::Hold
                | Self::Temp
                | Self::Locks
                | Self::SqlPrepare
                | Self::Hidden
                | Self::Discard
                | Self::Mixed
        )
    }

    /// Whether it is about prepared statements, among other things.
    pub(crate) fn prepares(self) -> bool {
        matches!(
            self,
            Self::SqlPrepare | Self::Protocol | Self::Hidden | Self::Discard | Self::Mixed
        )
    }

    /// Whether its clients make tables that outlive them.
    pub(crate) fn makes_tables(self) -> bool {
        matches!(self, Self::StalePlans | Self::Copy | Self::Characteristics)
    }

    /// How many clients there are.
    pub(crate) fn clients(self) -> usize {
        if self.pins() { 3 } else { 5 }
    }

    /// How many servers.
    pub(crate) fn servers(self) -> usize {
        if self.pins() { 4 } else { 2 }
    }

    /// Who logs in, and how.
    pub(crate) fn login(self, rng: &mut Rng) -> Login {
        let parameters = match self {
            Self::Options | Self::Mixed => settings::login(rng),
            _ => Vec::new(),
        };
        Login {
            user: if self == Self::Authorization {
                "postgres"
            } else {
                "app"
            },
            parameters,
            is_polite: rng.percent(70),
        }
    }

    /// What every program of this family begins with.
    pub(crate) fn beginning(self, author: &mut Author<'_>) -> Vec<Step> {
        if !self.makes_tables() {
            return Vec::new();
        }
        let table = author.table();
        vec![
            Step::query(format!("CREATE TABLE {table} (n int, v text)")),
            Step::query(format!("INSERT INTO {table} VALUES (1, 'one'), (2, 'two')")),
        ]
    }

    /// One step.
    pub(crate) fn step(self, author: &mut Author<'_>) -> Step {
        match self {
            Self::Unreported => settings::unreported(author),
            Self::Reported => settings::reported(author),
            Self::Options => settings::any(author),
            Self::Characteristics => settings::characteristics(author),
            Self::Custom => settings::custom(author),
            Self::Roles => settings::roles(author),
            Self::Authorization => settings::authorization(author),
            Self::Hold => state::cursors(author),
            Self::Temp => state::temporary(author),
            Self::Locks => state::locks(author),
            Self::SqlPrepare => protocol::sql_prepare(author),
            Self::Protocol => protocol::statements(author),
            Self::StalePlans => protocol::stale_plans(author),
            Self::Copy => protocol::copy(author),
            Self::Hidden => state::hidden(author),
            Self::Discard => state::discard(author),
            Self::Listen => state::listen(author),
            Self::Meaning => meaning::texts(author),
            Self::Mixed => {
                let others = [
                    Self::Unreported,
                    Self::Reported,
                    Self::Custom,
                    Self::Roles,
                    Self::Hold,
                    Self::Temp,
                    Self::Locks,
                    Self::SqlPrepare,
                    Self::Protocol,
                    Self::Hidden,
                    Self::Discard,
                ];
                others[author.rng.below(others.len())].step(author)
            }
        }
    }
}
