//! One TLS session on a socket, by rustls's unbuffered interface: the buffers are ours, and an idle session has none.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::error::HandshakeError;
use super::info::TlsInfo;
use crate::net::socket::Socket;
use crate::wire::store::{self, CHUNK};

/// The most that is sealed at once, in two records which fit into one buffer of the store.
const SEALED_MAX: usize = 2 * RECORD_MAX;
const RECORD_MAX: usize = CHUNK - RECORD_OVERHEAD;
/// What a record is longer than its content at the most: header, nonce, type and tag, with room for a key update.
const RECORD_OVERHEAD: usize = 128;
/// Ciphertext that cannot be made sense of yet, in bytes. The longest handshake message that rustls takes is 64 kB; a peer
/// that cuts it into crumbs is not waited for.
const INCOMING_MAX: usize = 8 * CHUNK;

/// A TLS session, from the first byte of the handshake to `close_notify`.
pub(in crate::net) struct Session {
    side: Side,
    /// Ciphertext that has not been opened: nothing, or the beginning of a record.
    incoming: BytesMut,
    /// Whether `incoming` may hold more than that.
    is_fresh: bool,
    /// What was opened before somebody asked for it.
    opened: BytesMut,
    /// Ciphertext that has not been written.
    outgoing: BytesMut,
    /// So many bytes at the front of the caller's buffer are in `outgoing`.
    sealed: usize,
    phase: Phase,
    /// The hash of our own certificate, towards clients.
    end_point: Option<Arc<[u8]>>,
    info: Option<Arc<TlsInfo>>,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// ```text
/// Handshake ─→ Open ─→ Closed
///     └──────────┴───→ Broken
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// → `Open`, `Broken`
    Handshake,
    /// → `Closed` by the peer's `close_notify`, `Broken`
    Open,
    /// Nothing more comes from the peer; it may still read.
    Closed,
    /// Nothing more can be read or written.
    Broken,
}

/// What is to be put under seal when the session allows it.
#[derive(Clone, Copy)]
enum Wish<'a> {
    Nothing,
    Seal(&'a [u8]),
    Goodbye,
}

