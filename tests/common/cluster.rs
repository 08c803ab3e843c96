//! A private, throwaway PostgreSQL.
//!
//! `initdb` runs once per version into a template under `target/`; each cluster is a copy. As root the server runs
//! as an unprivileged user, because PostgreSQL refuses anything else.
//!
//! Users, each with the login method that its name says (over TCP and over the socket):
//! `app` (owner of the databases `app` and `other`), `trust_u`, `password_u`, `md5_u`, `scram_u`, and `postgres`, the
//! superuser, who is trusted. The password of a user is [`password_of`] it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::net::{PATIENCE, Target, eventually, free_port};
use super::wire::Wire;

/// The password of a test user.
pub fn password_of(user: &str) -> String {
    format!("secret of {user}")
}

/// What a cluster is to be like.
#[derive(Default)]
pub struct Options {
    version: Option<u32>,
    conf: String,
    hba: String,
}

impl Options {
    /// A PostgreSQL of this major version from `target/postgres/` (see `scripts/setup`).
    pub fn version(mut self, major: u32) -> Self {
        self.version = Some(major);
        self
    }

    /// One more line of postgresql.conf.
    pub fn conf(mut self, line: &str) -> Self {
        self.conf.push_str(line);
        self.conf.push('\n');
        self
    }

    /// A line of `pg_hba.conf`, before all others.
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push_str(line);
        self.hba.push('\n');
        self
    }

    /// Starts the cluster and waits until it answers.
    pub fn start(self) -> Cluster {
        let bin = server_bin(self.version);
        let dir = tempfile::Builder::new()
            .prefix("howdah-pg-")
            .tempdir_in(quick_dir())
            .expect("a directory for a cluster");
        let data = dir.path().join("data");
        copy_template(&bin, &data);
        let port = free_port();
        let conf = format!(
            "{CONF}\nport = {port}\nunix_socket_directories = '{}'\n{}",
            dir.path().display(),
            self.conf
        );
        append(&data.join("postgresql.conf"), &conf);
        fs::write(data.join("pg_hba.conf"), self.hba + HBA).expect("pg_hba.conf is ours");
        give_away(dir.path());
        give_away(&data.join("pg_hba.conf"));
        let mut cluster = Cluster {
            dir,
            bin,
            port,
            child: None,
        };
        cluster.launch();
        cluster
    }
}

/// A running PostgreSQL, gone when dropped.
pub struct Cluster {
    dir: TempDir,
    bin: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Cluster {
    /// A cluster as it comes.
    pub fn start() -> Self {
        Self::options().start()
    }

    /// A cluster of another major version, as it comes.
    pub fn version(major: u32) -> Self {
        Self::options().version(major).start()
    }

    /// Wishes first.
    pub fn options() -> Options {
        Options::default()
    }

    /// Where it listens.
    pub fn target(&self) -> Target {
        Target { port: self.port }
    }

    /// The directory of its unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Writes a file of the data directory.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.data_dir().join(name);
        fs::write(&path, text).expect("a file of ours");
        give_away(&path);
    }

    /// What howdah's `[databases]` says for a database of this cluster.
    pub fn location(&self, dbname: &str) -> String {
        format!("host=127.0.0.1 port={} dbname={dbname}", self.port)
    }

    /// Runs SQL as the superuser in the database `app`; returns the rows of all statements.
    pub fn sql(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.sql_in("app", sql)
    }

    /// Runs SQL as the superuser in a database.
    pub fn sql_in(&self, dbname: &str, sql: &str) -> Vec<Vec<Option<String>>> {
        let params = [
            ("user", "postgres"),
            ("database", dbname),
            ("application_name", "harness"),
        ];
        let mut wire = Wire::login_with(self.target(), &params, None).expect("the superuser can log in");
        let answer = wire.query(sql);
        assert!(answer.error.is_none(), "{sql}: {:?}", answer.error);
        answer.rows
    }

