//! Bringing a session to other settings, whatever it is set to.

use crate::wire::backend::Status;

use super::{Connection, Failure, questions};

/// Settings under which the simplest statement may fail, or wait for others: a serializable, deferrable transaction waits
/// for those that write, and there is none on a standby.
const IN_THE_WAY: [&[u8]; 3] = [
    b"default_transaction_deferrable",
    b"default_transaction_isolation",
    b"statement_timeout",
];

impl Connection {
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
