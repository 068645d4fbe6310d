//! What has arrived at a host, over time. Measured here, no end point has to be trusted.

use std::time::Duration;

use braidcast_media::chunk::DataHeader;

use super::packet::Content;
use crate::ports;

const BIN: Duration = Duration::from_millis(10);
/// Ten minutes; what arrives later counts as in the last.
const BINS_MAX: usize = 60_000;
/// Streams of an asset.
const STREAMS: usize = 5;
/// 5 GB a stream; chunks beyond are counted as fresh whenever they come.
const CHUNKS_MAX: u32 = 1 << 22;

/// What has arrived at one host since a moment.
#[derive(Clone, Debug)]
pub struct Arrivals {
    /// Payload of DATA over UDP, each chunk counted once. One asset at a time.
    pub data: Flow,
    /// Payload of DATA that had arrived before.
    pub data_again_bytes: u64,
    /// TCP payload from media servers.
    pub media_tcp: Flow,
    /// TCP payload from web servers.
    pub web: Flow,
    seen: [Vec<u64>; STREAMS],
}

impl Arrivals {
    /// Nothing, since `start`.
    pub fn new(start: Duration) -> Self {
        let flow = || Flow { start, first: None, last: start, bytes: 0, bins: Vec::new() };
        Self { data: flow(), data_again_bytes: 0, media_tcp: flow(), web: flow(), seen: Default::default() }
    }

    /// When the first payload came from a media server.
    pub fn media_first(&self) -> Option<Duration> {
        self.data.first.into_iter().chain(self.media_tcp.first).min()
    }

    /// When the last did.
    pub fn media_last(&self) -> Duration {
        self.data.last.max(self.media_tcp.last)
    }

    /// Payload that came from media servers, to a hundredth of a second.
    pub fn media_between(&self, from: Duration, to: Duration) -> u64 {
        self.data.between(from, to) + self.media_tcp.between(from, to)
    }

    /// The longest time from `from` to the last payload in which none came from media servers, to a hundredth of a
    /// second; nothing if none came at all.
    pub fn media_pause(&self, from: Duration) -> Option<Duration> {
        let first = self.data.bin(from);
        let bins = self.data.bins.len().max(self.media_tcp.bins.len());
        let is_silent = |bin: &usize| self.data.is_silent(*bin) && self.media_tcp.is_silent(*bin);
        let (mut now, mut longest) = (0, 0);
        for bin in first..bins {
            now = if is_silent(&bin) { now + 1 } else { 0 };
            longest = longest.max(now);
        }
        (first < bins).then(|| BIN * longest)
    }

    /// A whole packet arrives.
    pub(super) fn on_packet(&mut self, at: Duration, content: Content<'_>) {
        match content {
            Content::Udp(datagram) => {
                let Some(header) = DataHeader::parse(datagram) else { return };
                if self.is_new(header) {
                    self.data.add(at, usize::from(header.payload_bytes));
                } else {
                    self.data_again_bytes += u64::from(header.payload_bytes);
                }
            }
            Content::Tcp { source_port: ports::MEDIA, payload_bytes } => self.media_tcp.add(at, payload_bytes),
            Content::Tcp { source_port: ports::WEB, payload_bytes } => self.web.add(at, payload_bytes),
            Content::Tcp { .. } | Content::Other => {}
        }
    }

    fn is_new(&mut self, header: DataHeader) -> bool {
        let chunk = header.chunk.0;
        let Some(seen) = self.seen.get_mut(usize::from(header.stream.0)).filter(|_| chunk < CHUNKS_MAX) else {
            return true;
        };
        let (word, bit) = (chunk as usize / 64, 1 << (chunk % 64));
        if seen.len() <= word {
            seen.resize((word + 1).next_power_of_two(), 0);
        }
        let is_new = seen[word] & bit == 0;
        seen[word] |= bit;
        is_new
    }
}

/// Bytes over time.
#[derive(Clone, Debug)]
pub struct Flow {
    start: Duration,
    /// When the first came.
    pub first: Option<Duration>,
    /// When the last came.
    pub last: Duration,
    /// How many in all.
    pub bytes: u64,
    bins: Vec<u32>,
}

