//! A password, or what stands for one, that cannot be printed by accident.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A plain password, an `md5…` hash or a `SCRAM-SHA-256$…` verifier. Printing it shows stars.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for those who authenticate with it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first line of a file. The error says what is wrong with the file, not what is in it.
    pub(super) fn from_file(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the password from {}: {error}", path.display()))?;
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(Self::new(line)),
            _ => Err(format!(
                "the first line of {} is empty, it should be a password",
                path.display()
            )),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn printing_a_secret_shows_stars() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {:#?}", Some(&secret)),
            "*** *** Some(\n    ***,\n)"
        );
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn password_file_ends_at_its_first_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b" p w \r\nsecond\n").unwrap();
        assert_eq!(Secret::from_file(file.path()).unwrap().expose(), " p w ");
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(Secret::from_file(empty.path()).unwrap_err().contains("is empty"));
        assert!(
            Secret::from_file(Path::new("/nonexistent/pw"))
                .unwrap_err()
                .contains("cannot read")
        );
    }
}
