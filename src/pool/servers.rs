//! The servers of one pool: how the pool's connections to PostgreSQL are opened, watched, cleaned and closed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::{PoolMode, PoolSettings};
use crate::error::SqlState;
use crate::net::within;
use crate::server::{
    self, Connection, Extra, Failure, FunctionTable, IdleLimits, NewDefault, Parameters, Settings,
    StatementCache, Target,
};

use super::defaults::Defaults;
use super::listening::Hubs;
use super::pins::Pins;
use super::source::{Dirt, Gone, OpenError, Source};

/// Sets of startup parameters that are remembered as good; past it the memory begins anew.
const WELCOMES_MAX: usize = 1000;
/// Sets of startup parameters that are remembered as refused, likewise.
const REFUSED_MAX: usize = 100;
/// How long it is believed that a new server would refuse what one has refused.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Answers to a client that has said goodbye, in bytes, before it is taken that nobody wants them: about as much as
/// PostgreSQL itself would write into the socket before it notices.
const UNREAD_MAX: usize = 64 * 1024;
/// How long a cancel request is given before another one is sent, at first; each time it is twice as long.
const CANCEL_PATIENCE: Duration = Duration::from_millis(100);
/// How long cleaning one connection may take.
const CLEAN_MAX: Duration = Duration::from_secs(10);

/// A startup parameter: its name in lower case, and its value.
type Parameter = (String, Vec<u8>);

/// How a pool comes by what it logs in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsState {
    /// From the configuration.
    Configured,
    /// From a client's login.
    Learned,
    /// The server wants more than is known: a client has to log in first.
    Awaited,
    /// There is nothing, and the server has not asked for anything.
    None,
}

impl CredentialsState {
    /// The word of `SHOW POOLS`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Learned => "learned",
            Self::Awaited => "awaited",
            Self::None => "none",
        }
    }
}

/// What one pool's connections are to be, and what is known of the servers.
#[derive(Debug)]
pub struct Servers {
    target: ArcSwap<Target>,
    policy: ArcSwap<PoolSettings>,
    /// The prepared statements that the clients of this pool share.
    pub statements: Arc<StatementCache>,
    /// What the functions of the database may do.
    pub functions: Arc<FunctionTable>,
    /// The servers that clients keep for their session state.
    pub pins: Pins,
    /// What listens for its clients.
    pub hubs: Hubs,
    /// What a session is set to after its client asked for these startup parameters.
    welcomes: Mutex<HashMap<Vec<Parameter>, Settings>>,
    /// Which startup parameters a new server has refused, for what and when.
    refused: Mutex<HashMap<Vec<Parameter>, (SqlState, Instant)>>,
    /// What has changed of what new sessions have.
    pub defaults: Defaults,
    /// What `connect_query` has set, by names in lower case.
    begun_with: Mutex<Arc<[Box<[u8]>]>>,
    /// The connections that are there.
    begun: Mutex<Vec<Weak<server::Info>>>,
    /// How long a session may be idle that has not chosen for itself.
    idle_limits: Mutex<IdleLimits>,
    /// Every set of reported parameters that is in use, once: so equal sets are equal pointers.
    reported: Mutex<HashSet<Arc<Parameters>>>,
    /// Every set of other settings that is in use, once.
    extra: Mutex<HashSet<Arc<Extra>>>,
}

impl Servers {
    /// For a pool that connects to `target`.
    pub fn new(target: Target, policy: PoolSettings) -> Self {
        Self {
            target: ArcSwap::from_pointee(target),
            policy: ArcSwap::from_pointee(policy),
            statements: Arc::default(),
            functions: Arc::default(),
            pins: Pins::default(),
            hubs: Hubs::default(),
            welcomes: Mutex::default(),
            refused: Mutex::default(),
            defaults: Defaults::default(),
            begun: Mutex::default(),
            begun_with: Mutex::default(),
            idle_limits: Mutex::default(),
            reported: Mutex::default(),
            extra: Mutex::default(),
        }
    }

    /// The settings that this pool runs on.
    pub fn policy(&self) -> Arc<PoolSettings> {
        self.policy.load_full()
    }

