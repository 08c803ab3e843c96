//! Whether a text frees prepared statements: `DEALLOCATE` and `DISCARD ALL`.
//!
//! The servers' prepared statements are shared, so these must not reach a server as they are. Nearly every text is not
//! one of them, and is told so by its first word and a search for semicolons.

use std::borrow::Cow;

use super::identifier;
use super::lexer::{Kind, Lexer, Token};
use super::scan;
use super::statement::{Statement, Statements};

/// What one statement frees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deallocation<'a> {
    /// `DEALLOCATE name`: one statement, by its name as PostgreSQL understands it.
    Name(Cow<'a, [u8]>),
    /// `DEALLOCATE ALL`: every statement.
    All,
    /// `DISCARD ALL`: every statement, and whatever else a session holds.
    DiscardAll,
}

/// What a text frees, if it is carried out to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deallocations<'a> {
    /// One for each statement that frees something, in their order.
    pub found: Vec<Deallocation<'a>>,
    /// There are other statements beside.
    pub is_mixed: bool,
}

impl<'a> Deallocations<'a> {
    /// The one that the text is, and nothing else.
    pub fn sole(mut self) -> Option<Deallocation<'a>> {
        if self.is_mixed || self.found.len() > 1 {
            return None;
        }
        self.found.pop()
    }
}

/// What a text would free. `standard_conforming_strings` is the setting of the session that the text is for.
///
/// A text that ends within a string or a comment frees nothing: PostgreSQL refuses it as a whole.
pub fn deallocations(text: &[u8], standard_conforming_strings: bool) -> Deallocations<'_> {
    let mut freed = Deallocations::default();
    if !may_free(text, standard_conforming_strings) {
        return freed;
    }
    for statement in Statements::new(text, standard_conforming_strings) {
        if statement.is_unterminated() {
            return Deallocations::default();
        }
        match judge(&statement) {
            Some(found) => freed.found.push(found),
            None => freed.is_mixed = true,
        }
    }
    freed
}

/// What one statement would free, were it alone. A syntax error frees nothing and is PostgreSQL's to explain.
fn judge<'a>(statement: &Statement<'a>) -> Option<Deallocation<'a>> {
    let mut head = statement.head();
    let (first, second) = (head.next()?, head.next()?);
    if first.is_word("discard") {
        let is_all = second.is_word("all") && head.next().is_none();
        return is_all.then_some(Deallocation::DiscardAll);
    }
    if !first.is_word("deallocate") {
        return None;
    }
    match (head.next(), head.next(), head.next()) {
        // `DEALLOCATE prepare` frees the statement of that name.
        (None, ..) => judge_name(&second, None, None),
        (Some(what), word, character) if second.is_word("prepare") && head.next().is_none() => {
            judge_name(&what, word, character)
        }
        (word, character, None) => judge_name(&second, word, character),
        _ => None,
    }
}

/// What a name frees, with what stands behind it: nothing, or, if it has escapes, `UESCAPE 'c'`.
fn judge_name<'a>(
    what: &Token<'a>,
    word: Option<Token<'_>>,
    character: Option<Token<'_>>,
) -> Option<Deallocation<'a>> {
    if what.kind == Kind::UnicodeName {
        let escape = match (word, character.map(|token| token.text)) {
            (None, _) => b'\\',
            (Some(word), Some([b'\'', escape, b'\''])) if word.is_word("uescape") => *escape,
            _ => return None,
        };
        let name = identifier::unicode_name(what, escape)?;
        return Some(Deallocation::Name(Cow::Owned(name)));
    }
    if word.is_some() {
        return None;
    }
    if what.is_word("all") {
        return Some(Deallocation::All);
    }
    identifier::name(what).map(Deallocation::Name)
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
