//! What a pool is for, and its bounds.

use std::fmt;
use std::time::Duration;

/// The database and the user that a pool's connections are for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// The database, as clients name it.
    pub database: String,
    /// The user.
    pub user: String,
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.database, self.user)
    }
}

/// The bounds of one pool. Names and meanings are `PgBouncer`'s where it has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many connections at most.
    pub pool_size: u32,
    /// How many are kept open even if nobody wants them.
    pub min_pool_size: u32,
    /// How many more when a client has waited `reserve_pool_timeout`.
    pub reserve_pool_size: u32,
    /// See `reserve_pool_size`. Zero: never.
    pub reserve_pool_timeout: Duration,
    /// How many clients may wait. Zero: no limit.
    pub max_waiting: u32,
    /// How long a client may wait. Zero: no limit.
    pub query_wait_timeout: Duration,
    /// How long a connection above `min_pool_size` may be idle. Zero: no limit.
    pub server_idle_timeout: Duration,
    /// How old a connection may become. Zero: it is used once.
    pub server_lifetime: Duration,
    /// How long a connection may have been idle and still be given out unchecked. `None`: nothing is ever checked.
    pub server_check_delay: Option<Duration>,
    /// The longest pause between failed attempts to connect.
    pub server_login_retry: Duration,
    /// How many connections are opened at the same time.
    pub max_parallel_connects: u32,
    /// The longest idle connection is given out next, rather than the most recently used.
    pub server_round_robin: bool,
}

impl Settings {
    /// The size with the reserve.
    pub(super) fn size_max(&self) -> u32 {
        self.pool_size.saturating_add(self.reserve_pool_size)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pool_size: 20,
            min_pool_size: 0,
            reserve_pool_size: 0,
            reserve_pool_timeout: Duration::from_secs(5),
            max_waiting: 0,
            query_wait_timeout: Duration::from_secs(120),
            server_idle_timeout: Duration::from_secs(600),
            server_lifetime: Duration::from_secs(3600),
            server_check_delay: Some(Duration::from_secs(30)),
            server_login_retry: Duration::from_secs(15),
            max_parallel_connects: 4,
            server_round_robin: false,
        }
    }
}