    /// The settings that this pool runs on, if they are not those that have been seen.
    pub fn policy_unless(&self, seen: &Arc<PoolSettings>) -> Option<Arc<PoolSettings>> {
        let policy = self.policy.load();
        (!Arc::ptr_eq(&policy, seen)).then(|| Arc::clone(&policy))
    }

    /// Where its connections go.
    pub fn target(&self) -> Arc<Target> {
        self.target.load_full()
    }

    /// From now on new connections are made like this.
    pub fn apply(&self, target: Target, policy: PoolSettings) {
        let before = self.target.swap(Arc::new(target));
        self.policy.store(Arc::new(policy));
        let target = self.target();
        if before.is_same_place(&target) {
            // What clients have taught is good for as long as the server has the same verifiers; and logins are to need no free
            // server, for what sessions are set to does not depend on howdah's own settings.
            target.lore.inherit(&before.lore);
        } else {
            self.welcomes.lock().clear();
            self.refused.lock().clear();
        }
    }

    /// How it comes by what it logs in with.
    pub fn credentials(&self) -> CredentialsState {
        let target = self.target();
        if target.lore.is_wanting() {
            CredentialsState::Awaited
        } else if !target.credentials.is_empty() {
            CredentialsState::Configured
        } else if target.lore.is_empty() {
            CredentialsState::None
        } else {
            CredentialsState::Learned
        }
    }

    /// What a session is set to that began with these parameters, if they have been tried before.
    pub fn welcome(&self, parameters: &[(String, Vec<u8>)]) -> Option<Settings> {
        self.welcomes.lock().get(parameters).cloned()
    }

    /// The one copy of a set of reported parameters.
    pub fn intern(&self, parameters: &Arc<Parameters>) -> Arc<Parameters> {
        only(&self.reported, parameters)
    }

    /// The one copy of a set of other settings.
    pub fn intern_extra(&self, extra: Extra) -> Arc<Extra> {
        only(&self.extra, &Arc::new(extra))
    }

    /// Remembers what became of a set of startup parameters, interned, and returns it like that.
    pub fn remember_welcome(&self, parameters: Vec<(String, Vec<u8>)>, mut settings: Settings) -> Settings {
        settings.reported = self.intern(&settings.reported);
        let mut welcomes = self.welcomes.lock();
        if welcomes.len() >= WELCOMES_MAX {
            welcomes.clear();
        }
        welcomes.insert(parameters, settings.clone());
        settings
    }

    /// A new server has refused a set of startup parameters.
    pub fn remember_refused(&self, parameters: Vec<(String, Vec<u8>)>, code: SqlState) {
        let mut refused = self.refused.lock();
        if refused.len() >= REFUSED_MAX {
            refused.clear();
        }
        refused.insert(parameters, (code, Instant::now()));
    }

    /// Whether a new server would refuse these startup parameters for this, too, by what one has done lately.
    pub fn would_be_refused(&self, parameters: &[(String, Vec<u8>)], code: SqlState) -> bool {
        let refused = self.refused.lock();
        (refused.get(parameters)).is_some_and(|(what, at)| *what == code && at.elapsed() < REFUSED_FOR)
    }

    /// A server has heard of a new default: clients follow, and who logs in has it.
    pub fn has_new_default(&self, change: &NewDefault) {
        if !self.defaults.add(change) {
            return;
        }
        let asks = |(name, _): &Parameter| name.as_bytes().eq_ignore_ascii_case(&change.name);
        let mut welcomes = self.welcomes.lock();
        let all = welcomes
            .iter_mut()
            .filter(|(parameters, _)| !parameters.iter().any(asks));
        for (_, settings) in all {
            if !settings.reported.follow([change]).is_empty() {
                settings.reported = self.intern(&settings.reported);
            }
        }
    }

    /// How long a session with these settings may be idle.
    pub fn idle_limits(&self, settings: &Settings) -> IdleLimits {
        self.idle_limits.lock().with(&settings.extra)
    }

    async fn cancel_and_abandon(conn: &mut Connection) -> Result<(), Failure> {
        let was_busy = conn.is_busy();
        // PostgreSQL forgets a request that overtakes the query which it is to cancel.
        let mut patience = CANCEL_PATIENCE;
        while conn.pipeline.in_flight() {
            let cancelled = conn.info().cancel.send().await;
            cancelled.map_err(|error| Failure::Lost(error.to_string()))?;
            if conn.is_spent {
                break;
            }
            if let Ok(finished) = tokio::time::timeout(patience, conn.finish(usize::MAX)).await {
                finished?;
            }
            patience *= 2;
        }
        if conn.is_spent {
            return Err(Failure::Lost("its client left it in a doubtful state".to_owned()));
        }
        conn.finish(usize::MAX).await?;
        conn.start_over(was_busy).await
    }

