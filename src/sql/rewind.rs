//! Which statements of a text lead settings back to what they were when the session began, and where these end.
//!
//! Only those are found that certainly do so if they are carried out: RESET, SET … TO DEFAULT, DISCARD ALL, and a
//! `SELECT set_config('name', NULL, …)` that is nothing else.

use super::cursor::Cursor;
use super::lexer::{Kind, Lexer, Token};
use super::literal::literal;
use super::settings;
use super::verdict::{Resets, Verdict};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewind {
    /// It is this one of the text's statements, from 1.
    pub number: usize,
    /// Where it ends in the text, in bytes: behind its last token, before what follows.
    pub end: usize,
    /// What it leads back.
    pub resets: Resets,
    /// It does so for the transaction only.
    pub is_local: bool,
}

/// All of them, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewinds {
    /// They themselves.
    pub found: Vec<Rewind>,
    /// How many statements the text has, of any kind: PostgreSQL tells of each that it is complete.
    pub statements: usize,
}

/// What a text leads back. `standard_conforming_strings` is the setting of the session that the text is for.
///
/// A text that ends within a string or a comment does nothing: PostgreSQL refuses it as a whole.
pub fn rewinds(text: &[u8], standard_conforming_strings: bool) -> Rewinds {
    let mut rewinds = Rewinds::default();
    let mut statement = Extent::default();
    for token in Lexer::new(text, standard_conforming_strings) {
        match token.kind {
            Kind::Space | Kind::Comment => {}
            Kind::Unterminated => return Rewinds::default(),
            Kind::Semicolon if statement.is_whole() => {
                rewinds.add(text, &std::mem::take(&mut statement), standard_conforming_strings);
            }
            _ => statement.push(token),
        }
    }
    rewinds.add(text, &statement, standard_conforming_strings);
    rewinds
}

impl Rewinds {
    fn add(&mut self, text: &[u8], statement: &Extent<'_>, standard_conforming_strings: bool) {
        let Some(first) = statement.first else { return };
        self.statements = self.statements.saturating_add(1);
        let text = text.get(first.start..statement.end).unwrap_or_default();
        if let Some((resets, is_local)) = read(Cursor::new(text, standard_conforming_strings)) {
            self.found.push(Rewind {
                number: self.statements,
                end: statement.end,
                resets,
                is_local,
            });
        }
    }
}

/// From where to where a statement reaches: to a semicolon that is not within parentheses, as those of a rule are, or
/// within `CREATE FUNCTION … BEGIN ATOMIC … END`.
#[derive(Default)]
struct Extent<'a> {
    first: Option<Token<'a>>,
    last: Option<Token<'a>>,
    end: usize,
    parentheses: usize,
    /// BEGIN ATOMIC and CASE, without their END.
    blocks: usize,
}

impl<'a> Extent<'a> {
    fn is_whole(&self) -> bool {
        self.parentheses == 0 && self.blocks == 0
    }

    fn push(&mut self, token: Token<'a>) {
        let is = |of: Option<Token<'a>>, word| of.is_some_and(|token| token.is_word(word));
        self.first.get_or_insert(token);
        self.end = token.end();
        if token.is_open() {
            self.parentheses = self.parentheses.saturating_add(1);
        } else if token.is_close() {
            self.parentheses = self.parentheses.saturating_sub(1);
        } else if is(self.first, "create") {
            let is_atomic = token.is_word("atomic") && is(self.last, "begin");
            if is_atomic || (self.blocks > 0 && token.is_word("case")) {
                self.blocks = self.blocks.saturating_add(1);
            } else if token.is_word("end") {
                self.blocks = self.blocks.saturating_sub(1);
            }
        }
        self.last = Some(token);
    }
}

