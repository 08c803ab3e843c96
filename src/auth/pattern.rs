//! Regular expressions as PostgreSQL's configuration files have them.
//!
//! PostgreSQL's dialect ("Advanced Regular Expressions") is not that of the `regex` crate, and an expression that means
//! something else than it did is a hole in a wall. So each one is read here and written anew: what both know is
//! translated, and what only PostgreSQL knows (back references, looking around, word boundaries, options within) is an
//! error. Classes are ASCII, as with PostgreSQL, which compiles these expressions in the C locale. One difference
//! remains: where several matches are possible, PostgreSQL prefers the longest and this the first alternative. It can
//! be seen only in what `\1` stands for.

use regex::Regex;

/// The largest bound in braces; PostgreSQL's limit.
const BOUND_MAX: u32 = 255;

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles an expression.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        let invalid = |reason: &str| format!("invalid regular expression \"{source}\": {reason}");
        let mut translator = Translator {
            rest: source,
            out: String::new(),
        };
        translator.expression().map_err(|reason| invalid(&reason))?;
        let regex = Regex::new(&translator.out).map_err(|error| invalid(last_line(&error.to_string())))?;
        Ok(Self {
            source: source.to_owned(),
            regex,
        })
    }

    /// As it was written.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether there is a match anywhere in the text.
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Whether it has a part in parentheses.
    pub(super) fn has_group(&self) -> bool {
        self.regex.captures_len() > 1
    }

    /// What the first part in parentheses matched; nothing if there is no match or the part had no share in it.
    pub(super) fn first_group<'t>(&self, text: &'t str) -> Option<&'t str> {
        let captures = self.regex.captures(text)?;
        captures.get(1).map(|group| group.as_str())
    }
}

/// The message of a multi-line error of the regex crate, whose other lines draw where it is.
fn last_line(error: &str) -> &str {
    let line = error.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line)
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
}

impl Translator<'_> {
    fn next(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next()?;
        self.rest = letters.as_str();
        Some(letter)
    }

    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn literal(&mut self, letter: char) {
        let mut bytes = [0; 4];
        self.out += &regex::escape(letter.encode_utf8(&mut bytes));
    }

    fn expression(&mut self) -> Result<(), String> {
        if self.rest.starts_with("***") {
            return Err("directors (***) are not supported".to_owned());
        }
        // Whether there is something that a quantifier can follow.
        let mut is_atom = false;
        while let Some(letter) = self.next() {
            let quantifies = match letter {
                '*' | '+' | '?' => true,
                '{' => self.rest.starts_with(|next: char| next.is_ascii_digit()),
                _ => false,
            };
            if quantifies {
                if !is_atom {
                    return Err("quantifier operand invalid".to_owned());
                }
                self.quantifier(letter)?;
                is_atom = false;
                continue;
            }
            is_atom = self.atom(letter)?;
        }
        Ok(())
    }

    /// Anything but a quantifier; returns whether a quantifier may follow.
    fn atom(&mut self, letter: char) -> Result<bool, String> {
        match letter {
            '(' => {
                if self.rest.starts_with('?') && !self.rest.starts_with("?:") {
                    return Err("options and looking around, (?...), are not supported".to_owned());
                }
                self.out.push('(');
                if self.eat("?:") {
                    self.out += "?:";
                }
                Ok(false)
            }
            '|' | '^' => {
                self.out.push(letter);
                Ok(false)
            }
            '$' => {
                self.out += "$";
                Ok(false)
            }
            ')' => {
                self.out.push(')');
                Ok(true)
            }
            '.' => {
                self.out += "(?s:.)";
                Ok(true)
            }
            '[' => self.bracket().map(|()| true),
            '\\' => self.escape(),
            letter => {
                self.literal(letter);
                Ok(true)
            }
        }
    }

    fn quantifier(&mut self, letter: char) -> Result<(), String> {
        self.out.push(letter);
        if letter == '{' {
            let (bounds, rest) = self.rest.split_once('}').ok_or("braces {} not balanced")?;
            let (least, most) = bounds.split_once(',').unwrap_or((bounds, bounds));
            let is_bound = |text: &str| {
                text.bytes().all(|byte| byte.is_ascii_digit())
                    && text.parse::<u32>().is_ok_and(|bound| bound <= BOUND_MAX)
            };
            if !is_bound(least) || !(most.is_empty() || is_bound(most)) {
                return Err("invalid repetition count(s)".to_owned());
            }
            self.out += bounds;
            self.out.push('}');
            self.rest = rest;
        }
        if self.eat("?") {
            self.out.push('?');
        }
        Ok(())
    }

    /// What follows a backslash outside of brackets; returns whether a quantifier may follow.
    fn escape(&mut self) -> Result<bool, String> {
        let Some(letter) = self.next() else {
            return Err("invalid escape \\ sequence".to_owned());
        };
        match letter {
            'A' => self.out += "\\A",
            'Z' => self.out += "\\z",
            'D' => self.out += "[^0-9]",
            'S' => self.out += "[^ \\t\\n\\r\\x0b\\x0c]",
            'W' => self.out += "[^0-9A-Za-z_]",
            letter => {
                if let Some(class) = class(letter) {
                    self.out.push('[');
                    self.out += class;
                    self.out.push(']');
                } else {
                    let letter = plain(letter)?;
                    self.literal(letter);
                }
            }
        }
        Ok(!matches!(letter, 'A' | 'Z'))
    }

    /// A bracket expression, after its `[`.
    fn bracket(&mut self) -> Result<(), String> {
        const OPEN: &str = "brackets [] not balanced";
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            let letter = self.next().ok_or(OPEN)?;
            match letter {
                ']' if !is_first => break,
                '[' if self.rest.starts_with(['.', '=']) => {
                    return Err("collating elements, [. .] and [= =], are not supported".to_owned());
                }
                '[' if self.eat(":") => {
                    let (name, rest) = self.rest.split_once(":]").ok_or(OPEN)?;
                    if !CLASSES.contains(&name) {
                        return Err("invalid character class".to_owned());
                    }
                    self.out += "[:";
                    self.out += name;
                    self.out += ":]";
                    self.rest = rest;
                }
                // As it stands only as the first or last of them, or between two others.
                '-' if is_first || self.rest.starts_with(']') => self.out += "\\-",
                '-' => self.out.push('-'),
                '\\' => {
                    let escaped = self.next().ok_or(OPEN)?;
                    if let Some(class) = class(escaped) {
                        self.out += class;
                    } else {
                        let letter = plain(escaped)?;
                        self.member(letter);
                    }
                }
                letter => self.member(letter),
            }
            is_first = false;
        }
        self.out.push(']');
        Ok(())
    }

    /// A character of a bracket expression.
    fn member(&mut self, letter: char) {
        if matches!(letter, '[' | ']' | '^' | '-' | '&' | '~' | '\\') {
            self.out.push('\\');
        }
        self.out.push(letter);
    }
}

