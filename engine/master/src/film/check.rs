//! Whether a description of a film can be: pure functions of the description and of the streams' lengths.
//!
//! What passes here bounds every look into the index: track, chunk and entry of each frame number exist.

use braidcast_media::frames::{CODEC_DESCRIPTIONS_MAX, FRAME_ENTRIES_PER_CHUNK, FRAME_ENTRY_BYTES, KEY_ENTRY_BYTES};
use braidcast_media::layout::CHUNK_BYTES;
use braidcast_proto::v1;
use braidcast_proto::v1::track::Kind;
use prost::Message;

use crate::film::{FilmError, TrackError};
use crate::limits::{
    CODEC_DESCRIPTION_BYTES_MAX, FILM_BYTES_MAX, FILM_TEXT_BYTES_MAX, FILM_TRACKS_MAX, PICTURE_SIDE_MAX,
    TRACK_FRAMES_MAX,
};
use crate::streams::StreamLengths;

/// Checks that no stream of a film is announced.
pub(super) fn plain_bytes(streams: &StreamLengths) -> Result<(), FilmError> {
    let fields = [
        ("frame_index_bytes", streams.frame_index),
        ("key_frame_index_bytes", streams.key_frame_index),
        ("access_unit_bytes", streams.access_units),
    ];
    match fields.into_iter().find(|(_, bytes)| *bytes > 0) {
        Some((field, bytes)) => Err(FilmError::NoFilm { field, bytes }),
        None => Ok(()),
    }
}

/// Checks a film.
pub(super) fn film(film: &v1::Film, streams: &StreamLengths) -> Result<(), FilmError> {
    let bytes = film.encoded_len();
    if bytes > FILM_BYTES_MAX {
        return Err(FilmError::TooLong(bytes));
    }
    if film.container.len() > FILM_TEXT_BYTES_MAX {
        return Err(FilmError::Container(film.container.len()));
    }
    if film.tracks.is_empty() || film.tracks.len() > FILM_TRACKS_MAX {
        return Err(FilmError::Tracks(film.tracks.len()));
    }
    for (n, track) in film.tracks.iter().enumerate() {
        self::track(track).map_err(|problem| FilmError::Track { track: n, problem })?;
    }
    let video = video_track(film)?;
    frames_stream(film.frames_stream, streams.access_units)?;
    let needed = frame_index_bytes(&film.tracks)?;
    if streams.frame_index != needed {
        return Err(FilmError::FrameIndexBytes { found: streams.frame_index, needed });
    }
    if u64::from(film.key_frames) > video.frames {
        return Err(FilmError::KeyFrames { key_frames: film.key_frames, frames: video.frames });
    }
    let needed = u64::from(film.key_frames) * KEY_ENTRY_BYTES as u64;
    if streams.key_frame_index != needed {
        return Err(FilmError::KeyFrameIndexBytes { found: streams.key_frame_index, needed });
    }
    Ok(())
}

fn track(track: &v1::Track) -> Result<(), TrackError> {
    if !matches!(Kind::try_from(track.kind), Ok(Kind::Video | Kind::Audio | Kind::Subtitle)) {
        return Err(TrackError::Kind(track.kind));
    }
    texts(track)?;
    let descriptions = &track.codec_descriptions;
    if descriptions.is_empty() || descriptions.len() > CODEC_DESCRIPTIONS_MAX {
        return Err(TrackError::Descriptions(descriptions.len()));
    }
    let bytes = descriptions.iter().map(Vec::len).sum();
    if bytes > CODEC_DESCRIPTION_BYTES_MAX {
        return Err(TrackError::DescriptionBytes(bytes));
    }
    let v1::Rational { numerator, denominator } = track.time_base.unwrap_or_default();
    if numerator <= 0 || denominator <= 0 {
        return Err(TrackError::TimeBase { numerator, denominator });
    }
    if track.frames > TRACK_FRAMES_MAX {
        return Err(TrackError::Frames(track.frames));
    }
    let Some(video) = &track.video else { return Ok(()) };
    if video.width > PICTURE_SIDE_MAX || video.height > PICTURE_SIDE_MAX {
        return Err(TrackError::Picture { width: video.width, height: video.height });
    }
    if video.rotation.is_finite() { Ok(()) } else { Err(TrackError::Rotation) }
}

fn texts(track: &v1::Track) -> Result<(), TrackError> {
    let (video, audio) = (track.video.as_ref(), track.audio.as_ref());
    let texts = [
        ("codec", track.codec.len()),
        ("language", track.language.len()),
        ("video.pixel_format", video.map_or(0, |video| video.pixel_format.len())),
        ("audio.channel_layout", audio.map_or(0, |audio| audio.channel_layout.len())),
        ("audio.sample_format", audio.map_or(0, |audio| audio.sample_format.len())),
    ];
    match texts.into_iter().find(|(_, bytes)| *bytes > FILM_TEXT_BYTES_MAX) {
        Some((field, bytes)) => Err(TrackError::Text { field, bytes }),
        None => Ok(()),
    }
}

