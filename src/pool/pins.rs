//! How many servers of a pool its clients keep for their session state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

use super::house::Pool;
use super::servers::Servers;
use crate::config::PoolSettings;

/// The count, and those who wait for it to go down.
#[derive(Debug, Default)]
pub struct Pins {
    count: AtomicU32,
    freed: Notify,
}

impl Pins {
    /// How many servers are kept, or about to be.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

/// How many servers of a pool may be kept at once.
pub fn max_pinned(policy: &PoolSettings) -> u32 {
    match (policy.max_pinned, policy.pool_size) {
        (0, 0) => u32::MAX,
        (0, size) => (size - 1).max(1),
        (max, _) => max,
    }
}

/// Permission to keep a server; given back when dropped.
pub struct PinPermit {
    pool: Arc<Pool<Servers>>,
}

impl std::fmt::Debug for PinPermit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PinPermit")
    }
}

impl PinPermit {
    /// Waits until there are fewer than `max_pinned`. For clients that have a server: who had a permit and waited for
    /// a server could wait for those who have one and wait for a permit.
    pub async fn wait(pool: &Arc<Pool<Servers>>) -> Self {
        loop {
            let freed = pool.source().pins.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(permit) = Self::take(pool) {
                return permit;
            }
            freed.await;
        }
    }

    /// Waits until it is worth getting a server to try [`PinPermit::take`].
    pub async fn vacancy(pool: &Arc<Pool<Servers>>) {
        loop {
            let freed = pool.source().pins.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if pool.source().pins.count() < max_pinned(&pool.source().policy()) {
                return;
            }
            freed.await;
        }
    }

    /// One, if there are fewer than `max_pinned`.
    pub fn take(pool: &Arc<Pool<Servers>>) -> Option<Self> {
        let max = max_pinned(&pool.source().policy());
        let more = |count| (count < max).then_some(count + 1);
        let count = &pool.source().pins.count;
        count
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self { pool: pool.clone() })
    }
}

impl Drop for PinPermit {
    fn drop(&mut self) {
        let pins = &self.pool.source().pins;
        pins.count.fetch_sub(1, Ordering::AcqRel);
        // Who is woken may not be able to use it before he has a server, which another of them may hold.
        pins.freed.notify_waiters();
    }
}
