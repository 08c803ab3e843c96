//! What a session has been left with, learnt by asking it.
//!
//! The text of a statement only tells what may have changed: a SET may have been rolled back, a function may have made
//! a temporary table. The questions are put in a transaction of our own which the session's settings cannot trip, and
//! which is rolled back.

use crate::wire::backend::Status;

use super::literal::{telling, text, told};
use super::settings::{COLUMNS_MAX, select};
use super::{Connection, Failure};

/// What is to be learnt of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// These settings, by name.
    pub names: Vec<Box<[u8]>>,
    /// These, if there are custom settings of such names.
    pub candidates: Vec<Box<[u8]>>,
    /// Every setting there is, but for custom ones, which no catalog lists.
    pub every_setting: bool,
    /// State beside settings.
    pub state: bool,
}

/// A setting of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its name in lower case.
    pub name: Box<[u8]>,
    /// What it is set to; `None` if there is no such setting.
    pub current: Option<Box<[u8]>>,
    /// What RESET would make of it.
    pub default: Option<Box<[u8]>>,
}

impl Value {
    fn told(name: Box<[u8]>, current: Option<Box<[u8]>>, default: Option<Box<[u8]>>) -> Self {
        let read = |value: Option<Box<[u8]>>| value.map(|value| told(&value));
        Self {
            name,
            current: read(current),
            default: read(default),
        }
    }
}

/// A setting's name in lower case, and its value.
pub(super) type Named = (Box<[u8]>, Box<[u8]>);

/// What a session has been left with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The settings asked for by name.
    pub values: Vec<Value>,
    /// The candidates that are custom settings.
    pub customs: Vec<Value>,
    /// Every setting that the session has set, if they were asked for: names in lower case.
    pub set: Option<Vec<Named>>,
    /// Which of all these are set, but not for who has logged in to set: a function has, that runs as its owner.
    pub stuck: Vec<Box<[u8]>>,
    /// State beside settings, if it was asked for.
    pub state: Option<State>,
}

impl Answer {
    /// Whether a setting is what a new session has because nothing sets it in this one; `None` if that is not known.
    pub fn is_reset(&self, name: &[u8]) -> Option<bool> {
        let is_listed = !name.contains(&b'.') && !TIMEOUTS.contains(&name) && !UNLISTED.contains(&name);
        let set = self.set.as_ref().filter(|_| is_listed)?;
        Some(!set.iter().any(|(have, _)| **have == *name))
    }
}

/// How the settings are asked about that a question names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// All of them are reset, for the moment: it is an error if one may not be.
    Plain,
    /// Those that may not be reset are looked up, which is slow, and those that cannot have been set are left out.
    Careful,
}

/// State of a session beside its settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Which kinds there are.
    pub remains: Remains,
    /// Statements that SQL's own PREPARE made.
    pub prepared: Vec<Box<[u8]>>,
    /// Channels that are listened to.
    pub channels: Vec<Box<[u8]>>,
}

/// Kinds of state that a session may hold and that cannot follow its client: a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Remains(u16);

impl Remains {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Temporary objects.
    pub const TEMP: Self = Self(1);
    /// Cursors WITH HOLD.
    pub const HOLD: Self = Self(2);
    /// Session-level advisory locks.
    pub const LOCK: Self = Self(4);
    /// Statements of SQL's own PREPARE.
    pub const PREPARE: Self = Self(8);
    /// Channels that are listened to.
    pub const LISTEN: Self = Self(16);
    /// Temporary replication slots.
    pub const SLOT: Self = Self(32);
    /// What cannot be seen or undone, such as a loaded library.
    pub const STICKY: Self = Self(64);
    /// Nobody knows: the question has not been answered.
    pub const UNKNOWN: Self = Self(128);

    /// Custom settings whose names nobody knows.
    pub const CUSTOM: Self = Self(256);
    /// Settings that the client's role may not set.
    pub const SETTING: Self = Self(512);

    /// What no cleaning takes away: such a server is closed.
    pub const FOR_LIFE: Self = Self::SLOT.union(Self::STICKY).union(Self::UNKNOWN);

    /// Every kind with its word, as the console and the metrics spell it.
    pub const WORDS: [(Self, &'static str); 10] = [
        (Self::TEMP, "temp"),
        (Self::HOLD, "hold"),
        (Self::LOCK, "lock"),
        (Self::PREPARE, "prepare"),
        (Self::LISTEN, "listen"),
        (Self::SLOT, "slot"),
        (Self::STICKY, "sticky"),
        (Self::UNKNOWN, "unknown"),
        (Self::CUSTOM, "custom"),
        (Self::SETTING, "setting"),
    ];

    /// Whether there is nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in it.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Adds `other`.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// What is in this one and not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl std::fmt::Display for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = Self::WORDS.iter().filter(|(kind, _)| self.contains(*kind));
        let words: Vec<_> = words.map(|(_, word)| *word).collect();
        f.write_str(&words.join(","))
    }
}

