//! Ident maps: which names of the operating system or of certificates may log in as which users.
//!
//! The format is that of the manual's chapter "User Name Maps": lines of a map's name, a name from outside and a user.

use std::path::Path;

use super::hba::RoleName;
use super::pattern::Pattern;
use super::tables::{Faults, Files, Line, Word, tables};

/// The lines of all maps.
#[derive(Debug, Default)]
pub struct IdentMaps(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    map: String,
    outside: Outside,
    user: MappedUser,
}

/// A name from outside.
#[derive(Debug)]
enum Outside {
    Is(String),
    Matches(Pattern),
}

/// Whom a line lets that name log in as.
#[derive(Debug)]
enum MappedUser {
    Role(RoleName),
    /// The text around `\1`, which stands for what the expression's parentheses matched.
    Around(String, String),
}

impl IdentMaps {
    /// Reads a file and those that it includes. The error is everything that is wrong, each with its line.
    pub fn parse(path: &Path, files: &dyn Files) -> Result<Self, Faults> {
        let (lines, mut faults) = tables(path, files);
        let mut entries = Vec::new();
        for line in &lines {
            match Entry::new(line) {
                Ok(entry) => entries.push(entry),
                Err(message) => faults.push(line.fault(message)),
            }
        }
        Faults::of(faults).map_or(Ok(Self(entries)), Err)
    }

    /// Whether there is a map of this name.
    pub fn has(&self, map: &str) -> bool {
        self.0.iter().any(|entry| entry.map == map)
    }

    /// Whether somebody whom the outside calls `outside` may log in as `user`: by a map, or, without one, because
    /// the names are the same.
    pub fn allow(&self, map: Option<&str>, outside: &str, user: &str) -> bool {
        match map {
            None => outside == user,
            Some(map) => self
                .0
                .iter()
                .any(|entry| entry.map == map && entry.allows(outside, user)),
        }
    }
}

impl Entry {
    /// What follows the third field is left alone, as PostgreSQL does.
    fn new(line: &Line) -> Result<Self, String> {
        let word = |index: usize| -> Result<&Word, String> {
            match line.fields.get(index).map(Vec::as_slice) {
                Some([word]) => Ok(word),
                Some(_) => Err("multiple values in ident field".to_owned()),
                None => Err("missing entry at end of line".to_owned()),
            }
        };
        let (map, outside, user) = (word(0)?, word(1)?, word(2)?);
        let outside = match outside.expression() {
            Some(expression) => Outside::Matches(Pattern::new(expression)?),
            None => Outside::Is(outside.text.clone()),
        };
        Ok(Self {
            map: map.text.clone(),
            user: MappedUser::new(user, &outside)?,
            outside,
        })
    }

    fn allows(&self, outside: &str, user: &str) -> bool {
        match (&self.outside, &self.user) {
            (Outside::Is(name), MappedUser::Role(role)) => name == outside && role.is(user),
            (Outside::Matches(pattern), MappedUser::Role(role)) => pattern.is_match(outside) && role.is(user),
            // Compared as it is: a name that happens to be a keyword is a name.
            (Outside::Matches(pattern), MappedUser::Around(before, after)) => {
                let group = pattern.first_group(outside);
                let inner = user
                    .strip_prefix(before.as_str())
                    .and_then(|rest| rest.strip_suffix(after.as_str()));
                group.is_some() && group == inner
            }
            (Outside::Is(_), MappedUser::Around(..)) => false,
        }
    }
}

impl MappedUser {
    fn new(word: &Word, outside: &Outside) -> Result<Self, String> {
        let role = RoleName::new(word)?;
        match (&role, outside) {
            (RoleName::Is(name), Outside::Matches(pattern)) => match name.split_once("\\1") {
                Some(_) if !pattern.has_group() => Err(format!(
                    "regular expression \"{}\" has no subexpressions as requested by backreference in \"{name}\"",
                    pattern.source()
                )),
                Some((before, after)) => Ok(Self::Around(before.to_owned(), after.to_owned())),
                None => Ok(Self::Role(role)),
            },
            _ => Ok(Self::Role(role)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    struct One(&'static str);

    impl Files for One {
        fn read(&self, _: &Path) -> io::Result<String> {
            Ok(self.0.to_owned())
        }

        fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
            Ok(Vec::new())
        }
    }

    fn parse(text: &'static str) -> Result<IdentMaps, String> {
        IdentMaps::parse(Path::new("ident"), &One(text)).map_err(|faults| faults.to_string())
    }

    #[test]
    fn names_are_mapped_line_by_line() {
        let maps = parse(
            "# map outside user\n\
             m bryanh bryanh\n\
             m bryanh guest1 # and more\n\
             m robert bob\n\
             m \"Ann Smith\" ann\n\
             re /^(.*)@mydomain\\.com$ \\1\n\
             re /^(.*)@other\\.com$ guest\n\
             re /^svc-(.*)$ app_\\1_role\n\
             re /^x(y)?$ \\1\n\
             words root all\n\
             words /^op /^op_[0-9]+$\n\
             words admin \"all\"\n\
             words /^(.*)@kw$ \\1\n\
             words quoted \"+x\"\n",
        )
        .unwrap();
        for (map, outside, user, expected) in [
            (None, "a", "a", true),
            (None, "a", "b", false),
            (Some("m"), "bryanh", "guest1", true),
            (Some("m"), "bryanh", "bob", false),
            (Some("m"), "robert", "robert", false),
            (Some("m"), "Ann Smith", "ann", true),
            (Some("m"), "ann smith", "ann", false),
            (Some("none"), "a", "a", false),
            (Some("re"), "joe@mydomain.com", "joe", true),
            (Some("re"), "joe@mydomainXcom", "joe", false),
            (Some("re"), "joe@other.com", "guest", true),
            (Some("re"), "joe@other.com", "joe", false),
            (Some("re"), "svc-pay", "app_pay_role", true),
            (Some("re"), "svc-pay", "app_pay", false),
            (Some("re"), "x", "", false),
            (Some("re"), "xy", "y", true),
            (Some("words"), "root", "anybody", true),
            (Some("words"), "operator", "op_7", true),
            (Some("words"), "operator", "op_x", false),
            (Some("words"), "admin", "all", true),
            (Some("words"), "admin", "bob", false),
            (Some("words"), "all@kw", "all", true),
            (Some("words"), "all@kw", "bob", false),
            (Some("words"), "quoted", "+x", true),
        ] {
            assert_eq!(
                maps.allow(map, outside, user),
                expected,
                "{map:?} {outside} {user}"
            );
        }
        assert!(maps.has("re") && !maps.has("none"));
        assert!(parse("").is_ok());
    }

    #[test]
    fn every_broken_line_is_reported() {
        let faults = parse("m\nm a\nm a,b c\nm /( c\nm a +c\nm /a \\1\nm a b\n").unwrap_err();
        let lines: Vec<_> = faults.lines().collect();
        assert_eq!(
            lines,
            [
                "ident:1: missing entry at end of line",
                "ident:2: missing entry at end of line",
                "ident:3: multiple values in ident field",
                "ident:4: invalid regular expression \"(\": unclosed group",
                "ident:5: \"+c\" is not supported: howdah does not know the members of roles",
                "ident:6: regular expression \"a\" has no subexpressions as requested by backreference in \"\\1\"",
            ]
        );
    }
}
