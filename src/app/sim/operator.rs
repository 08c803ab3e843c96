//! Somebody who looks after howdah while it works: by its console, and by its configuration.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::timeout;

use super::plan::DATABASES;
use super::proof::Proof;
use super::world::World;
use crate::net::simulated::Dice;
use crate::wire::backend::ErrorFields;
use crate::wire::{scan, startup, write};

/// Commands that are given at most.
const COMMANDS: u64 = 12;
/// A command that takes longer in virtual time would take for ever.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Operates until there is nothing more to do; all that was held is let go by then.
pub(super) async fn operate(world: Arc<World>, mut dice: Dice) {
    let pause = dice.pick(&[1000, 10_000]);
    for _ in 0..=dice.below(COMMANDS) {
        tokio::time::sleep(dice.pause(pause)).await;
        let database = format!("d{}", dice.below(DATABASES as u64));
        let whom = if dice.one_in(3) {
            String::new()
        } else {
            format!(" {database}")
        };
        match dice.below(8) {
            0 | 1 => hold(&world, &mut dice, "PAUSE", &whom).await,
            2 => hold(&world, &mut dice, "KILL", &whom).await,
            3 => {
                let clients = world.process.front.clients.all();
                if !clients.is_empty() {
                    let client = dice.pick(&clients);
                    command(&world, &mut dice, &format!("KILL_CLIENT {}", client.id)).await;
                }
            }
            4 => command(&world, &mut dice, &format!("RECONNECT{whom}")).await,
            5 => {
                command(&world, &mut dice, &format!("DISABLE {database}")).await;
                tokio::time::sleep(dice.pause(2000)).await;
                command(&world, &mut dice, &format!("ENABLE {database}")).await;
            }
            6 => {
                let text = world.plan.settings(&mut dice);
                std::fs::write(&world.config, text).expect("the file can be written");
                command(&world, &mut dice, "RELOAD").await;
            }
            _ => {
                let what = dice.pick(&["POOLS", "CLIENTS", "SERVERS", "STATS", "DATABASES"]);
                command(&world, &mut dice, &format!("SHOW {what}")).await;
            }
        }
    }
    if world.plan.ends_early {
        world.end().await;
    }
}

/// PAUSE or KILL, and RESUME a while later, whether all servers had gone by then or not.
async fn hold(world: &Arc<World>, dice: &mut Dice, verb: &str, whom: &str) {
    let mut own = dice.fork();
    let (other, text) = (world.clone(), format!("{verb}{whom}"));
    let holding = tokio::spawn(async move { command(&other, &mut own, &text).await });
    tokio::time::sleep(dice.pause(6000)).await;
    command(world, dice, &format!("RESUME{whom}")).await;
    let _ = holding.await;
    if !world.is_over() {
        // It may have been held only after that.
        command(world, dice, &format!("RESUME{whom}")).await;
    }
}

/// Whatever was interrupted, nothing is held or shut any more.
pub(super) async fn tidy_up(world: &Arc<World>) {
    if world.is_over() || !world.plan.faults.have_operator() {
        return;
    }
    let mut dice = Dice::new(0);
    command(world, &mut dice, "RESUME").await;
    for database in 0..DATABASES {
        command(world, &mut dice, &format!("RESUME d{database}")).await;
        command(world, &mut dice, &format!("ENABLE d{database}")).await;
    }
}

/// Gives one command on a console of its own.
async fn command(world: &World, dice: &mut Dice, text: &str) {
    world.trace.say(|| format!("operator: {text}"));
    match timeout(FOR_EVER, tell(world, dice, text)).await {
        Ok(answer) => world.trace.say(|| format!("operator: {text}: {answer}")),
        Err(_) => world.trace.fail(format!("the console does not answer {text}")),
    }
    world.check();
}

async fn tell(world: &World, dice: &mut Dice, text: &str) -> String {
    let Some(socket) = world.dial(dice) else {
        return "nobody listens".to_owned();
    };
    let mut output = BytesMut::new();
    let pairs = [("user", &b"admin"[..]), ("database", &b"howdah"[..])];
    startup::write_startup(&mut output, startup::PROTOCOL_3_0, pairs);
    let mut proof = Proof::new("admin", false, dice.fork());
    let (mut input, mut ready, mut answer) = (BytesMut::new(), 0, "done".to_owned());
    while ready < 2 {
        while !output.is_empty() {
            if socket.write(&mut output).await.is_err() {
                break;
            }
        }
        if !socket.read(&mut input, 8000).await.is_ok_and(|n| n > 0) {
            return format!("{answer}, the end");
        }
        while let Ok(Some((header, body))) = scan::message(&input) {
            if header.tag == b'Z' {
                ready += 1;
                if ready == 1 {
                    write::query(&mut output, text.as_bytes());
                }
            }
            if header.tag == b'R'
                && let Err(fault) = proof.answer(body, &mut output)
            {
                world.trace.fail(format!("operator: {fault}"));
            }
            if header.tag == b'E' {
                let fields = ErrorFields::new(body);
                answer = format!("{} {}", fields.text(b'C'), fields.text(b'M'));
            }
            input.advance(header.len);
        }
    }
    answer
}