/// Defaults of the client's, such as serializable and deferrable, would make the question wait.
pub(super) const BEGIN: &[u8] = b"BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED,READ ONLY,NOT DEFERRABLE;";
/// The role is put aside after the settings have been read, one of which it is.
pub(super) const FREE: &[u8] =
    b"SET LOCAL statement_timeout=0;SET LOCAL lock_timeout=0;SET LOCAL SESSION AUTHORIZATION DEFAULT;";
/// From PostgreSQL 17 on.
pub(super) const FREE_17: &[u8] = b"SET LOCAL transaction_timeout=0;";
const STATE: &[u8] = b"SELECT EXISTS(SELECT FROM pg_catalog.pg_cursors WHERE is_holdable),\
EXISTS(SELECT FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 2615 \
AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()),\
EXISTS(SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()),\
EXISTS(SELECT FROM pg_catalog.pg_replication_slots WHERE temporary \
AND active_pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid());\
SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql;\
SELECT pg_catalog.pg_listening_channels();";
/// All but the transaction's own, which are not what the session has.
const EVERY_SETTING: &[u8] = b"SELECT pg_catalog.lower(name),\
pg_catalog.encode(pg_catalog.convert_to(pg_catalog.current_setting(name,true),pg_catalog.getdatabaseencoding()),'escape'),";
const OF_SESSION: &[u8] = b" FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session' \
AND name OPERATOR(pg_catalog.!~) '^(transaction_(isolation|read_only|deferrable|timeout)|statement_timeout|lock_timeout)$';";
/// Whether who has logged in may set what is in `pg_settings`.
const MAY_SET: &[u8] =
    b"(context OPERATOR(pg_catalog.=) 'user' OR context OPERATOR(pg_catalog.=) 'superuser' \
AND (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user))";
/// From PostgreSQL 15 on.
const MAY_SET_15: &[u8] =
    b"(context OPERATOR(pg_catalog.=) 'user' OR context OPERATOR(pg_catalog.=) 'superuser' \
AND pg_catalog.has_parameter_privilege(name,'SET'))";
/// Of these names the custom settings that the session knows, and what RESET would make of them. A setting that a library
/// has defined is not among them: it is in `pg_settings`, and perhaps not to be set.
const CUSTOMS: &[u8] =
    b"SELECT name,\
pg_catalog.encode(pg_catalog.convert_to(pg_catalog.current_setting(name,true),pg_catalog.getdatabaseencoding()),'escape'),\
pg_catalog.encode(pg_catalog.convert_to(pg_catalog.set_config(name,NULL,true),pg_catalog.getdatabaseencoding()),'escape') \
FROM (VALUES ";
const CUSTOMS_THERE: &[u8] = b") AS asked(name) WHERE pg_catalog.current_setting(name,true) IS NOT NULL \
AND NOT EXISTS(SELECT FROM pg_catalog.pg_settings AS s WHERE pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) asked.name);";
/// Those that [`EVERY_SETTING`] cannot tell because of [`FREE`], and has to leave to their names.
const TIMEOUTS: [&[u8]; 3] = [b"statement_timeout", b"lock_timeout", b"transaction_timeout"];
/// Those that are in no catalog.
const UNLISTED: [&[u8]; 2] = [b"role", b"session_authorization"];

impl Question {
    /// The same with the names of all settings that it takes to ask for by name.
    fn complete(&self) -> Self {
        let mut complete = self.clone();
        for name in TIMEOUTS {
            if self.every_setting && !self.names.iter().any(|have| **have == *name) {
                // What was asked for last is answered last.
                complete.names.insert(0, name.into());
            }
        }
        complete
    }

