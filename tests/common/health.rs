//! Whether a pooler is as it was before: alive, serving, and with nothing left over.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::console::{Console, number, numbers};
use super::{Cluster, Howdah, Wire};

/// How long things may take to be put in order.
const REST: Duration = Duration::from_secs(20);

/// What is zero in SHOW POOLS when nobody does anything.
const BUSY: [&str; 8] = [
    "cl_active",
    "cl_waiting",
    "sv_active",
    "sv_active_cancel",
    "sv_being_canceled",
    "sv_used",
    "sv_tested",
    "sv_login",
];

/// What a pooler was like before the trouble.
pub struct Health {
    pid: u32,
    descriptors: usize,
}

impl Health {
    /// Looks at a pooler that has served one client; nothing where there is none.
    pub fn of(howdah: &Howdah) -> Option<Self> {
        let pid = howdah.pid().filter(|_| howdah.is_howdah())?;
        Wire::app(howdah.target()).value("SELECT 1");
        Some(Self {
            pid,
            descriptors: descriptors(pid),
        })
    }

    /// The pooler's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// It serves, its counters tell the truth, it has no more servers than `size` nor descriptors than these need, and
    /// PostgreSQL has no connections but those that it knows.
    #[track_caller]
    pub fn check(&self, howdah: &Howdah, cluster: &Cluster, size: usize) {
        assert_eq!(Wire::app(howdah.target()).value("SELECT 'as ever'"), "as ever");
        let mut console = Console::open(howdah.target());
        let end = Instant::now() + REST;
        while let Err(state) = self.rest(&mut console, cluster, size) {
            assert!(
                Instant::now() < end,
                "no rest after {REST:?}: {state}; {} descriptors before",
                self.descriptors
            );
            thread::sleep(Duration::from_millis(50));
        }
        assert!(!howdah.log().contains("panicked"), "a panic in the log");
    }

    /// Whether all is quiet; if not, what there is.
    fn rest(&self, console: &mut Console, cluster: &Cluster, size: usize) -> Result<(), String> {
        let pool = console.pool("app", "app");
        let busy: u64 = numbers(&pool, BUSY).iter().sum();
        let idle = usize::try_from(number(&pool, "sv_idle")).expect("few");
        let clients = console.show("CLIENTS").rows.len();
        let backends = cluster.backends("usename = 'app'");
        let descriptors = descriptors(self.pid);
        let quiet = busy == 0 && clients == 0 && idle == backends && backends <= size;
        // One is the console's, and at least one server was there before.
        if quiet && descriptors <= self.descriptors + size {
            return Ok(());
        }
        Err(format!(
            "{pool:?}, {clients} clients, {backends} backends, {descriptors} descriptors"
        ))
    }
}

/// How many file descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
