//! The frame index as it stands in the origin's pack, read chunk by chunk.
//!
//! A publisher wrote it, so all that is read here is checked against the streams' lengths before it is used, and what
//! is read at a time is bounded by the caller's constants, not by the index.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;

use braidcast_media::chunk::DataHeader;
use braidcast_media::frames::{
    FRAME_ENTRIES_PER_CHUNK, FRAME_ENTRY_BYTES, FrameEntry, KEY_ENTRIES_PER_CHUNK, KEY_ENTRY_BYTES, KeyEntry,
};
use braidcast_media::hashes::index_in_list;
use braidcast_media::layout::{CHUNK_BYTES, HASH_BYTES, PACKET_BYTES};
use braidcast_media::{ChunkNo, ExtentNo, Opener, StreamId};

use crate::distribution::search::KeyIndex;
use crate::film::Film;
use crate::library::Asset;
use crate::limits::SPAN_EXTENTS_MAX;

/// An index that cannot be read, or that lies. Reads on from "the frame index is damaged or untrue".
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error(transparent)]
    Io(io::Error),
    #[error("the pack ends before chunk {chunk} of stream {stream}")]
    Short { stream: StreamId, chunk: u64 },
    #[error("stream {stream} has no chunk {chunk}")]
    NoChunk { stream: StreamId, chunk: u64 },
    #[error("chunk {chunk} of stream {stream} does not open")]
    Sealed { stream: StreamId, chunk: u64 },
    #[error("frame {frame} stands at bytes {offset} to {end} of stream {stream}, which has {bytes}")]
    FrameOutside { frame: u64, offset: u64, end: u64, stream: StreamId, bytes: u64 },
    #[error("frame {frame} stands at byte {offset}, which is before the frame in front of it, at {before}")]
    FrameBackward { frame: u64, offset: u64, before: u64 },
    #[error("frame {frame} has {bytes} bytes, which is more than the {SPAN_EXTENTS_MAX} extents of one answer")]
    FrameTooLong { frame: u64, bytes: u32 },
    #[error("key frame {key} is frame {frame} after {picture} pictures, and the track has {frames} frames")]
    KeyOutside { key: u64, frame: u32, picture: u32, frames: u64 },
    #[error("key frame {key} is out of order: its frame, its picture or its time comes before that of the one before")]
    KeyOrder { key: u64 },
    #[error("the key-frame index names frame {frame}, which the frame index says is no key frame")]
    NoKey { frame: u64 },
}

/// Consecutive entries of the film's video track.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Number of the first.
    pub(crate) first: u64,
    /// As they stand in the index.
    pub(crate) bytes: Vec<u8>,
    /// One at least.
    pub(crate) entries: Vec<FrameEntry>,
}

/// A film's indexes and hash list.
pub(crate) struct IndexReader<'a> {
    asset: &'a Asset,
    film: &'a Film,
    pack: File,
    opener: Opener,
}

impl<'a> IndexReader<'a> {
    /// Of an asset whose pack is open.
    pub(crate) fn new(asset: &'a Asset, film: &'a Film, pack: File) -> Self {
        Self { asset, film, pack, opener: Opener::new(&asset.content_key, asset.id) }
    }

    /// These entries, of frames that the track has. Their offsets lie within their stream and never decrease.
    pub(crate) fn frames(&self, frames: &RangeInclusive<u64>) -> Result<Frames, IndexError> {
        let (first, last) = (*frames.start(), *frames.end());
        let chunk = |frame: u64| u64::from(self.film.track().first_chunk) + frame / FRAME_ENTRIES_PER_CHUNK;
        let mut bytes = self.plain(StreamId::FRAMES, &(chunk(first)..=chunk(last)))?;
        bytes.drain(..(first % FRAME_ENTRIES_PER_CHUNK) as usize * FRAME_ENTRY_BYTES);
        // The film's check made sure that the stream reaches that far.
        bytes.truncate((last - first + 1) as usize * FRAME_ENTRY_BYTES);
        let (entries, _) = bytes.as_chunks::<FRAME_ENTRY_BYTES>();
        let entries: Vec<_> = entries.iter().map(FrameEntry::from_bytes).collect();
        let stream = self.film.stream();
        check_frames(first, &entries, stream, self.asset.layout.stream(stream).map_or(0, |stream| stream.bytes))?;
        Ok(Frames { first, bytes, entries })
    }

