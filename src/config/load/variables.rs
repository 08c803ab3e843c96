//! A URL, and environment variables.

use std::path::Path;

use super::super::fault::Place;
use super::super::settings::TABLE;
use super::super::value::Raw;
use super::super::{Config, User, conninfo, unknown};
use super::Loader;

impl Loader<'_> {
    /// Settings only.
    pub(super) fn variables(&mut self) {
        let environment = self.environment;
        for (name, value) in environment.ours().filter(|(name, _)| !is_entry(name)) {
            let place = Place::file(&format!("HOWDAH_{name}"));
            match TABLE.iter().find(|row| row.name.to_uppercase() == name) {
                Some(row) => {
                    self.places.insert(format!("howdah.{}", row.name), place.clone());
                    let result = (row.read)(&mut self.config.settings, &Raw::text(value));
                    self.note(&place, "", result);
                }
                None => self.fault(place, unknown::variable(name)),
            }
        }
    }

    pub(super) fn environment(&mut self) {
        self.places.insert(String::new(), Place::file("the environment"));
        self.variables();
        let before = self.faults.len();
        let environment = self.environment;
        for (variable, value) in environment.ours() {
            let place = Place::file(&format!("HOWDAH_{variable}"));
            if let Some(name) = variable.strip_prefix("DATABASES_") {
                let name = folded(name);
                self.places.insert(format!("databases.{name}"), place.clone());
                self.pairs(&name, conninfo::parse(value, None), &place);
            } else if let Some(name) = variable.strip_prefix("USERS_") {
                let name = folded(name);
                let mut user = User::new(&name);
                let result = user.set("password", &Raw::text(value), Path::new(""));
                self.note(&place, "", result);
                self.config.users.insert(name, user);
            }
        }
        let others = !self.config.databases.is_empty() || self.config.fallback.is_some();
        if let Some(url) = environment.get("HOWDAH_URL") {
            self.url(url, Place::file("HOWDAH_URL"));
        } else if let Some(url) = environment.get("DATABASE_URL").filter(|_| !others) {
            self.url(url, Place::file("DATABASE_URL"));
        }
        self.incomplete |= self.faults.len() > before;
        self.admit();
    }

    pub(super) fn url(&mut self, url: &str, place: Place) {
        self.places.entry(String::new()).or_insert_with(|| place.clone());
        let before = self.faults.len();
        if !conninfo::is_url(url) {
            self.incomplete = true;
            return self.fault(place, "must begin with postgres:// or postgresql://");
        }
        let pairs = conninfo::parse(url, None);
        let named = |wanted: &str, pairs: &conninfo::Pairs| {
            pairs
                .iter()
                .rev()
                .find(|(key, value)| key == wanted && !value.is_empty())
                .map(|(_, value)| value.clone())
        };
        let name = pairs
            .as_ref()
            .ok()
            .and_then(|pairs| named("dbname", pairs).or_else(|| named("user", pairs)));
        match name {
            Some(name) => {
                self.places.insert(format!("databases.{name}"), place.clone());
                self.pairs(&name, pairs, &place);
            }
            None => self.note(&place, "", pairs.and(Err("names no database".to_owned()))),
        }
        self.incomplete |= self.faults.len() > before;
        self.admit();
    }

    /// Without a file, whoever is named as the user of a database may log in with its password.
    fn admit(&mut self) {
        let Config {
            databases,
            fallback,
            users,
            ..
        } = &mut self.config;
        for database in databases.values().chain(fallback.as_ref()) {
            if let Some(name) = &database.user {
                let user = || User {
                    secret: database.password.clone(),
                    ..User::new(name)
                };
                users.entry(name.clone()).or_insert_with(user);
            }
        }
    }
}

/// Variables of ours that are not settings.
fn is_entry(name: &str) -> bool {
    name == "URL" || name.starts_with("DATABASES_") || name.starts_with("USERS_")
}