    /// The query that puts it to a server of this major version.
    fn sql(&self, manner: Manner, major: u32) -> Vec<u8> {
        let mut sql = BEGIN.to_vec();
        let literals: Vec<_> = self.names.iter().map(|name| text(name)).collect();
        let select_each = |sql: &mut Vec<u8>, call: &dyn Fn(&[u8]) -> Vec<u8>| {
            let calls: Vec<_> = literals.iter().map(|name| call(name)).collect();
            if !calls.is_empty() {
                sql.extend_from_slice(&[&*select(&calls), b";"].concat());
            }
        };
        let may_set = if major >= 15 { MAY_SET_15 } else { MAY_SET };
        select_each(&mut sql, &|name| {
            let current = [b"pg_catalog.current_setting(", name, b",true)"].concat();
            match manner {
                Manner::Plain => telling(&current),
                Manner::Careful => telling(
                    &[
                        b"CASE ",
                        &*but_for_others(name, may_set),
                        b"ELSE ",
                        &*current,
                        b" END",
                    ]
                    .concat(),
                ),
            }
        });
        sql.extend_from_slice(if major >= 17 { FREE_17 } else { b"" });
        sql.extend_from_slice(FREE);
        if self.every_setting {
            sql.extend_from_slice(&[EVERY_SETTING, may_set, OF_SESSION].concat());
        }
        if !self.candidates.is_empty() {
            let literals = self.candidates.iter().map(|name| text(name));
            let values: Vec<_> = literals.map(|name| [b"(", &*name, b")"].concat()).collect();
            sql.extend_from_slice(&[CUSTOMS, &*values.join(&b","[..]), CUSTOMS_THERE].concat());
        }
        // What RESET would make of it only the slow pg_settings tells; so it is done, for the moment.
        select_each(&mut sql, &|name| {
            let unless = match manner {
                Manner::Plain => Vec::new(),
                Manner::Careful => [but_for_others(name, may_set), but_for_stuck(name, may_set)].concat(),
            };
            telling(
                &[
                    b"CASE ",
                    &*unless,
                    b"WHEN pg_catalog.current_setting(",
                    name,
                    b",true) IS NOT NULL THEN pg_catalog.set_config(",
                    name,
                    b",NULL,true) END",
                ]
                .concat(),
            )
        });
        if self.state {
            sql.extend_from_slice(STATE);
        }
        sql.extend_from_slice(b"ROLLBACK");
        sql
    }

    /// What has been asked of each name, however many statements that has taken.
    fn one_of_each(&self, results: &mut std::vec::IntoIter<Rows>) -> Option<Row> {
        let mut row = Row::new();
        for _ in self.names.chunks(COLUMNS_MAX) {
            row.append(&mut results.next()?.pop()?);
        }
        Some(row)
    }

    fn read(&self, mut results: std::vec::IntoIter<Rows>) -> Option<Answer> {
        let mut answer = Answer::default();
        let current = self.one_of_each(&mut results)?;
        if self.every_setting {
            let rows = results.next()?.into_iter();
            let mut stuck = Vec::new();
            let pair = |row: Row| {
                let [name, value, may_set] = <[_; 3]>::try_from(row).ok()?;
                let name = name?;
                if may_set.as_deref() == Some(b"f") {
                    stuck.push(name.clone());
                }
                Some((name, told(&value.unwrap_or_default())))
            };
            answer.set = Some(rows.map(pair).collect::<Option<_>>()?);
            answer.stuck = stuck;
        }
        if !self.candidates.is_empty() {
            let rows = results.next()?.into_iter();
            let value = |row: Row| {
                let [name, current, default] = <[_; 3]>::try_from(row).ok()?;
                Some(Value::told(name?, current, default))
            };
            answer.customs = rows.map(value).collect::<Option<_>>()?;
        }
        if !current.is_empty() {
            let defaults = self.one_of_each(&mut results)?;
            let triples = self.names.iter().cloned().zip(current.into_iter().zip(defaults));
            answer.values = triples
                .map(|(name, (current, default))| Value::told(name, current, default))
                .collect();
            let is_stuck = |value: &&Value| value.current.is_some() && value.default.is_none();
            let stuck = answer.values.iter().filter(is_stuck);
            answer.stuck.extend(stuck.map(|value| value.name.clone()));
        }
        if self.state {
            let there = results.next()?.pop()?;
            let kinds = [Remains::HOLD, Remains::TEMP, Remains::LOCK, Remains::SLOT];
            let mut state = State::default();
            for (kind, flag) in kinds.into_iter().zip(there) {
                if flag.as_deref() == Some(b"t") {
                    state.remains.insert(kind);
                }
            }
            let mut names = || -> Option<Vec<Box<[u8]>>> {
                results.next()?.into_iter().map(|mut row| row.pop()?).collect()
            };
            state.prepared = names()?;
            state.channels = names()?;
            if !state.prepared.is_empty() {
                state.remains.insert(Remains::PREPARE);
            }
            if !state.channels.is_empty() {
                state.remains.insert(Remains::LISTEN);
            }
            answer.state = Some(state);
        }
        Some(answer)
    }
}

