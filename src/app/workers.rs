//! The runtime that everything runs on.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// CPUs for which there is one worker, unless the configuration says how many there are to be. One that is awake anyway
/// serves whoever else has something to say; two that take turns wake each other instead (docs/benchmarks.md has the
/// price). PostgreSQL needs several times as much as howdah for the same query.
const CPUS_PER_WORKER: usize = 2;

/// Builds the runtime: one thread that wakes nobody for a single worker, the work-stealing one otherwise. With 0 the
/// number follows the CPUs that the process may use.
pub(super) fn runtime(workers: u32) -> io::Result<Runtime> {
    let workers = match workers {
        0 => std::thread::available_parallelism().map_or(1, |cpus| (cpus.get() / CPUS_PER_WORKER).max(1)),
        some => some as usize,
    };
    let mut builder = if workers == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.thread_name("howdah-worker").enable_all().build()
}
