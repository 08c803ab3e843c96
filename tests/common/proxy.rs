//! A bad network: a TCP proxy that cuts, delays, stalls and corrupts what passes, at a point that is chosen for each
//! connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use rustix::net::connect_unspec;

use super::Target;
use super::dice::Dice;

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// Both sides are closed, as by an orderly shutdown.
    Cut,
    /// Both sides are reset.
    Reset,
    /// Nothing passes any more in either direction, and nobody is told: the peer's machine is off.
    Stall,
    /// This direction ends; the other goes on.
    HalfClose,
    /// A bit is flipped.
    Corrupt,
    /// From here on each read's bytes are late by this long.
    Delay(Duration),
    /// From here on bytes come one by one, this far apart.
    Trickle(Duration),
}

/// Where the bytes go that are in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// From the client to the server.
    Server,
    /// From the server to the client.
    Client,
}

/// What happens to a connection, and where.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// What.
    pub trouble: Trouble,
    /// To the bytes that go there.
    pub towards: Towards,
    /// After so many of them.
    pub after: u64,
}

impl Fate {
    /// An ordinary connection.
    pub const FINE: Self = Self {
        trouble: Trouble::None,
        towards: Towards::Server,
        after: 0,
    };

    /// One of these troubles somewhere in the first 64 kB of a connection, rather early than late.
    pub fn draw(dice: &mut Dice, troubles: &[Trouble]) -> Self {
        let towards = *dice.pick(&[Towards::Server, Towards::Client]);
        let magnitude = 6 + dice.below(11);
        Self {
            trouble: *dice.pick(troubles),
            towards,
            after: dice.below(1 << magnitude),
        }
    }
}

type Draw = dyn FnMut(u64) -> Fate + Send;

/// A proxy that runs until it is dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    to: Target,
    draw: Mutex<Box<Draw>>,
    /// Whether new connections and those that stall are let alone.
    calm: AtomicBool,
    /// Whether nothing passes at all.
    held: AtomicBool,
    over: AtomicBool,
    connections: AtomicU64,
    open: Mutex<Vec<Weak<Link>>>,
}

/// A connection through the proxy.
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// Whether nothing passes any more, in either direction.
    stalled: AtomicBool,
    /// It is closed after so many more bytes to the client.
    left: AtomicU64,
}

impl Link {
    fn close(&self) {
        self.client.shutdown(Shutdown::Both).ok();
        self.server.shutdown(Shutdown::Both).ok();
    }

    /// A socket that forgets whom it is connected to tells its peer so.
    fn reset(&self) {
        connect_unspec(&self.client).ok();
        connect_unspec(&self.server).ok();
    }
}

impl Proxy {
    /// A proxy before `to`; `draw` says what becomes of each connection, by its number.
    pub fn before(to: Target, draw: impl FnMut(u64) -> Fate + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            to,
            draw: Mutex::new(Box::new(draw)),
            calm: AtomicBool::new(false),
            held: AtomicBool::new(false),
            over: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            open: Mutex::new(Vec::new()),
        });
        let proxy = Self {
            port,
            shared: shared.clone(),
        };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                shared.clone().carry(client);
            }
        });
        proxy
    }

    /// Draws a trouble for every connection from a seed.
    pub fn seeded(to: Target, seed: u64, troubles: &'static [Trouble]) -> Self {
        let mut dice = Dice::new(seed);
        Self::before(to, move |_| Fate::draw(&mut dice, troubles))
    }

    /// Where it listens.
    pub fn target(&self) -> Target {
        Target { port: self.port }
    }

    /// Connections that were made so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// No more trouble: all connections are closed, and new ones are ordinary.
    pub fn calm(&self) {
        self.shared.calm.store(true, Ordering::Relaxed);
        self.shared.held.store(false, Ordering::Relaxed);
        self.cut();
    }

    /// Closes every connection.
    pub fn cut(&self) {
        for link in self.shared.open.lock().expect("no panic inside").drain(..) {
            if let Some(link) = link.upgrade() {
                link.close();
            }
        }
    }

    /// Closes every connection that there is now after so many more bytes to its client.
    pub fn cut_after(&self, bytes: u64) {
        for link in self.shared.open.lock().expect("no panic inside").iter() {
            if let Some(link) = link.upgrade() {
                link.left.store(bytes, Ordering::Relaxed);
            }
        }
    }

    /// Lets nothing pass, or lets all pass again that has come meanwhile.
    pub fn hold(&self, held: bool) {
        self.shared.held.store(held, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.calm();
        TcpStream::connect(self.target().addr()).ok();
    }
}

