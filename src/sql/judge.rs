//! Judges a text statement by statement, by what each begins with.

use super::calls::{Calls, Clause};
use super::cursor::Cursor;
use super::functions::Functions;
use super::keywords::Folded;
use super::lexer::{Kind, Token};
use super::verdict::{Effects, Verdict};
use super::{definitions, identifier, settings};

/// How often a statement may begin within a statement: EXPLAIN, PREPARE, CREATE TABLE AS.
const NESTED_MAX: usize = 8;

/// Where one is in a text, and what has been found so far.
pub(super) struct Judge<'a> {
    pub(super) cursor: Cursor<'a>,
    pub(super) verdict: Verdict,
    pub(super) functions: &'a dyn Functions,
    nested: usize,
}

/// The verdict on a whole text, read in full.
pub(super) fn in_full(text: &[u8], standard_conforming_strings: bool, functions: &dyn Functions) -> Verdict {
    let mut judge = Judge {
        cursor: Cursor::new(text, standard_conforming_strings),
        verdict: Verdict::default(),
        functions,
        nested: 0,
    };
    // Past the semicolons at the beginning.
    let mut statements = 0_usize;
    if judge.cursor.peek().is_some() || judge.cursor.next_statement() {
        loop {
            judge.nested = 0;
            judge.statement();
            statements = statements.saturating_add(1);
            if !judge.cursor.next_statement() {
                break;
            }
        }
    }
    if statements > 1 {
        // PostgreSQL refuses nearly all such statements among others, once it comes to them.
        judge.verdict.needs_no_database();
    }
    // PostgreSQL refuses it as a whole.
    if judge.cursor.is_unterminated() {
        return Verdict::default();
    }
    judge.verdict.finish()
}

