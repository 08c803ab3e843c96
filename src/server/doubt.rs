//! Whether everything has been answered, where a COPY that failed has left that open.

use std::sync::atomic::{AtomicU64, Ordering};

use super::connection::{Connection, Failure};

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Connection {
    /// Asks something of which the answer is known: had the server still had something else to say, that would come
    /// first. The server must be idle as far as is known, and is so afterwards unless this fails.
    pub async fn dispel_doubt(&mut self) -> Result<(), Failure> {
        if !self.pipeline.is_doubtful() {
            return Ok(());
        }
        let word = format!("howdah_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.pipeline.settle_doubt(true);
        let answer = self.query(format!("SELECT '{word}'").as_bytes()).await;
        let is_answered = answer.as_ref().is_ok_and(|results| {
            let said = results.first().and_then(|rows| rows.first()?.first()?.as_deref());
            said == Some(word.as_bytes())
        });
        if is_answered {
            return Ok(());
        }
        self.pipeline.settle_doubt(false);
        Err(answer.err().unwrap_or_else(|| Failure::protocol("end of a COPY")))
    }
}
