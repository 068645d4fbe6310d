//! What a description of a film can have wrong.

use braidcast_media::frames::CODEC_DESCRIPTIONS_MAX;

use crate::limits::{
    CODEC_DESCRIPTION_BYTES_MAX, FILM_BYTES_MAX, FILM_TEXT_BYTES_MAX, FILM_TRACKS_MAX, PICTURE_SIDE_MAX,
    TRACK_FRAMES_MAX,
};

/// A description that cannot be. Each names the field of BeginPublishRequest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilmError {
    #[error("`film` does not decode: {0}")]
    Encoding(prost::DecodeError),
    #[error("`film` does not decode: it ends amid a field, or has one of a kind that no description has")]
    Fields,
    #[error("`{field}` is {bytes}, and there is no `film`: plain bytes have no such stream")]
    NoFilm { field: &'static str, bytes: u64 },
    #[error("`film` takes {0} bytes, and {FILM_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("`film.container` has {0} bytes, and {FILM_TEXT_BYTES_MAX} are allowed")]
    Container(usize),
    #[error("`film.tracks` has {0} entries, and 1 to {FILM_TRACKS_MAX} are allowed")]
    Tracks(usize),
    #[error("`film.video_track` is {found}, and `film.tracks` has {tracks} entries, counted from 0")]
    VideoTrackMissing { found: u32, tracks: usize },
    #[error("`film.video_track` is {0}, and that track is not of the kind VIDEO with its `video`")]
    VideoTrackKind(u32),
    #[error("`film.frames_stream` is {0}, and frames stand in stream 0 or 4")]
    FramesStream(u32),
    #[error(
        "`film.frames_stream` is {stream}, and `access_unit_bytes` is {bytes}: there is a stream 4 if, and only \
             if, frames stand in it"
    )]
    AccessUnits { stream: u32, bytes: u64 },
    #[error("`film.tracks[{track}].{problem}")]
    Track { track: usize, problem: TrackError },
    #[error("`frame_index_bytes` is {found}, and the index of these tracks takes {needed}")]
    FrameIndexBytes { found: u64, needed: u64 },
    #[error("`film.key_frames` is {key_frames}, and the film's video track has {frames} frames")]
    KeyFrames { key_frames: u32, frames: u64 },
    #[error("`key_frame_index_bytes` is {found}, and the index of `film.key_frames` takes {needed}")]
    KeyFrameIndexBytes { found: u64, needed: u64 },
}

/// A track that cannot be. Reads on from the track, and a quotation mark that is open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TrackError {
    #[error("kind` is {0}, and it must be VIDEO, AUDIO or SUBTITLE")]
    Kind(i32),
    #[error("{field}` has {bytes} bytes, and {FILM_TEXT_BYTES_MAX} are allowed")]
    Text { field: &'static str, bytes: usize },
    #[error("codec_descriptions` has {0} entries, and 1 to {CODEC_DESCRIPTIONS_MAX} are allowed")]
    Descriptions(usize),
    #[error("codec_descriptions` takes {0} bytes, and {CODEC_DESCRIPTION_BYTES_MAX} are allowed")]
    DescriptionBytes(usize),
    #[error("time_base` is {numerator}/{denominator}, and both numbers must be positive")]
    TimeBase { numerator: i32, denominator: i32 },
    #[error("frames` is {0}, and {TRACK_FRAMES_MAX} are allowed")]
    Frames(u64),
    #[error("frames` is 0, and this is the film's video track")]
    NoFrames,
    #[error("first_chunk` is {found}, and the tracks before it take the chunks up to {free}")]
    FirstChunk { found: u32, free: u64 },
    #[error("end` is {end}, which is before its `start`, {start}")]
    Backward { start: i64, end: i64 },
    #[error("video` is {width} x {height} pixels, and 1 to {PICTURE_SIDE_MAX} are allowed for each")]
    Picture { width: u32, height: u32 },
    #[error("video.rotation` is no number")]
    Rotation,
}
