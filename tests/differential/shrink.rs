//! Makes a round that goes wrong as small as it can be while it still goes wrong.

use std::time::{Duration, Instant};

use crate::families::Family;
use crate::program::Round;
use crate::world::{Difference, World};

/// Which server a client gets is a matter of time as well: what went well once may go wrong the next time.
const TRIES: usize = 3;

/// A smaller round, and where it goes wrong; `None` if it goes well now.
pub(crate) fn shrink(
    world: &World,
    family: Family,
    round: &Round,
    limit: Duration,
) -> Option<(Round, Difference)> {
    let end = Instant::now() + limit;
    let mut found = retry(world, family, round)?;
    let mut round = cut(round, &found);
    let mut chunk = round.steps.len().div_ceil(2);
    while chunk > 0 && Instant::now() < end {
        let mut at = 0;
        while at < round.steps.len() && Instant::now() < end {
            let mut fewer = round.clone();
            fewer.steps.drain(at..(at + chunk).min(round.steps.len()));
            match retry(world, family, &fewer) {
                Some(difference) => {
                    round = cut(&fewer, &difference);
                    found = difference;
                }
                None => at += chunk,
            }
        }
        chunk /= 2;
    }
    for at in (0..round.steps.len()).rev() {
        let (client, step) = round.steps[at].clone();
        for smaller in step.smaller() {
            let mut fewer = round.clone();
            fewer.steps[at] = (client, smaller);
            if Instant::now() < end
                && let Some(difference) = retry(world, family, &fewer)
            {
                (round, found) = (fewer, difference);
                break;
            }
        }
    }
    Some((round, found))
}

fn retry(world: &World, family: Family, round: &Round) -> Option<Difference> {
    (0..TRIES).find_map(|_| world.run(family, round).err())
}

/// Nothing behind the difference matters.
fn cut(round: &Round, difference: &Difference) -> Round {
    let mut round = round.clone();
    round.steps.truncate(difference.step + 1);
    round
}
