//! Bytes to tokens ("Lexical Structure" in PostgreSQL's manual).

use super::scan;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Blanks and line ends.
    Space,
    /// `-- …` to the end of the line, or `/* … */` with comments nested in it.
    Comment,
    /// A keyword or a name without quotes.
    Word,
    /// A name in double quotes.
    QuotedName,
    /// A name in double quotes with Unicode escapes: `U&"…"`.
    UnicodeName,
    /// A string of any form: `'…'`, `E'…'`, `B'…'`, `X'…'`, `N'…'`, `U&'…'`, `$tag$…$tag$`; with what continues it on
    /// the next line.
    String,
    /// A number.
    Number,
    /// `$1`
    Parameter,
    /// A run of operator characters.
    Operator,
    /// One character of any other sort: brackets, commas, dots, colons.
    Other,
    /// `;`
    Semicolon,
    /// A string, a quoted name or a comment that the text ends within. Always the last token.
    Unterminated,
}

impl Kind {
    /// Whether the token stands for nothing: spaces and comments.
    pub fn is_blank(self) -> bool {
        matches!(self, Self::Space | Self::Comment)
    }
}

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its bytes, never empty.
    pub text: &'a [u8],
    /// Where it begins in the whole text, in bytes.
    pub start: usize,
}

impl Token<'_> {
    /// Where it ends in the whole text, in bytes.
    pub fn end(&self) -> usize {
        self.start.saturating_add(self.text.len())
    }

    /// Whether it is this keyword. PostgreSQL folds the letters of ASCII and no others.
    pub fn is_word(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }

    /// Whether it is this one character, which is no part of an operator.
    pub(super) fn is_other(&self, character: u8) -> bool {
        self.kind == Kind::Other && self.text == [character]
    }

    /// Whether it is `(`.
    pub(super) fn is_open(&self) -> bool {
        self.is_other(b'(')
    }

    /// Whether it is `)`.
    pub(super) fn is_close(&self) -> bool {
        self.is_other(b')')
    }

    /// Whether it may be a name: a word, or one in double quotes.
    pub(super) fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::QuotedName | Kind::UnicodeName)
    }
}

/// Cuts a text into tokens, none left out: together they are the text.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    rest: &'a [u8],
    start: usize,
    standard_conforming_strings: bool,
}

impl<'a> Lexer<'a> {
    /// A lexer at the beginning of a text. `standard_conforming_strings` is the setting of that name: whether a
    /// backslash in a plain string stands for itself.
    pub fn new(text: &'a [u8], standard_conforming_strings: bool) -> Self {
        Self {
            rest: text,
            start: 0,
            standard_conforming_strings,
        }
    }

    /// The kind of the token that `rest` begins with, and its length.
    fn measure(&self, first: u8) -> (Kind, usize) {
        let rest = self.rest;
        let after = |count| rest.get(count..).unwrap_or_default();
        match first {
            _ if scan::is_space(first) => (Kind::Space, scan::run(rest, scan::is_space)),
            b';' => (Kind::Semicolon, 1),
            b'-' if after(1).first() == Some(&b'-') => (Kind::Comment, scan::line_comment(rest)),
            b'/' if after(1).first() == Some(&b'*') => closed(Kind::Comment, rest, scan::block_comment(rest)),
            b'\'' => self.string(0, !self.standard_conforming_strings),
            b'"' => closed(Kind::QuotedName, rest, scan::quoted(rest, b'"')),
            b'$' => self.dollar(after(1)),
            _ if scan::is_word_start(first) => self.word(after(1)),
            _ if scan::is_number(rest) => (Kind::Number, scan::number(rest)),
            _ if scan::is_operator(first) => (Kind::Operator, scan::operator(rest)),
            _ => (Kind::Other, 1),
        }
    }

    /// A word, or what a letter before a quote makes of it.
    fn word(&self, second: &[u8]) -> (Kind, usize) {
        match (self.rest.first().map(u8::to_ascii_lowercase), second) {
            (Some(b'e'), [b'\'', ..]) => self.string(1, true),
            (Some(b'b' | b'x'), [b'\'', ..]) => self.string(1, false),
            // A plain string behind the letter, so the setting counts.
            (Some(b'n'), [b'\'', ..]) => self.string(1, !self.standard_conforming_strings),
            (Some(b'u'), [b'&', b'\'', ..]) => self.string(2, false),
            (Some(b'u'), [b'&', b'"', ..]) => {
                let quoted = self.rest.get(2..).unwrap_or_default();
                let len = scan::quoted(quoted, b'"').map(|len| len.saturating_add(2));
                closed(Kind::UnicodeName, self.rest, len)
            }
            _ => (Kind::Word, scan::run(self.rest, scan::is_word)),
        }
    }

    /// A string whose opening quote comes after a prefix of so many bytes.
    fn string(&self, prefix: usize, backslashes: bool) -> (Kind, usize) {
        let quoted = self.rest.get(prefix..).unwrap_or_default();
        let len = scan::string(quoted, backslashes).map(|len| len.saturating_add(prefix));
        closed(Kind::String, self.rest, len)
    }

    /// A parameter, a dollar-quoted string, or a dollar sign with nothing to it.
    fn dollar(&self, second: &[u8]) -> (Kind, usize) {
        if second.first().is_some_and(u8::is_ascii_digit) {
            return (
                Kind::Parameter,
                scan::run(second, |byte| byte.is_ascii_digit()).saturating_add(1),
            );
        }
        match scan::dollar_tag(self.rest) {
            Some(tag) => closed(Kind::String, self.rest, scan::dollar_quoted(self.rest, tag)),
            None => (Kind::Other, 1),
        }
    }
}

/// A token that has an end, or an unterminated one up to the end of the text.
fn closed(kind: Kind, rest: &[u8], len: Option<usize>) -> (Kind, usize) {
    len.map_or((Kind::Unterminated, rest.len()), |len| (kind, len))
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let (kind, len) = self.measure(*self.rest.first()?);
        let (text, rest) = self.rest.split_at_checked(len.max(1)).unwrap_or((self.rest, &[]));
        let token = Token {
            kind,
            text,
            start: self.start,
        };
        self.rest = rest;
        self.start = token.end();
        Some(token)
    }
}
