//! The log: how it is set up, how it is kept from flooding, and the one line that every connection ends with.

mod outlet;

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle as Reload};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::client::Handle;
use crate::config::LogFormat;
use crate::farewell::Farewell;

use outlet::Outlet;

/// The running log, to change its level by.
#[derive(Clone, Debug)]
pub struct Log {
    filter: Reload<EnvFilter, Registry>,
}

/// Starts to log to standard error. The error says what is wrong with `level`, or that somebody else logs already.
pub fn start(format: LogFormat, level: &str) -> Result<Log, String> {
    use std::io::IsTerminal;
    let (filter, handle) = reload::Layer::new(parsed(level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            let layer = fmt::layer()
                .fmt_fields(fields())
                .with_writer(Outlet::new(std::io::stderr(), format))
                .with_ansi(ansi);
            registry.with(layer).try_init()
        }
        LogFormat::Json => {
            let layer = fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(Outlet::new(std::io::stderr(), format));
            registry.with(layer).try_init()
        }
    };
    started.map_err(|error| error.to_string())?;
    Ok(Log { filter: handle })
}

#[cfg(test)]
impl Log {
    /// One that nobody reads.
    pub(crate) fn silent() -> Self {
        let (_, filter) = reload::Layer::new(EnvFilter::new("off"));
        Self { filter }
    }
}

impl Log {
    /// From now on logs at this level; see `log_level` in the reference.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        self.filter
            .reload(parsed(level)?)
            .map_err(|error| error.to_string())
    }
}

/// Writes the fields of a line of text. Whatever a peer has put into one, it cannot begin a new line nor paint the
/// terminal: fields that are text of somebody else's making come in quotes or go through here.
fn fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    let write_field = |writer: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug| {
        let value = escaped(&format!("{value:?}"));
        match field.name() {
            "message" => write!(writer, "{value}"),
            name if writer.has_ansi_escapes() => {
                write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}")
            }
            name => write!(writer, "{name}={value}"),
        }
    };
    debug_fn(write_field).delimited(" ")
}

/// The text with everything escaped that is not to be printed.
fn escaped(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' | '\'' | '\\' => clean.push(char),
            _ => clean.extend(char.escape_debug()),
        }
    }
    clean
}

fn parsed(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|error| format!("log_level \"{level}\": {error}"))
}

/// Keeps a message that is said over and over from filling the log: of each key no more than so many in an interval.
#[derive(Debug)]
pub struct RateLimit {
    max: u32,
    interval: Duration,
    keys: Mutex<HashMap<String, Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    said: u32,
    kept_back: u64,
}

/// Keys that are remembered; beyond it the memory begins anew, for keys may come from strangers.
const KEYS_MAX: usize = 1000;

impl RateLimit {
    /// At most `max` of each key in each `interval`.
    pub fn new(max: u32, interval: Duration) -> Self {
        Self {
            max,
            interval,
            keys: Mutex::default(),
        }
    }

    /// Whether to say it. If so: how many of the same have been kept back since one was said last.
    pub fn admit(&self, key: &str, now: Instant) -> Option<u64> {
        let mut keys = self.keys.lock();
        if keys.len() >= KEYS_MAX && !keys.contains_key(key) {
            keys.retain(|_, window| now.duration_since(window.since) < self.interval);
            if keys.len() >= KEYS_MAX {
                keys.clear();
            }
        }
        let new = Window {
            since: now,
            said: 0,
            kept_back: 0,
        };
        let window = keys.entry(key.to_owned()).or_insert(new);
        if now.duration_since(window.since) >= self.interval {
            window.since = now;
            window.said = 0;
        }
        if window.said >= self.max {
            window.kept_back += 1;
            return None;
        }
        window.said += 1;
        Some(std::mem::take(&mut window.kept_back))
    }
}

/// Says how many of a message were kept back; nothing if none were.
pub fn repeated(kept_back: u64) -> String {
    match kept_back {
        0 => String::new(),
        1 => " (repeated once)".to_owned(),
        count => format!(" (repeated {count} times)"),
    }
}

/// Who is leaving, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Leaver<'a> {
    /// The client's id; 0 if it never got one.
    pub id: u64,
    /// The role; empty if it never said.
    pub user: &'a str,
    /// The database; empty if it never said.
    pub database: &'a str,
    /// Its address.
    pub peer: &'a crate::net::PeerAddr,
}

impl<'a> From<&'a Handle> for Leaver<'a> {
    fn from(handle: &'a Handle) -> Self {
        Self {
            id: handle.id,
            user: &handle.user,
            database: &handle.database,
            peer: &handle.peer,
        }
    }
}

