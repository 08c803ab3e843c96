//! The tables that PostgreSQL reads logins from, as lines of fields of words: what `pg_hba.conf` and `pg_ident.conf`
//! have in common.
//!
//! Fields are separated by blanks, the words of a field by commas; quotes take the meaning from whatever is in them; a
//! backslash at the end continues a line; `#` begins a comment. `@file` stands for the words of a file, and three
//! directives bring in whole files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files within files; PostgreSQL's limit.
const DEPTH_MAX: usize = 10;
/// Lines of all files together, so that files that include each other end.
const LINES_MAX: usize = 100_000;

/// Where files come from: the disk in earnest, memory in a test.
pub trait Files {
    /// The text of a file.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The paths of what is in a directory.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;
}

/// Something to correct in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    file: Arc<str>,
    /// From 1; 0 for the file as a whole.
    line: usize,
    message: String,
}

/// Everything that is wrong with a file and those that it includes; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

/// A word, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Whether it began with a quote: then it is no keyword.
    quoted: bool,
}

/// A line with something in it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) file: Arc<str>,
    pub(super) number: usize,
    pub(super) fields: Vec<Vec<Word>>,
}

impl Fault {
    pub(super) fn of_file(path: &Path, message: impl Into<String>) -> Self {
        Self {
            file: path.display().to_string().into(),
            line: 0,
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

impl Faults {
    pub(super) fn of(faults: Vec<Fault>) -> Option<Self> {
        (!faults.is_empty()).then_some(Self(faults))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl Word {
    /// Whether it is this keyword, which it is not in quotes.
    pub(super) fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }

    /// The name of a role whose members are meant.
    pub(super) fn group(&self) -> Option<&str> {
        self.text.strip_prefix('+').filter(|_| !self.quoted)
    }

    /// A regular expression, in quotes or not.
    pub(super) fn expression(&self) -> Option<&str> {
        self.text.strip_prefix('/')
    }

    /// The file that stands for words.
    fn file(&self) -> Option<&str> {
        let name = self.text.strip_prefix('@').filter(|_| !self.quoted)?;
        (!name.is_empty()).then_some(name)
    }
}

impl Line {
    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault {
            file: self.file.clone(),
            line: self.number,
            message: message.into(),
        }
    }
}

/// The lines of a file, those of included files in their places, and what could not be read.
pub(super) fn tables(path: &Path, files: &dyn Files) -> (Vec<Line>, Vec<Fault>) {
    let mut reader = Reader {
        files,
        lines: Vec::new(),
        faults: Vec::new(),
        lines_left: LINES_MAX,
        is_too_deep: false,
    };
    if let Err(message) = reader.include(path, 0) {
        reader.faults.push(Fault::of_file(path, message));
    }
    (reader.lines, reader.faults)
}

struct Reader<'a> {
    files: &'a dyn Files,
    lines: Vec<Line>,
    faults: Vec<Fault>,
    lines_left: usize,
    /// Files that include each other are read no further: there would be no end to them.
    is_too_deep: bool,
}

impl Reader<'_> {
    /// Reads a file; the error is for the line that asked for it.
    fn include(&mut self, path: &Path, depth: usize) -> Result<(), String> {
        let text = self.text(path, depth)?;
        let file: Arc<str> = path.display().to_string().into();
        for (number, text) in logical_lines(&text) {
            if self.is_too_deep {
                return Ok(());
            }
            if self.lines_left == 0 {
                return Err(format!("there are more than {LINES_MAX} lines in these files"));
            }
            self.lines_left -= 1;
            let mut line = Line {
                file: file.clone(),
                number,
                fields: Vec::new(),
            };
            let result = self
                .fields(&text, path, depth)
                .and_then(|fields| self.settle(fields, &mut line, path, depth));
            match result {
                Ok(()) if line.fields.is_empty() => {}
                Ok(()) => self.lines.push(line),
                Err(message) => self.faults.push(line.fault(message)),
            }
        }
        Ok(())
    }

    fn text(&mut self, path: &Path, depth: usize) -> Result<String, String> {
        let name = path.display();
        if depth > DEPTH_MAX {
            self.is_too_deep = true;
            return Err(format!(
                "could not open file \"{name}\": maximum nesting depth exceeded"
            ));
        }
        self.files
            .read(path)
            .map_err(|error| format!("could not open file \"{name}\": {error}"))
    }

    /// Keeps the fields as a line, or does what they say if they are a directive.
    fn settle(
        &mut self,
        fields: Vec<Vec<Word>>,
        line: &mut Line,
        path: &Path,
        depth: usize,
    ) -> Result<(), String> {
        if let [first, second] = fields.as_slice()
            && let (Some(directive), Some(argument)) = (first.first(), second.first())
        {
            let target = beside(path, &argument.text);
            match directive.text.as_str() {
                "include" => return self.include(&target, depth + 1),
                "include_if_exists" => {
                    return match self.files.read(&target) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                        _ => self.include(&target, depth + 1),
                    };
                }
                "include_dir" => return self.include_directory(&target, depth),
                _ => {}
            }
        }
        line.fields = fields;
        Ok(())
    }