    /// Runs SQL as the superuser that returns one value.
    pub fn value(&self, sql: &str) -> String {
        let rows = self.sql(sql);
        rows.first()
            .and_then(|row| row.first())
            .cloned()
            .flatten()
            .unwrap_or_default()
    }

    /// How many client connections there are, the harness's own left out; `filter` is SQL over `pg_stat_activity`.
    pub fn backends(&self, filter: &str) -> usize {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
             AND application_name <> 'harness' AND pid <> pg_backend_pid() AND ({filter})"
        );
        self.value(&sql).parse().expect("a count")
    }

    /// Process ids of client connections for which `filter` holds.
    pub fn backend_pids(&self, filter: &str) -> Vec<i32> {
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'
             AND application_name <> 'harness' AND pid <> pg_backend_pid() AND ({filter}) ORDER BY pid"
        );
        self.sql(&sql)
            .iter()
            .map(|row| row[0].as_deref().expect("a pid").parse().expect("a number"))
            .collect()
    }

    /// A hot standby of this cluster, which follows it until it is promoted.
    pub fn standby(&self) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("howdah-pg-")
            .tempdir_in(quick_dir());
        let dir = dir.expect("a directory for a cluster");
        give_away(dir.path());
        let (data, port) = (dir.path().join("data"), free_port());
        let mut copy = Command::new(self.bin.join("pg_basebackup"));
        copy.args(["-h", "127.0.0.1", "-U", "postgres", "-R", "-c", "fast", "-p"])
            .args([&self.port.to_string(), "-D"])
            .arg(&data)
            .current_dir("/");
        succeed(unprivileged(&mut copy));
        let directory = dir.path().display();
        let conf = format!("\nport = {port}\nunix_socket_directories = '{directory}'\n");
        append(&data.join("postgresql.conf"), &conf);
        let mut standby = Self {
            bin: self.bin.clone(),
            child: None,
            dir,
            port,
        };
        standby.launch();
        standby
    }

    /// Starts it again after a stop, and waits until it answers.
    pub fn launch(&mut self) {
        self.launch_unready();
        let target = self.target();
        let params = [
            ("user", "postgres"),
            ("database", "postgres"),
            ("application_name", "harness"),
        ];
        eventually("PostgreSQL answers", Duration::from_secs(60), || {
            Wire::login_with(target, &params, None).ok().map(drop)
        });
    }

    /// Starts it again and does not wait.
    pub fn launch_unready(&mut self) {
        assert!(self.child.is_none(), "the cluster is running already");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the server's log can be written");
        let mut command = Command::new(self.bin.join("postgres"));
        command
            .arg("-D")
            .arg(self.dir.path().join("data"))
            .env("LC_ALL", "C")
            .current_dir("/");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        self.child = Some(unprivileged(&mut command).spawn().expect("postgres starts"));
    }

    /// Ends it with a signal to the postmaster (TERM smart, INT fast, QUIT immediate, KILL a crash) and waits.
    pub fn stop(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let children = children_of(child.id());
        kill_process(pid(child.id()), signal).ok();
        eventually("PostgreSQL ends", PATIENCE, || {
            child.try_wait().expect("our own child")
        });
        // After a SIGKILL of the postmaster its children need a moment, and a successor refuses to start meanwhile.
        eventually("PostgreSQL's processes end", PATIENCE, || {
            children
                .iter()
                .all(|child| !Path::new(&format!("/proc/{child}")).exists())
                .then_some(())
        });
        fs::remove_file(self.dir.path().join("data/postmaster.pid")).ok();
    }

    /// Stops at once and starts again.
    pub fn restart(&mut self) {
        self.stop(Signal::QUIT);
        self.launch();
    }

    /// Freezes every process of the cluster: connections are accepted by the kernel, and nothing answers.
    pub fn pause(&self) {
        self.signal_all(Signal::STOP);
    }

    /// The opposite of [`Self::pause`].
    pub fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        let Some(child) = &self.child else { return };
        let mut all = children_of(child.id());
        all.push(child.id());
        for id in all {
            kill_process(pid(id), signal).ok();
        }
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("postgresql.log")
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.child = None;
            kill_process(pid(child.id()), Signal::CONT).ok();
            for child in children_of(child.id()) {
                kill_process(pid(child), Signal::CONT).ok();
            }
            kill_process(pid(child.id()), Signal::QUIT).ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("--- last lines of PostgreSQL's log\n{}", tail(&self.log(), 25));
        }
    }
}