    async fn cleaned(&self, conn: &mut Connection, dirt: Dirt) -> Result<(), Failure> {
        let policy = self.policy();
        match dirt {
            Dirt::Abandoned => Self::cancel_and_abandon(conn).await?,
            Dirt::InTransaction => {
                if !conn.abandon(UNREAD_MAX).await? {
                    Self::cancel_and_abandon(conn).await?;
                }
            }
            Dirt::Reset | Dirt::CancelInFlight => {}
        }
        conn.outlive_cancels().await?;
        conn.clean_leftovers().await?;
        // However a session ended, in good order or not, the next one finds nothing of it.
        let is_session = policy.pool_mode == PoolMode::Session;
        if matches!(dirt, Dirt::Reset) || is_session || policy.server_reset_query_always {
            conn.reset(&policy.server_reset_query).await?;
        }
        if is_session {
            conn.must_have_no_slots().await?;
        }
        conn.come_to_rest().await?;
        // What it was told meanwhile was its last client's.
        conn.notifications = BytesMut::new();
        Ok(())
    }
}

/// The copy that is in `known`, which forgets those that nobody else has.
fn only<T: Eq + std::hash::Hash>(known: &Mutex<HashSet<Arc<T>>>, value: &Arc<T>) -> Arc<T> {
    let mut known = known.lock();
    if let Some(same) = known.get(&**value) {
        return same.clone();
    }
    if known.len() == known.capacity() {
        known.retain(|same| Arc::strong_count(same) > 1);
    }
    known.insert(value.clone());
    value.clone()
}

impl Source for Servers {
    type Conn = Box<Connection>;
    type Info = server::Info;

    async fn open(&self) -> Result<Self::Conn, OpenError> {
        match self.target().connect().await {
            Ok(mut connection) => {
                self.remember_baseline(&mut connection);
                Ok(Box::new(connection))
            }
            Err(error) => Err(OpenError {
                refusal: error.refusal,
                is_final: error.is_final,
                note: error.note,
            }),
        }
    }

    fn is_hopeful(&self) -> bool {
        !self.target().lore.is_wanting()
    }

    fn info(&self, conn: &Self::Conn) -> Arc<Self::Info> {
        conn.info().clone()
    }

    fn mark(&self, conn: &Self::Conn) -> u64 {
        conn.settings.mark()
    }

    fn is_quiet(&self, conn: &mut Self::Conn) -> bool {
        conn.is_silent()
            || self
                .poll_idle(conn, &mut Context::from_waker(Waker::noop()))
                .is_pending()
    }

    fn poll_idle(&self, conn: &mut Self::Conn, cx: &mut Context<'_>) -> Poll<Gone> {
        conn.poll_idle(cx).map(|gone| Gone(gone.0.into()))
    }

    async fn clean(&self, mut conn: Self::Conn, dirt: Dirt) -> Option<Self::Conn> {
        let why = match tokio::time::timeout(CLEAN_MAX, self.cleaned(&mut conn, dirt)).await {
            Ok(Ok(())) => return Some(conn),
            Ok(Err(Failure::Lost(why))) => why,
            Ok(Err(Failure::Sql(refusal))) => refusal.to_string(),
            Err(_) => "cleaning took too long".to_owned(),
        };
        tracing::info!(
            server = conn.info().id,
            why,
            "server is closed because it cannot be cleaned"
        );
        conn.close();
        None
    }

    async fn check(&self, mut conn: Self::Conn) -> Option<Self::Conn> {
        let policy = self.policy();
        let before = conn.settings.reported.clone();
        let checked = conn.run(&policy.server_check_query);
        match within(policy.server_connect_timeout, checked).await {
            Ok(Ok(())) => {
                conn.has_set_nothing_since(&before);
                Some(conn)
            }
            Ok(Err(failure)) => {
                let why = failure.refusal().to_string();
                tracing::info!(server = conn.info().id, why, "server failed its check");
                None
            }
            Err(_) => {
                tracing::info!(server = conn.info().id, "server did not answer its check");
                None
            }
        }
    }

