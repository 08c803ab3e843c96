//! SET, RESET and `set_config`.

use super::arguments::{Arguments, First, Second, Third, may_be_temporary};
use super::cursor::Cursor;
use super::identifier;
use super::lexer::{Kind, Token};
use super::verdict::{Effects, SettingName, Verdict};

/// What `SET SESSION CHARACTERISTICS AS TRANSACTION …` may set.
const CHARACTERISTICS: [&[u8]; 3] = [
    b"default_transaction_isolation",
    b"default_transaction_read_only",
    b"default_transaction_deferrable",
];

/// The setting that `setseed()` sets.
pub const SEED: &[u8] = b"seed";

/// How long a setting lasts, and whether it is its startup value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Set for the session.
    Set,
    /// Set back for the session.
    Reset,
    /// For the transaction.
    Local,
    /// Set back for the transaction.
    LocalReset,
}

/// `SET …`, from behind that word.
pub(super) fn set(verdict: &mut Verdict, cursor: &mut Cursor<'_>) {
    let session = take_keyword(cursor, "session");
    let local = !session && take_keyword(cursor, "local");
    // `SET LOCAL SESSION AUTHORIZATION`, and `SET SESSION SESSION …`, which means nothing else.
    let again = (session || local) && take_keyword(cursor, "session");
    let session = session || again;
    let change = |cursor: &Cursor<'_>| {
        let is_reset = cursor.peek().is_none_or(|token| token.is_word("default"));
        match (is_reset, local) {
            (true, true) => Change::LocalReset,
            (true, false) => Change::Reset,
            (false, true) => Change::Local,
            (false, false) => Change::Set,
        }
    };
    if session && take_keyword(cursor, "authorization") {
        return touch(verdict, b"session_authorization", change(cursor));
    }
    if session && take_keyword(cursor, "characteristics") {
        for name in CHARACTERISTICS {
            touch(verdict, name, change(cursor));
        }
        return;
    }
    if is_variable(cursor) {
        let name = variable(cursor);
        // `TO` or `=`.
        cursor.next();
        if name.as_deref().is_none_or(|name| name == b"search_path") {
            note_temp_path(verdict, cursor);
        }
        return match name {
            Some(name) => touch(verdict, &name, change(cursor)),
            None if local => verdict.add(Effects::LOCAL_CUSTOM.union(Effects::LOCAL_MEANING)),
            None => verdict.add(Effects::ANY_SETTING),
        };
    }
    let Some(word) = cursor.next() else { return };
    if word.is_word("time") && cursor.take_word("zone") {
        let change = match change(cursor) {
            Change::Set if cursor.is_word("local") => Change::Reset,
            Change::Local if cursor.is_word("local") => Change::LocalReset,
            change => change,
        };
        touch(verdict, b"timezone", change);
    } else if word.is_word("names") {
        touch(verdict, b"client_encoding", change(cursor));
    } else if word.is_word("schema") {
        note_temp_path(verdict, cursor);
        touch(verdict, b"search_path", change(cursor));
    } else if word.is_word("role") {
        touch(verdict, b"role", change(cursor));
    } else if word.is_word("xml") && cursor.take_word("option") {
        touch(verdict, b"xmloption", change(cursor));
    } else if !word.is_word("transaction") && !word.is_word("constraints") {
        verdict.add(Effects::OPAQUE);
    }
}

/// What is created from now on may be temporary.
fn note_temp_path(verdict: &mut Verdict, cursor: &Cursor<'_>) {
    let mut ahead = cursor.clone();
    while let Some(token) = ahead.next() {
        if may_be_temporary(&token) {
            return verdict.add(Effects::TEMP_PATH);
        }
    }
}

/// `RESET …`, from behind that word.
pub(super) fn reset(verdict: &mut Verdict, cursor: &mut Cursor<'_>) {
    verdict.add(Effects::RELEASES);
    let Some(word) = cursor.peek() else { return };
    let Some(name) = variable(cursor) else {
        return verdict.add(Effects::ANY_SETTING);
    };
    match name.as_slice() {
        b"all" if word.is_word("all") => verdict.add_reset_all(),
        b"time" if cursor.take_word("zone") => touch(verdict, b"timezone", Change::Reset),
        b"session" if cursor.take_word("authorization") => {
            touch(verdict, b"session_authorization", Change::Reset);
        }
        // RESET TRANSACTION ISOLATION LEVEL, which is the transaction's.
        b"transaction" if cursor.take_word("isolation") => {}
        name => touch(verdict, name, Change::Reset),
    }
}

