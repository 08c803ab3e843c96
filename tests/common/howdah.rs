//! A running howdah (or, for comparison, PgBouncer, or nothing at all) in front of a cluster.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use toml::{Table, Value};

use super::cluster::{Cluster, give_away, pid, tail, unprivileged};
use super::net::{PATIENCE, Target, eventually, free_port};

/// What stands between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The program under test.
    Howdah,
    /// Debian's, for comparison.
    Pgbouncer,
    /// Nothing.
    Postgres,
}

impl Against {
    /// What `HOWDAH_TEST_AGAINST` says.
    pub fn from_env() -> Self {
        match std::env::var("HOWDAH_TEST_AGAINST").as_deref() {
            Ok("pgbouncer") => Self::Pgbouncer,
            Ok("postgres") => Self::Postgres,
            _ => Self::Howdah,
        }
    }
}

/// The configuration of a pooler, before and while it runs.
#[derive(Clone)]
pub struct Config {
    cluster: Target,
    /// Settings of `[howdah]`.
    pub settings: Table,
    /// `[databases]`.
    pub databases: Table,
    /// `[users.NAME]`.
    pub users: Table,
}

impl Config {
    /// A setting of `[howdah]`.
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// Adds a database; the first one given replaces the default, which is `"*"`.
    pub fn database(mut self, name: &str, location: &str) -> Self {
        self.databases.remove("*");
        self.databases.insert(name.into(), location.into());
        self
    }

    /// A user with a password, as clients must say it and as servers are told.
    pub fn user(self, name: &str, password: &str) -> Self {
        self.user_set(name, "password", password)
    }

    /// Any setting of a user.
    pub fn user_set(mut self, name: &str, key: &str, value: impl Into<Value>) -> Self {
        let entry = self.users.entry(name).or_insert_with(|| Table::new().into());
        entry
            .as_table_mut()
            .expect("users are tables")
            .insert(key.into(), value.into());
        self
    }

    /// Starts the pooler and waits until its port answers.
    pub fn start(self) -> Howdah {
        self.start_as(Against::from_env())
    }

    /// Starts this kind of pooler, whatever `HOWDAH_TEST_AGAINST` says.
    pub fn start_as(self, against: Against) -> Howdah {
        Howdah::launch(self, against, Box::new(|_| {}))
    }

    /// The same with a command that has been changed: its environment, where it writes to.
    pub fn start_with(self, change: impl Fn(&mut Command) + Send + Sync + 'static) -> Howdah {
        Howdah::launch(self, Against::from_env(), Box::new(change))
    }

    /// The file that howdah reads.
    pub fn to_toml(&self) -> String {
        let mut file = Table::new();
        file.insert("howdah".into(), self.settings.clone().into());
        file.insert("databases".into(), self.databases.clone().into());
        if !self.users.is_empty() {
            file.insert("users".into(), self.users.clone().into());
        }
        toml::to_string(&file).expect("a table can be written")
    }

    /// The file that PgBouncer reads, and its list of users.
    fn to_ini(&self, userlist: &str) -> (String, String) {
        let unquoted = |value: &Value| match value {
            Value::String(text) => text.strip_suffix("ms").map_or_else(
                || {
                    text.strip_suffix('s')
                        .filter(|rest| rest.parse::<f64>().is_ok())
                        .unwrap_or(text)
                        .to_owned()
                },
                |ms| format!("{}", ms.parse::<f64>().map_or(0.0, |ms| ms / 1000.0)),
            ),
            other => other.to_string(),
        };
        let unknown = [
            "metrics_addr",
            "workers",
            "max_prepared_statements",
            "max_waiting",
            "auth_file",
        ];
        let setting = |(name, value): (&String, &Value)| format!("{name} = {}\n", unquoted(value));
        let databases: Vec<String> = self.databases.iter().map(setting).collect();
        let known = self
            .settings
            .iter()
            .filter(|(name, _)| !unknown.contains(&name.as_str()));
        let settings: Vec<String> = known.map(setting).collect();
        let ini = format!(
            "[databases]\n{}[pgbouncer]\nauth_file = {userlist}\nignore_startup_parameters = extra_float_digits\n{}",
            databases.concat(),
            settings.concat()
        );
        let password = |name: &str| self.users.get(name)?.get("password")?.as_str();
        let named = ["app", "postgres", "trust_u"]
            .into_iter()
            .chain(self.users.keys().map(String::as_str));
        let list: Vec<String> = named
            .map(|name| format!("\"{name}\" \"{}\"\n", password(name).unwrap_or_default()))
            .collect();
        (ini, list.concat())
    }
}

/// A pooler that is running, gone when dropped.
pub struct Howdah {
    dir: TempDir,
    child: Option<Child>,
    against: Against,
    port: u16,
    change: Box<Change>,
    /// The configuration it was started with or has been given since.
    pub config: Config,
}

/// What is different about the command that starts it.
type Change = dyn Fn(&mut Command) + Send + Sync;

