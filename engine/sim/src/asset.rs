//! A film whose bytes are made when they are needed, so that an hour of it fits into memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use braidcast_media::hashes::{self, Hash};
use braidcast_media::layout::{CHUNK_BYTES, PACKET_BYTES};
use braidcast_media::{AssetId, ChunkNo, ContentKey, ExtentNo, PackLayout, Sealer, StreamId, StreamLayout};

use crate::rng::Rng;

/// The asset of every world.
pub const ASSET: AssetId = AssetId(0xa55e_7000_0000_0001);

/// Extents kept at a time: more than any window holds.
const CACHED_EXTENTS_MAX: usize = 384;

/// What is streamed: stream 0 of an asset, of any length.
pub struct Asset {
    layout: PackLayout,
    sealer: Arc<Sealer>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    extents: HashMap<u32, Arc<Extent>>,
    oldest_first: VecDeque<u32>,
}

/// One extent of stream 0.
pub struct Extent {
    number: ExtentNo,
    plain: Box<[u8]>,
    hash: Hash,
    sealer: Arc<Sealer>,
    sealed: OnceLock<Box<[u8]>>,
}

impl Asset {
    /// A film of `bytes` bytes.
    ///
    /// # Panics
    /// If a stream cannot be so long.
    pub fn new(bytes: u64) -> Arc<Self> {
        let layout = PackLayout::of_file(bytes).expect("a world's film is shorter than a stream can be");
        let sealer = Arc::new(Sealer::new(&content_key(), ASSET));
        Arc::new(Self { layout, sealer, cache: Mutex::default() })
    }

    /// Where its streams stand.
    pub fn layout(&self) -> &PackLayout {
        &self.layout
    }

    /// Stream 0.
    pub fn stream(&self) -> StreamLayout {
        *self.layout.stream(StreamId::ORIGINAL).expect("every asset has its original")
    }

    /// An extent of stream 0, which must exist.
    pub fn extent(&self, number: ExtentNo) -> Arc<Extent> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(extent) = cache.extents.get(&number.0) {
            return Arc::clone(extent);
        }
        let extent = Arc::new(Extent::new(number, self.stream().extent_bytes(number), Arc::clone(&self.sealer)));
        cache.extents.insert(number.0, Arc::clone(&extent));
        cache.oldest_first.push_back(number.0);
        if cache.oldest_first.len() > CACHED_EXTENTS_MAX
            && let Some(oldest) = cache.oldest_first.pop_front()
        {
            cache.extents.remove(&oldest);
        }
        extent
    }

    /// The hashes of `count` extents from `first` on.
    pub fn hashes(&self, first: ExtentNo, count: u32) -> Arc<[Hash]> {
        (first.0..first.0 + count).map(|number| *self.extent(ExtentNo(number)).hash()).collect()
    }
}

impl Extent {
    fn new(number: ExtentNo, bytes: usize, sealer: Arc<Sealer>) -> Self {
        let mut rng = Rng::new(number.0.into());
        let mut plain = vec![0; bytes].into_boxed_slice();
        for word in plain.chunks_mut(8) {
            word.copy_from_slice(&rng.draw().to_le_bytes()[..word.len()]);
        }
        let hash = hashes::hash(&plain);
        Self { number, plain, hash, sealer, sealed: OnceLock::new() }
    }

    /// What was published.
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// What the master vouches for.
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// The DATA packet of the chunk at `index` within this extent, which must exist.
    pub fn packet(&self, index: usize) -> &[u8] {
        let sealed = self.sealed.get_or_init(|| self.seal());
        &sealed[index * PACKET_BYTES..][..PACKET_BYTES]
    }

    /// A packet of the chunk at `index` that opens, and says something that was not published.
    pub fn wrong_packet(&self, index: usize) -> Box<[u8]> {
        let mut payload = self.plain.chunks(CHUNK_BYTES).nth(index).expect("the chunk exists").to_vec();
        payload[0] ^= 1;
        let mut packet = [0; PACKET_BYTES];
        self.sealer.seal(StreamId::ORIGINAL, self.chunk(index), &payload, &mut packet);
        packet.into()
    }

    fn chunk(&self, index: usize) -> ChunkNo {
        ChunkNo(self.number.first_chunk().0 + index as u32)
    }

    fn seal(&self) -> Box<[u8]> {
        let payloads = self.plain.chunks(CHUNK_BYTES);
        let mut sealed = vec![0; payloads.len() * PACKET_BYTES].into_boxed_slice();
        let (packets, _) = sealed.as_chunks_mut::<PACKET_BYTES>();
        for (index, (payload, packet)) in payloads.zip(packets).enumerate() {
            self.sealer.seal(StreamId::ORIGINAL, self.chunk(index), payload, packet);
        }
        sealed
    }
}

/// What opens the chunks.
pub fn content_key() -> ContentKey {
    ContentKey::new([0x42; ContentKey::BYTES])
}

#[cfg(test)]
mod tests {
    use braidcast_media::Opener;
    use braidcast_media::chunk::DataHeader;
    use braidcast_media::layout::EXTENT_BYTES;

    use super::*;

    fn opened(packet: &[u8]) -> [u8; CHUNK_BYTES] {
        let mut out = [0; CHUNK_BYTES];
        let header = DataHeader::parse(packet).expect("DATA");
        Opener::new(&content_key(), ASSET).open(&header, packet, &mut out).expect("it opens");
        out
    }

    #[test]
    fn packets_open_to_what_was_published_and_wrong_ones_do_not() {
        let asset = Asset::new(EXTENT_BYTES as u64 + 1_201);
        let extent = asset.extent(ExtentNo(1));
        assert_eq!(opened(extent.packet(0)), extent.plain()[..CHUNK_BYTES]);
        assert_eq!(opened(extent.packet(1))[0], extent.plain()[CHUNK_BYTES]);
        assert_ne!(opened(&extent.wrong_packet(0)), extent.plain()[..CHUNK_BYTES]);
    }

    #[test]
    fn extents_differ_and_come_out_the_same_when_they_are_made_again() {
        let asset = Asset::new(1_000 * EXTENT_BYTES as u64);
        let first = asset.extent(ExtentNo(0));
        for number in 1..=CACHED_EXTENTS_MAX as u32 + 1 {
            assert_ne!(asset.extent(ExtentNo(number)).hash(), first.hash());
        }
        let again = asset.extent(ExtentNo(0));
        assert!(!Arc::ptr_eq(&first, &again) && first.plain() == again.plain());
    }
}
