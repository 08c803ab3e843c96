//! CREATE, ALTER and DROP.

use super::calls::{Calls, Clause};
use super::identifier;
use super::judge::{Judge, is_temp_schema};
use super::lexer::{Kind, Token};
use super::literal::literal;
use super::verdict::Effects;

/// `CREATE …`, from behind that word.
pub(super) fn create(judge: &mut Judge<'_>) {
    let mut temp = false;
    let mut materialized = false;
    let object = loop {
        let Some(token) = judge.cursor.next() else { return };
        let word = token.text.to_ascii_lowercase();
        match word.as_slice() {
            b"temp" | b"temporary" => temp = true,
            b"materialized" => materialized = true,
            b"or" | b"replace" | b"global" | b"local" | b"unlogged" | b"recursive" | b"trusted"
            | b"procedural" | b"default" | b"constraint" | b"unique" | b"foreign" | b"event" => {}
            _ => break word,
        }
    };
    match object.as_slice() {
        b"view" if materialized => create_table(judge, temp),
        b"table" => create_table(judge, temp),
        b"view" | b"sequence" => {
            judge.verdict.add(created(temp));
            definition(judge);
        }
        b"database" => create_database(judge),
        b"schema" => create_schema(judge),
        b"function" | b"procedure" => create_function(judge),
        b"aggregate" | b"collation" | b"conversion" | b"domain" | b"operator" | b"statistics" | b"text"
        | b"type" => {
            judge.verdict.add(Effects::CREATES);
            definition(judge);
        }
        // They have no schema, or that of something else.
        b"access" | b"cast" | b"data" | b"group" | b"index" | b"policy" | b"publication" | b"role"
        | b"rule" | b"server" | b"subscription" | b"tablespace" | b"transform" | b"trigger" | b"user" => {
            definition(judge);
        }
        // An EXTENSION or a LANGUAGE runs a script; anything else is not known here.
        _ => judge.verdict.add(Effects::OPAQUE),
    }
}

fn created(temp: bool) -> Effects {
    if temp { Effects::TEMP } else { Effects::CREATES }
}

/// The rest of a definition that runs nothing.
pub(super) fn definition(judge: &mut Judge<'_>) {
    while let Some(token) = judge.cursor.next() {
        note_temp_schema(judge, &token);
    }
}

fn note_temp_schema(judge: &mut Judge<'_>, token: &Token<'_>) {
    if token.is_name() && is_temp_schema(token) {
        judge.verdict.add(Effects::TEMP);
    }
}

