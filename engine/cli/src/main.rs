//! The `braidcast` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Publishing and downloading allocate per extent, and a server per fill: mimalloc takes no lock for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    braidcast_cli::run(std::env::args_os(), braidcast_cli::Programs::default()).into()
}
