//! Makes the pooler the slowest of all: a server that answers at once and clients that ask at once, both in one thread.
//!
//! `ceiling` prints the port on which it is the server. Each line of its input, `MODE CLIENTS SECONDS PORT`, is one load
//! on the pooler that listens on PORT: `begin` is printed once all clients have logged in and are warm, then the numbers
//! as JSON. It ends with its input.

#![allow(clippy::print_stdout, reason = "that is how bench/ceiling.py hears of it")]

mod asking;
mod event_loop;
mod protocol;
mod serving;

use std::io::{self, BufRead};
use std::time::Duration;

use anyhow::{Context, bail};

use asking::{Load, Mode};
use event_loop::EventLoop;

fn main() -> anyhow::Result<()> {
    let mut event_loop = EventLoop::new()?;
    println!("{}", event_loop.port()?);
    let mut input = io::stdin().lock();
    loop {
        event_loop.serve_until_readable(&input)?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        event_loop.run(&parse(&line)?)?;
    }
}

fn parse(line: &str) -> anyhow::Result<Load> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [mode, clients, seconds, port] = words[..] else {
        bail!("MODE CLIENTS SECONDS PORT are wanted: {line:?}");
    };
    Ok(Load {
        mode: Mode::named(mode).with_context(|| format!("no such mode: {mode}"))?,
        clients: clients.parse()?,
        duration: Duration::from_secs_f64(seconds.parse()?),
        port: port.parse()?,
    })
}
