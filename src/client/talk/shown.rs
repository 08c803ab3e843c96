//! A statement as logs and the console show it: its beginning, on one line, without the values in it, which may be
//! secrets.

use crate::sql::{Kind, Lexer, Reading};

/// So much of a statement is shown, in letters.
const SHOWN_MAX: usize = 100;
/// So much of it is looked at, in bytes: no letter is longer than four.
const LOOKED_AT_MAX: usize = 5 * SHOWN_MAX;

/// The beginning of a statement, as it came.
#[derive(Clone, Debug, Default)]
pub(in crate::client) struct Beginning {
    text: Box<[u8]>,
    reading: Reading,
}

impl Beginning {
    pub(super) fn of(text: &[u8], reading: Reading) -> Self {
        let text = text.strip_suffix(b"\0").unwrap_or(text);
        Self {
            text: text.get(..LOOKED_AT_MAX).unwrap_or(text).into(),
            reading,
        }
    }

    /// On one line, without control characters and comments, every string replaced by `'…'`.
    pub(in crate::client) fn shown(&self) -> Box<str> {
        let text = self.without_values();
        let lossy = String::from_utf8_lossy(&text);
        let plain: String = lossy
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let words: Vec<&str> = plain.split_whitespace().collect();
        let line = words.join(" ");
        match line.char_indices().nth(SHOWN_MAX) {
            Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()).into(),
            None => line.into(),
        }
    }

    fn without_values(&self) -> Vec<u8> {
        if !self.reading.encoding_is_safe {
            // Where a string ends cannot be told.
            let quotes = |byte: &u8| matches!(byte, b'\'' | b'$' | b'/' | b'-');
            let end = self.text.iter().position(quotes).unwrap_or(self.text.len());
            let mut plain = self.text.get(..end).unwrap_or_default().to_vec();
            if end < self.text.len() {
                plain.extend_from_slice("…".as_bytes());
            }
            return plain;
        }
        let mut plain = Vec::with_capacity(self.text.len());
        for token in Lexer::new(&self.text, self.reading.standard_conforming_strings) {
            plain.extend_from_slice(match token.kind {
                Kind::String | Kind::Unterminated => "'…'".as_bytes(),
                Kind::Comment => b" ",
                _ => token.text,
            });
        }
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(encoding_is_safe: bool) -> Reading {
        Reading {
            standard_conforming_strings: true,
            encoding_is_safe,
        }
    }

    #[test]
    fn values_are_not_shown_in_whatever_form_they_come() {
        for (text, shown) in [
            (
                "select set_config('app.'||'jwt', 'SECRET', false)",
                "select set_config('…'||'…', '…', false)",
            ),
            ("DO $x$ PERFORM f('SECRET') $x$", "DO '…'"),
            (
                r"SELECT E'it\'s SECRET', U&'SECRET', x'5EC2E7'",
                "SELECT '…', '…', '…'",
            ),
            (
                "/* SECRET */ SELECT pg_advisory_lock(7) -- SECRET",
                "SELECT pg_advisory_lock(7)",
            ),
            ("LOAD 'SECRET", "LOAD '…'"),
            (
                "SELECT 'a'\n  'SECRET' AS \"A name\", $1",
                "SELECT '…' AS \"A name\", $1",
            ),
        ] {
            assert_eq!(
                &*Beginning::of(text.as_bytes(), reading(true)).shown(),
                shown,
                "{text}"
            );
        }
        let long = format!("SELECT f('{}')", "SECRET".repeat(200));
        assert_eq!(
            &*Beginning::of(long.as_bytes(), reading(true)).shown(),
            "SELECT f('…'"
        );
    }

    #[test]
    fn where_strings_cannot_be_told_nothing_behind_the_first_is_shown() {
        let text = b"SELECT f(1, '\x81' SECRET')";
        assert_eq!(&*Beginning::of(text, reading(false)).shown(), "SELECT f(1, …");
    }
}