/// A name out of a variable's name: in lower case, unless it has lower case of its own.
fn folded(name: &str) -> String {
    if name.contains(|letter: char| letter.is_lowercase()) {
        name.to_owned()
    } else {
        name.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::PoolMode;
    use super::super::{Config, Environment, Source};

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn from_environment(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::load_with(&Source::Env, &environment(variables)).map_err(|faults| faults.to_string())
    }

    fn secret(config: &Config, user: &str) -> Option<String> {
        config.users[user]
            .secret
            .as_ref()
            .map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn url_alone_lets_its_user_in() {
        let url = "postgres://bob:p%40w@db/app".to_owned();
        let variables = [
            ("HOWDAH_LISTEN_PORT", "7000"),
            ("DATABASE_URL", "postgres://x:y@z/other"),
        ];
        let config = Config::load_with(&Source::Url(url), &environment(&variables)).unwrap();
        assert_eq!(config.databases.keys().collect::<Vec<_>>(), ["app"]);
        assert_eq!(config.users.keys().collect::<Vec<_>>(), ["bob"]);
        assert_eq!(secret(&config, "bob").as_deref(), Some("p@w"));
        assert_eq!(config.databases["app"].user.as_deref(), Some("bob"));
        assert_eq!(
            (config.fallback.is_none(), config.settings.listen_port),
            (true, 7000)
        );
    }

    #[test]
    fn urls_that_cannot_serve_are_refused_without_their_passwords() {
        for (url, told) in [
            ("postgres://bob@db/app", "nobody could log in"),
            ("mysql://bob:hunter2@db/app", "must begin with"),
            ("postgres://:hunter2@db", "names no database"),
            ("postgres://bob:hunter2%@db/app", "hexadecimal"),
            ("postgres://bob:hunter2@db/pgbouncer", "name of the console"),
        ] {
            let faults = Config::load_with(&Source::Url(url.to_owned()), &environment(&[]))
                .unwrap_err()
                .to_string();
            assert!(
                faults.starts_with("the URL: ") && faults.contains(told),
                "{faults}"
            );
            assert!(
                !faults.contains("hunter2") && faults.lines().count() == 1,
                "{faults}"
            );
        }
    }

    #[test]
    fn environment_alone_is_enough() {
        let config = from_environment(&[
            ("HOWDAH_DATABASES_APP", "host=a user=u password=p"),
            ("HOWDAH_DATABASES_Mixed", "postgres://h/real"),
            ("HOWDAH_USERS_ALICE", "secret"),
            ("HOWDAH_POOL_MODE", "session"),
            ("HOWDAH_PORT", "tcp://10.0.0.1:6432"),
            ("DATABASE_URL", "postgres://x:y@z/other"),
        ])
        .unwrap();
        assert_eq!(config.databases.keys().collect::<Vec<_>>(), ["Mixed", "app"]);
        assert_eq!(config.users.keys().collect::<Vec<_>>(), ["alice", "u"]);
        assert_eq!(config.settings.pool_mode, PoolMode::Session);
        let sidecar = from_environment(&[("DATABASE_URL", "postgres://x:y@z/other")]).unwrap();
        assert_eq!(sidecar.databases["other"].hosts[0].to_string(), "z:5432");
    }

    #[test]
    fn faults_of_the_environment_name_the_variable() {
        let faults = from_environment(&[
            ("HOWDAH_POOL_MOD", "session"),
            ("HOWDAH_WORKERS", "many"),
            ("HOWDAH_DATABASES_APP", "host"),
        ]);
        assert_eq!(
            faults.unwrap_err(),
            "HOWDAH_DATABASES_APP: word 1 of the connection string has no \"=\" after it\n\
             HOWDAH_POOL_MOD: there is no such setting (did you mean \"HOWDAH_POOL_MODE\"?)\n\
             HOWDAH_WORKERS: \"many\" is not a whole number from 0 to 4294967295"
        );
        assert!(
            from_environment(&[])
                .unwrap_err()
                .starts_with("the environment: ")
        );
    }
}
