//! Bringing a session to other settings, whatever it is set to.

use std::sync::Arc;

use crate::wire::backend::Status;

use super::repose::IDLE_SESSION_TIMEOUT;
use super::{Connection, Failure, Settings, questions};

/// Settings under which the simplest statement may fail, or wait for others: a serializable, deferrable transaction waits
/// for those that write, and there is none on a standby.
const IN_THE_WAY: [&[u8]; 3] = [
    b"default_transaction_deferrable",
    b"default_transaction_isolation",
    b"statement_timeout",
];

impl Connection {
    /// Brings the session to `wanted`, as far as it is known what it has. Costs nothing if it is there already.
    pub(super) async fn align_known(&mut self, wanted: &Settings) -> Result<(), Failure> {
        self.hear_while_idle().map_err(|gone| Failure::Lost(gone.0))?;
        // What RESET leads to may turn out to be something else.
        for _ in 0..2 {
            let Some(query) = self.settings.towards(wanted, self.defaults()) else {
                break;
            };
            self.set(&query).await?;
            self.hears_in(wanted);
            self.has_been_led(wanted);
            self.has_extra_of(wanted);
        }
        self.has_extra_of(wanted);
        if self.settings.reported == wanted.reported {
            // Shared, so that the next comparison is one of pointers.
            self.settings.reported = wanted.reported.clone();
        }
        Ok(())
    }

    /// What is not reported is as it is wanted.
    fn has_extra_of(&mut self, wanted: &Settings) {
        if !Arc::ptr_eq(&self.settings.extra, &wanted.extra) {
            self.settings.extra = wanted.extra.clone();
            self.see(&wanted.extra);
            if wanted.extra.get(IDLE_SESSION_TIMEOUT).is_some() {
                self.disturb();
            }
        }
    }

    /// What it is told of again only when it has changed, it would be told in the encoding of now.
    fn hears_in(&mut self, wanted: &Settings) {
        let reported = self.settings.reported.clone();
        let foreign = wanted.reported.differing(&reported);
        let foreign: Vec<_> = foreign
            .filter(|(name, value)| !value.is_ascii() && reported.get(name).is_some())
            .collect();
        for (name, value) in foreign {
            Arc::make_mut(&mut self.settings.reported).set(name, value);
        }
    }

    /// Runs SQL that brings the session to other settings, which those that it has must not keep waiting or end.
    pub(super) async fn set(&mut self, sql: &[u8]) -> Result<(), Failure> {
        let has = |name: &&[u8]| self.settings.extra.get(name).is_some();
        if !IN_THE_WAY.iter().any(has) {
            return self.run(sql).await;
        }
        let calm = [
            questions::BEGIN,
            b"SET LOCAL statement_timeout=0;",
            sql,
            b";COMMIT",
        ]
        .concat();
        let done = self.run(&calm).await;
        if self.pipeline.status() != Status::Idle {
            self.run("ROLLBACK").await?;
        }
        done
    }
}
