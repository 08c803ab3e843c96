//! Where to connect, which ports are free, and waiting with a limit.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How long a test waits for anything before it calls that a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where a client connects to: PostgreSQL itself or a pooler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The TCP port on 127.0.0.1.
    pub port: u16,
}

impl Target {
    /// The address to connect to.
    pub fn addr(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }
}

/// Ports stay reserved until the process ends, by a lock on a file, so that parallel test processes never meet.
static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nobody listens on and no other test process was given.
///
/// Below the kernel's ephemeral range: an outgoing connection must not sit on it when it is needed again after a
/// restart.
pub fn free_port() -> u16 {
    const FIRST: u32 = 15_000;
    const COUNT: u32 = 17_000;
    let dir = std::env::temp_dir().join("howdah-test-ports");
    fs::create_dir_all(&dir).expect("a directory for port locks");
    let start = std::process::id().wrapping_mul(7919) % COUNT;
    for step in 0..COUNT {
        let port = u16::try_from(FIRST + (start + step) % COUNT).expect("ports fit in 16 bits");
        let path = dir.join(port.to_string());
        let Ok(file) = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
        else {
            continue;
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            RESERVED
                .lock()
                .expect("no test panics with this lock held")
                .push(file);
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Asks again and again until the answer is `Some`, and panics with `what` when patience has run out.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `ask` is true.
pub fn wait_until(what: &str, mut ask: impl FnMut() -> bool) {
    eventually(what, PATIENCE, || ask().then_some(()));
}
