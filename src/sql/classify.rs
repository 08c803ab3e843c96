//! Classifies texts: what may each leave behind in its session?
//!
//! Wrong is only the verdict that misses something. In doubt it says OPAQUE. What no text shows is not seen: functions
//! behind operators, casts, views, triggers, rules, policies, column defaults, constraints and `value.function`, and
//! functions that lie about their volatility.

use super::functions::Functions;
use super::verdict::{Effects, Verdict};
use super::{judge, plain};

/// What decides how a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The setting of that name: whether a backslash in a plain string stands for itself.
    pub standard_conforming_strings: bool,
    /// Whether a byte below 0x80 is always that character of ASCII: see [`encoding_is_safe`].
    pub encoding_is_safe: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            standard_conforming_strings: true,
            encoding_is_safe: true,
        }
    }
}

/// Whether a byte below 0x80 is always that character of ASCII in this `client_encoding`, as the server spells it. In
/// the others it may be the second half of a character.
pub fn encoding_is_safe(client_encoding: &[u8]) -> bool {
    const UNSAFE: [&[u8]; 7] = [
        b"SJIS",
        b"BIG5",
        b"GBK",
        b"UHC",
        b"GB18030",
        b"JOHAB",
        b"SHIFT_JIS_2004",
    ];
    !UNSAFE
        .iter()
        .any(|name| client_encoding.eq_ignore_ascii_case(name))
}

/// What a text may leave behind in its session. Time is proportional to its length; an inert text allocates nothing.
pub fn verdict(text: &[u8], reading: Reading, functions: &dyn Functions) -> Verdict {
    if !reading.encoding_is_safe && !text.is_ascii() {
        return Verdict::of(Effects::OPAQUE);
    }
    if plain::is_plain_query(text, functions) {
        return Verdict::default();
    }
    judge::in_full(text, reading.standard_conforming_strings, functions)
}