/// POSIX's classes, which are ASCII on both sides.
const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// What a letter after a backslash stands for within brackets, if it is a class.
fn class(letter: char) -> Option<&'static str> {
    match letter {
        'd' => Some("0-9"),
        's' => Some(" \\t\\n\\r\\x0b\\x0c"),
        'w' => Some("0-9A-Za-z_"),
        _ => None,
    }
}

/// The one character that an escape stands for.
fn plain(letter: char) -> Result<char, String> {
    match letter {
        'f' => Ok('\u{c}'),
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        'v' => Ok('\u{b}'),
        '1'..='9' => Err("back references are not supported".to_owned()),
        letter if letter.is_alphanumeric() => Err(format!("escape \\{letter} is not supported")),
        letter => Ok(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).unwrap().is_match(text)
    }

    #[test]
    fn what_both_dialects_know_is_understood() {
        for (pattern, yes, no) in [
            (r"^db\d{2,4}$", "db123", "db1"),
            (r"^\w+$", "a_1", "a-1"),
            (r"^\W+$", "-", "a"),
            (r"^\S\D\s$", "ab ", "a1 "),
            (r"^[\w.-]+$", "a-b.c", "a b"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[^]a]+$", "b", "]"),
            (r"^[a-c-]+$", "b-", "d"),
            (r"^[[a]b$", "[b", "[[a]b"),
            (r"^[a&&b]+$", "&", "c"),
            (r"^[[:alpha:]]+$", "abc", "ä"),
            (r"^a{,2}$", "a{,2}", "aa"),
            (r"^(ab|cd)(?:x)?$", "cdx", "cd-"),
            (r"\Ab\.c\Z", "b.c", "bxc"),
            ("^.$", "\n", "ab"),
            ("^.$", "ä", "ää"),
            (r"^\d$", "5", "\u{0665}"),
            ("^a#b c$", "a#b c", "a"),
            ("/x", "a/x", "x"),
            ("", "anything", "\u{0}none"),
        ] {
            assert!(matches(pattern, yes), "{pattern:?} {yes:?}");
            assert!(pattern.is_empty() || !matches(pattern, no), "{pattern:?} {no:?}");
        }
    }

    #[test]
    fn what_only_one_dialect_knows_is_refused() {
        for pattern in [
            r"(a)\1",
            "(?i)a",
            "(?=a)",
            "(?<=a)",
            "(?P<n>a)",
            r"\ya",
            r"\ba",
            r"\Ba",
            r"\ma",
            r"\pL",
            r"\x41",
            "***=a",
            "[[.a.]]",
            "[[=a=]]",
            "[[:<:]]a",
            "[[:nonsense:]]",
            "a**",
            "a*+",
            "*a",
            "(*a)",
            "a|*",
            "^*",
            "(",
            ")",
            "[a",
            "a{2",
            "a{256}",
            "a{3,2}",
            "a{1,x}",
            "\\",
            "[b-a]",
            "a{255}{2}",
            "(((a{255}){255}){255}){255}",
        ] {
            let error = Pattern::new(pattern).expect_err(pattern);
            assert!(error.starts_with("invalid regular expression \""), "{error}");
        }
    }
}
