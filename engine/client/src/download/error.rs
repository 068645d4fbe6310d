//! What can go wrong with a download.

use std::io;
use std::path::PathBuf;

use braidcast_media::{ChunkNo, StreamId};

use super::output::Output;
use crate::engine::EngineError;
use crate::error::{ControlError, list_sources};

/// A download did not succeed. Each message names the culprit and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The master refused, or cannot be reached.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Nothing comes from any server.
    #[error(
        "no server sends anything:{}; bring a server back, or let UDP through to it, and run the same command again, \
         which goes on from here",
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
    /// The file cannot be written.
    #[error("{}: {source}; {}", path.display(), remedy(source))]
    Output {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk has too little room.
    #[error(
        "{}: the disk has {free} bytes free and the video needs {needed}; make room, or choose another place with -o",
        path.display()
    )]
    DiskFull {
        /// Which file.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// Another download writes the same file.
    #[error("{}: another download is writing this file; wait for it, or choose another place with -o", path.display())]
    InUse {
        /// The partial file.
        path: PathBuf,
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
    /// The asset has no stream 0.
    #[error("the master's answer names no file in this video; are master and client of the same version?")]
    NoFile,
    /// The asset has no list of hashes, or one of the wrong length.
    #[error("the master's answer names no hashes for this video; are master and client of the same version?")]
    NoHashes,
    /// The list of hashes does not fit into memory.
    #[error("a video of {bytes} bytes is longer than this program can verify")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// The download was stopped from within the program.
    #[error("the download was stopped")]
    Interrupted,
}

impl DownloadError {
    /// Names the file of an error that the engine met while it wrote.
    pub(super) fn at(self, output: &Output) -> Self {
        match self {
            Self::Output { source, .. } => output.error(source),
            other => other,
        }
    }
}

impl From<EngineError> for DownloadError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NoSources(sources) => Self::NoSources { sources },
            EngineError::NoList => Self::NoSources { sources: Vec::new() },
            // Nothing of a download is given out before it is checked.
            EngineError::Misled(servers) => Self::NoSources {
                sources: servers.into_iter().map(|server| (server, "sent forged chunks".to_owned())).collect(),
            },
            EngineError::Unobtainable { stream, chunk, sources } => Self::Damaged { stream, chunk, sources },
            EngineError::Output(source) => Self::Output { path: PathBuf::new(), source },
            EngineError::System(source) => Self::System(source),
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a place that you may write with -o"
        }
        io::ErrorKind::NotFound => "create the folder first, or choose another place with -o",
        io::ErrorKind::IsADirectory => "name a file in it with -o",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room; the partial file is kept",
        io::ErrorKind::BrokenPipe => "whoever read the output has stopped",
        _ => "choose another place with -o",
    }
}
