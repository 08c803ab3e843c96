//! `howdah demo`: exit statuses, the command's environment, and that nothing stays behind.

mod common;

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use common::cluster::unprivileged_user;
use common::daemon::{Daemon, howdah};
use common::net::{eventually, wait_until};
use common::run;
use rustix::process::Signal;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(40);

/// A demo whose data goes to a directory of its own, so that one can see what it leaves behind.
fn demo(command: &[&str]) -> (Command, TempDir) {
    let home = tempfile::tempdir().expect("a directory for the demo");
    if unprivileged_user().is_some() {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(home.path(), mode).expect("a directory of ours");
    }
    let mut howdah = howdah();
    howdah.arg("demo").env("TMPDIR", home.path());
    if !command.is_empty() {
        howdah.arg("--").args(command);
    }
    (howdah, home)
}

/// Processes that were started in a directory.
fn processes_in(dir: &Path) -> usize {
    let within = |entry: std::fs::DirEntry| {
        let cwd = std::fs::read_link(entry.path().join("cwd")).ok()?;
        cwd.starts_with(dir).then_some(())
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(within).count()
}

#[track_caller]
fn nothing_is_left(home: &TempDir) {
    wait_until("PostgreSQL is gone", || processes_in(home.path()) == 0);
    let left: Vec<_> = std::fs::read_dir(home.path())
        .expect("a directory of ours")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_command_runs_against_it_and_its_status_is_the_demos() {
    let (mut command, home) = demo(&["psql", "-XAtc", "select 6 * 7, current_user = user"]);
    assert_eq!(run::succeed(&mut command, LIMIT).trim(), "42|t");
    nothing_is_left(&home);

    let (mut command, home) = demo(&["sh", "-c", "psql -XAtc 'select nonsense' || exit 7"]);
    let done = run::output(&mut command, LIMIT);
    assert_eq!(
        done.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    nothing_is_left(&home);
}

#[test]
fn the_commands_environment_says_where_to_connect() {
    let script = "echo $PGHOST $PGUSER $PGDATABASE; test -n \"$PGPORT\" && test -n \"$PGPASSWORD\" && \
                  psql -XAtc 'create table t (a int); insert into t values (1); table t'; kill -9 $$";
    let (mut command, home) = demo(&["sh", "-c", script]);
    // What the caller has set is for another server.
    command.env("PGHOST", "nowhere.invalid").env("PGPORT", "1");
    command.env("PGHOSTADDR", "192.0.2.1").env("PGSSLMODE", "require");
    let done = run::output(&mut command, LIMIT);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.starts_with("127.0.0.1 "), "{said}");
    assert!(said.ends_with("INSERT 0 1\n1\n"), "{said}");
    assert_eq!(done.status.code(), Some(128 + 9), "killed by a signal");
    nothing_is_left(&home);
}

#[test]
fn a_command_that_cannot_be_run_is_named() {
    let (mut command, home) = demo(&["no-such-command-of-howdah"]);
    let done = run::output(&mut command, LIMIT);
    assert!(!done.status.success());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("no-such-command-of-howdah"), "{said}");
    nothing_is_left(&home);
}

#[test]
fn two_demos_do_not_meet() {
    let (mut first, first_home) = demo(&["sh", "-c", "echo up; sleep 60"]);
    let first = Daemon::start(&mut first);
    eventually("the first is up", LIMIT, || {
        first.said().contains("up").then_some(())
    });
    let (mut second, second_home) = demo(&["psql", "-XAtc", "select 1"]);
    assert_eq!(run::succeed(&mut second, LIMIT).trim(), "1");
    nothing_is_left(&second_home);
    let mut first = first;
    first.signal(Signal::TERM);
    first.wait(LIMIT);
    nothing_is_left(&first_home);
}

#[test]
fn it_says_where_it_is_and_signals_end_it() {
    for signal in [Signal::INT, Signal::TERM] {
        let (mut command, home) = demo(&[]);
        let mut daemon = Daemon::start(&mut command);
        let url = eventually("it says where it is", LIMIT, || {
            let said = daemon.said();
            let start = said.find("psql 'postgres://")? + "psql '".len();
            let url = said[start..].split('\'').next()?.to_owned();
            said.contains("Control-C").then_some(url)
        });
        let mut psql = Command::new("psql");
        psql.args(["-XAtc", "select 'a newcomer'"]).arg(&url);
        let greeting = eventually("it answers", LIMIT, || {
            let done = run::output(&mut psql, LIMIT);
            done.status.success().then_some(done.stdout)
        });
        assert_eq!(greeting, b"a newcomer\n");
        let said = daemon.said();
        let with_tls = said
            .split("with TLS  psql '")
            .nth(1)
            .and_then(|rest| rest.split('\'').next());
        let mut psql = Command::new("psql");
        psql.args(["-XAtc", "select 'under TLS'"])
            .arg(with_tls.expect("OpenSSL is installed"));
        assert_eq!(run::succeed(&mut psql, LIMIT), "under TLS\n");
        for word in ["console", "/metrics"] {
            assert!(daemon.said().contains(word), "{}", daemon.said());
        }
        daemon.signal(signal);
        let status = daemon.wait(LIMIT);
        assert!(status.success(), "{status}");
        nothing_is_left(&home);
    }
}

#[test]
fn a_signal_ends_the_command_too_whenever_it_comes() {
    for (signal, delay) in [
        (Signal::TERM, 50),
        (Signal::INT, 300),
        (Signal::TERM, 700),
        (Signal::INT, 3000),
    ] {
        let (mut command, home) = demo(&["sh", "-c", "trap 'exit 9' TERM; sleep 60 & wait"]);
        let mut daemon = Daemon::start(&mut command);
        thread::sleep(Duration::from_millis(delay));
        assert!(daemon.try_wait().is_none(), "it ended before it was told to");
        daemon.signal(signal);
        let status = daemon.wait(LIMIT);
        assert!(!status.success(), "{status} after {delay} ms");
        nothing_is_left(&home);
    }
}
