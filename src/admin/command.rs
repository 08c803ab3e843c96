//! What may be said to the console, and who may say it.

use super::Rights;
use super::order::Shutdown;
use super::show::Show;
use super::words::{Statement, Word};
use crate::config::TABLE;
use crate::error::{Refusal, SqlState};

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `SHOW POOLS` and all the other tables.
    Show(Show),
    /// `SHOW HELP`.
    Help,
    /// What a driver asks about the session.
    Ask(&'static Known),
    /// `BEGIN`, with its tag: nothing is undone, but drivers want to see a transaction.
    Begin(&'static str),
    /// `COMMIT` and `ROLLBACK`, with their tags.
    End(&'static str),
    /// What drivers say to tidy up, with its tag. There is nothing to tidy.
    Harmless(&'static str),
    /// `DEALLOCATE` of one name, or of all.
    Deallocate(Option<String>),
    /// `SET` of one of howdah's settings; without a value, of its default.
    Set { name: String, value: Option<String> },
    /// `RELOAD`.
    Reload,
    /// `SHUTDOWN`.
    Shutdown(Shutdown),
    /// `PAUSE`, of one database or of all.
    Pause(Option<String>),
    /// `RESUME`.
    Resume(Option<String>),
    /// `RECONNECT`.
    Reconnect(Option<String>),
    /// `KILL`.
    Kill(Option<String>),
    /// `KILL_CLIENT`, by the id of `SHOW CLIENTS`.
    KillClient(u64),
    /// `WAIT_CLOSE`.
    WaitClose(Option<String>),
    /// `DISABLE`.
    Disable(String),
    /// `ENABLE`.
    Enable(String),
    /// What `PgBouncer` has and howdah has not, with what to do instead.
    Unsupported { word: &'static str, hint: &'static str },
}

impl Command {
    /// The table of permissions: whoever may look may change nothing.
    pub(super) fn needs(&self) -> Rights {
        match self {
            Self::Show(_)
            | Self::Help
            | Self::Ask(_)
            | Self::Begin(_)
            | Self::End(_)
            | Self::Harmless(_)
            | Self::Deallocate(_) => Rights::Stats,
            Self::Set { .. }
            | Self::Reload
            | Self::Shutdown(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Reconnect(_)
            | Self::Kill(_)
            | Self::KillClient(_)
            | Self::WaitClose(_)
            | Self::Disable(_)
            | Self::Enable(_)
            | Self::Unsupported { .. } => Rights::Admin,
        }
    }

    /// The word it begins with, which is also what its completion says.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Show(_) | Self::Help => "SHOW",
            Self::Ask(known) => known.tag,
            Self::Begin(tag) | Self::End(tag) | Self::Harmless(tag) => tag,
            Self::Deallocate(_) => "DEALLOCATE",
            Self::Set { .. } => "SET",
            Self::Reload => "RELOAD",
            Self::Shutdown(_) => "SHUTDOWN",
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Reconnect(_) => "RECONNECT",
            Self::Kill(_) => "KILL",
            Self::KillClient(_) => "KILL_CLIENT",
            Self::WaitClose(_) => "WAIT_CLOSE",
            Self::Disable(_) => "DISABLE",
            Self::Enable(_) => "ENABLE",
            Self::Unsupported { word, .. } => word,
        }
    }

    /// For the log, without the value of a SET.
    pub(super) fn spoken(&self) -> String {
        let object = match self {
            Self::Set { name, .. } | Self::Disable(name) | Self::Enable(name) => name.clone(),
            Self::Pause(name)
            | Self::Resume(name)
            | Self::Reconnect(name)
            | Self::Kill(name)
            | Self::WaitClose(name) => name.clone().unwrap_or_default(),
            Self::KillClient(id) => id.to_string(),
            Self::Shutdown(how) => format!("{how:?}"),
            _ => String::new(),
        };
        format!("{} {object}", self.word()).trim_end().to_owned()
    }

    /// Understands one statement.
    pub(super) fn parse(statement: &Statement) -> Result<Self, Refusal> {
        let words: Vec<&Word> = statement.words.iter().map(|(word, ..)| word).collect();
        let unknown = || invalid(&statement.text);
        let Some((Word::Bare(first), rest)) = words.split_first() else {
            return Err(unknown());
        };
        let first = first.to_ascii_uppercase();
        let database = || at_most_one(rest).map_err(|()| unknown());
        let required = || match at_most_one(rest) {
            Ok(Some(name)) => Ok(name),
            Ok(None) => Err(Refusal::new(
                SqlState::SYNTAX_ERROR,
                format!("{first} needs the name of a database"),
            )),
            Err(()) => Err(unknown()),
        };
        let alone = |command| {
            if rest.is_empty() {
                Ok(command)
            } else {
                Err(unknown())
            }
        };
        match first.as_str() {
            "SHOW" => show(rest).unwrap_or_else(|| Err(unknown())),
            "SELECT" => Known::find(&ANSWERS, rest).map(Self::Ask).ok_or_else(unknown),
            "SET" => set(statement, rest).ok_or_else(unknown),
            "BEGIN" => Ok(Self::Begin("BEGIN")),
            "START" => Ok(Self::Begin("START TRANSACTION")),
            "COMMIT" | "END" => Ok(Self::End("COMMIT")),
            "ROLLBACK" | "ABORT" => Ok(Self::End("ROLLBACK")),
            "DISCARD" => Ok(Self::Harmless("DISCARD ALL")),
            "RESET" => Ok(Self::Harmless("RESET")),
            "CLOSE" => Ok(Self::Harmless("CLOSE CURSOR ALL")),
            "UNLISTEN" => Ok(Self::Harmless("UNLISTEN")),
            "DEALLOCATE" => deallocate(rest).ok_or_else(unknown),
            "RELOAD" => alone(Self::Reload),
            "SHUTDOWN" => shutdown(rest).map(Self::Shutdown).ok_or_else(unknown),
            "PAUSE" => database().map(Self::Pause),
            "RESUME" => database().map(Self::Resume),
            "RECONNECT" => database().map(Self::Reconnect),
            "KILL" => database().map(Self::Kill),
            "WAIT_CLOSE" => database().map(Self::WaitClose),
            "DISABLE" => required().map(Self::Disable),
            "ENABLE" => required().map(Self::Enable),
            "KILL_CLIENT" => client(rest).map(Self::KillClient),
            "SUSPEND" => alone(Self::Unsupported {
                word: "SUSPEND",
                hint: "PAUSE waits until all servers are free and then holds clients back.",
            }),
            _ => Err(unknown()),
        }
    }
}

/// One name or none.
fn at_most_one(words: &[&Word]) -> Result<Option<String>, ()> {
    match words {
        [] => Ok(None),
        [word] => word.name().map(|name| Some(name.to_owned())).ok_or(()),
        _ => Err(()),
    }
}

fn invalid(text: &str) -> Refusal {
    const SHOWN_MAX: usize = 100;
    let shown: String = text.trim().chars().take(SHOWN_MAX).collect();
    Refusal::new(SqlState::SYNTAX_ERROR, format!("invalid command \"{shown}\""))
        .hint("SHOW HELP lists the commands.")
}

fn show(rest: &[&Word]) -> Option<Result<Command, Refusal>> {
    if let Some(known) = Known::find(&PARAMETERS, rest) {
        return Some(Ok(Command::Ask(known)));
    }
    let [word] = rest else { return None };
    let name = word.name()?;
    Some(match Show::find(name) {
        Some(table) => Ok(Command::Show(table)),
        None if name.eq_ignore_ascii_case("help") => Ok(Command::Help),
        None if name.eq_ignore_ascii_case("fds") => Ok(Command::Unsupported {
            word: "SHOW FDS",
            hint: "SHOW SOCKETS has the connections.",
        }),
        None => Err(Refusal::new(
            SqlState::UNDEFINED_OBJECT,
            format!("there is nothing called \"{name}\" to show"),
        )
        .hint("SHOW HELP lists the commands.")),
    })
}

fn shutdown(rest: &[&Word]) -> Option<Shutdown> {
    match rest {
        [] => Some(Shutdown::Immediate),
        [word] if word.is("WAIT_FOR_SERVERS") => Some(Shutdown::WaitForServers),
        [word] if word.is("WAIT_FOR_CLIENTS") => Some(Shutdown::WaitForClients),
        _ => None,
    }
}

fn client(rest: &[&Word]) -> Result<u64, Refusal> {
    let id = match rest {
        [word] => word.name().and_then(|id| id.parse().ok()),
        _ => None,
    };
    id.ok_or_else(|| {
        Refusal::new(SqlState::SYNTAX_ERROR, "KILL_CLIENT needs the id of a client")
            .hint("SHOW CLIENTS has it in its column id.")
    })
}

fn deallocate(rest: &[&Word]) -> Option<Command> {
    let rest = match rest {
        [first, rest @ ..] if first.is("PREPARE") => rest,
        _ => rest,
    };
    match rest {
        [word] if word.is("ALL") => Some(Command::Deallocate(None)),
        [word] => word.name().map(|name| Command::Deallocate(Some(name.to_owned()))),
        _ => None,
    }
}

/// `SET [SESSION | LOCAL] name { = | TO } value`, and the forms with a grammar of their own.
fn set(statement: &Statement, rest: &[&Word]) -> Option<Command> {
    let mut at = 1;
    let mut rest = rest;
    if let [first, more @ ..] = rest
        && (first.is("SESSION") || first.is("LOCAL"))
    {
        at += 1;
        rest = more;
    }
    let [name, more @ ..] = rest else { return None };
    if SET_FORMS.iter().any(|form| name.is(form)) {
        return Some(Command::Harmless("SET"));
    }
    let name = name.name()?.to_ascii_lowercase();
    let value = match more {
        [sign, value @ ..] if sign.is("TO") || **sign == Word::Symbol("=".to_owned()) => value,
        _ => return None,
    };
    let value = match value {
        [] => return None,
        [word] if word.is("DEFAULT") => None,
        [Word::Text(text) | Word::Name(text)] => Some(text.clone()),
        _ => Some(statement.text_from(at + 2).to_owned()),
    };
    let ours = TABLE.iter().any(|row| row.name == name);
    if !ours && DRIVERS_SET.contains(&name.as_str()) {
        return Some(Command::Harmless("SET"));
    }
    Some(Command::Set { name, value })
}

/// What follows SET in a sentence without a setting's name: `SET TIME ZONE …`, `SET NAMES …`, `SET TRANSACTION …`.
const SET_FORMS: [&str; 7] = [
    "CHARACTERISTICS",
    "TIME",
    "NAMES",
    "TRANSACTION",
    "ROLE",
    "AUTHORIZATION",
    "CONSTRAINTS",
];

/// Parameters of `PostgreSQL` that drivers set when they connect. They have no meaning here.
const DRIVERS_SET: [&str; 22] = [
    "application_name",
    "backslash_quote",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "row_security",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronize_seqscans",
    "synchronous_commit",
    "timezone",
];

/// A question that drivers ask by themselves, and its answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The question's words behind SHOW or SELECT, in small letters.
    words: &'static [&'static str],
    /// What answers it.
    pub(super) column: super::rows::Column,
    /// The answer.
    pub(super) value: &'static str,
    /// What the completion says.
    tag: &'static str,
}

