//! Keeps to the rate that a server grants, so that it need not refuse.

use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;

use crate::limits::CHUNKS_PER_PULL_MAX;

const TRAIN_BYTES: u64 = CHUNKS_PER_PULL_MAX as u64 * PACKET_BYTES as u64;

/// A token bucket that holds half a second at the rate. The server's holds a whole one: what the network does to the
/// times of PULLs has room in the difference.
pub(super) struct Pace {
    bytes_s: u64,
    level_bytes: u64,
    filled_at: Instant,
}

impl Pace {
    /// A full bucket; nothing if the rate, in KiB/s, is 0 and so not limited.
    pub(super) fn new(now: Instant, rate_kib_s: u32) -> Option<Self> {
        let bytes_s = u64::from(rate_kib_s) * 1024;
        let full = Self { bytes_s, level_bytes: Self::burst_bytes(bytes_s), filled_at: now };
        (rate_kib_s > 0).then_some(full)
    }

    /// Chunks that may be asked for now: none or at least a train, for one train costs no more packets than one chunk.
    pub(super) fn chunks(&self, now: Instant) -> u32 {
        let level = Some(self.level(now)).filter(|&level| level >= TRAIN_BYTES).unwrap_or(0);
        u32::try_from(level / PACKET_BYTES as u64).unwrap_or(u32::MAX)
    }

    pub(super) fn spend(&mut self, now: Instant, chunks: u32) {
        self.refill(now);
        self.level_bytes = self.level_bytes.saturating_sub(u64::from(chunks) * PACKET_BYTES as u64);
    }

    pub(super) fn refill(&mut self, now: Instant) {
        self.level_bytes = self.level(now);
        self.filled_at = now;
    }

    /// When there will be enough for a train; nothing if there was at the last refill.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        let lacking = TRAIN_BYTES.checked_sub(self.level_bytes).filter(|&bytes| bytes > 0)?;
        Some(self.filled_at + Duration::from_micros((lacking * 1_000_000).div_ceil(self.bytes_s)))
    }

    fn level(&self, now: Instant) -> u64 {
        let micros = now.duration_since(self.filled_at).as_micros().min(1_000_000) as u64;
        (self.level_bytes + self.bytes_s * micros / 1_000_000).min(Self::burst_bytes(self.bytes_s))
    }

    fn burst_bytes(bytes_s: u64) -> u64 {
        (bytes_s / 2).max(TRAIN_BYTES)
    }
}
