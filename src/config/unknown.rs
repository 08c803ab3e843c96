//! What to say about a name that means nothing where it stands.

use super::fault::{nearest, suggestion};
use super::settings::TABLE;
use super::table::Scope;

/// For a key of `[howdah]`.
pub(super) fn setting(key: &str) -> String {
    if let Some(row) = TABLE.iter().find(|row| row.local == key) {
        return format!("setting \"{key}\" is called \"{}\" here", row.name);
    }
    let suggestion = suggestion(key, TABLE.iter().map(|row| row.name));
    format!("there is no setting \"{key}\"{suggestion}")
}

/// For a key of an entry of `[databases]` or `[users]`, where `keys` stand beside the settings.
pub(super) fn entry_key(key: &str, scope: Scope, keys: &[&'static str]) -> String {
    let table = scope.table();
    match TABLE.iter().find(|row| row.name == key || row.local == key) {
        Some(row) if row.scopes.contains(&scope) => {
            return format!("setting \"{key}\" is called \"{}\" here", row.local);
        }
        Some(_) => return format!("setting \"{key}\" cannot stand in [{table}]"),
        None => {}
    }
    let settings = TABLE
        .iter()
        .filter(|row| row.scopes.contains(&scope))
        .map(|row| row.local);
    let suggestion = suggestion(key, settings.chain(keys.iter().copied()));
    format!("an entry of [{table}] has no \"{key}\"{suggestion}")
}

/// For a table of the file.
pub(super) fn table(key: &str) -> String {
    if TABLE.iter().any(|row| row.name == key) {
        return format!("setting \"{key}\" must stand under [howdah]");
    }
    let suggestion = suggestion(key, ["howdah", "databases", "users"]);
    format!("there is no table [{key}]{suggestion}")
}

/// For an environment variable, which is named without its `HOWDAH_`.
pub(super) fn variable(name: &str) -> String {
    let lower = name.to_lowercase();
    match nearest(&lower, TABLE.iter().map(|row| row.name).chain(["url"])) {
        Some(name) => format!(
            "there is no such setting (did you mean \"HOWDAH_{}\"?)",
            name.to_uppercase()
        ),
        None => "there is no such setting".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_key_names_the_nearest_setting() {
        assert_eq!(
            setting("pool_mod"),
            "there is no setting \"pool_mod\" (did you mean \"pool_mode\"?)"
        );
        assert_eq!(setting("frobnicate"), "there is no setting \"frobnicate\"");
        assert_eq!(
            variable("POOL_MOD"),
            "there is no such setting (did you mean \"HOWDAH_POOL_MODE\"?)"
        );
        assert_eq!(
            entry_key("pasword", Scope::User, &["password"]),
            "an entry of [users] has no \"pasword\" (did you mean \"password\"?)"
        );
        assert_eq!(
            table("database"),
            "there is no table [database] (did you mean \"databases\"?)"
        );
    }

    #[test]
    fn known_name_in_the_wrong_place_is_told_where_it_belongs() {
        assert_eq!(
            setting("pool_size"),
            "setting \"pool_size\" is called \"default_pool_size\" here"
        );
        assert_eq!(
            entry_key("default_pool_size", Scope::Database, &[]),
            "setting \"default_pool_size\" is called \"pool_size\" here"
        );
        assert_eq!(
            entry_key("auth_file", Scope::Database, &[]),
            "setting \"auth_file\" cannot stand in [databases]"
        );
        assert_eq!(
            table("listen_port"),
            "setting \"listen_port\" must stand under [howdah]"
        );
    }
}
