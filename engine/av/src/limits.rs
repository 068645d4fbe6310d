//! Every bound of this crate.

use braidcast_media::frames::{CODEC_DESCRIPTIONS_MAX, FRAME_ENTRY_BYTES};

/// Most tracks of a film.
pub const TRACKS_MAX: usize = 64;
/// Most entries of a film's frame index, all tracks together: a day of video at 60 frames a second with two audio tracks.
pub const ENTRIES_MAX: usize = 8 << 20;
/// Largest width and largest height of a picture, in pixels.
pub const SIDE_MAX: u32 = 16_384;
/// Most pixels of a picture.
pub const PIXELS_MAX: u64 = 64 << 20;
/// Most bytes of a track's codec descriptions, all together.
pub const DESCRIPTION_BYTES_MAX: usize = 1 << 20;
/// Longest access unit that a decoder takes, in bytes.
pub const ACCESS_UNIT_BYTES_MAX: usize = 256 << 20;
/// Most frame threads of a decoder: each holds a picture back.
pub const THREADS_MAX: usize = 16;
/// Access units that may fail one after the other within one call before a decoder gives up.
pub const ERRORS_IN_A_ROW_MAX: usize = 1_024;
/// Pictures that a decoder may be told to hold back for reordering: H.264 and H.265 allow 16.
pub const REORDER_MAX: u32 = 16;
/// Times a demuxer may ask to be called again before anything comes of it.
pub const RETRIES_MAX: usize = 1_000;
/// Bytes of a file's beginning from which a format that is not indexed is named.
pub const GUESS_BYTES: usize = 64 << 10;
/// Longest name of a language: ISO 639-2.
pub const LANGUAGE_BYTES: usize = 3;

/// What a probing process may take from the machine.
pub mod cage {
    /// Address space, in bytes: the largest index three times over, FFmpeg's buffers and the libraries themselves.
    pub const ADDRESS_SPACE_BYTES: u64 = 4 << 30;
    /// Processor time in seconds. Reading a file through takes a second for each few GiB.
    pub const CPU_SECONDS: u64 = 900;
    /// Open files: standard input, output and error, the film twice, and a few that libraries open.
    pub const OPEN_FILES: u64 = 16;
    /// Bytes it may write into files: none. Its standard output has to be a pipe.
    pub const FILE_BYTES: u64 = 0;
    /// Bytes of a core dump: none.
    pub const CORE_BYTES: u64 = 0;
}

/// FFmpeg's names of the demuxers that may open a film.
pub const FORMATS: &str = "mov,avi,matroska,mpegts,mpeg";
/// FFmpeg's names of the video codecs that are played. A decoder runs in the player's own process, so FFmpeg's rare and
/// little tested ones are left out.
pub const VIDEO_CODECS: [&str; 10] =
    ["h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg", "prores"];

const _: () = assert!(ENTRIES_MAX * FRAME_ENTRY_BYTES < (cage::ADDRESS_SPACE_BYTES / 4) as usize);
const _: () = assert!(PIXELS_MAX <= SIDE_MAX as u64 * SIDE_MAX as u64);
const _: () = assert!(CODEC_DESCRIPTIONS_MAX <= DESCRIPTION_BYTES_MAX);
