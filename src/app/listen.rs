//! Sockets to accept clients on: TCP, a Unix socket, and those that systemd has opened for us.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::Settings;

/// A socket that clients connect to.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket, removed when dropped. `None` for one that systemd looks after.
pub(super) struct SocketFile(Option<PathBuf>);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(error) => error.fmt(f),
            },
            Self::Unix(_, SocketFile(Some(path))) => path.display().fmt(f),
            Self::Unix(_, SocketFile(None)) => f.write_str("unix socket of systemd"),
        }
    }
}

/// Opens every socket that the settings ask for; sockets passed by systemd take their place.
pub(super) fn listeners(settings: &Settings) -> Result<Vec<Listener>> {
    let passed = passed_by_systemd()?;
    if !passed.is_empty() {
        return Ok(passed);
    }
    let mut listeners = Vec::new();
    if settings.listen_port != 0 {
        for address in &settings.listen_addr {
            for address in resolve(address, settings.listen_port)? {
                let listener =
                    tcp(address, settings).with_context(|| format!("cannot listen on {address}"))?;
                listeners.push(Listener::Tcp(listener));
            }
        }
    }
    if !settings.unix_socket_dir.is_empty() {
        listeners.push(unix(settings)?);
    }
    if listeners.is_empty() {
        bail!("nothing to listen on: listen_addr and unix_socket_dir are both empty");
    }
    Ok(listeners)
}

fn resolve(address: &str, port: u16) -> Result<Vec<SocketAddr>> {
    if address == "*" {
        return Ok(vec![
            SocketAddr::from(([0, 0, 0, 0], port)),
            SocketAddr::from(([0; 16], port)),
        ]);
    }
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(bare, port));
    Ok(found
        .with_context(|| format!("listen_addr \"{address}\""))?
        .collect())
}

/// A listening TCP socket, for clients or for metrics.
pub(super) fn tcp(address: SocketAddr, settings: &Settings) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if settings.so_reuseport {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(settings.listen_backlog).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from_std(socket.into())?)
}

fn unix(settings: &Settings) -> Result<Listener> {
    let path = Path::new(&settings.unix_socket_dir).join(format!(".s.PGSQL.{}", settings.listen_port));
    let context = || format!("cannot listen on {}", path.display());
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            bail!("{}: another process is listening there", context());
        }
        fs::remove_file(&path).with_context(context)?;
    }
    let listener = UnixListener::bind(&path).with_context(context)?;
    let file = SocketFile(Some(path.clone()));
    fs::set_permissions(&path, fs::Permissions::from_mode(settings.unix_socket_mode))
        .with_context(context)?;
    if !settings.unix_socket_group.is_empty() {
        let group = group_id(&settings.unix_socket_group)?;
        std::os::unix::fs::chown(&path, None, Some(group)).with_context(context)?;
    }
    Ok(Listener::Unix(listener, file))
}

/// A group by name or number, from the system's group file.
fn group_id(group: &str) -> Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let file = fs::read_to_string("/etc/group").context("cannot read /etc/group")?;
    let found = file.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group))
            .then(|| fields.nth(1).and_then(|id| id.parse().ok()))
            .flatten()
    });
    found.with_context(|| format!("unix_socket_group \"{group}\" does not exist"))
}

fn passed_by_systemd() -> Result<Vec<Listener>> {
    let mut passed = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        let Some(raw) = passed.take_raw_fd(index)? else {
            continue;
        };
        listeners.push(from_descriptor(raw)?);
    }
    Ok(listeners)
}

/// A listening socket of either family, by its descriptor, which is ours from now on.
fn from_descriptor(raw: std::os::fd::RawFd) -> Result<Listener> {
    // The descriptor is reached through /proc, which duplicates it: taking ownership of a bare number is unsafe.
    let duplicate =
        rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
            .and_then(|me| rustix::process::pidfd_getfd(me, raw, rustix::process::PidfdGetfdFlags::empty()))
            .context("cannot take over a socket of systemd")?;
    let socket = Socket::from(duplicate);
    socket.set_nonblocking(true)?;
    if socket.local_addr()?.is_unix() {
        let listener = UnixListener::from_std(socket.into())?;
        Ok(Listener::Unix(listener, SocketFile(None)))
    } else {
        Ok(Listener::Tcp(TcpListener::from_std(socket.into())?))
    }
}
