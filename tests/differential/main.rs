//! Random programs about session state, run by several clients on few servers through the pooler and, step by step, each
//! on a connection of its own: what they are told must be equal. See `docs/testing.md`.

mod client;
#[path = "../common/mod.rs"]
mod common;
mod compare;
mod families;
mod losing;
mod program;
mod rng;
mod shrink;
mod weave;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::howdah::Against;
use families::Family;
use world::World;

/// How many programs are run, unless `HOWDAH_DIFF_PROGRAMS` or `HOWDAH_DIFF_SECONDS` says otherwise.
const PROGRAMS: u64 = 3000;
/// A machine that is too slow for them has done enough after this time.
const TIME_MAX: Duration = Duration::from_secs(150);
/// Worlds that are run at once.
const WORLDS: usize = 2;
/// How long a failure is made smaller.
const SHRINK_MAX: Duration = Duration::from_secs(25);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// `HOWDAH_DIFF_FAMILY`, or all of them.
fn chosen() -> Vec<Family> {
    let name = std::env::var("HOWDAH_DIFF_FAMILY").unwrap_or_default();
    let named = |family: &Family| name.is_empty() || format!("{family:?}") == name;
    let chosen: Vec<_> = Family::ALL.into_iter().filter(named).collect();
    assert!(!chosen.is_empty(), "no family is called {name}");
    chosen
}

/// What is told of a round that went wrong.
fn tell(world: &World, family: Family, seed: u64) -> String {
    let round = weave::round(family, seed);
    let mut text = format!("{family:?}, HOWDAH_DIFF_SEED={seed}");
    let Some((round, difference)) = shrink::shrink(world, family, &round, SHRINK_MAX) else {
        return text + " went wrong once, and well when it was tried again\n";
    };
    writeln!(text, ", shrunk:\n{round}  at step {}", difference.step).expect("a text");
    for (who, lines) in [
        ("PostgreSQL", difference.direct),
        ("the pooler", difference.pooled),
    ] {
        writeln!(text, "  {who}:\n    {}", lines.join("\n    ")).expect("a text");
    }
    text
}

/// Runs rounds from many seeds until there are enough programs. A family that has gone wrong is told of once.
struct Campaign {
    families: Vec<Family>,
    seed: AtomicU64,
    programs: AtomicU64,
    wanted: u64,
    end: Instant,
    failures: Mutex<BTreeMap<Family, String>>,
}

impl Campaign {
    fn is_over(&self) -> bool {
        let failed = self.failures.lock().expect("nobody panics").len();
        failed == self.families.len()
            || Instant::now() > self.end
            || self.programs.load(Ordering::Relaxed) >= self.wanted
    }

    fn is_of_interest(&self, family: Family) -> bool {
        let failures = self.failures.lock().expect("nobody panics");
        self.families.contains(&family) && !failures.contains_key(&family)
    }

    fn run(&self, world: &World) {
        while !self.is_over() {
            let seed = self.seed.fetch_add(1, Ordering::Relaxed);
            let family = Family::ALL[usize::try_from(seed).expect("64 bits") % Family::ALL.len()];
            if !self.is_of_interest(family) {
                continue;
            }
            let outcome = world.run(family, &weave::round(family, seed));
            self.programs
                .fetch_add(family.clients() as u64, Ordering::Relaxed);
            if let Err(difference) = outcome {
                eprintln!(
                    "{family:?}, HOWDAH_DIFF_SEED={seed}: step {} differs, and is made smaller\n  {}",
                    difference.step,
                    difference.pooled.join("\n  ")
                );
                let mut failures = self.failures.lock().expect("nobody panics");
                failures.insert(family, String::new());
                drop(failures);
                let told = tell(world, family, seed);
                let mut failures = self.failures.lock().expect("nobody panics");
                failures.insert(family, told);
            }
        }
    }
}

#[test]
fn random_programs_cannot_tell_the_pooler_from_postgresql() {
    let cluster = world::cluster();
    let against = Against::from_env();
    let (replayed, seconds) = (number("HOWDAH_DIFF_SEED"), number("HOWDAH_DIFF_SECONDS"));
    let campaign = Campaign {
        families: chosen(),
        seed: AtomicU64::new(replayed.unwrap_or(1)),
        programs: AtomicU64::new(0),
        wanted: number("HOWDAH_DIFF_PROGRAMS").unwrap_or(match (replayed, seconds) {
            (Some(_), None) => 1,
            (_, Some(_)) => u64::MAX,
            (None, None) => PROGRAMS,
        }),
        end: Instant::now() + seconds.map_or(TIME_MAX, Duration::from_secs),
        failures: Mutex::default(),
    };
    thread::scope(|scope| {
        for number in 0..if replayed.is_some() { 1 } else { WORLDS } {
            let (campaign, cluster) = (&campaign, &cluster);
            scope.spawn(move || campaign.run(&World::new(cluster, number, against)));
        }
    });
    let failures = campaign.failures.into_inner().expect("nobody panics");
    let programs = campaign.programs.into_inner();
    eprintln!("{programs} programs");
    let told: Vec<String> = failures.into_values().collect();
    assert!(told.is_empty(), "\n{}", told.join("\n"));
    assert!(programs > 0);
}

/// Families that show how PgBouncer in transaction mode differs. It follows what the others are about.
const BROKEN: [Family; 14] = [
    Family::Unreported,
    Family::Options,
    Family::Characteristics,
    Family::Custom,
    Family::Roles,
    Family::Authorization,
    Family::Hold,
    Family::Temp,
    Family::Locks,
    Family::Listen,
    Family::SqlPrepare,
    Family::Hidden,
    Family::Discard,
    Family::Mixed,
];
/// Rounds of a family until one has to have gone wrong.
const ROUNDS_MAX: u64 = 60;

#[test]
fn every_family_that_a_pooler_without_session_state_breaks_shows_it() {
    let cluster = world::cluster();
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..WORLDS {
            let (cluster, next, missed) = (&cluster, &next, &missed);
            scope.spawn(move || {
                let world = World::new(cluster, number, Against::Pgbouncer);
                while let Some(family) = BROKEN.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let differs = |seed| {
                        let round = weave::round(*family, seed);
                        let difference = world.run(*family, &round).err();
                        // Startup parameters are refused, which says nothing of what happens later.
                        difference.is_some_and(|it| *family == Family::Options || it.step < round.steps.len())
                    };
                    match (0..ROUNDS_MAX).position(differs) {
                        Some(rounds) => eprintln!("{family:?}: in round {rounds}"),
                        None => missed.lock().expect("nobody panics").push(*family),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("nobody panics");
    assert!(missed.is_empty(), "no difference in {missed:?}");
}
