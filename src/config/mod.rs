//! Settings, and where they come from.
//!
//! What somebody wrote (a file, a URL, the environment) is read into a [`Config`], the values that howdah runs on. It
//! never changes; a reload makes another. Whatever is wrong is reported at once, with its place.

mod check;
mod check_tls;
mod choice;
mod concealed;
mod conninfo;
mod database;
mod document;
mod env;
mod fault;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod load;
mod protocols;
mod quantity;
mod render;
mod secret;
mod settings;
mod table;
mod unknown;
mod user;
mod userlist;
mod value;
mod warnings;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use check::CONSOLE_NAMES;
pub use choice::{
    AuthType, ChannelBinding, Listen, ListenLost, LogFormat, Opaque, PoolMode, SessionState, SslMode,
    SslNegotiation,
};
pub use concealed::LdapOptions;
pub use database::{Database, Host};
pub use fault::{Fault, Faults};
pub use protocols::TlsVersions;
pub use render::{render_markdown, render_toml};
pub use secret::Secret;
pub use settings::{Overrides, PoolSettings, Settings, TABLE};
pub use table::{Change, Row, Scope};
pub use user::User;

use fault::Place;
use value::Raw;

/// Where a configuration is read from, and read again by RELOAD.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A TOML file.
    File(PathBuf),
    /// One `postgres://` URL, and `HOWDAH_<SETTING>` variables.
    Url(String),
    /// Environment variables alone.
    Env,
}

impl Source {
    /// What an argument of `howdah` means: a URL, a file, or, without one, the environment.
    pub fn from_argument(argument: Option<&str>) -> Self {
        match argument {
            Some(url) if conninfo::is_url(url) => Self::Url(url.to_owned()),
            Some(path) => Self::File(path.into()),
            None => Self::Env,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            // Without the URL, which may hold a password.
            Self::Url(_) => f.write_str("the URL"),
            Self::Env => f.write_str("the environment"),
        }
    }
}

/// All that howdah was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The values of `[howdah]`.
    pub settings: Settings,
    /// Databases by the names that clients ask for.
    pub databases: BTreeMap<String, Database>,
    /// The database `*`, for every other name.
    pub fallback: Option<Database>,
    /// Users by name: those of `[users]`, over those of the `auth_file`.
    pub users: BTreeMap<String, User>,
    /// Where all this came from.
    pub origin: Source,
}

/// Defaults, without a database or a user: something for tests to start from.
impl Default for Config {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            databases: BTreeMap::new(),
            fallback: None,
            users: BTreeMap::new(),
            origin: Source::Env,
        }
    }
}

