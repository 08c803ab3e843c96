//! File descriptors, of which every client and every server takes one; and the file with the process id.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit as far as the system allows, and says so if it will not do for `wanted` connections.
pub(super) fn raise_limit(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "could not raise the limit of file descriptors");
        }
    }
    if let Some(have) = getrlimit(Resource::Nofile).current
        && have < wanted
    {
        tracing::warn!(
            have,
            wanted,
            "the limit of file descriptors is lower than the configured connections need"
        );
    }
}

/// The file with the process id, removed when dropped.
pub(super) struct PidFile(PathBuf);

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes the process id to `path`, unless that is empty.
pub(super) fn write_pidfile(path: &str) -> Result<Option<PidFile>> {
    if path.is_empty() {
        return Ok(None);
    }
    fs::write(path, format!("{}\n", std::process::id()))
        .with_context(|| format!("cannot write pidfile {path}"))?;
    Ok(Some(PidFile(path.into())))
}
