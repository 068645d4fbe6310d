//! A film in memory, sealed as a pack would hold it, and the master's part in fetching it.

use braidcast_media::layout::PACKET_BYTES;
use braidcast_media::seal::FileSealer;
use braidcast_media::ticket::{SessionSecret, Ticket, TicketKey};
use braidcast_media::{AssetId, ChunkNo, ContentKey, Opener, PackLayout, StreamId};

pub(crate) const ASSET: AssetId = AssetId(0xa55e_7000_0000_0001);
pub(crate) const OTHER_ASSET: AssetId = AssetId(0xa55e_7000_0000_0002);

/// A film and its sealed chunks.
pub(crate) struct Asset {
    pub(crate) plain: Vec<u8>,
    pub(crate) layout: PackLayout,
    /// The packets of stream 0, end to end.
    sealed: Vec<u8>,
}

impl Asset {
    pub(crate) fn new(bytes: usize) -> Self {
        let plain: Vec<u8> = (0..bytes as u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        let mut sealer = FileSealer::new(&plain[..], bytes as u64, &content_key(), ASSET).expect("a short film");
        let layout = sealer.layout().clone();
        let (mut sealed, mut extent) = (Vec::new(), Vec::new());
        while let Some(number) = sealer.next_extent(&mut extent).expect("memory does not change") {
            let (stream, _) = layout.extent_at(number).expect("the extent exists");
            if stream.id == StreamId::ORIGINAL {
                sealed.extend_from_slice(&extent);
            }
        }
        Self { plain, layout, sealed }
    }

    pub(crate) fn chunks(&self) -> u32 {
        self.layout.stream(StreamId::ORIGINAL).map_or(0, |stream| stream.chunks())
    }

    /// The DATA packet of a chunk of stream 0.
    pub(crate) fn packet(&self, chunk: ChunkNo) -> Option<&[u8]> {
        let at = chunk.0 as usize * PACKET_BYTES;
        self.sealed.get(at..at + PACKET_BYTES)
    }

    pub(crate) fn opener(&self) -> Opener {
        Opener::new(&content_key(), ASSET)
    }
}

pub(crate) fn content_key() -> ContentKey {
    ContentKey::new([0x42; 16])
}

/// Unix time at which tests begin.
pub(crate) const EPOCH_S: u64 = 1_700_000_000;

/// The ticket key that servers in these tests know.
pub(crate) fn ticket_key() -> TicketKey {
    TicketKey::new(7, &[0x77; 32])
}

/// What a master hands to a client: the secret and the ticket that seals it.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) secret: [u8; 32],
    pub(crate) ticket: Vec<u8>,
}

/// How a ticket is to be made out.
#[derive(Clone, Copy)]
pub(crate) struct PassFor {
    pub(crate) number: u8,
    pub(crate) user: u64,
    pub(crate) asset: AssetId,
    pub(crate) expires_at: u64,
    pub(crate) rate_kib_s: u32,
}

impl PassFor {
    /// For user 1 and one hour, without a limit of the rate. Tickets of different numbers are different tickets.
    pub(crate) fn number(number: u8) -> Self {
        Self { number, user: 1, asset: ASSET, expires_at: EPOCH_S + 3_600, rate_kib_s: 0 }
    }

    pub(crate) fn sealed_by(self, key: &TicketKey) -> Pass {
        let secret = [self.number; 32];
        let ticket = Ticket {
            secret: SessionSecret::new(secret),
            user: self.user,
            expires_at: self.expires_at,
            rate_kib_s: self.rate_kib_s,
            assets: vec![self.asset],
        };
        Pass { secret, ticket: key.seal(&ticket, [self.number; 12]) }
    }

    pub(crate) fn sealed(self) -> Pass {
        self.sealed_by(&ticket_key())
    }
}

impl Pass {
    pub(crate) fn session_secret(&self) -> SessionSecret {
        SessionSecret::new(self.secret)
    }
}