impl Config {
    /// The database of that name, or the fallback under that name.
    pub fn database(&self, name: &str) -> Option<Cow<'_, Database>> {
        if let Some(database) = self.databases.get(name) {
            return Some(Cow::Borrowed(database));
        }
        let mut database = self.fallback.clone()?;
        database.dbname = Some(database.dbname_for(name).to_owned());
        name.clone_into(&mut database.name);
        Some(Cow::Owned(database))
    }

    /// What a pool of that database and user runs on. The user's value goes before the database's, as in PgBouncer.
    pub fn pool_settings(&self, database: &Database, user: &str) -> PoolSettings {
        let none = Overrides::default();
        let user = self.users.get(user).map_or(&none, |user| &user.overrides);
        PoolSettings::resolve(&self.settings, &database.overrides, user)
    }

    /// A file that a setting names: a relative path starts from the directory of the configuration file.
    pub fn path(&self, written: &str) -> PathBuf {
        match &self.origin {
            Source::File(file) => file.parent().map(|directory| directory.join(written)),
            Source::Url(_) | Source::Env => None,
        }
        .unwrap_or_else(|| written.into())
    }

    /// `SET name = value`: the configuration with one setting changed.
    pub fn set(&self, name: &str, value: &str) -> Result<Self, Fault> {
        let fault = |message| Fault::new(Place::nowhere(), message);
        let row = settings::row(name).ok_or_else(|| fault(unknown::setting(name)))?;
        if row.change == Change::Restart {
            return Err(fault(format!(
                "setting \"{name}\" can be changed only by a restart"
            )));
        }
        let mut changed = self.clone();
        (row.read)(&mut changed.settings, &Raw::text(value))
            .map_err(|message| fault(format!("{name}: {message}")))?;
        match check::findings(&changed)
            .into_iter()
            .find(|finding| !check::findings(self).contains(finding))
        {
            Some((_, message)) => Err(fault(message)),
            None => Ok(changed),
        }
    }

    /// The settings that differ from those that the process has `started` with, and take effect by a restart only.
    pub fn restart_needed(&self, started: &Settings) -> Vec<&'static str> {
        TABLE
            .iter()
            .filter(|row| row.change == Change::Restart)
            .filter(|row| (row.show)(&self.settings) != (row.show)(started))
            .map(|row| row.name)
            .collect()
    }

    /// `SHOW CONFIG`, in the order of the names: what is in force in a process that has `started` with these settings.
    pub fn rows(&self, started: &Settings) -> Vec<ConfigRow> {
        let row = |row: &'static Row| {
            let changeable = row.change == Change::Live;
            ConfigRow {
                name: row.name,
                value: (row.show)(if changeable { &self.settings } else { started }),
                default: row.default,
                changeable,
            }
        };
        let mut rows: Vec<_> = TABLE.iter().map(row).collect();
        rows.sort_by_key(|row| row.name);
        rows
    }

    /// What `howdah check` says about a sound configuration. Shows no secret.
    pub fn summary(&self) -> String {
        let settings = &self.settings;
        let mut lines = vec![format!("{} is sound", self.origin)];
        let port = settings.listen_port;
        let mut listening: Vec<_> = settings
            .listen_addr
            .iter()
            .map(|address| format!("{address} port {port}"))
            .collect();
        if !settings.unix_socket_dir.is_empty() {
            listening.push(format!("{}/.s.PGSQL.{port}", settings.unix_socket_dir));
        }
        lines.push(format!("listens on {}", listening.join(", ")));
        if settings.client_tls_sslmode != SslMode::Disable {
            lines.push(format!("TLS for clients: {}", settings.client_tls_sslmode));
        }
        for database in self.databases.values().chain(&self.fallback) {
            let pool = self.pool_settings(database, database.user.as_deref().unwrap_or_default());
            let hosts: Vec<_> = database.hosts.iter().map(Host::to_string).collect();
            let (name, dbname) = (&database.name, database.dbname_for("the name asked for"));
            let (hosts, mode, size) = (hosts.join(", "), pool.pool_mode, pool.pool_size);
            lines.push(format!(
                "database {name}: {dbname} on {hosts}, {mode} pools of {size}"
            ));
        }
        lines.push(format!(
            "{} users, {} authentication",
            self.users.len(),
            settings.auth_type
        ));
        lines.join("\n")
    }
}

