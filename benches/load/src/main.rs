//! The `braidcast-load` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    braidcast_load::main()
}
