//! Puts it together: the command line, listeners, accept, workers, signals, drain.

mod accept;
mod cli;
mod cluster;
mod demo;
mod descriptors;
mod ending;
mod health;
mod listen;
mod prefill;
mod process;
mod run;
mod signals;
#[cfg(test)]
mod sim;
mod supervisor;
mod sweep;
mod workers;

pub use cli::main;
pub use run::serve;