/// The beginning of a CASE that tells nothing of a setting which is not set and may not be, or perhaps not even be looked at.
fn but_for_others(name: &[u8], may_set: &[u8]) -> Vec<u8> {
    [
        b"WHEN ",
        name,
        b" OPERATOR(pg_catalog.!~) '[.]|^(role|session_authorization)$' AND NOT EXISTS(SELECT FROM pg_catalog.pg_settings \
WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=) ",
        name,
        b" AND (source OPERATOR(pg_catalog.=) 'session' OR ",
        may_set,
        b")) THEN NULL ",
    ]
    .concat()
}

/// The beginning of a CASE that tells of a setting which may not be reset whether it is set: then it has no default.
fn but_for_stuck(name: &[u8], may_set: &[u8]) -> Vec<u8> {
    [
        b"WHEN ",
        name,
        b" OPERATOR(pg_catalog.=) ANY (SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings WHERE NOT ",
        may_set,
        b") THEN (SELECT pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=) ",
        name,
        b" AND source OPERATOR(pg_catalog.<>) 'session') ",
    ]
    .concat()
}

/// A row's columns.
pub type Row = Vec<Option<Box<[u8]>>>;
/// The rows of one statement.
pub(super) type Rows = Vec<Row>;

impl Connection {
    /// Asks the session what it has been left with. Nothing else may be in flight, and no transaction open.
    pub async fn ask(&mut self, question: &Question, manner: Manner) -> Result<Answer, Failure> {
        let question = question.complete();
        let results = self
            .query_or_roll_back(&question.sql(manner, self.major_version()))
            .await?;
        question
            .read(results.into_iter())
            .ok_or_else(|| Failure::protocol("answer to a question of howdah's"))
    }

    /// Runs a query of howdah's own which no setting of the session can trip. Returns the rows of each statement.
    pub(super) async fn query_in_peace(&mut self, sql: &[u8]) -> Result<Vec<Rows>, Failure> {
        let free_17 = if self.major_version() >= 17 { FREE_17 } else { b"" };
        self.query_or_roll_back(&[BEGIN, free_17, FREE, sql, b";ROLLBACK"].concat())
            .await
    }

    async fn query_or_roll_back(&mut self, sql: &[u8]) -> Result<Vec<Rows>, Failure> {
        let before = self.settings.reported.clone();
        let results = self.query(sql).await;
        if results.is_err() && self.pipeline.status() != Status::Idle {
            self.run("ROLLBACK").await?;
        }
        self.has_set_nothing_since(&before);
        results
    }

    /// PostgreSQL's major version, by what the server reports.
    pub fn major_version(&self) -> u32 {
        let version = self.settings.reported.get(b"server_version").unwrap_or_default();
        let digits = version.iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |number: u32, digit| {
            number.saturating_mul(10).saturating_add(u32::from(digit - b'0'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(value: &str) -> Box<[u8]> {
        value.as_bytes().into()
    }

    #[test]
    fn an_answer_is_read_as_it_was_asked_for() {
        let question = Question {
            names: vec![b"a".as_slice().into(), b"app.b".as_slice().into()],
            candidates: vec![b"app.c".as_slice().into(), b"t.column".as_slice().into()],
            every_setting: true,
            state: true,
        }
        .complete();
        let results: Vec<Rows> = vec![
            vec![vec![
                Some(name("1")),
                None,
                Some(name("0")),
                Some(name("0")),
                None,
            ]],
            vec![
                vec![Some(name("work_mem")), Some(name("1MB")), Some(name("t"))],
                vec![Some(name("log_statement")), Some(name("all")), Some(name("f"))],
            ],
            vec![vec![Some(name("app.c")), Some(name("1")), Some(name(""))]],
            vec![vec![
                Some(name("0")),
                None,
                Some(name("0")),
                Some(name("0")),
                None,
            ]],
            vec![vec![
                Some(name("t")),
                Some(name("f")),
                Some(name("f")),
                Some(name("f")),
            ]],
            vec![vec![Some(name("p"))]],
            vec![],
        ];
        let answer = question.read(results.into_iter()).unwrap();
        assert_eq!(answer.values[0].current, Some(name("1")));
        assert_eq!(answer.values[1].current, None);
        assert_eq!(answer.customs.len(), 1);
        assert_eq!(answer.customs[0].current, Some(name("1")));
        assert_eq!(answer.set.unwrap()[0].0[..], b"work_mem"[..]);
        assert_eq!(answer.stuck, [name("log_statement")]);
        let state = answer.state.unwrap();
        assert_eq!(state.remains.to_string(), "hold,prepare");
        assert_eq!(state.prepared, [name("p")]);
    }

    #[test]
    fn an_answer_that_is_too_short_is_none() {
        let question = Question {
            state: true,
            ..Question::default()
        };
        assert_eq!(question.read(Vec::new().into_iter()), None);
    }
}
