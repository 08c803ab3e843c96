//! The tasks that open, check and clean connections on behalf of nobody in particular.
//!
//! Each runs on its own, so that a client that goes away interrupts none of them, and so that whoever has waited longest
//! gets what they bring.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::house::Pool;
use super::slots::SlotId;
use super::source::{Dirt, OpenError, Source};

/// A server that does not answer its check within this time is as good as dead.
const CHECK_TIME_MAX: Duration = Duration::from_secs(10);
/// A server that is not clean by then is cheaper to replace.
const CLEAN_TIME_MAX: Duration = Duration::from_secs(30);

/// A slot whose connection is with a task. If the task ends without saying what became of it, the slot is freed.
pub(super) struct Errand<S: Source> {
    pool: Arc<Pool<S>>,
    slot: Option<SlotId>,
}

impl<S: Source> Errand<S> {
    pub(super) fn new(pool: Arc<Pool<S>>, slot: SlotId) -> Self {
        Self {
            pool,
            slot: Some(slot),
        }
    }

    pub(super) fn done(&mut self) -> SlotId {
        self.slot.take().expect("an errand is done once")
    }
}

impl<S: Source> Drop for Errand<S> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.pool.run(|core, now, fx| core.abandoned(slot, now, fx));
        }
    }
}

impl<S: Source> Pool<S> {
    pub(super) fn spawn_open(self: &Arc<Self>, slot: SlotId) {
        let mut errand = Errand::new(Arc::clone(self), slot);
        self.runtime.spawn(async move {
            let opened = errand.pool.source.open().await;
            let slot = errand.done();
            let pool = &*errand.pool;
            let unit = pool.roll();
            match opened {
                Ok(conn) => {
                    let info = pool.source.info(&conn);
                    pool.run(|core, now, fx| core.opened(slot, (conn, info), unit, now, pool, fx));
                }
                Err(error) => pool.failed_to_open(slot, error, unit),
            }
        });
    }

    pub(super) fn failed_to_open(&self, slot: SlotId, error: OpenError, unit: f32) {
        let (reason, note) = (error.refusal.to_string(), error.note.as_deref());
        tracing::warn!(pool = %self.key, reason, note, "cannot connect to the server");
        self.run(|core, now, fx| core.open_failed(slot, error, unit, now, self, fx));
    }

    pub(super) fn spawn_check(self: &Arc<Self>, slot: SlotId, conn: S::Conn) {
        let mut errand = Errand::new(Arc::clone(self), slot);
        self.runtime.spawn(async move {
            let checked = timeout(CHECK_TIME_MAX, errand.pool.source.check(conn))
                .await
                .unwrap_or(None);
            errand.bring(checked);
        });
    }

    pub(super) fn spawn_clean(self: &Arc<Self>, slot: SlotId, conn: S::Conn, dirt: Dirt) {
        let mut errand = Errand::new(Arc::clone(self), slot);
        self.runtime.spawn(async move {
            let cleaned = timeout(CLEAN_TIME_MAX, errand.pool.source.clean(conn, dirt))
                .await
                .unwrap_or(None);
            errand.bring(cleaned);
        });
    }
}

impl<S: Source> Errand<S> {
    fn bring(&mut self, conn: Option<S::Conn>) {
        let slot = self.done();
        let pool = &*self.pool;
        pool.run(|core, now, fx| core.restored(slot, conn, now, pool, fx));
    }
}

/// Counts one cancel request on its way to a server, for as long as it lives.
pub struct CancelMark<S: Source> {
    pool: Arc<Pool<S>>,
}

impl<S: Source> CancelMark<S> {
    pub(super) fn new(pool: Arc<Pool<S>>) -> Self {
        pool.cancels.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self { pool }
    }
}

impl<S: Source> Drop for CancelMark<S> {
    fn drop(&mut self) {
        self.pool
            .cancels
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}
