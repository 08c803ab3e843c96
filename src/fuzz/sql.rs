//! Texts of statements.

use crate::sql::{self, Effects, Functions, Lexer, Reading, Statements, Volatility};

/// A few functions.
struct Table;

impl Functions for Table {
    fn volatility(&self, name: &[u8]) -> Volatility {
        match name.first() {
            Some(b'a'..=b'm') => Volatility::Harmless,
            Some(b'v') => Volatility::Volatile,
            _ => Volatility::Unknown,
        }
    }
}

/// A statement's text, or that of many. A message's text ends at its first zero.
pub fn sql(data: &[u8]) {
    let data = data.split(|byte| *byte == 0).next().unwrap_or_default();
    for standard_conforming_strings in [true, false] {
        tokens(data, standard_conforming_strings);
        statements(data, standard_conforming_strings);
        verdicts(data, standard_conforming_strings);
        let _ = sql::deallocations(data, standard_conforming_strings);
    }
    let _ = sql::bare(data);
}

fn tokens(text: &[u8], standard_conforming_strings: bool) {
    let mut end = 0;
    for token in Lexer::new(text, standard_conforming_strings) {
        assert_eq!(token.start, end, "nothing is left out");
        assert!(!token.text.is_empty());
        end = token.end();
        assert_eq!(token.text, &text[token.start..end]);
        let _ = sql::name(&token);
    }
    assert_eq!(end, text.len());
}

fn statements(text: &[u8], standard_conforming_strings: bool) {
    for statement in Statements::new(text, standard_conforming_strings) {
        let _ = (statement.head().count(), statement.is_unterminated());
    }
}

/// Blanks change nothing, and nothing that stands before or behind makes a text harmless.
fn verdicts(text: &[u8], standard_conforming_strings: bool) {
    let verdict = |text: &[u8]| {
        let reading = Reading {
            standard_conforming_strings,
            encoding_is_safe: true,
        };
        sql::verdict(text, reading, &Table)
    };
    let plain = verdict(text);
    assert_eq!(plain.effects == Effects::NONE, plain.is_inert());
    let after_blanks = verdict(&[b" /* - */ -- \n", text].concat());
    assert_eq!(after_blanks.effects, plain.effects);
    let second = verdict(&[b"SELECT 1;", text].concat());
    assert!(second.effects.contains(plain.effects), "{second:?} {plain:?}");
    let unsafe_reading = Reading {
        standard_conforming_strings,
        encoding_is_safe: false,
    };
    let doubtful = sql::verdict(text, unsafe_reading, &Table);
    assert!(text.is_ascii() || doubtful.effects.contains(Effects::OPAQUE));
}
