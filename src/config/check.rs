//! Values that are each sound and together impossible.

use super::Config;
use super::check_tls;
use super::choice::AuthType;
use super::fault::suggestion;
use super::settings::{Overrides, PoolSettings, Settings};

/// The names that lead to the console.
pub const CONSOLE_NAMES: [&str; 2] = ["howdah", "pgbouncer"];

/// A finding: the path of the value to blame, such as `databases.app.min_pool_size`, and what is wrong.
pub(super) type Finding = (String, String);

/// Everything that cannot be.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    settings(&config.settings, &mut findings);
    auth_type(&config.settings, &mut findings);
    databases(config, &mut findings);
    users(config, &mut findings);
    queries_for_users(config, &mut findings);
    pool_sizes(config, &mut findings);
    check_tls::servers(config, &mut findings);
    findings
}

fn settings(settings: &Settings, findings: &mut Vec<Finding>) {
    let mut find = |name: &str, message: String| findings.push((format!("howdah.{name}"), message));
    if settings.unix_socket_dir.is_empty() && (settings.listen_port == 0 || settings.listen_addr.is_empty()) {
        let blamed = if settings.listen_port == 0 {
            "listen_port"
        } else {
            "listen_addr"
        };
        find(
            blamed,
            format!("{blamed}: there is nothing to listen on: no TCP and no unix_socket_dir"),
        );
    }
    if !settings.unix_socket_dir.is_empty() && settings.listen_port == 0 {
        // The socket is named after the port.
        find(
            "listen_port",
            "listen_port: a Unix socket needs a port for its name (use listen_addr = [] instead)".to_owned(),
        );
    }
    for address in &settings.listen_addr {
        let bare = address.parse::<std::net::IpAddr>().is_ok();
        if !bare && address.contains(':') {
            find(
                "listen_addr",
                format!("listen_addr: \"{address}\" has a port; listen_port is the place for it"),
            );
        }
    }
    check_tls::clients(settings, &mut find);
    let port = settings
        .metrics_addr
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse::<u16>().ok());
    if !settings.metrics_addr.is_empty() && port.is_none() {
        let written = &settings.metrics_addr;
        find(
            "metrics_addr",
            format!("metrics_addr: \"{written}\" is not an address with a port such as \"127.0.0.1:9127\""),
        );
    }
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let level = settings.log_level.as_str();
    if !LEVELS.contains(&level) && !level.contains(['=', ',']) {
        let suggestion = suggestion(level, LEVELS);
        find(
            "log_level",
            format!(
                "log_level: \"{level}\" is not one of {}{suggestion}",
                LEVELS.join(", ")
            ),
        );
    }
}

/// What a way to log in rests on.
fn auth_type(settings: &Settings, findings: &mut Vec<Finding>) {
    let auth_type = settings.auth_type;
    let (name, is_missing) = match auth_type {
        AuthType::Hba => ("auth_hba_file", settings.auth_hba_file.is_empty()),
        AuthType::Ldap => ("auth_ldap_options", settings.auth_ldap_options.is_empty()),
        AuthType::Peer => ("unix_socket_dir", settings.unix_socket_dir.is_empty()),
        AuthType::Cert => ("client_tls_ca_file", settings.client_tls_ca_file.is_empty()),
        _ => return,
    };
    if is_missing {
        let message = format!("auth_type \"{auth_type}\" needs {name}");
        findings.push(("howdah.auth_type".to_owned(), message));
    }
}

fn databases(config: &Config, findings: &mut Vec<Finding>) {
    if config.databases.is_empty() && config.fallback.is_none() {
        findings.push((
            "databases".to_owned(),
            "there is no database to connect to".to_owned(),
        ));
    }
    for name in config.databases.keys() {
        let path = format!("databases.{name}");
        if name.is_empty() {
            findings.push((path, "a database must have a name".to_owned()));
        } else if CONSOLE_NAMES.contains(&name.as_str()) {
            findings.push((
                path,
                format!("\"{name}\" is the name of the console, no database can have it"),
            ));
        }
    }
}

