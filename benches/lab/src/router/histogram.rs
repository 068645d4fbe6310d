//! How times are spread, in constant room.

use std::time::Duration;

const BINS: usize = 20_000;

/// Counts of times, in bins of one width; what is beyond the last counts as in it.
#[derive(Clone, Debug)]
pub struct Histogram {
    width: Duration,
    counts: Vec<u32>,
    total: u64,
}

impl Histogram {
    /// An empty histogram that reaches to 20,000 times `width`.
    pub fn new(width: Duration) -> Self {
        Self { width, counts: vec![0; BINS], total: 0 }
    }

    /// Counts a time.
    pub fn record(&mut self, time: Duration) {
        let bin = (time.as_nanos() / self.width.as_nanos()) as usize;
        self.counts[bin.min(BINS - 1)] += 1;
        self.total += 1;
    }

    /// The time that a `share` of the times do not exceed, to the width of a bin; zero if there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bin, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= wanted.max(1) {
                return self.width * bin as u32;
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_times_to_a_bin() {
        let mut histogram = Histogram::new(Duration::from_micros(100));
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        (1..=100).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        assert_eq!(histogram.quantile(0.5), Duration::from_millis(50));
        assert_eq!(histogram.quantile(0.95), Duration::from_millis(95));
        histogram.record(Duration::from_secs(3_600));
        assert_eq!(histogram.quantile(1.0), Duration::from_micros(100) * 19_999);
    }
}
