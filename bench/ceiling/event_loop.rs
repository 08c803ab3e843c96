//! One thread that waits for all sockets, the server's and the clients'.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use crate::asking::{Client, Load, Step, startup};
use crate::protocol::message;
use crate::serving::Server;

/// Numbers of what is no connection; those count from 0.
const LISTENER: u64 = u64::MAX;
const INPUT: u64 = LISTENER - 1;
const EVENTS_MAX: usize = 256;
const BUFFER_LEN: usize = 16 * 1024;
const LOGIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long clients ask before it counts.
const WARMING: Duration = Duration::from_millis(300);

enum Side {
    Server(Server),
    Client(Client),
}

struct Connection {
    stream: TcpStream,
    side: Side,
    /// The beginning of a message whose end has not come.
    partial: Vec<u8>,
}

/// What has been seen since the clients began to ask.
#[derive(Default)]
struct Seen {
    /// Clients that have logged in.
    asking: usize,
    latencies_us: Vec<u32>,
}

/// All sockets, and what they are waited for with.
pub(crate) struct EventLoop {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    events: Vec<epoll::Event>,
    seen: Seen,
}

impl EventLoop {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            connections: Vec::new(),
            events: Vec::with_capacity(EVENTS_MAX),
            seen: Seen::default(),
        })
    }

    /// Where the server listens.
    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Is the server until there is something to read, a line at a time.
    pub(crate) fn serve_until_readable(&mut self, input: impl AsFd) -> anyhow::Result<()> {
        epoll::add(&self.epoll, &input, EventData::new_u64(INPUT), EventFlags::IN)?;
        while !self.events.iter().any(|event| event.data.u64() == INPUT) {
            self.turn(&[])?;
        }
        self.events.clear();
        Ok(epoll::delete(&self.epoll, &input)?)
    }

    /// Lets the clients of `load` in, warms them up, counts, prints, and lets them go.
    pub(crate) fn run(&mut self, load: &Load) -> anyhow::Result<()> {
        let transaction = load.mode.transaction();
        self.seen = Seen::default();
        for _ in 0..load.clients {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, load.port)).context("the pooler")?;
            stream.write_all(&startup())?;
            self.add(stream, Side::Client(Client::new(load.mode)))?;
        }
        let deadline = Instant::now() + LOGIN_TIMEOUT;
        while self.seen.asking < load.clients {
            anyhow::ensure!(Instant::now() < deadline, "the clients cannot log in");
            self.turn(&transaction)?;
        }
        self.turn_until(Instant::now() + WARMING, &transaction)?;
        self.seen.latencies_us.clear();
        println!("begin");
        let begun = Instant::now();
        self.turn_until(begun + load.duration, &transaction)?;
        report(&mut self.seen.latencies_us, begun.elapsed());
        self.leave(load.clients)
    }

    /// Lets the clients have their last answers, says goodbye for them, and hears what the pooler makes of it.
    fn leave(&mut self, clients: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + LOGIN_TIMEOUT;
        self.seen.latencies_us.clear();
        while self.seen.latencies_us.len() < clients && Instant::now() < deadline {
            self.turn(&[])?;
        }
        let mut goodbye = Vec::new();
        message(&mut goodbye, b'X', b"");
        for slot in &mut self.connections {
            if let Some(mut client) = slot.take_if(|connection| matches!(connection.side, Side::Client(_))) {
                client.stream.write_all(&goodbye)?;
            }
        }
        self.turn_until(Instant::now() + WARMING, &[])
    }

    fn turn_until(&mut self, end: Instant, transaction: &[u8]) -> anyhow::Result<()> {
        while Instant::now() < end {
            self.turn(transaction)?;
        }
        Ok(())
    }

    /// Waits a moment for something to happen, and does what it asks for.
    fn turn(&mut self, transaction: &[u8]) -> anyhow::Result<()> {
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        self.events.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&moment))?;
        for at in 0..self.events.len() {
            match self.events[at].data.u64() {
                LISTENER => self.accept()?,
                INPUT => {}
                number => self.serve(number as usize, transaction)?,
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        let (stream, _) = self.listener.accept()?;
        self.add(stream, Side::Server(Server::default()))
    }

    fn add(&mut self, stream: TcpStream, side: Side) -> anyhow::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let free = self.connections.iter().position(Option::is_none);
        let number = free.unwrap_or(self.connections.len());
        if free.is_none() {
            self.connections.push(None);
        }
        epoll::add(
            &self.epoll,
            &stream,
            EventData::new_u64(number as u64),
            EventFlags::IN,
        )?;
        self.connections[number] = Some(Connection {
            stream,
            side,
            partial: Vec::new(),
        });
        Ok(())
    }

    /// One read, and one write of what comes of it.
    fn serve(&mut self, number: usize, transaction: &[u8]) -> anyhow::Result<()> {
        let Some(connection) = &mut self.connections[number] else {
            return Ok(());
        };
        let mut buffer = [0; BUFFER_LEN];
        let len = match connection.stream.read(&mut buffer) {
            Ok(0) => return self.ended(number),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return self.ended(number),
            Err(error) => return Err(error.into()),
        };
        connection.respond(&buffer[..len], transaction, &mut self.seen)?;
        if connection.is_over() {
            return self.ended(number);
        }
        Ok(())
    }

    fn ended(&mut self, number: usize) -> anyhow::Result<()> {
        let ended = self.connections[number].take();
        let is_client = ended.is_some_and(|connection| matches!(connection.side, Side::Client(_)));
        anyhow::ensure!(!is_client, "the pooler has closed a client's connection");
        Ok(())
    }
}

impl Connection {
    fn is_over(&self) -> bool {
        matches!(&self.side, Side::Server(server) if server.is_over())
    }

    fn respond(&mut self, fresh: &[u8], transaction: &[u8], seen: &mut Seen) -> anyhow::Result<()> {
        let mut out = Vec::with_capacity(256);
        let partial = std::mem::take(&mut self.partial);
        let joined;
        let input = if partial.is_empty() {
            fresh
        } else {
            joined = [partial, fresh.to_vec()].concat();
            &joined
        };
        let taken = match &mut self.side {
            Side::Server(server) => server.answer(input, &mut out),
            Side::Client(client) => {
                let (taken, step) = client.hear(input, transaction, &mut out)?;
                match step {
                    Step::Nothing => {}
                    Step::Begun => seen.asking += 1,
                    Step::Done(latency) => seen.latencies_us.push(latency.as_micros() as u32),
                }
                taken
            }
        };
        self.partial = input[taken..].to_vec();
        if !out.is_empty() {
            self.stream.write_all(&out)?;
        }
        Ok(())
    }
}

fn report(latencies_us: &mut [u32], elapsed: Duration) {
    latencies_us.sort_unstable();
    let transactions = latencies_us.len();
    let percentile = |percent: usize| latencies_us.get(transactions * percent / 100).copied();
    println!(
        r#"{{"transactions": {transactions}, "tps": {:.1}, "p50_us": {}, "p99_us": {}}}"#,
        transactions as f64 / elapsed.as_secs_f64(),
        percentile(50).unwrap_or_default(),
        percentile(99).unwrap_or_default(),
    );
}
