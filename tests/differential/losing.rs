//! The same programs while the pooler loses its servers: a client that loses one is told and let go, and no other may see
//! anything of it.

use std::time::{Duration, Instant};

use crate::families::Family;
use crate::number;
use crate::weave;
use crate::world::{self, World};

/// How long it is tried, unless `HOWDAH_DIFF_SECONDS` says otherwise.
const WHILE: Duration = Duration::from_secs(15);
/// Families whose clients have nothing to do with each other: one that is let go leaves the rest as they were.
const APART: [Family; 12] = [
    Family::Unreported,
    Family::Reported,
    Family::Options,
    Family::Characteristics,
    Family::Custom,
    Family::Roles,
    Family::Authorization,
    Family::Hold,
    Family::Temp,
    Family::SqlPrepare,
    Family::Protocol,
    Family::Copy,
];

#[test]
fn a_server_that_is_lost_costs_its_client_and_nobody_elses_state() {
    let cluster = world::cluster();
    let first = number("HOWDAH_DIFF_SEED").unwrap_or(1);
    let world = World::losing(&cluster, 0, first);
    let end = Instant::now() + number("HOWDAH_DIFF_SECONDS").map_or(WHILE, Duration::from_secs);
    let mut rounds = 0;
    while Instant::now() < end {
        let seed = first + rounds;
        let family = APART[usize::try_from(seed).expect("64 bits") % APART.len()];
        let round = weave::round(family, seed);
        if let Err(difference) = world.run(family, &round) {
            let steps = &round.steps[..(difference.step + 1).min(round.steps.len())];
            panic!("{family:?}, seed {seed}: {difference:#?} after {steps:#?}");
        }
        rounds += 1;
    }
    eprintln!(
        "{rounds} rounds, {} connections of the poolers",
        world.connections()
    );
    assert!(world.connections() > rounds / 10, "hardly a server was lost");
}
