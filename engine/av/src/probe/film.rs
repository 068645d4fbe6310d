//! A film's description and its indexes, put together from the tracks.

use braidcast_media::frames::KeyEntry;
use braidcast_media::layout::CHUNK_BYTES;
use braidcast_proto::v1;

use super::demux::Unit;
use super::index::TrackIndex;
use super::{Placement, Reject};
use crate::decode::{check_codec, check_descriptions, check_size};
use crate::limits::{ENTRIES_MAX, TRACKS_MAX};

/// The stream of an asset that is the file itself.
const FILE_STREAM: u32 = 0;
/// The stream of an asset that holds access units end to end.
const ACCESS_UNIT_STREAM: u32 = 4;

/// Takes access units in and gives the film out.
pub(super) struct Builder {
    container: String,
    placement: Placement,
    tracks: Vec<v1::Track>,
    indexes: Vec<TrackIndex>,
    video_track: usize,
    entries: usize,
    access_unit_bytes: u64,
}

impl Builder {
    /// # Errors
    /// What keeps these tracks from being a film.
    pub(super) fn new(container: &str, tracks: Vec<v1::Track>, placement: Placement) -> Result<Self, Reject> {
        if tracks.len() > TRACKS_MAX {
            return Err(Reject::Tracks(tracks.len()));
        }
        let video_track = find_video(container, &tracks)?;
        for track in &tracks {
            check_descriptions(&track.codec_descriptions)?;
        }
        let index = |track: &v1::Track| {
            TrackIndex::new(track.codec.clone(), track.codec_descriptions.first().cloned().unwrap_or_default())
        };
        Ok(Self {
            container: container.to_owned(),
            placement,
            indexes: tracks.iter().map(index).collect(),
            tracks,
            video_track,
            entries: 0,
            access_unit_bytes: 0,
        })
    }

    /// Adds an access unit that stands at `offset` in the file, or without one behind those before it.
    ///
    /// # Errors
    /// What the index cannot hold.
    pub(super) fn push(&mut self, unit: &Unit, offset: Option<u64>) -> Result<(), Reject> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(Reject::Entries);
        }
        self.indexes[unit.track].push(unit, offset.unwrap_or(self.access_unit_bytes))?;
        self.access_unit_bytes += unit.data().len() as u64;
        Ok(())
    }

    /// The film, after the last access unit.
    ///
    /// # Errors
    /// [`Reject::NoFrames`].
    pub(super) fn finish(mut self) -> Result<v1::Probed, Reject> {
        let mut frame_index = Vec::new();
        for (track, index) in self.tracks.iter_mut().zip(&self.indexes) {
            let span = index.span();
            track.codec_descriptions = index.descriptions().to_vec();
            (track.start, track.end) = (span.start, span.end);
            track.frames = index.len() as u64;
            if index.len() > 0 {
                // `ENTRIES_MAX` entries are far fewer chunks than 32 bits hold.
                track.first_chunk = frame_index.len().div_ceil(CHUNK_BYTES) as u32;
                frame_index.resize(track.first_chunk as usize * CHUNK_BYTES, 0);
            }
            if let Some(video) = &mut track.video {
                video.pictures = span.pictures;
            }
            frame_index.extend_from_slice(index.bytes());
        }
        let video = &self.indexes[self.video_track];
        if video.span().pictures == 0 {
            return Err(Reject::NoFrames);
        }
        let keys = video.keys();
        let in_file = self.placement == Placement::InFile;
        let film = v1::Film {
            container: self.container,
            frames_stream: if in_file { FILE_STREAM } else { ACCESS_UNIT_STREAM },
            tracks: self.tracks,
            video_track: self.video_track as u32,
            key_frames: keys.len() as u32,
        };
        Ok(v1::Probed {
            film: Some(film),
            frame_index,
            key_frame_index: keys.iter().flat_map(KeyEntry::to_bytes).collect(),
            access_unit_bytes: if in_file { 0 } else { self.access_unit_bytes },
        })
    }
}

/// The first video track, if it can be played.
fn find_video(container: &str, tracks: &[v1::Track]) -> Result<usize, Reject> {
    let found = tracks.iter().enumerate().find_map(|(number, track)| Some((number, track, track.video.as_ref()?)));
    let Some((number, track, video)) = found else {
        let codecs: Vec<&str> = tracks.iter().map(|track| track.codec.as_str()).collect();
        let found = if codecs.is_empty() { "no tracks".to_owned() } else { codecs.join(", ") };
        return Err(Reject::NoVideo { container: container.to_owned(), found });
    };
    check_codec(&track.codec)?;
    check_size(video.width, video.height)?;
    Ok(number)
}
