//! File descriptors: every client and every server takes one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit as far as the system allows, and says so if it will not do for `wanted` connections.
pub(super) fn raise_limit(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit.clone()) {
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
