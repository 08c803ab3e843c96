//! What a client asks for in its startup message, and what its session is set to in consequence.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::Config;
use crate::error::{Refusal, SqlState};
use crate::farewell::{Denial, Farewell};
use crate::pool::{Pool, Servers, Waiter};
use crate::server::{
    Chosen, Connection, Extra, Failure, IDLE_SESSION_TIMEOUT, Parameters, Settings, is_outranked, wished,
};
use crate::stats::Tally;
use crate::wire::startup::{Startup, split_options};

use crate::client::session::DEAD_SERVERS_MAX;
use crate::client::talk::marks::Own;

/// Longer application names are cut, as PostgreSQL does (`NAMEDATALEN` less one).
const APPLICATION_NAME_MAX: usize = 63;

/// A startup message, understood.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::client) struct Wishes {
    pub(in crate::client) user: String,
    pub(in crate::client) database: String,
    /// The value of `replication`, if it asks for a walsender.
    pub(in crate::client) replication: Option<Vec<u8>>,
    pub(in crate::client) application_name: Option<Vec<u8>>,
    /// All other settings, names in lower case, in the order in which they take effect.
    pub(in crate::client) settings: Vec<(String, Vec<u8>)>,
}

impl Wishes {
    /// Reads a startup message.
    pub(in crate::client) fn new(startup: &Startup, config: &Config) -> Result<Self, Refusal> {
        let user = text(startup.get("user").unwrap_or_default(), "user")?;
        if user.is_empty() {
            let message = "no PostgreSQL user name specified in startup packet";
            return Err(Refusal::new(SqlState::INVALID_AUTHORIZATION, message));
        }
        let database = text(startup.get("database").unwrap_or_default(), "database")?;
        let mut wishes = Self {
            database: if database.is_empty() {
                user.clone()
            } else {
                database
            },
            user,
            replication: None,
            application_name: None,
            settings: Vec::new(),
        };
        let ignored = &config.settings.ignore_startup_parameters;
        // PostgreSQL reads `options` first, so that parameters of their own go before it.
        if let Some(options) = startup.get("options")
            && !ignored.iter().any(|name| name == "options")
        {
            let options = text(options, "options")?;
            let found = split_options(&options).map_err(|word| bad_option(&word))?;
            for (name, value) in found {
                wishes.wish(&name, value.into_bytes(), ignored);
            }
        }
        for (name, value) in &startup.parameters {
            match name.as_str() {
                "user" | "database" | "options" => {}
                "replication" => wishes.replication = wants_walsender(value)?.then(|| value.clone()),
                name if name.starts_with("_pq_.") => {}
                name => wishes.wish(name, value.clone(), ignored),
            }
        }
        Ok(wishes)
    }

    /// Whether a walsender without a database is wanted.
    pub(super) fn is_physical_replication(&self) -> bool {
        self.replication
            .as_deref()
            .is_some_and(|value| value != b"database")
    }

    fn wish(&mut self, name: &str, value: Vec<u8>, ignored: &[String]) {
        let name = name.to_ascii_lowercase();
        if name == "application_name" {
            self.application_name = Some(value);
        } else if !ignored.iter().any(|have| have.eq_ignore_ascii_case(&name)) {
            self.settings.retain(|(have, _)| *have != name);
            self.settings.push((name, value));
        }
    }
}

/// Whether a walsender is wanted, read as PostgreSQL reads it: a session of one's own must not be had by a word that
/// PostgreSQL takes for no.
fn wants_walsender(value: &[u8]) -> Result<bool, Refusal> {
    let word = value.to_ascii_lowercase();
    let begins = |whole: &[u8], least: usize| word.len() >= least && whole.starts_with(&word);
    if value == b"database" || begins(b"true", 1) || begins(b"yes", 1) || word == b"on" || word == b"1" {
        Ok(true)
    } else if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || word == b"0" {
        Ok(false)
    } else {
        let message = format!(
            "invalid value for parameter \"replication\": \"{}\"",
            String::from_utf8_lossy(value)
        );
        let hint = "Valid values are: \"false\", 0, \"true\", 1, \"database\".";
        Err(Refusal::new(SqlState::INVALID_PARAMETER_VALUE, message).hint(hint))
    }
}

fn text(bytes: &[u8], what: &str) -> Result<String, Refusal> {
    let invalid = |_| {
        Refusal::new(
            SqlState::PROTOCOL_VIOLATION,
            format!("startup parameter {what} is not valid UTF-8"),
        )
    };
    String::from_utf8(bytes.to_vec()).map_err(invalid)
}