    /// Includes what ends in `.conf` and is not hidden, in the order of the bytes of its name.
    fn include_directory(&mut self, directory: &Path, depth: usize) -> Result<(), String> {
        let mut paths = self
            .files
            .list(directory)
            .map_err(|error| format!("could not open directory \"{}\": {error}", directory.display()))?;
        paths.retain(|path| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            name.ends_with(b".conf") && !name.starts_with(b".")
        });
        paths.sort();
        paths
            .iter()
            .try_for_each(|path| self.include(path, depth.saturating_add(1)))
    }

    fn fields(&mut self, text: &str, path: &Path, depth: usize) -> Result<Vec<Vec<Word>>, String> {
        let mut fields = Vec::new();
        let mut words = Words::of(text);
        while !words.is_at_end() {
            let mut field = Vec::new();
            while let Some((word, more)) = words.next() {
                match word.file() {
                    Some(name) => field.extend(self.words_of(&beside(path, name), depth + 1)?),
                    None => field.push(word),
                }
                if !more {
                    break;
                }
            }
            if !field.is_empty() {
                fields.push(field);
            }
        }
        Ok(fields)
    }

    /// All words of a file, whatever its lines and fields.
    fn words_of(&mut self, path: &Path, depth: usize) -> Result<Vec<Word>, String> {
        let mut reader = Reader {
            files: self.files,
            lines: Vec::new(),
            faults: Vec::new(),
            lines_left: self.lines_left,
            is_too_deep: self.is_too_deep,
        };
        let read = reader.include(path, depth);
        (self.lines_left, self.is_too_deep) = (reader.lines_left, reader.is_too_deep);
        read?;
        match reader.faults.first() {
            Some(fault) => Err(fault.to_string()),
            None => Ok(reader
                .lines
                .into_iter()
                .flat_map(|line| line.fields)
                .flatten()
                .collect()),
        }
    }
}

/// The words of a text outside of a file.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    let mut words = Words::of(text);
    std::iter::from_fn(move || words.next().map(|(word, _)| word.text))
}

/// A path as it is meant in a file: relative ones begin in the directory of that file.
fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(name)
}

/// Lines with their continuations, each with the number of the line that it begins on.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut whole = String::new();
    let mut begun = None;
    let mut continued_len = 0;
    for (index, part) in text.lines().enumerate() {
        let number = *begun.get_or_insert(index + 1);
        whole.push_str(part.trim_end_matches('\r'));
        // A backslash must follow the last continuation: two of them on two lines would surprise otherwise.
        if whole.len() > continued_len && whole.ends_with('\\') {
            whole.pop();
            continued_len = whole.len();
            continue;
        }
        lines.push((number, std::mem::take(&mut whole)));
        (begun, continued_len) = (None, 0);
    }
    lines.extend(begun.map(|number| (number, whole)));
    lines
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r')
}