/// The film's own track. More is asked of it than of others, such as a cover picture that nobody has decoded yet.
fn video_track(film: &v1::Film) -> Result<&v1::Track, FilmError> {
    let found = film.video_track;
    let missing = FilmError::VideoTrackMissing { found, tracks: film.tracks.len() };
    let track = film.tracks.get(found as usize).ok_or(missing)?;
    let video = track.video.as_ref().filter(|_| track.kind() == Kind::Video);
    let v1::VideoTrack { width, height, .. } = *video.ok_or(FilmError::VideoTrackKind(found))?;
    let problem = if width == 0 || height == 0 {
        TrackError::Picture { width, height }
    } else if track.frames == 0 {
        TrackError::NoFrames
    } else if track.end < track.start {
        TrackError::Backward { start: track.start, end: track.end }
    } else {
        return Ok(track);
    };
    Err(FilmError::Track { track: found as usize, problem })
}

fn frames_stream(stream: u32, bytes: u64) -> Result<(), FilmError> {
    match (stream, bytes) {
        (0, 0) | (4, 1..) => Ok(()),
        (0 | 4, _) => Err(FilmError::AccessUnits { stream, bytes }),
        _ => Err(FilmError::FramesStream(stream)),
    }
}

/// Length of stream 1: up to the last entry of the last track that has any.
fn frame_index_bytes(tracks: &[v1::Track]) -> Result<u64, FilmError> {
    let (mut free, mut bytes) = (0, 0);
    for (n, track) in tracks.iter().enumerate().filter(|(_, track)| track.frames > 0) {
        let first = u64::from(track.first_chunk);
        if first < free {
            let problem = TrackError::FirstChunk { found: track.first_chunk, free };
            return Err(FilmError::Track { track: n, problem });
        }
        free = first + track.frames.div_ceil(FRAME_ENTRIES_PER_CHUNK);
        bytes = first * CHUNK_BYTES as u64 + track.frames * FRAME_ENTRY_BYTES as u64;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A video track of 120 frames from chunk 0 and an audio track of 51 from chunk 3.
    fn sample() -> (v1::Film, StreamLengths) {
        let time_base = Some(v1::Rational { numerator: 1, denominator: 90_000 });
        let video = v1::Track {
            kind: Kind::Video.into(),
            codec: "h264".into(),
            codec_descriptions: vec![vec![1; 40]],
            time_base,
            start: 0,
            end: 450_000,
            frames: 120,
            video: Some(v1::VideoTrack { width: 640, height: 360, ..v1::VideoTrack::default() }),
            ..v1::Track::default()
        };
        let audio = v1::Track {
            kind: Kind::Audio.into(),
            codec: "aac".into(),
            codec_descriptions: vec![vec![]],
            time_base,
            frames: 51,
            first_chunk: 3,
            audio: Some(v1::AudioTrack::default()),
            ..v1::Track::default()
        };
        let film = v1::Film {
            container: "mov".into(),
            frames_stream: 0,
            tracks: vec![video, audio],
            video_track: 0,
            key_frames: 10,
        };
        let streams =
            StreamLengths { original: 1_000, frame_index: 3 * 1_200 + 51 * 24, key_frame_index: 160, access_units: 0 };
        (film, streams)
    }

    fn refusal(change: impl FnOnce(&mut v1::Film, &mut StreamLengths)) -> String {
        let (mut film, mut streams) = sample();
        change(&mut film, &mut streams);
        super::film(&film, &streams).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_film_at_every_bound_passes() {
        type Change = fn(&mut v1::Film, &mut StreamLengths);
        let changes: [Change; 9] = [
            |_, _| (),
            |film, streams| (film.frames_stream, streams.access_units) = (4, 1),
            |film, streams| (film.key_frames, streams.key_frame_index) = (120, 120 * 16),
            |film, streams| (film.key_frames, streams.key_frame_index) = (0, 0),
            |film, _| film.tracks[0].end = film.tracks[0].start,
            |film, _| film.tracks[0].codec_descriptions = vec![vec![0; CODEC_DESCRIPTION_BYTES_MAX / 32]; 32],
            |film, _| film.tracks[0].video.as_mut().expect("video").height = PICTURE_SIDE_MAX,
            |film, streams| {
                film.tracks[1].frames = TRACK_FRAMES_MAX;
                streams.frame_index = 3 * 1_200 + TRACK_FRAMES_MAX * 24;
            },
            |film, _| {
                let empty = v1::Track { frames: 0, first_chunk: 0, ..film.tracks[1].clone() };
                film.tracks.resize(FILM_TRACKS_MAX, empty);
            },
        ];
        for (n, change) in changes.into_iter().enumerate() {
            assert_eq!(refusal(change), "", "case {n}");
        }
    }

    #[test]
    fn a_film_beyond_a_bound_is_refused_with_the_name_of_the_field() {
        type Change = fn(&mut v1::Film, &mut StreamLengths);
        let cases: [(&str, Change); 27] = [
            ("`film` takes", |film, _| {
                let long = v1::Track { codec_descriptions: vec![vec![0; 900_000]], ..film.tracks[0].clone() };
                film.tracks = vec![long; 3];
            }),
            ("`film.container`", |film, _| film.container = "x".repeat(FILM_TEXT_BYTES_MAX + 1)),
            ("`film.tracks`", |film, _| film.tracks.clear()),
            ("`film.tracks`", |film, _| {
                let empty = v1::Track { frames: 0, ..film.tracks[1].clone() };
                film.tracks.resize(FILM_TRACKS_MAX + 1, empty);
            }),
            ("`film.video_track`", |film, _| film.video_track = 2),
            ("`film.video_track`", |film, _| film.video_track = u32::MAX),
            ("`film.video_track`", |film, _| film.video_track = 1),
            ("`film.video_track`", |film, _| film.tracks[0].video = None),
            ("`film.frames_stream`", |film, _| film.frames_stream = 1),
            ("`film.frames_stream`", |film, _| film.frames_stream = 4),
            ("`film.frames_stream`", |_, streams| streams.access_units = 1),
            ("`film.tracks[1].kind`", |film, _| film.tracks[1].kind = 9),
            ("`film.tracks[1].kind`", |film, _| film.tracks[1].kind = 0),
            ("`film.tracks[1].language`", |film, _| film.tracks[1].language = "x".repeat(FILM_TEXT_BYTES_MAX + 1)),
            ("`film.tracks[0].codec_descriptions`", |film, _| film.tracks[0].codec_descriptions.clear()),
            ("`film.tracks[0].codec_descriptions`", |film, _| film.tracks[0].codec_descriptions = vec![vec![]; 33]),
            ("`film.tracks[0].codec_descriptions`", |film, _| {
                film.tracks[0].codec_descriptions = vec![vec![0; CODEC_DESCRIPTION_BYTES_MAX], vec![0]];
            }),
            ("`film.tracks[1].time_base`", |film, _| film.tracks[1].time_base = None),
            ("`film.tracks[0].frames`", |film, _| film.tracks[0].frames = TRACK_FRAMES_MAX + 1),
            ("`film.tracks[0].frames`", |film, _| film.tracks[0].frames = 0),
            ("`film.tracks[0].end`", |film, _| film.tracks[0].start = 450_001),
            ("`film.tracks[0].video`", |film, _| film.tracks[0].video.as_mut().expect("video").width = 0),
            ("`film.tracks[0].video`", |film, _| {
                film.tracks[0].video.as_mut().expect("video").height = PICTURE_SIDE_MAX + 1;
            }),
            ("`film.tracks[0].video.rotation`", |film, _| {
                film.tracks[0].video.as_mut().expect("video").rotation = f64::NAN;
            }),
            ("`film.tracks[1].first_chunk`", |film, _| film.tracks[1].first_chunk = 2),
            ("`film.key_frames`", |film, streams| (film.key_frames, streams.key_frame_index) = (121, 121 * 16)),
            ("`key_frame_index_bytes`", |_, streams| streams.key_frame_index += 16),
        ];
        for (n, (field, change)) in cases.into_iter().enumerate() {
            let said = refusal(change);
            assert!(said.starts_with(field), "case {n}: {said:?} instead of {field}");
        }
        for (numerator, denominator) in [(0, 1), (1, 0), (-1, 25), (1, -25)] {
            let time_base = Some(v1::Rational { numerator, denominator });
            let said = refusal(|film, _| film.tracks[0].time_base = time_base);
            assert!(said.starts_with("`film.tracks[0].time_base`"), "{said}");
        }
        for bytes in [0, 3 * 1_200 + 51 * 24 - 1, 3 * 1_200 + 51 * 24 + 1, u64::MAX] {
            let said = refusal(|_, streams| streams.frame_index = bytes);
            assert!(said.starts_with("`frame_index_bytes`"), "{said}");
        }
    }

    #[test]
    fn plain_bytes_have_no_streams_of_a_film() {
        let plain = StreamLengths { original: 1_000, ..StreamLengths::default() };
        assert!(plain_bytes(&plain).is_ok());
        for (field, streams) in [
            ("`frame_index_bytes`", StreamLengths { frame_index: 1, ..plain }),
            ("`key_frame_index_bytes`", StreamLengths { key_frame_index: 1, ..plain }),
            ("`access_unit_bytes`", StreamLengths { access_units: 1, ..plain }),
        ] {
            let said = plain_bytes(&streams).expect_err("refused").to_string();
            assert!(said.starts_with(field), "{said}");
        }
    }
}
