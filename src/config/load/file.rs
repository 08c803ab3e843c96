//! A TOML file, table by table.

use std::path::Path;

use super::super::database::Draft;
use super::super::document::{self, Entry, Node};
use super::super::fault::Place;
use super::super::value::Raw;
use super::super::{User, conninfo, settings, unknown};
use super::Loader;

impl Loader<'_> {
    pub(super) fn file(&mut self, path: &Path) {
        let file = Place::file(&path.display().to_string());
        self.places.insert(String::new(), file.clone());
        self.directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
        match std::fs::read_to_string(path) {
            Ok(text) => self.document(&text, &file),
            Err(error) => {
                self.incomplete = true;
                self.fault(file, format!("cannot be read: {error}{}", hint(path, &error)));
            }
        }
    }

    pub(super) fn document(&mut self, text: &str, file: &Place) {
        match document::parse(text, file) {
            Ok(entries) => entries.into_iter().for_each(|entry| self.table(entry)),
            Err(_) if is_pgbouncers(text) => {
                self.incomplete = true;
                let message = "this is PgBouncer's ini format; howdah reads TOML: [pgbouncer] becomes [howdah], names stay, \
                               and text stands in quotes (config/howdah.toml shows it, docs/settings.md explains it)";
                self.fault(file.clone(), message);
            }
            Err(faults) => {
                self.incomplete = true;
                self.faults.extend(faults);
            }
        }
    }

    fn table(&mut self, Entry { key, place, node }: Entry) {
        if key == "howdah" {
            return self.entries(&key, place, node, Self::setting);
        }
        let before = self.faults.len();
        match key.as_str() {
            "databases" => self.entries(&key, place, node, Self::database),
            "users" => self.entries(&key, place, node, Self::user),
            _ => self.fault(place, unknown::table(&key)),
        }
        self.incomplete |= self.faults.len() > before;
    }

    fn entries(&mut self, table: &str, place: Place, node: Node, read: fn(&mut Self, Entry)) {
        let Node::Table(entries) = node else {
            return self.fault(place, format!("\"{table}\" must be a table: [{table}]"));
        };
        self.places.insert(table.to_owned(), place);
        for entry in entries {
            self.places
                .insert(format!("{table}.{}", entry.key), entry.place.clone());
            read(self, entry);
        }
    }

    fn setting(&mut self, Entry { key, place, node }: Entry) {
        let Some(row) = settings::row(&key) else {
            return self.fault(place, unknown::setting(&key));
        };
        let result = match node {
            Node::Table(_) => Err("a setting is not a table".to_owned()),
            Node::Value(raw) => self
                .expanded(raw)
                .and_then(|raw| (row.read)(&mut self.config.settings, &raw)),
        };
        self.incomplete |= result.is_err() && key.starts_with("auth_");
        self.note(&place, &key, result);
    }

    fn database(&mut self, Entry { key, place, node }: Entry) {
        match node {
            Node::Value(Raw::Text(text)) => self.connection_string(&key, &text, &place),
            Node::Value(_) => {
                self.fault(
                    place,
                    format!("database \"{key}\" must be a connection string, a URL or a table"),
                );
            }
            Node::Table(entries) => {
                let directory = self.directory.clone();
                let mut draft = Draft::new(&key, &directory);
                for entry in entries {
                    let path = format!("databases.{key}.{}", entry.key);
                    self.places.insert(path, entry.place.clone());
                    let result = self.plain(entry.node).and_then(|raw| draft.set(&entry.key, &raw));
                    self.note(&entry.place, &entry.key, result);
                }
                self.settle(draft, &place);
            }
        }
    }

    /// A database as a string of a file. When it is one variable alone, that holds the whole string; otherwise
    /// variables stand for single values.
    fn connection_string(&mut self, name: &str, text: &str, place: &Place) {
        let whole = text.starts_with("${") && !text.contains('=') && !text.contains("://");
        let pairs = if whole {
            self.environment
                .expand(text)
                .and_then(|text| conninfo::parse(&text, None))
        } else {
            conninfo::parse(text, Some(self.environment))
        };
        self.pairs(name, pairs, place);
    }

    fn user(&mut self, Entry { key, place, node }: Entry) {
        let mut user = User::new(&key);
        match node {
            // `bob = "secret"` for short.
            Node::Value(raw) => {
                let result = self
                    .expanded(raw)
                    .and_then(|raw| user.set("password", &raw, &self.directory));
                self.note(&place, "password", result);
            }
            Node::Table(entries) => {
                for entry in entries {
                    self.places
                        .insert(format!("users.{key}.{}", entry.key), entry.place.clone());
                    let result = self
                        .plain(entry.node)
                        .and_then(|raw| user.set(&entry.key, &raw, &self.directory));
                    self.note(&entry.place, &entry.key, result);
                }
            }
        }
        self.config.users.insert(key, user);
    }

    fn plain(&self, node: Node) -> Result<Raw, String> {
        match node {
            Node::Value(raw) => self.expanded(raw),
            Node::Table(_) => Err("a table cannot stand here".to_owned()),
        }
    }

    fn expanded(&self, raw: Raw) -> Result<Raw, String> {
        Ok(match raw {
            Raw::Text(text) => Raw::Text(self.environment.expand(&text)?),
            Raw::List(texts) => Raw::List(
                texts
                    .iter()
                    .map(|text| self.environment.expand(text))
                    .collect::<Result<_, _>>()?,
            ),
            raw => raw,
        })
    }
}