fn users(config: &Config, findings: &mut Vec<Finding>) {
    if config.users.contains_key("") {
        findings.push(("users.".to_owned(), "a user must have a name".to_owned()));
    }
    let someone = config.users.values().any(|user| user.secret.is_some()) || asks_for_users(config);
    if config.settings.auth_type.needs_secret() && !someone {
        let message = "nobody could log in: there is no user with a password, in [users], auth_file or the URL \
                       (auth_type \"trust\" lets clients in without one)";
        findings.push(("users".to_owned(), message.to_owned()));
    }
}

/// Whether the secrets of users are asked for anywhere.
pub(super) fn asks_for_users(config: &Config) -> bool {
    let of_databases = config.databases.values().chain(&config.fallback);
    let mut own = of_databases.filter_map(|database| database.overrides.auth_user.as_deref());
    !config.settings.auth_user.is_empty() || own.any(|user| !user.is_empty())
}

fn queries_for_users(config: &Config, findings: &mut Vec<Finding>) {
    let none = PoolSettings::resolve(&config.settings, &Overrides::default(), &Overrides::default());
    let global = ("howdah".to_owned(), none);
    let of_databases = config.databases.values().chain(&config.fallback).map(|database| {
        let resolved = PoolSettings::resolve(&config.settings, &database.overrides, &Overrides::default());
        (format!("databases.{}", database.name), resolved)
    });
    for (path, policy) in std::iter::once(global).chain(of_databases) {
        let mut find = |name: &str, message: String| {
            let finding = (format!("{path}.{name}"), format!("{name}: {message}"));
            // What a database has from `[howdah]` is said once.
            if !findings.iter().any(|(_, message)| *message == finding.1) {
                findings.push(finding);
            }
        };
        if policy.auth_user.is_empty() {
            continue;
        }
        if !policy.auth_query.contains("$1") {
            find(
                "auth_query",
                "there is no $1 in it for the user's name".to_owned(),
            );
        }
        let place = policy.auth_dbname.as_str();
        if CONSOLE_NAMES.contains(&place) || (!place.is_empty() && config.database(place).is_none()) {
            find(
                "auth_dbname",
                format!("there is no database \"{place}\" in [databases]"),
            );
        }
    }
}