impl Known {
    fn find(all: &'static [Self], rest: &[&Word]) -> Option<&'static Self> {
        let same = |known: &&Self| {
            known.words.len() == rest.len()
                && known.words.iter().zip(rest).all(|(known, word)| match word {
                    Word::Bare(word) | Word::Name(word) => word.eq_ignore_ascii_case(known),
                    Word::Symbol(symbol) => symbol == known,
                    Word::Text(_) => false,
                })
        };
        all.iter().find(same)
    }
}

const fn parameter(words: &'static [&'static str], name: &'static str, value: &'static str) -> Known {
    Known {
        words,
        column: super::rows::text(name),
        value,
        tag: "SHOW",
    }
}

const fn answer(words: &'static [&'static str], column: super::rows::Column, value: &'static str) -> Known {
    let tag = "SELECT 1";
    Known {
        words,
        column,
        value,
        tag,
    }
}

static PARAMETERS: [Known; 6] = [
    parameter(&["client_encoding"], "client_encoding", "UTF8"),
    parameter(
        &["standard_conforming_strings"],
        "standard_conforming_strings",
        "on",
    ),
    parameter(&["datestyle"], "DateStyle", "ISO"),
    parameter(&["timezone"], "TimeZone", "GMT"),
    parameter(
        &["default_transaction_isolation"],
        "default_transaction_isolation",
        "read committed",
    ),
    parameter(
        &["transaction", "isolation", "level"],
        "transaction_isolation",
        "read committed",
    ),
];

