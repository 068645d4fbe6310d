//! Sizes, and where everything stands in a pack.
//!
//! ```text
//!  0             H                     each stream starts at an extent boundary
//!  | header      | stream 0 | stream 1 | ...
//!                  chunk c of a stream stands at  stream start + c x 1,232
//! ```

use crate::ids::{ChunkNo, ExtentNo, StreamId};

/// Plain bytes of a chunk.
pub const CHUNK_BYTES: usize = 1_200;
/// Header, sealed chunk and tag: what one datagram of DATA holds.
pub const PACKET_BYTES: usize = 1_232;
/// Bytes in front of the sealed chunk; they are its additional data.
pub const PACKET_HEADER_BYTES: usize = 16;
/// Length of an AES-GCM tag.
pub const TAG_BYTES: usize = 16;
/// Chunks of a whole extent.
pub const CHUNKS_PER_EXTENT: u32 = 256;
/// Plain bytes of a whole extent.
pub const EXTENT_BYTES: usize = CHUNKS_PER_EXTENT as usize * CHUNK_BYTES;
/// Bytes on disk of a whole extent.
pub const SEALED_EXTENT_BYTES: usize = CHUNKS_PER_EXTENT as usize * PACKET_BYTES;
/// Alignment of a pack's header.
pub const PAGE_BYTES: usize = 4_096;
/// Most streams of an asset.
pub const STREAMS_MAX: usize = 8;
/// Longest stream: chunk numbers are 32 bits and extents whole.
pub const STREAM_BYTES_MAX: u64 = (u32::MAX - CHUNKS_PER_EXTENT) as u64 * CHUNK_BYTES as u64;

const _: () = assert!(PACKET_HEADER_BYTES + CHUNK_BYTES + TAG_BYTES == PACKET_BYTES);
const _: () = assert!(SEALED_EXTENT_BYTES == 77 * PAGE_BYTES);

/// A stream's length, and what follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamLayout {
    /// Which stream.
    pub id: StreamId,
    /// Plain bytes.
    pub bytes: u64,
}

impl StreamLayout {
    /// Number of chunks; none for an empty stream.
    pub fn chunks(&self) -> u32 {
        debug_assert!(self.bytes <= STREAM_BYTES_MAX);
        self.bytes.div_ceil(CHUNK_BYTES as u64) as u32
    }

    /// Number of extents, the last of which may be short.
    pub fn extents(&self) -> u32 {
        self.chunks().div_ceil(CHUNKS_PER_EXTENT)
    }

    /// Plain bytes of `chunk` without padding, or nothing where the stream has no such chunk.
    pub fn payload_bytes(&self, chunk: ChunkNo) -> Option<usize> {
        let start = u64::from(chunk.0) * CHUNK_BYTES as u64;
        let rest = self.bytes.checked_sub(start).filter(|&rest| rest > 0)?;
        Some(rest.min(CHUNK_BYTES as u64) as usize)
    }

    /// Number of chunks in `extent`; 0 where the stream has no such extent.
    pub fn extent_chunks(&self, extent: ExtentNo) -> u32 {
        let before = u64::from(extent.0) * u64::from(CHUNKS_PER_EXTENT);
        u64::from(self.chunks()).saturating_sub(before).min(u64::from(CHUNKS_PER_EXTENT)) as u32
    }

    /// Plain bytes in `extent`; 0 where the stream has no such extent.
    pub fn extent_bytes(&self, extent: ExtentNo) -> usize {
        let before = u64::from(extent.0) * EXTENT_BYTES as u64;
        self.bytes.saturating_sub(before).min(EXTENT_BYTES as u64) as usize
    }
}

/// Where the streams of a pack stand in its file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackLayout {
    streams: Vec<StreamLayout>,
    header_bytes: u64,
}

/// A pack cannot be laid out this way.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LayoutError {
    /// Chunk numbers would not fit into 32 bits.
    #[error("stream {stream} of {bytes} bytes is longer than the {STREAM_BYTES_MAX} bytes that a stream can hold")]
    StreamTooLong {
        /// Which stream.
        stream: StreamId,
        /// Its length.
        bytes: u64,
    },
    /// None, too many, or one twice.
    #[error("a pack holds 1 to {STREAMS_MAX} different streams")]
    BadStreams,
}

