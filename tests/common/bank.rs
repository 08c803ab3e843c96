//! A bank whose books must balance whatever happens: money moves between accounts, and every transaction leaves a
//! token. What has been acknowledged must be there, once; what has not may be.
//!
//! `tests/books/` has the clients: of psycopg in every manner it can send a transaction, and of pgbench.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cluster::{Cluster, Options};
use super::daemon::quiet;
use super::net::{Target, eventually};
use super::run;

const TOTAL: &str = "100000";
/// Clients of psycopg.
const TRADERS: u64 = 6;
/// Within this time after trouble everybody trades again.
const RECOVERY: Duration = Duration::from_secs(30);
/// A pgbench that runs for a second hangs if it has not ended by then.
const PGBENCH_MAX: Duration = Duration::from_secs(10);

/// Which transaction: the run (0 for psycopg, then those of pgbench), the client, and its number there.
type Token = (u64, u64, u64);

/// A cluster that acknowledges nothing before the kernel has it.
pub fn cluster() -> Options {
    durable(Cluster::options())
}

/// The same with wishes of one's own.
pub fn durable(options: Options) -> Options {
    options.conf("synchronous_commit = on")
}

/// Makes the tables of the bank.
pub fn open(cluster: &Cluster) {
    cluster.sql(
        "CREATE TABLE accounts AS SELECT id, 1000 AS balance FROM generate_series(1, 100) id;
         ALTER TABLE accounts ADD PRIMARY KEY (id);
         CREATE TABLE tokens (run int8, client int8, n int8);
         ALTER TABLE accounts OWNER TO app; ALTER TABLE tokens OWNER TO app",
    );
}

/// What the clients know.
#[derive(Default)]
struct Notes {
    tried: BTreeSet<Token>,
    acknowledged: BTreeSet<Token>,
    /// Errors of clients of psycopg, and how often each came.
    lost: BTreeMap<String, u64>,
    wrong: Vec<String>,
    /// Acknowledged transactions of each client of psycopg.
    turns: BTreeMap<u64, u64>,
}

/// Clients at work.
pub struct Trade {
    notes: Arc<Mutex<Notes>>,
    pgbench: Arc<Pgbench>,
    bencher: Option<JoinHandle<()>>,
    psycopg: Child,
    stdin: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
}

/// The part that runs pgbench again and again.
struct Pgbench {
    target: Target,
    over: AtomicBool,
    /// The run that is under way or comes next.
    run: AtomicU64,
    /// The last run that began well and ended well.
    last_good: AtomicU64,
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/books")
}

impl Trade {
    /// Lets clients trade; returns when all of them do.
    pub fn start(target: Target) -> Self {
        let trade = Self::launch(target, &[]);
        trade.progress();
        trade
    }

    /// The same, with more environment variables, and without waiting for anything.
    pub fn launch(target: Target, environment: &[(&str, &str)]) -> Self {
        let notes: Arc<Mutex<Notes>> = Arc::default();
        let mut psycopg = psycopg(target, environment);
        let said = psycopg.stdout.take().expect("it has a standard output");
        let reader = thread::spawn({
            let notes = notes.clone();
            move || {
                for line in BufReader::new(said).lines().map_while(Result::ok) {
                    notes.lock().expect("no panic inside").note(&line);
                }
            }
        });
        let pgbench = Arc::new(Pgbench {
            target,
            over: AtomicBool::new(false),
            run: AtomicU64::new(1),
            last_good: AtomicU64::new(0),
        });
        let bencher = thread::spawn({
            let (pgbench, notes) = (pgbench.clone(), notes.clone());
            let environment = owned(environment);
            move || pgbench.repeat(&environment, &notes)
        });
        Self {
            notes,
            pgbench,
            bencher: Some(bencher),
            stdin: psycopg.stdin.take(),
            psycopg,
            reader: Some(reader),
        }
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().expect("no panic inside")
    }

    /// How many transactions psycopg's clients know to be committed.
    pub fn acknowledged(&self) -> u64 {
        self.notes().turns.values().sum()
    }

    /// Waits until every client of psycopg has had some more turns, and a run of pgbench has begun and ended well.
    pub fn progress(&self) {
        let before = self.notes().turns.clone();
        let run = self.pgbench.run.load(Ordering::Relaxed);
        let turns = |client: u64, turns: &BTreeMap<u64, u64>| turns.get(&client).copied().unwrap_or(0);
        let start = Instant::now();
        while start.elapsed() < RECOVERY {
            let now = self.notes().turns.clone();
            let waiting = (0..TRADERS).any(|client| turns(client, &now) < turns(client, &before) + 3);
            if !waiting && self.pgbench.last_good.load(Ordering::Relaxed) > run.saturating_sub(1) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!(
            "not everybody trades after {RECOVERY:?}: {before:?}, then {:?}; pgbench was at run {run}, the last good \
             one is {:?}; errors were {:#?}",
            self.notes().turns,
            self.pgbench.last_good,
            self.notes().lost
        );
    }

    /// Waits until everybody trades again, then ends it.
    pub fn finish(mut self) -> Ledger {
        self.progress();
        self.pgbench.over.store(true, Ordering::Relaxed);
        if let Some(bencher) = self.bencher.take() {
            bencher.join().expect("pgbench runs");
        }
        drop(self.stdin.take());
        let status = eventually("psycopg's clients come to their end", RECOVERY, || {
            self.psycopg.try_wait().expect("our own child")
        });
        assert!(status.success(), "trade.py ended with {status}");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("it only reads");
        }
        Ledger(std::mem::take(&mut *self.notes()))
    }
}

impl Drop for Trade {
    fn drop(&mut self) {
        self.pgbench.over.store(true, Ordering::Relaxed);
        self.psycopg.kill().ok();
        self.psycopg.wait().ok();
    }
}

