//! What is known of a film before a frame of it has come.

use braidcast_media::AssetId;
use braidcast_media::frames::FrameEntry;
use braidcast_proto::v1::{self, track};

use crate::control::Distribution;

/// Pictures that may be decoded after one that is shown after them: a run of B-frames as long as any encoder makes.
const REORDER_MAX: u32 = 16;

/// A film.
#[derive(Clone, Debug)]
pub struct FilmInfo {
    /// The name under which it was published.
    pub name: String,
    /// Which version of it this is.
    pub asset: AssetId,
    /// Length of the published file in bytes.
    pub bytes: u64,
    /// FFmpeg's name of the container's format.
    pub container: String,
    /// Width of a picture as the container says it; a picture may have another.
    pub width: u32,
    /// Height of a picture.
    pub height: u32,
    /// FFmpeg's name of the video codec.
    pub codec: String,
    /// FFmpeg's name of the pixel format; empty if nobody knows before decoding.
    pub pixel_format: String,
    /// Mean pictures per second as a fraction, where known.
    pub frame_rate: Option<(u32, u32)>,
    /// Length in seconds, from the first picture shown to the end of the last.
    pub duration: f64,
    /// Pictures shown.
    pub pictures: u64,
    /// Seconds per unit of the video track's times, as a fraction.
    pub time_base: (u32, u32),
    /// Presentation time of the first picture, in units of the time base.
    pub start: i64,
    /// Pictures that the decoder holds back, where the container tells no presentation times, as AVI: each picture then
    /// has the decode time of the frame that brought it out.
    pub held_back: Option<u32>,
    /// Degrees, counter-clockwise, by which a picture is to be turned for display.
    pub rotation: f64,
    /// Width of a sample by its height, where known.
    pub sample_aspect_ratio: Option<(u32, u32)>,
    /// All tracks, in the container's order.
    pub tracks: Vec<TrackInfo>,
    /// What a decoder of the video track needs.
    pub video: v1::Track,
}

/// A window is not shorter, in frames, however long the film claims to be: a wrong end, or a rate that varies, must not
/// make a call of every frame. Memory is bounded by bytes.
const FRAMES_MIN: f64 = 128.0;
/// The master gives no more.
const FRAMES_MAX: f64 = 4_096.0;

/// A track of a film.
#[derive(Clone, Debug)]
pub struct TrackInfo {
    /// What it holds.
    pub kind: TrackKind,
    /// FFmpeg's name of the codec.
    pub codec: String,
    /// ISO 639-2, or empty.
    pub language: String,
    /// Samples per second; 0 where it is no audio.
    pub sample_rate: u32,
    /// Audio channels; 0 where it is no audio.
    pub channels: u32,
}

/// What a track holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrackKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Subtitles.
    Subtitle,
}

impl FilmInfo {
    /// Reads what the master says. A publisher wrote it: it may be anything.
    pub(super) fn of(list: &Distribution) -> Result<Self, String> {
        let film = list.film.as_ref().ok_or("the master names no film")?;
        let track = film.tracks.get(film.video_track as usize).ok_or("its video track does not exist")?;
        let video = track.video.as_ref().ok_or("its video track has no pictures")?;
        let time_base = track.time_base.and_then(positive).ok_or("its time base is not positive")?;
        let original = list.layout.stream(braidcast_media::StreamId::ORIGINAL).map_or(0, |stream| stream.bytes);
        let mut info = Self {
            name: list.name.clone(),
            asset: list.asset,
            bytes: original,
            container: film.container.clone(),
            width: video.width,
            height: video.height,
            codec: track.codec.clone(),
            pixel_format: video.pixel_format.clone(),
            frame_rate: video.average_frame_rate.and_then(positive),
            duration: 0.0,
            pictures: video.pictures,
            time_base,
            start: track.start,
            held_back: None,
            rotation: video.rotation,
            sample_aspect_ratio: video.sample_aspect_ratio.and_then(positive),
            tracks: film.tracks.iter().filter_map(TrackInfo::of).collect(),
            video: track.clone(),
        };
        info.duration = info.seconds(track.end);
        info.guess_times(video.reorder, list.frames.as_ref().map_or(&[], |frames| &frames.entries));
        Ok(info)
    }

    /// Where the container tells no presentation times, the first picture comes out with a frame after the first.
    fn guess_times(&mut self, held_back: u32, entries: &[FrameEntry]) {
        let is_told = entries.first().is_none_or(|entry| entry.pts.is_some());
        if is_told || held_back == 0 {
            return;
        }
        self.held_back = Some(held_back);
        let first_out = entries.get(held_back as usize).or(entries.last());
        self.start = first_out.and_then(|entry| entry.dts).unwrap_or(self.start);
    }

    /// Seconds of one picture, on the average.
    pub fn picture_seconds(&self) -> f64 {
        self.duration / self.pictures.max(1) as f64
    }

    /// How much earlier than a picture's time decoding may have to begin, in seconds, for all that the index tells: a
    /// key frame that is decoded earlier may be shown later.
    pub(super) fn seconds_early(&self) -> f64 {
        if self.held_back.is_some() { f64::from(REORDER_MAX) * self.picture_seconds() } else { 0.0 }
    }

    /// A time of the video track, in seconds from the first picture.
    pub fn seconds(&self, time: i64) -> f64 {
        let units = i128::from(time) - i128::from(self.start);
        units as f64 * f64::from(self.time_base.0) / f64::from(self.time_base.1)
    }

    /// Frames, on the average, of so many seconds.
    pub(super) fn frames_in(&self, seconds: f64) -> u64 {
        let (frames, length) = (self.video.frames as f64, self.duration.max(1e-3));
        (frames * seconds / length).ceil().clamp(FRAMES_MIN, FRAMES_MAX) as u64
    }
}

impl TrackInfo {
    fn of(track: &v1::Track) -> Option<Self> {
        let kind = match track.kind() {
            track::Kind::Video => TrackKind::Video,
            track::Kind::Audio => TrackKind::Audio,
            track::Kind::Subtitle => TrackKind::Subtitle,
            track::Kind::Unspecified => return None,
        };
        let audio = track.audio.as_ref();
        Some(Self {
            kind,
            codec: track.codec.clone(),
            language: track.language.clone(),
            sample_rate: audio.map_or(0, |audio| audio.sample_rate),
            channels: audio.map_or(0, |audio| audio.channels),
        })
    }
}

impl TrackKind {
    /// "video", "audio" or "subtitle".
    pub fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Subtitle => "subtitle",
        }
    }
}

fn positive(rational: v1::Rational) -> Option<(u32, u32)> {
    let positive = |part: i32| u32::try_from(part).ok().filter(|&part| part > 0);
    positive(rational.numerator).zip(positive(rational.denominator))
}
