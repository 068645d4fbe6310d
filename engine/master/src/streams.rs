//! Lengths of an asset's streams, and the pack that they make.

use braidcast_media::layout::EXTENT_BYTES;
use braidcast_media::{PackLayout, StreamId, StreamLayout};

use crate::errors::ServiceError;
use crate::limits::{ASSET_EXTENTS_MAX, PACK_HEADER_BYTES_MAX};

/// Plain bytes of each stream but the hash list, which follows from the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct StreamLengths {
    /// Stream 0: the published file.
    pub(crate) original: u64,
    /// Stream 1.
    pub(crate) frame_index: u64,
    /// Stream 2.
    pub(crate) key_frame_index: u64,
    /// Stream 4; 0 where there is none.
    pub(crate) access_units: u64,
}

impl StreamLengths {
    /// The lengths in a layout; 0 for a stream that it has not.
    pub(crate) fn of(layout: &PackLayout) -> Self {
        let bytes = |id| layout.stream(id).map_or(0, |stream| stream.bytes);
        Self {
            original: bytes(StreamId::ORIGINAL),
            frame_index: bytes(StreamId::FRAMES),
            key_frame_index: bytes(StreamId::KEY_FRAMES),
            access_units: bytes(StreamId::ACCESS_UNITS),
        }
    }

    /// The layout of a film or of plain bytes, which have stream 0 alone. Its header fits one message.
    pub(crate) fn layout(&self, is_film: bool) -> Result<PackLayout, ServiceError> {
        let bytes_max = ASSET_EXTENTS_MAX * EXTENT_BYTES as u64;
        let too_long = || ServiceError::FileTooLong { bytes: self.original, bytes_max };
        if self.original > bytes_max {
            return Err(too_long());
        }
        if !is_film {
            let layout = PackLayout::of_file(self.original).map_err(|_| too_long())?;
            debug_assert!(layout.header_bytes() <= PACK_HEADER_BYTES_MAX);
            return Ok(layout);
        }
        let mut streams = vec![
            StreamLayout { id: StreamId::ORIGINAL, bytes: self.original },
            StreamLayout { id: StreamId::FRAMES, bytes: self.frame_index },
            StreamLayout { id: StreamId::KEY_FRAMES, bytes: self.key_frame_index },
        ];
        if self.access_units > 0 {
            streams.push(StreamLayout { id: StreamId::ACCESS_UNITS, bytes: self.access_units });
        }
        let extents = streams.iter().map(|stream| stream.bytes.div_ceil(EXTENT_BYTES as u64)).sum();
        let too_many = || ServiceError::FilmTooLong { extents, extents_max: ASSET_EXTENTS_MAX };
        if extents > ASSET_EXTENTS_MAX {
            return Err(too_many());
        }
        let layout = PackLayout::of_asset(streams).map_err(|_| too_many())?;
        debug_assert!(layout.header_bytes() <= PACK_HEADER_BYTES_MAX);
        Ok(layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: u64 = EXTENT_BYTES as u64;

    fn file(original: u64) -> StreamLengths {
        StreamLengths { original, ..StreamLengths::default() }
    }

    #[test]
    fn the_longest_file_has_a_header_of_one_message_and_one_byte_more_is_refused() {
        let bytes_max = ASSET_EXTENTS_MAX * EXTENT;
        let layout = file(bytes_max).layout(false).expect("just fits");
        assert!(layout.header_bytes() <= PACK_HEADER_BYTES_MAX);
        assert!(matches!(file(bytes_max + 1).layout(false), Err(ServiceError::FileTooLong { .. })));
        assert!(file(u64::MAX).layout(false).is_err());
    }

    #[test]
    fn all_streams_of_a_film_share_the_room_of_one_header() {
        let quarter = ASSET_EXTENTS_MAX / 4 * EXTENT;
        let rest = (ASSET_EXTENTS_MAX - 3 * (ASSET_EXTENTS_MAX / 4)) * EXTENT;
        let full =
            StreamLengths { original: quarter, frame_index: quarter, key_frame_index: quarter, access_units: rest };
        assert!(full.layout(true).expect("just fits").header_bytes() <= PACK_HEADER_BYTES_MAX);
        for (change, by) in [(1, 0), (0, 1)] {
            let more = StreamLengths { original: quarter + change, access_units: rest + by, ..full };
            assert!(matches!(more.layout(true), Err(ServiceError::FilmTooLong { .. })), "{more:?}");
        }
        let endless =
            StreamLengths { frame_index: u64::MAX, key_frame_index: u64::MAX, access_units: u64::MAX, ..full };
        assert!(matches!(endless.layout(true), Err(ServiceError::FilmTooLong { .. })));
    }

    #[test]
    fn a_film_has_its_indexes_and_its_access_units_only_if_there_are_some() {
        let ids = |lengths: StreamLengths, is_film| {
            let layout = lengths.layout(is_film).expect("short");
            assert_eq!(StreamLengths::of(&layout), lengths);
            layout.streams().iter().map(|stream| stream.id.0).collect::<Vec<_>>()
        };
        let film = StreamLengths { original: 10, frame_index: 24, key_frame_index: 16, access_units: 0 };
        assert_eq!(ids(film, true), [0, 1, 2, 3]);
        assert_eq!(ids(StreamLengths { access_units: 1, ..film }, true), [0, 1, 2, 4, 3]);
        assert_eq!(ids(file(10), false), [0, 3]);
    }
}
