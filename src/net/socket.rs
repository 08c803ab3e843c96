//! A connected socket of either family.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::io::poll_read_buf;

/// A connected socket of either family.
#[derive(Debug)]
pub(super) enum Socket {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpStream),
    /// A Unix-domain socket.
    Unix(UnixStream),
    /// One that no kernel knows of.
    #[cfg(test)]
    Simulated(super::simulated::Socket),
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddr {
    /// Address and port.
    Tcp(SocketAddr),
    /// A Unix-domain socket; the peer has no address.
    Unix,
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl Socket {
    pub(super) fn peer(&self) -> PeerAddr {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map_or(PeerAddr::Unix, PeerAddr::Tcp),
            Self::Unix(_) => PeerAddr::Unix,
            #[cfg(test)]
            Self::Simulated(socket) => PeerAddr::Tcp(socket.peer()),
        }
    }

    pub(super) fn local(&self) -> PeerAddr {
        match self {
            Self::Tcp(stream) => stream.local_addr().map_or(PeerAddr::Unix, PeerAddr::Tcp),
            Self::Unix(_) => PeerAddr::Unix,
            #[cfg(test)]
            Self::Simulated(socket) => PeerAddr::Tcp(socket.local()),
        }
    }

    pub(super) fn peer_uid(&self) -> Option<u32> {
        match self {
            Self::Tcp(_) => None,
            #[cfg(test)]
            Self::Simulated(_) => None,
            Self::Unix(stream) => stream.peer_cred().ok().map(|credentials| credentials.uid()),
        }
    }

    /// Ready once there may be something to read, be it the end. Needs no buffer.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            #[cfg(test)]
            Self::Simulated(socket) => socket.poll_readable(cx),
        }
    }

    /// Reads once to the end of `buffer`, which has room; `Ok(0)` is the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => poll_read_buf(Pin::new(stream), cx, buffer),
            Self::Unix(stream) => poll_read_buf(Pin::new(stream), cx, buffer),
            #[cfg(test)]
            Self::Simulated(socket) => socket.poll_read(cx, buffer),
        }
    }

    /// Reads one byte into `byte`; `Ok(0)` is the end.
    pub(super) fn poll_read_byte(
        &mut self,
        cx: &mut Context<'_>,
        byte: &mut [u8; 1],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(byte);
        ready!(match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            #[cfg(test)]
            Self::Simulated(socket) => return socket.poll_read_byte(cx, byte),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Writes once.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(test)]
            Self::Simulated(socket) => socket.poll_write(cx, bytes),
        }
    }

    /// Writes what the kernel takes at once.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
            #[cfg(test)]
            Self::Simulated(socket) => socket.try_write(bytes),
        }
    }
}
