//! The `howdah` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    howdah::app::main()
}
