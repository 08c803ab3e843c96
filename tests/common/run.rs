//! Other programs: psql, pgbench and the rest, each with a time limit.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::net::Target;

/// Runs a command to its end and returns what it said; kills it and panics when it takes longer than `limit`.
pub fn output(command: &mut Command, limit: Duration) -> Output {
    let dir = tempfile::tempdir().expect("a directory for the output");
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let create = |path| std::fs::File::create(path).expect("a file for the output");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(create(&out))
        .stderr(create(&err))
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let end = Instant::now() + limit;
    let read = |path| std::fs::read(path).unwrap_or_default();
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Output {
                status,
                stdout: read(&out),
                stderr: read(&err),
            };
        }
        if Instant::now() > end {
            child.kill().ok();
            child.wait().ok();
            let said =
                String::from_utf8_lossy(&read(&out)).into_owned() + &String::from_utf8_lossy(&read(&err));
            panic!("{command:?} was still running after {limit:?}; it had said:\n{said}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command that must succeed; returns its standard output.
pub fn succeed(command: &mut Command, limit: Duration) -> String {
    let done = output(command, limit);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        done.status.success(),
        "{command:?} failed with {}\n{}\n{}",
        done.status,
        text(&done.stdout),
        text(&done.stderr)
    );
    text(&done.stdout)
}

/// A client program of PostgreSQL (`psql`, `pgbench`, `pg_receivewal`, …) aimed at `target`.
pub fn client(program: &str, target: Target, user: &str, dbname: &str) -> Command {
    let mut command = Command::new(find(program));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        command.env_remove(name);
    }
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", target.port.to_string())
        .env("PGUSER", user)
        .env("PGDATABASE", dbname)
        .env("PGCONNECT_TIMEOUT", "10")
        .env("PGSSLMODE", "disable")
        .env("LC_ALL", "C");
    command
}

/// Runs one psql script; returns unaligned rows.
pub fn psql(target: Target, user: &str, dbname: &str, sql: &str) -> Output {
    let mut command = client("psql", target, user, dbname);
    output(
        command.args(["-XAt", "-v", "ON_ERROR_STOP=1", "-c", sql]),
        Duration::from_secs(30),
    )
}

/// The path of a program: next to the server binaries first (Debian links only some of them into the path).
fn find(program: &str) -> PathBuf {
    let beside = super::cluster::server_bin(None).join(program);
    if beside.exists() {
        beside
    } else {
        PathBuf::from(program)
    }
}

/// Runs all of these, a dozen at a time; what they return are complaints.
pub fn at_once(attempts: Vec<Box<dyn FnOnce() -> Option<String> + Send + '_>>) -> Vec<String> {
    const THREADS: usize = 12;
    let (queue, complaints) = (Mutex::new(attempts), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no attempt panics with it").pop();
                    let Some(next) = next else { return };
                    let complaint = next();
                    complaints.lock().expect("no panic").extend(complaint);
                }
            });
        }
    });
    complaints.into_inner().expect("no panic")
}
