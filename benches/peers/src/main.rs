//! The `braidcast-peers` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    braidcast_peers::main()
}
