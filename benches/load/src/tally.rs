//! What is counted while viewers are driven.

use std::time::Duration;

use braidcast_lab::router::histogram::Histogram;
use serde::Serialize;

/// Width of a bin: times are told to 20 us, up to 400 ms. The greatest is exact.
const BIN: Duration = Duration::from_micros(20);
/// Failures that are told in words.
const WORDS_MAX: usize = 3;

/// How times are spread.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    histogram: Histogram,
    count: u64,
    max: Duration,
}

/// The same in milliseconds, as it is told.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Spread {
    /// How many times there were.
    pub(crate) count: u64,
    /// Half of them are no longer.
    pub(crate) p50_ms: f64,
    /// 99% of them are no longer.
    pub(crate) p99_ms: f64,
    /// None is longer.
    pub(crate) max_ms: f64,
}

impl Times {
    /// Counts a time.
    pub(crate) fn record(&mut self, time: Duration) {
        self.histogram.record(time);
        self.count += 1;
        self.max = self.max.max(time);
    }

    /// What there is to tell.
    pub(crate) fn spread(&self) -> Spread {
        // A bin's upper end; of what is beyond the last bin no more is known than the greatest.
        let quantile = |share| {
            let found = self.histogram.quantile(share) + BIN;
            if found >= BIN * BINS { self.max } else { found.min(self.max) }
        };
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Spread { count: self.count, p50_ms: ms(quantile(0.5)), p99_ms: ms(quantile(0.99)), max_ms: ms(self.max) }
    }
}

/// Bins of a histogram.
const BINS: u32 = 20_000;

impl Default for Times {
    fn default() -> Self {
        Self { histogram: Histogram::new(BIN), count: 0, max: Duration::ZERO }
    }
}

/// All counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// From a PULL to its last chunk, of viewers with a rate.
    pub(crate) replies: Times,
    /// The same of greedy ones.
    pub(crate) replies_greedy: Times,
    /// By how much the program was late to ask for what had entered a window.
    pub(crate) timers: Times,
    /// Payload that viewers with a rate got.
    pub(crate) bytes: u64,
    /// Payload that greedy ones got.
    pub(crate) bytes_greedy: u64,
    /// From the first arrival on.
    pub(crate) run: RunTally,
}

/// What counts from the first arrival on.
#[derive(Debug, Default)]
pub(crate) struct RunTally {
    /// From a viewer's greeting to the moment when it plays.
    pub(crate) starts: Times,
    /// Chunks that were opened and are authentic.
    pub(crate) verified: u64,
    /// Chunks that came and were not opened.
    pub(crate) unopened: u64,
    /// Chunks that do not open.
    pub(crate) rejected: u64,
    /// Chunks that came although they were there, or not asked for.
    pub(crate) unwanted: u64,
    /// Chunks that came, or did not come, after they were to be played.
    pub(crate) late: u64,
    /// By how much the latest of those that came was late.
    pub(crate) latest: Duration,
    /// Viewers that the server failed.
    pub(crate) failed: u32,
    /// What happened to the first of them.
    pub(crate) failures: Vec<String>,
}

impl Tally {
    /// Begins anew with what is measured over some time.
    pub(crate) fn begin(&mut self) {
        *self = Self { run: std::mem::take(&mut self.run), ..Self::default() };
    }
}

impl RunTally {
    /// A chunk came late.
    pub(crate) fn on_late(&mut self, by: Duration) {
        self.late += 1;
        self.latest = self.latest.max(by);
    }

    /// A viewer cannot go on.
    pub(crate) fn on_failed(&mut self, why: impl FnOnce() -> String) {
        self.failed += 1;
        if self.failures.len() < WORDS_MAX {
            self.failures.push(why());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_a_bin_and_the_greatest_to_the_point() {
        let mut times = Times::default();
        assert_eq!(times.spread().p99_ms, 0.0);
        (1..=1_000).for_each(|n| times.record(Duration::from_micros(n * 100)));
        let spread = times.spread();
        assert_eq!(spread.count, 1_000);
        assert!((50.0..=50.04).contains(&spread.p50_ms), "{spread:?}");
        assert!((99.0..=99.04).contains(&spread.p99_ms), "{spread:?}");
        assert_eq!(spread.max_ms, 100.0);
    }

    #[test]
    fn what_is_beyond_the_bins_is_not_told_as_less() {
        let mut times = Times::default();
        (0..10).for_each(|_| times.record(Duration::from_secs(3)));
        assert_eq!(times.spread().p50_ms, 3_000.0);
    }

    #[test]
    fn a_percentile_is_never_beyond_the_greatest() {
        let mut times = Times::default();
        times.record(Duration::from_micros(5));
        assert_eq!(times.spread().p50_ms, 0.005);
    }

    #[test]
    fn late_chunks_and_failures_stay_when_the_measurement_begins() {
        let mut tally = Tally { bytes: 7, ..Tally::default() };
        tally.run.on_late(Duration::from_millis(2));
        tally.run.on_failed(|| "silent".to_owned());
        tally.begin();
        assert_eq!((tally.bytes, tally.run.late, tally.run.failed), (0, 1, 1));
        assert_eq!(tally.run.latest, Duration::from_millis(2));
    }
}
