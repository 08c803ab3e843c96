//! The servers of a simulation: hosts that are up or not, and a backend for every connection to them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::plan::Plan;
use super::session::Session;
use super::trace::Trace;
use crate::error::{Refusal, SqlState};
use crate::net::simulated::{Dice, Link, Socket, Weather, pair};
use crate::wire::startup::{self, Initial};
use crate::wire::write::{self, Severity};

/// How a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Up,
    /// Nobody listens.
    Refuses,
    /// The kernel takes connections, and nobody answers.
    Hangs,
    /// It is up, and says that it is not ready.
    StartsUp,
    /// It has no more slots than are taken.
    IsFull,
}

/// What one session's backend can be told, and what it has told its client.
struct Backend {
    host: usize,
    secret: Vec<u8>,
    cancel: Arc<Notify>,
    leave: Arc<Notify>,
    link: Link,
}

struct Host {
    mode: Mode,
    /// Crashes that it has had.
    crashes: u64,
    weather: Weather,
}

/// All hosts.
pub(super) struct Cluster {
    hosts: Mutex<Vec<Host>>,
    backends: Mutex<BTreeMap<i32, Backend>>,
    /// A host has changed.
    changed: Notify,
    /// Every committed row, and how often.
    pub(super) ledger: Mutex<BTreeMap<String, u32>>,
    dice: Mutex<Dice>,
    /// As many as howdah has sockets to servers, and one more.
    pub(super) sockets: Arc<()>,
    /// One in so many of howdah's own statements fails; 0: none.
    whims: u64,
    trace: Arc<Trace>,
}

impl Cluster {
    pub(super) fn new(plan: &Plan, mut dice: Dice, trace: Arc<Trace>) -> Arc<Self> {
        let host = |_| Host {
            mode: Mode::Up,
            crashes: 0,
            weather: Weather {
                latency_ms: 1 + dice.below(3),
                ..plan.weather
            },
        };
        Arc::new(Self {
            hosts: Mutex::new((0..plan.hosts).map(host).collect()),
            backends: Mutex::default(),
            changed: Notify::new(),
            ledger: Mutex::default(),
            dice: Mutex::new(dice),
            sockets: Arc::new(()),
            whims: if plan.faults.strike_servers() { 60 } else { 0 },
            trace,
        })
    }

    /// How many sessions there are.
    pub(super) fn sessions(&self) -> usize {
        self.backends.lock().len()
    }

    /// A connection of howdah's.
    pub(super) async fn connect(self: Arc<Self>, address: SocketAddr) -> io::Result<Socket> {
        let SocketAddr::V4(v4) = address else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let host = usize::from(v4.ip().octets()[3]) - 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (mode, weather) = {
            let hosts = self.hosts.lock();
            (hosts[host].mode, hosts[host].weather)
        };
        if mode == Mode::Refuses {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = {
            let mut dice = self.dice.lock();
            let local = SocketAddr::from(([10, 0, 1, 1], 10_000 + dice.below(50_000) as u16));
            pair([local, address], weather, &mut dice, Some(self.sockets.clone()))
        };
        tokio::spawn(async move { self.serve(host, theirs).await });
        Ok(ours)
    }

    async fn serve(&self, host: usize, socket: Socket) {
        let crashes = self.hosts.lock()[host].crashes;
        tokio::select! {
            biased;
            () = self.until(|hosts| hosts[host].crashes > crashes) => {}
            () = async {
                let mut input = BytesMut::new();
                match self.first_packet(host, &socket, &mut input).await {
                    Some(Initial::Startup(startup)) => self.welcome(host, &socket, &startup, input).await,
                    Some(Initial::Cancel { pid, secret }) => self.cancel(pid, &secret).await,
                    Some(Initial::Ssl | Initial::Gssenc) | None => {}
                }
            } => {}
        }
    }

    /// A cancel request may come late; only those who sleep then hear it.
    async fn cancel(&self, pid: i32, secret: &[u8]) {
        self.trace.say(|| format!("server {pid}: is to cancel"));
        let delay = self.dice.lock().pause(1500);
        tokio::time::sleep(delay).await;
        self.trace.say(|| format!("server {pid}: cancels"));
        if let Some(backend) = self.backends.lock().get(&pid)
            && backend.secret == secret
        {
            backend.cancel.notify_waiters();
        }
    }

    async fn until(&self, is_so: impl Fn(&[Host]) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if is_so(&self.hosts.lock()) {
                return;
            }
            changed.await;
        }
    }

