//! What a fetcher tells: how far it is, what it wants, and what fails.

use std::time::Duration;

use braidcast_media::{ChunkNo, ExtentNo, StreamId};

use crate::window::ExtentKey;

/// Something that whoever speaks with the master must know. Each thing is told once; what can repeat without end is
/// limited by time.
#[derive(Debug)]
pub enum Notice {
    /// A verified extent of a stream that is not the fetcher's own.
    Extent {
        /// Which extent.
        extent: ExtentNo,
        /// Its plain bytes.
        bytes: Vec<u8>,
    },
    /// All that was to be fetched is there and was checked, or was given up by [`Notice::Withdrew`].
    Fetched,
    /// It gives up these extents, and whatever else was to be fetched: others are to fetch it.
    Withdrew {
        /// What it had taken.
        extents: Vec<ExtentKey>,
    },
    /// Extents from here on have no sources yet; asked ahead of need.
    WantList {
        /// The first of them.
        first: ExtentNo,
    },
    /// Tickets are past half of their life.
    WantTickets,
    /// A source failed.
    SourceFailed(SourceFailure),
}

/// What the master should know of a source that failed.
#[derive(Clone, Debug)]
pub struct SourceFailure {
    /// What the master calls it.
    pub server_id: String,
    /// How it failed.
    pub kind: FailureKind,
    /// Since the last good chunk; nothing if there was none.
    pub last_good: Option<Duration>,
}

/// How a source failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// It answers nothing, or nothing of use.
    Silent,
    /// Its host says that nothing listens there.
    Refused,
    /// It does not hold what the master says it holds.
    NotHeld,
    /// A chunk does not open, however often it sends it.
    Damaged {
        /// Of which stream.
        stream: StreamId,
        /// Which chunk.
        chunk: ChunkNo,
    },
    /// It made chunks up.
    Forged,
}

/// Why a fetcher gave up.
#[derive(Clone, Debug)]
pub enum FetchError {
    /// Nothing came from anyone for too long. Each source's address with its reason.
    NoSources(Vec<(String, String)>),
    /// The master has named no servers for what comes next for too long.
    NoList,
    /// Bytes that were given out before their extent's hash was checked are wrong. The addresses of those who gave them.
    Misled(Vec<String>),
    /// No source has a right copy of this chunk.
    Unobtainable {
        /// Of which stream.
        stream: StreamId,
        /// Which chunk.
        chunk: ChunkNo,
        /// Each source's address with its reason.
        sources: Vec<(String, String)>,
    },
}