fn owned(environment: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    environment.iter().map(pair).collect()
}

fn psycopg(target: Target, environment: &[(&str, &str)]) -> Child {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    assert!(python.exists(), "no .venv: run scripts/setup");
    let mut command = Command::new(python);
    quiet(&mut command);
    command
        .arg("-B")
        .arg(here().join("trade.py"))
        .env("TRADERS", TRADERS.to_string())
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", target.port.to_string())
        .env("PGUSER", "app")
        .env("PGDATABASE", "app")
        .env("PGSSLMODE", "disable")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

impl Notes {
    fn note(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let token = || {
            let (client, n) = rest.split_once(' ')?;
            Some((0, client.parse().ok()?, n.parse().ok()?))
        };
        match (word, token()) {
            ("try", Some(token)) => {
                self.tried.insert(token);
            }
            ("ack", Some(token)) => {
                self.acknowledged.insert(token);
                *self.turns.entry(token.1).or_default() += 1;
            }
            ("lost", _) => *self.lost.entry(rest.to_owned()).or_default() += 1,
            ("end", _) => {}
            _ => self.wrong.push(line.to_owned()),
        }
    }
}

impl Pgbench {
    fn repeat(&self, environment: &[(String, String)], notes: &Mutex<Notes>) {
        let modes: [&[&str]; 4] = [
            &["-M", "simple"],
            &["-M", "prepared"],
            &["-M", "extended"],
            &["-M", "prepared", "-C"],
        ];
        for run in 1.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            self.run.store(run, Ordering::Relaxed);
            let at = usize::try_from(run).expect("few runs") % modes.len();
            let (good, tokens) = self.once(run, modes[at], environment);
            notes.lock().expect("no panic inside").acknowledged.extend(tokens);
            if good {
                self.last_good.store(run, Ordering::Relaxed);
            } else {
                thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// One run: whether all went well, and what was committed as far as pgbench's log tells.
    fn once(&self, run: u64, mode: &[&str], environment: &[(String, String)]) -> (bool, Vec<Token>) {
        let dir = tempfile::tempdir().expect("a directory for pgbench's log");
        let mut command = run::client("pgbench", self.target, "app", "app");
        command
            .args(["-n", "-c", "3", "-j", "1", "-T", "1", "-D", "n=0", "-l", "-f"])
            .arg(here().join("trade.sql"))
            .arg("-D")
            .arg(format!("run={run}"))
            .args(mode)
            .arg("--log-prefix")
            .arg(dir.path().join("log"))
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("pgbench starts");
        let end = Instant::now() + PGBENCH_MAX;
        let status = loop {
            match child.try_wait().expect("our own child") {
                Some(status) => break Some(status),
                None if Instant::now() > end => break None,
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        if status.is_none() {
            child.kill().ok();
            child.wait().ok();
        }
        let good = status.is_some_and(|status| status.success());
        (good, committed(dir.path(), run))
    }
}

/// The transactions in pgbench's logs: client and number begin each whole line.
fn committed(dir: &Path, run: u64) -> Vec<Token> {
    let mut tokens = Vec::new();
    for file in fs::read_dir(dir).into_iter().flatten().flatten() {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let mut words = line.split(' ');
            let mut number = || words.next()?.parse().ok();
            if let (Some(client), Some(n)) = (number(), number()) {
                tokens.push((run, client, n));
            }
        }
    }
    tokens
}

/// What all clients know in the end.
pub struct Ledger(Notes);

impl Ledger {
    /// The books balance, every acknowledged transaction is there, and none is there twice.
    #[track_caller]
    pub fn audit(&self, cluster: &Cluster) {
        let faults = self.faults(cluster);
        assert!(faults.is_empty(), "{faults:#?}");
        let Notes {
            acknowledged, lost, ..
        } = &self.0;
        let errors: u64 = lost.values().sum();
        eprintln!("{} acknowledged; {errors} errors: {lost:#?}", acknowledged.len());
    }

    /// What is wrong: one line for each kind.
    pub fn faults(&self, cluster: &Cluster) -> Vec<String> {
        let Notes {
            tried,
            acknowledged,
            wrong,
            ..
        } = &self.0;
        let there = tokens(cluster);
        let total = cluster.value("SELECT sum(balance) FROM accounts");
        let missing: Vec<&Token> = acknowledged
            .iter()
            .filter(|token| !there.contains_key(token))
            .collect();
        let doubled: Vec<_> = there.iter().filter(|(_, count)| **count > 1).collect();
        let untried: Vec<&Token> = there
            .keys()
            .filter(|token| token.0 == 0 && !tried.contains(token))
            .collect();
        let seen = &wrong[..wrong.len().min(10)];
        let faults = [
            (total != TOTAL, format!("the sum is {total}")),
            (
                !missing.is_empty(),
                format!("acknowledged and not there: {missing:?}"),
            ),
            (!doubled.is_empty(), format!("there more than once: {doubled:?}")),
            (!untried.is_empty(), format!("never sent and there: {untried:?}")),
            (!seen.is_empty(), format!("clients saw {seen:#?}")),
        ];
        let found = faults.into_iter().filter(|(is, _)| *is);
        found.map(|(_, fault)| fault).collect()
    }
}

/// How often each token is there.
fn tokens(cluster: &Cluster) -> BTreeMap<Token, u64> {
    let number = |value: &Option<String>| value.as_deref().and_then(|text| text.parse::<u64>().ok());
    let mut there = BTreeMap::new();
    for row in cluster.sql("SELECT run, client, n FROM tokens") {
        let [run, client, n] = [0, 1, 2].map(|at| number(&row[at]).expect("a number"));
        *there.entry((run, client, n)).or_insert(0) += 1;
    }
    there
}
