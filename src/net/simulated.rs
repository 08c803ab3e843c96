//! Sockets without a kernel, for a whole pooler in virtual time: bytes arrive late, in pieces or not at all, as the dice
//! of a seed have it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

/// All chance there is in a simulation: the same from the same seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as the seed has it.
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(seed);
        dice.roll();
        dice
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// True once in so many times; never for zero.
    pub fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// One of them.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    /// Up to so many milliseconds.
    pub fn pause(&mut self, max_ms: u64) -> Duration {
        Duration::from_millis(self.below(max_ms + 1))
    }

    /// Other dice, for somebody who rolls at times of his own.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.roll())
    }
}

/// How a connection treats what is sent over it.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// How long bytes are under way at the least, in milliseconds.
    pub latency_ms: u64,
    /// How much longer it may be.
    pub jitter_ms: u64,
    /// One in so many pieces is cut once more; 0: none.
    pub splits: u64,
    /// One in so many pieces is late; 0: none.
    pub stalls: u64,
    /// By how much, in milliseconds.
    pub stall_ms: u64,
    /// So many bytes of one direction may be under way and unread.
    pub capacity: usize,
}

/// One direction of a connection.
struct Flow {
    weather: Weather,
    dice: Dice,
    pieces: VecDeque<(Instant, Bytes)>,
    len: usize,
    /// When the last piece arrives: nothing overtakes it.
    last_at: Instant,
    /// When the reader hears that there is no more.
    end_at: Option<Instant>,
    fate: Fate,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What has become of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    /// The reader has closed it. Its kernel has yet to say so.
    Closed,
    Reset,
}

impl Flow {
    fn new(weather: Weather, dice: Dice) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            weather,
            dice,
            pieces: VecDeque::new(),
            len: 0,
            last_at: Instant::now(),
            end_at: None,
            fate: Fate::Open,
            reader: None,
            writer: None,
        }))
    }

    fn arrival(&mut self) -> Instant {
        let Weather {
            latency_ms,
            jitter_ms,
            stalls,
            stall_ms,
            ..
        } = self.weather;
        let mut ms = latency_ms.max(1) + self.dice.below(jitter_ms + 1);
        if self.dice.one_in(stalls) {
            ms += self.dice.below(stall_ms + 1);
        }
        self.last_at = self.last_at.max(Instant::now() + Duration::from_millis(ms));
        self.last_at
    }

    /// Takes what there is room for; `None` if there is none.
    fn write(&mut self, bytes: &[u8]) -> Option<io::Result<usize>> {
        match self.fate {
            Fate::Reset => return Some(Err(io::ErrorKind::BrokenPipe.into())),
            Fate::Closed => {
                self.fate = Fate::Reset;
                return Some(Ok(bytes.len()));
            }
            Fate::Open => {}
        }
        let taken = bytes.len().min(self.weather.capacity - self.len);
        if taken == 0 && !bytes.is_empty() {
            return None;
        }
        let mut rest = Bytes::copy_from_slice(&bytes[..taken]);
        while !rest.is_empty() {
            let mut cut = rest.len();
            if self.dice.one_in(self.weather.splits) {
                cut = 1 + self.dice.below(cut as u64) as usize;
            }
            let piece = rest.split_to(cut);
            let at = self.arrival();
            self.pieces.push_back((at, piece));
        }
        self.len += taken;
        self.reader.take().into_iter().for_each(Waker::wake);
        Some(Ok(taken))
    }

    /// When there will be something to hear; `None`: nobody knows.
    fn due(&self) -> Option<Instant> {
        self.pieces.front().map(|(at, _)| *at).or(self.end_at)
    }

    fn read(&mut self, buffer: &mut BytesMut, mut room: usize) -> io::Result<usize> {
        let (now, before) = (Instant::now(), room);
        while let Some((at, piece)) = self.pieces.front_mut().filter(|_| room > 0) {
            if *at > now {
                break;
            }
            let n = room.min(piece.len());
            buffer.put_slice(&piece[..n]);
            piece.advance(n);
            room -= n;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        let read = before - room;
        self.len -= read;
        if read == 0 && self.fate == Fate::Reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.writer.take().into_iter().for_each(Waker::wake);
        Ok(read)
    }

    fn end(&mut self) {
        if self.end_at.is_none() {
            self.end_at = Some(self.arrival());
            self.wake();
        }
    }

    fn wake(&mut self) {
        let wakers = self.reader.take().into_iter().chain(self.writer.take());
        wakers.for_each(Waker::wake);
    }
}

/// Both directions of a connection, for whoever wants to do it harm.
#[derive(Clone)]
pub struct Link([Arc<Mutex<Flow>>; 2]);