    async fn first_packet(&self, host: usize, socket: &Socket, input: &mut BytesMut) -> Option<Initial> {
        loop {
            self.until(|hosts| hosts[host].mode != Mode::Hangs).await;
            if let Ok(Some(len)) = startup::packet_len(input)
                && input.len() >= len
            {
                let initial = Initial::parse(&input[4..len]).ok();
                input.advance(len);
                return initial;
            }
            if socket.read(input, 1000).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn welcome(&self, host: usize, socket: &Socket, startup: &startup::Startup, input: BytesMut) {
        let mode = self.hosts.lock()[host].mode;
        let refusal = match mode {
            Mode::StartsUp => Some((SqlState::CANNOT_CONNECT_NOW, "the database system is starting up")),
            Mode::IsFull => Some((SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")),
            Mode::Up | Mode::Refuses | Mode::Hangs => None,
        };
        if let Some((code, message)) = refusal {
            let mut output = BytesMut::new();
            write::refusal(&mut output, Severity::Fatal, &Refusal::new(code, message));
            let _ = socket.write(&mut output).await;
            return;
        }
        let text = |name| String::from_utf8_lossy(startup.get(name).unwrap_or_default()).into_owned();
        let mut session = Session::new(&text("user"), std::iter::empty());
        session.whims = (self.whims > 0).then(|| (self.whims, self.dice.lock().fork()));
        let (pid, backend) = self.sit(host, socket.link());
        let mut output = BytesMut::new();
        write::message(&mut output, b'R', |out| out.put_u32(0));
        output.unsplit(session.output.split());
        write::message(&mut output, b'K', |out| {
            out.put_i32(pid);
            out.put_slice(&backend.secret);
        });
        write::ready_for_query(&mut output, b'I');
        session.output = output;
        session.hear(&input);
        self.trace
            .say(|| format!("server {pid}: session for {} on host {host}", text("user")));
        let _left = Left(self, pid);
        let why = self.converse(host, socket, &mut session, &backend).await;
        self.trace.say(|| format!("server {pid}: {why}"));
    }

    fn sit(&self, host: usize, link: Link) -> (i32, Arc<Notifies>) {
        let mut backends = self.backends.lock();
        let mut dice = self.dice.lock();
        let pid = loop {
            let pid = 1 + dice.below(100_000) as i32;
            if !backends.contains_key(&pid) {
                break pid;
            }
        };
        let secret = (dice.roll() as u32).to_be_bytes().to_vec();
        let notifies = Arc::new(Notifies {
            secret: secret.clone(),
            cancel: Arc::default(),
            leave: Arc::default(),
        });
        let (cancel, leave) = (notifies.cancel.clone(), notifies.leave.clone());
        backends.insert(
            pid,
            Backend {
                host,
                secret,
                cancel,
                leave,
                link,
            },
        );
        (pid, notifies)
    }

    /// Serves a session to its end, and says why that came.
    async fn converse(
        &self,
        host: usize,
        socket: &Socket,
        session: &mut Session,
        told: &Notifies,
    ) -> &'static str {
        loop {
            self.until(|hosts| hosts[host].mode != Mode::Hangs).await;
            let worked = session.work();
            self.note(session);
            while !session.output.is_empty() {
                if socket.write(&mut session.output).await.is_err() {
                    return "nobody listens";
                }
            }
            match worked {
                Err(_) => return "goodbye",
                Ok(Some(time)) => {
                    let is_cancelled = tokio::select! {
                        biased;
                        () = told.cancel.notified() => true,
                        () = tokio::time::sleep(time) => false,
                    };
                    session.wake(is_cancelled);
                    continue;
                }
                Ok(None) => {}
            }
            let mut input = BytesMut::new();
            let read = tokio::select! {
                biased;
                () = told.leave.notified() => {
                    let message = "terminating connection due to administrator command";
                    let refusal = Refusal::new(SqlState::ADMIN_SHUTDOWN, message);
                    write::refusal(&mut session.output, Severity::Fatal, &refusal);
                    let _ = socket.write(&mut session.output).await;
                    return "terminated";
                }
                read = socket.read(&mut input, 10_000) => read,
            };
            match read {
                Ok(0) => return "its client is gone",
                Ok(_) => session.hear(&input),
                Err(_) => return "its connection is lost",
            }
        }
    }

    /// What has been committed is in the ledger; what may not be is on the record.
    fn note(&self, session: &mut Session) {
        if let Some(violation) = session.violation.take() {
            self.trace.fail(violation);
        }
        let mut ledger = self.ledger.lock();
        for token in session.committed.drain(..) {
            *ledger.entry(token).or_default() += 1;
        }
    }
}

/// What a backend waits for.
struct Notifies {
    secret: Vec<u8>,
    cancel: Arc<Notify>,
    leave: Arc<Notify>,
}

/// Takes a backend off the list.
struct Left<'a>(&'a Cluster, i32);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.backends.lock().remove(&self.1);
    }
}

/// What can be done to the hosts.
impl Cluster {
    pub(super) fn set_mode(&self, host: usize, mode: Mode) {
        self.trace.say(|| format!("host {host}: {mode:?}"));
        self.hosts.lock()[host].mode = mode;
        self.changed.notify_waiters();
    }

    /// Every session of a host is gone at once.
    pub(super) fn crash(&self, host: usize) {
        self.trace.say(|| format!("host {host}: crashes"));
        for backend in self
            .backends
            .lock()
            .values()
            .filter(|backend| backend.host == host)
        {
            backend.link.reset();
        }
        self.hosts.lock()[host].crashes += 1;
        self.changed.notify_waiters();
    }

    /// One of the sessions of all hosts, to be told to leave, cut off or held up.
    pub(super) fn trouble(&self, dice: &mut Dice) {
        let backends = self.backends.lock();
        if backends.is_empty() {
            return;
        }
        let at = dice.below(backends.len() as u64) as usize;
        let Some((pid, backend)) = backends.iter().nth(at) else {
            return;
        };
        match dice.below(3) {
            0 => {
                self.trace.say(|| format!("server {pid}: is told to leave"));
                backend.leave.notify_one();
            }
            1 => {
                self.trace.say(|| format!("server {pid}: is cut off"));
                backend.link.reset();
            }
            _ => {
                let time = dice.pause(20_000);
                self.trace
                    .say(|| format!("server {pid}: is not heard for {time:?}"));
                backend.link.hold(time);
            }
        }
    }
}
