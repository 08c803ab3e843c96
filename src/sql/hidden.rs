//! What a text leaves that only a word in it tells of, wherever that stands: in strings, in the bodies of functions and
//! blocks.

use super::computed::{begins_with, computes_setting, starts_of};
use super::functions::{Special, special};
use super::keywords::Folded;
use super::scan;
use super::verdict::Effects;

/// What a language keeps for as long as its session lasts.
struct Globals {
    /// What the language's name begins with.
    language: &'static [u8],
    /// What stands where all functions find it.
    shared: &'static [&'static [u8]],
    /// What a function keeps for itself. Nearly always these are its plans, which say nothing of who has called it.
    own: &'static [u8],
}

const GLOBALS: [Globals; 5] = [
    Globals {
        language: b"plperl",
        shared: &[b"_SHARED", b"main::"],
        own: b"",
    },
    Globals {
        language: b"plpython",
        shared: &[b"GD", b"global"],
        own: b"SD",
    },
    Globals {
        language: b"pltcl",
        shared: &[b"global", b"variable"],
        own: b"GD",
    },
    Globals {
        language: b"plv8",
        shared: &[b"globalThis"],
        own: b"",
    },
    Globals {
        language: b"plr",
        shared: &[b"<<-", b"assign"],
        own: b"",
    },
];

/// Words that mean something only where a statement begins; elsewhere they are words of comments.
const STATEMENTS: [&[u8]; 2] = [b"global", b"variable"];

/// What a text that may do anything leaves, by the words in it: [`Effects::COMPUTED`], [`Effects::STICKY`],
/// [`Effects::DEFINES`]. A function's body is such a text, with `language name:` before it.
pub fn hidden_effects(text: &[u8]) -> Effects {
    let computes = computes_setting(text);
    let sticks = calls_sticky(text) || calls_escaped(text) || loads(text) || keeps_globals(text);
    let effect = |is_there, effect| if is_there { effect } else { Effects::NONE };
    effect(computes, Effects::COMPUTED)
        .union(effect(sticks, Effects::STICKY))
        .union(effect(defines(text), Effects::DEFINES))
}

/// Whether something is altered, or created that is not temporary. What is only dropped nobody can have a plan for.
fn defines(text: &[u8]) -> bool {
    let is_temporary = |behind: &[u8]| {
        let object = scan::skip_spaces(behind);
        [&b"temp"[..], b"local", b"global"]
            .iter()
            .any(|word| begins_with(object, word))
    };
    starts_of(text, b"alter").next().is_some()
        || starts_of(text, b"create").any(|behind| !is_temporary(behind))
}

/// Whether a function is named that leaves what can neither be seen nor undone. All of them have a `_` in their names.
fn calls_sticky(text: &[u8]) -> bool {
    let is_other = |byte: &u8| !scan::is_word(*byte);
    memchr::memchr_iter(b'_', text).any(|at| {
        let (before, behind) = text.split_at_checked(at).unwrap_or_default();
        let start = before
            .iter()
            .rposition(is_other)
            .map_or(0, |other| other.saturating_add(1));
        let len = behind.iter().position(is_other).unwrap_or(behind.len());
        let name = text.get(start..at.saturating_add(len)).unwrap_or_default();
        Folded::new(name).is_some_and(|name| special(name.as_bytes()) == Some(Special::Sticky))
    })
}

/// `U&"dblink\005fconnect"(…)`: what is called may be any of these.
fn calls_escaped(text: &[u8]) -> bool {
    let mut found = memchr::memmem::find_iter(text, b"&\"");
    found.any(|at| {
        let (before, name) = text.split_at_checked(at).unwrap_or_default();
        let is_escaped = before
            .last()
            .is_some_and(|letter| letter.eq_ignore_ascii_case(&b'u'));
        let end = memchr::memchr(b'"', name.get(2..).unwrap_or_default());
        let behind = end
            .and_then(|end| name.get(end.saturating_add(3)..))
            .unwrap_or_default();
        let behind = scan::skip_spaces(behind);
        is_escaped && (behind.first() == Some(&b'(') || begins_with(behind, b"uescape"))
    })
}

/// `LOAD 'library'`
fn loads(text: &[u8]) -> bool {
    starts_of(text, b"load").any(|behind| scan::skip_spaces(behind).first() == Some(&b'\''))
}

