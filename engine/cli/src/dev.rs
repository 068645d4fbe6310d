//! A whole Braidcast on loopback: a master and media servers, each a process of its own, kept together by this one.
//!
//! - `state`: the folder where everything stands, and the lock that keeps a second `dev` out
//! - `part`: what a part is called and started with; `child`: one that runs
//! - `cluster`: the loop that starts, watches, restarts and ends them
//! - `library`: publishing a folder, and waiting until all of it can be served
//! - `restart`: how `braidcast dev --restart N` reaches the `dev` that runs

mod child;
mod cluster;
mod library;
mod part;
mod ports;
mod restart;
mod state;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use cluster::{Options, run};
pub(crate) use part::Part;
pub(crate) use restart::request as request_restart;

/// The address that every part listens on.
const LOOPBACK: std::net::Ipv4Addr = std::net::Ipv4Addr::LOCALHOST;

/// `dev` cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    /// A file of the state folder is of no use.
    #[error("{path}: {source}")]
    State {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state folder's settings make no sense.
    #[error("{path}: {reason}; remove the file to have new ports chosen")]
    Settings {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another `dev` works in the state folder.
    #[error(
        "{state}: process {pid} runs `braidcast dev` on this state; stop it, or choose another folder with --state"
    )]
    Running {
        /// The folder.
        state: PathBuf,
        /// The other process.
        pid: String,
    },
    /// No `dev` works in the state folder.
    #[error("{state}: no `braidcast dev` runs on this state; start one with `braidcast dev DIR --state {state}`")]
    NotRunning {
        /// The folder.
        state: PathBuf,
    },
    /// The folder of videos is of no use.
    #[error("cannot list the videos in {path}: {source}; give `braidcast dev` the folder that they are in")]
    Videos {
        /// Which folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No port is free.
    #[error("no port is free on {LOOPBACK} from {first} to {last}; end what uses them", first = ports::FIRST, last = ports::LAST)]
    NoPort,
    /// The port of an earlier run is taken.
    #[error("port {port} on {LOOPBACK}, which {part} had before, is taken; end what uses it, or remove {settings}")]
    PortTaken {
        /// Whose port.
        part: Part,
        /// Which.
        port: u16,
        /// The file that keeps it.
        settings: PathBuf,
    },
    /// A process cannot be started.
    #[error("cannot start {part}: {source}")]
    Spawn {
        /// Which part.
        part: Part,
        /// What the system said.
        source: io::Error,
    },
    /// A part ended before it was ready.
    #[error("{part} ended before it was ready: {reason}; its log is {log}")]
    Failed {
        /// Which part.
        part: Part,
        /// Its last words.
        reason: String,
        /// Its log.
        log: PathBuf,
    },
    /// A part is not ready in time.
    #[error("{part} is not ready after {after:?}; its log is {log}")]
    Late {
        /// Which part.
        part: Part,
        /// How long was waited.
        after: Duration,
        /// Its log.
        log: PathBuf,
    },
    /// There is no such part to restart.
    #[error("there is no {part} here: `dev` runs {servers} servers")]
    NoSuchPart {
        /// Which was asked for.
        part: Part,
        /// How many there are.
        servers: usize,
    },
    /// A part runs again, but the master does not list it.
    #[error("{part} runs again, and is not listed after {after:?}: {reason}")]
    NotListed {
        /// Which part.
        part: Part,
        /// How long was waited.
        after: Duration,
        /// The master's words.
        reason: String,
    },
    /// The `dev` that runs could not restart a part.
    #[error("{0}")]
    Restart(String),
    /// The system gives no random bytes for a password.
    #[error("the system's random source failed")]
    NoRandomness,
}
