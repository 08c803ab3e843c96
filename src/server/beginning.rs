//! What `connect_query` has set. PostgreSQL knows of no such thing: RESET leads behind it, to what the session had before.
//! Clients are to find it nevertheless, whoever had the server before them, and RESET is to lead them back to it.

use std::sync::Arc;

use crate::sql::dotted_names;

use super::repose::IDLE_SESSION_TIMEOUT;
use super::{Chosen, Connection, Extra, Failure, Manner, Question};

/// How sessions begin.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    /// What `connect_query` has set, by names in lower case.
    set: Vec<Box<[u8]>>,
}

impl Connection {
    /// Runs `connect_query` on a new connection, and learns what it has set.
    pub(super) async fn begin_with(&mut self, query: &str) -> Result<(), Failure> {
        let before = self.settings.reported.clone();
        self.run(query).await?;
        let mut extra = self.set_so_far(query.as_bytes()).await?;
        // How long a server may be idle is howdah's business.
        extra.put(IDLE_SESSION_TIMEOUT, None);
        self.see(&extra);
        let reported = self.settings.reported.differing(&before);
        let names = reported.map(|(name, _)| name.to_ascii_lowercase().into());
        self.beginning.set = names.chain(extra.iter().map(|(name, _)| name.into())).collect();
        self.settings.extra = Arc::new(extra);
        self.settings.chosen = Chosen::among(self.beginning.set.iter().map(|name| &**name));
        self.baseline = self.settings.clone();
        Ok(())
    }

    /// What the session has set that is not reported. Custom settings have to be named in the text that set them.
    async fn set_so_far(&mut self, text: &[u8]) -> Result<Extra, Failure> {
        let question = Question {
            names: vec![b"role".as_slice().into()],
            candidates: dotted_names(text),
            every_setting: true,
            state: false,
        };
        let mut extra = Extra::default();
        let answer = match self.ask(&question, Manner::Plain).await {
            Ok(answer) => answer,
            // Something that only looks like PostgreSQL.
            Err(Failure::Sql(_)) => return Ok(extra),
            Err(lost) => return Err(lost),
        };
        let all = answer.set.into_iter().flatten();
        let set = all.filter(|(name, _)| self.settings.reported.spelling(name).is_none());
        set.for_each(|(name, value)| extra.put(&name, Some(&value)));
        let named = answer.values.into_iter().chain(answer.customs);
        for value in named.filter(|value| value.current != value.default) {
            extra.put(&value.name, value.current.as_deref());
        }
        Ok(extra)
    }

    /// What `connect_query` has set, by names in lower case.
    pub fn begun_with(&self) -> &[Box<[u8]>] {
        &self.beginning.set
    }

    /// All settings have been reset, the roles too if it says so: to what they were before `connect_query`.
    pub(super) fn has_nothing_set(&mut self, keeps_role: bool) {
        self.may_be_as_new();
        let mut extra = Extra::default();
        if keeps_role {
            extra.put(b"role", self.settings.extra.get(b"role"));
        }
        self.settings.extra = Arc::new(extra);
    }

    /// Somebody else's doing has changed a default: what `connect_query` has set stays.
    pub(super) fn is_begun_with(&self, name: &[u8]) -> bool {
        let has = |have: &[u8]| have.eq_ignore_ascii_case(name);
        self.beginning.set.iter().any(|have| has(have))
    }
}
