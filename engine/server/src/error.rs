//! Why a server does not run.

use std::io;
use std::path::PathBuf;

use braidcast_io::UringUnavailable;

use crate::limits;

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
    /// A file of the state folder does not hold what a server has put there.
    #[error("{path}: {reason}; {remedy}")]
    StateFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Another server works in this state folder.
    #[error("{path}: in use by another server; stop it, or give this one a state folder of its own")]
    StateInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The UDP or TCP address cannot be served on; the system's words name it.
    #[error(transparent)]
    Listen(io::Error),
    /// More shards were asked for than session handles can tell apart.
    #[error("{shards} shards are more than the {max} that a server can have", max = limits::SHARDS_MAX)]
    TooManyShards {
        /// As many as were asked for.
        shards: u8,
    },
    /// io_uring was asked for by name and is not to be had.
    #[error("{0}; or run without it: `--io auto` or `--io portable`")]
    NoUring(#[from] UringUnavailable),
    /// Zero copy was asked for, and system calls for sending.
    #[error("zero copy needs io_uring: leave out `--io portable`, or `--zerocopy on`")]
    ZeroCopyWithoutUring,
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
