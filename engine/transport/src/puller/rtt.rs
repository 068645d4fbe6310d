//! Round-trip time and what follows from it (RFC 6298, section 2, without its one-second floor).

use std::time::{Duration, Instant};

/// Smoothed round trip of one source, and how far its packets overtake each other.
#[derive(Default)]
pub(super) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    least: Option<Duration>,
    /// Quarters of the least round trip that a packet may be overtaken by; less one.
    patience: u32,
    patience_at: Option<Instant>,
}

/// Least time-out. Below it a server that was not scheduled for a moment would be taken for a dead one.
const TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// Time-out before the first sample.
const TIMEOUT_INITIAL: Duration = Duration::from_millis(500);
/// Longest time-out, back-off included.
const TIMEOUT_MAX: Duration = Duration::from_secs(3);
/// Least patience with packets that overtook each other.
const REORDERING_MIN: Duration = Duration::from_millis(2);
/// Round trips without a loss that was none, after which patience is as at the start (RFC 8985, section 6.2: 16).
const PATIENCE_ROUNDS: u32 = 16;
/// Most quarters.
const PATIENCE_MAX: u32 = 15;

impl Rtt {
    pub(super) fn sample(&mut self, rtt: Duration) {
        self.least = Some(self.least.map_or(rtt, |least| least.min(rtt)));
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }

    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// How long a silent source may take before its PULLs are given up, after `timeouts` in a row.
    pub(super) fn timeout(&self, timeouts: u32) -> Duration {
        let base = self.smoothed.map_or(TIMEOUT_INITIAL, |rtt| (rtt + self.variation * 4).max(TIMEOUT_MIN));
        (base * 2_u32.pow(timeouts.min(4))).min(TIMEOUT_MAX.max(base))
    }

    /// How long after what was sent behind it a packet may still come: a quarter of the least round trip, and a quarter
    /// more each time that this was too little (RFC 8985, section 6.2, RACK's reordering window), but no longer than a
    /// round trip.
    pub(super) fn reordering(&self) -> Duration {
        let (Some(least), Some(smoothed)) = (self.least, self.smoothed) else { return REORDERING_MIN };
        (least / 4 * (self.patience + 1)).min(smoothed).max(REORDERING_MIN)
    }

    /// What was given up came after all.
    pub(super) fn on_spurious_loss(&mut self, now: Instant) {
        let round_trip = self.smoothed.unwrap_or(TIMEOUT_INITIAL);
        if self.patience_at.is_none_or(|at| now.saturating_duration_since(at) >= round_trip) {
            self.patience = (self.patience + 1).min(PATIENCE_MAX);
            self.patience_at = Some(now);
        }
    }

    /// A loss that stayed one: patience that has not been needed for a while is given up.
    pub(super) fn on_loss(&mut self, now: Instant) {
        let round_trip = self.smoothed.unwrap_or(TIMEOUT_INITIAL);
        let unneeded = |at| now.saturating_duration_since(at) >= round_trip * PATIENCE_ROUNDS;
        if self.patience_at.is_some_and(unneeded) {
            self.patience = 0;
        }
    }
}