fn bad_option(word: &str) -> Refusal {
    Refusal::new(
        SqlState::SYNTAX_ERROR,
        format!("invalid command-line argument for server process: {word}"),
    )
    .hint("Only settings can be given in \"options\": -c name=value or --name=value.")
}

/// What the session of a client with these wishes is set to. Wishes that have not been tried before are tried on a
/// server, whose error is the client's if they cannot be had. `gone` ends the wait for that server, and nothing else: a
/// trial that has begun is brought to its end.
pub(super) async fn settle(
    wishes: &Wishes,
    pool: &Arc<Pool<Servers>>,
    gone: impl Future<Output = Farewell>,
) -> Result<Settings, Farewell> {
    let servers = pool.source();
    let mut settings = if let Some(settings) = servers.welcome(&wishes.settings) {
        settings
    } else {
        let settings = Box::pin(try_on_the_living(wishes, pool, gone)).await?;
        servers.remember_welcome(wishes.settings.clone(), settings)
    };
    if let Some(name) = &wishes.application_name {
        let name = application_name(name, &settings.reported);
        if settings
            .reported
            .get(b"application_name")
            .is_some_and(|have| have != name)
        {
            Arc::make_mut(&mut settings.reported).set(b"application_name", &name);
            settings.reported = servers.intern(&settings.reported);
        }
    }
    Ok(settings)
}

/// What the client has asked for, and what `connect_query` has set, as its session has it: RESET leads back to that.
pub(super) fn own_values(wishes: &Wishes, settings: &Settings, begun_with: &[Box<[u8]>]) -> Arc<[Own]> {
    let names = wishes.settings.iter().map(|(name, _)| name.as_str());
    let names = names.filter(|name| !is_outranked(name));
    let asked_for = names.chain(wishes.application_name.as_ref().map(|_| "application_name"));
    let asked_for: Vec<_> = asked_for.map(str::as_bytes).collect();
    let begun_with = begun_with.iter().map(|name| &**name);
    let all = begun_with
        .filter(|name| !asked_for.contains(name))
        .chain(asked_for.iter().copied());
    let value = |name: &[u8]| {
        let reported = settings.reported.spelling(name);
        let value = reported.and_then(|name| settings.reported.get(name));
        value.or_else(|| settings.extra.get(name))
    };
    let own: Vec<Own> = all
        .filter_map(|name| Some((name.into(), value(name)?.into())))
        .collect();
    // Without any, which is the rule where poolers are in front of each other, nothing is allocated.
    if own.is_empty() {
        Arc::default()
    } else {
        own.into()
    }
}

/// A server that turns out to be dead says nothing about the wishes: the next one is asked. Nor does one that others have
/// had, if it refuses them: a new one is asked in its place, unless one has refused the same a moment ago.
async fn try_on_the_living(
    wishes: &Wishes,
    pool: &Arc<Pool<Servers>>,
    gone: impl Future<Output = Farewell>,
) -> Result<Settings, Farewell> {
    let mut gone = pin!(gone);
    let mut waiter = Waiter::new();
    let mut replaced = None;
    let mut tries = 1;
    loop {
        let mut lease = if let Some(lease) = replaced.take() {
            lease
        } else {
            tokio::select! {
                biased;
                lease = pool.lease(&mut waiter, 0) =>
                    lease.map_err(|error| Farewell::LoginRefused(Denial::Server, error.refusal()))?,
                farewell = gone.as_mut() => return Err(farewell),
            }
        };
        let (denial, failure) = match try_out(wishes, &mut lease).await {
            Ok(settings) => {
                for change in lease.take_new_defaults() {
                    pool.source().has_new_default(&change);
                }
                lease.release_at_rest(Instant::now(), &mut Tally::default());
                return Ok(settings);
            }
            Err(failure @ Failure::Lost(_)) => (Denial::Server, failure),
            Err(Failure::Sql(refusal)) if is_final(&refusal, wishes, lease.is_new(), pool.source()) => {
                lease.release_at_rest(Instant::now(), &mut Tally::default());
                return Err(Farewell::LoginRefused(Denial::Startup, refusal));
            }
            Err(failure) => {
                replaced = lease.replaced().await;
                (Denial::Startup, failure)
            }
        };
        tries += 1;
        if tries > DEAD_SERVERS_MAX {
            return Err(Farewell::LoginRefused(denial, failure.refusal()));
        }
    }
}

/// Whether a refusal is what a new server says, and would say again.
fn is_final(refusal: &Refusal, wishes: &Wishes, is_new: bool, servers: &Servers) -> bool {
    if !is_new {
        return servers.would_be_refused(&wishes.settings, refusal.code);
    }
    servers.remember_refused(wishes.settings.clone(), refusal.code);
    true
}

