//! What clients do, step by step, in words that a person can read.

use std::fmt;

use crate::common::msg;

/// One message from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A simple query.
    Query(String),
    /// One that PostgreSQL cannot read: its text is in no encoding, or does not end.
    UnreadQuery,
    /// A statement of this name that it cannot read.
    UnreadParse(String),
    /// A statement of this name and text.
    Parse(String, String),
    /// Portal, statement and values.
    Bind(String, String, Vec<Option<String>>),
    /// Of a statement.
    DescribeStatement(String),
    /// Of a portal.
    DescribePortal(String),
    /// A portal, and how many rows; 0 is all.
    Execute(String, u32),
    /// Of a statement.
    CloseStatement(String),
    /// Of a portal.
    ClosePortal(String),
    /// The end of a segment.
    Sync,
}

impl Message {
    /// Whether a `ReadyForQuery` answers it.
    fn is_end(&self) -> bool {
        matches!(self, Self::Query(_) | Self::UnreadQuery | Self::Sync)
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Query(sql) => msg::query(sql),
            Self::UnreadQuery => msg::typed(b'Q', b"SELECT '\xff'\0"),
            Self::UnreadParse(name) => {
                msg::typed(b'P', &[name.as_bytes(), b"\0SELECT '\xff'\0\0\0"].concat())
            }
            Self::Parse(name, sql) => msg::parse(name, sql),
            Self::Bind(portal, statement, values) => {
                let values: Vec<_> = values.iter().map(Option::as_deref).collect();
                msg::bind(portal, statement, &values)
            }
            Self::DescribeStatement(name) => msg::describe_statement(name),
            Self::DescribePortal(name) => msg::describe_portal(name),
            Self::Execute(portal, rows) => msg::execute(portal, *rows),
            Self::CloseStatement(name) => msg::close_statement(name),
            Self::ClosePortal(name) => msg::close_portal(name),
            Self::Sync => msg::sync(),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(sql) => write!(f, "Query {sql}"),
            Self::UnreadQuery => f.write_str("Query that cannot be read"),
            Self::UnreadParse(name) => write!(f, "Parse {name:?} that cannot be read"),
            Self::Parse(name, sql) => write!(f, "Parse {name:?} {sql}"),
            Self::Bind(portal, statement, values) => write!(f, "Bind {portal:?} of {statement:?} {values:?}"),
            Self::DescribeStatement(name) => write!(f, "Describe statement {name:?}"),
            Self::DescribePortal(name) => write!(f, "Describe portal {name:?}"),
            Self::Execute(portal, rows) => write!(f, "Execute {portal:?} {rows}"),
            Self::CloseStatement(name) => write!(f, "Close statement {name:?}"),
            Self::ClosePortal(name) => write!(f, "Close portal {name:?}"),
            Self::Sync => f.write_str("Sync"),
        }
    }
}

/// What a client does before it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sends these in one write and waits until each Query and Sync has been answered.
    Send(Vec<Message>),
    /// Starts a COPY, sends these lines if it is asked for any, and ends it: in good order or not.
    CopyIn {
        /// The statement.
        sql: String,
        /// The lines.
        lines: Vec<String>,
        /// Whether it is a success.
        done: bool,
        /// Whether it is started in the extended protocol, with a Sync that the server passes over if it reads copy data.
        extended: bool,
    },
}

impl Step {
    /// A simple query.
    pub(crate) fn query(sql: impl Into<String>) -> Self {
        Self::Send(vec![Message::Query(sql.into())])
    }

    /// The first bytes that go out.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Send(messages) => messages.iter().flat_map(Message::to_bytes).collect(),
            Self::CopyIn {
                sql, extended: true, ..
            } => [msg::extended(sql, &[]), msg::sync()].concat(),
            Self::CopyIn { sql, .. } => msg::query(sql),
        }
    }

    /// What goes out once the server asks for it.
    pub(crate) fn copy_bytes(&self) -> Vec<u8> {
        let Self::CopyIn {
            lines,
            done,
            extended,
            ..
        } = self
        else {
            return msg::copy_fail("nothing to copy");
        };
        let mut bytes: Vec<u8> = lines
            .iter()
            .flat_map(|line| msg::copy_data(format!("{line}\n").as_bytes()))
            .collect();
        bytes.extend(if *done {
            msg::copy_done()
        } else {
            msg::copy_fail("no more")
        });
        if *extended {
            bytes.extend(msg::sync());
        }
        bytes
    }

    /// How many `ReadyForQuery` it brings.
    pub(crate) fn ends(&self) -> usize {
        match self {
            Self::Send(messages) => messages.iter().filter(|message| message.is_end()).count(),
            Self::CopyIn { .. } => 1,
        }
    }

    /// The same with one message fewer, for each that it can do without.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let Self::Send(messages) = self else {
            return Vec::new();
        };
        let without = |at: usize| {
            let mut fewer = messages.clone();
            fewer.remove(at);
            Self::Send(fewer)
        };
        // The last one is what the client waits for.
        let smaller = (0..messages.len().saturating_sub(1)).map(without);
        let is_fit = |step: &Self| step.has_certain_ends() && step.binds_what_it_runs();
        smaller.filter(is_fit).collect()
    }

    /// Whether it leaves the portal without a name alone that somebody else has left there; see `families::protocol`.
    fn binds_what_it_runs(&self) -> bool {
        let Self::Send(messages) = self else { return true };
        let mut is_bound = false;
        messages.iter().all(|message| match message {
            Message::Bind(portal, ..) if portal.is_empty() => {
                is_bound = true;
                true
            }
            Message::Execute(portal, _) | Message::DescribePortal(portal) => is_bound || !portal.is_empty(),
            message if message.is_end() => {
                is_bound = false;
                true
            }
            _ => true,
        })
    }

    /// Whether it brings as many `ReadyForQuery` as [`Self::ends`] says whatever fails: a Query behind something that has
    /// failed is passed over, up to the next Sync.
    fn has_certain_ends(&self) -> bool {
        let Self::Send(messages) = self else { return true };
        messages.windows(2).all(|pair| {
            let is_query = pair[1].is_end() && pair[1] != Message::Sync;
            !is_query || pair[0].is_end()
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(messages) => {
                let texts: Vec<_> = messages.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(" | "))
            }
            Self::CopyIn {
                sql,
                lines,
                done,
                extended,
            } => {
                let protocol = if *extended { "extended" } else { "simple" };
                let end = if *done { "done" } else { "fails" };
                write!(f, "Copy ({protocol}) {sql} {lines:?} {end}")
            }
        }
    }
}

/// How a client logs in, and how it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    /// The user.
    pub(crate) user: &'static str,
    /// Startup parameters beside user and database.
    pub(crate) parameters: Vec<(&'static str, String)>,
    /// It says goodbye; else it is gone without a word.
    pub(crate) is_polite: bool,
}

/// Several clients' programs, woven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// The clients.
    pub(crate) logins: Vec<Login>,
    /// Who does what, in this order.
    pub(crate) steps: Vec<(usize, Step)>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (client, login) in self.logins.iter().enumerate() {
            if self.steps.iter().any(|(who, _)| *who == client) {
                writeln!(
                    f,
                    "  client {client} logs in as {} {:?}",
                    login.user, login.parameters
                )?;
            }
        }
        for (number, (client, step)) in self.steps.iter().enumerate() {
            writeln!(f, "  {number:>3} client {client}: {step}")?;
        }
        Ok(())
    }
}