/// The last lines of a text.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A process id as the kernel wants it.
pub fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("process ids are positive")).expect("process ids are not zero")
}

const CONF: &str = "
# --- added by the test harness
listen_addresses = '127.0.0.1'
max_connections = 100
fsync = off
full_page_writes = off
synchronous_commit = off
shared_buffers = 16MB
autovacuum = off
jit = off
wal_level = replica
max_wal_senders = 8
max_prepared_transactions = 50
timezone = 'UTC'
datestyle = 'iso, mdy'
lc_messages = 'C'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %u@%d '
log_min_messages = notice
";

const HBA: &str = "\
local all         md5_u                   md5
host  all         md5_u       127.0.0.1/32 md5
local all         scram_u                 scram-sha-256
host  all         scram_u     127.0.0.1/32 scram-sha-256
local all         password_u              password
host  all         password_u  127.0.0.1/32 password
local replication all                     trust
host  replication all         127.0.0.1/32 trust
local all         all                     trust
host  all         all         127.0.0.1/32 trust
";

/// What the template holds beside `initdb`'s own; one statement a line, for single-user mode.
fn template_sql() -> String {
    let mut sql = String::from("CREATE ROLE app LOGIN;\nCREATE ROLE trust_u LOGIN;\n");
    for (user, encryption) in [
        ("md5_u", "md5"),
        ("scram_u", "scram-sha-256"),
        ("password_u", "scram-sha-256"),
    ] {
        let password = password_of(user);
        sql += "SET password_encryption = '";
        sql += encryption;
        sql += &[
            "';\nCREATE ROLE ",
            user,
            " LOGIN REPLICATION PASSWORD '",
            &password,
            "';\n",
        ]
        .concat();
    }
    sql += "ALTER ROLE app REPLICATION;\n";
    sql += "CREATE DATABASE app OWNER app;\nCREATE DATABASE other OWNER app;\n";
    sql
}

/// Raise it when what [`template_sql`] or the call of `initdb` makes changes.
const TEMPLATE: u32 = 3;

/// Copies the template of the server at `bin` to `data`, making it first where it is missing.
fn copy_template(bin: &Path, data: &Path) {
    let home = target_dir().join("postgres");
    fs::create_dir_all(&home).expect("target/ can be written");
    let version = succeed(Command::new(bin.join("postgres")).arg("--version"));
    let version = version
        .split_whitespace()
        .nth(2)
        .expect("postgres (PostgreSQL) VERSION …")
        .to_owned();
    let template = home.join(format!("template-{version}-{TEMPLATE}"));
    let lock = fs::File::create(home.join("template.lock")).expect("target/ can be written");
    flock(&lock, FlockOperation::LockExclusive).expect("a lock on our own file");
    if !template.exists() {
        make_template(bin, &template);
    }
    flock(&lock, FlockOperation::Unlock).expect("a lock on our own file");
    succeed(Command::new("cp").arg("-a").arg(&template).arg(data));
}

fn make_template(bin: &Path, template: &Path) {
    let dir = tempfile::Builder::new()
        .prefix("howdah-initdb-")
        .tempdir()
        .expect("a directory for initdb");
    give_away(dir.path());
    let data = dir.path().join("data");
    let mut initdb = Command::new(bin.join("initdb"));
    initdb.args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--wal-segsize=1",
        "--no-sync",
    ]);
    succeed(unprivileged(initdb.arg("-D").arg(&data).current_dir("/")));
    let sql = dir.path().join("template.sql");
    fs::write(&sql, template_sql()).expect("a file of ours");
    let mut single = Command::new(bin.join("postgres"));
    single
        .args(["--single", "-F"])
        .arg("-D")
        .arg(&data)
        .arg("postgres")
        .current_dir("/");
    succeed(unprivileged(&mut single).stdin(fs::File::open(&sql).expect("just written")));
    let partial = template.with_extension("partial");
    fs::remove_dir_all(&partial).ok();
    succeed(Command::new("cp").arg("-a").arg(&data).arg(&partial));
    fs::rename(&partial, template).expect("a move within target/");
}