static ANSWERS: [Known; 4] = [
    answer(&["1"], super::rows::int4("?column?"), "1"),
    answer(
        &["version", "(", ")"],
        super::rows::text("version"),
        super::VERSION,
    ),
    answer(
        &["pg_catalog", ".", "version", "(", ")"],
        super::rows::text("version"),
        super::VERSION,
    ),
    // Pools of asyncpg say this when a connection is returned.
    answer(
        &["pg_advisory_unlock_all", "(", ")"],
        super::rows::text("pg_advisory_unlock_all"),
        "",
    ),
];

/// What SHOW HELP says.
pub(super) const HELP: &str = "
\tSHOW CLIENTS | SERVERS | SOCKETS | ACTIVE_SOCKETS
\tSHOW POOLS | DATABASES | USERS | LISTENERS | LISTS
\tSHOW STATS | STATS_TOTALS | STATS_AVERAGES | TOTALS
\tSHOW CONFIG | STATE | VERSION | MEM | DNS_HOSTS | DNS_ZONES
\tSHOW PEERS | PEER_POOLS | HELP
\tSET name = value
\tRELOAD
\tPAUSE [database]
\tRESUME [database]
\tRECONNECT [database]
\tWAIT_CLOSE [database]
\tDISABLE database
\tENABLE database
\tKILL [database]
\tKILL_CLIENT id
\tSHUTDOWN [WAIT_FOR_SERVERS | WAIT_FOR_CLIENTS]";

