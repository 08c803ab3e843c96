//! The little SQL that the simulated servers know: what the clients of a simulation say, and what howdah asks by itself.

use std::time::Duration;

/// A statement, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// Nothing but blanks.
    Empty,
    Begin,
    Commit,
    Rollback,
    /// `SELECT 'token'` with more behind it.
    Select(Select),
    /// A row of the ledger.
    Insert(String),
    /// COPY FROM STDIN into the ledger.
    CopyIn(String),
    /// COPY TO STDOUT of so many lines.
    CopyOut(String),
    /// SET, SET LOCAL and `set_config`, with `None` for the default; all or nothing.
    Set(Vec<Setting>, Tag),
    ResetAll,
    /// SELECT of two rows, of which the first sets these and the second puts back what was there.
    Detour(Vec<Setting>),
    /// `current_setting` of these names.
    Show(Vec<String>),
    /// What new sessions have for a limit on idleness.
    IdleLimit,
    /// Every setting that the session has set.
    EverySetting,
    /// The four kinds of state beside settings.
    State,
    /// Names of SQL's own prepared statements.
    SqlNames,
    /// Names of functions: there are none.
    NoNames,
    Channels,
    CreateTemp(String),
    DropTable(String),
    DiscardTemp,
    DiscardAll,
    /// PREPARE of a name and a text.
    Prepare(String, String),
    /// EXECUTE of a name, with a parameter.
    Execute(String, Option<String>),
    /// DEALLOCATE, of all without a name.
    Deallocate(Option<String>),
    Listen(String),
    /// UNLISTEN, of all without a name.
    Unlisten(Option<String>),
    UnlockAll,
    /// Something that changes nothing here.
    Nothing(&'static str),
}

/// What the completion of a settings statement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Set,
    Reset,
    Select,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: Option<String>,
    pub(super) is_local: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Select {
    pub(super) token: String,
    pub(super) rows: usize,
    pub(super) sleep: Option<Duration>,
    pub(super) fails: bool,
    pub(super) has_parameter: bool,
    /// An advisory lock that is taken, or given back.
    pub(super) lock: Option<(u32, bool)>,
    /// A temporary table that has to be there.
    pub(super) table: Option<String>,
}

/// The statements of a query.
pub(super) fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            ';' if !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    if parts.len() > 1 {
        parts.retain(|part| !part.trim().is_empty());
    }
    parts
}

/// Understands one statement; `None` is a syntax error.
pub(super) fn parse(text: &str) -> Option<Statement> {
    let text = text.trim();
    let first = text.split(|c: char| !c.is_ascii_alphabetic()).next()?;
    let rest = text[first.len()..].trim_start();
    Some(match first {
        "" if text.is_empty() => Statement::Empty,
        "BEGIN" => Statement::Begin,
        "COMMIT" => Statement::Commit,
        "ROLLBACK" => Statement::Rollback,
        "SELECT" if rest.starts_with('\'') => Statement::Select(select(rest)?),
        "SELECT" => question(rest)?,
        "WITH" if rest.starts_with("written ") => Statement::NoNames,
        "WITH" => Statement::Detour(detour(rest)),
        "INSERT" => Statement::Insert(literals(rest).into_iter().next()?.0),
        "COPY" if rest.starts_with("ledger FROM STDIN") => {
            Statement::CopyIn(literals(rest).into_iter().next()?.0)
        }
        "COPY" => Statement::CopyOut(literals(rest).into_iter().next()?.0),
        "SET" if rest.ends_with("SESSION AUTHORIZATION DEFAULT") => Statement::Nothing("SET"),
        "SET" if rest.starts_with("seed ") => Statement::Nothing("SET"),
        "SET" => set(rest)?,
        "RESET" if rest == "ROLE" => Statement::Set(vec![setting("role", None, false)], Tag::Reset),
        "RESET" if rest == "ALL" => Statement::ResetAll,
        "RESET" if rest == "SESSION AUTHORIZATION" => Statement::Nothing("RESET"),
        "RESET" => Statement::Set(vec![setting(rest, None, false)], Tag::Reset),
        "CREATE" => Statement::CreateTemp(word(rest.strip_prefix("TEMP TABLE ")?)),
        "DROP" => Statement::DropTable(word(rest.strip_prefix("TABLE ")?)),
        "DISCARD" if rest == "TEMP" => Statement::DiscardTemp,
        "DISCARD" if rest == "PLANS" => Statement::Nothing("DISCARD PLANS"),
        "DISCARD" => Statement::DiscardAll,
        "PREPARE" => {
            let (name, text) = rest.split_once(" AS ")?;
            parse(text)?;
            Statement::Prepare(word(name), text.to_owned())
        }
        "EXECUTE" => Statement::Execute(
            word(rest),
            literals(rest).into_iter().next().map(|(value, _)| value),
        ),
        "DEALLOCATE" => {
            let rest = rest.strip_prefix("PREPARE ").unwrap_or(rest);
            Statement::Deallocate((rest != "ALL").then(|| word(rest)))
        }
        "LISTEN" => Statement::Listen(word(rest)),
        "UNLISTEN" => Statement::Unlisten((rest != "*").then(|| word(rest))),
        "CLOSE" => Statement::Nothing("CLOSE CURSOR ALL"),
        _ => return None,
    })
}

