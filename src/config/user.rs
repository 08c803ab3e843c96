//! A user who may log in.

use std::path::Path;

use super::database::{read_secret, set_override};
use super::secret::Secret;
use super::settings::Overrides;
use super::table::Scope;
use super::value::Raw;

/// An entry of `[users]` or of the `auth_file`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name to log in with.
    pub name: String,
    /// A plain password, an `md5…` hash or a `SCRAM-SHA-256$…` verifier. Without one the user can log in only where
    /// no password is asked for.
    pub secret: Option<Secret>,
    /// Settings that this user has of their own.
    pub overrides: Overrides,
}

impl User {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn set(&mut self, key: &str, raw: &Raw, directory: &Path) -> Result<(), String> {
        match key {
            "password" | "password_file" => read_secret(&mut self.secret, key, raw, directory),
            _ => set_override(
                &mut self.overrides,
                Scope::User,
                key,
                raw,
                &["password", "password_file"],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_only_the_settings_of_users() {
        let mut user = User::new("bob");
        let mut set = |key: &str, text: &str| user.set(key, &Raw::text(text), Path::new("."));
        assert_eq!(set("pool_size", "3"), Ok(()));
        assert_eq!(set("password", "hunter2"), Ok(()));
        assert_eq!(
            set("server_lifetime", "3").unwrap_err(),
            "setting \"server_lifetime\" cannot stand in [users]"
        );
        assert_eq!(user.overrides.pool_size, Some(3));
        assert!(!format!("{user:?}").contains("hunter2"), "{user:?}");
    }
}