fn keeps_globals(text: &[u8]) -> bool {
    starts_of(text, b"language").any(|behind| {
        let is_before_name = |byte| scan::is_space(byte) || matches!(byte, b'\'' | b'"');
        let name = behind
            .get(scan::run(behind, is_before_name)..)
            .unwrap_or_default();
        let is_of = |globals: &&Globals| {
            let beginning = name.get(..globals.language.len());
            beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(globals.language))
        };
        GLOBALS
            .iter()
            .find(is_of)
            .is_some_and(|globals| globals.are_in(text))
    })
}

impl Globals {
    fn are_in(&self, text: &[u8]) -> bool {
        let plans = memchr::memmem::find(text, b"prepare").is_some();
        self.shared.iter().any(|word| has_word(text, word))
            || (!self.own.is_empty() && !plans && has_word(text, self.own))
    }
}

/// Whether a word stands in a text, spelled like this and no part of a longer one.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    let begins = STATEMENTS.contains(&word);
    // A `$` is a word's of its own in these languages.
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let is_open = word.last().is_some_and(is_word);
    memchr::memmem::find_iter(text, word).any(|at| {
        let (before, behind) = text.split_at_checked(at).unwrap_or_default();
        let goes_on = behind.get(word.len()).is_some_and(is_word);
        let is_part = before.last().is_some_and(is_word) || (is_open && goes_on);
        let line = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let is_first = line
            .trim_ascii_end()
            .last()
            .is_none_or(|byte| matches!(byte, b';' | b':' | b'{' | b'$' | b'\''));
        !is_part && (is_first || !begins)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sticks(text: &str) -> bool {
        hidden_effects(text.as_bytes()).contains(Effects::STICKY)
    }

    #[test]
    fn what_is_created_or_altered_is_known_by_its_words() {
        let defines = |text: &str| hidden_effects(text.as_bytes()).contains(Effects::DEFINES);
        for text in [
            "DO $$BEGIN ALTER TABLE t ADD b int; END$$",
            "DO $$BEGIN EXECUTE format('create table %I ()', name); END$$",
            "language plpgsql: BEGIN CREATE OR REPLACE VIEW v AS SELECT 1; END",
        ] {
            assert!(defines(text), "{text}");
        }
        for text in [
            "DO $$BEGIN CREATE TEMP TABLE t (); create\n TEMPORARY table u (); DROP TABLE t; END$$",
            "language plpgsql: BEGIN UPDATE t SET created = now(), altered = now(); END",
        ] {
            assert!(!defines(text), "{text}");
        }
    }

    #[test]
    fn what_stays_in_a_session_is_known_by_its_words() {
        for text in [
            "DO $$BEGIN PERFORM dblink_connect('k', 'dbname=x'); END$$",
            "DO 'BEGIN PERFORM public.DBLINK_CONNECT_U(''k'', c); END'",
            "language plpgsql: BEGIN EXECUTE 'SELECT dblink_send_query($1, $2)' USING k, q; END",
            "DO $$BEGIN EXECUTE 'LOAD ''auto_explain'''; END$$",
            "language plpgsql: BEGIN LOAD 'auto_explain'; END",
            "DO $$ $_SHARED{x} = 1; $$ LANGUAGE plperl",
            "do language 'plperlu' $$ $main::x = 1 $$",
            "language plpython3u: GD['x'] = 1",
            "language plpython3u: SD['calls'] = SD.get('calls', 0) + 1",
            "language plpython3u: \n  global x\n  x = 1",
            "DO LANGUAGE plpython3u $$global x; x = 1$$",
            "language pltcl: global x; set x 1",
            "language pltcl: set GD(x) 1",
            "language plv8: globalThis.x = 1",
            "language plr: x <<- 1",
            r#"SELECT U&"dblink\005fconnect"('k', 'dbname=x')"#,
        ] {
            assert!(sticks(text), "{text}");
        }
        for text in [
            "DO $$BEGIN PERFORM dblink('dbname=x', 'select 1'); END$$",
            "SELECT U&'dblink', a&\"b\" FROM t",
            r#"EXECUTE U&"\0068owdah_2""#,
            "DO $$BEGIN PERFORM my_dblink_connect(); load := 'x'; workload 'x' END$$",
            "language plpython3u: # global settings\nreturn 1",
            "language plpython3u: plan = SD.setdefault('plan', plpy.prepare('select 1'))",
            "language pltcl: if {![info exists GD(plan)]} {set GD(plan) [spi_prepare {select 1}]}",
            "language plpython3u: return BSD, GDP, xGD",
            "language plpgsql: BEGIN /* GD, SD, $_SHARED, globalThis */ END",
            "language pllua: return GD",
            "_",
            "language",
            "",
        ] {
            assert!(!sticks(text), "{text}");
        }
    }
}
