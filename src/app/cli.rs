//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::client::House;
use crate::config::{Config, Source};

/// Exit status for a command line or configuration that makes no sense, as in sysexits.h.
const USAGE: u8 = 64;

/// A PostgreSQL connection pooler that programs do not notice.
#[derive(Debug, Parser)]
#[command(name = "howdah", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Configuration file (TOML), or a URL `postgres://user:password@host/database` to pool. Without it the environment
    /// is read.
    #[arg(value_name = "FILE|URL")]
    source: Option<String>,
    /// The configuration file, by option.
    #[arg(short, long, value_name = "FILE", conflicts_with = "source")]
    config: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says what is wrong with a configuration, or what would run.
    Check {
        /// Configuration file or URL; without it the environment.
        #[arg(value_name = "FILE|URL")]
        source: Option<String>,
        /// The configuration file, by option.
        #[arg(short, long, value_name = "FILE", conflicts_with = "source")]
        config: Option<String>,
    },
    /// Asks a running howdah whether it is well: exit status 0 if it is. For the health check of a container.
    Health {
        /// Where to ask.
        #[arg(long, default_value = "http://127.0.0.1:9127/healthz")]
        url: String,
    },
    /// Starts a private throwaway PostgreSQL with howdah in front of it, and removes all of it at the end.
    Demo {
        /// Run this command against it, with PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE set, and exit with its
        /// status.
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

/// Runs the command; returns its exit status.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match arguments.command {
        Some(Command::Check { source, config }) => check(&chosen(source.as_deref(), config)),
        Some(Command::Health { url }) => exit(super::health::ask(&url).map(|()| 0)),
        Some(Command::Demo { command }) => exit(super::demo::demo(&command)),
        None => serve(&chosen(arguments.source.as_deref(), arguments.config)),
    }
}

/// Where the configuration is, by argument or by option.
fn chosen(argument: Option<&str>, option: Option<String>) -> Source {
    let by_option = option.map(|file| Source::File(file.into()));
    by_option.unwrap_or_else(|| Source::from_argument(argument))
}

#[expect(
    clippy::print_stdout,
    reason = "the answer of a command belongs on standard output"
)]
fn check(source: &Source) -> ExitCode {
    let sound = Config::load(source)
        .map_err(|faults| faults.to_string())
        .and_then(House::new);
    match sound {
        Ok(house) => {
            println!("{}", house.summary());
            for warning in house.config.warnings() {
                eprintln!("warning: {warning}");
            }
            ExitCode::SUCCESS
        }
        Err(faults) => {
            eprintln!("{faults}");
            ExitCode::from(USAGE)
        }
    }
}

fn serve(source: &Source) -> ExitCode {
    let config = match Config::load(source) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(USAGE);
        }
    };
    exit(super::run::serve(config).map(|()| 0))
}

fn exit(result: anyhow::Result<u8>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("howdah: {error:#}");
            ExitCode::FAILURE
        }
    }
}
