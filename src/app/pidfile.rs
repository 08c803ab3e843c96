//! The file that says which process this is.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Gone when dropped, unless a successor has put its own number there.
pub(super) struct Pidfile(Option<PathBuf>);

impl Pidfile {
    /// Writes it; an empty path stands for none.
    pub(super) fn write(path: &str) -> Result<Self> {
        if path.is_empty() {
            return Ok(Self(None));
        }
        fs::write(path, content()).with_context(|| format!("cannot write pidfile \"{path}\""))?;
        Ok(Self(Some(path.into())))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && fs::read_to_string(path).is_ok_and(|found| found == content())
        {
            let _ = fs::remove_file(path);
        }
    }
}

fn content() -> String {
    format!("{}\n", std::process::id())
}
