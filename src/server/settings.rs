//! What a session is set to, as far as it follows a client from server to server, and how a server is brought to it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::literal::{text, text_in};
use super::{Chosen, Parameters};
use crate::sql::Bearing;

/// A name and a value.
type Pair = (Box<[u8]>, Box<[u8]>);

/// Settings of a session that the server does not report, where they differ from what a new session has: names in
/// lower case, values as the server spells them, in the encoding of the database. `role` is one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extra {
    /// Sorted by name.
    pairs: Vec<Pair>,
}

impl Extra {
    /// The value of a setting, if it differs from a new session's.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let at = self.position(name).ok()?;
        self.pairs.get(at).map(|(_, value)| &**value)
    }

    /// Sets a value, or with `None` makes it what a new session has.
    pub fn put(&mut self, name: &[u8], value: Option<&[u8]>) {
        match (self.position(name), value) {
            (Ok(at), Some(value)) => self.pairs[at].1 = value.into(),
            (Ok(at), None) => drop(self.pairs.remove(at)),
            (Err(at), Some(value)) => self.pairs.insert(at, (name.into(), value.into())),
            (Err(_), None) => {}
        }
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(have, _)| (**have).cmp(name))
    }
}

/// What a session has, or is to have.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The reported parameters.
    pub reported: Arc<Parameters>,
    /// The others.
    pub extra: Arc<Extra>,
    /// Which of the reported ones are its own, and not what the server's configuration says.
    pub chosen: Chosen,
}

fn decides_meaning(name: &[u8]) -> bool {
    Bearing::of(name) > Bearing::None
}

/// A digest of these pairs behind what another one is of.
fn digest<'a>(before: u64, pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> u64 {
    let mut hasher = DefaultHasher::new();
    before.hash(&mut hasher);
    for pair in pairs.filter(|(name, _)| decides_meaning(name)) {
        pair.hash(&mut hasher);
    }
    hasher.finish()
}

/// The roles that a session goes by.
const SESSION_AUTHORIZATION: &[u8] = b"session_authorization";
pub(super) const ROLE: &[u8] = b"role";
pub(super) const CLIENT_ENCODING: &[u8] = b"client_encoding";

impl Settings {
    /// A digest of all that may decide what a statement means.
    pub fn digest(&self) -> u64 {
        let reported = self.reported.digest(|reported| digest(0, reported.iter()));
        if self.extra.iter().any(|(name, _)| decides_meaning(name)) {
            digest(reported, self.extra.iter())
        } else {
            reported
        }
    }

    /// Equal where both sets are the same interned ones; else most likely not.
    pub fn mark(&self) -> u64 {
        let address = |address: usize| address as u64;
        let extra = address(Arc::as_ptr(&self.extra).addr());
        address(Arc::as_ptr(&self.reported).addr()) ^ extra.rotate_left(32) ^ self.chosen.mark()
    }

