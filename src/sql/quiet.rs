//! Texts that neither send notifications nor have to do with who hears them.

use super::lexer::{Kind, Lexer};

/// What such a text begins with.
const HEADS: [&str; 5] = ["select", "values", "table", "show", "with"];
/// Words that write, at which a trigger may send something; or that may stand before what does.
const WRITES: [&str; 5] = ["insert", "update", "delete", "merge", "into"];
/// What a session listens to, as it sees it itself.
const OWN_CHANNELS: &str = "pg_listening_channels";

/// Whether a text that leaves nothing behind is one statement, begins and ends no transaction, writes nothing, and does
/// not look at the channels of its session. Calls of functions are not looked at.
pub fn is_quiet(text: &[u8], standard_conforming_strings: bool) -> bool {
    let tokens = Lexer::new(text, standard_conforming_strings);
    let mut tokens = tokens.filter(|token| !token.kind.is_blank()).peekable();
    if let Some(head) = tokens.peek()
        && head.kind != Kind::Semicolon
        && !HEADS.iter().any(|word| head.is_word(word))
    {
        return false;
    }
    let mut is_over = false;
    for token in tokens {
        match token.kind {
            Kind::Semicolon => is_over = true,
            _ if is_over => return false,
            Kind::Word if WRITES.iter().any(|word| token.is_word(word)) => return false,
            Kind::Unterminated | Kind::UnicodeName => return false,
            Kind::Word | Kind::QuotedName => {
                let name = token.text.trim_ascii();
                let name = name.strip_prefix(b"\"").unwrap_or(name);
                let name = name.strip_suffix(b"\"").unwrap_or(name);
                if name.eq_ignore_ascii_case(OWN_CHANNELS.as_bytes()) {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_quiet_and_all_else_is_not() {
        for text in [
            "",
            ";",
            "SELECT 1",
            "/* a */ select 'insert into' ;;",
            "WITH a AS (SELECT 1) TABLE a",
            "SHOW work_mem",
            "VALUES (\"update_\")",
        ] {
            assert!(is_quiet(text.as_bytes(), true), "{text}");
        }
        for text in [
            "BEGIN",
            "NOTIFY a",
            "; BEGIN",
            "SELECT 1; NOTIFY a",
            "SELECT 1;;SELECT 2",
            "INSERT INTO a DEFAULT VALUES",
            "WITH a AS (DELETE FROM b RETURNING 1) SELECT 1",
            "SELECT 1 INTO a",
            "SELECT * FROM a FOR UPDATE",
            "SELECT pg_listening_channels()",
            "SELECT \"pg_listening_channels\"()",
            "SELECT U&\"a\"()",
            "EXPLAIN ANALYZE SELECT 1",
            "SELECT 'a",
            "COPY a FROM stdin",
        ] {
            assert!(!is_quiet(text.as_bytes(), true), "{text}");
        }
    }
}
