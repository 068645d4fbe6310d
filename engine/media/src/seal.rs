//! A file, and the streams that go with it, turned into the extents of a pack, in pack order, with one extent in
//! memory at a time.

use std::collections::VecDeque;
use std::io::{self, Read};

use crate::chunk::{ContentKey, Sealer};
use crate::hashes::{self, Hash};
use crate::ids::{AssetId, ExtentNo, StreamId};
use crate::layout::{CHUNK_BYTES, EXTENT_BYTES, LayoutError, PACKET_BYTES, PackLayout, StreamLayout};
use crate::pack::PackHeader;

/// A stream that is to be sealed, and where its bytes come from.
pub struct StreamSource<R> {
    /// Which stream, and how many bytes the reader must give.
    pub layout: StreamLayout,
    /// Read once, from where it stands to its end.
    pub reader: R,
}

/// Seals a file. Call [`FileSealer::next_extent`] until it gives nothing, then [`FileSealer::finish`].
pub struct FileSealer<R> {
    /// The first is the one that is being read.
    sources: VecDeque<StreamSource<R>>,
    sealer: Sealer,
    asset: AssetId,
    layout: PackLayout,
    next: u32,
    plain: Vec<u8>,
    plain_list: Vec<u8>,
    plain_roots: Vec<u8>,
    sealed_hashes: Vec<Hash>,
}

/// What stands at the end of sealing.
pub struct Sealed {
    /// The pack's header.
    pub header: PackHeader,
    /// BLAKE3 of every extent of stream 3, end to end: what the master keeps.
    pub plain_roots: Vec<u8>,
}

/// Why a file could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A reader ended early or went on: the file changed while it was being sealed.
    #[error("the file changed while it was being published: its stream {stream} is no longer {expected} bytes long")]
    LengthChanged {
        /// Which stream of the asset.
        stream: StreamId,
        /// Length when sealing began.
        expected: u64,
    },
    /// The file is longer than a pack can hold.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl<R: Read> FileSealer<R> {
    /// Seals `bytes` bytes of `reader` under a key and id that the master drew for this attempt alone.
    ///
    /// # Errors
    /// [`SealError::Layout`] if the file is too long.
    pub fn new(reader: R, bytes: u64, key: &ContentKey, asset: AssetId) -> Result<Self, SealError> {
        let layout = StreamLayout { id: StreamId::ORIGINAL, bytes };
        Self::of_streams(vec![StreamSource { layout, reader }], key, asset)
    }

    /// Seals several streams, in this order, under a key and id that the master drew for this attempt alone. The list
    /// of their hashes, stream 3, follows by itself.
    ///
    /// # Errors
    /// [`SealError::Layout`] if a stream is too long.
    ///
    /// # Panics
    /// If the streams are not in the order of their ids, which is that of the hash list.
    pub fn of_streams(sources: Vec<StreamSource<R>>, key: &ContentKey, asset: AssetId) -> Result<Self, SealError> {
        assert!(sources.is_sorted_by_key(|source| source.layout.id));
        let layout = PackLayout::of_asset(sources.iter().map(|source| source.layout).collect())?;
        Ok(Self {
            sources: sources.into(),
            sealer: Sealer::new(key, asset),
            asset,
            sealed_hashes: Vec::with_capacity(layout.extents() as usize),
            layout,
            next: 0,
            plain: Vec::with_capacity(EXTENT_BYTES),
            plain_list: Vec::new(),
            plain_roots: Vec::new(),
        })
    }

    /// Layout of the pack that comes out.
    pub fn layout(&self) -> &PackLayout {
        &self.layout
    }

    /// Seals the next extent into `sealed` (its used chunks) and gives its number within the pack.
    ///
    /// # Errors
    /// [`SealError::Read`], [`SealError::LengthChanged`].
    pub fn next_extent(&mut self, sealed: &mut Vec<u8>) -> Result<Option<u32>, SealError> {
        let Some((stream, extent)) = self.layout.extent_at(self.next) else {
            return Ok(None);
        };
        self.read_plain(stream, extent)?;
        let hash = hashes::hash(&self.plain);
        if stream.id == StreamId::PLAIN_HASHES {
            self.plain_roots.extend_from_slice(&hash);
        } else {
            self.plain_list.extend_from_slice(&hash);
        }
        self.seal_plain(stream, extent, sealed);
        self.sealed_hashes.push(hashes::hash(sealed));
        self.next += 1;
        Ok(Some(self.next - 1))
    }

    /// Checks that all readers end where they should and gives the header.
    ///
    /// # Errors
    /// [`SealError::LengthChanged`] if one goes on, [`SealError::Read`].
    ///
    /// # Panics
    /// If extents are left.
    pub fn finish(mut self) -> Result<Sealed, SealError> {
        assert_eq!(self.next, self.layout.extents(), "finish comes after the last extent");
        while !self.sources.is_empty() {
            self.end_source()?;
        }
        let header = PackHeader { asset: self.asset, layout: self.layout, sealed_hashes: self.sealed_hashes };
        Ok(Sealed { header, plain_roots: self.plain_roots })
    }

    fn read_plain(&mut self, stream: StreamLayout, extent: ExtentNo) -> Result<(), SealError> {
        let bytes = stream.extent_bytes(extent);
        if stream.id == StreamId::PLAIN_HASHES {
            let start = extent.0 as usize * EXTENT_BYTES;
            self.plain.clear();
            self.plain.extend_from_slice(&self.plain_list[start..start + bytes]);
            return Ok(());
        }
        // The streams between, if any, are empty.
        while self.sources.front().is_some_and(|source| source.layout.id != stream.id) {
            self.end_source()?;
        }
        let source = self.sources.front_mut().expect("every stream of the layout but the hash list has a source");
        self.plain.clear();
        source.reader.by_ref().take(bytes as u64).read_to_end(&mut self.plain)?;
        if self.plain.len() == bytes { Ok(()) } else { Err(length_changed(stream)) }
    }

    /// Checks that the reader in front gives no more, and leaves it.
    fn end_source(&mut self) -> Result<(), SealError> {
        let Some(mut source) = self.sources.pop_front() else { return Ok(()) };
        self.plain.clear();
        // Unlike `read`, this goes on after a signal.
        let more = source.reader.by_ref().take(1).read_to_end(&mut self.plain)?;
        if more == 0 { Ok(()) } else { Err(length_changed(source.layout)) }
    }

    fn seal_plain(&self, stream: StreamLayout, extent: ExtentNo, sealed: &mut Vec<u8>) {
        sealed.resize(stream.extent_chunks(extent) as usize * PACKET_BYTES, 0);
        let (packets, _) = sealed.as_chunks_mut::<PACKET_BYTES>();
        let mut chunk = extent.first_chunk();
        for (payload, packet) in self.plain.chunks(CHUNK_BYTES).zip(packets) {
            self.sealer.seal(stream.id, chunk, payload, packet);
            chunk.0 += 1;
        }
    }
}

fn length_changed(stream: StreamLayout) -> SealError {
    SealError::LengthChanged { stream: stream.id, expected: stream.bytes }
}
