//! Texts that begin or end a transaction and do nothing else.

use super::cursor::Cursor;

/// A text that is one such statement, without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// `BEGIN`, `START TRANSACTION`
    Begin,
    /// `COMMIT`, `END`
    Commit,
    /// `ROLLBACK`, `ABORT`
    Rollback,
}

/// Whether a text is such a statement and nothing else; comments and semicolons do not matter.
pub fn bare(text: &[u8]) -> Option<Bare> {
    // The words have no strings, so their setting does not matter.
    let mut cursor = Cursor::new(text, true);
    if cursor.peek().is_none() {
        cursor.next_statement();
    }
    let head = cursor.next()?;
    let (kind, starts) = match head.text.len() {
        3 if head.is_word("end") => (Bare::Commit, false),
        5 if head.is_word("begin") => (Bare::Begin, false),
        5 if head.is_word("start") => (Bare::Begin, true),
        5 if head.is_word("abort") => (Bare::Rollback, false),
        6 if head.is_word("commit") => (Bare::Commit, false),
        8 if head.is_word("rollback") => (Bare::Rollback, false),
        _ => return None,
    };
    let transaction = cursor.take_word("transaction");
    if starts && !transaction {
        return None;
    }
    if !transaction {
        cursor.take_word("work");
    }
    let ends = cursor.peek().is_none() && !cursor.next_statement() && !cursor.is_unterminated();
    ends.then_some(kind)
}
