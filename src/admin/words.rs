//! A command's words.

use crate::error::{Refusal, SqlState};
use crate::sql::{Kind, Lexer};

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A keyword, a number, or a name without quotes; its case is kept.
    Bare(String),
    /// What was in double quotes.
    Name(String),
    /// What was in single quotes.
    Text(String),
    /// Anything else.
    Symbol(String),
}

impl Word {
    /// Whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Bare(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// The name that it stands for, if it can be one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Bare(name) | Self::Name(name) => Some(name),
            Self::Text(_) | Self::Symbol(_) => None,
        }
    }
}

/// One statement, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    /// As it was written, without what is around it.
    pub(super) text: String,
    /// Its words, and where in the text each begins and ends.
    pub(super) words: Vec<(Word, usize, usize)>,
}

impl Statement {
    /// What was written from a word on.
    pub(super) fn text_from(&self, word: usize) -> &str {
        let start = self
            .words
            .get(word)
            .map_or(self.text.len(), |(_, start, _)| *start);
        let end = self.words.last().map_or(start, |(_, _, end)| *end);
        self.text.get(start..end).unwrap_or_default()
    }

    fn add(&mut self, word: Word, start: usize, end: usize) {
        // `1db` is one name here, as in PgBouncer, though not in SQL.
        if let (Some((Word::Bare(name), _, before)), Word::Bare(more)) = (self.words.last_mut(), &word)
            && *before == start
        {
            name.push_str(more);
            *before = end;
        } else {
            self.words.push((word, start, end));
        }
    }
}

/// The statements of a text, the empty ones left out.
pub(super) fn statements(text: &str) -> Result<Vec<Statement>, Refusal> {
    let mut found = Vec::new();
    let mut statement = Statement::default();
    let mut base = 0;
    for token in Lexer::new(text.as_bytes(), true) {
        let written = text.get(token.start..token.end()).unwrap_or_default();
        let word = match token.kind {
            Kind::Space | Kind::Comment => continue,
            Kind::Semicolon => {
                close(&mut found, &mut statement, text, base, token.start);
                base = token.end();
                continue;
            }
            Kind::Word | Kind::Number => Word::Bare(written.to_owned()),
            Kind::QuotedName => Word::Name(unquoted(written, '"')),
            Kind::String if written.starts_with('\'') => Word::Text(unquoted(written, '\'')),
            Kind::Unterminated => {
                return Err(Refusal::new(
                    SqlState::SYNTAX_ERROR,
                    "a quote or a comment has no end",
                ));
            }
            _ => Word::Symbol(written.to_owned()),
        };
        statement.add(word, token.start - base, token.end() - base);
    }
    close(&mut found, &mut statement, text, base, text.len());
    Ok(found)
}

fn close(found: &mut Vec<Statement>, statement: &mut Statement, text: &str, base: usize, end: usize) {
    if !statement.words.is_empty() {
        text.get(base..end)
            .unwrap_or_default()
            .clone_into(&mut statement.text);
        found.push(std::mem::take(statement));
    }
}

/// Without the quotes around it; doubled quotes inside are halved.
fn unquoted(written: &str, quote: char) -> String {
    let inside = written.strip_prefix(quote).unwrap_or(written);
    let inside = inside.strip_suffix(quote).unwrap_or(inside);
    inside.replace(&format!("{quote}{quote}"), &quote.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<Word>> {
        let words = |statement: Statement| statement.words.into_iter().map(|(word, ..)| word).collect();
        statements(text).unwrap().into_iter().map(words).collect()
    }

    fn bare(text: &str) -> Word {
        Word::Bare(text.to_owned())
    }

    #[test]
    fn statements_end_at_semicolons_and_comments_are_nothing() {
        assert_eq!(
            words("-- hello\n show /* all */ Pools ;; pause \"My \"\"Db\"\"\";"),
            [
                vec![bare("show"), bare("Pools")],
                vec![bare("pause"), Word::Name("My \"Db\"".to_owned())]
            ]
        );
        assert!(words(" ; -- nothing").is_empty());
    }

    #[test]
    fn names_may_begin_with_digits() {
        assert_eq!(words("PAUSE 1db"), [vec![bare("PAUSE"), bare("1db")]]);
    }

    #[test]
    fn a_value_can_be_had_as_it_was_written() {
        let statements = statements("; set a = 1min 30s  ;").unwrap();
        assert_eq!(statements[0].text_from(3), "1min 30s");
        assert_eq!(statements[0].text_from(9), "");
    }

    #[test]
    fn what_has_no_end_is_refused() {
        for text in ["show 'x", "show \"x", "show /* x"] {
            assert_eq!(statements(text).unwrap_err().code, SqlState::SYNTAX_ERROR);
        }
    }
}