/// `set_config(name, value, is_local)`
pub(super) fn set_config(verdict: &mut Verdict, arguments: &Arguments<'_>) {
    let change = match (arguments.third, arguments.second) {
        (Third::True, Second::Null) => Change::LocalReset,
        (Third::True, _) => Change::Local,
        (_, Second::Null) => Change::Reset,
        _ => Change::Set,
    };
    let may_be_path = match arguments.first {
        First::Literal(name) => name.eq_ignore_ascii_case(b"search_path"),
        First::Parameter(_) | First::Computed => true,
    };
    if may_be_path && arguments.may_be_temporary {
        verdict.add(Effects::TEMP_PATH);
    }
    let is_local = arguments.third == Third::True;
    let name = match arguments.first {
        First::Literal(name) => Some(SettingName::Is(name.to_ascii_lowercase().into())),
        First::Parameter(number) => Some(SettingName::Comes(number)),
        First::Computed => None,
    };
    if !is_local && let Some(name) = name {
        match arguments.second {
            Second::Parameter(number) => verdict.add_nullable(name, Some(number)),
            Second::Null => verdict.add_nullable(name, None),
            Second::Other => {}
        }
    }
    match (arguments.first, is_local) {
        (First::Literal(name), _) => touch(verdict, &name.to_ascii_lowercase(), change),
        (First::Parameter(number), true) => verdict.add_bound_local(number),
        (First::Parameter(number), false) => verdict.add_bound_setting(number),
        (First::Computed, true) => verdict.add(Effects::LOCAL_CUSTOM.union(Effects::LOCAL_MEANING)),
        (First::Computed, false) => verdict.add(Effects::ANY_SETTING),
    }
}

/// Everything back to what it was at login: DISCARD ALL.
pub(super) fn reset_everything(verdict: &mut Verdict) {
    verdict.add_reset_all();
    touch(verdict, b"session_authorization", Change::Reset);
}

/// A setting whose name is in lower case goes back to what it was at login.
pub(super) fn lead_back(verdict: &mut Verdict, name: &[u8]) {
    touch(verdict, name, Change::Reset);
}

/// A setting changes, whose name is in lower case.
fn touch(verdict: &mut Verdict, name: &[u8], change: Change) {
    let name = match name {
        // What they were called once, and still may be.
        b"sort_mem" => b"work_mem".as_slice(),
        b"vacuum_mem" => b"maintenance_work_mem",
        // They belong to the transaction.
        b"transaction_isolation" | b"transaction_read_only" | b"transaction_deferrable" => return,
        // It cannot be asked for, and stays whatever is rolled back.
        SEED => return verdict.add(Effects::SEED),
        name => name,
    };
    if change == Change::LocalReset {
        verdict.add_local_reset(name.into());
    }
    match change {
        Change::Local | Change::LocalReset if name.contains(&b'.') => verdict.add_local_custom(name.into()),
        Change::Local | Change::LocalReset => verdict.add_local(name),
        Change::Set => verdict.add_setting(name.into()),
        Change::Reset => verdict.add_reset(name.into()),
    }
    // The role changes with it.
    if name == b"session_authorization" {
        touch(verdict, b"role", change);
    }
}

/// Takes a keyword, unless it is the name of a variable.
fn take_keyword(cursor: &mut Cursor<'_>, keyword: &str) -> bool {
    !is_variable(cursor) && cursor.take_word(keyword)
}

/// Whether a variable follows that is set: `name =`, `name TO`, `name.name …`.
fn is_variable(cursor: &Cursor<'_>) -> bool {
    let mut ahead = cursor.clone();
    let name = ahead.next().is_some_and(|token| token.is_name());
    let sets = |token: Token<'_>| {
        token.is_other(b'.')
            || token.is_word("to")
            || token.is_word("uescape")
            || token.kind == Kind::Operator && token.text.starts_with(b"=")
    };
    name && ahead.peek().is_some_and(sets)
}

/// The name of a variable in lower case; `None` if it is written with Unicode escapes, or is no name.
fn variable(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let mut full = Vec::new();
    loop {
        full.extend_from_slice(&identifier::name(&cursor.next()?)?);
        if !cursor.take_other(b'.') {
            full.make_ascii_lowercase();
            return Some(full);
        }
        full.push(b'.');
    }
}
