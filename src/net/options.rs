//! Socket options that decide how soon a dead peer is noticed.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

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
    /// Those of a socket as it is.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let socket = SockRef::from(socket);
        Ok(Self {
            enabled: socket.keepalive()?,
            idle: socket.tcp_keepalive_time()?,
            interval: socket.tcp_keepalive_interval()?,
            count: socket.tcp_keepalive_retries()?,
            user_timeout: socket.tcp_user_timeout()?.unwrap_or_default(),
        })
    }

    /// The same, and where that leaves something as it is, what another socket has.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let or = |ours: Duration, others| if ours.is_zero() { others } else { ours };
        Self {
            enabled: self.enabled || other.enabled,
            idle: or(self.idle, other.idle),
            interval: or(self.interval, other.interval),
            count: if self.count == 0 { other.count } else { self.count },
            user_timeout: or(self.user_timeout, other.user_timeout),
        }
    }

    /// Sets them, and `TCP_NODELAY`, on a connection, or on a listening socket for those that will come to it. A kernel
    /// that does not know an option is no reason to fail.
    pub fn apply(&self, socket: &impl AsFd) {
        let socket = SockRef::from(socket);
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
        } else {
            failed = failed.or(socket.set_keepalive(false).err());
        }
        failed = failed.or(socket.set_tcp_user_timeout(Some(self.user_timeout)).err());
        if let Some(error) = failed {
            tracing::debug!(%error, "socket option not set");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn connections_have_what_their_listener_has_been_given_last() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = Keepalive::of(&listener).unwrap();
        let some = Keepalive {
            enabled: true,
            idle: Duration::from_secs(11),
            interval: Duration::from_secs(7),
            count: 3,
            user_timeout: Duration::from_secs(5),
        };
        let none = Keepalive {
            enabled: false,
            idle: Duration::ZERO,
            interval: Duration::ZERO,
            count: 0,
            user_timeout: Duration::ZERO,
        };
        for wanted in [some, none.or(&own)] {
            wanted.apply(&listener);
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert!(accepted.nodelay().unwrap());
            let has = Keepalive::of(&accepted).unwrap();
            assert_eq!(
                (has.enabled, has.user_timeout),
                (wanted.enabled, wanted.user_timeout)
            );
            if wanted.enabled {
                assert_eq!(has, wanted);
            }
        }
    }
}
