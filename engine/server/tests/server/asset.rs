//! A sealed film, as a publisher would leave it at the origin.

use braidcast_media::layout::{CHUNK_BYTES, PackLayout};
use braidcast_media::pack::PackHeader;
use braidcast_media::seal::FileSealer;
use braidcast_media::{AssetId, ChunkNo, ContentKey, Opener, hashes};
use braidcast_proto::v1::HoldOrder;

/// A published film.
pub(crate) struct Film {
    pub(crate) id: AssetId,
    pub(crate) plain: Vec<u8>,
    pub(crate) header: PackHeader,
    /// The pack as it stands at the origin.
    pub(crate) pack: Vec<u8>,
    key: ContentKey,
}

impl Film {
    /// A film of `bytes` bytes, no two chunks of which are alike.
    pub(crate) fn new(id: u64, bytes: usize) -> Self {
        let id = AssetId(id);
        let plain: Vec<u8> = (0..bytes).map(|n| (n.wrapping_mul(31) ^ (n >> 8) ^ (n >> 16)) as u8).collect();
        let key = ContentKey::new([id.0 as u8; ContentKey::BYTES]);
        let mut sealer = FileSealer::new(&plain[..], bytes as u64, &key, id).expect("short film");
        let layout = sealer.layout().clone();
        let mut pack = vec![0; layout.pack_bytes() as usize];
        let mut sealed = Vec::new();
        while let Some(extent) = sealer.next_extent(&mut sealed).expect("readable film") {
            let offset = layout.extent_offset(extent) as usize;
            pack[offset..offset + sealed.len()].copy_from_slice(&sealed);
        }
        let header = sealer.finish().expect("whole film").header;
        let bytes = header.to_bytes();
        pack[..bytes.len()].copy_from_slice(&bytes);
        Self { id, plain, header, pack, key }
    }

    pub(crate) fn layout(&self) -> &PackLayout {
        &self.header.layout
    }

    pub(crate) fn opener(&self) -> Opener {
        Opener::new(&self.key, self.id)
    }

    /// The plain bytes of a chunk of stream 0, padded.
    pub(crate) fn chunk(&self, chunk: ChunkNo) -> [u8; CHUNK_BYTES] {
        let mut padded = [0; CHUNK_BYTES];
        let rest = &self.plain[chunk.0 as usize * CHUNK_BYTES..];
        let payload = &rest[..rest.len().min(CHUNK_BYTES)];
        padded[..payload.len()].copy_from_slice(payload);
        padded
    }

    /// The master's order to hold it.
    pub(crate) fn order(&self) -> HoldOrder {
        let header = self.header.to_bytes();
        HoldOrder {
            asset: self.id.0,
            header_hash: hashes::hash(&header).to_vec(),
            header_bytes: header.len() as u64,
            pack_bytes: self.pack.len() as u64,
        }
    }
}