/// `CREATE TABLE …`: of the definition of a table only the bounds of a partition are computed; `AS` makes it a query.
fn create_table(judge: &mut Judge<'_>, mut temp: bool) {
    let mut dropped = false;
    let mut last: [Option<Token<'_>>; 2] = [None, None];
    let mut query = false;
    while let Some(token) = judge.cursor.next() {
        temp |= token.is_name() && is_temp_schema(&token);
        if judge.cursor.depth() == 0 {
            let follows = |first: &str, second: &str| match last {
                [Some(a), Some(b)] => a.is_word(first) && b.is_word(second),
                _ => false,
            };
            dropped |= token.is_word("drop") && follows("on", "commit");
            let bounds = token.is_word("values") && last[1].is_some_and(|token| token.is_word("for"));
            query = token.is_word("as");
            if bounds || query {
                break;
            }
        }
        last = [last[1], Some(token)];
    }
    if !(temp && dropped) {
        judge.verdict.add(created(temp));
    }
    if query {
        judge.statement();
    } else {
        Calls::read(judge, Clause::Other);
    }
}

/// `CREATE SCHEMA name` with what is created in it.
fn create_schema(judge: &mut Judge<'_>) {
    let mut last: Option<Token<'_>> = None;
    while let Some(token) = judge.cursor.next() {
        note_temp_schema(judge, &token);
        if token.is_word("temp") || token.is_word("temporary") {
            judge.verdict.add(Effects::TEMP);
        }
        if token.is_word("values") && last.is_some_and(|last| last.is_word("for")) {
            return Calls::read(judge, Clause::Other);
        }
        last = Some(token);
    }
}

/// `CREATE FUNCTION …`: one in C loads its library.
fn create_function(judge: &mut Judge<'_>) {
    judge.verdict.add(Effects::CREATES);
    let mut last: Option<Token<'_>> = None;
    while let Some(token) = judge.cursor.next() {
        note_temp_schema(judge, &token);
        if last.is_some_and(|last| last.is_word("language")) {
            let name = identifier::name(&token).map(|name| name.to_ascii_lowercase());
            let name = name.or_else(|| literal(&token).map(<[u8]>::to_ascii_lowercase));
            if name.is_none_or(|name| name == b"c") {
                judge.verdict.add(Effects::STICKY);
            }
        }
        last = Some(token);
    }
}

/// `CREATE DATABASE name [WITH] [option [=] value …]`
fn create_database(judge: &mut Judge<'_>) {
    judge.cursor.next();
    judge.cursor.take_word("with");
    let mut template: Option<Box<[u8]>> = Some(b"template1".as_slice().into());
    while let Some(option) = judge.cursor.next() {
        if option.is_word("connection") {
            judge.cursor.take_word("limit");
        }
        // An equals sign, or also a minus.
        while judge
            .cursor
            .peek()
            .is_some_and(|token| token.kind == Kind::Operator)
        {
            judge.cursor.next();
        }
        let Some(value) = judge.cursor.next() else { break };
        if option.is_word("template") && !value.is_word("default") {
            template = database_name(&value);
        }
    }
    match template {
        Some(name) => judge.verdict.add_database(name),
        None => judge.verdict.add(Effects::OPAQUE),
    }
}

fn database_name(token: &Token<'_>) -> Option<Box<[u8]>> {
    match identifier::name(token) {
        Some(name) => Some(name.as_ref().into()),
        None => literal(token).map(Into::into),
    }
}

/// `ALTER …`, from behind that word.
pub(super) fn alter(judge: &mut Judge<'_>) {
    let Some(object) = judge.cursor.next() else { return };
    if object.is_word("database") {
        alter_database(judge);
    } else if object.is_word("extension") {
        alter_extension(judge);
    } else if object.is_word("role") || object.is_word("user") {
        alter_role(judge);
    } else if ["table", "foreign", "domain"]
        .iter()
        .any(|word| object.is_word(word))
    {
        // Defaults and constraints are computed for the rows that are there.
        let rest = judge.cursor.clone();
        definition(judge);
        judge.cursor = rest;
        Calls::read(judge, Clause::Other);
    } else {
        definition(judge);
    }
}

/// An update runs scripts.
fn alter_extension(judge: &mut Judge<'_>) {
    judge.cursor.next();
    if judge.cursor.is_word("update") {
        judge.verdict.add(Effects::OPAQUE);
    }
}

/// `ALTER DATABASE name RENAME TO …` and `SET TABLESPACE …` want it for themselves.
fn alter_database(judge: &mut Judge<'_>) {
    let Some(name) = judge.cursor.next() else { return };
    let renames = judge.cursor.take_word("rename");
    let sets = judge.cursor.take_word("set");
    if renames || sets && judge.cursor.is_word("tablespace") {
        needs_database(judge, &name);
    } else if sets || judge.cursor.is_word("reset") {
        judge.verdict.add_beginner(beginner(&name));
    }
}

/// `ALTER ROLE name [IN DATABASE name] SET …` or `RESET …`; the role may be `ALL`, or one that is not named.
fn alter_role(judge: &mut Judge<'_>) {
    let Some(role) = judge.cursor.next() else { return };
    let mut database = None;
    if judge.cursor.take_word("in") && judge.cursor.take_word("database") {
        database = judge.cursor.next();
    }
    if judge.cursor.is_word("set") || judge.cursor.is_word("reset") {
        let of_role = beginner(&role);
        let whose = match database {
            Some(database) if of_role.is_empty() => beginner(&database),
            _ => of_role,
        };
        judge.verdict.add_beginner(whose);
    }
}

/// Stands for the role that a statement is run by; no role can have this name.
pub const CURRENT_USER: &[u8] = b"\0";

/// A role or database by its name; what is none, or not understood, is any.
fn beginner(token: &Token<'_>) -> Box<[u8]> {
    let is_any = |words: &[&str]| words.iter().any(|word| token.is_word(word));
    if is_any(&["current_user", "current_role", "session_user", "user"]) {
        return CURRENT_USER.into();
    }
    let name = identifier::name(token).filter(|_| !token.is_word("all"));
    name.map_or_else(Box::default, |name| name.as_ref().into())
}

/// `DROP …`, from behind that word.
pub(super) fn drop(judge: &mut Judge<'_>) {
    judge.verdict.add(Effects::RELEASES);
    if !judge.cursor.take_word("database") {
        return;
    }
    let mut ahead = judge.cursor.clone();
    if ahead.take_word("if") && ahead.take_word("exists") {
        judge.cursor = ahead;
    }
    if let Some(name) = judge.cursor.next() {
        needs_database(judge, &name);
    }
}

fn needs_database(judge: &mut Judge<'_>, token: &Token<'_>) {
    match database_name(token) {
        Some(name) => judge.verdict.add_database(name),
        None => judge.verdict.add(Effects::OPAQUE),
    }
}
