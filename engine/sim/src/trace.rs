//! A number that tells two runs apart: the same seed must give the same one.

use std::time::Duration;

/// Mixes whatever it is told, in order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Trace(u64);

/// Of a packet, the first bytes are mixed in: kind, handle or chunk, sequence or counter.
const FIRST_BYTES: usize = 16;

impl Trace {
    /// A packet has arrived.
    pub(crate) fn on_packet(&mut self, at: Duration, from: u32, to: u32, bytes: usize, start: &[u8]) {
        self.mix(at.as_nanos() as u64);
        self.mix(u64::from(from) << 32 | u64::from(to));
        self.mix(bytes as u64);
        for part in start[..start.len().min(FIRST_BYTES)].chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.mix(u64::from_le_bytes(word));
        }
    }

    /// The number so far.
    pub(crate) fn hash(self) -> u64 {
        self.0
    }

    /// The finalizer of SplitMix64 over what is known and what comes in.
    fn mix(&mut self, word: u64) {
        let z = (self.0 ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = z ^ (z >> 31);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_detail_of_a_packet_counts() {
        let at = Duration::from_millis(5);
        let one = |at, from, to, bytes, start: &[u8]| {
            let mut trace = Trace::default();
            trace.on_packet(at, from, to, bytes, start);
            trace.hash()
        };
        let all = [
            one(at, 1, 2, 20, b"abcdefghij"),
            one(at + Duration::from_nanos(1), 1, 2, 20, b"abcdefghij"),
            one(at, 2, 1, 20, b"abcdefghij"),
            one(at, 1, 2, 21, b"abcdefghij"),
            one(at, 1, 2, 20, b"abcdefghik"),
        ];
        assert!(all.iter().enumerate().all(|(n, hash)| !all[..n].contains(hash)));
    }
}
