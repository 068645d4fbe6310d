//! Why a server does not run.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A server cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The state folder, or a file in it, is of no use.
    #[error("{path}: {source}")]
    State {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another server works in this state folder.
    #[error("{path}: in use by another server; stop it, or give this one a state folder of its own")]
    StateInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The UDP address cannot be served on.
    #[error("cannot serve on UDP {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// io_uring was asked for by name and is not to be had.
    #[error("{0}; use `--io auto` or `--io portable` to run without it")]
    NoUring(String),
    /// A thread that serves has ended.
    #[error("shard {shard} of the server stopped: {source}")]
    Shard {
        /// Which one.
        shard: u8,
        /// What the system said.
        source: io::Error,
    },
    /// No helper thread could be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The system gives no random bytes.
    #[error("the system's random source failed")]
    NoRandomness,
    /// The master's address or the certificates are of no use.
    #[error("cannot use the master's address {address} with these certificates: {reason}")]
    Master {
        /// The address as it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The master will not have this server; trying again as it is cannot help.
    #[error("the master at {address} refused this server: {reason}")]
    Refused {
        /// The master.
        address: String,
        /// The master's own words.
        reason: String,
    },
}
