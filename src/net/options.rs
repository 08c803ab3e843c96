//! Socket options that decide how soon a dead peer is noticed.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Keepalive and timeout of TCP connections. Zero leaves the kernel's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether keepalive probes are sent at all.
    pub enabled: bool,
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Probes without an answer before the connection counts as dead.
    pub count: u32,
    /// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
    pub user_timeout: Duration,
}

impl Keepalive {
    /// Sets them, and `TCP_NODELAY`, on a connection. A kernel that does not know an option is no reason to fail.
    pub fn apply(&self, stream: &TcpStream) {
        let socket = SockRef::from(stream);
        let mut failed = socket.set_tcp_nodelay(true).err();
        if self.enabled {
            let mut probes = TcpKeepalive::new();
            if !self.idle.is_zero() {
                probes = probes.with_time(self.idle);
            }
            if !self.interval.is_zero() {
                probes = probes.with_interval(self.interval);
            }
            if self.count > 0 {
                probes = probes.with_retries(self.count);
            }
            failed = failed.or(socket.set_tcp_keepalive(&probes).err());
        }
        if !self.user_timeout.is_zero() {
            failed = failed.or(socket.set_tcp_user_timeout(Some(self.user_timeout)).err());
        }
        if let Some(error) = failed {
            tracing::debug!(%error, "socket option not set");
        }
    }
}
