//! What can go wrong with a film.

use std::io;
use std::path::PathBuf;

use braidcast_media::{ChunkNo, StreamId};

use crate::engine::EngineError;
use crate::error::{ControlError, list_sources};

/// A film cannot be opened or goes no further. Each message names the culprit and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    /// The master refused, or cannot be reached.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The name is that of plain bytes.
    #[error("{name:?} is no film that can be played: {reason}; fetch it with `braidcast get` or `braidcast.download`")]
    NotAFilm {
        /// Which name.
        name: String,
        /// The master's words.
        reason: String,
    },
    /// It has no frames.
    #[error("{name:?} has no frames; publish it again with --replace")]
    NoFrames {
        /// Which film.
        name: String,
    },
    /// What its publisher says of it cannot be.
    #[error("what is known of {name:?} cannot be right: {reason}; publish it again with --replace")]
    BadFilm {
        /// Which film.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Nothing comes from any server.
    #[error(
        "no server sends anything:{}; bring a server back, or let UDP through to it, and open the film again",
        list_sources(sources)
    )]
    NoSources {
        /// Each server's address and what is wrong with it.
        sources: Vec<(String, String)>,
    },
    /// No server has a right copy of a chunk.
    #[error(
        "no server has a right copy of chunk {chunk} of stream {stream}:{}; publish the video again with --replace",
        list_sources(sources)
    )]
    Damaged {
        /// Which stream.
        stream: StreamId,
        /// Which chunk.
        chunk: ChunkNo,
        /// Each server's address and what is wrong with it.
        sources: Vec<(String, String)>,
    },
    /// Frames that were given before the hashes of their extents were checked turned out to be wrong.
    #[error(
        "pictures that were shown already are not what was published: {} sent forged data; the server is banned and \
         reported to the master: discard what was shown, and open the film again",
        servers.join(" and ")
    )]
    Misled {
        /// The addresses of the servers that the wrong data came from.
        servers: Vec<String>,
    },
    /// The film has no such time.
    #[error("cannot seek to {seconds} s: the film has times from 0 to before {duration} s")]
    Seek {
        /// What was asked for, in seconds.
        seconds: f64,
        /// The film's length, in seconds.
        duration: f64,
    },
    /// The file of the trace cannot be written.
    #[error("cannot write the trace {}: {source}; choose another file for it", path.display())]
    Trace {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No socket or thread can be had.
    #[error("the system gives no socket or thread: {0}")]
    System(io::Error),
    /// The stream was closed.
    #[error("the film was closed")]
    Closed,
}

impl From<EngineError> for FilmError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NoSources(sources) => Self::NoSources { sources },
            EngineError::NoList => Self::NoSources { sources: Vec::new() },
            EngineError::Misled(servers) => Self::Misled { servers },
            EngineError::Unobtainable { stream, chunk, sources } => Self::Damaged { stream, chunk, sources },
            // A player's buffers are taken as long as it is there.
            EngineError::Output(error) | EngineError::System(error) => Self::System(error),
        }
    }
}