/// Sets a server to what a startup message asks for, and tells what that is.
async fn try_out(wishes: &Wishes, server: &mut Connection) -> Result<Settings, Failure> {
    let baseline = server.baseline.clone();
    server.align(&baseline).await?;
    for query in wished(&wishes.settings) {
        server.run(&query).await?;
    }
    let reported = server.settings.reported.clone();
    let mut extra = Extra::clone(&baseline.extra);
    for (name, value) in &wishes.settings {
        if reported.spelling(name.as_bytes()).is_none() {
            extra.put(name.as_bytes(), Some(value));
        }
    }
    let asked_for = wishes.settings.iter().map(|(name, _)| name.as_bytes());
    let settings = Settings {
        reported: reported.clone(),
        extra: Arc::new(extra),
        chosen: Chosen::among(asked_for).union(baseline.chosen),
    };
    server.outdate_plans(baseline.outdated_for(&settings));
    server.settings.extra = settings.extra.clone();
    server.settings.chosen = settings.chosen;
    server.see(&settings.extra);
    if settings.extra.get(IDLE_SESSION_TIMEOUT).is_some() {
        server.disturb();
    }
    Ok(settings)
}

/// An application name as PostgreSQL would report it.
fn application_name(name: &[u8], reported: &Parameters) -> Vec<u8> {
    let version = reported.get(b"server_version").unwrap_or_default();
    let major = version
        .split(|byte| !byte.is_ascii_digit())
        .next()
        .unwrap_or_default();
    // Up to 15 it puts a question mark for what is not printable ASCII, from 16 on an escape.
    let escapes = !(major.len() == 1 || (major.len() == 2 && major < &b"16"[..]));
    let mut clean = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b' '..=b'~' => clean.push(byte),
            _ if escapes => clean.extend(format!("\\x{byte:02x}").bytes()),
            _ => clean.push(b'?'),
        }
    }
    clean.truncate(APPLICATION_NAME_MAX);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::startup::PROTOCOL_3_0;

    fn wishes(pairs: &[(&str, &str)]) -> Result<Wishes, Refusal> {
        let parameters = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        Wishes::new(
            &Startup {
                protocol: PROTOCOL_3_0,
                parameters,
            },
            &Config::default(),
        )
    }

    #[test]
    fn the_database_is_the_user_unless_said_otherwise() {
        assert_eq!(wishes(&[("user", "u")]).unwrap().database, "u");
        assert_eq!(wishes(&[("user", "u"), ("database", "d")]).unwrap().database, "d");
        assert_eq!(
            wishes(&[("database", "d")]).unwrap_err().code,
            SqlState::INVALID_AUTHORIZATION
        );
    }

    #[test]
    fn parameters_go_before_options_and_the_last_one_wins() {
        let wishes = wishes(&[
            ("user", "u"),
            ("TimeZone", "UTC"),
            (
                "options",
                "-c timezone=CET -c statement_timeout=5s --application-name=x",
            ),
            ("application_name", "y"),
            ("_pq_.thing", "1"),
        ])
        .unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        assert_eq!(
            wishes.settings,
            [pair("statement_timeout", "5s"), pair("timezone", "UTC")]
        );
        assert_eq!(wishes.application_name.as_deref(), Some(&b"y"[..]));
    }

    #[test]
    fn replication_is_asked_for_by_name_or_by_a_word_for_yes() {
        for (value, wanted) in [
            ("true", true),
            ("database", true),
            ("on", true),
            ("off", false),
            ("0", false),
            ("FALSE", false),
            ("f", false),
            ("of", false),
            ("No", false),
            ("TRUE", true),
        ] {
            let wishes = wishes(&[("user", "u"), ("replication", value)]).unwrap();
            assert_eq!(wishes.replication.is_some(), wanted, "{value}");
        }
        for value in ["", "o", "maybe", "Database"] {
            let refusal = wishes(&[("user", "u"), ("replication", value)]).unwrap_err();
            assert_eq!(refusal.code, SqlState::INVALID_PARAMETER_VALUE, "{value}");
        }
    }

    #[test]
    fn application_names_are_cleaned_as_the_server_cleans_them() {
        let mut reported = Parameters::default();
        reported.set(b"server_version", b"15.4 (Debian)");
        assert_eq!(application_name("a\u{e9}\n".as_bytes(), &reported), b"a???");
        reported.set(b"server_version", b"16.1");
        assert_eq!(application_name(b"a\n", &reported), b"a\\x0a");
        assert_eq!(application_name(&[b'x'; 100], &reported).len(), 63);
    }
}
