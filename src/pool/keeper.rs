//! One task per pool that gets up when something is due: waiters time out, idle connections end, attempts are repeated.
//!
//! It also watches the idle connections: each of them is polled with the bell's waker, so that one that dies gets the
//! keeper up. There is no task and no timer per connection or per waiter.

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use tokio::sync::Notify;

use super::house::Pool;
use super::source::Source;

/// Gets the keeper up.
#[derive(Default)]
pub(super) struct Bell {
    notify: Notify,
}

impl Bell {
    /// Rung while the keeper is at work, it makes him look once more.
    pub(super) fn ring(&self) {
        self.notify.notify_one();
    }

    /// Waits until it is rung, if it has not been since somebody last waited.
    pub(super) async fn rung(&self) {
        self.notify.notified().await;
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// Keeps a pool for as long as there is one.
pub(super) async fn keep<S: Source>(pool: Weak<Pool<S>>, bell: Arc<Bell>) {
    loop {
        let next = match pool.upgrade() {
            Some(pool) => pool.tick(),
            None => return,
        };
        match next {
            Some(at) => {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(at) => {}
                    () = bell.notify.notified() => {}
                }
            }
            None => bell.notify.notified().await,
        }
    }
}