#[cfg(test)]
mod tests {
    use super::super::words::statements;
    use super::*;

    fn parsed(text: &str) -> Result<Command, Refusal> {
        Command::parse(&statements(text).unwrap()[0])
    }

    fn set(name: &str, value: Option<&str>) -> Command {
        Command::Set {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        }
    }

    #[test]
    fn commands_are_read_as_pgbouncer_reads_them() {
        for (text, wanted) in [
            ("show Pools", Command::Show(Show::Pools)),
            ("SHOW \"pools\" ;", Command::Show(Show::Pools)),
            ("/* now */ pause", Command::Pause(None)),
            ("PAUSE MyDb", Command::Pause(Some("MyDb".to_owned()))),
            ("PAUSE \"my \"\"db\"", Command::Pause(Some("my \"db".to_owned()))),
            ("resume 1db", Command::Resume(Some("1db".to_owned()))),
            ("RECONNECT a", Command::Reconnect(Some("a".to_owned()))),
            ("KILL", Command::Kill(None)),
            ("WAIT_CLOSE a", Command::WaitClose(Some("a".to_owned()))),
            ("disable a", Command::Disable("a".to_owned())),
            ("kill_client 42", Command::KillClient(42)),
            ("SHUTDOWN", Command::Shutdown(Shutdown::Immediate)),
            (
                "shutdown wait_for_servers",
                Command::Shutdown(Shutdown::WaitForServers),
            ),
            (
                "shutdown wait_for_clients",
                Command::Shutdown(Shutdown::WaitForClients),
            ),
            (
                "DEALLOCATE PREPARE \"a\"",
                Command::Deallocate(Some("a".to_owned())),
            ),
            ("set a=1", set("a", Some("1"))),
            ("SET Pool_Mode TO session;", set("pool_mode", Some("session"))),
            (
                "SET server_lifetime = 1h 5min",
                set("server_lifetime", Some("1h 5min")),
            ),
            ("SET admin_users = 'a, b'", set("admin_users", Some("a, b"))),
            ("SET admin_users = a, b", set("admin_users", Some("a, b"))),
            ("SET a = -1", set("a", Some("-1"))),
            ("SET a = \"b\"", set("a", Some("b"))),
            ("SET a = ''", set("a", Some(""))),
            ("SET a TO DEFAULT", set("a", None)),
            // One of PostgreSQL 17 and one of howdah: here it is howdah's.
            (
                "SET transaction_timeout = 5",
                set("transaction_timeout", Some("5")),
            ),
            ("SET LOCAL TimeZone = 'UTC'", Command::Harmless("SET")),
        ] {
            assert_eq!(parsed(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (text, code) in [
            ("PAUSE a b", SqlState::SYNTAX_ERROR),
            ("PAUSE my-db", SqlState::SYNTAX_ERROR),
            ("PAUSE 'a'", SqlState::SYNTAX_ERROR),
            ("RELOAD now", SqlState::SYNTAX_ERROR),
            ("SHUTDOWN please", SqlState::SYNTAX_ERROR),
            ("ENABLE", SqlState::SYNTAX_ERROR),
            ("KILL_CLIENT", SqlState::SYNTAX_ERROR),
            ("KILL_CLIENT -1", SqlState::SYNTAX_ERROR),
            ("SET a", SqlState::SYNTAX_ERROR),
            ("SET a =", SqlState::SYNTAX_ERROR),
            ("SET", SqlState::SYNTAX_ERROR),
            ("SHOW", SqlState::SYNTAX_ERROR),
            ("SHOW a b", SqlState::SYNTAX_ERROR),
            ("SHOW anything", SqlState::UNDEFINED_OBJECT),
            ("SELECT 2", SqlState::SYNTAX_ERROR),
            ("DROP TABLE pools", SqlState::SYNTAX_ERROR),
            ("'SHOW'", SqlState::SYNTAX_ERROR),
        ] {
            assert_eq!(parsed(text).map_err(|refusal| refusal.code), Err(code), "{text}");
        }
    }

    #[test]
    fn values_do_not_get_into_the_log() {
        let command = parsed("SET connect_query = 'secret'").unwrap();
        assert_eq!(command.spoken(), "SET connect_query");
        assert_eq!(parsed("PAUSE").unwrap().spoken(), "PAUSE");
        assert_eq!(parsed("KILL_CLIENT 7").unwrap().spoken(), "KILL_CLIENT 7");
    }

    #[test]
    fn the_help_knows_every_table() {
        for (name, _) in super::super::show::TABLES {
            assert!(HELP.contains(&name.to_uppercase()), "{name}");
        }
    }
}
