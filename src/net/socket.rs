//! A connected socket of either family.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::wire::store;

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

    /// Ready once there may be something to read, be it the end.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            #[cfg(test)]
            Self::Simulated(socket) => socket.poll_readable(cx),
        }
    }

    /// Whether the runtime knows that there is nothing to read.
    pub(super) fn is_silent(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_err(),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_err(),
            #[cfg(test)]
            Self::Simulated(_) => false,
        }
    }

    /// Reads once to the end of `buffer`, which gets room when there is something to read; `Ok(0)` is the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx))?;
            store::make_room(buffer);
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        let mut read = Err(io::ErrorKind::WouldBlock.into());
        let _ = match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || {
                read = stream.try_read_buf(buffer);
                goes_on(&read, room)
            }),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || {
                read = stream.try_read_buf(buffer);
                goes_on(&read, room)
            }),
            #[cfg(test)]
            Self::Simulated(socket) => return socket.try_read(buffer),
        };
        read
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

/// Whether a socket may have more to read, as the runtime wants to hear it: if not, that it would block. A read that
/// brings less than there was room for has emptied it; without a word of that, the next one would be a system call for
/// nothing.
fn goes_on(read: &io::Result<usize>, room: usize) -> io::Result<()> {
    match read {
        Ok(n) if (1..room).contains(n) => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}
