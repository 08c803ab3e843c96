//! How many servers of a pool its clients keep for their session state.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::house::Pool;
use super::servers::Servers;
use crate::config::PoolSettings;

/// The count, and those who wait for it to go down.
#[derive(Debug, Default)]
pub struct Pins {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    count: u32,
    /// Clients that have a server and wait for permission to keep it, the first one in front.
    line: VecDeque<oneshot::Sender<PinPermit>>,
}

impl Pins {
    /// How many servers are kept, or about to be.
    pub fn count(&self) -> u32 {
        self.state.lock().count
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
    /// Waits in line until there are fewer than `max_pinned`. For clients that have a server: who had a permit and
    /// waited for a server could wait for those who have one and wait for a permit.
    pub async fn wait(pool: &Arc<Pool<Servers>>) -> Self {
        loop {
            let granted = {
                let mut state = pool.source().pins.state.lock();
                if state.has_room(pool) {
                    return state.grant(pool);
                }
                let (sender, granted) = oneshot::channel();
                state.line.push_back(sender);
                granted
            };
            if let Ok(permit) = granted.await {
                return permit;
            }
        }
    }

    /// Waits until it is worth getting a server to try [`PinPermit::take`].
    pub async fn vacancy(pool: &Arc<Pool<Servers>>) {
        let pins = &pool.source().pins;
        loop {
            let freed = pins.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if pins.state.lock().has_room(pool) {
                return;
            }
            freed.await;
        }
    }

    /// One, if there are fewer than `max_pinned` and nobody waits in line.
    pub fn take(pool: &Arc<Pool<Servers>>) -> Option<Self> {
        let mut state = pool.source().pins.state.lock();
        state.has_room(pool).then(|| state.grant(pool))
    }

    /// One in any case, for what is there already; and whether there is room for it.
    pub fn insist(pool: &Arc<Pool<Servers>>) -> (Self, bool) {
        let mut state = pool.source().pins.state.lock();
        let permit = state.grant(pool);
        (permit, !state.is_over(pool))
    }

    /// Whether there are more than `max_pinned`.
    pub fn are_too_many(pool: &Arc<Pool<Servers>>) -> bool {
        pool.source().pins.state.lock().is_over(pool)
    }

    /// Grants what may be granted: when a permit has come back, or `max_pinned` has changed.
    pub fn serve_line(pool: &Arc<Pool<Servers>>) {
        let pins = &pool.source().pins;
        loop {
            let mut state = pins.state.lock();
            if state.count >= max_pinned(&pool.source().policy()) {
                return;
            }
            // Who has given up waiting is passed over.
            while state.line.front().is_some_and(oneshot::Sender::is_closed) {
                state.line.pop_front();
            }
            let Some(waiter) = state.line.pop_front() else {
                drop(state);
                // They have no server yet, and whoever is quicker gets it.
                return pins.freed.notify_waiters();
            };
            let permit = state.grant(pool);
            drop(state);
            // Who gives up in this instant gives it back, and the next one is served.
            drop(waiter.send(permit));
        }
    }
}

impl State {
    fn has_room(&self, pool: &Pool<Servers>) -> bool {
        self.line.is_empty() && self.count < max_pinned(&pool.source().policy())
    }

    fn is_over(&self, pool: &Pool<Servers>) -> bool {
        self.count > max_pinned(&pool.source().policy())
    }

    fn grant(&mut self, pool: &Arc<Pool<Servers>>) -> PinPermit {
        self.count += 1;
        PinPermit { pool: pool.clone() }
    }
}

impl Drop for PinPermit {
    fn drop(&mut self) {
        self.pool.source().pins.state.lock().count -= 1;
        Self::serve_line(&self.pool);
    }
}
