//! Whether a text frees prepared statements: `DEALLOCATE` and `DISCARD ALL`.
//!
//! The servers' prepared statements are shared, so these must not reach a server as they are. Nearly every text is not
//! one of them, and is told so by its first word and a search for semicolons.

use std::borrow::Cow;

use super::identifier;
use super::lexer::{Kind, Lexer, Token};
use super::scan;
use super::statement::{Statement, Statements};

/// What a text would free. `sole` says that the text is this one statement and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deallocation<'a> {
    /// Nothing.
    None,
    /// `DEALLOCATE name`: one statement.
    Name {
        /// Which one, as PostgreSQL understands the name.
        name: Cow<'a, [u8]>,
        /// Whether the text is nothing but this.
        sole: bool,
    },
    /// `DEALLOCATE ALL`: every statement.
    All {
        /// Whether the text is nothing but this.
        sole: bool,
    },
    /// `DISCARD ALL`: every statement, and whatever else a session holds.
    DiscardAll {
        /// Whether the text is nothing but this.
        sole: bool,
    },
    /// It frees something and cannot be said in one word: several such statements, a name written with Unicode escapes,
    /// or a text that ends within a string or a comment, which PostgreSQL refuses as a whole.
    Mixed,
}

/// What a text would free. `standard_conforming_strings` is the setting of the session that the text is for.
pub fn deallocation(text: &[u8], standard_conforming_strings: bool) -> Deallocation<'_> {
    if !may_free(text, standard_conforming_strings) {
        return Deallocation::None;
    }
    let mut found = Deallocation::None;
    let mut count = 0_usize;
    for statement in Statements::new(text, standard_conforming_strings) {
        count = count.saturating_add(1);
        found = match (found, judge(&statement)) {
            _ if statement.is_unterminated() => return Deallocation::Mixed,
            (found, Deallocation::None) => found,
            (Deallocation::None, judged) => judged,
            _ => return Deallocation::Mixed,
        };
    }
    if count > 1 { found.among_others() } else { found }
}

impl Deallocation<'_> {
    fn among_others(self) -> Self {
        match self {
            Self::Name { name, .. } => Self::Name { name, sole: false },
            Self::All { .. } => Self::All { sole: false },
            Self::DiscardAll { .. } => Self::DiscardAll { sole: false },
            other => other,
        }
    }
}

/// What one statement would free, were it alone.
fn judge<'a>(statement: &Statement<'a>) -> Deallocation<'a> {
    let mut head = statement.head();
    let Some(first) = head.next() else {
        return Deallocation::None;
    };
    let (second, third, fourth) = (head.next(), head.next(), head.next());
    if first.is_word("discard") {
        return match (second, third) {
            (Some(what), None) if what.is_word("all") => Deallocation::DiscardAll { sole: true },
            _ => Deallocation::None,
        };
    }
    if !first.is_word("deallocate") {
        return Deallocation::None;
    }
    match (second, third, fourth) {
        (Some(prepare), Some(what), None) if prepare.is_word("prepare") => judge_name(&what),
        // `DEALLOCATE prepare` frees the statement of that name.
        (Some(what), None, None) => judge_name(&what),
        // It may go on with the `UESCAPE` of the name.
        _ if statement.head().any(|token| token.kind == Kind::UnicodeName) => Deallocation::Mixed,
        // A syntax error, which frees nothing and is PostgreSQL's to explain.
        _ => Deallocation::None,
    }
}

fn judge_name<'a>(what: &Token<'a>) -> Deallocation<'a> {
    if what.is_word("all") {
        return Deallocation::All { sole: true };
    }
    match (identifier::name(what), what.kind) {
        (Some(name), _) => Deallocation::Name { name, sole: true },
        (None, Kind::UnicodeName) => Deallocation::Mixed,
        (None, _) => Deallocation::None,
    }
}

/// Whether any statement of a text could free something; may be wrong by saying yes. Every statement begins with the
/// text or behind a semicolon, so it is enough to look there, whether or not the semicolon is within a string.
fn may_free(text: &[u8], standard_conforming_strings: bool) -> bool {
    let rest = match scan::skip_spaces(text) {
        [] => return false,
        commented @ [b'-' | b'/', ..] => {
            let mut lexer = Lexer::new(commented, standard_conforming_strings);
            let Some(first) = lexer.find(|token| !token.kind.is_blank()) else {
                return false;
            };
            commented.get(first.start..).unwrap_or_default()
        }
        rest => rest,
    };
    if begins_freeing(rest) {
        return true;
    }
    memchr::memchr_iter(b';', rest).any(|at| {
        let next = scan::skip_spaces(rest.get(at.saturating_add(1)..).unwrap_or_default());
        // Whoever goes on with a comment is read in full, lest the same comment be skipped from every semicolon in it.
        begins_freeing(next) || matches!(next, [b'-', b'-', ..] | [b'/', b'*', ..])
    })
}

/// Whether a text begins like the keywords in question.
fn begins_freeing(text: &[u8]) -> bool {
    let begins = |keyword: &[u8]| {
        text.get(..keyword.len())
            .is_some_and(|word| word.eq_ignore_ascii_case(keyword))
    };
    begins(b"deallocate") || begins(b"discard")
}
