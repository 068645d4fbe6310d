//! Why a file is no film.

use braidcast_media::frames::{EntryError, FRAME_BYTES_MAX};

use crate::decode::TrackError;
use crate::limits::{ENTRIES_MAX, TRACKS_MAX};

/// Why a file is no film: the publisher reads "PATH is no film: ..." with this text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Reject {
    /// FFmpeg does not know it.
    #[error("no container that FFmpeg knows: {0}")]
    Unknown(String),
    /// It is known and not indexed.
    #[error("FFmpeg knows the format `{name}` ({long_name}), which Braidcast does not index")]
    Format { name: String, long_name: String },
    /// It is not even begun.
    #[error("the file is empty")]
    Empty,
    /// Audio only, or less.
    #[error("a `{container}` file with {found} and no video")]
    NoVideo { container: String, found: String },
    /// Its video cannot be played.
    #[error("its video track cannot be played: {0}")]
    Video(#[from] TrackError),
    /// There is a video track, and nothing is in it.
    #[error("its video track has no frames")]
    NoFrames,
    /// More tracks than are indexed.
    #[error("it has {0} tracks (at most {TRACKS_MAX})")]
    Tracks(usize),
    /// More frames than are indexed.
    #[error("it has more than {ENTRIES_MAX} frames in all its tracks")]
    Entries,
    /// A frame that no player has room for.
    #[error("track {track} has a frame of {bytes} bytes (at most {FRAME_BYTES_MAX})")]
    Frame { track: usize, bytes: usize },
    /// Numbers that the index cannot hold.
    #[error("{0}")]
    Entry(#[from] EntryError),
    /// What decoders need with single frames cannot be kept.
    #[error("track {0} changes its palette from frame to frame, which the index cannot keep")]
    Palette(usize),
    /// It is protected by a scheme of its container's.
    #[error("track {0} is encrypted, and nobody could play it")]
    Encrypted(usize),
    /// The access units do not stand in the file: to be tried again, with a stream of their own.
    #[error("its frames do not stand in the file in one piece")]
    NotInFile,
}
