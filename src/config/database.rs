//! A database as clients call it: where it really is, and how howdah logs in there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::quantity::Time;
use super::secret::Secret;
use super::settings::Overrides;
use super::table::Scope;
use super::unknown;
use super::value::{Kind, Names, Port, Raw, Text};

/// Where libpq looks for a server that no `host` is given for (Debian's and Red Hat's builds of it).
const DEFAULT_HOST: &str = "/var/run/postgresql";
const DEFAULT_PORT: u16 = 5432;

/// An entry of `[databases]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The name that clients ask for; `*` for the fallback itself.
    pub name: String,
    /// Where the server is; never empty. Several are tried in their order.
    pub hosts: Vec<Host>,
    /// The database's name on the server; `None` only for the fallback, where it is the name that the client asks for.
    pub dbname: Option<String>,
    /// The user to log in to the server as, whoever the client is.
    pub user: Option<String>,
    /// The password for the server.
    pub password: Option<Secret>,
    /// Startup parameters for the server: `application_name`, `client_encoding`, `datestyle`, `options`, `timezone`.
    pub parameters: BTreeMap<String, String>,
    /// Settings that this database has of its own.
    pub overrides: Overrides,
}

impl Database {
    /// The name of the database on the server, for a client who asked for `asked`.
    pub fn dbname_for<'a>(&'a self, asked: &'a str) -> &'a str {
        self.dbname.as_deref().unwrap_or(asked)
    }
}

/// A place where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    /// A host's name, an address, or the directory of a Unix socket (which begins with `/`).
    pub name: String,
    /// The port, which is part of the socket's name too.
    pub port: u16,
    /// The name that the server's certificate is for, where that is not `name`: `host` beside `hostaddr`.
    pub tls_name: Option<String>,
}

impl Host {
    /// The Unix socket, if that is what it is.
    pub fn socket_path(&self) -> Option<PathBuf> {
        self.name
            .starts_with('/')
            .then(|| Path::new(&self.name).join(format!(".s.PGSQL.{}", self.port)))
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// What an entry of `[databases]` may say about the server itself.
const KEYS: [&str; 13] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "password_file",
    "connect_timeout",
    "application_name",
    "client_encoding",
    "datestyle",
    "options",
    "timezone",
];

/// What libpq's connection strings may hold beside that, with the values that ask for nothing special.
const HARMLESS: [(&str, &[&str]); 6] = [
    ("sslsni", &["1"]),
    ("sslcompression", &["0"]),
    ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("gssencmode", &["disable", "prefer"]),
    ("target_session_attrs", &["any"]),
    ("load_balance_hosts", &["disable"]),
];

/// A database while its keys are read one by one.
pub(super) struct Draft<'a> {
    directory: &'a Path,
    host: Vec<String>,
    hostaddr: Vec<String>,
    port: Vec<String>,
    database: Database,
}

impl<'a> Draft<'a> {
    pub(super) fn new(name: &str, directory: &'a Path) -> Self {
        let database = Database {
            name: name.to_owned(),
            hosts: Vec::new(),
            dbname: (name != "*").then(|| name.to_owned()),
            user: None,
            password: None,
            parameters: BTreeMap::new(),
            overrides: Overrides::default(),
        };
        Self {
            directory,
            host: Vec::new(),
            hostaddr: Vec::new(),
            port: Vec::new(),
            database,
        }
    }

    pub(super) fn set(&mut self, key: &str, raw: &Raw) -> Result<(), String> {
        let database = &mut self.database;
        match key {
            "host" => self.host = elements(raw)?,
            "hostaddr" => self.hostaddr = elements(raw)?,
            "port" => self.port = elements(raw)?,
            "dbname" => database.dbname = given(raw)?.or(database.dbname.take()),
            "user" => database.user = given(raw)?,
            "password" | "password_file" => read_secret(&mut database.password, key, raw, self.directory)?,
            "connect_timeout" => database.overrides.server_connect_timeout = Some(Time::read(raw)?),
            _ if KEYS.contains(&key) => {
                let value = Text::read(raw)?;
                database.parameters.insert(key.to_owned(), value);
            }
            _ if key.starts_with("keepalives") || key == "fallback_application_name" => {}
            _ => match HARMLESS.iter().find(|(name, _)| *name == key) {
                Some((_, values)) => harmless(&Text::read(raw)?, values)?,
                None => set_override(&mut database.overrides, Scope::Database, key, raw, &KEYS)?,
            },
        }
        Ok(())
    }

