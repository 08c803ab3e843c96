//! Tokens to statements: what lies between semicolons.

use super::lexer::{Kind, Lexer, Token};

/// How many tokens of a statement are kept: `DEALLOCATE PREPARE name UESCAPE '!'` and one more.
const HEAD_LEN: usize = 6;

/// The beginning of a statement, which is where a statement says what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statement<'a> {
    head: [Option<Token<'a>>; HEAD_LEN],
    unterminated: bool,
}

impl<'a> Statement<'a> {
    /// The first tokens, without spaces and comments: at most six.
    pub fn head(&self) -> impl Iterator<Item = Token<'a>> + use<'a> {
        self.head.into_iter().flatten()
    }

    /// Whether the text ends within a string, a quoted name or a comment of this statement.
    pub fn is_unterminated(&self) -> bool {
        self.unterminated
    }
}

/// The statements of a text, without the empty ones.
///
/// The semicolons in the body of a function or a rule separate statements here too; of these only
/// `CREATE FUNCTION … BEGIN ATOMIC` and `CREATE RULE … DO (…)` have any.
#[derive(Clone, Debug)]
pub struct Statements<'a> {
    lexer: Lexer<'a>,
}

impl<'a> Statements<'a> {
    /// The statements of a text; for the setting see [`Lexer::new`].
    pub fn new(text: &'a [u8], standard_conforming_strings: bool) -> Self {
        Self {
            lexer: Lexer::new(text, standard_conforming_strings),
        }
    }
}

impl<'a> Iterator for Statements<'a> {
    type Item = Statement<'a>;

    fn next(&mut self) -> Option<Statement<'a>> {
        let mut statement = Statement::default();
        let mut free = statement.head.iter_mut();
        let mut empty = true;
        for token in self.lexer.by_ref() {
            match token.kind {
                Kind::Space | Kind::Comment => {}
                Kind::Semicolon if empty => {}
                Kind::Semicolon => break,
                kind => {
                    empty = false;
                    statement.unterminated |= kind == Kind::Unterminated;
                    if let Some(slot) = free.next() {
                        *slot = Some(token);
                    }
                }
            }
        }
        (!empty).then_some(statement)
    }
}
