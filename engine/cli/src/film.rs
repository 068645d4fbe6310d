//! A film, and the state of a video, in words.

use std::fmt::Write;

use braidcast_proto::v1::{Condition, Film, Track, Video, track};

/// Most tracks that are listed.
const TRACKS_SHOWN_MAX: usize = 16;

/// A film in a few words: its picture, length and how many other tracks it has.
pub(crate) fn film_in_words(film: &Film) -> String {
    let mut words = film.tracks.get(film.video_track as usize).map(track_in_words).unwrap_or_default();
    let others = film.tracks.len().saturating_sub(1);
    if others > 0 {
        // Writing to a string does not fail.
        let _ = write!(words, " and {others} more {}", if others == 1 { "track" } else { "tracks" });
    }
    words
}

/// A line for each track.
pub(crate) fn tracks_in_words(film: &Film) -> Vec<String> {
    film.tracks.iter().take(TRACKS_SHOWN_MAX).map(track_in_words).collect()
}

/// Whether the master's own copy of a video is sound.
pub(crate) fn is_sound(video: &Video) -> bool {
    matches!(video.condition(), Condition::Sound | Condition::Unspecified)
}

/// The state of the master's own copy, with the reason if it is not sound.
pub(crate) fn condition_in_words(video: &Video) -> String {
    match video.condition() {
        Condition::Sound | Condition::Unspecified => "sound".to_owned(),
        Condition::Damaged => format!("damaged: {}", video.condition_reason),
        Condition::Lost => format!("lost: {}", video.condition_reason),
    }
}

fn track_in_words(track: &Track) -> String {
    let mut words = match track.kind() {
        track::Kind::Video => "video".to_owned(),
        track::Kind::Audio => "audio".to_owned(),
        track::Kind::Subtitle => "subtitles".to_owned(),
        track::Kind::Unspecified => "other".to_owned(),
    };
    let _ = write!(words, " {}", track.codec);
    if let Some(video) = &track.video {
        let _ = write!(words, " {}x{}", video.width, video.height);
        if let Some(rate) = video.average_frame_rate.filter(|rate| rate.numerator > 0 && rate.denominator > 0) {
            let _ = write!(words, ", {:.5} frames/s", f64::from(rate.numerator) / f64::from(rate.denominator));
        }
        let _ = write!(words, ", {} pictures", video.pictures);
    }
    if let Some(audio) = &track.audio {
        let _ = write!(words, " {} Hz, {} channels", audio.sample_rate, audio.channels);
    }
    if let Some(base) = track.time_base.filter(|base| base.denominator > 0) {
        let units = track.end.saturating_sub(track.start) as f64;
        let _ = write!(words, ", {:.2} s", units * f64::from(base.numerator) / f64::from(base.denominator));
    }
    if !track.language.is_empty() {
        let _ = write!(words, ", {}", track.language);
    }
    words
}

#[cfg(test)]
mod tests {
    use braidcast_proto::v1::{Rational, VideoTrack};

    use super::*;

    #[test]
    fn a_film_is_told_in_a_line() {
        let rational = |numerator, denominator| Some(Rational { numerator, denominator });
        let video = VideoTrack {
            width: 1_280,
            height: 720,
            average_frame_rate: rational(30_000, 1_001),
            pictures: 300,
            ..VideoTrack::default()
        };
        let mut track = Track { codec: "h264".into(), time_base: rational(1, 1_000), end: 10_010, ..Track::default() };
        track.set_kind(track::Kind::Video);
        track.video = Some(video);
        let film = Film { tracks: vec![track, Track::default()], ..Film::default() };
        assert_eq!(
            film_in_words(&film),
            "video h264 1280x720, 29.97003 frames/s, 300 pictures, 10.01 s and 1 more track"
        );
    }
}
