//! What a Parse fixes for good, and the query that has a session prepare one statement as another session would.
//!
//! PostgreSQL reads literals when it prepares a statement, under the settings of that moment. A statement that was prepared
//! elsewhere, under others, is prepared within a detour: one portal that sets them when its first row is fetched, and puts
//! back what it has found when its second is. So nobody has to know what the session is set to.

use super::Settings;
use super::literal::{quote_ascii, telling, text, told};
use super::settings::call;

/// Settings that decide what a statement means from its Parse on, as servers spell the names of those that they report.
/// Names that a statement uses are looked up again when roles or the `search_path` have changed.
const FIXED_AT_PARSE: [&[u8]; 11] = [
    b"DateStyle",
    b"IntervalStyle",
    b"TimeZone",
    b"client_encoding",
    b"standard_conforming_strings",
    b"array_nulls",
    b"backslash_quote",
    b"lc_monetary",
    b"timezone_abbreviations",
    b"transform_null_equals",
    b"xmloption",
];

/// The query that asks for what the next Parse would fix.
pub fn fixed_question() -> Vec<u8> {
    let asked: Vec<_> = FIXED_AT_PARSE
        .iter()
        .map(|name| telling(&current(name)))
        .collect();
    [b"SELECT ", &*asked.join(&b","[..])].concat()
}

fn current(name: &[u8]) -> Vec<u8> {
    [b"pg_catalog.current_setting(", &*quote_ascii(name), b")"].concat()
}

impl Settings {
    /// These, with what a server has answered to [`fixed_question`].
    #[must_use]
    pub fn as_told<'a>(mut self, values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        for (name, value) in FIXED_AT_PARSE.iter().zip(values) {
            let value = &*told(value);
            if self.reported.get(name).is_some() {
                std::sync::Arc::make_mut(&mut self.reported).set(name, value);
            } else {
                std::sync::Arc::make_mut(&mut self.extra).put(name, Some(value));
            }
        }
        self
    }

    /// The query of a detour to these settings: its first row leads there, its second back. `None` if a session that
    /// `has` what it is known to have is there already.
    pub fn detour(&self, has: Option<&Self>) -> Option<Vec<u8>> {
        let (mut had, mut steps) = (Vec::new(), Vec::new());
        for name in FIXED_AT_PARSE {
            let value = self.value(name);
            if has.is_some_and(|has| has.value(name) == value) {
                continue;
            }
            // NULL is what a new session has.
            let value = value.map_or_else(|| b"NULL".to_vec(), text);
            let before = format!("v{}", had.len()).into_bytes();
            had.push([&*current(name), b" AS ", &*before].concat());
            let (there, back) = (call(name, &value, b"true"), call(name, &before, b"true"));
            let when = b"CASE WHEN step OPERATOR(pg_catalog.=) 1 THEN ";
            steps.push([&when[..], &there, b" ELSE ", &back, b" END"].concat());
        }
        (!steps.is_empty()).then(|| {
            [
                b"WITH had AS MATERIALIZED (SELECT ",
                &*had.join(&b","[..]),
                b") SELECT ",
                &*steps.join(&b","[..]),
                b" FROM had, pg_catalog.generate_series(1,2) AS step",
            ]
            .concat()
        })
    }

    /// Whether a Parse fixes the same in a session that has these.
    pub fn fixes_like(&self, other: &Self) -> bool {
        self.is_shared_with(other)
            || FIXED_AT_PARSE
                .iter()
                .all(|name| self.value(name) == other.value(name))
    }

    pub(super) fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.reported.get(name).or_else(|| self.extra.get(name))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn settings(zone: &str, extra: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        Arc::make_mut(&mut settings.reported).set(b"TimeZone", zone.as_bytes());
        for (name, value) in extra {
            Arc::make_mut(&mut settings.extra).put(name.as_bytes(), Some(value.as_bytes()));
        }
        settings
    }

    fn sql_of(sql: Option<Vec<u8>>) -> String {
        String::from_utf8(sql.unwrap())
            .unwrap()
            .replace("pg_catalog.", "")
    }

    #[test]
    fn a_detour_leads_through_what_differs_and_back() {
        let now = settings("UTC", &[("transform_null_equals", "on"), ("work_mem", "1MB")]);
        let then = settings("CET", &[]);
        assert_eq!(
            sql_of(then.detour(Some(&now))),
            "WITH had AS MATERIALIZED (SELECT current_setting(E'TimeZone') AS v0,\
             current_setting(E'transform_null_equals') AS v1) \
             SELECT CASE WHEN step OPERATOR(=) 1 THEN set_config(E'TimeZone',E'CET',true) IS NULL \
             ELSE set_config(E'TimeZone',v0,true) IS NULL END,\
             CASE WHEN step OPERATOR(=) 1 THEN set_config(E'transform_null_equals',NULL,true) IS NULL \
             ELSE set_config(E'transform_null_equals',v1,true) IS NULL END FROM had, generate_series(1,2) AS step"
        );
        assert_eq!(now.detour(Some(&now.clone())), None);
    }

    #[test]
    fn from_where_nobody_knows_a_detour_leads_through_everything() {
        let sql = sql_of(settings("CET", &[]).detour(None));
        assert_eq!(sql.matches("set_config").count(), 2 * FIXED_AT_PARSE.len());
    }

    #[test]
    fn what_a_server_tells_stands_where_it_is_looked_for() {
        let values: Vec<_> = FIXED_AT_PARSE.iter().map(|_| &b"x"[..]).collect();
        let told = settings("UTC", &[]).as_told(values);
        assert_eq!(told.reported.get(b"TimeZone"), Some(&b"x"[..]));
        assert_eq!(told.extra.get(b"xmloption"), Some(&b"x"[..]));
    }
}
