//! A lab with real sockets: the `braidcast` processes, and what else could be used instead of them, over links that are
//! slow, long, lossy or blocked.
#![forbid(unsafe_code)]

pub mod namespace;
pub mod network;
pub mod ports;
pub mod process;
pub mod router;
pub mod stop;

/// x
pub fn main() -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