/// Writes the line that a connection ends with; `note` is what the client was not told. Names are written as they came,
/// in quotes, with control characters escaped.
pub fn log_disconnect(leaver: Leaver<'_>, farewell: &Farewell, note: Option<&str>, after: Duration) {
    let Leaver {
        id,
        user,
        database,
        peer,
    } = leaver;
    let reason = farewell.label();
    let seconds = (after.as_secs_f64() * 1000.0).round() / 1000.0;
    let why = why(farewell);
    match farewell {
        Farewell::CancelRequest => {
            tracing::debug!(client = id, user, database, %peer, reason, seconds, why, "client left");
        }
        Farewell::Terminated
        | Farewell::Vanished
        | Farewell::ClientIo(_)
        | Farewell::Administrator(_)
        | Farewell::Finished => {
            tracing::info!(client = id, user, database, %peer, reason, seconds, why, "client left");
        }
        Farewell::LoginRefused(denial, _) => {
            let denial = denial.label();
            tracing::warn!(client = id, user, database, %peer, reason, denial, seconds, why, note, "client left");
        }
        Farewell::ClientProtocol(_)
        | Farewell::Limit(_)
        | Farewell::ServerLost(_)
        | Farewell::ServerProtocol(_) => {
            tracing::warn!(client = id, user, database, %peer, reason, seconds, why, "client left");
        }
    }
}

/// The reason in words.
fn why(farewell: &Farewell) -> String {
    match farewell.refusal() {
        Some(refusal) => refusal.to_string(),
        None => farewell.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;
    use crate::error::{Refusal, SqlState};
    use crate::farewell::Denial;
    use crate::net::PeerAddr;

    #[tokio::test(start_paused = true)]
    async fn a_repeated_message_is_counted_instead() {
        let limit = RateLimit::new(2, Duration::from_secs(10));
        let admit = |key| limit.admit(key, Instant::now());
        assert_eq!(
            [admit("a"), admit("a"), admit("a"), admit("a")],
            [Some(0), Some(0), None, None]
        );
        assert_eq!(admit("b"), Some(0), "keys do not count for each other");
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(admit("a"), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!([admit("a"), admit("a"), admit("a")], [Some(3), Some(0), None]);
        assert_eq!(repeated(3), " (repeated 3 times)");
        assert_eq!(
            (repeated(1).as_str(), repeated(0).as_str()),
            (" (repeated once)", "")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_cannot_fill_the_memory_with_keys() {
        let limit = RateLimit::new(1, Duration::from_secs(10));
        for key in 0..5 * KEYS_MAX {
            limit.admit(&key.to_string(), Instant::now());
            assert!(limit.keys.lock().len() <= KEYS_MAX);
        }
    }

    #[test]
    fn levels_are_words_or_directives() {
        for level in ["info", "warn", "info,howdah::pool=debug"] {
            assert!(parsed(level).is_ok(), "{level}");
        }
        assert!(
            parsed("howdah=loud")
                .unwrap_err()
                .starts_with("log_level \"howdah=loud\": ")
        );
    }

    /// What would have been written to standard error.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(user: &str, farewell: &Farewell) -> String {
        let leaver = Leaver {
            id: 7,
            user,
            database: "app",
            peer: &PeerAddr::Tcp("10.0.0.9:4711".parse().unwrap()),
        };
        written(|| log_disconnect(leaver, farewell, Some("a note"), Duration::from_millis(1500)))
    }

    fn written(log: impl FnOnce()) -> String {
        let paper = Paper::default();
        let writer = paper.clone();
        let layer = fmt::layer()
            .fmt_fields(fields())
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let registry = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(registry, log);
        let written = paper.0.lock().clone();
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn a_disconnect_is_one_line_with_a_reason() {
        let refusal = Refusal::new(SqlState::QUERY_CANCELED, "query_wait_timeout").detail("It waited 2 s.");
        let line = line("bob", &Farewell::Limit(refusal));
        assert_eq!(line.lines().count(), 1);
        for part in [
            " WARN ",
            "client left",
            "client=7",
            "user=\"bob\"",
            "database=\"app\"",
            "peer=10.0.0.9:4711",
            "reason=\"limit\"",
            "seconds=1.5",
            "why=\"query_wait_timeout (57014): It waited 2 s.\"",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn a_refused_login_is_logged_with_its_reason_and_what_the_client_was_not_told() {
        let refusal = Refusal::new(SqlState::INVALID_PASSWORD, "no");
        let line = line("bob", &Farewell::LoginRefused(Denial::Password, refusal));
        for part in [
            "reason=\"login_refused\"",
            "denial=\"password\"",
            "note=\"a note\"",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn nothing_that_a_peer_says_forges_a_line_whatever_field_it_comes_in() {
        let evil = "x\n2026 INFO forged\u{1b}[31m\r\u{202e}y";
        let refusal = Refusal::new(SqlState::INTERNAL_ERROR, evil);
        let line = written(|| tracing::info!(pool = %evil, %refusal, name = evil, ?refusal, "{evil}"));
        assert_eq!(line.lines().count(), 1, "{line}");
        let fine = |char: char| char == '\n' || !char.is_control() && char != '\u{202e}';
        assert!(line.chars().all(fine), "{line}");
        assert!(line.contains("pool=x\\n2026"), "{line}");
    }

    #[test]
    fn names_cannot_forge_lines() {
        let line = line("bob\n2026 INFO forged\u{1b}[31m", &Farewell::Vanished);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!line.contains('\u{1b}') && line.contains(" INFO "), "{line}");
    }
}