/// Where clusters live: in memory where there is plenty, since a copy of a thousand small files takes ten times as
/// long on a disk.
fn quick_dir() -> PathBuf {
    const PLENTY: u64 = 2 << 30;
    let memory = Path::new("/dev/shm");
    match rustix::fs::statvfs(memory) {
        Ok(stat) if stat.f_bavail * stat.f_frsize >= PLENTY => memory.to_owned(),
        _ => std::env::temp_dir(),
    }
}

/// Where `cargo` builds.
pub fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("target/tmp has a parent")
        .to_owned()
}

/// The directory of the server programs: Debian's, or another major version's from `target/postgres/`.
pub fn server_bin(version: Option<u32>) -> PathBuf {
    if let Some(major) = version {
        let bin = target_dir().join(format!("postgres/{major}/bin"));
        assert!(
            bin.join("postgres").exists(),
            "no PostgreSQL {major} in {}: run scripts/setup",
            bin.display()
        );
        return within_reach(&bin, major);
    }
    if let Some(bin) = std::env::var_os("HOWDAH_TEST_PG_BIN") {
        return PathBuf::from(bin);
    }
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    found.sort();
    if let Some(bin) = found.pop() {
        return bin;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let bin =
        std::env::split_paths(&path).find(|dir| dir.join("postgres").exists() && dir.join("initdb").exists());
    bin.expect("PostgreSQL's server programs are installed: run scripts/setup")
}

/// The unprivileged user may not be able to look into the checkout (say, below /root): then a copy in /var/tmp serves.
fn within_reach(bin: &Path, major: u32) -> PathBuf {
    let mut probe = Command::new(bin.join("postgres"));
    let reached = unprivileged(probe.arg("--version").current_dir("/")).output();
    if reached.is_ok_and(|output| output.status.success()) {
        return bin.to_owned();
    }
    let copy = PathBuf::from(format!("/var/tmp/howdah-postgres-{major}"));
    let lock = fs::File::create(copy.with_extension("lock")).expect("/var/tmp can be written");
    flock(&lock, FlockOperation::LockExclusive).expect("a lock on our own file");
    if !copy.exists() {
        let source = bin.parent().expect("bin has a parent");
        succeed(Command::new("cp").arg("-a").arg(source).arg(&copy));
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("a directory of ours");
    }
    copy.join("bin")
}

/// The user that PostgreSQL runs as when the tests run as root: uid and gid.
pub fn unprivileged_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("every system has one");
    let find = |name: &str| {
        let line = passwd
            .lines()
            .find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2).map(str::parse::<u32>);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    };
    Some(
        find("postgres")
            .or_else(|| find("nobody"))
            .expect("a user to run PostgreSQL as"),
    )
}

/// Makes a command run as that user.
pub fn unprivileged(command: &mut Command) -> &mut Command {
    match unprivileged_user() {
        Some((uid, gid)) => command.uid(uid).gid(gid),
        None => command,
    }
}

/// Gives a file or directory to that user.
pub fn give_away(path: &Path) {
    if let Some((uid, gid)) = unprivileged_user() {
        chown(path, Some(uid), Some(gid)).expect("root may give files away");
    }
}

fn append(path: &Path, text: &str) {
    let old = fs::read_to_string(path).expect("a file of the template");
    fs::write(path, old + text).expect("a file of ours");
}

fn succeed(command: &mut Command) -> String {
    let done = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {}\n{stderr}", done.status);
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Process ids whose parent is `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    let wanted = parent.to_string();
    let is_child = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let after_name = stat.rsplit_once(')')?.1;
        (after_name.split_whitespace().nth(1)? == wanted).then_some(id)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| is_child(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}
