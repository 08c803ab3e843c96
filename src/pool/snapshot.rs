//! What is seen of a pool from outside: a copy of its numbers at one moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::SqlState;

use super::core::Gate;
use super::house::Pool;
use super::servers::Servers;
use super::settings::Settings;
use super::slots::ServerState;
use super::source::Source;
use crate::error::Refusal;
use crate::stats::PoolStats;

/// A pool's numbers, named as in `SHOW POOLS`.
#[derive(Clone, Debug)]
pub struct PoolSnapshot {
    /// Clients that have a server.
    pub cl_active: u32,
    /// Clients that wait for one.
    pub cl_waiting: u32,
    /// Servers that clients have.
    pub sv_active: u32,
    /// Cancel requests on their way to servers.
    pub sv_active_cancel: u32,
    /// Servers that are kept back until cancel requests have arrived.
    pub sv_being_canceled: u32,
    /// Idle servers that can be given out at once.
    pub sv_idle: u32,
    /// Idle servers that will be checked first.
    pub sv_used: u32,
    /// Servers that are being checked, rolled back or reset.
    pub sv_tested: u32,
    /// Servers that are being connected.
    pub sv_login: u32,
    /// How long the first in the line has waited.
    pub maxwait: Duration,
    /// Why the last attempt to connect failed, if none has succeeded since.
    pub last_error: Option<Refusal>,
    /// Whether it is paused.
    pub is_paused: bool,
    /// Whether new clients are refused.
    pub is_disabled: bool,
    /// The bounds in force.
    pub settings: Settings,
    /// Totals since it began.
    pub stats: PoolStats,
}

impl PoolSnapshot {
    /// All servers, in whatever state.
    pub fn servers(&self) -> u32 {
        self.sv_active + self.sv_being_canceled + self.sv_idle + self.sv_used + self.sv_tested + self.sv_login
    }
}

/// One connection, as in `SHOW SERVERS`.
pub struct ServerView<'a, S: Source> {
    /// What it is doing.
    pub state: ServerState,
    /// What its source says of it; `None` while it is being opened.
    pub info: Option<&'a Arc<S::Info>>,
    /// When it was connected.
    pub opened_at: Instant,
    /// Since when it has been in its state.
    pub since: Instant,
    /// It will be closed when it comes back (RECONNECT).
    pub is_close_needed: bool,
}

impl<S: Source> Pool<S> {
    /// Its numbers at this moment.
    pub fn snapshot(&self) -> PoolSnapshot {
        let now = Instant::now();
        let core = self.core();
        let count = |state| core.slots.count(state);
        let idle = count(ServerState::Idle);
        let sv_used = core.settings.server_check_delay.map_or(0, |delay| {
            let stale = core
                .slots
                .idle()
                .filter(|id| now.duration_since(core.slots.get(*id).since) >= delay);
            stale.count() as u32
        });
        PoolSnapshot {
            cl_active: count(ServerState::Leased),
            cl_waiting: core.line.len() as u32,
            sv_active: count(ServerState::Leased),
            sv_active_cancel: self.cancels.load(Ordering::Relaxed),
            sv_being_canceled: count(ServerState::Canceling),
            sv_idle: idle - sv_used,
            sv_used,
            sv_tested: count(ServerState::Checking) + count(ServerState::Cleaning),
            sv_login: count(ServerState::Opening),
            maxwait: core
                .line
                .oldest()
                .map_or(Duration::ZERO, |since| now.duration_since(since)),
            last_error: core.backoff.last_error().cloned(),
            is_paused: core.gate == Gate::Paused,
            is_disabled: self.is_disabled(),
            settings: core.settings.clone(),
            stats: core.stats.clone(),
        }
    }

    /// Shows every connection to `look`, which is called under the pool's lock: it must be short.
    pub fn for_each_server(&self, mut look: impl FnMut(ServerView<'_, S>)) {
        let core = self.core();
        for slot in core.slots.iter() {
            look(ServerView {
                state: slot.kind(),
                info: slot.info.as_ref(),
                opened_at: slot.opened_at,
                since: slot.since,
                is_close_needed: slot.generation != core.generation,
            });
        }
    }

    /// Counts a client's login.
    pub fn record_login(&self, took: Duration) {
        self.core().stats.login.observe(took);
    }

    /// Whether the server has said that there is no such database. Names may come from strangers.
    pub(super) fn has_no_database(&self) -> bool {
        let core = self.core();
        core.backoff
            .last_error()
            .is_some_and(|error| error.code == SqlState::INVALID_CATALOG_NAME)
    }

    /// For how long it has had neither connections nor clients that wait.
    pub(super) fn unused_for(&self) -> Option<Duration> {
        let core = self.core();
        // One that is to be kept warm, or was paused, would be made anew without remembering it.
        let wanted = core.settings.min_pool_size > 0 || !core.is_open();
        let unused = core.slots.is_empty() && core.line.is_empty() && !wanted;
        unused.then(|| Instant::now().duration_since(core.touched))
    }
}

impl Pool<Servers> {
    /// Cancel requests on their way to its servers.
    pub fn cancels_under_way(&self) -> u32 {
        let mut count = 0;
        self.for_each_server(|server| {
            count += server.info.map_or(0, |info| info.cancels.load(Ordering::Relaxed));
        });
        count
    }
}