    /// Whether both are the same, because they were interned or one is a copy of the other. False proves nothing.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.reported, &other.reported)
            && Arc::ptr_eq(&self.extra, &other.extra)
            && self.chosen == other.chosen
    }

    pub(super) fn has_extra_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.extra, &other.extra) || self.extra == other.extra
    }

    /// The query that brings a session which has `self` to `wanted`, all or nothing; none if it is there already.
    /// What is to be as `defaults` say, which RESET leads to, and nobody's choice, is reset: so it goes on following the
    /// server's configuration. A choice is set even where that makes no difference yet.
    ///
    /// Values are put right under the role that logged in, for any other may not be allowed to: the client's roles go
    /// first and come back last.
    pub fn towards(&self, wanted: &Self, defaults: &Parameters) -> Option<Vec<u8>> {
        if self.is_shared_with(wanted) {
            return None;
        }
        let values = self.values_towards(wanted, defaults);
        let who = |settings: &Self| {
            let role = settings.extra.get(ROLE).map(<[u8]>::to_vec);
            let session = settings.reported.get(SESSION_AUTHORIZATION);
            (settings.reported_text(session.unwrap_or_default()), role)
        };
        let ((session, role), (wanted_session, wanted_role)) = (who(self), who(wanted));
        let changes_session = session != wanted_session && self.reported.get(SESSION_AUTHORIZATION).is_some();
        let changes_role = role != wanted_role || changes_session;
        if values.is_empty() && !changes_role {
            return None;
        }
        let plain = role.is_none() && !changes_session;
        let mut sql = Vec::new();
        if !plain {
            sql.extend_from_slice(b"RESET SESSION AUTHORIZATION;SET ROLE NONE;");
        }
        let mut calls = values;
        if !plain {
            calls.push(call(SESSION_AUTHORIZATION, &wanted_session, b"false"));
        }
        match wanted_role {
            Some(role) => calls.push(assignment(ROLE, &role)),
            // What a new session has may be a role too.
            None if !plain => calls.push(reset(ROLE)),
            None => {}
        }
        if !calls.is_empty() {
            sql.extend_from_slice(&select(&calls));
        }
        Some(sql)
    }

    /// A reported value, in SQL: servers report in the encoding that the session has.
    fn reported_text(&self, value: &[u8]) -> Vec<u8> {
        text_in(value, self.reported.get(CLIENT_ENCODING).unwrap_or(b"UTF8"))
    }

    /// Whether `wanted` has a reported parameter otherwise. Where the encodings differ, bytes that are equal prove nothing.
    fn differs(&self, wanted: &Self, name: &[u8]) -> bool {
        let (have, want) = (self.reported.get(name), wanted.reported.get(name));
        let is_ascii = want.is_none_or(<[u8]>::is_ascii);
        have != want
            || (!is_ascii && self.reported.get(CLIENT_ENCODING) != wanted.reported.get(CLIENT_ENCODING))
    }

    /// What a session that has been brought to these has of its own, where RESET leads to `defaults`: what is chosen, and
    /// what is otherwise there.
    pub(super) fn chosen_over(&self, defaults: &Parameters) -> Chosen {
        let others = self.reported.differing(defaults);
        Chosen::among(others.map(|(name, _)| name)).union(self.chosen)
    }

    /// The calls that put right what is neither role.
    fn values_towards(&self, wanted: &Self, defaults: &Parameters) -> Vec<Vec<u8>> {
        let mut calls = Vec::new();
        if !self.has_extra_of(wanted) {
            // What is empty and has a dot in its name is nothing but the trace of a setting that was used once.
            let trace = |name: &[u8], value: &[u8]| value.is_empty() && name.contains(&b'.');
            let left = self
                .extra
                .iter()
                .filter(|(name, value)| wanted.extra.get(name).is_none() && !trace(name, value));
            calls.extend(
                left.filter(|(name, _)| *name != ROLE)
                    .map(|(name, _)| reset(name)),
            );
        }
        let own = wanted.chosen_over(defaults);
        for (name, value) in wanted.reported.iter() {
            let (followed, had) = (Chosen::of(name), self.reported.get(name));
            let is_settable = Parameters::is_settable(name) && had.is_some();
            let changes_owner = (wanted.chosen.has(followed) && !self.chosen.has(followed))
                || (self.chosen.has(followed) && !own.has(followed));
            if is_settable && (self.differs(wanted, name) || changes_owner) {
                calls.push(if followed.is_empty() || own.has(followed) {
                    call(name, &wanted.reported_text(value), b"false")
                } else {
                    reset(name)
                });
            }
        }
        if !self.has_extra_of(wanted) {
            let missing = wanted
                .extra
                .iter()
                .filter(|(name, value)| self.extra.get(name) != Some(*value) && *name != ROLE);
            calls.extend(missing.map(|(name, value)| assignment(name, value)));
        }
        calls
    }
}

/// The SQL that sets `settings` on a session, all or none: the role last, for it may not be allowed to set the others.
pub fn assignments(settings: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (roles, values): (Vec<_>, Vec<_>) = settings.iter().partition(|(name, _)| name.as_bytes() == ROLE);
    let calls: Vec<_> = values
        .into_iter()
        .chain(roles)
        .map(|(name, value)| assignment(name.as_bytes(), value))
        .collect();
    select(&calls)
}

