//! A private, throwaway PostgreSQL for the demo.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where distributions put the server's own programs.
const PLACES: [&str; 3] = [
    "/usr/lib/postgresql",
    "/usr/pgsql",
    "/opt/homebrew/opt/postgresql",
];
/// The superuser of the throwaway cluster.
pub(super) const SUPERUSER: &str = "howdah";

/// A running PostgreSQL that listens on a Unix socket in a directory of its own, and is gone when this is dropped.
pub(super) struct Cluster {
    directory: tempfile::TempDir,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
}

impl Cluster {
    /// Makes a cluster and starts it; `password` is that of [`SUPERUSER`].
    pub(super) fn start(password: &str) -> Result<Self> {
        let programs = find_programs()?;
        let directory = tempfile::Builder::new().prefix("howdah-demo-").tempdir()?;
        // PostgreSQL refuses to run as root.
        let owner = if rustix::process::geteuid().is_root() {
            Some(unprivileged()?)
        } else {
            None
        };
        let cluster = Self {
            directory,
            programs,
            owner,
        };
        cluster.initialise(password)?;
        let options = format!(
            "-c listen_addresses='' -c fsync=off -k '{}'",
            cluster.directory().display()
        );
        cluster.control(&["-w", "-l", "log", "-o", &options, "start"])?;
        Ok(cluster)
    }

    /// The directory of its socket.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its version, as `postgres --version` tells it.
    pub(super) fn version(&self) -> String {
        let output = Command::new(self.programs.join("postgres"))
            .arg("--version")
            .output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default()
    }

    fn initialise(&self, password: &str) -> Result<()> {
        let path = self.directory.path();
        let secret = path.join("password");
        fs::write(&secret, password)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        if let Some((uid, gid)) = self.owner {
            chown(path, Some(uid), Some(gid))?;
            chown(&secret, Some(uid), Some(gid))?;
        }
        let mut initdb = self.program("initdb");
        initdb.args([
            "--pgdata=data",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--auth=scram-sha-256",
        ]);
        initdb.args(["--pwfile=password", &format!("--username={SUPERUSER}")]);
        finish(initdb, "initdb")?;
        fs::remove_file(secret)?;
        Ok(())
    }

    fn control(&self, arguments: &[&str]) -> Result<()> {
        let mut control = self.program("pg_ctl");
        control.arg("--pgdata=data").args(arguments);
        finish(control, "pg_ctl").with_context(|| {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            format!("PostgreSQL says:\n{log}")
        })
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        // What the caller has set is for servers of theirs: PGPORT would put this one elsewhere.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // Control-C is for howdah, which then stops PostgreSQL in good order.
        command.process_group(0);
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.control(&["-m", "immediate", "stop"]) {
            tracing::warn!(error = %format!("{error:#}"), "could not stop PostgreSQL");
        }
    }
}

/// Runs a program to its end; its output is only of interest if it fails.
fn finish(mut command: Command, name: &str) -> Result<()> {
    // Not a pipe: the server inherits what pg_ctl has, and a pipe would stay open until the server's end.
    let sink = tempfile::tempfile()?;
    command.stdout(sink.try_clone()?).stderr(sink.try_clone()?);
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    let mut sink = sink;
    std::io::Seek::rewind(&mut sink)?;
    std::io::Read::read_to_string(&mut sink, &mut said)?;
    bail!("{name} failed with {status}:\n{said}");
}

fn find_programs() -> Result<PathBuf> {
    if let Some(paths) = std::env::var_os("PATH")
        && let Some(found) = std::env::split_paths(&paths).find(|path| path.join("initdb").exists())
    {
        return Ok(found);
    }
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for place in PLACES {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let version = entry.file_name().to_string_lossy().parse().unwrap_or(0);
            let programs = entry.path().join("bin");
            if programs.join("initdb").exists() {
                found.push((version, programs));
            }
        }
    }
    let newest = found.into_iter().max_by_key(|(version, _)| *version);
    newest.map(|(_, path)| path).context(
        "PostgreSQL's programs (initdb, postgres) were not found; on Debian: apt-get install postgresql",
    )
}

/// A user to run PostgreSQL as, when we are root.
fn unprivileged() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            (fields.first() == Some(&name))
                .then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))?
        })
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .context("there is no user to run PostgreSQL as")
}
