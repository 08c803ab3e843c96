//! The sample file and the reference, written from the table of settings.

use std::fmt::{self, Write};

use super::settings::{Settings, TABLE};
use super::table::{Change, Row, Scope};

const TOML_HEAD: &str = "\
# howdah.toml: every setting with its default, and how databases and users are written.
# Made from src/config/settings.rs; remove the \"#\" from what you change.
#
# Durations are written \"30s\", \"1h 5min\", \"500ms\", or as a number of seconds; sizes \"4kB\", \"16MB\", or as a number
# of bytes. ${NAME} in any text stands for an environment variable, $${ for ${ itself.

#[databases]
# The name that clients ask for, and a connection string, a URL or a table. Keys that may stand in each of them: host,
# hostaddr, port, dbname, user, password, password_file, connect_timeout, application_name, client_encoding, datestyle,
# options, timezone, and the settings marked \"databases\" in docs/settings.md.
#app = \"host=db.example.org port=5432 dbname=app pool_size=40\"
#billing = \"postgres://billing:${BILLING_PASSWORD}@db1.example.org,db2.example.org/billing\"
#reports = { host = \"/var/run/postgresql\", user = \"reporter\", pool_mode = \"session\" }
# Every other name, if it shall lead anywhere.
#\"*\" = \"host=db.example.org\"

# A user who may log in, with a password, an md5 hash or a SCRAM verifier. Keys: password, password_file, and the settings
# marked \"users\" in docs/settings.md.
#[users.alice]
#password = \"${ALICE_PASSWORD}\"
#pool_size = 5

#[howdah]
";

const MARKDOWN_HEAD: &str = "\
# Settings

Made from `src/config/settings.rs`; `config/howdah.toml` holds the same as a file to start from,
once a line of `[databases]` and one of `[users]` are filled in.

A setting stands under `[howdah]` in the configuration file. Without a file, `HOWDAH_<SETTING>` in the environment says the
same: `HOWDAH_LISTEN_PORT=6432`. On the console, `SHOW CONFIG` shows the values and `SET name = value` changes them until the
next start or `RELOAD`, except those marked *restart*.

Durations are written `\"30s\"`, `\"1h 5min\"`, `\"500ms\"`, or as a number of seconds; sizes `\"4kB\"`, `\"16MB\"` (powers of
1024), or as a number of bytes; lists `[\"a\", \"b\"]` or `\"a, b\"`. `${NAME}` in any text of the file stands for an environment
variable, `$${` for `${` itself; a variable that is not set is an error. Where a name is PgBouncer's, so is the meaning, unless it
says otherwise here.

## Where the configuration comes from

| command | what counts |
|---|---|
| `howdah howdah.toml` | the file alone, with the `auth_file` and the `password_file`s that it names, relative to its directory |
| `howdah postgres://user:password@host/db` | database `db`, for clients who log in as `user` with `password`; settings from `HOWDAH_<SETTING>` |
| `howdah` | `HOWDAH_URL` (as above), `HOWDAH_DATABASES_<NAME>` with a connection string or URL each, `HOWDAH_USERS_<NAME>` with a password each, and `HOWDAH_<SETTING>`. `DATABASE_URL` counts when no other database is given. A `<NAME>` in upper case means that name in lower case. Without a file, the user of each database may log in with its password |

## Databases and users

An entry of `[databases]` is a connection string (`host=… port=… dbname=…`, quoted as libpq does), a URL, or a table with the
same keys: `host`, `hostaddr`, `port`, `dbname`, `user`, `password`, `password_file`, `connect_timeout`, `application_name`,
`client_encoding`, `datestyle`, `options`, `timezone`. Several hosts are separated by commas. Without `host` the server is looked for in
`/var/run/postgresql`; without `dbname` the database has the name that the client asked for. With `user` the server sees that
user, whoever the client is. `${NAME}` in a connection string stands for one value, whatever characters it has; alone, it stands for the
whole string. The entry `\"*\"` serves every name that has no entry. `howdah` and `pgbouncer` are the names of the console.

