//! Round-trip time and what follows from it (RFC 6298, section 2, without its one-second floor).

use std::time::Duration;

/// Smoothed round trip of one source.
#[derive(Default)]
pub(super) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
}

/// Least time-out. Below it a server that was not scheduled for a moment would be taken for a dead one.
const TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// Time-out before the first sample.
const TIMEOUT_INITIAL: Duration = Duration::from_millis(500);
/// Longest time-out, back-off included.
const TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// Least patience with packets that overtook each other.
const REORDERING_MIN: Duration = Duration::from_millis(2);

impl Rtt {
    pub(super) fn sample(&mut self, rtt: Duration) {
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
        (base * 2_u32.pow(timeouts.min(4))).min(TIMEOUT_MAX)
    }

    /// How long after an END its chunks may still come in, by reordering: a quarter of the round trip (RFC 8985,
    /// section 6.2, RACK's reordering window).
    pub(super) fn reordering(&self) -> Duration {
        self.smoothed.map_or(REORDERING_MIN, |rtt| (rtt / 4).max(REORDERING_MIN))
    }
}
