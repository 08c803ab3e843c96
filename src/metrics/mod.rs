//! What machines look at, over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz` for orchestrators, and a page
//! for people.
//!
//! Everything is built from snapshots when somebody asks; whoever moves bytes knows nothing of it.

mod collect;
mod families;
mod http;
mod page;
mod pools;
mod process;
mod ready;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use crate::client::Front;

pub use http::serve;
pub use ready::prefilled;

/// What there is to look at.
pub struct Exhibit {
    front: Arc<Front>,
    started: Instant,
    is_draining: AtomicBool,
}

impl Exhibit {
    /// For a process that starts now.
    pub fn new(front: Arc<Front>) -> Arc<Self> {
        Arc::new(Self {
            front,
            started: Instant::now(),
            is_draining: AtomicBool::new(false),
        })
    }

    /// No new clients are taken any more: `/readyz` says no from now on.
    pub fn set_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
