//! Services of PAM, which are files in `/etc/pam.d`: only root can write there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// A service of PAM, gone when dropped.
pub struct Service {
    /// What it is called.
    pub name: String,
    /// Holds the program that judges, and what it writes down.
    dir: TempDir,
}

impl Service {
    /// A service in which a shell script judges. It has the password in `$password` and the user in `$PAM_USER`. None
    /// for whoever may not make one.
    pub fn new(script: &str, account: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("judge");
        let text = format!(
            "#!/bin/sh\ncd {}\npassword=$(tr -d '\\000')\n{script}\n",
            dir.path().display()
        );
        fs::write(&program, text).expect("a file of ours");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a file of ours");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let service = Self {
            name: format!("howdah-test-{}-{count}", std::process::id()),
            dir,
        };
        let program = program.display();
        let rules = format!(
            "auth required pam_exec.so quiet expose_authtok {program}\naccount required {account}.so\n"
        );
        fs::write(service.path(), rules).expect("root may write it");
        Some(service)
    }

    /// Where the script runs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/etc/pam.d").join(&self.name)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        fs::remove_file(self.path()).ok();
    }
}
