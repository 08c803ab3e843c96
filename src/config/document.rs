//! A TOML file as entries that know their lines. The `toml` crate parses; this only keeps what we ask of it.

use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place};
use super::value::Raw;

/// A key with what was written for it.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// A value or a table.
pub(super) enum Node {
    Value(Raw),
    Table(Vec<Entry>),
}

/// Parses a file. Every mistake in its syntax is reported, not just the first.
pub(super) fn parse(text: &str, file: &Place) -> Result<Vec<Entry>, Vec<Fault>> {
    let line = |offset: usize| {
        1 + text
            .as_bytes()
            .iter()
            .take(offset)
            .filter(|byte| **byte == b'\n')
            .count()
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(entries(table.into_inner(), &|offset| file.at(line(offset))));
    }
    let fault = |error: &toml::de::Error| {
        let place = error
            .span()
            .map_or_else(|| file.clone(), |span| file.at(line(span.start)));
        Fault::new(place, error.message())
    };
    Err(errors.iter().map(fault).collect())
}

fn entries(table: DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Vec<Entry> {
    let entry = |(key, value): (toml::Spanned<_>, toml::Spanned<DeValue<'_>>)| {
        let start = key.span().start;
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        let node = match value.into_inner() {
            DeValue::Table(table) => Node::Table(entries(table, place)),
            value => Node::Value(raw(&value)),
        };
        Entry {
            key: key.into_owned(),
            place: place(start),
            node,
        }
    };
    table.into_iter().map(entry).collect()
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) if number.radix() == 8 => Raw::Number(number.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(decimal) => Raw::Number(decimal.to_string()),
            Err(_) => Raw::Number(number.to_string()),
        },
        DeValue::Float(number) => Raw::Number(number.to_string()),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Array(values) => list(values.iter().map(|value| raw(value.get_ref()))),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

fn list(values: impl Iterator<Item = Raw>) -> Raw {
    let plain = |value| match value {
        Raw::Text(text) | Raw::Number(text) => Some(text),
        _ => None,
    };
    values
        .map(plain)
        .collect::<Option<Vec<_>>>()
        .map_or(Raw::Other("a list of such values"), Raw::List)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>(), like_toml in "[a\"'=\\[\\]{}.,#\n 0-9_é-]*") {
            let _ = parse(&text, &Place::nowhere());
            let _ = parse(&like_toml, &Place::nowhere());
        }
    }

    fn lines(entries: &[Entry]) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in entries {
            lines.push(format!("{}{}", entry.place, entry.key));
            if let Node::Table(inner) = &entry.node {
                lines.extend(self::lines(inner));
            }
        }
        lines
    }

    #[test]
    fn entries_know_their_lines() {
        let text = "[a]\nx = 1\n\n[b.c]\ny = '''\nlong\n'''\nz = {w = 2}\n";
        let entries = parse(text, &Place::file("f")).unwrap_or_default();
        assert_eq!(
            lines(&entries),
            [
                "f:1: a", "f:2: x", "f:4: b", "f:4: c", "f:5: y", "f:8: z", "f:8: w"
            ]
        );
    }

    #[test]
    fn every_mistake_in_the_syntax_is_reported() {
        let faults = parse("a = \nb = 1\nb = 2\nc = 'open\n", &Place::file("f"))
            .err()
            .unwrap();
        let lines: Vec<_> = faults.iter().filter_map(Fault::line).collect();
        assert!(
            lines.contains(&1) && lines.contains(&3) && lines.contains(&4),
            "{faults:?}"
        );
    }

    #[test]
    fn numbers_keep_the_base_that_matters() {
        let entries = parse(
            "a = 0o770\nb = 0x10\nc = 1_000\nd = 1.5\ne = [1, 'x']\nf = [true]",
            &Place::nowhere(),
        );
        let raws: Vec<_> = entries
            .unwrap_or_default()
            .into_iter()
            .map(|entry| entry.node)
            .collect();
        let expected = [
            Raw::Number("0o770".into()),
            Raw::Number("16".into()),
            Raw::Number("1000".into()),
            Raw::Number("1.5".into()),
            Raw::List(vec!["1".into(), "x".into()]),
            Raw::Other("a list of such values"),
        ];
        assert!(
            raws.len() == 6
                && raws
                    .iter()
                    .zip(expected)
                    .all(|(node, raw)| matches!(node, Node::Value(value) if *value == raw))
        );
    }
}