/// One line of `SHOW CONFIG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigRow {
    /// The setting.
    pub name: &'static str,
    /// Its value; what `SET` would read.
    pub value: String,
    /// Its default, written alike.
    pub default: &'static str,
    /// Whether `SET` and RELOAD can change it.
    pub changeable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::for_url("postgres://bob:hunter2@db:5433/app?pool_size=7").unwrap()
    }

    #[test]
    fn argument_is_a_url_a_file_or_missing() {
        assert_eq!(
            Source::from_argument(Some("postgresql:///x")),
            Source::Url("postgresql:///x".to_owned())
        );
        assert_eq!(
            Source::from_argument(Some("howdah.toml")),
            Source::File("howdah.toml".into())
        );
        assert_eq!(Source::from_argument(None), Source::Env);
    }

    #[test]
    fn every_setting_survives_show_and_set() {
        let config = config();
        let mut changeable = 0;
        for row in config.rows(&config.settings) {
            match config.set(row.name, &row.value) {
                Ok(same) => assert_eq!(same, config, "{}", row.name),
                Err(fault) => assert!(!row.changeable, "{fault}"),
            }
            assert_eq!(row.value, row.default, "{}", row.name);
            changeable += usize::from(row.changeable);
        }
        assert_eq!(config.rows(&config.settings).len(), TABLE.len());
        assert!(changeable > 40);
    }

    #[test]
    fn set_changes_one_setting_and_leaves_the_old_configuration_alone() {
        let before = config();
        let after = before.set("query_wait_timeout", "90s").unwrap();
        assert_eq!(after.settings.query_wait_timeout.as_secs(), 90);
        assert_eq!(before, config());
        let shown = after
            .rows(&after.settings)
            .into_iter()
            .find(|row| row.name == "query_wait_timeout")
            .unwrap();
        assert_eq!((shown.value.as_str(), shown.default), ("1min 30s", "2min"));
    }

    #[test]
    fn set_refuses_what_cannot_be() {
        let message = |name, value| config().set(name, value).unwrap_err().to_string();
        assert_eq!(
            message("pool_mod", "x"),
            "there is no setting \"pool_mod\" (did you mean \"pool_mode\"?)"
        );
        assert_eq!(
            message("listen_port", "1"),
            "setting \"listen_port\" can be changed only by a restart"
        );
        assert!(message("pool_mode", "x").starts_with("pool_mode: \"x\" is not one of"));
        assert_eq!(
            message("min_pool_size", "21"),
            "min_pool_size (21) is more than default_pool_size (20)"
        );
    }

    #[test]
    fn fallback_serves_every_other_name() {
        let mut config = config();
        assert_eq!(config.database("other"), None);
        let named = config.databases["app"].clone();
        config.fallback = Some(Database {
            name: "*".to_owned(),
            dbname: None,
            ..named
        });
        assert_eq!(config.database("app").unwrap().dbname.as_deref(), Some("app"));
        let other = config.database("other").unwrap();
        assert_eq!(
            (other.name.as_str(), other.dbname.as_deref()),
            ("other", Some("other"))
        );
    }

    #[test]
    fn pool_settings_take_the_users_before_the_databases() {
        let mut config = config();
        let database = config.databases["app"].clone();
        assert_eq!(config.pool_settings(&database, "bob").pool_size, 7);
        config.users.get_mut("bob").unwrap().overrides.pool_size = Some(2);
        assert_eq!(config.pool_settings(&database, "bob").pool_size, 2);
        assert_eq!(config.pool_settings(&database, "stranger").pool_size, 7);
    }

    #[test]
    fn secrets_are_in_no_output() {
        let config = config();
        let shown = format!(
            "{config:?} {config:#?} {} {:?}",
            config.summary(),
            config.rows(&config.settings)
        );
        assert!(!shown.contains("hunter2"));
        assert_eq!(
            config.users["bob"].secret.as_ref().map(Secret::expose),
            Some("hunter2")
        );
    }

    #[test]
    fn restarts_are_named() {
        let mut after = config();
        after.settings.listen_port = 1;
        after.settings.max_client_conn = 1;
        let started = config().settings;
        assert_eq!(after.restart_needed(&started), ["listen_port"]);
        let rows = after.rows(&started);
        let value = |name| &rows.iter().find(|row| row.name == name).unwrap().value;
        assert_eq!(
            (&**value("listen_port"), &**value("max_client_conn")),
            ("6432", "1")
        );
    }

    #[test]
    fn summary_says_what_would_run() {
        assert_eq!(
            config().summary(),
            "the URL is sound\nlistens on 127.0.0.1 port 6432\ndatabase app: app on db:5433, transaction pools of \
             7\n1 users, scram-sha-256 authentication"
        );
    }
}
