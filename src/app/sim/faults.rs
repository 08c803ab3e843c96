//! What goes wrong with servers: they crash and come back, hang, refuse, are full; and single connections to them end.

use std::sync::Arc;
use std::time::Duration;

use super::cluster::Mode;
use super::world::World;
use crate::net::simulated::Dice;

/// Strikes for as long as it is let.
pub(super) async fn strike(world: Arc<World>, mut dice: Dice) {
    let pause = dice.pick(&[2000, 20_000]);
    loop {
        tokio::time::sleep(dice.pause(pause)).await;
        let host = dice.below(world.plan.hosts as u64) as usize;
        match dice.below(8) {
            0 => {
                world.cluster.crash(host);
                be(&world, host, Mode::Refuses, dice.pause(8000)).await;
                be(&world, host, Mode::StartsUp, dice.pause(2000)).await;
                world.cluster.set_mode(host, Mode::Up);
            }
            1 => {
                be(&world, host, Mode::Hangs, dice.pause(60_000)).await;
                world.cluster.set_mode(host, Mode::Up);
            }
            2 => {
                be(&world, host, Mode::IsFull, dice.pause(20_000)).await;
                world.cluster.set_mode(host, Mode::Up);
            }
            _ => world.cluster.trouble(&mut dice),
        }
    }
}

async fn be(world: &World, host: usize, mode: Mode, time: Duration) {
    world.cluster.set_mode(host, mode);
    tokio::time::sleep(time).await;
}

/// All is well again.
pub(super) fn mend(world: &World) {
    for host in 0..world.plan.hosts {
        world.cluster.set_mode(host, Mode::Up);
    }
}
