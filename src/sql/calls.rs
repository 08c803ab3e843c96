//! Finds the calls of functions in queries, and what SELECT INTO makes.

use super::arguments::{Arguments, Third};
use super::functions::{Special, Volatility, special};
use super::identifier;
use super::judge::{Judge, is_temp_schema};
use super::keywords::{Folded, Role, role};
use super::lexer::{Kind, Token};
use super::settings;
use super::verdict::Effects;

/// Parentheses within parentheses that are told apart.
const LEVELS_MAX: usize = 64;

/// Where one is at a level of parentheses, for a name before a parenthesis may be a call, an alias or a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clause {
    /// At the beginning, where a query may begin.
    Start,
    /// In the list of common table expressions.
    With,
    /// In a list of tables: `FROM`, and what else has aliases with columns.
    From,
    /// Behind ON in a list of tables.
    On,
    /// Anywhere else in a query.
    Query,
    /// In what is no query.
    Other,
}

/// Reads the rest of a statement.
pub(super) struct Calls<'j, 'a> {
    judge: &'j mut Judge<'a>,
    levels: [Clause; LEVELS_MAX],
    level: usize,
    previous: Option<Token<'a>>,
    before: Option<Token<'a>>,
    /// The name that is being read is not a function's, whatever follows.
    naming: bool,
    /// An INTO that follows is not the INTO of a SELECT.
    inserting: bool,
}

impl<'j, 'a> Calls<'j, 'a> {
    /// Reads the rest of a statement, of which the first part is in the clause given.
    pub(super) fn read(judge: &'j mut Judge<'a>, clause: Clause) {
        let mut calls = Self {
            judge,
            levels: [clause; LEVELS_MAX],
            level: 0,
            previous: None,
            before: None,
            naming: false,
            inserting: false,
        };
        while let Some(token) = calls.judge.cursor.next() {
            calls.step(token);
        }
    }

    fn step(&mut self, token: Token<'a>) {
        if token.is_open() {
            self.open();
        } else if token.is_close() {
            self.level = self.level.saturating_sub(1);
        } else if token.is_word("operator") && self.operator() {
            return;
        } else if token.is_name() {
            self.name(token);
        }
        self.before = self.previous.replace(token);
    }

    fn clause(&self) -> Clause {
        self.levels.get(self.level).copied().unwrap_or(Clause::Start)
    }

    fn enter(&mut self, clause: Clause) {
        if let Some(slot) = self.levels.get_mut(self.level) {
            *slot = clause;
        }
    }

    fn open(&mut self) {
        let clause = match self.clause() {
            // Tables joined in parentheses.
            Clause::From if !self.previous_is_alias_like() => Clause::From,
            _ => Clause::Start,
        };
        self.level = self.level.saturating_add(1);
        if self.level >= LEVELS_MAX {
            self.judge.verdict.add(Effects::OPAQUE);
        }
        self.enter(clause);
    }

    fn previous_is(&self, keyword: &str) -> bool {
        self.previous.is_some_and(|token| token.is_word(keyword))
    }

    fn previous_is_other(&self, character: u8) -> bool {
        self.previous.is_some_and(|token| token.is_other(character))
    }

    /// In a list of tables: whether what comes before is a table, so that a name must be its alias.
    fn previous_is_alias_like(&self) -> bool {
        let Some(previous) = self.previous else {
            return false;
        };
        let leads = ["from", "join", "lateral", "using", "tablesample", "only"];
        previous.is_close() || previous.is_name() && !leads.iter().any(|word| previous.is_word(word))
    }

    fn name(&mut self, token: Token<'a>) {
        let qualified = self.previous_is_other(b'.');
        if !qualified {
            let fixed = self.is_told_to_be_a_name();
            self.naming = fixed || self.clause() == Clause::From && self.previous_is_alias_like();
            if !fixed && token.kind == Kind::Word {
                self.keyword(token);
            }
        }
        if !self.judge.cursor.is_other(b'(') {
            if token.kind == Kind::UnicodeName && self.judge.cursor.is_word("uescape") {
                self.judge.verdict.add(Effects::OPAQUE);
            }
            return;
        }
        if token.kind == Kind::UnicodeName {
            self.judge.verdict.add(Effects::OPAQUE);
        } else if !self.naming {
            self.call(token, qualified);
        }
    }

    /// Whether a name follows that is no function's and no keyword: an alias, a type, a table.
    fn is_told_to_be_a_name(&self) -> bool {
        let Some(previous) = self.previous else {
            return false;
        };
        if previous.is_other(b':') {
            return self.before.is_some_and(|token| token.is_other(b':'));
        }
        if self.clause() == Clause::With
            && (previous.is_other(b',') || previous.is_word("with") || previous.is_word("recursive"))
        {
            return true;
        }
        // FETCH FIRST and FETCH NEXT may go on with a number in parentheses.
        ["as", "into", "references", "type", "fetch"]
            .iter()
            .any(|word| previous.is_word(word))
    }

