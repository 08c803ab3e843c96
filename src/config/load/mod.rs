//! From a file, a URL or the environment to a `Config`, or to everything that is wrong with them.

mod file;
mod variables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::database::{Database, Draft};
use super::env::Environment;
use super::fault::{Fault, Faults, Place};
use super::value::Raw;
use super::{Config, Source, User, check, conninfo, userlist};

impl Config {
    /// Reads a configuration. A file is the whole truth; without one, `HOWDAH_<SETTING>` variables count too.
    pub fn load(source: &Source) -> Result<Self, Faults> {
        Self::load_with(source, &Environment::of_process())
    }

    /// What `howdah postgres://user:password@host/database` means: that database under its own name, and clients who
    /// log in with that user and password.
    pub fn for_url(url: &str) -> Result<Self, Faults> {
        Self::load(&Source::Url(url.to_owned()))
    }

    /// Reads the text of a file that is nowhere.
    #[cfg(any(test, fuzzing))]
    pub(super) fn from_text(text: &str, environment: &Environment) -> Result<Self, Faults> {
        let mut loader = Loader::new(&Source::Env, environment);
        loader.document(text, &Place::file("a text"));
        loader.finish()
    }

    pub(super) fn load_with(source: &Source, environment: &Environment) -> Result<Self, Faults> {
        let mut loader = Loader::new(source, environment);
        match source {
            Source::File(path) => loader.file(path),
            Source::Url(url) => {
                loader.variables();
                loader.url(url, Place::file("the URL"));
            }
            Source::Env => loader.environment(),
        }
        loader.finish()
    }
}

struct Loader<'a> {
    environment: &'a Environment,
    /// Where relative paths start.
    directory: PathBuf,
    config: Config,
    faults: Vec<Fault>,
    /// Where each value was written, by its path such as `databases.app.pool_size`.
    places: BTreeMap<String, Place>,
    /// Whether databases or users were lost to faults; then it proves nothing that there are none.
    incomplete: bool,
}

impl<'a> Loader<'a> {
    fn new(source: &Source, environment: &'a Environment) -> Self {
        Self {
            environment,
            directory: PathBuf::new(),
            config: Config {
                origin: source.clone(),
                ..Config::default()
            },
            faults: Vec::new(),
            places: BTreeMap::new(),
            incomplete: false,
        }
    }

    fn fault(&mut self, place: Place, message: impl Into<String>) {
        self.faults.push(Fault::new(place, message));
    }

    /// Notes a fault with the name of the value before it.
    fn note(&mut self, place: &Place, name: &str, result: Result<(), String>) {
        if let Err(message) = result {
            self.fault(
                place.clone(),
                if name.is_empty() {
                    message
                } else {
                    format!("{name}: {message}")
                },
            );
        }
    }

    fn finish(mut self) -> Result<Config, Faults> {
        self.auth_file();
        for (path, message) in check::findings(&self.config) {
            let is_absence = ["databases", "users"].contains(&path.as_str());
            if !(is_absence && self.incomplete) {
                let place = self.place_of(&path);
                self.fault(place, message);
            }
        }
        match Faults::of(self.faults) {
            None => Ok(self.config),
            Some(faults) => Err(faults),
        }
    }

    /// The place of a path, or else of the nearest table around it.
    fn place_of(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return place.clone();
            }
            match path.rsplit_once('.') {
                Some((table, _)) => path = table,
                None => return self.places.get("").cloned().unwrap_or_else(Place::nowhere),
            }
        }
    }
}

/// Where both ways meet.
impl Loader<'_> {
    fn pairs(&mut self, name: &str, pairs: Result<conninfo::Pairs, String>, place: &Place) {
        let pairs = match pairs {
            Ok(pairs) => pairs,
            Err(message) => return self.fault(place.clone(), message),
        };
        let directory = self.directory.clone();
        let mut draft = Draft::new(name, &directory);
        for (key, value) in pairs {
            let result = draft.set(&key, &Raw::Text(value));
            self.note(place, &key, result);
        }
        self.settle(draft, place);
    }

    fn settle(&mut self, draft: Draft<'_>, place: &Place) {
        match draft.finish() {
            Err(message) => self.fault(place.clone(), message),
            Ok(database) => self.keep(database),
        }
    }

    fn keep(&mut self, database: Database) {
        if database.name == "*" {
            self.config.fallback = Some(database);
        } else {
            self.config.databases.insert(database.name.clone(), database);
        }
    }

    /// Adds the users of the `auth_file`; what `[users]` says goes before it.
    fn auth_file(&mut self) {
        let written = &self.config.settings.auth_file;
        if written.is_empty() {
            return;
        }
        let path = self.directory.join(written);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                self.incomplete = true;
                let message = format!("auth_file: cannot read {}: {error}", path.display());
                return self.fault(self.place_of("howdah.auth_file"), message);
            }
        };
        let file = Place::file(&path.display().to_string());
        for entry in userlist::parse(&text) {
            match entry {
                Ok((name, secret)) => {
                    let user = self
                        .config
                        .users
                        .entry(name.clone())
                        .or_insert_with(|| User::new(&name));
                    user.secret = user.secret.take().or(secret);
                }
                Err((line, message)) => self.fault(file.at(line), message),
            }
        }
    }
}
