//! What `howdah check` warns of: values that are sound, and yet will hardly do what they are meant to.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::check::asks_for_users;
use super::{Config, SslMode};

impl Config {
    /// All there is to warn of, a line each. Looks at the file system.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        self.about_addresses(&mut warnings);
        self.about_visitors(&mut warnings);
        self.about_directories(&mut warnings);
        self.about_keys(&mut warnings);
        warnings
    }

    fn about_addresses(&self, warnings: &mut Vec<String>) {
        for address in &self.settings.listen_addr {
            if address.contains(char::is_whitespace) {
                warnings.push(format!(
                    "listen_addr: \"{address}\" has a blank in it; several addresses are a list, or have commas between them"
                ));
            }
        }
    }

    /// Those who may use the console, but not log in.
    fn about_visitors(&self, warnings: &mut Vec<String>) {
        let settings = &self.settings;
        if !settings.auth_type.needs_secret() || asks_for_users(self) {
            return;
        }
        for (setting, names) in [
            ("admin_users", &settings.admin_users),
            ("stats_users", &settings.stats_users),
        ] {
            for name in names {
                let has_secret = self.users.get(name).is_some_and(|user| user.secret.is_some());
                if !has_secret {
                    warnings.push(format!(
                        "{setting}: \"{name}\" has no password, and cannot log in"
                    ));
                }
            }
        }
    }

    fn about_directories(&self, warnings: &mut Vec<String>) {
        let settings = &self.settings;
        let pidfile = Path::new(&settings.pidfile).parent();
        // A name alone is in the directory where howdah is started.
        let pidfile = pidfile.filter(|directory| !directory.as_os_str().is_empty());
        let socket = Path::new(&settings.unix_socket_dir);
        let socket = Some(socket).filter(|directory| !directory.as_os_str().is_empty());
        for (setting, directory) in [("pidfile", pidfile), ("unix_socket_dir", socket)] {
            if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
                warnings.push(format!(
                    "{setting}: there is no directory {}",
                    directory.display()
                ));
            }
        }
    }

    /// Private keys that others than their owner and its group can read, which PostgreSQL refuses.
    fn about_keys(&self, warnings: &mut Vec<String>) {
        let settings = &self.settings;
        let client =
            (settings.client_tls_sslmode != SslMode::Disable).then_some(&settings.client_tls_key_file);
        let keys = [
            ("client_tls_key_file", client),
            ("server_tls_key_file", Some(&settings.server_tls_key_file)),
        ];
        for (setting, file) in keys {
            let Some(file) = file.filter(|file| !file.is_empty()) else {
                continue;
            };
            let mode = std::fs::metadata(self.path(file)).map(|file| file.permissions().mode());
            if let Ok(mode) = mode
                && mode & 0o007 != 0
            {
                warnings.push(format!(
                    "{setting}: {file} can be read by everybody (mode {:04o})",
                    mode & 0o7777
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AuthType, Secret, User};
    use super::*;

    fn warned(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        config.settings.auth_type = AuthType::Trust;
        change(&mut config);
        config.warnings().join("\n")
    }

    #[test]
    fn what_is_as_it_should_be_is_not_warned_of() {
        assert_eq!(warned(|_| ()), "");
        let text = warned(|config| {
            config.settings.auth_type = AuthType::Scram;
            config.settings.admin_users = vec!["bob".to_owned()];
            let user = User {
                secret: Some(Secret::new("x")),
                ..User::new("bob")
            };
            config.users.insert("bob".to_owned(), user);
            config.settings.unix_socket_dir = "/tmp".to_owned();
            config.settings.pidfile = "howdah.pid".to_owned();
        });
        assert_eq!(text, "");
    }

    #[test]
    fn what_cannot_be_used_is() {
        let text = warned(|config| {
            config.settings.auth_type = AuthType::Scram;
            config.settings.admin_users = vec!["bob".to_owned()];
            config.settings.listen_addr = vec!["127.0.0.1 ::1".to_owned()];
            config.settings.unix_socket_dir = "/nonexistent".to_owned();
            config.settings.pidfile = "/nonexistent/too/pid".to_owned();
        });
        assert_eq!(
            text,
            "listen_addr: \"127.0.0.1 ::1\" has a blank in it; several addresses are a list, or have commas between them\n\
             admin_users: \"bob\" has no password, and cannot log in\n\
             pidfile: there is no directory /nonexistent/too\n\
             unix_socket_dir: there is no directory /nonexistent"
        );
    }

    #[test]
    fn a_key_that_everybody_can_read_is() {
        let key = tempfile::NamedTempFile::new().unwrap();
        let name = key.path().to_str().unwrap().to_owned();
        let with_mode = |mode| {
            std::fs::set_permissions(key.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            warned(|config| config.settings.server_tls_key_file.clone_from(&name))
        };
        assert_eq!(with_mode(0o640), "");
        assert_eq!(
            with_mode(0o644),
            format!("server_tls_key_file: {name} can be read by everybody (mode 0644)")
        );
    }
}
