//! The stream that a session runs over.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::wire::store;

/// A connected socket of either family.
#[derive(Debug)]
pub enum Stream {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpStream),
    /// A Unix-domain socket.
    Unix(UnixStream),
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

impl Stream {
    /// The address of the other end.
    pub fn peer(&self) -> PeerAddr {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map_or(PeerAddr::Unix, PeerAddr::Tcp),
            Self::Unix(_) => PeerAddr::Unix,
        }
    }

    /// The address of this end.
    pub fn local(&self) -> PeerAddr {
        match self {
            Self::Tcp(stream) => stream.local_addr().map_or(PeerAddr::Unix, PeerAddr::Tcp),
            Self::Unix(_) => PeerAddr::Unix,
        }
    }

    /// Ready once there may be something to read, be it the end. Needs no buffer.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Reads once to the end of `buffer`, which gets memory only when there is something to read; `Ok(0)` is the end.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        if buffer.is_empty() && self.poll_readable(cx)?.is_pending() {
            store::give_back(buffer);
            return Poll::Pending;
        }
        store::make_room(buffer);
        let read = tokio_util::io::poll_read_buf(Pin::new(self), cx, buffer);
        if buffer.is_empty() {
            store::give_back(buffer);
        }
        read
    }

    /// Writes all of `buffer`; ready when nothing is left of it.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<()>> {
        while !buffer.is_empty() {
            let written = ready!(Pin::new(&mut *self).poll_write(cx, buffer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            buffer.advance(written);
        }
        store::give_back(buffer);
        Poll::Ready(Ok(()))
    }

    /// Reads once to the end of `buffer`; `Ok(0)` is the end.
    pub async fn fill(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx, buffer)).await
    }

    /// Writes all of `buffer`.
    pub async fn drain(&mut self, buffer: &mut BytesMut) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_drain(cx, buffer)).await
    }

    /// Writes what the kernel takes at once, for a farewell that nobody waits for.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
