//! A howdah started by hand, with any arguments and environment.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use super::cluster::{pid, tail};
use super::net::{PATIENCE, Target, eventually};

/// The command `howdah`, with an environment that says nothing to it.
pub fn howdah() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
    quiet(&mut command);
    command
}

/// Takes everything out of a command's environment that howdah or libpq would listen to.
pub fn quiet(command: &mut Command) {
    let speaks = |name: &str| {
        ["HOWDAH_", "PG", "LISTEN_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            || ["DATABASE_URL", "NOTIFY_SOCKET"].contains(&name)
    };
    for (name, _) in std::env::vars().filter(|(name, _)| speaks(name)) {
        command.env_remove(name);
    }
}

/// A running program and what it says, gone when dropped.
pub struct Daemon {
    child: Option<Child>,
    dir: TempDir,
}

impl Daemon {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the output");
        let said = fs::File::create(dir.path().join("said")).expect("a file for the output");
        command
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a second handle"))
            .stderr(said);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child: Some(child),
            dir,
        }
    }

    /// Starts it and waits until it listens on a port.
    pub fn listening(command: &mut Command, target: Target) -> Self {
        let mut daemon = Self::start(command);
        eventually("the port answers", PATIENCE, || {
            if let Some(status) = daemon.try_wait() {
                panic!("ended with {status} instead of listening:\n{}", daemon.said());
            }
            TcpStream::connect_timeout(&target.addr(), Duration::from_secs(1))
                .ok()
                .map(drop)
        });
        daemon
    }

    /// What it has written so far, on either output.
    pub fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("said")).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it has not been waited for").id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(pid(self.id()), signal).expect("it is running");
    }

    /// How it ended, if it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("it has not been waited for");
        child.try_wait().expect("our own child")
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let status = eventually("the end", limit, || self.try_wait());
        self.child = None;
        status
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("--- the last it said\n{}", tail(&self.said(), 40));
        }
    }
}
