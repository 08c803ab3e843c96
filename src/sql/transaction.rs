//! Texts that begin or end a transaction and do nothing else.

use super::cursor::Cursor;

/// A text that is one such statement, without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// `BEGIN`
    Begin,
    /// `START TRANSACTION`
    Start,
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
    let kind = match head.text.len() {
        3 if head.is_word("end") => Bare::Commit,
        5 if head.is_word("begin") => Bare::Begin,
        5 if head.is_word("start") => Bare::Start,
        5 if head.is_word("abort") => Bare::Rollback,
        6 if head.is_word("commit") => Bare::Commit,
        8 if head.is_word("rollback") => Bare::Rollback,
        _ => return None,
    };
    let transaction = cursor.take_word("transaction");
    if kind == Bare::Start && !transaction {
        return None;
    }
    if !transaction {
        cursor.take_word("work");
    }
    let ends = cursor.peek().is_none() && !cursor.next_statement() && !cursor.is_unterminated();
    ends.then_some(kind)
}
