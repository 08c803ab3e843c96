//! What the kernel and the runtime say of this process.

use std::fs;

use tokio::runtime::Handle;

/// What is in `/proc/self`; nothing where there is no such thing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) open_fds: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    pub(super) cpu_seconds: Option<f64>,
    /// Tasks of the runtime that have not ended; none outside of it.
    pub(super) tasks: Option<f64>,
}

impl Process {
    pub(super) fn now() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        Self {
            // One of them is the directory that is being read.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|fds| fds.count().saturating_sub(1) as f64),
            resident_bytes: read("status").and_then(|text| resident(&text)),
            cpu_seconds: read("stat").and_then(|text| cpu(&text)),
            tasks: Handle::try_current()
                .ok()
                .map(|runtime| runtime.metrics().num_alive_tasks() as f64),
        }
    }
}

/// From the line `VmRSS:   1234 kB`.
fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// Time in user and in kernel mode: fields 14 and 15, behind a name in brackets that may hold anything.
fn cpu(stat: &str) -> Option<f64> {
    /// `USER_HZ`, which the kernel shows to programs on every architecture that matters, whatever its own clock.
    const TICKS_PER_SECOND: f64 = 100.0;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_understood() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    12 kB\n"), Some(12_288.0));
        assert_eq!(resident("Name:\tx\n"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 1 0 5 1 2";
        assert_eq!(cpu(stat), Some(3.0));
        assert_eq!(cpu("7"), None);
    }

    #[test]
    fn this_process_has_something_to_say() {
        let process = Process::now();
        assert!(process.open_fds.is_some_and(|count| count > 2.0));
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000.0));
        assert!(process.cpu_seconds.is_some());
    }
}
