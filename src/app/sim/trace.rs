//! What happens in a simulation: the last of it to be read when it fails, a digest of all of it to be compared.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Lines that are kept.
const KEPT: usize = 150;

/// The events of one run.
pub(super) struct Trace {
    begun: Instant,
    inner: Mutex<Inner>,
    /// What was wrong first.
    failed: Mutex<Option<String>>,
    has_failed: AtomicBool,
    pub(super) failure: Notify,
}

struct Inner {
    lines: VecDeque<String>,
    hasher: DefaultHasher,
    count: u64,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            inner: Mutex::new(Inner {
                lines: VecDeque::new(),
                hasher: DefaultHasher::new(),
                count: 0,
            }),
            failed: Mutex::default(),
            has_failed: AtomicBool::new(false),
            failure: Notify::new(),
        }
    }

    /// Notes an event.
    pub(super) fn say(&self, line: impl FnOnce() -> String) {
        if self.has_failed.load(Ordering::Relaxed) {
            return;
        }
        let line = format!("{:>9.3} {}", self.begun.elapsed().as_secs_f64(), line());
        let mut inner = self.inner.lock();
        line.hash(&mut inner.hasher);
        inner.count += 1;
        if inner.lines.len() == KEPT {
            inner.lines.pop_front();
        }
        inner.lines.push_back(line);
    }

    /// Notes what a peer has said, which is no event of ours and in no digest.
    pub(super) fn remark(&self, line: &str) {
        let mut inner = self.inner.lock();
        let line = format!(
            "{:>9.3}   {}",
            self.begun.elapsed().as_secs_f64(),
            line.trim_end()
        );
        inner.lines.push_back(line);
        if inner.lines.len() > KEPT {
            inner.lines.pop_front();
        }
    }

    /// An invariant does not hold.
    pub(super) fn fail(&self, why: impl Into<String>) {
        let mut failed = self.failed.lock();
        if failed.is_none() {
            let why = why.into();
            self.say(|| format!("FAILED: {why}"));
            *failed = Some(why);
            self.has_failed.store(true, Ordering::Relaxed);
            self.failure.notify_one();
        }
    }

    /// What was wrong.
    pub(super) fn failed(&self) -> Option<String> {
        self.failed.lock().clone()
    }

    /// The last events, a line each.
    pub(super) fn lines(&self) -> String {
        let lines = self.inner.lock().lines.iter().cloned().collect::<Vec<_>>();
        lines.join("\n")
    }

    /// How many events there were, and what is the same only if all of them were.
    pub(super) fn digest(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.count, inner.hasher.finish())
    }
}
