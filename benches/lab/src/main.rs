//! The `braidcast-lab` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    braidcast_lab::main()
}