    /// The database, once all keys are read. Hosts and ports pair up as libpq has it.
    pub(super) fn finish(mut self) -> Result<Database, String> {
        let names = if self.hostaddr.is_empty() {
            &self.host
        } else {
            &self.hostaddr
        };
        let hosts = names.len().max(1);
        if !self.host.is_empty() && self.host.len() != hosts {
            return Err(format!(
                "{} hosts and {hosts} host addresses do not pair up",
                self.host.len()
            ));
        }
        if self.port.len() > 1 && self.port.len() != hosts {
            return Err(format!(
                "{} ports and {hosts} hosts do not pair up",
                self.port.len()
            ));
        }
        for index in 0..hosts {
            let name = names
                .get(index)
                .filter(|name| !name.is_empty())
                .map_or(DEFAULT_HOST, String::as_str);
            let port = match self
                .port
                .get(index)
                .or(self.port.first())
                .filter(|port| !port.is_empty())
            {
                Some(port) => Port::read(&Raw::text(port)).map_err(|message| format!("port: {message}"))?,
                None => DEFAULT_PORT,
            };
            if port == 0 {
                return Err("port: a server cannot listen on port 0".to_owned());
            }
            let tls_name = self
                .host
                .get(index)
                .filter(|host| *host != name && !host.is_empty());
            self.database.hosts.push(Host {
                name: name.to_owned(),
                port,
                tls_name: tls_name.cloned(),
            });
        }
        Ok(self.database)
    }
}

/// A list in which, unlike in other lists, an empty element means the default.
fn elements(raw: &Raw) -> Result<Vec<String>, String> {
    match raw {
        Raw::Text(text) | Raw::Number(text) if text.is_empty() => Ok(Vec::new()),
        Raw::Text(text) | Raw::Number(text) => {
            Ok(text.split(',').map(|part| part.trim().to_owned()).collect())
        }
        _ => Names::read(raw),
    }
}

/// Text, where empty text is none.
fn given(raw: &Raw) -> Result<Option<String>, String> {
    Text::read(raw).map(|text| (!text.is_empty()).then_some(text))
}

fn harmless(value: &str, values: &[&str]) -> Result<(), String> {
    if values.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "\"{value}\" cannot be had (only {} can)",
        values.join(", ")
    ))
}

/// Reads `password` or `password_file`; messages do not repeat what was written.
pub(super) fn read_secret(
    secret: &mut Option<Secret>,
    key: &str,
    raw: &Raw,
    directory: &Path,
) -> Result<(), String> {
    let Raw::Text(text) = raw else {
        return Err("must be text in quotes".to_owned());
    };
    let read = match key {
        "password_file" => Some(Secret::from_file(&directory.join(text))?),
        _ => (!text.is_empty()).then(|| Secret::new(text.as_str())),
    };
    if secret.is_some() && read.is_some() {
        return Err("the password is given twice, here and before".to_owned());
    }
    *secret = read.or(secret.take());
    Ok(())
}