impl Judge<'_> {
    /// Judges the statement that begins here, or as much of it as matters.
    pub(super) fn statement(&mut self) {
        self.nested = self.nested.saturating_add(1);
        let Some(head) = self.cursor.peek() else { return };
        if head.is_open() {
            return Calls::read(self, Clause::Start);
        }
        let folded = match head.kind {
            Kind::Word if self.nested <= NESTED_MAX => Folded::new(head.text),
            _ => None,
        };
        let Some(folded) = folded else {
            return self.verdict.add(Effects::OPAQUE);
        };
        match folded.as_bytes() {
            b"select" | b"insert" | b"update" | b"delete" | b"with" | b"values" | b"table" | b"merge" => {
                return Calls::read(self, Clause::Start);
            }
            _ => self.cursor.next(),
        };
        self.utility(folded.as_bytes());
    }

    /// Judges a statement that is no query, from behind its first word.
    fn utility(&mut self, head: &[u8]) {
        match head {
            // They end with the transaction, or run nothing and are everyone's.
            b"begin" | b"start" | b"commit" | b"end" | b"abort" | b"rollback" | b"savepoint" | b"release"
            | b"show" | b"fetch" | b"move" | b"lock" | b"truncate" | b"comment" | b"grant" | b"revoke"
            | b"reassign" | b"security" | b"reindex" | b"cluster" | b"vacuum" | b"analyze" | b"analyse"
            | b"checkpoint" | b"refresh" => {}
            // Of the body of a function.
            b"return" => Calls::read(self, Clause::Start),
            b"set" => settings::set(&mut self.verdict, &mut self.cursor),
            b"reset" => settings::reset(&mut self.verdict, &mut self.cursor),
            b"discard" => self.discard(),
            b"deallocate" => self.verdict.add(Effects::FREES.union(Effects::RELEASES)),
            b"prepare" => self.prepare(),
            b"execute" => self.execute(),
            b"declare" => self.declare(),
            b"close" => self.verdict.add(Effects::RELEASES),
            b"listen" => self.verdict.add(Effects::LISTEN),
            b"unlisten" => self.verdict.add(Effects::UNLISTEN.union(Effects::RELEASES)),
            b"notify" => self.verdict.add(Effects::NOTIFY),
            b"load" => self.verdict.add(Effects::STICKY),
            b"explain" => self.explain(),
            b"copy" => self.copy(),
            b"create" => definitions::create(self),
            b"alter" => definitions::alter(self),
            b"drop" => definitions::drop(self),
            b"import" => definitions::definition(self),
            b"call" => {
                self.verdict.add(Effects::OPAQUE);
                // Its arguments may name what they change.
                self.skip_qualified_name();
                Calls::read(self, Clause::Other);
            }
            // DO, and what is not known here.
            _ => self.verdict.add(Effects::OPAQUE),
        }
    }

    fn discard(&mut self) {
        if self.cursor.is_word("all") {
            settings::reset_everything(&mut self.verdict);
            let effects = Effects::FREES.union(Effects::UNLISTEN).union(Effects::RELEASES);
            self.verdict.add(effects);
        } else if self.cursor.is_word("temp") || self.cursor.is_word("temporary") {
            self.verdict.add(Effects::RELEASES);
        }
    }

    /// `PREPARE name (types) AS statement`
    fn prepare(&mut self) {
        let Some(token) = self.cursor.next() else { return };
        if token.is_word("transaction") && self.cursor.peek().is_some_and(|next| next.kind == Kind::String) {
            return;
        }
        let Some(name) = identifier::name(&token) else {
            return self.verdict.add(Effects::PREPARE.union(Effects::OPAQUE));
        };
        if self.cursor.is_other(b'(') {
            self.cursor.skip_parentheses();
        }
        self.cursor.take_word("as");
        let before = std::mem::take(&mut self.verdict);
        self.statement();
        self.cursor.skip_statement();
        let prepared = std::mem::replace(&mut self.verdict, before).finish();
        self.verdict.add_prepare(name.as_ref().into(), prepared);
    }

    /// `EXECUTE name (values)`
    fn execute(&mut self) {
        let Some(token) = self.cursor.next() else { return };
        match identifier::name(&token) {
            Some(name) => self.verdict.add_execute(name.as_ref().into()),
            None => self.verdict.add(Effects::OPAQUE),
        }
        Calls::read(self, Clause::Other);
    }

    /// `DECLARE name … CURSOR … WITH HOLD FOR query`
    fn declare(&mut self) {
        while let Some(token) = self.cursor.next() {
            if token.is_word("with") && self.cursor.is_word("hold") {
                self.verdict.add(Effects::HOLD);
            } else if token.is_word("for") {
                return self.statement();
            }
        }
    }

    /// `EXPLAIN (options) statement`, which runs the statement if the options say so.
    fn explain(&mut self) {
        if self.cursor.is_other(b'(') {
            let mut ahead = self.cursor.clone();
            ahead.next();
            let queries = ["select", "with", "values", "table"];
            if ahead.is_other(b'(') || queries.iter().any(|word| ahead.is_word(word)) {
                return self.statement();
            }
            self.cursor.skip_parentheses();
        }
        while self.cursor.take_word("analyze")
            || self.cursor.take_word("analyse")
            || self.cursor.take_word("verbose")
        {}
        self.statement();
    }

    /// `COPY table (columns) …` or `COPY (query) …`
    fn copy(&mut self) {
        if self.cursor.is_other(b'(') {
            return Calls::read(self, Clause::Other);
        }
        // `COPY BINARY t`, as it once was.
        let mut ahead = self.cursor.clone();
        if ahead.take_word("binary") && ahead.peek().is_some_and(|token| token.is_name()) {
            self.cursor = ahead;
        }
        self.skip_qualified_name();
        if self.cursor.is_other(b'(') {
            self.cursor.skip_parentheses();
        }
        Calls::read(self, Clause::Other);
    }

    /// Goes behind a name with its schema.
    fn skip_qualified_name(&mut self) {
        self.cursor.next();
        while self.cursor.take_other(b'.') {
            self.cursor.next();
        }
    }
}

/// Whether a name may be that of the schema of temporary objects.
pub(super) fn is_temp_schema(token: &Token<'_>) -> bool {
    match identifier::name(token) {
        Some(name) => name.as_ref() == b"pg_temp" || name.starts_with(b"pg_temp_"),
        None => token.kind == Kind::UnicodeName,
    }
}