    /// BLAKE3 of these extents, end to end.
    pub(crate) fn hashes(&self, stream: StreamId, extents: &RangeInclusive<u32>) -> Result<Vec<u8>, IndexError> {
        let missing = IndexError::NoChunk { stream: StreamId::PLAIN_HASHES, chunk: 0 };
        let first = index_in_list(&self.asset.layout, stream, ExtentNo(*extents.start())).ok_or(missing)?;
        let count = u64::from(extents.end() - extents.start()) + 1;
        let (start, end) = (first * HASH_BYTES as u64, (first + count) * HASH_BYTES as u64);
        let chunks = start / CHUNK_BYTES as u64..=(end - 1) / CHUNK_BYTES as u64;
        let mut bytes = self.plain(StreamId::PLAIN_HASHES, &chunks)?;
        bytes.drain(..(start % CHUNK_BYTES as u64) as usize);
        bytes.truncate((end - start) as usize);
        Ok(bytes)
    }

    /// The plain bytes of chunks, without padding. All stand in a row in the pack, even across extents.
    fn plain(&self, stream: StreamId, chunks: &RangeInclusive<u64>) -> Result<Vec<u8>, IndexError> {
        let missing = |chunk| IndexError::NoChunk { stream, chunk };
        let layout = self.asset.layout.stream(stream).ok_or_else(|| missing(*chunks.start()))?;
        let (first, last) = (*chunks.start(), *chunks.end());
        if last >= u64::from(layout.chunks()) {
            return Err(missing(last));
        }
        // Both are below the stream's count of chunks, which has 32 bits.
        let offset = self.asset.layout.chunk_offset(stream, ChunkNo(first as u32)).ok_or_else(|| missing(first))?;
        let mut sealed = vec![0; (last - first + 1) as usize * PACKET_BYTES];
        self.pack.read_exact_at(&mut sealed, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => IndexError::Short { stream, chunk: last },
            _ => IndexError::Io(error),
        })?;
        let mut plain = Vec::with_capacity((last - first + 1) as usize * CHUNK_BYTES);
        let mut room = [0; CHUNK_BYTES];
        for (chunk, packet) in (first..=last).zip(sealed.chunks_exact(PACKET_BYTES)) {
            let expected = DataHeader {
                stream,
                payload_bytes: layout.payload_bytes(ChunkNo(chunk as u32)).unwrap_or(0) as u16,
                chunk: ChunkNo(chunk as u32),
                asset: self.asset.id,
            };
            let broken = || IndexError::Sealed { stream, chunk };
            let header = DataHeader::parse(packet).filter(|header| *header == expected).ok_or_else(broken)?;
            self.opener.open(&header, packet, &mut room).map_err(|_| broken())?;
            plain.extend_from_slice(&room[..usize::from(header.payload_bytes)]);
        }
        Ok(plain)
    }
}

impl KeyIndex for IndexReader<'_> {
    fn chunks(&self) -> u64 {
        u64::from(self.film.key_frames()).div_ceil(KEY_ENTRIES_PER_CHUNK)
    }

    fn chunk(&self, chunk: u64) -> Result<Vec<KeyEntry>, IndexError> {
        let bytes = self.plain(StreamId::KEY_FRAMES, &(chunk..=chunk))?;
        let (entries, _) = bytes.as_chunks::<KEY_ENTRY_BYTES>();
        Ok(entries.iter().map(KeyEntry::from_bytes).collect())
    }
}

/// Checks entries, the first of which is that of frame `first`, against their stream of `bytes` bytes.
fn check_frames(first: u64, entries: &[FrameEntry], stream: StreamId, bytes: u64) -> Result<(), IndexError> {
    let mut before = 0;
    for (frame, entry) in (first..).zip(entries) {
        let (offset, end) = (entry.offset, entry.end());
        if end > bytes {
            return Err(IndexError::FrameOutside { frame, offset, end, stream, bytes });
        }
        if offset < before {
            return Err(IndexError::FrameBackward { frame, offset, before });
        }
        before = offset;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(places: &[(u64, u32)]) -> Result<(), IndexError> {
        let entry = |&(offset, size)| FrameEntry { offset, size, ..FrameEntry::default() };
        let entries: Vec<_> = places.iter().map(entry).collect();
        check_frames(7, &entries, StreamId::ORIGINAL, 1_000)
    }

    #[test]
    fn frames_lie_within_their_stream_and_never_go_back() {
        assert!(check(&[(0, 10), (10, 0), (10, 500), (10, 990), (1_000, 0)]).is_ok());
        assert!(matches!(check(&[(0, 10), (10, 991)]), Err(IndexError::FrameOutside { frame: 8, end: 1_001, .. })));
        assert!(matches!(check(&[(1_001, 0)]), Err(IndexError::FrameOutside { frame: 7, .. })));
        assert!(matches!(check(&[((1 << 48) - 1, u32::MAX)]), Err(IndexError::FrameOutside { .. })));
        assert!(matches!(check(&[(5, 1), (4, 1)]), Err(IndexError::FrameBackward { frame: 8, offset: 4, before: 5 })));
    }
}
