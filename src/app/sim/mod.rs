//! The whole pooler in one thread and virtual time, from one seed.
//!
//! Everything that serves a connection is howdah's own code: login, session, relay, pools, cancel, console, reload, drain.
//! Beneath it are [sockets without a kernel](crate::net::simulated), around it a model of PostgreSQL (`session`), hosts
//! that fail (`cluster`, `faults`), an operator, and clients with random programs. Each client compares every answer with
//! that of a session of the model that is its own (`client`), and everybody looks at what has to hold at every step
//! (`checks`). docs/testing.md says how to run it.
//!
//! Every seed has a process to itself, so that nothing is left of the one before and what it does can be repeated.

mod checks;
mod client;
mod cluster;
mod execute;
mod faults;
mod operator;
mod plan;
mod program;
mod proof;
mod session;
mod settings;
mod sql;
mod trace;
mod world;

use std::fmt::Write;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use trace::Trace;

/// Replays this seed, with howdah's log among the last events.
const SEED: &str = "HOWDAH_SIM_SEED";
/// How many seeds, and from which on.
const SEEDS: &str = "HOWDAH_SIM_SEEDS";
const FROM: &str = "HOWDAH_SIM_FROM";
/// Set where only the outcome is wanted.
const QUIET: &str = "HOWDAH_SIM_QUIET";
/// Seeds that are tried if nobody says otherwise.
const SEEDS_DEFAULT: u64 = 256;

static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// What a task has panicked with.
fn panicked() -> Option<String> {
    PANIC.lock().clone()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed in this process.
fn run(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.expect("a runtime");
    let trace = runtime.block_on(async { Arc::new(Trace::new()) });
    let _log =
        (std::env::var_os(QUIET).is_none() && std::env::var_os(SEED).is_some()).then(|| listen(&trace));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANIC.lock().get_or_insert_with(|| panic.to_string());
        hook(panic);
    }));
    let result = runtime.block_on(world::simulate(seed, trace.clone()));
    match result.and_then(|report| panicked().map_or(Ok(report), Err)) {
        Ok(report) => println!(
            "seed {seed}: {} clients, {} events in {:?}, digest {:016x}",
            report.clients, report.events, report.virtual_time, report.digest
        ),
        Err(why) => panic!("seed {seed}: {why}\nThe last events:\n{}", trace.lines()),
    }
}

/// Puts howdah's own log among the events.
fn listen(trace: &Arc<Trace>) -> tracing::subscriber::DefaultGuard {
    struct Remarks(Arc<Trace>);
    impl std::io::Write for Remarks {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.remark(&String::from_utf8_lossy(line));
            Ok(line.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let trace = trace.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || Remarks(trace.clone()))
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .finish();
    tracing::subscriber::set_default(subscriber)
}

/// Runs one seed in a process of its own.
fn apart(seed: u64, is_quiet: bool) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "app::sim::one_seed", "--nocapture"]);
    command.env(SEED, seed.to_string()).env_remove("RUST_BACKTRACE");
    if is_quiet {
        command.env(QUIET, "1");
    }
    command.output().expect("it can be run")
}

fn said(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Runs these seeds, as many at once as there are processors. The seeds that failed.
fn try_all(seeds: std::ops::Range<u64>) -> Vec<u64> {
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if !apart(seed, true).status.success() {
                        eprintln!("seed {seed} fails");
                        failed.lock().push(seed);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner();
    failed.sort_unstable();
    failed
}

#[test]
fn one_seed() {
    run(number(SEED).unwrap_or(1));
}

#[test]
fn whatever_happens_every_client_sees_what_it_would_see_of_postgresql() {
    if std::env::var_os(SEED).is_some() {
        return;
    }
    let from = number(FROM).unwrap_or(0);
    let failed = try_all(from..from + number(SEEDS).unwrap_or(SEEDS_DEFAULT));
    let mut report = String::new();
    for seed in failed.iter().take(3) {
        let output = said(&apart(*seed, false));
        writeln!(report, "\n==== {SEED}={seed}\n{output}").expect("a string takes it");
    }
    assert!(failed.is_empty(), "seeds fail: {failed:?}{report}");
}

#[test]
fn a_seed_does_the_same_again() {
    if std::env::var_os(SEED).is_some() {
        return;
    }
    for seed in [5, 1, 2, 3] {
        let digest = |output: Output| {
            let text = said(&output);
            let line = text.lines().find(|line| line.contains("digest"));
            line.map(str::to_owned).unwrap_or(text)
        };
        assert_eq!(digest(apart(seed, true)), digest(apart(seed, true)));
    }
}