impl Howdah {
    /// A configuration for a pooler in front of a cluster: transaction mode, clients trusted, every database.
    pub fn before(cluster: &Cluster) -> Config {
        let config = Config {
            cluster: cluster.target(),
            settings: Table::new(),
            databases: Table::new(),
            users: Table::new(),
        };
        let mut config = config
            .set("listen_addr", "127.0.0.1")
            .set("pool_mode", "transaction")
            .set("auth_type", "trust")
            // More than by default on few CPUs: what only happens between workers is to happen here.
            .set("workers", 2)
            .set("admin_users", "postgres");
        let location = format!("host=127.0.0.1 port={}", cluster.target().port);
        config.databases.insert("*".into(), location.into());
        config
    }

    /// A pooler with so many servers for each pool, and nothing else out of the ordinary.
    pub fn with_pool(cluster: &Cluster, size: u32) -> Self {
        Self::before(cluster)
            .set("default_pool_size", i64::from(size))
            .start()
    }

    fn launch(config: Config, against: Against, change: Box<Change>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("howdah-test-")
            .tempdir()
            .expect("a directory for howdah");
        give_away(dir.path());
        let port = if against == Against::Postgres {
            config.cluster.port
        } else {
            free_port()
        };
        let config = config.set("listen_port", i64::from(port));
        let config = config.set("unix_socket_dir", dir.path().to_str().expect("a plain path"));
        let mut howdah = Self {
            dir,
            child: None,
            against,
            port,
            change,
            config,
        };
        howdah.write_config();
        howdah.launch_again();
        howdah
    }

    /// Starts it again after it has ended.
    pub fn launch_again(&mut self) {
        if self.against == Against::Postgres {
            return;
        }
        self.spawn();
        let target = self.target();
        eventually("the pooler's port answers", PATIENCE, || {
            if let Some(status) = self.try_wait() {
                panic!(
                    "the pooler ended with {status} instead of starting:\n{}",
                    self.log()
                );
            }
            TcpStream::connect_timeout(&target.addr(), Duration::from_secs(1))
                .ok()
                .map(drop)
        });
    }

    fn spawn(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path());
        let log = log.expect("the log can be written");
        let mut command = match self.against {
            Against::Pgbouncer => Command::new("pgbouncer"),
            _ => program(),
        };
        if self.against == Against::Pgbouncer {
            unprivileged(&mut command);
        }
        command.arg(self.config_path()).stdin(Stdio::null());
        command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        (self.change)(&mut command);
        self.child = Some(command.spawn().expect("the pooler starts"));
    }

    fn config_path(&self) -> PathBuf {
        self.dir.path().join(if self.against == Against::Pgbouncer {
            "pgbouncer.ini"
        } else {
            "howdah.toml"
        })
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn write_config(&self) {
        let text = match self.against {
            Against::Pgbouncer => {
                let path = self.dir.path().join("userlist.txt");
                let (ini, list) = self.config.to_ini(path.to_str().expect("a plain path"));
                fs::write(&path, list).expect("a file of ours");
                ini
            }
            _ => self.config.to_toml(),
        };
        self.write_whole(&text);
    }

    /// Puts another file in the place of the old one, so that nobody reads half of it.
    fn write_whole(&self, text: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, text).expect("a file of ours");
        fs::rename(new, self.config_path()).expect("a file of ours");
    }

    /// Where clients connect.
    pub fn target(&self) -> Target {
        Target { port: self.port }
    }

    /// The directory of its unix socket.
    pub fn socket_dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Whether the program under test is howdah; some tests have nothing to say about others.
    pub fn is_howdah(&self) -> bool {
        self.against == Against::Howdah
    }

    /// Changes the configuration file and sends SIGHUP.
    pub fn reload(&mut self, change: impl FnOnce(Config) -> Config) {
        self.config = change(self.config.clone());
        self.write_config();
        self.signal(Signal::HUP);
    }

    /// Writes any text into the configuration file and tells nobody.
    pub fn write(&mut self, text: &str) {
        self.write_whole(text);
    }

    /// Writes any text into the configuration file and sends SIGHUP.
    pub fn reload_text(&mut self, text: &str) {
        self.write(text);
        self.signal(Signal::HUP);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            kill_process(pid(child.id()), signal).expect("the pooler is running");
        }
    }

    /// How it ended, if it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child
            .as_mut()
            .and_then(|child| child.try_wait().expect("our own child"))
    }

    /// Waits for its end.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let status = eventually("the pooler ends", limit, || self.try_wait());
        self.child = None;
        status
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits until the log holds a text.
    pub fn wait_log(&self, text: &str) {
        eventually(&format!("the log says {text:?}"), PATIENCE, || {
            self.log().contains(text).then_some(())
        });
    }
}

/// The program under test, under another one if `HOWDAH_TEST_UNDER` says one and its arguments.
fn program() -> Command {
    let howdah = env!("CARGO_BIN_EXE_howdah");
    let under = std::env::var("HOWDAH_TEST_UNDER").unwrap_or_default();
    let mut words = under.split_whitespace();
    let Some(first) = words.next() else {
        return Command::new(howdah);
    };
    let mut command = Command::new(first);
    command.args(words).arg(howdah);
    command
}

impl Drop for Howdah {
    fn drop(&mut self) {
        let ended = self.try_wait();
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            if let Some(status) = ended {
                eprintln!("--- the pooler had ended with {status}");
            }
            eprintln!("--- last lines of the pooler's log\n{}", tail(&self.log(), 60));
        }
    }
}