impl PackLayout {
    /// The layout of a pack that holds `streams` in this order.
    ///
    /// # Errors
    /// [`LayoutError`] for lengths and tables that the format cannot hold.
    pub fn new(streams: Vec<StreamLayout>) -> Result<Self, LayoutError> {
        if streams.is_empty() || streams.len() > STREAMS_MAX {
            return Err(LayoutError::BadStreams);
        }
        for (i, stream) in streams.iter().enumerate() {
            if streams[..i].iter().any(|other| other.id == stream.id) {
                return Err(LayoutError::BadStreams);
            }
            if stream.bytes > STREAM_BYTES_MAX {
                return Err(LayoutError::StreamTooLong { stream: stream.id, bytes: stream.bytes });
            }
        }
        let extents: u64 = streams.iter().map(|s| u64::from(s.extents())).sum();
        let used = HEADER_FIXED_BYTES + streams.len() as u64 * HEADER_STREAM_BYTES + extents * HASH_BYTES as u64;
        Ok(Self { streams, header_bytes: used.next_multiple_of(PAGE_BYTES as u64) })
    }

    /// The layout of an asset that is a file of `bytes` and nothing else: stream 0, and stream 3 over it.
    ///
    /// # Errors
    /// [`LayoutError::StreamTooLong`] for a file that no stream can hold.
    pub fn of_file(bytes: u64) -> Result<Self, LayoutError> {
        Self::of_asset(vec![StreamLayout { id: StreamId::ORIGINAL, bytes }])
    }

    /// The layout of an asset that holds `streams`, and stream 3 over them as the last.
    ///
    /// # Errors
    /// [`LayoutError`] for lengths and tables that the format cannot hold; stream 3 must not be among `streams`.
    pub fn of_asset(mut streams: Vec<StreamLayout>) -> Result<Self, LayoutError> {
        if let Some(long) = streams.iter().find(|stream| stream.bytes > STREAM_BYTES_MAX) {
            return Err(LayoutError::StreamTooLong { stream: long.id, bytes: long.bytes });
        }
        let extents: u64 = streams.iter().map(|stream| u64::from(stream.extents())).sum();
        streams.push(StreamLayout { id: StreamId::PLAIN_HASHES, bytes: extents * HASH_BYTES as u64 });
        Self::new(streams)
    }

    /// The streams in file order.
    pub fn streams(&self) -> &[StreamLayout] {
        &self.streams
    }

    /// The stream with this id.
    pub fn stream(&self, id: StreamId) -> Option<&StreamLayout> {
        self.streams.iter().find(|s| s.id == id)
    }

    /// Length of the header, a multiple of [`PAGE_BYTES`].
    pub fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    /// Extents of all streams.
    pub fn extents(&self) -> u32 {
        self.streams.iter().map(StreamLayout::extents).sum()
    }

    /// Length of the whole pack: header and whole extents.
    pub fn pack_bytes(&self) -> u64 {
        self.header_bytes + u64::from(self.extents()) * SEALED_EXTENT_BYTES as u64
    }

    /// Bytes that the pack takes on a disk: its header and each stream's chunks in whole pages, without the holes behind
    /// them.
    pub fn disk_bytes(&self) -> u64 {
        self.used_parts().map(|(_, bytes)| bytes.next_multiple_of(PAGE_BYTES as u64)).sum()
    }

    /// Offset and length in the file of what is written: the header, then each stream's chunks, which stand end to end.
    /// Between them are holes.
    pub fn used_parts(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut extent = 0;
        let streams = self.streams.iter().map(move |stream| {
            let part = (self.extent_offset(extent), u64::from(stream.chunks()) * PACKET_BYTES as u64);
            extent += stream.extents();
            part
        });
        std::iter::once((0, self.header_bytes)).chain(streams).filter(|&(_, bytes)| bytes > 0)
    }

    /// Number within the pack of an extent of a stream.
    pub fn pack_extent(&self, stream: StreamId, extent: ExtentNo) -> Option<u32> {
        let mut before = 0;
        for s in &self.streams {
            if s.id == stream {
                return (extent.0 < s.extents()).then(|| before + extent.0);
            }
            before += s.extents();
        }
        None
    }

    /// The stream and extent that stand at `pack_extent`.
    pub fn extent_at(&self, pack_extent: u32) -> Option<(StreamLayout, ExtentNo)> {
        let mut rest = pack_extent;
        for s in &self.streams {
            if rest < s.extents() {
                return Some((*s, ExtentNo(rest)));
            }
            rest -= s.extents();
        }
        None
    }

    /// Offset in the file of extent `pack_extent`.
    pub fn extent_offset(&self, pack_extent: u32) -> u64 {
        self.header_bytes + u64::from(pack_extent) * SEALED_EXTENT_BYTES as u64
    }