/// The queries that set `settings` as a startup message does, names in lower case. In one of those a
/// `session_authorization` is judged, and then of no effect: who has logged in goes before it.
pub fn wished(settings: &[(String, Vec<u8>)]) -> Vec<Vec<u8>> {
    let (judged, lasting): (Vec<_>, Vec<_>) =
        settings.iter().cloned().partition(|(name, _)| is_outranked(name));
    let judged = judged
        .iter()
        .map(|(name, value)| select(&[call(name.as_bytes(), &text(value), b"true")]));
    let lasting = (!lasting.is_empty()).then(|| assignments(&lasting));
    judged.chain(lasting).collect()
}

/// Whether a startup message sets in vain what has this name, in lower case.
pub fn is_outranked(name: &str) -> bool {
    name.as_bytes() == SESSION_AUTHORIZATION
}

/// As many statements as it takes: PostgreSQL allows no more than 1,664 columns in each.
pub(super) fn select(calls: &[Vec<u8>]) -> Vec<u8> {
    let selects = calls.chunks(COLUMNS_MAX);
    let selects: Vec<_> = selects
        .map(|calls| [b"SELECT ", &*calls.join(&b","[..])].concat())
        .collect();
    selects.join(&b";"[..])
}

/// So many columns a statement of [`select`] has at most.
pub(super) const COLUMNS_MAX: usize = 1000;

/// Values in the encoding of the database, as those of a startup message are.
/// `set_config` takes a value as the startup message does: one string, whatever the setting's grammar in SET.
fn assignment(name: &[u8], value: &[u8]) -> Vec<u8> {
    call(name, &text(value), b"false")
}

/// Without a value it means RESET.
pub(super) fn reset(name: &[u8]) -> Vec<u8> {
    call(name, b"NULL", b"false")
}