/// The words of a line, one by one.
struct Words<'a> {
    letters: std::iter::Peekable<std::str::Chars<'a>>,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            letters: text.chars().peekable(),
        }
    }

    fn is_at_end(&mut self) -> bool {
        self.letters.peek().is_none()
    }

    /// The next word, and whether a comma follows at once: then the field goes on.
    fn next(&mut self) -> Option<(Word, bool)> {
        while self
            .letters
            .next_if(|letter| is_blank(*letter) || *letter == ',')
            .is_some()
        {}
        let mut text = String::new();
        let (mut in_quotes, mut quoted, mut any_quote) = (false, false, false);
        let mut comma = false;
        while let Some(letter) = self.letters.next_if(|letter| in_quotes || !is_blank(*letter)) {
            match letter {
                '"' => {
                    // Two quotes inside of quotes are one.
                    if in_quotes && self.letters.next_if_eq(&'"').is_some() {
                        text.push('"');
                        continue;
                    }
                    in_quotes = !in_quotes;
                    any_quote = true;
                    quoted |= text.is_empty();
                }
                '#' if !in_quotes => self.letters.by_ref().for_each(drop),
                ',' if !in_quotes => {
                    comma = true;
                    break;
                }
                letter => text.push(letter),
            }
        }
        (any_quote || !text.is_empty()).then_some((Word { text, quoted }, comma))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a line, with a mark before those that are quoted; fields in brackets.
    fn shown(text: &str) -> String {
        struct Nothing;
        impl Files for Nothing {
            fn read(&self, _: &Path) -> io::Result<String> {
                Err(io::ErrorKind::NotFound.into())
            }
            fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
                Err(io::ErrorKind::NotFound.into())
            }
        }
        let mut reader = Reader {
            files: &Nothing,
            lines: Vec::new(),
            faults: Vec::new(),
            lines_left: 1,
            is_too_deep: false,
        };
        let fields = reader.fields(text, Path::new("f"), 0).unwrap();
        let word = |word: &Word| format!("{}{}", if word.quoted { "'" } else { "" }, word.text);
        let field = |field: &Vec<Word>| format!("[{}]", field.iter().map(word).collect::<Vec<_>>().join("|"));
        fields.iter().map(field).collect()
    }

    #[test]
    fn words_are_cut_as_postgresql_cuts_them() {
        for (text, expected) in [
            ("a b\tc", "[a][b][c]"),
            ("a,b, c ,d", "[a|b|c][d]"),
            ("a b # c", "[a][b]"),
            ("a,# c", "[a]"),
            ("a#b", "[a]"),
            ("\"a b\",c", "['a b|c]"),
            ("\"a\"\"b\"", "['a\"b]"),
            ("\"\"", "[']"),
            ("\"\"\"\"", "['\"]"),
            ("\"a#b\"", "['a#b]"),
            ("a\" b\"c", "[a bc]"),
            ("x=\"a, b\"", "[x=a, b]"),
            ("\"open end", "['open end]"),
            (",,a,,b", "[a|b]"),
            ("\"@x\" @", "['@x][@]"),
            ("", ""),
            (" , ", ""),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_are_continued_by_backslashes() {
        let lines = |text: &str| logical_lines(text);
        let line = |number, text: &str| (number, text.to_owned());
        assert_eq!(lines("a\\\nb\nc\r\n"), [line(1, "ab"), line(3, "c")]);
        assert_eq!(lines("a \\\n\\\n b"), [line(1, "a  b")]);
        assert_eq!(lines("# a\\\nb\nc"), [line(1, "# ab"), line(3, "c")]);
        assert_eq!(lines("a\\"), [line(1, "a")]);
        assert_eq!(lines("a\\\\\nb"), [line(1, "a\\b")]);
    }
}
