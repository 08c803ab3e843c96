//! All there is in one simulation: howdah's own code from the first byte of a connection to its farewell, and around it
//! servers, clients, faults and an operator out of one seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::checks::Seen;
use super::client::live;
use super::cluster::Cluster;
use super::plan::Plan;
use super::trace::Trace;
use super::{faults, operator};
use crate::admin::Order;
use crate::app::process::Process;
use crate::app::{accept, ending, prefill, run, sweep};
use crate::client::House;
use crate::config::{Config, Source};
use crate::log::Log;
use crate::net::simulated::{self, Dice, Socket, pair};

/// How long everything may take to come to rest once nobody wants anything any more.
const REST_MAX: Duration = Duration::from_secs(300);
/// How long those may take to go who are sent away.
const LEAVE_MAX: Duration = Duration::from_secs(60);

/// One simulation.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) trace: Arc<Trace>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) process: Arc<Process>,
    pub(super) config: PathBuf,
    /// Nobody is let in any more.
    is_over: AtomicBool,
    /// Rows of the ledger that clients have asked for, and those that have been confirmed.
    asked: Mutex<BTreeMap<String, u32>>,
    confirmed: Mutex<BTreeMap<String, u32>>,
    vanished: AtomicU64,
    pub(super) seen: Mutex<Seen>,
    /// As many as connections that howdah serves, and one more.
    pub(super) served: Arc<()>,
}

impl World {
    fn new(plan: Plan, config: PathBuf, dice: &mut Dice, trace: Arc<Trace>) -> Arc<Self> {
        std::fs::write(&config, &plan.config).expect("the file can be written");
        let loaded = Config::load(&Source::File(config.clone())).expect("a sound configuration");
        let house = House::new(loaded).expect("a sound house");
        let (orders, given) = mpsc::channel(16);
        let process = Process::new(house, Log::silent(), orders);
        let cluster = Cluster::new(&plan, dice.fork(), trace.clone());
        let network = cluster.clone();
        simulated::install(move |address| Box::pin(network.clone().connect(address)));
        prefill::prefill(&process.front);
        sweep::start(&process.front);
        let world = Arc::new(Self {
            plan,
            trace,
            cluster,
            process,
            config,
            is_over: AtomicBool::new(false),
            asked: Mutex::default(),
            confirmed: Mutex::default(),
            vanished: AtomicU64::new(0),
            seen: Mutex::default(),
            served: Arc::new(()),
        });
        tokio::spawn(world.clone().obey(given));
        world
    }

    /// Carries out what the console orders, as the process does.
    async fn obey(self: Arc<Self>, mut given: mpsc::Receiver<Order>) {
        while let Some(order) = given.recv().await {
            self.check();
            run::carry_out(&self.process, order);
            self.check();
        }
    }

    /// Connects to howdah; `None` if it does not listen any more.
    pub(super) fn dial(&self, dice: &mut Dice) -> Option<Socket> {
        if self.is_over() {
            return None;
        }
        let from = SocketAddr::from(([10, 1, 0, 1], 10_000 + dice.below(50_000) as u16));
        let to = SocketAddr::from(([10, 0, 1, 1], 6432));
        let (ours, theirs) = pair([from, to], self.plan.weather, dice, None);
        let peer = crate::net::PeerAddr::Tcp(from);
        let logging_in = self.process.front.clients.count_login(&peer);
        let (process, served) = (self.process.clone(), self.served.clone());
        tokio::spawn(async move {
            accept::welcome(theirs.into(), peer, process, logging_in).await;
            drop(served);
        });
        Some(ours)
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(super) fn asked(&self, tokens: &[String]) {
        let mut asked = self.asked.lock();
        for token in tokens {
            *asked.entry(token.clone()).or_default() += 1;
        }
    }

    pub(super) fn acknowledged(&self, tokens: impl Iterator<Item = String>) {
        let mut confirmed = self.confirmed.lock();
        tokens.for_each(|token| *confirmed.entry(token).or_default() += 1);
    }

    pub(super) fn vanished(&self) {
        self.vanished.fetch_add(1, Ordering::Relaxed);
    }

    /// Every confirmed row is there, and none is there more often than somebody has asked for.
    fn balance(&self) {
        let (asked, confirmed, ledger) = (
            self.asked.lock(),
            self.confirmed.lock(),
            self.cluster.ledger.lock(),
        );
        for (token, count) in &*confirmed {
            if ledger.get(token).is_none_or(|there| there < count) {
                self.trace
                    .fail(format!("{token} was confirmed {count} times and is lost"));
            }
        }
        for (token, count) in &*ledger {
            if asked.get(token).is_none_or(|asked| asked < count) {
                self.trace
                    .fail(format!("{token} is there {count} times, which nobody wanted"));
            }
        }
    }

    /// SIGTERM: nobody is let in, transactions are let finish, then all are sent away.
    pub(super) async fn end(&self) {
        self.trace.say(|| "howdah ends".to_owned());
        self.is_over.store(true, Ordering::Relaxed);
        ending::wait(&self.process, ending::Manner::Drain).await;
        ending::send_everybody_away(&self.process).await;
    }

    async fn within(&self, limit: Duration, is_so: impl Fn() -> Option<String>) {
        let begun = tokio::time::Instant::now();
        while let Some(why) = is_so() {
            if begun.elapsed() > limit {
                return self.trace.fail(why);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The end of everything: rest, balanced books, and nothing left behind.
    async fn finish(&self) {
        if !self.is_over() {
            self.within(REST_MAX, || self.unrest()).await;
            self.check();
            self.accounts(self.vanished.load(Ordering::Relaxed) == 0);
        }
        // The operator's own attempt may have been cut short.
        self.end().await;
        self.within(LEAVE_MAX, || self.leftovers()).await;
        self.balance();
    }
}

/// What came of a run.
pub(super) struct Report {
    pub(super) events: u64,
    pub(super) digest: u64,
    pub(super) clients: usize,
    pub(super) virtual_time: Duration,
}

/// Lives through one seed. The error is what was wrong, and what had come before.
pub(super) async fn simulate(seed: u64, trace: Arc<Trace>) -> Result<Report, String> {
    let begun = tokio::time::Instant::now();
    let mut dice = Dice::new(seed);
    let plan = Plan::new(seed, &mut dice);
    trace.say(|| format!("{plan:?}"));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("howdah.toml");
    let world = World::new(plan, file, &mut dice, trace.clone());
    let mut clients = JoinSet::new();
    for id in 0..world.plan.clients {
        clients.spawn(live(world.clone(), id, dice.fork()));
    }
    let mut others = JoinSet::new();
    others.spawn(world.clone().watch());
    if world.plan.faults.strike_servers() {
        others.spawn(faults::strike(world.clone(), dice.fork()));
    }
    if world.plan.faults.have_operator() {
        others.spawn(operator::operate(world.clone(), dice.fork()));
    }
    tokio::select! {
        biased;
        () = trace.failure.notified() => {}
        () = async {
            while clients.join_next().await.is_some() {}
            others.shutdown().await;
            faults::mend(&world);
            operator::tidy_up(&world).await;
            world.finish().await;
        } => {}
    }
    let (events, digest) = trace.digest();
    match trace.failed() {
        None => Ok(Report {
            events,
            digest,
            clients: world.plan.clients,
            virtual_time: begun.elapsed(),
        }),
        Some(why) => Err(why),
    }
}
