//! A file in memory, sealed as a pack would hold it, and the master's part in fetching it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use braidcast_client::fetcher::{Host, JobList};
use braidcast_media::hashes::{self, Hash};
use braidcast_media::layout::{EXTENT_BYTES, HASH_BYTES, PACKET_BYTES};
use braidcast_media::seal::FileSealer;
use braidcast_media::ticket::{SessionSecret, Ticket, TicketKey};
use braidcast_media::{AssetId, ChunkNo, ContentKey, ExtentNo, PackLayout, StreamId};

pub(crate) const ASSET: AssetId = AssetId(0xa55e_7000_0000_0001);
/// Unix time at which tests begin.
pub(crate) const EPOCH_S: u64 = 1_700_000_000;

/// A file and its sealed chunks.
pub(crate) struct Asset {
    pub(crate) plain: Vec<u8>,
    pub(crate) layout: PackLayout,
    /// The packets of stream 0 and of stream 3, end to end.
    sealed: [Vec<u8>; 2],
    /// Stream 3: the hashes of the file's extents.
    pub(crate) hashes: Vec<Hash>,
    roots: Vec<Hash>,
}

impl Asset {
    pub(crate) fn new(bytes: usize) -> Self {
        Self::of((0..bytes as u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect())
    }

    pub(crate) fn of(plain: Vec<u8>) -> Self {
        let mut sealer = FileSealer::new(&plain[..], plain.len() as u64, &content_key(), ASSET).expect("a short file");
        let layout = sealer.layout().clone();
        let (mut sealed, mut extent) = ([Vec::new(), Vec::new()], Vec::new());
        while let Some(number) = sealer.next_extent(&mut extent).expect("memory does not change") {
            let (stream, _) = layout.extent_at(number).expect("the extent exists");
            sealed[usize::from(stream.id == StreamId::PLAIN_HASHES)].extend_from_slice(&extent);
        }
        let roots = sealer.finish().expect("all is sealed").plain_roots;
        let roots = hashes::parse_list(&roots).expect("whole hashes");
        let hashes = plain.chunks(EXTENT_BYTES).map(hashes::hash).collect();
        Self { plain, layout, sealed, hashes, roots }
    }

    pub(crate) fn extents(&self) -> u32 {
        self.hashes.len() as u32
    }

    /// Plain bytes of an extent.
    pub(crate) fn extent(&self, extent: ExtentNo) -> &[u8] {
        self.plain.chunks(EXTENT_BYTES).nth(extent.0 as usize).expect("the extent exists")
    }

    /// The DATA packet of a chunk.
    pub(crate) fn packet(&self, stream: StreamId, chunk: ChunkNo) -> Option<&[u8]> {
        let at = chunk.0 as usize * PACKET_BYTES;
        self.sealed[usize::from(stream == StreamId::PLAIN_HASHES)].get(at..at + PACKET_BYTES)
    }

    /// All extents of the file.
    pub(crate) fn jobs(&self) -> JobList {
        self.jobs_from(ExtentNo(0))
    }

    /// The extents of the file from this one on.
    pub(crate) fn jobs_from(&self, first: ExtentNo) -> JobList {
        let stream = *self.layout.stream(StreamId::ORIGINAL).expect("every asset has one");
        JobList::part(stream, first, self.hashes[first.0 as usize..].into(), Arc::new([]))
    }

    /// The list of hashes.
    pub(crate) fn list_jobs(&self) -> JobList {
        let stream = *self.layout.stream(StreamId::PLAIN_HASHES).expect("every asset has one");
        assert_eq!(stream.bytes, u64::from(self.extents()) * HASH_BYTES as u64);
        JobList::new(stream, self.roots.clone().into(), Arc::new([]))
    }
}

pub(crate) fn content_key() -> ContentKey {
    ContentKey::new([0x42; 16])
}

/// The ticket key that servers in these tests know.
pub(crate) fn ticket_key() -> TicketKey {
    TicketKey::new(7, &[0x77; 32])
}

/// What the master tells of a server, with a ticket that is good for an hour.
pub(crate) fn host(name: &str, address: SocketAddr) -> Host {
    let secret = [name.len() as u8; 32];
    let ticket = Ticket {
        secret: SessionSecret::new(secret),
        user: 1,
        expires_at: EPOCH_S + 3_600,
        rate_kib_s: 0,
        assets: vec![ASSET],
    };
    Host {
        server_id: name.to_owned(),
        address,
        ticket: ticket_key().seal(&ticket, [3; 12]),
        session_secret: SessionSecret::new(secret),
        ticket_lifetime: Duration::from_secs(3_600),
    }
}
