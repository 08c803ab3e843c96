//! The runtime that everything runs on.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Builds the runtime: one thread that wakes nobody for a single worker, the work-stealing one otherwise. With 0 the
/// number follows the CPUs that the process may use.
pub(super) fn runtime(workers: u32) -> io::Result<Runtime> {
    let workers = match workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
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
