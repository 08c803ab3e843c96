//! The settings of a simulated session, with PostgreSQL's rules for transactions, RESET and reports.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::sql::Setting;

/// What there is, how the server spells it, what new sessions have, and whether it is reported.
const KNOWN: [(&str, &str, bool); 22] = [
    ("application_name", "", true),
    ("client_encoding", "UTF8", true),
    ("DateStyle", "ISO, MDY", true),
    ("TimeZone", "UTC", true),
    ("IntervalStyle", "postgres", true),
    ("standard_conforming_strings", "on", true),
    ("integer_datetimes", "on", true),
    ("server_encoding", "UTF8", true),
    ("server_version", "15.4", true),
    ("is_superuser", "off", true),
    ("statement_timeout", "0", false),
    ("lock_timeout", "0", false),
    ("work_mem", "4MB", false),
    ("idle_session_timeout", "0", false),
    ("idle_in_transaction_session_timeout", "0", false),
    ("role", "none", false),
    ("array_nulls", "on", false),
    ("backslash_quote", "safe_encoding", false),
    ("lc_monetary", "C", false),
    ("timezone_abbreviations", "Default", false),
    ("transform_null_equals", "off", false),
    ("xmloption", "content", false),
];
/// What clients are shown of their sessions with every row.
const SHOWN: [&str; 7] = [
    "application_name",
    "datestyle",
    "timezone",
    "statement_timeout",
    "lock_timeout",
    "work_mem",
    "role",
];
/// Roles that everybody may take.
pub(super) const ROLES: [&str; 2] = ["reader", "writer"];
/// One that nobody may take.
pub(super) const OTHERS_ROLE: &str = "stranger";
/// A value that no setting of PostgreSQL's own takes.
pub(super) const JUNK: &str = "junk";

type Values = BTreeMap<String, String>;

/// Whether a session may take a role.
fn may_take(role: &str) -> Result<(), (&'static [u8; 5], String)> {
    match role {
        "none" => Ok(()),
        role if ROLES.contains(&role) => Ok(()),
        OTHERS_ROLE => Err((b"42501", format!("permission denied to set role \"{role}\""))),
        role => Err((b"22023", format!("role \"{role}\" does not exist"))),
    }
}

/// The settings of one session.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    reset: Values,
    session: Values,
    local: Values,
    reported: Values,
}

impl Settings {
    /// Those of a session that began with these parameters.
    pub(super) fn new<'a>(user: &str, parameters: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let known = KNOWN.iter();
        let mut reset: Values = known
            .map(|(name, value, _)| (name.to_ascii_lowercase(), (*value).to_owned()))
            .collect();
        reset.insert("session_authorization".to_owned(), user.to_owned());
        reset.extend(parameters.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())));
        Self {
            reset,
            session: Values::new(),
            local: Values::new(),
            reported: Values::new(),
        }
    }

    /// What a setting is now; `None` if there is no such setting.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let layers = [&self.local, &self.session, &self.reset];
        layers
            .into_iter()
            .find_map(|layer| layer.get(name))
            .map(String::as_str)
    }

    /// Changes one. The error is the code and the words of PostgreSQL's.
    pub(super) fn set(&mut self, setting: &Setting) -> Result<(), (&'static [u8; 5], String)> {
        let name = &setting.name;
        let is_custom = name.contains('.');
        if !is_custom && !self.reset.contains_key(name) {
            let message = format!("unrecognized configuration parameter \"{name}\"");
            return Err((b"42704", message));
        }
        if !is_custom && setting.value.as_deref() == Some(JUNK) {
            let message = format!("invalid value for parameter \"{name}\": \"{JUNK}\"");
            return Err((b"22023", message));
        }
        if let ("role", Some(role)) = (name.as_str(), setting.value.as_deref()) {
            may_take(role)?;
        }
        let was_used = self.get(name).is_some();
        let empty = || (is_custom && was_used).then(String::new);
        let default = || self.reset.get(name).cloned().or_else(empty);
        let value = match (&setting.value, setting.is_local) {
            (Some(value), _) => Some(value.clone()),
            (None, true) => default(),
            // Without a value of the session's own, the first one counts again.
            (None, false) if self.reset.contains_key(name) => None,
            (None, false) => empty(),
        };
        let layer = if setting.is_local {
            &mut self.local
        } else {
            self.local.remove(name);
            &mut self.session
        };
        match value {
            Some(value) => layer.insert(name.clone(), value),
            None => layer.remove(name),
        };
        Ok(())
    }

    /// RESET ALL, which leaves the role where it is.
    pub(super) fn reset_all(&mut self) {
        self.local.retain(|name, _| name == "role");
        self.session.retain(|name, value| {
            if name == "role" {
                return true;
            }
            value.clear();
            name.contains('.') && !self.reset.contains_key(name)
        });
    }

    /// What DISCARD ALL does beside that.
    pub(super) fn reset_role(&mut self) {
        self.local.remove("role");
        self.session.remove("role");
    }

    /// The end of a transaction, which has failed where what was there `before` it is to be put back.
    pub(super) fn end(&mut self, before: Option<BTreeMap<String, String>>) {
        let used: Vec<String> = self.local.keys().chain(self.session.keys()).cloned().collect();
        self.local.clear();
        if let Some(before) = before {
            self.session = before;
        }
        // A custom setting that was used once is empty from then on.
        for name in used.into_iter().filter(|name| name.contains('.')) {
            if self.get(&name).is_none() {
                self.session.insert(name, String::new());
            }
        }
    }

    /// What the session has set, to be put back if a transaction fails.
    pub(super) fn save(&self) -> Values {
        self.session.clone()
    }

    /// What `pg_settings` says that the session has set.
    pub(super) fn of_session(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.session.iter().filter(|(name, _)| {
            !name.contains('.')
                && !name.ends_with("statement_timeout")
                && *name != "lock_timeout"
                && *name != "role"
        });
        own.map(|(name, value)| (name.as_str(), self.get(name).unwrap_or(value)))
    }

    /// What has changed of what is reported since it was last asked for.
    pub(super) fn reports(&mut self) -> Vec<(&'static str, String)> {
        let all = KNOWN.iter().filter(|(_, _, is_reported)| *is_reported);
        let names = all.map(|(name, ..)| *name).chain(["session_authorization"]);
        let mut changed = Vec::new();
        for name in names {
            let value = self
                .get(&name.to_ascii_lowercase())
                .unwrap_or_default()
                .to_owned();
            if self.reported.get(name) != Some(&value) {
                self.reported.insert(name.to_owned(), value.clone());
                changed.push((name, value));
            }
        }
        changed
    }

    /// All that is reported, as it was last told.
    pub(super) fn told(&self) -> &Values {
        &self.reported
    }

    /// What a client may know of its session, in one line.
    pub(super) fn fingerprint(&self) -> String {
        let mut line = String::new();
        for name in SHOWN {
            line.push('|');
            line.push_str(self.get(name).unwrap_or_default());
        }
        let layers = [&self.reset, &self.session, &self.local];
        let mut customs: Vec<&String> = layers.iter().flat_map(|layer| layer.keys()).collect();
        customs.retain(|name| name.contains('.') && self.get(name).is_some_and(|value| !value.is_empty()));
        customs.sort();
        customs.dedup();
        for name in customs {
            write!(line, "|{name}={}", self.get(name).unwrap_or_default()).expect("a string takes it");
        }
        line
    }
}
