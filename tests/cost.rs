//! What a transaction and an idle client cost in memory, counted exactly: howdah runs inside this program on one worker,
//! and the allocator counts what that thread does.
//!
//! The figures are limits. One that is exceeded is told together with where the memory was asked for.

#![allow(
    unsafe_code,
    reason = "an allocator that counts is an implementation of `GlobalAlloc`"
)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use common::net::{Target, eventually, free_port};
use common::{Cluster, Howdah, Wire, msg};

/// Counts what is asked for on threads that have said so.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);
/// So many allocations are yet to be told where they were made.
static WATCHED: AtomicU64 = AtomicU64::new(0);
static PLACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

fn count(size: usize) {
    if !COUNTS.get() {
        return;
    }
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(i64::try_from(size).unwrap_or(i64::MAX), Ordering::Relaxed);
    if WATCHED.load(Ordering::Relaxed) > 0 {
        WATCHED.fetch_sub(1, Ordering::Relaxed);
        COUNTS.set(false);
        let mut places = PLACES.lock().expect("nobody panics with it");
        places.push(Backtrace::force_capture());
        drop(places);
        COUNTS.set(true);
    }
}

fn discount(size: usize) {
    if COUNTS.get() {
        BYTES.fetch_sub(i64::try_from(size).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

// SAFETY: the system's allocator does the work, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        discount(layout.size());
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        discount(layout.size());
        count(size);
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// A howdah on a thread of this program, which ends with it.
fn embedded(cluster: &Cluster, pool_size: u32) -> Target {
    let port = free_port();
    let config = Howdah::before(cluster)
        .set("listen_port", i64::from(port))
        .set("unix_socket_dir", "")
        .set("workers", 1)
        .set("max_client_conn", 10_000)
        .set("log_level", "error")
        .set("default_pool_size", i64::from(pool_size));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("howdah.toml");
    std::fs::write(&path, config.to_toml()).expect("a file of ours");
    std::thread::spawn(move || {
        let config = howdah::config::Config::load(&howdah::config::Source::File(path)).expect("a sound file");
        drop(dir);
        COUNTS.set(true);
        howdah::app::serve(config).expect("howdah runs");
    });
    let target = Target { port };
    eventually("howdah answers", Duration::from_secs(30), || {
        TcpStream::connect(target.addr()).ok()
    });
    target
}

/// A client that has logged in, and what it asks again and again.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// One with a prepared statement `s`.
    fn login(target: Target, prepared: &str) -> Self {
        let mut wire = Wire::app(target);
        wire.batch(&[msg::parse("s", prepared), msg::sync()]);
        Self::new(wire)
    }

    fn new(wire: Wire) -> Self {
        let stream = wire.writer();
        // The socket lives on in its second handle.
        std::mem::forget(wire);
        Self {
            stream,
            input: vec![0; 65536],
        }
    }

    fn round(&mut self, request: &[u8]) {
        self.ask(request);
        self.answered(1);
    }

    fn ask(&mut self, request: &[u8]) {
        self.stream.write_all(request).expect("howdah is there");
    }

    /// Reads until so many units have been answered, which end with `ReadyForQuery`, and gives the last status.
    fn answered(&mut self, units: usize) {
        let (mut len, mut done) = (0, 0);
        while done < units {
            let read = self
                .stream
                .read(&mut self.input[len..])
                .expect("an answer in time");
            assert!(read > 0, "howdah has ended the session");
            len += read;
            let (mut at, mut seen) = (0, 0);
            while let Some(header) = self.input[..len].get(at..at + 5) {
                assert_ne!(header[0], b'E', "{}", String::from_utf8_lossy(&self.input[..len]));
                let size = u32::from_be_bytes(header[1..].try_into().expect("four bytes")) as usize;
                if at + 1 + size > len {
                    break;
                }
                seen += usize::from(header[0] == b'Z');
                at += 1 + size;
            }
            done = seen;
        }
    }
}

/// Allocations of so many rounds, after as many that are not counted, and where the first were made.
fn allocations(rounds: u64, mut round: impl FnMut()) -> (u64, BTreeSet<String>) {
    (0..rounds).for_each(|_| round());
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    WATCHED.store(WATCHED_MAX, Ordering::SeqCst);
    (0..rounds).for_each(|_| round());
    WATCHED.store(0, Ordering::SeqCst);
    let count = ALLOCATIONS.load(Ordering::SeqCst) - before;
    let places = std::mem::take(&mut *PLACES.lock().expect("nobody panics with it"));
    (count, places.iter().map(in_our_words).collect())
}

/// The frames of a backtrace that are howdah's.
fn in_our_words(place: &Backtrace) -> String {
    let text = place.to_string();
    let frames: Vec<&str> = text.lines().map(str::trim).collect();
    let ours = frames.windows(2).filter(|pair| pair[1].starts_with("at ./src/"));
    ours.flat_map(|pair| ["  ", pair[0], " ", pair[1], "\n"])
        .collect()
}

const ROUNDS: u64 = 50;
/// Allocations that are looked into.
const WATCHED_MAX: u64 = 40;

/// A name, what a client sends, by how many units that is answered, and how many allocations it may cost.
type Workload = (&'static str, Vec<u8>, usize, u64);

fn workloads() -> Vec<Workload> {
    let prepared = [msg::run("s", &[Some("1")]), msg::sync()].concat();
    let extended = [msg::extended("SELECT $1::int", &[Some("1")]), msg::sync()].concat();
    let block = [msg::query("BEGIN"), msg::query("SELECT 1"), msg::query("COMMIT")].concat();
    vec![
        ("simple", msg::query("SELECT 1 FROM pg_class LIMIT 1"), 1, 0),
        ("prepared", prepared.clone(), 1, 0),
        ("extended", extended, 1, 2),
        ("pipelined", prepared.repeat(10), 10, 0),
        ("block", block, 3, 0),
    ]
}

/// Heap that so many idle clients may hold, each; 1,853 bytes were measured.
const IDLE_BYTES_MAX: i64 = 1872;
/// What is kept for each client that has stood in a queue, by itself and by queues that have once been long.
const QUEUE_BYTES_MAX: i64 = 350;

#[test]
fn an_idle_client_holds_little_and_gives_back_what_a_burst_took() {
    const CLIENTS: i64 = 100;
    let cluster = Cluster::start();
    let target = embedded(&cluster, 2);
    let query = msg::query("SELECT 1");
    // What the worker keeps for later is not theirs.
    let mut all: Vec<_> = (0..CLIENTS).map(|_| Client::new(Wire::app(target))).collect();
    for client in &mut all {
        client.ask(&query);
    }
    for client in &mut all {
        client.answered(1);
    }
    let held = || BYTES.load(Ordering::SeqCst);
    let before = held();
    for _ in 0..CLIENTS {
        let mut client = Client::new(Wire::app(target));
        client.round(&query);
        all.push(client);
    }
    let idle = (held() - before) / CLIENTS;
    for client in &mut all {
        client.ask(&query);
    }
    for client in &mut all {
        client.answered(1);
    }
    let after_burst = (held() - before) / CLIENTS;
    println!("{idle} bytes for each idle client, {after_burst} after a burst");
    assert!(idle <= IDLE_BYTES_MAX, "{idle} bytes for each idle client");
    assert!(
        after_burst <= idle + QUEUE_BYTES_MAX,
        "{after_burst} bytes for each client after a burst"
    );
}

#[test]
fn transactions_at_steady_state_allocate_nothing() {
    let cluster = Cluster::start();
    let target = embedded(&cluster, 2);
    let mut faults = Vec::new();
    for clients in [1, 8] {
        let mut all: Vec<_> = (0..clients)
            .map(|_| Client::login(target, "SELECT $1::int"))
            .collect();
        for (name, request, units, allowed) in workloads() {
            let (count, places) = allocations(ROUNDS, || {
                for client in &mut all {
                    client.ask(&request);
                }
                for client in &mut all {
                    client.answered(units);
                }
            });
            let requests = ROUNDS * clients;
            println!("{name}, {clients} clients: {count} allocations in {requests} requests");
            if count > allowed * requests {
                faults.push(format!(
                    "{name}, {clients} clients: {count} in {requests} requests"
                ));
                faults.extend(places);
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
