//! What is wrong with a configuration: where, what, and which name was probably meant.

use std::fmt;
use std::sync::Arc;

/// One thing to correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    place: Place,
    message: String,
}

impl Fault {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
        }
    }

    /// The file, or the environment variable, that holds the mistake; empty for what the console was told.
    pub fn file(&self) -> &str {
        &self.place.file
    }

    /// The line in that file, from 1.
    pub fn line(&self) -> Option<usize> {
        self.place.line
    }

    /// What is wrong. Never repeats a secret.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.place, self.message)
    }
}

impl std::error::Error for Fault {}

/// Everything that is wrong, in the order of the lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `None` when there is nothing to complain about.
    pub(super) fn of(mut faults: Vec<Fault>) -> Option<Self> {
        faults.sort_by(|a, b| a.place.cmp(&b.place));
        faults.dedup();
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// The faults, one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    file: Arc<str>,
    line: Option<usize>,
}

impl Place {
    /// A whole file, or an environment variable.
    pub(super) fn file(file: &str) -> Self {
        Self {
            file: file.into(),
            line: None,
        }
    }

    /// No place: the console.
    pub(super) fn nowhere() -> Self {
        Self::file("")
    }

    /// A line, from 1, of the same file.
    pub(super) fn at(&self, line: usize) -> Self {
        Self {
            file: Arc::clone(&self.file),
            line: Some(line),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: ", self.file),
            None if self.file.is_empty() => Ok(()),
            None => write!(f, "{}: ", self.file),
        }
    }
}

/// ` (did you mean "…"?)` when a valid name is near enough, else nothing.
pub(super) fn suggestion<'a>(written: &str, valid: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(written, valid) {
        Some(name) => format!(" (did you mean \"{name}\"?)"),
        None => String::new(),
    }
}

/// The valid name with the fewest edits, if they are no more than a third of its letters.
pub(super) fn nearest<'a>(written: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    let letters = written.chars().count();
    let few = |name: &str| (name.len() / 3).max(1);
    let (_, name) = valid
        .into_iter()
        // There are at least as many edits as letters too many or too few: what is long costs nothing.
        .filter(|name| name.chars().count().abs_diff(letters) <= few(name))
        .map(|name| (edits(&written, name), name))
        .filter(|(distance, name)| *distance <= few(name))
        .min()?;
    Some(name)
}

/// Insertions, deletions and replacements that lead from one word to another (Levenshtein's distance).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, letter) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], done + 1);
        for (index, wanted) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *wanted);
            diagonal = row[index + 1];
            row[index + 1] = replaced.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_as_levenshtein_does() {
        for (from, to, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("pool_mod", "pool_mode", 1),
        ] {
            assert_eq!(edits(from, to), count, "{from} {to}");
            assert_eq!(edits(to, from), count, "{to} {from}");
        }
    }

    #[test]
    fn a_far_word_is_not_suggested() {
        let valid = ["pool_mode", "listen_port"];
        assert_eq!(suggestion("Pool-mode", valid), " (did you mean \"pool_mode\"?)");
        assert_eq!(suggestion("zebra", valid), "");
    }

    #[test]
    fn faults_are_printed_in_the_order_of_their_lines() {
        let file = Place::file("a.toml");
        let faults = Faults::of(vec![
            Fault::new(file.at(12), "later"),
            Fault::new(file.at(3), "sooner"),
            Fault::new(file.clone(), "whole"),
        ]);
        assert_eq!(
            faults.unwrap().to_string(),
            "a.toml: whole\na.toml:3: sooner\na.toml:12: later"
        );
        assert_eq!(Faults::of(vec![]), None);
    }
}
