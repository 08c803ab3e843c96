//! `howdah demo`: a throwaway PostgreSQL with howdah in front of it, for the newcomer's first minute.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

use crate::config::{Config, Source};

use super::cluster::{Cluster, SUPERUSER};
use super::ending::Manner;
use super::run::{self, Until};
use super::signals::{Signals, Wish};

const PORT: u16 = 6432;
const METRICS_PORT: u16 = 9127;
const DATABASE: &str = "postgres";
/// Variables that would lead libpq past what the command is told.
const MISLEADING: [&str; 6] = [
    "PGHOSTADDR",
    "PGSERVICE",
    "PGSSLMODE",
    "PGREQUIREAUTH",
    "PGCHANNELBINDING",
    "PGTARGETSESSIONATTRS",
];

/// Starts it all, and serves until interrupted or until `command` has ended. Returns the exit status.
pub(super) fn demo(command: &[String]) -> Result<u8> {
    let password = random_password();
    // Before there is anything to clean up: until now a signal has just ended the process.
    let mut interruption = Interruption::watch()?;
    let cluster = Cluster::start(&password)?;
    if let Some(status) = interruption.status() {
        return Ok(status);
    }
    let (port, metrics_port) = (free_port(PORT)?, free_port(METRICS_PORT)?);
    let file = cluster.directory().join("howdah.toml");
    let quiet = !command.is_empty();
    let mut text = configuration(&cluster, &password, port, metrics_port, quiet);
    let certificate = if quiet {
        None
    } else {
        certificate(cluster.directory())
    };
    if let Some(certificate) = &certificate {
        text = with_tls(&text, certificate);
    }
    write_secretly(&file, &text)?;
    let config = Config::load(&Source::File(file)).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    if !quiet {
        say_where(&cluster, &password, port, metrics_port, certificate.as_deref());
    }
    let until = match command {
        [] => Until::Signal,
        [program, arguments @ ..] => {
            let mut command = tokio::process::Command::new(program);
            command.args(arguments).kill_on_drop(true);
            for name in MISLEADING {
                command.env_remove(name);
            }
            command.envs([
                ("PGHOST", "127.0.0.1"),
                ("PGUSER", SUPERUSER),
                ("PGDATABASE", DATABASE),
            ]);
            command
                .env("PGPORT", port.to_string())
                .env("PGPASSWORD", &password);
            Until::Ends(Box::new(command))
        }
    };
    Ok(run::run(config, until, Some(interruption.signals))?.map_or(0, exit_code))
}

/// Signals that come while PostgreSQL is being started, which is no time to end at once.
struct Interruption {
    runtime: Runtime,
    signals: Signals,
}

impl Interruption {
    fn watch() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let signals = runtime
            .block_on(async { Signals::new() })
            .context("cannot listen to signals")?;
        Ok(Self { runtime, signals })
    }

    /// What to end with, if a signal to end has come.
    fn status(&mut self) -> Option<u8> {
        const LOOK: Duration = Duration::from_millis(10);
        let next = async { tokio::time::timeout(LOOK, self.signals.next()).await };
        match self.runtime.block_on(next) {
            Ok(Wish::End(Manner::Drain)) => Some(128 + 15),
            Ok(Wish::End(_)) => Some(128 + 2),
            _ => None,
        }
    }
}

/// As a shell tells it: 128 and the signal for a command that was killed.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

fn configuration(cluster: &Cluster, password: &str, port: u16, metrics_port: u16, quiet: bool) -> String {
    let directory = cluster.directory().display();
    let level = if quiet { "warn" } else { "info" };
    format!(
        r#"[howdah]
listen_addr = "127.0.0.1"
listen_port = {port}
metrics_addr = "127.0.0.1:{metrics_port}"
pool_mode = "transaction"
default_pool_size = 4
admin_users = ["{SUPERUSER}"]
log_level = "{level}"
drain_timeout = "2s"

[databases]
"*" = "host={directory}"

[users.{SUPERUSER}]
password = "{password}"
"#
    )
}

/// Writes a file that nobody else on this machine can read: a password is in it.
fn write_secretly(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// A certificate for this machine, made by OpenSSL where that is installed; the key lies beside it.
fn certificate(directory: &Path) -> Option<PathBuf> {
    let certificate = directory.join("howdah.crt");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .arg("-keyout")
        .arg(certificate.with_extension("key"))
        .arg("-out")
        .arg(&certificate)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    made.is_ok_and(|status| status.success()).then_some(certificate)
}

fn with_tls(configuration: &str, certificate: &Path) -> String {
    let key = certificate.with_extension("key");
    let tls = format!(
        "[howdah]\nclient_tls_sslmode = \"allow\"\nclient_tls_cert_file = \"{}\"\nclient_tls_key_file = \"{}\"\n",
        certificate.display(),
        key.display()
    );
    configuration.replacen("[howdah]\n", &tls, 1)
}

#[expect(clippy::print_stdout, reason = "this is what the newcomer came for")]
fn say_where(cluster: &Cluster, password: &str, port: u16, metrics_port: u16, certificate: Option<&Path>) {
    let url = |database: &str| format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}");
    println!(
        "A throwaway {} with howdah in front of it. Four servers for any number of clients.",
        cluster.version()
    );
    println!();
    println!("  clients   psql '{}'", url(DATABASE));
    if let Some(certificate) = certificate {
        let verified = format!("sslmode=verify-full&sslrootcert={}", certificate.display());
        println!("  with TLS  psql '{}?{verified}'", url(DATABASE));
    }
    println!("  console   psql '{}' -c 'show pools'", url("howdah"));
    println!("  metrics   http://127.0.0.1:{metrics_port}/metrics");
    println!();
    println!("Control-C ends it and removes everything.");
}

fn random_password() -> String {
    let mut bytes = [0; 12];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system's random source does not fail");
    format!(
        "{:024x}",
        bytes
            .iter()
            .fold(0u128, |number, byte| number << 8 | u128::from(*byte))
    )
}

/// The usual port if nobody has it, else any other.
fn free_port(usual: u16) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", usual)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    Ok(listener.context("no free port")?.local_addr()?.port())
}