fn word(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    text.trim().chars().take_while(|c| is_part(*c)).collect()
}

fn number_behind<T: std::str::FromStr>(text: &str, mark: &str) -> Option<T> {
    let (_, behind) = text.split_once(mark)?;
    let digits = behind.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.');
    digits[..end.unwrap_or(digits.len())].parse().ok()
}

fn select(rest: &str) -> Option<Select> {
    Some(Select {
        token: literals(rest).into_iter().next()?.0,
        rows: number_behind(rest, "generate_series(1,").unwrap_or(1),
        sleep: number_behind(rest, "pg_sleep(").map(Duration::from_secs_f64),
        fails: rest.contains("1/0"),
        has_parameter: rest.contains("$1"),
        lock: number_behind(rest, "pg_advisory_lock(")
            .map(|lock| (lock, true))
            .or_else(|| number_behind(rest, "pg_advisory_unlock(").map(|lock| (lock, false))),
        table: rest
            .split_once("FROM t_")
            .map(|(_, name)| format!("t_{}", word(name))),
    })
}

/// What howdah asks.
fn question(rest: &str) -> Option<Statement> {
    let plain = rest
        .replace("pg_catalog.", "")
        .replace("encode(convert_to(", "")
        .replace(",getdatabaseencoding()),'escape')", "");
    Some(if plain.starts_with("set_config(") {
        Statement::Set(set_config(&plain), Tag::Select)
    } else if plain.starts_with("current_setting(") {
        let names = literals(&plain).into_iter();
        Statement::Show(names.map(|(name, _)| name).collect())
    } else if plain.starts_with("CASE WHEN") {
        // Each name stands there twice.
        let names = literals(&plain).into_iter().step_by(2);
        let resets = names.map(|(name, _)| setting(&name, None, true));
        Statement::Set(resets.collect(), Tag::Select)
    } else if plain.starts_with("now,") {
        Statement::IdleLimit
    } else if plain.starts_with("lower(name)") {
        Statement::EverySetting
    } else if plain.starts_with("1 FROM pg_replication_slots") {
        Statement::NoNames
    } else if plain.starts_with("EXISTS(") {
        Statement::State
    } else if plain.starts_with("name FROM") {
        Statement::SqlNames
    } else if plain.starts_with("proname,") || plain.starts_with("lower(translate(") {
        Statement::NoNames
    } else if plain.starts_with("pg_listening_channels()") {
        Statement::Channels
    } else if plain.starts_with("pg_advisory_unlock_all()") {
        Statement::UnlockAll
    } else {
        return None;
    })
}

fn setting(name: &str, value: Option<String>, is_local: bool) -> Setting {
    Setting {
        name: word(name).to_ascii_lowercase(),
        value,
        is_local,
    }
}

fn set(rest: &str) -> Option<Statement> {
    let (is_local, rest) = match rest.strip_prefix("LOCAL ") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if let Some(role) = rest.strip_prefix("ROLE ") {
        let role = word(role).to_ascii_lowercase();
        return Some(Statement::Set(
            vec![setting("role", Some(role), is_local)],
            Tag::Set,
        ));
    }
    if rest.starts_with('"') {
        // Howdah's own.
        let (name, value) = rest.split_once(" TO ")?;
        let values: Vec<_> = literals(value).into_iter().map(|(value, _)| value).collect();
        let name = name.replace('"', "");
        return Some(Statement::Set(
            vec![setting(&name, Some(values.join(", ")), is_local)],
            Tag::Set,
        ));
    }
    let (name, value) = rest.split_once('=')?;
    let quoted = literals(value).into_iter().next();
    let value = quoted.map_or_else(|| word(value), |(value, _)| value);
    Some(Statement::Set(
        vec![setting(name, Some(value), is_local)],
        Tag::Set,
    ))
}

