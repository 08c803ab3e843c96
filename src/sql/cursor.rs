//! A way through the statements of a text, token by token, without what is blank.

use super::lexer::{Kind, Lexer, Token};

/// Where one is in a text. A statement ends at a semicolon outside of parentheses: those in the body of a rule
/// separate nothing here. (The semicolons in `BEGIN ATOMIC` do, so that the body is read as if it were executed.)
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    lexer: Lexer<'a>,
    ahead: Option<Token<'a>>,
    depth: usize,
    unterminated: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8], standard_conforming_strings: bool) -> Self {
        let mut cursor = Self {
            lexer: Lexer::new(text, standard_conforming_strings),
            ahead: None,
            depth: 0,
            unterminated: false,
        };
        cursor.advance();
        cursor
    }

    fn advance(&mut self) {
        self.ahead = self.lexer.find(|token| !token.kind.is_blank());
        self.unterminated |= self.ahead.is_some_and(|token| token.kind == Kind::Unterminated);
    }

    /// Whether the text ends within a string, a quoted name or a comment. Known once that has been reached.
    pub(super) fn is_unterminated(&self) -> bool {
        self.unterminated
    }

    /// How many parentheses are open before the next token.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The statement's next token, which stays where it is.
    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.ahead
            .filter(|token| self.depth > 0 || token.kind != Kind::Semicolon)
    }

    /// The statement's next token.
    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek()?;
        if token.is_open() {
            self.depth = self.depth.saturating_add(1);
        } else if token.is_close() {
            self.depth = self.depth.saturating_sub(1);
        }
        self.advance();
        Some(token)
    }

    /// The statement's next token, if it is this keyword.
    pub(super) fn take_word(&mut self, keyword: &str) -> bool {
        let found = self.is_word(keyword);
        if found {
            self.next();
        }
        found
    }

    /// Whether the next token is this keyword.
    pub(super) fn is_word(&self, keyword: &str) -> bool {
        self.peek().is_some_and(|token| token.is_word(keyword))
    }

    /// The statement's next token, if it is this character.
    pub(super) fn take_other(&mut self, character: u8) -> bool {
        let found = self.is_other(character);
        if found {
            self.next();
        }
        found
    }

    /// Whether the next token is this character.
    pub(super) fn is_other(&self, character: u8) -> bool {
        self.peek().is_some_and(|token| token.is_other(character))
    }

    /// Goes to the end of the statement.
    pub(super) fn skip_statement(&mut self) {
        while self.next().is_some() {}
    }

    /// Goes behind the parenthesis that closes the one that comes next.
    pub(super) fn skip_parentheses(&mut self) {
        let depth = self.depth;
        while self.next().is_some() && self.depth > depth {}
    }

    /// Goes to the next statement; false at the end of the text.
    pub(super) fn next_statement(&mut self) -> bool {
        self.skip_statement();
        while self.ahead.is_some_and(|token| token.kind == Kind::Semicolon) {
            self.advance();
        }
        self.depth = 0;
        self.ahead.is_some()
    }
}
