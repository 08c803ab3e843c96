//! Text with a password somewhere in it, which nobody gets to see.

use std::fmt;

use super::value::{Kind, Raw, Text};

/// What stands before the password.
const KEY: &str = "ldapbindpasswd=";

/// Options for LDAP, with the password of the one who searches. Shown without it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LdapOptions(String);

impl LdapOptions {
    /// The options as they were written, password and all.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for LdapOptions {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for LdapOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All that follows is left out: where a password ends depends on quotes that may be wrong.
        match self.0.split_once(KEY) {
            Some((before, _)) => write!(f, "{before}{KEY}***"),
            None => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for LdapOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl Kind for LdapOptions {
    type Value = Self;
    const WORD: &'static str = Text::WORD;
    const WANTED: &'static str = Text::WANTED;

    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) => Ok(Self(text.clone())),
            // Without what was written, for it may hold the password.
            _ => Err(format!("must be {}", Self::WANTED)),
        }
    }

    fn show(value: &Self) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (text, shown) in [
            ("", ""),
            ("ldapserver=h ldapprefix=a", "ldapserver=h ldapprefix=a"),
            ("a=b ldapbindpasswd=pw c=d", "a=b ldapbindpasswd=***"),
            ("a=b \"ldapbindpasswd=p w\"", "a=b \"ldapbindpasswd=***"),
        ] {
            let options = LdapOptions::from(text);
            assert_eq!(options.to_string(), shown);
            assert_eq!(format!("{options:?}"), format!("{shown:?}"));
        }
    }
}