/// The calls for the first of the two rows.
fn detour(rest: &str) -> Vec<Setting> {
    let plain = rest.replace("pg_catalog.", "");
    let firsts = plain.split(" THEN ").skip(1);
    let firsts = firsts.filter_map(|behind| behind.split_once(" ELSE "));
    firsts.flat_map(|(call, _)| set_config(call)).collect()
}

/// The calls of `set_config`: name, value or NULL, whether it is for the transaction.
fn set_config(text: &str) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut rest = text;
    while let Some((_, call)) = rest.split_once("set_config(") {
        let Some((name, behind)) = literals(call).into_iter().next() else {
            break;
        };
        let behind = behind.trim_start_matches(',');
        let (value, behind) = if let Some(behind) = behind.strip_prefix("NULL") {
            (None, behind)
        } else {
            match literals(behind).into_iter().next() {
                Some((value, behind)) => (Some(value), behind),
                None => break,
            }
        };
        settings.push(setting(&name, value, behind.starts_with(",true")));
        rest = behind;
    }
    settings
}

/// The string literals of a text, each with what is behind it.
fn literals(text: &str) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\'') {
        let escapes = rest[..at].ends_with('E');
        let (mut value, mut chars) = (String::new(), rest[at + 1..].char_indices().peekable());
        let mut end = None;
        while let Some((offset, c)) = chars.next() {
            match c {
                '\'' if chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                    value.push('\'');
                    chars.next();
                }
                '\'' => {
                    end = Some(at + 1 + offset + 1);
                    break;
                }
                '\\' if escapes => value.extend(chars.next().map(|(_, next)| next)),
                c => value.push(c),
            }
        }
        let Some(end) = end else { break };
        rest = &rest[end..];
        found.push((value, rest));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn howdahs_own_words_are_understood() {
        let text = "SELECT pg_catalog.set_config(E'app.x',E'a''\\\\b',false),pg_catalog.set_config(E'TimeZone',NULL,true)";
        let wanted = vec![
            setting("app.x", Some("a'\\b".to_owned()), false),
            setting("timezone", None, true),
        ];
        assert_eq!(parse(text), Some(Statement::Set(wanted, Tag::Select)));
        let text = "SELECT pg_catalog.current_setting(E'a.b',true),pg_catalog.current_setting(E'c',true)";
        assert_eq!(
            parse(text),
            Some(Statement::Show(vec!["a.b".to_owned(), "c".to_owned()]))
        );
        let text = "SELECT CASE WHEN pg_catalog.current_setting(E'c',true) IS NOT NULL THEN \
                    pg_catalog.set_config(E'c',NULL,true) END";
        assert_eq!(
            parse(text),
            Some(Statement::Set(vec![setting("c", None, true)], Tag::Select))
        );
    }

    #[test]
    fn a_detour_is_understood() {
        let text = "WITH had AS MATERIALIZED (SELECT pg_catalog.current_setting(E'a') AS v0) SELECT \
                    CASE WHEN step OPERATOR(pg_catalog.=) 1 THEN pg_catalog.set_config(E'a',E'b',true) \
                    ELSE pg_catalog.set_config(E'a',v0,true) END FROM had, pg_catalog.generate_series(1,2) AS step";
        let there = vec![setting("a", Some("b".to_owned()), true)];
        assert_eq!(parse(text), Some(Statement::Detour(there)));
    }

    #[test]
    fn clients_words_are_understood() {
        let parsed = parse("SELECT 'c1-2', $1, pg_sleep(0.5) FROM generate_series(1,20)");
        let Some(Statement::Select(select)) = parsed else {
            panic!("{parsed:?}")
        };
        assert_eq!((select.token.as_str(), select.rows), ("c1-2", 20));
        assert_eq!(select.sleep, Some(Duration::from_millis(500)));
        assert!(select.has_parameter && !select.fails);
        let local = vec![setting("work_mem", Some("1MB".to_owned()), true)];
        assert_eq!(
            parse("SET LOCAL work_mem = '1MB'"),
            Some(Statement::Set(local, Tag::Set))
        );
        assert_eq!(split("BEGIN;SELECT 'a;b';ROLLBACK").len(), 3);
        assert_eq!(parse("nonsense"), None);
    }
}
