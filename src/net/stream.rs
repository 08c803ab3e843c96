//! The stream that a session runs over.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::net::{TcpStream, UnixStream};

use super::socket::{PeerAddr, Socket};
use super::tls::{Acceptor, Connector, HandshakeError, ServerName, Session, TlsInfo};
use crate::wire::store;

/// A connected socket of either family, as it is or with TLS on it.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// In a box, so that plain streams stay small.
    tls: Option<Box<Session>>,
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self {
            socket: Socket::Tcp(stream),
            tls: None,
        }
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self {
            socket: Socket::Unix(stream),
            tls: None,
        }
    }
}

#[cfg(test)]
impl From<super::simulated::Socket> for Stream {
    fn from(socket: super::simulated::Socket) -> Self {
        Self {
            socket: Socket::Simulated(socket),
            tls: None,
        }
    }
}

impl Stream {
    /// The address of the other end.
    pub fn peer(&self) -> PeerAddr {
        self.socket.peer()
    }

    /// The address of this end.
    pub fn local(&self) -> PeerAddr {
        self.socket.local()
    }

    /// Whether it is a Unix socket, where TLS is neither used nor missed.
    pub fn is_unix(&self) -> bool {
        matches!(self.socket, Socket::Unix(_))
    }

    /// The user of this machine who has connected by a Unix socket, as the kernel knows it.
    pub fn peer_uid(&self) -> Option<u32> {
        self.socket.peer_uid()
    }

    /// What is known of its TLS session; `None` before the end of the handshake and without TLS.
    pub fn tls(&self) -> Option<&Arc<TlsInfo>> {
        self.tls.as_ref()?.info()
    }

    #[cfg(test)]
    pub(super) fn session(&self) -> Option<&Session> {
        self.tls.as_deref()
    }

    /// Begins TLS as the side that was connected to. `begun` are bytes of the handshake that have been read already.
    ///
    /// Cancel-safe in that the stream is of no use afterwards: nothing can be read from it or written to it.
    pub async fn accept_tls(&mut self, acceptor: &Acceptor, begun: BytesMut) -> Result<(), HandshakeError> {
        let tls = self.tls.insert(Box::new(acceptor.session(begun)?));
        tls.shake_hands(&mut self.socket).await
    }

    /// Begins TLS as the side that connected, to a server that is called `name`.
    pub async fn connect_tls(
        &mut self,
        connector: &Connector,
        name: ServerName<'static>,
    ) -> Result<(), HandshakeError> {
        let tls = self.tls.insert(Box::new(connector.session(name)?));
        tls.shake_hands(&mut self.socket).await
    }

    /// Whether certainly nothing can be read from it now, not even its end. Costs next to nothing.
    pub fn is_silent(&self) -> bool {
        self.tls.is_none() && self.socket.is_silent()
    }

    /// Reads once to the end of `buffer`, which gets memory only when there is something to read; `Ok(0)` is the end.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        if let Some(tls) = &mut self.tls {
            return tls.poll_fill(&mut self.socket, cx, buffer);
        }
        let read = self.socket.poll_read(cx, buffer);
        store::give_back(buffer);
        read
    }

    /// Writes all of `buffer`; ready when nothing is left of it. Until then bytes may be added to its end, and those at
    /// its front belong to the stream: some may have gone out already.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            return tls.poll_drain(&mut self.socket, cx, buffer);
        }
        // Nearly always the kernel takes it all, and nobody has to be told when it would take more. Not so much as nothing
        // is written without need: a connection whose end has not been read yet would fail by that.
        if !buffer.is_empty() {
            match self.socket.try_write(buffer) {
                Ok(written) => buffer.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        while !buffer.is_empty() {
            let written = ready!(self.socket.poll_write(cx, buffer))?;
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

    /// Reads exactly one byte and leaves all else where it is: what follows an answer to `SSLRequest` must not be taken
    /// for something that was said under TLS (CVE-2021-23222). `None` is the end.
    pub async fn read_byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        std::future::poll_fn(|cx| self.socket.poll_read_byte(cx, &mut byte))
            .await
            .map(|read| (read > 0).then_some(byte[0]))
    }

    /// Writes what the kernel takes at once, for a farewell that nobody waits for.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.try_write(&self.socket, bytes),
            None => self.socket.try_write(bytes),
        }
    }
}

impl Drop for Stream {
    /// Ends TLS in good order (`close_notify`), as far as that is possible without waiting.
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye(&self.socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// What has been read before is still to be told to a client whose server has gone.
    #[tokio::test]
    async fn a_connection_that_was_reset_does_not_fail_for_a_write_of_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let mut near = Stream::from(near.expect("it connects"));
        let far = socket2::Socket::from(far.expect("it is there").0.into_std().expect("a socket"));
        far.set_linger(Some(std::time::Duration::ZERO))
            .expect("an option");
        drop(far);
        near.drain(&mut BytesMut::new())
            .await
            .expect("there was nothing to write");
        let mut input = BytesMut::new();
        near.fill(&mut input).await.expect_err("it has been reset");
    }
}
