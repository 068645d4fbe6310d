//! What was measured, remembered for a while.

use std::time::{Duration, Instant};

/// The largest rate of this cycle of probing and of the one before (BBR draft, section 4.5.2.4).
#[derive(Debug, Default)]
pub(super) struct MaxRate {
    cycles: [f64; 2],
}

impl MaxRate {
    pub(super) fn get(&self) -> f64 {
        self.cycles[0].max(self.cycles[1])
    }

    pub(super) fn update(&mut self, rate: f64) {
        self.cycles[1] = self.cycles[1].max(rate);
    }

    /// A cycle is over. One in which nothing was measured does not count.
    pub(super) fn advance(&mut self) {
        if self.cycles[1] > 0.0 {
            self.cycles = [self.cycles[1], 0.0];
        }
    }
}

/// The least round trip, and when it was last seen (BBR draft, section 4.5.3).
#[derive(Debug)]
pub(super) struct MinRtt {
    value: Option<Duration>,
    seen_at: Option<Instant>,
    valid_for: Duration,
}

/// A round trip this much above the least counts as the same, in parts of it: the path was empty. Without that a source
/// that shares its path with nobody would empty it again and again to see what it sees anyway.
const SAME_PART: u32 = 16;
/// As above where a part of the least is less than what two hosts' clocks and schedulers add.
const SAME_MIN: Duration = Duration::from_micros(500);

impl MinRtt {
    pub(super) fn new(valid_for: Duration) -> Self {
        Self { value: None, seen_at: None, valid_for }
    }

    pub(super) fn get(&self) -> Option<Duration> {
        self.value
    }

    pub(super) fn update(&mut self, now: Instant, rtt: Duration) {
        self.value = Some(self.value.map_or(rtt, |least| least.min(rtt)));
        if self.is_least(rtt) {
            self.seen_at = Some(now);
        }
    }

    /// Whether this is the least, as good as.
    pub(super) fn is_least(&self, rtt: Duration) -> bool {
        self.value.is_some_and(|least| rtt <= least + (least / SAME_PART).max(SAME_MIN))
    }

    /// Forgets the least in favour of what was seen while the path was kept empty.
    pub(super) fn replace(&mut self, now: Instant, rtt: Duration) {
        self.value = Some(rtt);
        self.seen_at = Some(now);
    }

    /// Counts what is known as seen now: a path that was idle has had no chance to show it.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.seen_at = Some(now);
    }

    pub(super) fn is_old(&self, now: Instant) -> bool {
        self.seen_at.is_some_and(|at| now.saturating_duration_since(at) > self.valid_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_remembered_for_two_cycles() {
        let mut rate = MaxRate::default();
        rate.update(9.0);
        rate.advance();
        rate.update(5.0);
        assert_eq!(rate.get(), 9.0);
        rate.advance();
        assert_eq!(rate.get(), 5.0);
        rate.advance();
        assert_eq!(rate.get(), 5.0, "nothing was measured, so nothing is forgotten");
    }

    #[test]
    fn a_round_trip_close_to_the_least_shows_that_the_path_was_empty() {
        let (start, ms) = (Instant::now(), Duration::from_millis(1));
        let mut least = MinRtt::new(5_000 * ms);
        least.update(start, 50 * ms);
        least.update(start + 4_000 * ms, 53 * ms);
        assert_eq!(least.get(), Some(50 * ms));
        assert!(!least.is_old(start + 9_000 * ms));
        least.update(start + 8_000 * ms, 54 * ms);
        assert!(least.is_old(start + 9_001 * ms));
        least.replace(start + 9_001 * ms, 70 * ms);
        assert_eq!(least.get(), Some(70 * ms));
    }
}