An entry of `[users]` has `password` or `password_file`, and goes before the same user in the `auth_file`; `bob = \"secret\"` is
short for a table with a password. The password may be a `md5…` hash or a `SCRAM-SHA-256$…` verifier.

Settings marked *databases* or *users* may stand in such entries too, the user's before the database's before that of
`[howdah]`.
";

/// `config/howdah.toml`: every setting, commented out, with its default.
pub fn render_toml() -> String {
    render(TOML_HEAD, |text, row, default| {
        text.push('\n');
        for line in row.doc.lines() {
            writeln!(text, "#{line}")?;
        }
        writeln!(text, "#{} = {default}", row.name)
    })
}

/// `docs/settings.md`: the reference.
pub fn render_markdown() -> String {
    render(MARKDOWN_HEAD, |text, row, default| {
        writeln!(
            text,
            "\n### {}\n\n{}, default `{default}`{}\n",
            row.name,
            row.kind,
            facts(row)
        )?;
        row.doc
            .lines()
            .try_for_each(|line| writeln!(text, "{}", line.trim_start()))
    })
}

/// The sections, with each row written by `write`, which is told the default too.
fn render(head: &str, write: impl Fn(&mut String, &Row, &str) -> fmt::Result) -> String {
    let settings = Settings::default();
    let mut text = head.to_owned();
    let mut section = "";
    for row in TABLE {
        let mut heading = Ok(());
        if row.section != section {
            section = row.section;
            heading = writeln!(text, "\n## {section}");
        }
        heading
            .and_then(|()| write(&mut text, row, &(row.toml)(&settings)))
            .expect("a string takes all text");
    }
    text
}

/// What is special about a setting: most can be changed at any time, and are overridden nowhere.
fn facts(row: &Row) -> String {
    let mut facts = Vec::new();
    if row.change == Change::Restart {
        facts.push(", *restart*");
    }
    for scope in row.scopes {
        facts.push(match scope {
            Scope::Database => ", *databases*",
            Scope::User => ", *users*",
        });
    }
    if row.local != row.name {
        facts.extend([" as `", row.local, "`"]);
    }
    facts.concat()
}

#[cfg(test)]
mod tests {
    use super::super::env::Environment;
    use super::super::{Config, Source};
    use super::*;

    /// Compares a committed file with what is rendered, or writes it anew where `HOWDAH_TEST_BLESS` is set.
    fn check(path: &str, rendered: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("HOWDAH_TEST_BLESS").is_some() {
            std::fs::write(&path, rendered).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(
            committed == rendered,
            "{} is out of date: test once with HOWDAH_TEST_BLESS=1",
            path.display()
        );
    }

    #[test]
    fn committed_sample_is_what_is_rendered() {
        check("config/howdah.toml", &render_toml());
    }

    #[test]
    fn committed_reference_is_what_is_rendered() {
        check("docs/settings.md", &render_markdown());
    }

    #[test]
    fn sample_holds_the_defaults_once_uncommented() {
        let uncommented = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with([' ', '#']) => rest.to_owned(),
            _ => line.to_owned(),
        };
        let text: Vec<_> = render_toml().lines().map(uncommented).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text.join("\n")).unwrap();
        let variable = |name: &str| (name.to_owned(), "x y".to_owned());
        let environment: Environment = ["BILLING_PASSWORD", "ALICE_PASSWORD"]
            .map(variable)
            .into_iter()
            .collect();
        let config = Config::load_with(&Source::File(file.path().to_owned()), &environment)
            .unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(config.settings, Settings::default());
        assert_eq!((config.databases.len(), config.users.len()), (3, 1));
        assert_eq!(config.databases["billing"].hosts.len(), 2);
    }

    #[test]
    fn reference_tells_where_a_setting_may_be_overridden() {
        let text = render_markdown();
        assert!(
            text.contains(
                "### default_pool_size\n\nnumber, default `20`, *databases*, *users* as `pool_size`"
            )
        );
        assert!(text.contains("### listen_port\n\nport, default `6432`, *restart*"));
    }
}