/// A call of `set_config`, whose value is SQL.
pub(super) fn call(name: &[u8], value: &[u8], is_local: &[u8]) -> Vec<u8> {
    let name = text(name);
    [
        b"pg_catalog.set_config(",
        &*name,
        b",",
        value,
        b",",
        is_local,
        // What it returns may not be told in the session's encoding.
        b") IS NULL",
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)], extra: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in pairs {
            Arc::make_mut(&mut settings.reported).set(name.as_bytes(), value.as_bytes());
        }
        for (name, value) in extra {
            Arc::make_mut(&mut settings.extra).put(name.as_bytes(), Some(value.as_bytes()));
        }
        settings
    }

    fn told(from: &Settings, to: &Settings) -> Vec<String> {
        let queries = from.towards(to, &Parameters::default());
        queries
            .into_iter()
            .map(|query| String::from_utf8(query).unwrap())
            .map(|query| query.replace("pg_catalog.", "").replace(" IS NULL", ""))
            .collect()
    }

    #[test]
    fn nothing_is_sent_to_a_session_that_fits() {
        let a = settings(&[("TimeZone", "UTC")], &[("statement_timeout", "1s")]);
        assert!(told(&a, &a.clone()).is_empty());
        let b = settings(&[("TimeZone", "UTC")], &[("statement_timeout", "1s")]);
        assert!(told(&a, &b).is_empty());
    }

    #[test]
    fn only_differences_that_can_be_set_are_sent() {
        let fixed = |value| ("is_superuser", value);
        let has = settings(
            &[("TimeZone", "UTC"), fixed("on"), ("DateStyle", "ISO, MDY")],
            &[],
        );
        let wants = settings(
            &[("TimeZone", "a'\\b"), fixed("off"), ("DateStyle", "ISO, MDY")],
            &[],
        );
        assert_eq!(
            told(&has, &wants),
            [r"SELECT set_config(E'TimeZone',E'a''\\b',false)"]
        );
    }

    #[test]
    fn settings_of_the_last_client_are_reset() {
        let has = settings(&[], &[("statement_timeout", "1s"), ("app.x", "1"), ("app.y", "")]);
        let wants = settings(&[], &[("lock_timeout", "2s")]);
        assert_eq!(
            told(&has, &wants),
            [
                "SELECT set_config(E'app.x',NULL,false),set_config(E'statement_timeout',NULL,false),\
                 set_config(E'lock_timeout',E'2s',false)"
            ]
        );
    }

    #[test]
    fn the_digest_follows_all_that_decides_what_a_statement_means() {
        let of = |pairs: &[(&str, &str)], extra: &[(&str, &str)]| settings(pairs, extra).digest();
        let plain = of(&[("TimeZone", "UTC")], &[]);
        assert_eq!(plain, of(&[("TimeZone", "UTC"), ("application_name", "x")], &[]));
        assert_eq!(plain, of(&[("TimeZone", "UTC")], &[("work_mem", "1MB")]));
        assert_ne!(plain, of(&[("TimeZone", "CET")], &[]));
        assert_ne!(plain, of(&[("TimeZone", "UTC")], &[("search_path", "s")]));
        let mut changing = settings(&[("TimeZone", "UTC")], &[]);
        assert_eq!(changing.digest(), plain);
        Arc::make_mut(&mut changing.reported).set(b"TimeZone", b"CET");
        assert_ne!(changing.digest(), plain, "it is made anew after a change");
    }

    #[test]
    fn no_statement_has_more_columns_than_postgresql_allows() {
        let names: Vec<_> = (0..2500).map(|n| format!("a.b{n}")).collect();
        let extra: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
        let queries = told(&settings(&[], &[]), &settings(&[], &extra));
        let [query] = &queries[..] else {
            panic!("all or nothing: {queries:?}")
        };
        let columns: Vec<_> = query
            .split(';')
            .map(|select| select.matches("set_config").count())
            .collect();
        assert_eq!(columns, [1000, 1000, 500]);
    }

    #[test]
    fn roles_go_first_and_come_back_last() {
        let login = ("session_authorization", "app");
        let (plain, writer) = (settings(&[login], &[]), settings(&[login], &[("role", "writer")]));
        assert_eq!(
            told(&plain, &writer),
            ["SELECT set_config(E'role',E'writer',false)"]
        );
        assert_eq!(
            told(&writer, &plain),
            [
                "RESET SESSION AUTHORIZATION;SET ROLE NONE;SELECT set_config(E'session_authorization',E'app',false),\
                 set_config(E'role',NULL,false)"
            ]
        );
        let other = settings(&[login], &[("role", "writer"), ("work_mem", "1MB")]);
        assert_eq!(
            told(&writer, &other),
            [
                "RESET SESSION AUTHORIZATION;SET ROLE NONE;SELECT set_config(E'work_mem',E'1MB',false),\
                 set_config(E'session_authorization',E'app',false),set_config(E'role',E'writer',false)"
            ]
        );
    }

    #[test]
    fn what_is_to_be_as_by_default_is_reset() {
        let zone = |value| settings(&[("TimeZone", value)], &[]);
        let reset = zone("CET").towards(&zone("UTC"), &zone("UTC").reported);
        let reset = String::from_utf8(reset.unwrap()).unwrap();
        assert_eq!(
            reset,
            "SELECT pg_catalog.set_config(E'TimeZone',NULL,false) IS NULL"
        );
        let mut chosen = zone("UTC");
        chosen.chosen = Chosen::of(b"TimeZone");
        let set = zone("UTC").towards(&chosen, &zone("UTC").reported);
        let set = String::from_utf8(set.unwrap()).unwrap();
        assert_eq!(
            set,
            "SELECT pg_catalog.set_config(E'TimeZone',E'UTC',false) IS NULL"
        );
        assert_eq!(chosen.towards(&chosen.clone(), &zone("UTC").reported), None);
    }

    #[test]
    fn letters_that_are_reported_alike_in_two_encodings_are_different_ones() {
        let path = |encoding| settings(&[("client_encoding", encoding), ("search_path", "\u{e9}")], &[]);
        let sql = told(&path("LATIN1"), &path("UTF8"));
        assert_eq!(
            sql,
            ["SELECT set_config(E'client_encoding',E'UTF8',false),\
              set_config(E'search_path',convert_from(decode('c3a9','hex'),E'UTF8'),false)"]
        );
    }
}
