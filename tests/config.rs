//! Configuration as a user meets it: a file, a URL alone, the environment alone; and `howdah check`.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::cluster::password_of;
use common::daemon::{Daemon, howdah};
use common::net::{free_port, wait_until};
use common::{Cluster, Target, Wire, login, run};
use rustix::process::Signal;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);
/// For a command line or configuration that makes no sense.
const USAGE: i32 = 64;

fn try_login(target: Target, user: &str, database: &str, password: &str) -> Result<Wire, login::LoginError> {
    Wire::login_with(target, &[("user", user), ("database", database)], Some(password))
}

#[track_caller]
fn asks_as(target: Target, user: &str, database: &str, password: &str) -> String {
    let mut wire = try_login(target, user, database, password)
        .unwrap_or_else(|error| panic!("{user} on {database}: {error}"));
    wire.value("SELECT current_user || ' on ' || current_database()")
}

#[track_caller]
fn refused(target: Target, user: &str, database: &str, password: &str) -> String {
    let error = try_login(target, user, database, password)
        .err()
        .expect("a refusal");
    error.code().to_owned()
}

/// A URL of a cluster's database, with the password of the user.
fn url(cluster: &Cluster, user: &str, database: &str) -> String {
    let (port, password) = (cluster.target().port, password_of(user).replace(' ', "%20"));
    format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
}

/// A port for howdah, and its environment's word for it.
fn listening_on(command: &mut Command) -> Target {
    let target = Target { port: free_port() };
    command.env("HOWDAH_LISTEN_PORT", target.port.to_string());
    target
}

/// A file of its own directory.
fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("howdah.toml");
    fs::write(&path, text).expect("a file of ours");
    (dir, path)
}

/// What `howdah check` answers: exit status, standard output, standard error.
fn check(command: &mut Command) -> (i32, String, String) {
    let done = run::output(command.arg("check"), LIMIT);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        done.status.code().unwrap_or(-1),
        text(&done.stdout),
        text(&done.stderr),
    )
}

#[test]
fn a_url_is_enough_for_a_sidecar() {
    let cluster = Cluster::start();
    for user in ["scram_u", "md5_u", "password_u"] {
        let mut command = howdah();
        let target = listening_on(&mut command);
        command.arg(url(&cluster, user, "app"));
        let _daemon = Daemon::listening(&mut command, target);
        assert_eq!(
            asks_as(target, user, "app", &password_of(user)),
            format!("{user} on app")
        );
        assert_eq!(refused(target, user, "app", "wrong"), "28P01");
        assert_eq!(refused(target, "postgres", "app", &password_of(user)), "28P01");
        assert_eq!(refused(target, user, "other", &password_of(user)), "3D000");
    }
}

#[test]
fn a_url_takes_settings_and_the_environment_does_too() {
    let cluster = Cluster::start();
    let mut command = howdah();
    let target = listening_on(&mut command);
    command.arg(url(&cluster, "scram_u", "app") + "?pool_size=1");
    command.env("HOWDAH_QUERY_WAIT_TIMEOUT", "1s");
    let daemon = Daemon::listening(&mut command, target);
    let login = || try_login(target, "scram_u", "app", &password_of("scram_u")).expect("a login");
    let (mut holder, mut waiting) = (login(), login());
    holder.query("BEGIN");
    waiting.send(&common::msg::query("SELECT 1"));
    assert_eq!(waiting.expect_fatal().code(), "57014");
    assert!(
        !daemon.said().contains(&password_of("scram_u")),
        "{}",
        daemon.said()
    );
}

#[test]
fn the_environment_is_enough() {
    let cluster = Cluster::start();
    let mut command = howdah();
    let target = listening_on(&mut command);
    command
        .env("HOWDAH_URL", url(&cluster, "scram_u", "app"))
        .env("HOWDAH_DATABASES_REPORTS", cluster.location("other"))
        .env("HOWDAH_USERS_MD5_U", password_of("md5_u"))
        .env("HOWDAH_POOL_MODE", "session")
        .env("DATABASE_URL", "postgres://nobody@nowhere.invalid/nothing");
    let _daemon = Daemon::listening(&mut command, target);
    assert_eq!(
        asks_as(target, "scram_u", "app", &password_of("scram_u")),
        "scram_u on app"
    );
    assert_eq!(
        asks_as(target, "md5_u", "reports", &password_of("md5_u")),
        "md5_u on other"
    );
    assert_eq!(refused(target, "nobody", "app", ""), "28P01");
    assert_eq!(
        refused(target, "scram_u", "nothing", &password_of("scram_u")),
        "3D000"
    );

    let mut command = howdah();
    let target = listening_on(&mut command);
    command.env("DATABASE_URL", url(&cluster, "scram_u", "app"));
    let _daemon = Daemon::listening(&mut command, target);
    assert_eq!(
        asks_as(target, "scram_u", "app", &password_of("scram_u")),
        "scram_u on app"
    );
}