    fn part(&self, needed_too: bool) {
        self.hubs.sever(needed_too);
    }

    fn forget(&self) {
        self.welcomes.lock().clear();
        self.refused.lock().clear();
    }

    fn is_parted(&self) -> bool {
        self.hubs.are_parted()
    }

    fn close(&self, conn: Self::Conn) {
        conn.close();
    }
}

impl Servers {
    /// A client without startup parameters of its own finds what a new connection has.
    fn remember_baseline(&self, connection: &mut Connection) {
        *self.idle_limits.lock() = connection.idle_limits();
        let mut begun_with = self.begun_with.lock();
        if **begun_with != *connection.begun_with() {
            *begun_with = connection.begun_with().into();
        }
        let extra = self.intern_extra(Extra::clone(&connection.baseline.extra));
        connection.baseline.extra = extra.clone();
        connection.settings.extra = extra;
        let is_sole = {
            let mut begun = self.begun.lock();
            begun.retain(|info| info.strong_count() > 0);
            begun.push(Arc::downgrade(connection.info()));
            begun.len() == 1
        };
        if self.defaults.begin_with(&connection.baseline.reported, is_sole) {
            // They were learnt from sessions that began otherwise.
            self.welcomes.lock().clear();
        }
        self.remember_welcome(Vec::new(), connection.baseline.clone());
    }

    /// What `connect_query` sets, by names in lower case.
    pub fn begun_with(&self) -> Arc<[Box<[u8]>]> {
        self.begun_with.lock().clone()
    }
}

/// The bounds of a pool, as its core wants them.
pub fn bounds(policy: &PoolSettings) -> super::Settings {
    let unlimited = |count: u32| if count == 0 { u32::MAX } else { count };
    super::Settings {
        pool_size: unlimited(policy.pool_size),
        min_pool_size: policy.min_pool_size,
        reserve_pool_size: policy.reserve_pool_size,
        reserve_pool_timeout: policy.reserve_pool_timeout,
        max_waiting: policy.max_waiting,
        query_wait_timeout: policy.query_wait_timeout,
        server_idle_timeout: policy.server_idle_timeout,
        server_lifetime: policy.server_lifetime,
        server_check_delay: Some(policy.server_check_delay),
        server_login_retry: policy.server_login_retry,
        max_parallel_connects: unlimited(policy.max_parallel_connects),
        server_round_robin: policy.server_round_robin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(value: &[u8]) -> Arc<Parameters> {
        let mut parameters = Parameters::default();
        parameters.set(b"TimeZone", value);
        Arc::new(parameters)
    }

    fn servers() -> Servers {
        let target = Target {
            addresses: Vec::new(),
            database: String::new(),
            credentials: crate::auth::Credentials::default(),
            parameters: Vec::new(),
            timeout: Duration::ZERO,
            keepalive: crate::net::Keepalive {
                enabled: false,
                idle: Duration::ZERO,
                interval: Duration::ZERO,
                count: 0,
                user_timeout: Duration::ZERO,
            },
            encryption: server::Encryption::none(),
            connect_query: String::new(),
            prepared_max: 1,
            resolver: Arc::new(server::Resolver::new(Duration::ZERO)),
            lore: server::Lore::default(),
        };
        let settings = crate::config::Settings::default();
        let overrides = crate::config::Overrides::default();
        Servers::new(target, PoolSettings::resolve(&settings, &overrides, &overrides))
    }

    #[test]
    fn equal_parameters_are_one_and_those_out_of_use_are_forgotten() {
        let servers = servers();
        let utc = servers.intern(&parameters(b"UTC"));
        assert!(Arc::ptr_eq(&utc, &servers.intern(&parameters(b"UTC"))));
        assert!(!Arc::ptr_eq(&utc, &servers.intern(&parameters(b"CET"))));
        for n in 0..1000 {
            servers.intern(&parameters(format!("zone {n}").as_bytes()));
        }
        assert!(servers.reported.lock().len() < 100);
        assert!(
            Arc::ptr_eq(&utc, &servers.intern(&parameters(b"UTC"))),
            "it is in use"
        );
    }
}
