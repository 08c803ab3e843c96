//! The arguments of a call, as far as they decide what the call does.

use super::cursor::Cursor;
use super::lexer::{Kind, Token};
use super::literal::literal;

/// How many tokens are looked at. Calls can be nested, and each token may be looked at this often.
const TOKENS_MAX: usize = 64;
/// How many tokens of an argument are kept: as many as `'a'::text` has.
const KEPT: usize = 4;

/// The first argument of a call: a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First<'a> {
    /// A string.
    Literal(&'a [u8]),
    /// `$1`
    Parameter(u16),
    /// Anything else.
    Computed,
}

/// The second argument of a call: a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    Null,
    /// `$1`
    Parameter(u16),
    /// Anything else.
    Other,
}

/// The third argument of a call: a truth value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Third {
    Absent,
    True,
    False,
    Unknown,
}

/// What is known of the arguments of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments<'a> {
    pub(super) first: First<'a>,
    pub(super) second: Second,
    pub(super) third: Third,
    /// The second may have `pg_temp` in it: it does, or it is no simple string.
    pub(super) may_be_temporary: bool,
}

/// The first tokens of an argument, and how many it has.
#[derive(Default)]
struct Argument<'a> {
    tokens: [Option<Token<'a>>; KEPT],
    count: usize,
}

impl<'a> Argument<'a> {
    fn push(&mut self, token: Token<'a>) {
        if let Some(slot) = self.tokens.get_mut(self.count) {
            *slot = Some(token);
        }
        self.count = self.count.saturating_add(1);
    }

    /// The one token that the argument consists of, but for a cast by name.
    fn only(&self) -> Option<Token<'a>> {
        match self.tokens {
            [Some(token), None, ..] => Some(token),
            [Some(token), Some(a), Some(b), Some(name)]
                if self.count == KEPT && a.is_other(b':') && b.is_other(b':') && name.is_name() =>
            {
                Some(token)
            }
            _ => None,
        }
    }

    fn first(&self) -> First<'a> {
        let Some(token) = self.only() else {
            return First::Computed;
        };
        if token.kind == Kind::Parameter {
            return number(token.text).map_or(First::Computed, First::Parameter);
        }
        literal(&token).map_or(First::Computed, First::Literal)
    }

    fn third(&self) -> Third {
        match self.only() {
            Some(token) if token.is_word("true") => Third::True,
            Some(token) if token.is_word("false") => Third::False,
            _ => Third::Unknown,
        }
    }
}

impl<'a> Arguments<'a> {
    /// The arguments of a call, from the parenthesis that opens them.
    pub(super) fn read(mut cursor: Cursor<'a>) -> Self {
        cursor.next();
        let depth = cursor.depth();
        let [mut first, mut second, mut third] = [(); 3].map(|()| Argument::default());
        let mut position = 0_usize;
        let mut named = false;
        let mut closed = false;
        for _ in 0..TOKENS_MAX {
            let Some(token) = cursor.next() else { break };
            closed = cursor.depth() < depth;
            if closed {
                break;
            }
            if cursor.depth() == depth && token.is_other(b',') {
                position = position.saturating_add(1);
                continue;
            }
            // `name => value`, in any order, and `name := value` as it once was.
            named |= token.kind == Kind::Operator && matches!(token.text, b"=>" | b"=");
            match position {
                0 => first.push(token),
                1 => second.push(token),
                2 => third.push(token),
                _ => {}
            }
        }
        let third = match position {
            _ if named || !closed => Third::Unknown,
            0 | 1 => Third::Absent,
            _ => third.third(),
        };
        let first = if position == 0 {
            First::Computed
        } else {
            first.first()
        };
        let value = second.only().filter(|_| !named && closed);
        let is_known = value.is_some_and(|token| token.kind == Kind::String);
        let second = match value {
            Some(token) if token.is_word("null") => Second::Null,
            Some(token) if token.kind == Kind::Parameter => {
                number(token.text).map_or(Second::Other, Second::Parameter)
            }
            _ => Second::Other,
        };
        Self {
            first,
            second,
            third,
            may_be_temporary: !is_known || value.is_some_and(|token| may_be_temporary(&token)),
        }
    }
}

/// Whether a part of a path may be the schema of temporary objects, or a path with that in it: escapes are not looked into.
pub(super) fn may_be_temporary(token: &Token<'_>) -> bool {
    let is_temporary = |text: &[u8]| memchr::memmem::find(&text.to_ascii_lowercase(), b"pg_temp").is_some();
    match token.kind {
        Kind::String => literal(token).is_none_or(is_temporary),
        Kind::UnicodeName => true,
        _ => is_temporary(token.text),
    }
}

/// The number of `$1`.
fn number(parameter: &[u8]) -> Option<u16> {
    std::str::from_utf8(parameter.strip_prefix(b"$")?)
        .ok()?
        .parse()
        .ok()
}