    /// Bytes in use of extent `pack_extent`: its chunks, without the hole behind a stream's last one.
    pub fn sealed_bytes(&self, pack_extent: u32) -> usize {
        self.extent_at(pack_extent).map_or(0, |(s, e)| s.extent_chunks(e) as usize * PACKET_BYTES)
    }

    /// Offset in the file of a chunk's packet.
    pub fn chunk_offset(&self, stream: StreamId, chunk: ChunkNo) -> Option<u64> {
        let layout = self.stream(stream)?;
        if chunk.0 >= layout.chunks() {
            return None;
        }
        let first = self.pack_extent(stream, ExtentNo(0))?;
        Some(self.extent_offset(first) + u64::from(chunk.0) * PACKET_BYTES as u64)
    }
}

/// Length of a BLAKE3 hash.
pub const HASH_BYTES: usize = 32;
/// Header fields before the stream table.
pub const HEADER_FIXED_BYTES: u64 = 24;
/// One entry of the stream table.
pub(crate) const HEADER_STREAM_BYTES: u64 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64) -> StreamLayout {
        StreamLayout { id: StreamId::ORIGINAL, bytes }
    }

    #[test]
    fn chunk_and_extent_counts_at_their_edges() {
        for (bytes, chunks, extents) in
            [(0, 0, 0), (1, 1, 1), (1_199, 1, 1), (1_200, 1, 1), (1_201, 2, 1), (307_200, 256, 1), (307_201, 257, 2)]
        {
            assert_eq!((file(bytes).chunks(), file(bytes).extents()), (chunks, extents), "{bytes} bytes");
        }
        assert_eq!(file(1_201).payload_bytes(ChunkNo(0)), Some(1_200));
        assert_eq!(file(1_201).payload_bytes(ChunkNo(1)), Some(1));
        assert_eq!(file(1_201).payload_bytes(ChunkNo(2)), None);
        assert_eq!(file(1_200).payload_bytes(ChunkNo(1)), None);
        assert_eq!(file(307_201).extent_chunks(ExtentNo(1)), 1);
        assert_eq!(file(307_201).extent_chunks(ExtentNo(2)), 0);
    }

    #[test]
    fn longest_stream_passes_and_one_byte_more_does_not() {
        assert!(PackLayout::of_file(STREAM_BYTES_MAX).is_ok());
        assert_eq!(
            PackLayout::of_file(STREAM_BYTES_MAX + 1),
            Err(LayoutError::StreamTooLong { stream: StreamId::ORIGINAL, bytes: STREAM_BYTES_MAX + 1 })
        );
    }

    #[test]
    fn chunks_stand_end_to_end_across_extents() {
        let pack = PackLayout::of_file(3 * EXTENT_BYTES as u64 + 5).expect("small file");
        let at = |n| pack.chunk_offset(StreamId::ORIGINAL, ChunkNo(n));
        for n in 1..769 {
            assert_eq!(at(n), at(n - 1).map(|o| o + PACKET_BYTES as u64));
        }
        assert_eq!(at(769), None);
        assert_eq!(
            pack.chunk_offset(StreamId::PLAIN_HASHES, ChunkNo(0)),
            Some(pack.header_bytes() + 4 * SEALED_EXTENT_BYTES as u64)
        );
        assert_eq!(pack.extent_at(4), Some((*pack.stream(StreamId::PLAIN_HASHES).unwrap(), ExtentNo(0))));
        assert_eq!(pack.pack_bytes(), 4_096 + 5 * SEALED_EXTENT_BYTES as u64);
    }

    #[test]
    fn the_holes_behind_streams_take_no_disk() {
        let pack = |bytes| PackLayout::of_file(bytes).expect("small file");
        // Header, one chunk of the file, one chunk of its hash list.
        assert_eq!(pack(1_000).disk_bytes(), 3 * 4_096);
        assert_eq!(pack(0).disk_bytes(), 4_096);
        // A whole extent has no hole.
        assert_eq!(pack(EXTENT_BYTES as u64).disk_bytes(), 2 * 4_096 + SEALED_EXTENT_BYTES as u64);
        let parts: Vec<(u64, u64)> = pack(EXTENT_BYTES as u64 + 1).used_parts().collect();
        let (extent, chunk) = (SEALED_EXTENT_BYTES as u64, PACKET_BYTES as u64);
        assert_eq!(parts, [(0, 4_096), (4_096, extent + chunk), (4_096 + 2 * extent, chunk)]);
    }
}