/// What a statement leads back, and whether for the transaction only.
fn read(mut cursor: Cursor<'_>) -> Option<(Resets, bool)> {
    let head = cursor.next()?;
    let mut verdict = Verdict::default();
    if head.is_word("set") {
        settings::set(&mut verdict, &mut cursor);
    } else if head.is_word("reset") {
        settings::reset(&mut verdict, &mut cursor);
    } else if head.is_word("discard") && cursor.is_word("all") {
        settings::reset_everything(&mut verdict);
    } else if head.is_word("select") {
        return set_config_to_null(&mut cursor);
    }
    let details = verdict.details();
    if details.local_resets.is_nothing() {
        Some((details.resets.clone(), false)).filter(|(resets, _)| !resets.is_nothing())
    } else {
        Some((details.local_resets.clone(), true))
    }
}

/// `set_config('name', NULL, true)`, and the end of the statement.
fn set_config_to_null(cursor: &mut Cursor<'_>) -> Option<(Resets, bool)> {
    if cursor.take_word("pg_catalog") && !cursor.take_other(b'.') {
        return None;
    }
    let is_call = cursor.take_word("set_config") && cursor.take_other(b'(');
    let name = literal(&cursor.next().filter(|_| is_call)?)?.to_ascii_lowercase();
    let is_null = cursor.take_other(b',') && cursor.take_word("null") && cursor.take_other(b',');
    let is_local = cursor.take_word("true");
    let is_closed = (is_local || cursor.take_word("false")) && cursor.take_other(b')');
    let mut verdict = Verdict::default();
    settings::lead_back(&mut verdict, &name);
    let resets = verdict.details().resets.clone();
    (is_null && is_closed && cursor.peek().is_none()).then_some((resets, is_local))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as its number, the text up to its end, what it resets, and whether that is local.
    fn told(text: &str) -> Vec<(usize, &str, String, bool)> {
        let rewinds = rewinds(text.as_bytes(), true);
        let told = |rewind: Rewind| {
            let names = rewind.resets.names.iter();
            let names: Vec<_> = names
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .chain(rewind.resets.all.then(|| "*".to_owned()))
                .collect();
            (
                rewind.number,
                text.get(..rewind.end).expect("a boundary"),
                names.join(","),
                rewind.is_local,
            )
        };
        rewinds.found.into_iter().map(told).collect()
    }

    #[test]
    fn statements_that_lead_back_are_found_with_their_ends() {
        let one = |text, names: &str, is_local| {
            assert_eq!(told(text), [(1, text, names.to_owned(), is_local)], "{text}");
        };
        one("RESET search_path", "search_path", false);
        one("RESET ALL", "*", false);
        one("reset TIME ZONE", "timezone", false);
        one("SET x TO DEFAULT", "x", false);
        one(
            "SET SESSION AUTHORIZATION DEFAULT",
            "role,session_authorization",
            false,
        );
        one("SET LOCAL x = DEFAULT", "x", true);
        one("SET LOCAL TIME ZONE DEFAULT", "timezone", true);
        one("SELECT set_config('Work_Mem', NULL, false)", "work_mem", false);
        one("SELECT pg_catalog.set_config('a.b', null, true)", "a.b", true);
        one("DISCARD ALL", "role,session_authorization,*", false);
    }

    #[test]
    fn what_may_do_something_else_is_not() {
        for text in [
            "SELECT set_config('a', NULL, false) WHERE false",
            "SELECT set_config('a', NULL, x)",
            "SELECT set_config('a', $1, false)",
            "SET x TO 1",
            "SELECT 'RESET x'",
            "RESET x; 'unterminated",
            "SET ROLE NONE",
        ] {
            assert_eq!(told(text), [], "{text}");
        }
    }

    #[test]
    fn semicolons_within_a_statement_separate_nothing() {
        let text =
            "; CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE 1 WHEN 1 THEN 2 END; END; ;
             CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); DO $$ BEGIN RESET a; END $$;
             RESET b /* ; */ ; -- the end";
        let found = told(text);
        let [(number, before, names, _)] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((*number, names.as_str()), (4, "b"));
        assert!(before.ends_with("RESET b"));
        assert_eq!(rewinds(text.as_bytes(), true).statements, 4);
    }
}
