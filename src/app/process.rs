//! What the tasks of the running process share, and what it can be told to do.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{Answer, Console, Sampler, Task};
use crate::client::{Ended, Front, Handle, House, Visit};
use crate::config::{Config, Fault, TABLE};
use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::log::{self, Leaver, Log, RateLimit};
use crate::metrics::Exhibit;
use crate::net::PeerAddr;

use super::{prefill, supervisor};

/// Refused logins of one address that are logged within a [`REFUSALS_INTERVAL`].
const REFUSALS_LOGGED: u32 = 5;
const REFUSALS_INTERVAL: Duration = Duration::from_secs(10);

/// The running process.
pub(super) struct Process {
    pub(super) front: Arc<Front>,
    pub(super) console: Arc<Console>,
    pub(super) exhibit: Arc<Exhibit>,
    pub(super) sampler: Arc<Sampler>,
    /// Cancelled when everybody has to go, visitors of the console too.
    pub(super) end: CancellationToken,
    log: Log,
    refusals: RateLimit,
}

impl Process {
    pub(super) fn new(
        house: House,
        log: Log,
        orders: tokio::sync::mpsc::Sender<crate::admin::Order>,
    ) -> Arc<Self> {
        let front = Front::new(house);
        let sampler = Arc::new(Sampler::new());
        let end = CancellationToken::new();
        Arc::new(Self {
            console: Console::new(front.clone(), sampler.clone(), orders, end.clone()),
            exhibit: Exhibit::new(front.clone()),
            refusals: RateLimit::new(REFUSALS_LOGGED, REFUSALS_INTERVAL),
            front,
            sampler,
            end,
            log,
        })
    }

    /// Reads the configuration again. A faulty one changes nothing.
    pub(super) fn reload(&self) -> Answer {
        supervisor::reloading();
        let answer = self.read_again();
        supervisor::ready(if answer.is_ok() {
            "serving clients"
        } else {
            "serving clients; the new configuration is faulty and not in force"
        });
        answer
    }

    fn read_again(&self) -> Answer {
        let before = self.front.house();
        let config = Config::load(&before.config.origin).map_err(|faults| {
            tracing::error!(%faults, "configuration is faulty and was not reloaded");
            Refusal::new(
                SqlState::CONFIG_FILE,
                "configuration is faulty and was not reloaded",
            )
            .detail(faults.to_string())
        })?;
        let notices = self.apply(House::new(config))?;
        prefill::prefill(&self.front);
        tracing::info!("configuration reloaded");
        Ok(notices)
    }

    /// Changes one setting until the next reload.
    fn set(&self, name: &str, value: Option<&str>) -> Answer {
        let default = || {
            TABLE
                .iter()
                .find(|row| row.name == name)
                .map_or("", |row| row.default)
        };
        let refused =
            |fault: Fault| Refusal::new(SqlState::INVALID_PARAMETER_VALUE, fault.message().to_owned());
        let house = self.front.house();
        let config = house
            .config
            .set(name, value.unwrap_or_else(default))
            .map_err(refused)?;
        self.apply(house.adjusted(config))
    }

    fn apply(&self, house: Result<House, String>) -> Answer {
        let before = self.front.house();
        let faulty = |message: String| {
            tracing::error!(why = message, "configuration was not changed");
            Refusal::new(SqlState::CONFIG_FILE, message)
        };
        let house = house.map_err(faulty)?;
        let restart = house.config.restart_needed(self.front.started());
        let level = house.config.settings.log_level.clone();
        if level != before.config.settings.log_level {
            self.log.set_level(&level).map_err(faulty)?;
        }
        self.front.apply(house);
        if restart.is_empty() {
            return Ok(Vec::new());
        }
        let settings = restart.join(", ");
        tracing::warn!(settings, "these settings take effect after a restart");
        Ok(vec![format!(
            "these settings take effect after a restart: {settings}"
        )])
    }

    /// Carries out what an administrator asks for, except for a shutdown, which is the caller's.
    pub(super) fn obey(&self, task: &Task) -> Answer {
        match task {
            Task::Reload => self.reload(),
            Task::Set { name, value } => self.set(name, value.as_deref()),
            Task::Shutdown(_) => Ok(Vec::new()),
        }
    }

    pub(super) fn pause(&self) {
        self.front.hold(None);
        self.front.pools.all().iter().for_each(|pool| pool.pause());
        tracing::info!("paused");
    }

    pub(super) fn resume(&self) {
        self.front.release(None);
        self.front.pools.all().iter().for_each(|pool| pool.resume());
        tracing::info!("resumed");
    }

    /// Serves a visitor of the console.
    pub(super) async fn console(&self, visit: Visit) -> Farewell {
        let (user, peer) = (visit.user.clone(), visit.stream.peer());
        let farewell = self.console.serve(visit).await;
        if self.front.house().config.settings.log_disconnections {
            tracing::info!(user, %peer, reason = farewell.label(), "visitor left the console");
        }
        farewell
    }

    /// Carries out a cancel request, of a console's visitor or of a client.
    pub(super) async fn cancel(&self, pid: i32, secret: &[u8]) {
        if !self.console.cancel(pid, secret) {
            let timeout = self.front.house().config.settings.cancel_wait_timeout;
            self.front.clients.cancel(pid, secret, timeout).await;
        }
    }

    pub(super) fn log_connect(&self, handle: &Handle) {
        if self.front.house().config.settings.log_connections {
            let (user, database) = (&*handle.user, &*handle.database);
            tracing::info!(client = handle.id, peer = %handle.peer, user, database, "client logged in");
        }
    }

    pub(super) fn log_disconnect(&self, handle: &Handle, farewell: &Farewell) {
        if self.front.house().config.settings.log_disconnections {
            let after = SystemTime::now()
                .duration_since(handle.connected_at)
                .unwrap_or_default();
            log::log_disconnect(handle.into(), farewell, None, after);
        }
    }

    /// A connection that never became a client. An address that keeps failing does not fill the log.
    pub(super) fn log_refused(&self, peer: &PeerAddr, ended: &Ended, after: Duration) {
        let settings = &self.front.house().config.settings;
        let wanted = if ended.farewell == Farewell::Vanished {
            settings.log_connections
        } else {
            settings.log_pooler_errors
        };
        if !wanted {
            return;
        }
        let key = match peer {
            PeerAddr::Tcp(address) => address.ip().to_string(),
            PeerAddr::Unix => String::new(),
        };
        if let Some(kept_back) = self.refusals.admit(&key, Instant::now()) {
            if kept_back > 0 {
                tracing::info!(%peer, kept_back, "more connections of this address failed than were logged");
            }
            log::log_disconnect(
                Leaver {
                    id: 0,
                    user: &ended.user,
                    database: &ended.database,
                    peer,
                },
                &ended.farewell,
                ended.note.as_deref(),
                after,
            );
        }
    }
}