impl Link {
    /// Breaks it: what has not arrived never will.
    pub fn reset(&self) {
        let now = Instant::now();
        for flow in &self.0 {
            let mut flow = flow.lock();
            flow.fate = Fate::Reset;
            flow.pieces.retain(|(at, _)| *at <= now);
            flow.len = flow.pieces.iter().map(|(_, piece)| piece.len()).sum();
            flow.wake();
        }
    }

    /// What is sent from now on arrives after this time at the earliest.
    pub fn hold(&self, time: Duration) {
        for flow in &self.0 {
            let mut flow = flow.lock();
            flow.last_at = flow.last_at.max(Instant::now() + time);
        }
    }
}

/// One end of a connection.
pub struct Socket {
    inbound: Arc<Mutex<Flow>>,
    outbound: Arc<Mutex<Flow>>,
    timer: Mutex<Option<Pin<Box<Sleep>>>>,
    local: SocketAddr,
    peer: SocketAddr,
    /// Whose number is that of the sockets that are open.
    _counted: Option<Arc<()>>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.outbound.lock().end();
        let mut inbound = self.inbound.lock();
        if inbound.fate == Fate::Open {
            inbound.fate = Fate::Closed;
        }
        inbound.wake();
    }
}

/// Two ends of a new connection; `counted` is held by the first of them.
pub fn pair(
    ends: [SocketAddr; 2],
    weather: Weather,
    dice: &mut Dice,
    counted: Option<Arc<()>>,
) -> (Socket, Socket) {
    let flows = [Flow::new(weather, dice.fork()), Flow::new(weather, dice.fork())];
    let end = |one: usize, counted| Socket {
        inbound: flows[one].clone(),
        outbound: flows[1 - one].clone(),
        timer: Mutex::new(None),
        local: ends[one],
        peer: ends[1 - one],
        _counted: counted,
    };
    (end(0, counted), end(1, None))
}

impl Socket {
    /// The address of the other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address of this end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The connection.
    pub fn link(&self) -> Link {
        Link([self.inbound.clone(), self.outbound.clone()])
    }

    /// Says that no more will be said.
    pub fn shutdown(&self) {
        self.outbound.lock().end();
    }

    /// Ready once there may be something to read, be it the end.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let due = {
            let mut flow = self.inbound.lock();
            let due = flow
                .due()
                .filter(|_| flow.fate != Fate::Reset || !flow.pieces.is_empty());
            if due.is_some_and(|at| at <= Instant::now()) || flow.fate == Fate::Reset {
                return Poll::Ready(Ok(()));
            }
            flow.reader = Some(cx.waker().clone());
            due
        };
        let Some(at) = due else { return Poll::Pending };
        let mut timer = self.timer.lock();
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at || timer.is_elapsed() {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).map(Ok)
    }

    /// Reads once what there is to the end of `buffer`, which has room; `Ok(0)` is the end.
    pub fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        self.inbound.lock().read(buffer, room)
    }

    /// Reads one byte; `Ok(0)` is the end.
    pub fn poll_read_byte(&self, cx: &mut Context<'_>, byte: &mut [u8; 1]) -> Poll<io::Result<usize>> {
        ready!(self.poll_readable(cx))?;
        let mut buffer = BytesMut::new();
        let read = self.inbound.lock().read(&mut buffer, 1)?;
        byte.iter_mut().zip(&buffer).for_each(|(to, from)| *to = *from);
        Poll::Ready(Ok(read))
    }

    /// Writes once.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut flow = self.outbound.lock();
        if let Some(written) = flow.write(bytes) {
            return Poll::Ready(written);
        }
        flow.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Writes what there is room for.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.outbound.lock().write(bytes);
        written.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// Reads what there is to the end of `buffer`, so many bytes at the most; `Ok(0)` is the end.
    pub async fn read(&self, buffer: &mut BytesMut, room: usize) -> io::Result<usize> {
        poll_fn(|cx| self.poll_readable(cx)).await?;
        self.inbound.lock().read(buffer, room)
    }

    /// Writes some of `buffer` and takes it off its front.
    pub async fn write(&self, buffer: &mut BytesMut) -> io::Result<()> {
        let written = poll_fn(|cx| self.poll_write(cx, buffer)).await?;
        buffer.advance(written);
        Ok(())
    }
}

/// A connection on its way.
type Connecting = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;
/// What knows all servers.
type Network = Box<dyn Fn(SocketAddr) -> Connecting>;

thread_local! {
    static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
}

/// From now on this thread connects to servers like this.
pub fn install(network: impl Fn(SocketAddr) -> Connecting + 'static) {
    NETWORK.with_borrow_mut(|there| *there = Some(Box::new(network)));
}

/// Connects, if this thread has a network of its own.
pub fn connect(address: SocketAddr) -> Option<Connecting> {
    NETWORK.with_borrow(|network| network.as_ref().map(|network| network(address)))
}
