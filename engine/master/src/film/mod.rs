//! What a publisher found in a container, once it has been checked.

mod check;
mod encoded;
mod error;

pub(crate) use error::{FilmError, TrackError};

use std::sync::Arc;

use braidcast_media::StreamId;
use braidcast_proto::v1;
use prost::Message;

use crate::streams::StreamLengths;

/// A description that agrees with itself and with the lengths of the streams. Whether the index itself tells the
/// truth shows when it is read.
#[derive(Debug)]
pub(crate) struct Film(v1::Film);

impl Film {
    /// Checks a description against the streams that are announced with it.
    pub(crate) fn new(film: v1::Film, streams: &StreamLengths) -> Result<Self, FilmError> {
        check::film(&film, streams)?;
        Ok(Self(film))
    }

    /// The film of a publisher's request; nothing for plain bytes, which must not announce streams of a film.
    pub(crate) fn requested(film: Option<&[u8]>, streams: &StreamLengths) -> Result<Option<Arc<Self>>, FilmError> {
        match film {
            Some(film) => {
                encoded::check(film)?;
                Ok(Some(Arc::new(Self::from_bytes(film, streams)?)))
            }
            None => check::plain_bytes(streams).map(|()| None),
        }
    }

    /// Reads a film as [`Film::to_bytes`] wrote it.
    pub(crate) fn from_bytes(bytes: &[u8], streams: &StreamLengths) -> Result<Self, FilmError> {
        Self::new(v1::Film::decode(bytes).map_err(FilmError::Encoding)?, streams)
    }

    /// For the database.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    /// All of it.
    pub(crate) fn message(&self) -> v1::Film {
        self.0.clone()
    }

    /// The film's own track alone, without its decoder configurations: what is shown of it in a list. The rest can be
    /// long, and is of use to nobody who does not decode.
    pub(crate) fn summary(&self) -> v1::Film {
        let v1::Film { container, frames_stream, key_frames, .. } = &self.0;
        v1::Film {
            container: container.clone(),
            frames_stream: *frames_stream,
            tracks: vec![without_descriptions(self.track())],
            video_track: 0,
            key_frames: *key_frames,
        }
    }

    /// The track whose frames are the film's.
    pub(crate) fn track(&self) -> &v1::Track {
        &self.0.tracks[self.0.video_track as usize]
    }

    /// The stream that frames stand in.
    pub(crate) fn stream(&self) -> StreamId {
        if self.0.frames_stream == 0 { StreamId::ORIGINAL } else { StreamId::ACCESS_UNITS }
    }

    /// Entries of the key-frame index.
    pub(crate) fn key_frames(&self) -> u32 {
        self.0.key_frames
    }
}

fn without_descriptions(track: &v1::Track) -> v1::Track {
    let v1::Track { codec, language, time_base, video, audio, .. } = track;
    v1::Track {
        codec: codec.clone(),
        codec_descriptions: Vec::new(),
        language: language.clone(),
        time_base: *time_base,
        video: video.clone(),
        audio: audio.clone(),
        ..*track
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{FILM_TEXT_BYTES_MAX, FILM_TRACKS_MAX};

    #[test]
    fn a_film_of_many_tracks_and_long_texts_takes_little_room_in_a_list() {
        let text = || "x".repeat(FILM_TEXT_BYTES_MAX);
        let (video, descriptions) = (v1::VideoTrack { pixel_format: text(), ..Default::default() }, vec![vec![0; 999]]);
        let (codec, language) = (text(), text());
        let track = v1::Track {
            codec,
            language,
            video: Some(video),
            codec_descriptions: descriptions,
            frames: 7,
            ..Default::default()
        };
        let tracks = vec![track; FILM_TRACKS_MAX];
        let film = Film(v1::Film { container: text(), tracks, video_track: 3, ..Default::default() });
        let summary = film.summary();
        assert!(summary.encoded_len() < 5 * (FILM_TEXT_BYTES_MAX + 16), "{}", summary.encoded_len());
        assert_eq!(summary.tracks[summary.video_track as usize].frames, 7);
    }
}
