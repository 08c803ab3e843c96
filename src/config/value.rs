//! The kinds of value that a setting may have: how each is read from what somebody wrote, and written again.

/// A value as it was written, before anybody asked what it should be.
#[derive(Clone, PartialEq)]
pub(super) enum Raw {
    /// A TOML string, an environment variable, or what the console was told.
    Text(String),
    /// A TOML number: decimal, or `0o…`.
    Number(String),
    Flag(bool),
    List(Vec<String>),
    /// A TOML value that no setting takes, by its name ("a date").
    Other(&'static str),
}

impl Raw {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(super) fn described(&self) -> String {
        match self {
            Self::Text(text) => format!("\"{text}\""),
            Self::Number(number) => number.clone(),
            Self::Flag(flag) => flag.to_string(),
            Self::List(_) => "a list".to_owned(),
            Self::Other(name) => (*name).to_owned(),
        }
    }

    pub(super) fn is_not(&self, what: &str) -> String {
        format!("{} is not {what}", self.described())
    }

    /// What may stand for a number: a number, or text that looks like one.
    pub(super) fn digits(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text.trim()),
            _ => None,
        }
    }
}

/// A kind of value.
pub(super) trait Kind {
    type Value;
    /// How the reference calls it.
    const WORD: &'static str;
    /// How a message describes what was expected.
    const WANTED: &'static str;

    fn read(raw: &Raw) -> Result<Self::Value, String>;
    /// As `SHOW CONFIG` prints it and `SET` reads it.
    fn show(value: &Self::Value) -> String;
    /// As it is written in a TOML file.
    fn toml(value: &Self::Value) -> String {
        quoted(&Self::show(value))
    }
}

/// A TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Any text.
pub(super) struct Text;

impl Kind for Text {
    type Value = String;
    const WORD: &'static str = "text";
    const WANTED: &'static str = "text in quotes";

    fn read(raw: &Raw) -> Result<String, String> {
        match raw {
            Raw::Text(text) => Ok(text.clone()),
            _ => Err(raw.is_not(Self::WANTED)),
        }
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

/// Names, as a TOML array or separated by commas.
pub(super) struct Names;

impl Kind for Names {
    type Value = Vec<String>;
    const WORD: &'static str = "list";
    const WANTED: &'static str = "a list such as [\"a\", \"b\"] or \"a, b\"";

    fn read(raw: &Raw) -> Result<Vec<String>, String> {
        let trimmed = |part: &str| part.trim().to_owned();
        match raw {
            Raw::Text(text) => Ok(text
                .split(',')
                .map(trimmed)
                .filter(|name| !name.is_empty())
                .collect()),
            Raw::List(names)
                if names
                    .iter()
                    .any(|name| name.contains(',') || name.trim().is_empty()) =>
            {
                Err("an entry of a list must have letters and no comma".to_owned())
            }
            Raw::List(names) => Ok(names.iter().map(|name| trimmed(name)).collect()),
            _ => Err(raw.is_not(Self::WANTED)),
        }
    }

    fn show(value: &Vec<String>) -> String {
        value.join(", ")
    }

    fn toml(value: &Vec<String>) -> String {
        let names: Vec<String> = value.iter().map(|name| quoted(name)).collect();
        format!("[{}]", names.join(", "))
    }
}

/// How many of something.
pub(super) struct Count;

impl Kind for Count {
    type Value = u32;
    const WORD: &'static str = "number";
    const WANTED: &'static str = "a whole number from 0 to 4294967295";

    fn read(raw: &Raw) -> Result<u32, String> {
        raw.digits()
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| raw.is_not(Self::WANTED))
    }

    fn show(value: &u32) -> String {
        value.to_string()
    }

    fn toml(value: &u32) -> String {
        value.to_string()
    }
}

/// A TCP port.
pub(super) struct Port;

impl Kind for Port {
    type Value = u16;
    const WORD: &'static str = "port";
    const WANTED: &'static str = "a port from 0 to 65535";

    fn read(raw: &Raw) -> Result<u16, String> {
        raw.digits()
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| raw.is_not(Self::WANTED))
    }

    fn show(value: &u16) -> String {
        value.to_string()
    }

    fn toml(value: &u16) -> String {
        value.to_string()
    }
}

/// Permissions of a file. The digits are octal, with or without a prefix, as `chmod` reads them.
pub(super) struct Octal;

impl Kind for Octal {
    type Value = u32;
    const WORD: &'static str = "mode";
    const WANTED: &'static str = "an octal file mode such as \"0770\"";

    fn read(raw: &Raw) -> Result<u32, String> {
        raw.digits()
            .and_then(|digits| u32::from_str_radix(digits.trim_start_matches("0o"), 8).ok())
            .filter(|mode| *mode <= 0o777)
            .ok_or_else(|| raw.is_not(Self::WANTED))
    }

    fn show(value: &u32) -> String {
        format!("{value:04o}")
    }
}

/// Yes or no.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;
    const WORD: &'static str = "yes or no";
    const WANTED: &'static str = "true or false";

    fn read(raw: &Raw) -> Result<bool, String> {
        if let Raw::Flag(flag) = raw {
            return Ok(*flag);
        }
        match raw.digits().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "on" | "yes" | "1") => Ok(true),
            Some("false" | "off" | "no" | "0") => Ok(false),
            _ => Err(raw.is_not(Self::WANTED)),
        }
    }

    fn show(value: &bool) -> String {
        value.to_string()
    }

    fn toml(value: &bool) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_modes_are_octal_however_written() {
        for raw in [
            Raw::text("0770"),
            Raw::text("770"),
            Raw::text("0o770"),
            Raw::Number("0o770".into()),
        ] {
            assert_eq!(Octal::read(&raw), Ok(0o770));
        }
        assert_eq!(
            Octal::read(&Raw::text("0789")),
            Err("\"0789\" is not an octal file mode such as \"0770\"".to_owned())
        );
        assert!(Octal::read(&Raw::text("1777")).is_err());
    }

    #[test]
    fn lists_are_read_from_arrays_and_from_commas() {
        let both = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(Names::read(&Raw::text("a, b ,")), Ok(both.clone()));
        assert_eq!(Names::read(&Raw::List(both.clone())), Ok(both));
        assert_eq!(Names::read(&Raw::text("")), Ok(vec![]));
        assert!(Names::read(&Raw::List(vec!["a,b".to_owned()])).is_err());
        assert!(Names::read(&Raw::Flag(true)).is_err());
    }

    #[test]
    fn wrong_kinds_are_described_by_what_was_written() {
        assert_eq!(
            Flag::read(&Raw::Number("3".into())).unwrap_err(),
            "3 is not true or false"
        );
        assert_eq!(
            Text::read(&Raw::Number("5".into())).unwrap_err(),
            "5 is not text in quotes"
        );
        assert!(
            Count::read(&Raw::Number("-1".into()))
                .unwrap_err()
                .starts_with("-1 is not a whole number")
        );
        assert!(Port::read(&Raw::text("65536")).is_err());
    }
}