#[test]
fn a_file_names_secrets_elsewhere() {
    let cluster = Cluster::start();
    let port = free_port();
    let (dir, path) = file(&format!(
        "[howdah]\nlisten_port = {port}\nauth_file = \"userlist.txt\"\n\
         [databases]\napp = \"{}\"\nforced = \"{} user=md5_u password=${{HOWDAH_TEST_PW}}\"\n\
         [users.scram_u]\npassword_file = \"pw\"\n",
        cluster.location("app"),
        cluster.location("other"),
    ));
    fs::write(dir.path().join("pw"), password_of("scram_u") + "\n").expect("a file of ours");
    fs::write(dir.path().join("userlist.txt"), "\"listed\" \"in the list\"\n").expect("a file of ours");
    for option in [None, Some("--config"), Some("-c")] {
        let mut command = howdah();
        command
            .env("HOWDAH_TEST_PW", password_of("md5_u"))
            .args(option)
            .arg(&path);
        let mut daemon = Daemon::listening(&mut command, Target { port });
        let target = Target { port };
        assert_eq!(
            asks_as(target, "scram_u", "app", &password_of("scram_u")),
            "scram_u on app"
        );
        assert_eq!(
            asks_as(target, "listed", "forced", "in the list"),
            "md5_u on other"
        );
        assert!(!daemon.said().contains("secret of"), "{}", daemon.said());
        daemon.signal(Signal::TERM);
        assert!(daemon.wait(LIMIT).success());
    }
}

#[test]
fn check_says_what_would_run() {
    let (_dir, path) = file(
        "[howdah]\nlisten_port = 7000\nunix_socket_dir = \"/run/howdah\"\n[databases]\n\
         app = \"host=db1,db2 port=5433 pool_size=7\"\n\"*\" = \"host=db3 pool_mode=session\"\n[users]\nbob = \"hunter2\"\n",
    );
    let (status, out, err) = check(&mut howdah());
    assert_eq!(
        (status, out.as_str()),
        (USAGE, ""),
        "nothing is configured: {err}"
    );
    let done = run::output(howdah().arg("check").arg(&path), LIMIT);
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{out}");
    for part in [
        "sound",
        "7000",
        "/run/howdah/.s.PGSQL.7000",
        "db1:5433",
        "db2:5433",
        "pools of 7",
        "session",
        "1 user",
    ] {
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
    assert!(!out.contains("hunter2"));
}

#[test]
fn check_names_every_fault_with_its_line() {
    let (_dir, path) = file(
        "[howdah]\npool_mod = \"session\"\nmin_pool_size = 30\nlisten_prot = 1\nquery_timeout = true\n\n[databases]\n\
         app = \"host=a pool_sise=3\"\n[usrs.bob]\npassword = \"hunter2\"\n",
    );
    let done = run::output(howdah().arg("check").arg(&path), LIMIT);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(USAGE), "{said}");
    for part in [
        "toml:2",
        "pool_mode",
        "toml:3",
        "toml:4",
        "listen_port",
        "toml:5",
        "toml:8",
        "pool_size",
        "toml:9",
        "users",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    assert!(!said.contains("hunter2"));
    let served = run::output(howdah().arg(&path), LIMIT);
    assert_eq!(
        served.status.code(),
        Some(USAGE),
        "it does not start with such a file"
    );
    assert_eq!(String::from_utf8_lossy(&served.stderr), said, "and says the same");
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for arguments in [
        &["--no-such-option"][..],
        &["a", "b"],
        &["/no/such/file.toml"],
        &["check", "/no/such/file.toml"],
        &["check", "-c", "/no/such/file.toml"],
    ] {
        let done = run::output(howdah().args(arguments), LIMIT);
        assert_eq!(done.status.code(), Some(USAGE), "{arguments:?}");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!said.is_empty());
        if arguments.contains(&"-c") {
            assert!(said.contains("/no/such/file.toml: cannot be read"), "{said}");
        }
    }
    for (option, word) in [("--help", "check"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let said = run::succeed(howdah().arg(option), LIMIT);
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("any port");
    let port = taken.local_addr().expect("it listens").port();
    let mut command = howdah();
    command
        .env("HOWDAH_LISTEN_PORT", port.to_string())
        .arg("postgres://u:p@127.0.0.1/x");
    let done = run::output(&mut command, LIMIT);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains(&port.to_string()), "{said}");
}

#[test]
fn a_pidfile_is_written_and_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let pidfile = dir.path().join("howdah.pid");
    let mut command = howdah();
    let target = listening_on(&mut command);
    command
        .env("HOWDAH_PIDFILE", &pidfile)
        .arg("postgres://u:p@127.0.0.1/x");
    let mut daemon = Daemon::listening(&mut command, target);
    wait_until("the file is there", || pidfile.exists());
    let text = fs::read_to_string(&pidfile).expect("a file");
    assert_eq!(text.trim(), daemon.id().to_string());
    daemon.signal(Signal::INT);
    daemon.wait(LIMIT);
    assert!(!pidfile.exists(), "it is left behind");
}
