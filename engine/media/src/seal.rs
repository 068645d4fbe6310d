//! A file turned into the extents of a pack, in file order, with one extent in memory at a time.

use std::io::{self, Read};

use crate::chunk::{ContentKey, Sealer};
use crate::hashes::{self, Hash};
use crate::ids::{AssetId, ExtentNo, StreamId};
use crate::layout::{CHUNK_BYTES, EXTENT_BYTES, LayoutError, PACKET_BYTES, PackLayout, StreamLayout};
use crate::pack::PackHeader;

/// Seals a file. Call [`FileSealer::next_extent`] until it gives nothing, then [`FileSealer::finish`].
pub struct FileSealer<R> {
    reader: R,
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
    /// The file ended early or went on: it changed while it was being sealed.
    #[error("the file changed while it was being published: it is no longer {expected} bytes long")]
    LengthChanged {
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
        let layout = PackLayout::of_file(bytes)?;
        Ok(Self {
            reader,
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

    /// Checks that the file ends where it should and gives the header.
    ///
    /// # Errors
    /// [`SealError::LengthChanged`] if the file goes on, [`SealError::Read`].
    ///
    /// # Panics
    /// If extents are left.
    pub fn finish(mut self) -> Result<Sealed, SealError> {
        assert_eq!(self.next, self.layout.extents(), "finish comes after the last extent");
        self.plain.clear();
        // Unlike `read`, this goes on after a signal.
        if self.reader.by_ref().take(1).read_to_end(&mut self.plain)? != 0 {
            return Err(self.length_changed());
        }
        let header = PackHeader { asset: self.asset, layout: self.layout, sealed_hashes: self.sealed_hashes };
        Ok(Sealed { header, plain_roots: self.plain_roots })
    }

    fn read_plain(&mut self, stream: StreamLayout, extent: ExtentNo) -> Result<(), SealError> {
        let bytes = stream.extent_bytes(extent);
        self.plain.clear();
        if stream.id == StreamId::PLAIN_HASHES {
            let start = extent.0 as usize * EXTENT_BYTES;
            self.plain.extend_from_slice(&self.plain_list[start..start + bytes]);
        } else {
            self.reader.by_ref().take(bytes as u64).read_to_end(&mut self.plain)?;
            if self.plain.len() != bytes {
                return Err(self.length_changed());
            }
        }
        Ok(())
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

    fn length_changed(&self) -> SealError {
        SealError::LengthChanged { expected: self.layout.stream(StreamId::ORIGINAL).map_or(0, |s| s.bytes) }
    }
}
