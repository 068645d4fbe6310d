//! A video track's description, checked before FFmpeg sees any of it.

use braidcast_media::frames::CODEC_DESCRIPTIONS_MAX;
use braidcast_proto::v1;

use crate::limits::{DESCRIPTION_BYTES_MAX, PIXELS_MAX, REORDER_MAX, SIDE_MAX, VIDEO_CODECS};

/// Largest number of the enumerations that a container carries in a byte.
const CODE_POINT_MAX: u32 = 255;
/// Longest name of a pixel format that is looked up.
const NAME_BYTES_MAX: usize = 64;

/// What is wrong with the description of a video track.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TrackError {
    /// Audio or subtitles.
    #[error("it is not one of video")]
    NotVideo,
    /// A codec that is not played.
    #[error("its codec `{0}` is not one that Braidcast plays ({list})", list = VIDEO_CODECS.join(", "))]
    Codec(String),
    /// No picture can have this size.
    #[error("a picture of {width} x {height} pixels (sides: 1 to {SIDE_MAX}; pixels: at most {PIXELS_MAX})")]
    Size {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// No description, or too many.
    #[error("{0} codec descriptions (1 to {CODEC_DESCRIPTIONS_MAX})")]
    Descriptions(usize),
    /// Too long.
    #[error("{0} bytes of codec descriptions (at most {DESCRIPTION_BYTES_MAX})")]
    DescriptionBytes(usize),
    /// No time is measured in such a unit.
    #[error("a time base of {0}/{1} s (both numbers have to be above 0)")]
    TimeBase(i32, i32),
    /// A number that is beyond what its field holds.
    #[error("its {field} is {value} (at most {max})")]
    Number {
        /// Which field.
        field: &'static str,
        /// What it is.
        value: i64,
        /// What it may be.
        max: i64,
    },
}

/// What of a track is needed and was found whole.
#[derive(Debug)]
pub(super) struct Checked<'a> {
    pub video: &'a v1::VideoTrack,
    pub time_base: (i32, i32),
}

/// Checks every field that FFmpeg is going to see.
pub(super) fn check(track: &v1::Track) -> Result<Checked<'_>, TrackError> {
    let video = track.video.as_ref().filter(|_| track.kind() == v1::track::Kind::Video).ok_or(TrackError::NotVideo)?;
    check_codec(&track.codec)?;
    check_size(video.width, video.height)?;
    check_descriptions(&track.codec_descriptions)?;
    let base = track.time_base.unwrap_or_default();
    if base.numerator <= 0 || base.denominator <= 0 {
        return Err(TrackError::TimeBase(base.numerator, base.denominator));
    }
    let ratio = video.sample_aspect_ratio.unwrap_or(v1::Rational { numerator: 0, denominator: 1 });
    let bits_max = 64;
    let within = |field: &'static str, value: i64, max: i64| {
        if (0..=max).contains(&value) { Ok(()) } else { Err(TrackError::Number { field, value, max }) }
    };
    for (field, value) in [
        ("field order", video.field_order),
        ("colour range", video.color_range),
        ("colour primaries", video.color_primaries),
        ("colour transfer", video.color_transfer),
        ("colour matrix", video.color_matrix),
        ("chroma location", video.chroma_location),
    ] {
        within(field, value.into(), CODE_POINT_MAX.into())?;
    }
    within("reordering", video.reorder.into(), REORDER_MAX.into())?;
    within("bits per coded sample", track.bits_per_coded_sample.into(), bits_max)?;
    within("bits per raw sample", track.bits_per_raw_sample.into(), bits_max)?;
    within("pixel format's length", video.pixel_format.len() as i64, NAME_BYTES_MAX as i64)?;
    within("aspect ratio's numerator", ratio.numerator.into(), i32::MAX.into())?;
    within("aspect ratio's denominator", ratio.denominator.into(), i32::MAX.into())?;
    Ok(Checked { video, time_base: (base.numerator, base.denominator) })
}

/// Whether the codec is one that is played.
pub(crate) fn check_codec(codec: &str) -> Result<(), TrackError> {
    if VIDEO_CODECS.contains(&codec) { Ok(()) } else { Err(TrackError::Codec(codec.to_owned())) }
}

/// Whether a picture may have this size.
pub(crate) fn check_size(width: u32, height: u32) -> Result<(), TrackError> {
    let sides = 1..=SIDE_MAX;
    let pixels = u64::from(width) * u64::from(height);
    if sides.contains(&width) && sides.contains(&height) && pixels <= PIXELS_MAX {
        Ok(())
    } else {
        Err(TrackError::Size { width, height })
    }
}

/// Whether a track may have these codec descriptions.
pub(crate) fn check_descriptions(descriptions: &[Vec<u8>]) -> Result<(), TrackError> {
    if !(1..=CODEC_DESCRIPTIONS_MAX).contains(&descriptions.len()) {
        return Err(TrackError::Descriptions(descriptions.len()));
    }
    let bytes = descriptions.iter().map(Vec::len).sum();
    if bytes > DESCRIPTION_BYTES_MAX { Err(TrackError::DescriptionBytes(bytes)) } else { Ok(()) }
}