fn pool_sizes(config: &Config, findings: &mut Vec<Finding>) {
    let impossible = |min: u32, size: u32| size > 0 && min > size;
    let mut find = |table: String, key: &str, min, size| {
        let message = format!("min_pool_size ({min}) is more than {key} ({size})");
        findings.push((table, message));
    };
    let settings = &config.settings;
    if impossible(settings.min_pool_size, settings.default_pool_size) {
        let (min, size) = (settings.min_pool_size, settings.default_pool_size);
        find("howdah.min_pool_size".to_owned(), "default_pool_size", min, size);
    }
    let databases = config
        .databases
        .iter()
        .map(|(name, database)| ("databases", name, &database.overrides));
    let fallback = config
        .fallback
        .iter()
        .map(|database| ("databases", &database.name, &database.overrides));
    let users = config
        .users
        .iter()
        .map(|(name, user)| ("users", name, &user.overrides));
    for (table, name, own) in databases.chain(fallback).chain(users) {
        let key = match (own.min_pool_size, own.pool_size) {
            (None, None) => continue,
            (Some(_), _) => "min_pool_size",
            (None, Some(_)) => "pool_size",
        };
        let min = own.min_pool_size.unwrap_or(settings.min_pool_size);
        let size = own.pool_size.unwrap_or(settings.default_pool_size);
        if impossible(min, size) {
            find(format!("{table}.{name}.{key}"), "pool_size", min, size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::User;
    use super::super::database::Draft;
    use super::*;
    use std::path::Path;

    fn sound() -> Config {
        let mut config = Config::default();
        let database = Draft::new("app", Path::new(".")).finish().unwrap();
        config.databases.insert("app".to_owned(), database);
        let user = User {
            secret: Some(super::super::Secret::new("x")),
            ..User::new("bob")
        };
        config.users.insert("bob".to_owned(), user);
        config
    }

    fn found(change: impl FnOnce(&mut Config)) -> String {
        let mut config = sound();
        change(&mut config);
        let lines: Vec<_> = findings(&config)
            .into_iter()
            .map(|(path, text)| format!("{path}| {text}"))
            .collect();
        lines.join("\n")
    }

    #[test]
    fn users_may_be_asked_for_instead_of_listed() {
        let text = found(|config| {
            config.users.clear();
            config.databases.get_mut("app").unwrap().overrides.auth_user = Some("asker".to_owned());
        });
        assert_eq!(text, "");
    }

    #[test]
    fn what_asks_for_users_must_make_sense() {
        let text = found(|config| {
            config.settings.auth_user = "asker".to_owned();
            config.settings.auth_query = "SELECT 1".to_owned();
            config.settings.auth_dbname = "howdah".to_owned();
            config.databases.get_mut("app").unwrap().overrides.auth_dbname = Some("nowhere".to_owned());
        });
        assert_eq!(
            text,
            "howdah.auth_query| auth_query: there is no $1 in it for the user's name\n\
             howdah.auth_dbname| auth_dbname: there is no database \"howdah\" in [databases]\n\
             databases.app.auth_dbname| auth_dbname: there is no database \"nowhere\" in [databases]"
        );
    }

    #[test]
    fn sound_configuration_has_no_findings() {
        assert_eq!(found(|_| ()), "");
    }

    #[test]
    fn there_must_be_something_to_listen_on() {
        assert!(found(|config| config.settings.listen_port = 0).starts_with("howdah.listen_port| "));
        assert!(found(|config| config.settings.listen_addr.clear()).starts_with("howdah.listen_addr| "));
        let unix_only = found(|config| {
            config.settings.listen_addr.clear();
            config.settings.unix_socket_dir = "/tmp".to_owned();
        });
        assert_eq!(unix_only, "");
    }

    #[test]
    fn addresses_and_levels_must_make_sense() {
        let text = found(|config| {
            config.settings.listen_addr = ["::1", "*", "127.0.0.1:6432"].map(str::to_owned).to_vec();
            config.settings.metrics_addr = "9127".to_owned();
            config.settings.log_level = "inof".to_owned();
        });
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.contains("\"127.0.0.1:6432\" has a port") && text.contains("is not one of off"),
            "{text}"
        );
        assert_eq!(
            found(|config| config.settings.log_level = "info,howdah=debug".to_owned()),
            ""
        );
    }

    #[test]
    fn console_names_and_empty_names_are_taken() {
        let text = found(|config| {
            let database = config.databases["app"].clone();
            config.databases.insert("pgbouncer".to_owned(), database);
            config.users.insert(String::new(), User::default());
        });
        assert!(
            text.contains("databases.pgbouncer| ") && text.contains("users.| "),
            "{text}"
        );
    }

    #[test]
    fn somebody_must_be_able_to_log_in() {
        assert!(found(|config| config.users.clear()).contains("nobody could log in"));
        let trusting = found(|config| {
            config.users.clear();
            config.settings.auth_type = AuthType::Trust;
        });
        assert_eq!(trusting, "");
    }

    #[test]
    fn ways_to_log_in_need_what_they_rest_on() {
        for (auth_type, needed) in [
            (AuthType::Hba, "auth_hba_file"),
            (AuthType::Ldap, "auth_ldap_options"),
            (AuthType::Peer, "unix_socket_dir"),
            (AuthType::Cert, "client_tls_ca_file"),
        ] {
            let text = found(|config| {
                config.users.clear();
                config.settings.auth_type = auth_type;
            });
            assert_eq!(
                text,
                format!("howdah.auth_type| auth_type \"{auth_type}\" needs {needed}")
            );
        }
    }

    #[test]
    fn min_pool_size_must_fit_into_the_pool() {
        let text = found(|config| {
            config.settings.min_pool_size = 5;
            config.databases.get_mut("app").unwrap().overrides.pool_size = Some(3);
            config.users.get_mut("bob").unwrap().overrides.min_pool_size = Some(30);
        });
        assert_eq!(
            text,
            "databases.app.pool_size| min_pool_size (5) is more than pool_size (3)\n\
             users.bob.min_pool_size| min_pool_size (30) is more than pool_size (20)"
        );
        assert_eq!(
            found(|config| {
                config.settings.min_pool_size = 5;
                config.settings.default_pool_size = 0;
            }),
            ""
        );
    }
}
