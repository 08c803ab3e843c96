//! Work that is slow by design: deriving keys from passwords. It is done beside the workers, so that nobody else waits
//! for it, and so much of it at a time that it leaves them the machine.

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// A bound on the threads that hash.
#[derive(Debug)]
pub(in crate::client) struct Hashing(Semaphore);

impl Default for Hashing {
    /// Half of the CPUs, at least one.
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Semaphore::new(cpus.div_ceil(2)))
    }
}

impl Hashing {
    /// Does the work when its turn comes.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _turn = self.0.acquire().await.expect("it is never closed");
        spawn_blocking(work).await.expect("hashing does not panic")
    }
}
