//! One chunk: sealed into the packet that will be sent, and opened again.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::ids::{AssetId, ChunkNo, StreamId};
use crate::layout::{CHUNK_BYTES, PACKET_BYTES, PACKET_HEADER_BYTES};

/// First byte of DATA: version 1, kind 4.
pub const DATA_KIND: u8 = 0x14;

/// AES-128 key of an asset; drawn for one sealing attempt and never used for another. Never printed.
#[derive(Clone)]
pub struct ContentKey(Zeroizing<[u8; 16]>);

impl ContentKey {
    /// Length in bytes.
    pub const BYTES: usize = 16;

    /// The key with these bytes.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key in `bytes`, if there are exactly 16.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::new)
    }

    /// The bytes, for the wire and the master's database.
    pub fn expose(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl std::fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentKey(..)")
    }
}

/// What the header of a DATA packet says. It is authenticated with the chunk, and worth nothing before that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataHeader {
    /// Which stream.
    pub stream: StreamId,
    /// Bytes of the chunk that are not padding.
    pub payload_bytes: u16,
    /// Which chunk.
    pub chunk: ChunkNo,
    /// Which asset.
    pub asset: AssetId,
}

impl DataHeader {
    /// Reads the header of a packet; nothing if it is not DATA of the right size.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        if packet.len() != PACKET_BYTES || packet[0] != DATA_KIND {
            return None;
        }
        let (header, _) = packet.split_first_chunk::<PACKET_HEADER_BYTES>()?;
        let [_, stream, p0, p1, c0, c1, c2, c3, asset @ ..] = *header;
        let payload_bytes = u16::from_be_bytes([p0, p1]);
        if usize::from(payload_bytes) > CHUNK_BYTES {
            return None;
        }
        Some(Self {
            stream: StreamId(stream),
            payload_bytes,
            chunk: ChunkNo(u32::from_be_bytes([c0, c1, c2, c3])),
            asset: AssetId(u64::from_be_bytes(asset)),
        })
    }

    /// The 16 bytes of the header.
    pub fn to_bytes(self) -> [u8; PACKET_HEADER_BYTES] {
        let mut out = [0; PACKET_HEADER_BYTES];
        out[0] = DATA_KIND;
        out[1] = self.stream.0;
        out[2..4].copy_from_slice(&self.payload_bytes.to_be_bytes());
        out[4..8].copy_from_slice(&self.chunk.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.asset.0.to_be_bytes());
        out
    }

    fn nonce(&self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4] = self.stream.0;
        nonce[8..].copy_from_slice(&self.chunk.0.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

fn aes_128_gcm(key: &ContentKey) -> LessSafeKey {
    let key = UnboundKey::new(&AES_128_GCM, key.expose()).expect("AES-128 takes 16 bytes");
    LessSafeKey::new(key)
}

/// Seals the chunks of one asset.
pub struct Sealer {
    key: LessSafeKey,
    asset: AssetId,
}

impl Sealer {
    /// A sealer for one sealing attempt. The pair must be fresh: sealing two contents under one pair breaks GCM.
    pub fn new(key: &ContentKey, asset: AssetId) -> Self {
        Self { key: aes_128_gcm(key), asset }
    }

    /// Seals `payload` (1 to 1,200 bytes, padded with zeros) into `packet`.
    ///
    /// # Panics
    /// If `payload` is empty or longer than a chunk.
    pub fn seal(&self, stream: StreamId, chunk: ChunkNo, payload: &[u8], packet: &mut [u8; PACKET_BYTES]) {
        assert!(!payload.is_empty() && payload.len() <= CHUNK_BYTES);
        let header = DataHeader { stream, payload_bytes: payload.len() as u16, chunk, asset: self.asset };
        let (head, body) = packet.split_at_mut(PACKET_HEADER_BYTES);
        head.copy_from_slice(&header.to_bytes());
        let (text, tag_room) = body.split_at_mut(CHUNK_BYTES);
        text[..payload.len()].copy_from_slice(payload);
        text[payload.len()..].fill(0);
        let tag = self
            .key
            .seal_in_place_separate_tag(header.nonce(), Aad::from(&*head), text)
            .expect("1,200 bytes are within AES-GCM's limit");
        tag_room.copy_from_slice(tag.as_ref());
    }
}

/// The packet's tag does not fit its bytes: it was damaged, or sealed under another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunk does not open: damaged, or sealed under another key")]
pub struct NotAuthentic;

/// Opens the chunks of one asset.
pub struct Opener {
    key: LessSafeKey,
    asset: AssetId,
}

impl Opener {
    /// An opener for what was sealed with this pair.
    pub fn new(key: &ContentKey, asset: AssetId) -> Self {
        Self { key: aes_128_gcm(key), asset }
    }

    /// The asset that this opens.
    pub fn asset(&self) -> AssetId {
        self.asset
    }

    /// Opens `packet`, whose header was parsed into `header`, out of place: one pass from the receive buffer into
    /// the chunk's own place. On an error `out` holds nothing of use and must be overwritten.
    ///
    /// # Errors
    /// [`NotAuthentic`] if the tag does not verify.
    pub fn open(&self, header: &DataHeader, packet: &[u8], out: &mut [u8; CHUNK_BYTES]) -> Result<(), NotAuthentic> {
        if packet.len() != PACKET_BYTES || header.asset != self.asset {
            return Err(NotAuthentic);
        }
        let (head, body) = packet.split_at(PACKET_HEADER_BYTES);
        let (sealed, tag) = body.split_at(CHUNK_BYTES);
        self.key
            .open_separate_gather(header.nonce(), Aad::from(head), sealed, tag, &mut out[..])
            .map_err(|_| NotAuthentic)
    }
}