/// Whether a text that is no TOML has the table of `PgBouncer`'s settings.
fn is_pgbouncers(text: &str) -> bool {
    text.lines().any(|line| line.trim() == "[pgbouncer]")
}

/// What somebody may have meant by the name of a file that is not there.
fn hint(path: &Path, error: &std::io::Error) -> &'static str {
    let is_word = path.components().count() == 1 && path.extension().is_none();
    if is_word && error.kind() == std::io::ErrorKind::NotFound {
        " (nor is it a command: howdah --help lists them)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{PoolMode, Secret};
    use super::super::{Config, Environment, Source};

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("howdah.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(
            directory.path().join("userlist.txt"),
            "\"bob\" \"from the list\"\n\"eve\" \"md5e\"\n",
        )
        .unwrap();
        std::fs::write(directory.path().join("broken.txt"), "\n\"bob\"\n").unwrap();
        std::fs::write(directory.path().join("password"), "from a file\n").unwrap();
        let prefix = format!("{}/", directory.path().display());
        Config::load_with(&Source::File(path), &environment(variables))
            .map_err(|faults| faults.to_string().replace(&prefix, ""))
    }

    fn secret(config: &Config, user: &str) -> Option<String> {
        config.users[user]
            .secret
            .as_ref()
            .map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn several_faults_are_reported_at_once_with_their_lines() {
        let text = r#"
            [howdah]
            pool_mod = "session"
            listen_port = "none"
            unix_socket_mode = 888
            min_pool_size = 30
            so_reuseport = 3
            log_level = "${NOPE}"

            [databases]
            app = "host=a pool_sise=3 sslmode=sometimes"
            bad = 5
            small.pool_size = 3
            small.min_pool_size = 4
            small.port = 0

            [users.bob]
            password = 5
            [users.""]
            password = "x"

            [user]
        "#;
        let faults = load(text.trim_start(), &[]).unwrap_err();
        let expected = "\
howdah.toml:2: there is no setting \"pool_mod\" (did you mean \"pool_mode\"?)
howdah.toml:3: listen_port: \"none\" is not a port from 0 to 65535
howdah.toml:4: unix_socket_mode: 888 is not an octal file mode such as \"0770\"
howdah.toml:5: min_pool_size (30) is more than default_pool_size (20)
howdah.toml:6: so_reuseport: 3 is not true or false
howdah.toml:7: log_level: environment variable NOPE is not set
howdah.toml:10: pool_sise: an entry of [databases] has no \"pool_sise\" (did you mean \"pool_size\"?)
howdah.toml:10: sslmode: \"sometimes\" is not one of disable, allow, prefer, require, verify-ca, verify-full
howdah.toml:11: database \"bad\" must be a connection string, a URL or a table
howdah.toml:12: port: a server cannot listen on port 0
howdah.toml:17: password: must be text in quotes
howdah.toml:18: a user must have a name
howdah.toml:21: there is no table [user] (did you mean \"users\"?)";
        assert_eq!(faults, expected);
    }

    #[test]
    fn file_gives_databases_users_and_settings() {
        let text = r#"
            [howdah]
            pool_mode = "session"
            default_pool_size = "${SIZE}"
            listen_addr = ["127.0.0.1", "::1"]
            auth_file = "userlist.txt"
            [databases]
            app = "host=a,b user=x password=${PW}"
            url = "postgres://u:${PW}@h:1/real"
            whole = "${WHOLE}"
            table = { host = ["a", "b"], port = 5433, password_file = "password", pool_mode = "statement" }
            "*" = "host=any"
            [users]
            bob = { pool_size = 2 }
            eve = "mine"
        "#;
        let config = load(
            text,
            &[("SIZE", "9"), ("PW", "p w'@"), ("WHOLE", "host=w dbname=${x}")],
        )
        .unwrap();
        assert_eq!(
            (config.settings.pool_mode, config.settings.default_pool_size),
            (PoolMode::Session, 9)
        );
        assert_eq!(config.settings.listen_addr, ["127.0.0.1", "::1"]);
        let password = |name: &str| config.databases[name].password.as_ref().map(Secret::expose);
        assert_eq!(
            [password("app"), password("url"), password("table")],
            [Some("p w'@"), Some("p w'@"), Some("from a file")]
        );
        assert_eq!(config.databases["whole"].dbname.as_deref(), Some("${x}"));
        assert_eq!(config.databases["url"].dbname.as_deref(), Some("real"));
        assert_eq!(config.databases["table"].hosts[1].to_string(), "b:5433");
        assert_eq!(
            config.databases["table"].overrides.pool_mode,
            Some(PoolMode::Statement)
        );
        assert!(config.fallback.is_some());
        assert_eq!(secret(&config, "bob").as_deref(), Some("from the list"));
        assert_eq!(config.users["bob"].overrides.pool_size, Some(2));
        assert_eq!(secret(&config, "eve").as_deref(), Some("mine"));
        assert!(
            !config.users.contains_key("x"),
            "the user of a database is not let in by a file"
        );
    }

    #[test]
    fn faults_of_the_auth_file_have_its_name_and_line() {
        let text = |file: &str| {
            format!("[howdah]\nauth_file = \"{file}\"\n[databases]\na = \"\"\n[users]\nx = \"y\"")
        };
        assert!(
            load(&text("broken.txt"), &[])
                .unwrap_err()
                .starts_with("broken.txt:2: after the user's name")
        );
        assert!(
            load(&text("none.txt"), &[])
                .unwrap_err()
                .starts_with("howdah.toml:2: auth_file: cannot read none.txt")
        );
    }

    #[test]
    fn a_file_of_pgbouncers_is_told_from_broken_toml_in_one_line() {
        let ini = "[databases]\napp = host=a port=5432\n[pgbouncer]\nlisten_addr = 127.0.0.1\npool_mode = session\n";
        let faults = load(ini, &[]).unwrap_err();
        assert_eq!(faults.lines().count(), 1, "{faults}");
        assert!(
            faults.contains("PgBouncer's ini") && faults.contains("docs/settings.md"),
            "{faults}"
        );
    }

    #[test]
    fn a_word_that_is_neither_file_nor_command_is_named_as_such() {
        let said = |name: &str| {
            let faults = Config::load_with(&Source::File(name.into()), &environment(&[])).unwrap_err();
            faults.to_string()
        };
        assert!(said("chekc").contains("howdah --help"));
        assert!(!said("howdah.toml").contains("--help") && !said("./chekc").contains("a command"));
    }

    #[test]
    fn broken_syntax_and_missing_files_are_reported_alone() {
        let faults = load("[howdah]\npool_mode = \n", &[]).unwrap_err();
        assert!(
            faults.starts_with("howdah.toml:2: ") && faults.lines().count() == 1,
            "{faults}"
        );
        let missing = Config::load_with(&Source::File("/nonexistent/h.toml".into()), &environment(&[]));
        assert!(
            missing
                .unwrap_err()
                .to_string()
                .starts_with("/nonexistent/h.toml: cannot be read: ")
        );
    }

    #[test]
    fn empty_file_lacks_a_database_and_a_user() {
        let faults = load("", &[]).unwrap_err();
        assert!(
            faults.contains("howdah.toml: there is no database to connect to"),
            "{faults}"
        );
        assert!(faults.contains("howdah.toml: nobody could log in"), "{faults}");
        let beside = load("[howdah]\nworkers = \"x\"", &[]).unwrap_err();
        assert_eq!(beside.lines().count(), 3, "{beside}");
        let lost = load("[databases]\na = 5", &[]).unwrap_err();
        assert_eq!(lost.lines().count(), 1, "{lost}");
        assert!(load("[howdah]\nauth_type = \"trust\"\n[databases]\na = \"\"", &[]).is_ok());
    }
}
