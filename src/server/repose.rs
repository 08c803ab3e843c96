//! `idle_session_timeout`: PostgreSQL would end a server for being idle in its pool. So servers in a pool have none, and
//! what clients have is enforced on the clients.

use std::time::Duration;

use super::settings::assignments;
use super::{Connection, Extra, Failure};

/// The setting's name.
pub const IDLE_SESSION_TIMEOUT: &[u8] = b"idle_session_timeout";
/// What a server in a pool has where new sessions have a limit: the longest there is, 24 days. Not 0, which a client
/// may have chosen: what no client would choose tells that none has chosen anything.
const AT_REST: &str = "2147483647ms";
/// Since when there is the setting.
const SINCE: u32 = 14;
/// Sets it aside where there is one, and tells what it was; and how long a transaction may be idle.
const SET_ASIDE: &str = "SELECT now, pg_catalog.current_setting('idle_in_transaction_session_timeout'), CASE WHEN now OPERATOR(pg_catalog.<>) '0' THEN \
pg_catalog.set_config('idle_session_timeout', '2147483647ms', false) END \
FROM pg_catalog.current_setting('idle_session_timeout') AS now";

/// How long a session may be idle by PostgreSQL's own settings; `None` without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleLimits {
    /// Outside of transactions.
    pub session: Option<Duration>,
    /// Within one.
    pub transaction: Option<Duration>,
}

impl IdleLimits {
    /// Those of a session with these settings, where new ones have `self`.
    #[must_use]
    pub fn with(self, extra: &Extra) -> Self {
        let own = |name: &[u8], new: Option<Duration>| extra.get(name).map_or(new, idle_limit);
        Self {
            session: own(IDLE_SESSION_TIMEOUT, self.session),
            transaction: own(b"idle_in_transaction_session_timeout", self.transaction),
        }
    }
}

/// How a server stands to the limit on idleness.
#[derive(Debug, Default)]
pub(super) struct Repose {
    /// What new sessions have, if it is a limit.
    limit: Option<Box<[u8]>>,
    /// How long new sessions may be idle in a transaction.
    in_transaction: Option<Duration>,
    /// The session may have another value than that of a server at rest.
    is_disturbed: bool,
}

impl Connection {
    /// Learns what new sessions have, and brings this one to rest.
    pub(super) async fn learn_idle_limit(&mut self) -> Result<(), Failure> {
        if self.major_version() < SINCE {
            return Ok(());
        }
        match self.query(SET_ASIDE.as_bytes()).await {
            Ok(results) => {
                let mut row = results.into_iter().flatten().flatten().flatten();
                self.repose.limit = row.next().filter(|value| **value != *b"0");
                self.repose.in_transaction = row.next().and_then(|value| idle_limit(&value));
                Ok(())
            }
            // Something that only looks like PostgreSQL.
            Err(Failure::Sql(_)) => Ok(()),
            Err(lost) => Err(lost),
        }
    }

    /// How long new sessions may be idle.
    pub fn idle_limits(&self) -> IdleLimits {
        IdleLimits {
            session: self.repose.limit.as_deref().and_then(idle_limit),
            transaction: self.repose.in_transaction,
        }
    }

    /// Whether this is the setting with a value that is nobody's choice.
    pub fn is_at_rest_with(&self, name: &[u8], value: &[u8]) -> bool {
        name == IDLE_SESSION_TIMEOUT && self.repose.limit.is_some() && value == AT_REST.as_bytes()
    }

    /// The session may have got a value with which it cannot go back to its pool.
    pub fn disturb(&mut self) {
        self.repose.is_disturbed = true;
    }

    /// The session has, or may have, the value of a new one again.
    pub fn may_be_as_new(&mut self) {
        self.repose.is_disturbed |= self.repose.limit.is_some();
    }

    /// Whether it could be ended for being idle if it went back to its pool as it is.
    pub fn is_disturbed(&self) -> bool {
        self.repose.is_disturbed
    }

    /// Gives a server that a session keeps to its end what a new session has.
    pub async fn limit_idleness(&mut self) -> Result<(), Failure> {
        if self.repose.limit.is_none() || self.repose.is_disturbed {
            return Ok(());
        }
        self.repose.is_disturbed = true;
        self.run("RESET idle_session_timeout").await
    }

    /// Brings a server that goes back to its pool to rest.
    pub async fn come_to_rest(&mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.repose.is_disturbed) || self.major_version() < SINCE {
            return Ok(());
        }
        if self.repose.limit.is_some() {
            let name = String::from_utf8_lossy(IDLE_SESSION_TIMEOUT).into_owned();
            self.run(assignments(&[(name, AT_REST.into())])).await?;
        } else {
            self.run("RESET idle_session_timeout").await?;
        }
        if self.settings.extra.get(IDLE_SESSION_TIMEOUT).is_some() {
            std::sync::Arc::make_mut(&mut self.settings.extra).put(IDLE_SESSION_TIMEOUT, None);
        }
        Ok(())
    }
}

/// How long a session with this value may be idle, as PostgreSQL reads and writes it; `None` without limit.
fn idle_limit(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let end = text.find(|letter: char| letter.is_ascii_alphabetic() || letter.is_ascii_whitespace());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit_ms = match unit.trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let ms = (number.parse::<f64>().ok()? * unit_ms).round();
    (ms >= 1.0).then(|| Duration::try_from_secs_f64(ms / 1000.0).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_units_are_read() {
        let ms = Duration::from_millis;
        for (value, wanted) in [
            ("0", None),
            ("0ms", None),
            ("5000", Some(ms(5000))),
            ("300ms", Some(ms(300))),
            ("5s", Some(ms(5000))),
            (" 5 s ", Some(ms(5000))),
            ("1.5min", Some(ms(90_000))),
            ("2h", Some(ms(7_200_000))),
            ("1d", Some(ms(86_400_000))),
            ("2000us", Some(ms(2))),
            ("100us", None),
            ("-1", None),
            ("", None),
            ("5 parsecs", None),
        ] {
            assert_eq!(idle_limit(value.as_bytes()), wanted, "{value}");
        }
    }
}
