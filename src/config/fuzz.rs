//! Any text as a configuration, without touching a file.

use std::path::Path;

use super::database::Draft;
use super::env::Environment;
use super::value::Raw;
use super::{Config, conninfo, userlist};

/// Files that an input names would really be read.
fn names_a_file(text: &str) -> bool {
    text.contains("file") || text.contains('\\')
}

/// The text of a configuration file.
pub fn file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if names_a_file(&text) {
        return;
    }
    match Config::from_text(&text, &Environment::default()) {
        Err(faults) => assert!(!faults.to_string().is_empty()),
        Ok(config) => {
            assert!(!config.databases.is_empty() || config.fallback.is_some());
            assert!(!config.summary().is_empty() && !config.rows(&config.settings).is_empty());
            for name in config.databases.keys() {
                let database = config.database(name).expect("it is listed");
                let _ = config.pool_settings(&database, "bob");
            }
        }
    }
}

/// A connection string, and a database that is written so.
pub(crate) fn connection_string(text: &str) {
    if names_a_file(text) {
        return;
    }
    let pairs = conninfo::parse(text, Some(&Environment::default()));
    assert_eq!(
        conninfo::parse(text, None).is_err() || text.contains('$'),
        pairs.is_err() || text.contains('$')
    );
    let Ok(pairs) = pairs else { return };
    let mut draft = Draft::new("app", Path::new(""));
    for (key, value) in pairs {
        let _ = draft.set(&key, &Raw::Text(value));
    }
    let _ = draft.finish();
}

/// A list of users.
pub(crate) fn list_of_users(text: &str) {
    let lines = text.lines().count();
    let entries = userlist::parse(text);
    assert!(entries.len() <= lines);
    for entry in entries {
        match entry {
            Ok((name, _)) => assert!(!name.is_empty()),
            Err((line, _)) => assert!((1..=lines).contains(&line)),
        }
    }
}