impl Flow {
    fn add(&mut self, at: Duration, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.first.get_or_insert(at);
        self.last = at;
        self.bytes += bytes as u64;
        let bin = self.bin(at);
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] += bytes as u32;
    }

    /// Bytes that came from `from` to `to`, to a hundredth of a second.
    pub fn between(&self, from: Duration, to: Duration) -> u64 {
        let end = self.bin(to).min(self.bins.len());
        let bins = self.bins.get(self.bin(from)..end).unwrap_or_default();
        bins.iter().map(|&bytes| u64::from(bytes)).sum()
    }

    fn is_silent(&self, bin: usize) -> bool {
        self.bins.get(bin).is_none_or(|&bytes| bytes == 0)
    }

    fn bin(&self, at: Duration) -> usize {
        let bin = at.saturating_sub(self.start).as_nanos() / BIN.as_nanos();
        (bin as usize).min(BINS_MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use braidcast_media::{AssetId, ChunkNo, StreamId};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn data(stream: u8, chunk: u32) -> Vec<u8> {
        let (stream, chunk) = (StreamId(stream), ChunkNo(chunk));
        let header = DataHeader { stream, chunk, payload_bytes: 1_200, asset: AssetId(7) };
        let mut packet = header.to_bytes().to_vec();
        packet.resize(1_232, 0);
        packet
    }

    #[test]
    fn a_chunk_counts_once_in_each_stream() {
        let mut arrivals = Arrivals::new(Duration::ZERO);
        for (stream, chunk) in [(0, 70_000), (0, 1), (3, 1), (0, 70_000), (0, 1)] {
            arrivals.on_packet(MS, Content::Udp(&data(stream, chunk)));
        }
        assert_eq!((arrivals.data.bytes, arrivals.data_again_bytes), (3 * 1_200, 2 * 1_200));
    }

    #[test]
    fn other_datagrams_and_ports_are_no_payload() {
        let mut arrivals = Arrivals::new(Duration::ZERO);
        arrivals.on_packet(MS, Content::Udp(&[0x15; 1_232]));
        arrivals.on_packet(MS, Content::Udp(&data(0, 0)[..1_231]));
        arrivals.on_packet(MS, Content::Tcp { source_port: ports::MASTER, payload_bytes: 10 });
        arrivals.on_packet(MS, Content::Tcp { source_port: ports::WEB, payload_bytes: 0 });
        assert_eq!((arrivals.data.first, arrivals.web.first, arrivals.media_tcp.first), (None, None, None));
    }

    #[test]
    fn time_counts_from_the_start_that_was_given() {
        let mut arrivals = Arrivals::new(MS * 1_000);
        for ms in [1_000, 1_100, 1_990, 3_000] {
            arrivals.on_packet(MS * ms, Content::Tcp { source_port: ports::WEB, payload_bytes: ms as usize });
        }
        let web = &arrivals.web;
        assert_eq!(web.between(MS * 1_000, MS * 2_000), 1_000 + 1_100 + 1_990);
        assert_eq!(web.between(MS * 1_100, MS * 9_000), 1_100 + 1_990 + 3_000);
        assert_eq!(web.between(MS * 5_000, MS * 9_000), 0);
        assert_eq!((web.first, web.last), (Some(MS * 1_000), MS * 3_000));
    }

    #[test]
    fn a_pause_is_the_longest_silence_of_media_servers_before_the_last_payload() {
        let mut arrivals = Arrivals::new(Duration::ZERO);
        for ms in [0, 10, 510, 520, 900] {
            arrivals.on_packet(MS * ms, Content::Udp(&data(0, ms)));
        }
        arrivals.on_packet(MS * 700, Content::Tcp { source_port: ports::MEDIA, payload_bytes: 1 });
        arrivals.on_packet(MS * 100, Content::Tcp { source_port: ports::WEB, payload_bytes: 1 });
        assert_eq!(arrivals.media_pause(Duration::ZERO), Some(MS * 490));
        assert_eq!(arrivals.media_pause(MS * 520), Some(MS * 190));
        assert_eq!(arrivals.media_pause(MS * 1_000), None);
    }
}