impl Shared {
    fn carry(self: Arc<Self>, client: TcpStream) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let fate = if self.calm.load(Ordering::Relaxed) {
            Fate::FINE
        } else {
            (self.draw.lock().expect("no panic inside"))(number)
        };
        let Ok(server) = TcpStream::connect(self.to.addr()) else {
            return;
        };
        for stream in [&client, &server] {
            stream.set_nodelay(true).ok();
        }
        let link = Arc::new(Link {
            client,
            server,
            stalled: AtomicBool::new(false),
            left: AtomicU64::new(u64::MAX),
        });
        let mut open = self.open.lock().expect("no panic inside");
        open.retain(|link| link.strong_count() > 0);
        open.push(Arc::downgrade(&link));
        drop(open);
        for towards in [Towards::Server, Towards::Client] {
            let mut way = Way {
                shared: self.clone(),
                link: link.clone(),
                towards,
                trouble: if fate.towards == towards {
                    fate.trouble
                } else {
                    Trouble::None
                },
                left: fate.after,
            };
            thread::spawn(move || way.run());
        }
    }
}

/// One direction of a connection.
struct Way {
    shared: Arc<Shared>,
    link: Arc<Link>,
    towards: Towards,
    trouble: Trouble,
    /// Bytes until then.
    left: u64,
}

impl Way {
    fn run(&mut self) {
        let mut buffer = [0; 16384];
        loop {
            let count = match self.ends().0.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            self.wait();
            if self.pass(&mut buffer[..count]).is_none() {
                break;
            }
        }
        // The other way goes on until its own end comes.
        self.wait();
        let (from, to) = self.ends();
        to.shutdown(Shutdown::Write).ok();
        from.shutdown(Shutdown::Read).ok();
    }

    /// Where bytes come from, and where they go.
    fn ends(&self) -> (&TcpStream, &TcpStream) {
        match self.towards {
            Towards::Server => (&self.link.client, &self.link.server),
            Towards::Client => (&self.link.server, &self.link.client),
        }
    }

    fn calm(&self) -> bool {
        self.shared.calm.load(Ordering::Relaxed)
    }

    /// Does not return while nothing may pass.
    fn wait(&self) {
        let stalled = || self.link.stalled.load(Ordering::Relaxed) && !self.calm();
        while stalled() || self.shared.held.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn write(&self, bytes: &[u8]) -> Option<()> {
        let left = self.link.left.load(Ordering::Relaxed);
        if self.towards == Towards::Server || left == u64::MAX {
            return self.ends().1.write_all(bytes).ok();
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        self.ends().1.write_all(&bytes[..count]).ok()?;
        self.link.left.fetch_sub(count as u64, Ordering::Relaxed);
        if count < bytes.len() {
            self.link.close();
            return None;
        }
        Some(())
    }

    /// Nothing when this direction has come to its end.
    fn pass(&mut self, bytes: &mut [u8]) -> Option<()> {
        let before = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= u64::try_from(before).expect("a small number");
        let (good, rest) = bytes.split_at_mut(before);
        self.write(good)?;
        if rest.is_empty() {
            return Some(());
        }
        match self.trouble {
            Trouble::None => {}
            Trouble::Cut => self.link.close(),
            Trouble::Reset => self.link.reset(),
            Trouble::HalfClose => return None,
            Trouble::Stall => {
                self.link.stalled.store(true, Ordering::Relaxed);
                self.wait();
            }
            Trouble::Corrupt => {
                rest[0] ^= 1 << (before % 8);
                self.trouble = Trouble::None;
            }
            Trouble::Delay(time) => thread::sleep(time),
            Trouble::Trickle(pause) => return self.trickle(rest, pause),
        }
        self.write(rest)
    }

    fn trickle(&self, bytes: &[u8], pause: Duration) -> Option<()> {
        for byte in bytes {
            self.wait();
            self.write(&[*byte])?;
            if !self.calm() {
                thread::sleep(pause);
            }
        }
        Some(())
    }
}