/// Where the session stands once everything that had come has been dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// More of the handshake has to come.
    Blocked,
    /// The wish is fulfilled.
    Ready,
    /// Nothing can be sealed any more.
    Over,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("phase", &self.phase)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Towards a client, of whose side of the handshake `begun` has been read already.
    pub(super) fn server(
        connection: UnbufferedServerConnection,
        begun: BytesMut,
        end_point: Option<Arc<[u8]>>,
    ) -> Self {
        Self::new(Side::Server(connection), begun, end_point)
    }

    /// Towards a server.
    pub(super) fn client(connection: UnbufferedClientConnection) -> Self {
        Self::new(Side::Client(connection), BytesMut::new(), None)
    }

    fn new(side: Side, incoming: BytesMut, end_point: Option<Arc<[u8]>>) -> Self {
        Self {
            side,
            incoming,
            is_fresh: true,
            opened: BytesMut::new(),
            outgoing: BytesMut::new(),
            sealed: 0,
            phase: Phase::Handshake,
            end_point,
            info: None,
        }
    }

    /// What is known of it, once the handshake is over.
    pub(in crate::net) fn info(&self) -> Option<&Arc<TlsInfo>> {
        self.info.as_ref()
    }

    /// The memory that its buffers hold, in bytes.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.incoming.capacity() + self.opened.capacity() + self.outgoing.capacity()
    }

    fn state(&self) -> &CommonState {
        match &self.side {
            Side::Client(connection) => connection,
            Side::Server(connection) => connection,
        }
    }

    /// Goes through the handshake.
    pub(in crate::net) async fn shake_hands(&mut self, socket: &mut Socket) -> Result<(), HandshakeError> {
        let result = std::future::poll_fn(|cx| self.poll_handshake(socket, cx)).await;
        let result =
            result.and_then(|()| TlsInfo::of(self.state(), self.end_point.as_deref(), self.is_client()));
        match result {
            Ok(info) => {
                if self.phase == Phase::Handshake {
                    self.phase = Phase::Open;
                }
                self.info = Some(Arc::new(info));
                Ok(())
            }
            Err(error) => {
                self.give_up(socket);
                Err(error)
            }
        }
    }

    fn is_client(&self) -> bool {
        matches!(self.side, Side::Client(_))
    }

    fn poll_handshake(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), HandshakeError>> {
        loop {
            self.run(Wish::Nothing)?;
            ready!(self.poll_flush(socket, cx))?;
            if !self.state().is_handshaking() {
                store::give_back(&mut self.incoming);
                return Poll::Ready(Ok(()));
            }
            if self.phase == Phase::Closed || ready!(self.poll_read(socket, cx))? == 0 {
                return Poll::Ready(Err(HandshakeError::Closed));
            }
        }
    }

    /// Reads plaintext to the end of `buffer`; `Ok(0)` is the end.
    pub(in crate::net) fn poll_fill(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.is_fresh && matches!(self.phase, Phase::Open | Phase::Closed) {
                self.open(socket)?;
            }
            if !self.opened.is_empty() {
                return Poll::Ready(Ok(self.hand_over(buffer)));
            }
            // What is there now are answers to the peer's key updates, or what the caller is about to write anyway.
            let _ = self.poll_flush(socket, cx)?;
            match self.phase {
                Phase::Open => {}
                Phase::Closed => return Poll::Ready(Ok(0)),
                Phase::Handshake | Phase::Broken => return Poll::Ready(Err(broken())),
            }
            match self.poll_read(socket, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(0)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    store::give_back(&mut self.incoming);
                    store::give_back(buffer);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Opens what has come.
    fn open(&mut self, socket: &Socket) -> io::Result<()> {
        let result = self.run(Wish::Nothing).map(drop);
        store::give_back(&mut self.incoming);
        result.map_err(|error| {
            self.give_up(socket);
            io::Error::new(io::ErrorKind::InvalidData, error.to_string())
        })
    }

    fn hand_over(&mut self, buffer: &mut BytesMut) -> usize {
        let len = self.opened.len();
        if buffer.is_empty() {
            store::give_back(buffer);
            *buffer = std::mem::take(&mut self.opened);
        } else {
            buffer.extend_from_slice(&self.opened);
            self.opened.clear();
            store::give_back(&mut self.opened);
        }
        len
    }

    fn poll_read(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.incoming.len() > INCOMING_MAX {
            let error = "the peer's TLS message is too long";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        let read = ready!(socket.poll_read(cx, &mut self.incoming))?;
        self.is_fresh = true;
        Poll::Ready(Ok(read))
    }

    /// Writes all of `buffer`. What has been sealed stays at its front until it is written.
    pub(in crate::net) fn poll_drain(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(socket, cx))?;
            buffer.advance(std::mem::take(&mut self.sealed).min(buffer.len()));
            if buffer.is_empty() {
                store::give_back(buffer);
                return Poll::Ready(Ok(()));
            }
            let part = buffer.get(..SEALED_MAX).unwrap_or(buffer);
            self.seal(part)?;
            self.sealed = part.len();
        }
    }

    /// Puts `bytes` into `outgoing`, in records that each fit into a chunk.
    fn seal(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(RECORD_MAX) {
            if !matches!(self.phase, Phase::Open | Phase::Closed) {
                return Err(broken());
            }
            match self.run(Wish::Seal(part)) {
                Ok(Progress::Ready) => {}
                Ok(Progress::Blocked | Progress::Over) => return Err(broken()),
                Err(error) => {
                    self.phase = Phase::Broken;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
        Ok(())
    }

    fn poll_flush(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let written = ready!(socket.poll_write(cx, &self.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(written);
        }
        store::give_back(&mut self.outgoing);
        Poll::Ready(Ok(()))
    }

    /// Writes a few bytes if the kernel takes them at once; not in the middle of something else.
    pub(in crate::net) fn try_write(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        if !self.outgoing.is_empty() || self.sealed > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.seal(bytes)?;
        let written = socket.try_write(&self.outgoing);
        let is_whole = written
            .as_ref()
            .is_ok_and(|written| *written == self.outgoing.len());
        self.outgoing.clear();
        if !is_whole {
            // Half a record cannot be followed by another one.
            self.phase = Phase::Broken;
        }
        written.map(|_| bytes.len())
    }

    /// Sends `close_notify` if that is possible at once.
    pub(in crate::net) fn say_goodbye(&mut self, socket: &Socket) {
        let is_open = matches!(self.phase, Phase::Open | Phase::Closed);
        if is_open && self.outgoing.is_empty() && self.run(Wish::Goodbye).is_ok() {
            let _ = socket.try_write(&self.outgoing);
        }
        self.phase = Phase::Broken;
    }

    /// Tells the peer why, if that is possible at once; nothing can be read or written from now on.
    fn give_up(&mut self, socket: &Socket) {
        // Only alerts are taken out: a machine that has failed must not be shown again what it failed over.
        while self.state().wants_write() && self.advance(Wish::Nothing).is_ok() {}
        if !self.outgoing.is_empty() {
            let _ = socket.try_write(&self.outgoing);
        }
        self.outgoing.clear();
        self.phase = Phase::Broken;
    }

    /// Deals with all that has come, then with the wish. After an error only [`give_up`](Self::give_up) is left to do.
    fn run(&mut self, wish: Wish<'_>) -> Result<Progress, rustls::Error> {
        loop {
            match self.advance(wish)? {
                Step::Again => {}
                Step::PeerClosed => self.phase = Phase::Closed,
                Step::Stop(progress) => {
                    self.is_fresh = false;
                    return Ok(progress);
                }
            }
        }
    }

    fn advance(&mut self, wish: Wish<'_>) -> Result<Step, rustls::Error> {
        // The machine counts from the front of what it has not made sense of, so it always gets all of it.
        let incoming = &mut self.incoming[..];
        let (opened, outgoing) = (&mut self.opened, &mut self.outgoing);
        let (discard, step) = match &mut self.side {
            Side::Client(connection) => {
                step(connection.process_tls_records(incoming), opened, outgoing, wish)
            }
            Side::Server(connection) => {
                step(connection.process_tls_records(incoming), opened, outgoing, wish)
            }
        };
        self.incoming.advance(discard.min(self.incoming.len()));
        step
    }
}

/// What one step of the machine led to.
enum Step {
    Again,
    PeerClosed,
    Stop(Progress),
}

fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    opened: &mut BytesMut,
    outgoing: &mut BytesMut,
    wish: Wish<'_>,
) -> (usize, Result<Step, rustls::Error>) {
    let mut discard = status.discard;
    let step = status.state.and_then(|state| {
        Ok(match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    if !record.payload.is_empty() {
                        store::make_room(opened);
                        opened.extend_from_slice(record.payload);
                    }
                }
                Step::Again
            }
            ConnectionState::EncodeTlsData(mut message) => {
                append(outgoing, 0, |out| {
                    message.encode(out).map_err(|error| room_to_encode(&error))
                })?;
                Step::Again
            }
            ConnectionState::TransmitTlsData(transmission) => {
                // `outgoing` keeps the order: what comes later is written later.
                transmission.done();
                Step::Again
            }
            ConnectionState::WriteTraffic(mut traffic) => {
                match wish {
                    Wish::Nothing => {}
                    Wish::Seal(bytes) => append(outgoing, bytes.len() + RECORD_OVERHEAD, |out| {
                        traffic
                            .encrypt(bytes, out)
                            .map_err(|error| room_to_encrypt(&error))
                    })?,
                    Wish::Goodbye => append(outgoing, RECORD_OVERHEAD, |out| {
                        traffic
                            .queue_close_notify(out)
                            .map_err(|error| room_to_encrypt(&error))
                    })?,
                }
                Step::Stop(Progress::Ready)
            }
            ConnectionState::BlockedHandshake => Step::Stop(Progress::Blocked),
            ConnectionState::PeerClosed => Step::PeerClosed,
            // Early data is never on offer.
            _ => Step::Stop(Progress::Over),
        })
    });
    (discard, step)
}

/// Appends what `write` puts into the slice that it is given; it says how much that is, or how much room it needs.
fn append(
    outgoing: &mut BytesMut,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), rustls::Error> {
    let before = outgoing.len();
    let mut room = room;
    loop {
        if outgoing.capacity() == 0 {
            store::make_room(outgoing);
        }
        outgoing.resize(before + room, 0);
        match write(&mut outgoing[before..]) {
            Ok(written) => {
                outgoing.truncate(before + written);
                return Ok(());
            }
            Err(Some(required)) if required > room => room = required,
            Err(_) => {
                outgoing.truncate(before);
                return Err(rustls::Error::EncryptError);
            }
        }
    }
}

fn room_to_encode(error: &EncodeError) -> Option<usize> {
    match error {
        EncodeError::InsufficientSize(size) => Some(size.required_size),
        EncodeError::AlreadyEncoded => None,
    }
}

fn room_to_encrypt(error: &EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "TLS is not established")
}