/// Reads a setting that an entry has of its own.
pub(super) fn set_override(
    overrides: &mut Overrides,
    scope: Scope,
    key: &str,
    raw: &Raw,
    keys: &[&'static str],
) -> Result<(), String> {
    match super::settings::TABLE
        .iter()
        .find(|row| row.local == key && row.scopes.contains(&scope))
    {
        Some(row) => (row.read_override)(overrides, raw),
        None => Err(unknown::entry_key(key, scope, keys)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::choice::{ChannelBinding, SslMode, SslNegotiation};
    use super::super::conninfo;
    use super::*;

    fn database(text: &str) -> Result<Database, String> {
        let mut draft = Draft::new("app", Path::new("."));
        for (key, value) in conninfo::parse(text, None)? {
            draft
                .set(&key, &Raw::Text(value))
                .map_err(|message| format!("{key}: {message}"))?;
        }
        draft.finish()
    }

    fn hosts(text: &str) -> String {
        let hosts = database(text)
            .unwrap_or_else(|message| panic!("{text}: {message}"))
            .hosts;
        hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn hosts_and_ports_pair_up_as_libpq_has_it() {
        assert_eq!(hosts(""), "/var/run/postgresql:5432");
        assert_eq!(hosts("host=a,b port=1"), "a:1 b:1");
        assert_eq!(
            hosts("host=a,,::1 port=1,,3"),
            "a:1 /var/run/postgresql:5432 [::1]:3"
        );
        assert_eq!(hosts("host=name hostaddr=10.0.0.1"), "10.0.0.1:5432");
        assert_eq!(hosts("postgres://a,b:2/x"), "a:5432 b:2");
        for text in [
            "host=a,b,c port=1,2",
            "host=a,b hostaddr=1.1.1.1",
            "port=x",
            "port=0",
            "port=70000",
        ] {
            assert!(database(text).is_err(), "{text}");
        }
    }

    #[test]
    fn socket_is_named_after_its_port() {
        let host = Host {
            name: "/tmp".to_owned(),
            port: 5433,
            tls_name: None,
        };
        assert_eq!(host.socket_path(), Some(PathBuf::from("/tmp/.s.PGSQL.5433")));
        assert_eq!(
            Host {
                name: "db".to_owned(),
                port: 1,
                tls_name: None,
            }
            .socket_path(),
            None
        );
    }

    #[test]
    fn dbname_is_the_clients_unless_given() {
        assert_eq!(database("host=a").unwrap().dbname_for("app"), "app");
        assert_eq!(database("host=a dbname=real").unwrap().dbname_for("app"), "real");
        let fallback = Draft::new("*", Path::new(".")).finish().unwrap();
        assert_eq!(fallback.dbname_for("anything"), "anything");
    }

    #[test]
    fn settings_and_parameters_may_stand_in_the_string() {
        let database =
            database("host=a pool_size=5 pool_mode=session connect_timeout=3 timezone=UTC").unwrap();
        assert_eq!(database.overrides.pool_size, Some(5));
        assert_eq!(
            database.overrides.server_connect_timeout,
            Some(std::time::Duration::from_secs(3))
        );
        assert_eq!(
            database.parameters.get("timezone").map(String::as_str),
            Some("UTC")
        );
    }

    #[test]
    fn libpqs_words_for_tls_are_settings_of_the_database() {
        let text = "sslmode=verify-full sslrootcert=ca.crt sslcert=a.crt sslkey=a.key sslnegotiation=direct \
                    channel_binding=require sslsni=1 ssl_min_protocol_version=TLSv1.2";
        let overrides = database(text).unwrap().overrides;
        assert_eq!(overrides.sslmode, Some(SslMode::VerifyFull));
        assert_eq!(overrides.sslrootcert.as_deref(), Some("ca.crt"));
        assert_eq!(overrides.sslcert.as_deref(), Some("a.crt"));
        assert_eq!(overrides.sslkey.as_deref(), Some("a.key"));
        assert_eq!(overrides.sslnegotiation, Some(SslNegotiation::Direct));
        assert_eq!(overrides.channel_binding, Some(ChannelBinding::Require));
        let jdbc = database("postgres://h/x?ssl=true").unwrap();
        assert_eq!(jdbc.overrides.sslmode, Some(SslMode::Require));
        for (text, says) in [
            ("sslmode=sometimes", "is not one of disable, allow"),
            ("sslsni=0", "only 1 can"),
            ("ssl_min_protocol_version=TLSv1.3", "cannot be had"),
            ("sslpassword=x", "an entry of [databases] has no \"sslpassword\""),
            ("target_session_attrs=read-write", "only any can"),
        ] {
            let message = database(text).unwrap_err();
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn a_certificate_is_for_the_host_beside_its_address() {
        let tls_names = |text| -> Vec<_> {
            let hosts = database(text).unwrap().hosts;
            hosts.into_iter().map(|host| host.tls_name).collect()
        };
        assert_eq!(tls_names("host=a,b"), [None, None]);
        let named = tls_names("host=a,,10.0.0.3 hostaddr=10.0.0.1,10.0.0.2,10.0.0.3");
        assert_eq!(named, [Some("a".to_owned()), None, None]);
    }

    #[test]
    fn secrets_are_masked_and_never_repeated() {
        let shown = format!("{:?}", database("password=hunter2").unwrap());
        assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
        let mut draft = Draft::new("app", Path::new("."));
        assert_eq!(
            draft.set("password", &Raw::Number("1234".into())),
            Err("must be text in quotes".to_owned())
        );
        draft.set("password", &Raw::text("a")).unwrap();
        assert!(draft.set("password_file", &Raw::text("/nonexistent")).is_err());
    }
}