    /// What a word does that may be a keyword.
    fn keyword(&mut self, token: Token<'a>) {
        let Some(folded) = Folded::new(token.text) else {
            return;
        };
        let clause = self.clause();
        let inserting = std::mem::take(&mut self.inserting);
        let begins = matches!(clause, Clause::Start | Clause::With) || self.previous_is_other(b'(');
        match folded.as_bytes() {
            b"select" | b"values" | b"table" if clause != Clause::Other => self.enter(Clause::Query),
            b"with" if begins && clause != Clause::With => self.enter(Clause::With),
            b"insert" | b"merge" if begins => {
                self.inserting = true;
                let merges = folded.as_bytes() == b"merge";
                self.enter(if merges { Clause::From } else { Clause::Query });
            }
            b"update" | b"delete" if begins => {
                self.enter(Clause::Query);
                if folded.as_bytes() == b"update" {
                    self.update();
                }
            }
            b"from" if clause == Clause::Query && !self.previous_is("distinct") => self.enter(Clause::From),
            b"on" if clause == Clause::From => self.enter(Clause::On),
            b"join" if clause == Clause::On => self.enter(Clause::From),
            b"where" | b"group" | b"having" | b"order" | b"window" | b"limit" | b"offset" | b"fetch"
            | b"for" | b"union" | b"intersect" | b"except" | b"set" | b"returning" | b"when"
                if matches!(clause, Clause::From | Clause::On) =>
            {
                self.enter(Clause::Query);
            }
            b"into" if !inserting => self.select_into(),
            _ => {}
        }
    }

    /// `UPDATE [ONLY] pg_settings SET setting = …` sets what it finds, by a rule of that view.
    fn update(&mut self) {
        let mut ahead = self.judge.cursor.clone();
        ahead.take_word("only");
        ahead.take_other(b'(');
        let mut name = ahead.next();
        while ahead.take_other(b'.') {
            name = ahead.next();
        }
        let name = name.filter(Token::is_name);
        let is_settings = |name: Token<'_>| match identifier::name(&name) {
            Some(name) => name.as_ref() == b"pg_settings",
            None => name.kind == Kind::UnicodeName,
        };
        if name.is_some_and(is_settings) {
            self.judge
                .verdict
                .add(Effects::ANY_SETTING.union(Effects::TEMP_PATH));
        }
    }

    /// Reads `OPERATOR(schema.+)`, behind which an expression goes on as behind any operator. False if it is not that.
    fn operator(&mut self) -> bool {
        let mut ahead = self.judge.cursor.clone();
        if !ahead.take_other(b'(') {
            return false;
        }
        while ahead.peek().is_some_and(|token| token.is_name()) {
            ahead.next();
            if !ahead.take_other(b'.') {
                return false;
            }
        }
        let operator = ahead.next().filter(|token| token.kind == Kind::Operator);
        let found = operator.is_some() && ahead.take_other(b')');
        if found {
            self.judge.cursor = ahead;
            self.before = std::mem::replace(&mut self.previous, operator);
        }
        found
    }

    /// `SELECT … INTO [TEMP] name`
    fn select_into(&mut self) {
        let mut ahead = self.judge.cursor.clone();
        let mut temp = false;
        loop {
            let Some(token) = ahead.next() else { return };
            if ["temp", "temporary", "local", "global"]
                .iter()
                .any(|word| token.is_word(word))
            {
                temp = true;
            } else if !token.is_word("table") && !token.is_word("unlogged") {
                temp |= is_temp_schema(&token);
                break;
            }
        }
        self.judge
            .verdict
            .add(if temp { Effects::TEMP } else { Effects::CREATES });
    }

    /// A name before a parenthesis that may be a function's.
    fn call(&mut self, token: Token<'a>, qualified: bool) {
        let folded = if token.kind == Kind::Word {
            Folded::new(token.text)
        } else {
            None
        };
        let name = match &folded {
            Some(folded) => std::borrow::Cow::Borrowed(folded.as_bytes()),
            None => match identifier::name(&token) {
                Some(name) => name,
                None => return,
            },
        };
        if token.kind == Kind::Word && !qualified {
            match role(&name) {
                Role::Syntax => return,
                Role::Either => {
                    match self.judge.functions.volatility(&name) {
                        Volatility::Harmless | Volatility::Absent => {}
                        Volatility::Volatile => self.judge.verdict.add(Effects::OPAQUE),
                        Volatility::Unknown => self.judge.verdict.add_unknown_function(name.as_ref().into()),
                    }
                    return;
                }
                Role::Name => {}
            }
        }
        if let Some(special) = special(&name) {
            return self.special(special);
        }
        match self.judge.functions.volatility(&name) {
            Volatility::Harmless => {}
            Volatility::Volatile => self.judge.verdict.add(Effects::OPAQUE),
            Volatility::Absent | Volatility::Unknown => {
                self.judge.verdict.add_unknown_function(name.as_ref().into());
            }
        }
    }

    fn special(&mut self, special: Special) {
        let arguments = || Arguments::read(self.judge.cursor.clone());
        let effects = match special {
            Special::SetConfig => {
                let arguments = arguments();
                return settings::set_config(&mut self.judge.verdict, &arguments);
            }
            Special::Setting(name) => return self.judge.verdict.add_setting(name.into()),
            Special::Lock => Effects::LOCK,
            Special::Release => Effects::RELEASES,
            Special::Notify => Effects::NOTIFY,
            Special::Seed => Effects::SEED,
            // What it leaves stays there, even if something fails behind it.
            Special::Sticky => Effects::STICKY.union(Effects::OPAQUE),
            Special::RunsText => Effects::OPAQUE,
            Special::CreateSlot if matches!(arguments().third, Third::Absent | Third::False) => Effects::NONE,
            Special::CopySlot if arguments().third == Third::False => Effects::NONE,
            Special::CreateSlot | Special::CopySlot => Effects::SLOT,
        };
        self.judge.verdict.add(effects);
    }
}
