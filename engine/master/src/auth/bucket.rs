//! A token bucket. Reads no clock.

use std::time::{Duration, Instant};

/// How a kind of bucket fills.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling {
    /// Tokens that it begins with, and never exceeds.
    pub(crate) tokens_max: u32,
    /// Time for one token.
    pub(crate) every: Duration,
}

/// The tokens of one address, or of one account.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: u32,
    /// The time for which `tokens` holds.
    at: Instant,
}

impl Bucket {
    pub(crate) fn full(now: Instant, filling: Filling) -> Self {
        Self { tokens: filling.tokens_max, at: now }
    }

    /// How long until there is a token; `None` if there is one.
    pub(crate) fn wait(&self, now: Instant, filling: Filling) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.at);
        (self.tokens == 0 && passed < filling.every).then(|| filling.every - passed)
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant, filling: Filling) {
        self.fill(now, filling);
        self.tokens = self.tokens.saturating_sub(1);
    }

    /// Gives a token back.
    pub(crate) fn give_back(&mut self, filling: Filling) {
        self.tokens = (self.tokens + 1).min(filling.tokens_max);
    }

    fn fill(&mut self, now: Instant, filling: Filling) {
        let passed = now.saturating_duration_since(self.at);
        let due = passed.as_nanos() / filling.every.as_nanos().max(1);
        let missing = filling.tokens_max - self.tokens;
        match u32::try_from(due) {
            Ok(due) if due < missing => {
                self.tokens += due;
                self.at += filling.every * due;
            }
            _ => *self = Self::full(now, filling),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILLING: Filling = Filling { tokens_max: 3, every: Duration::from_secs(10) };

    #[test]
    fn an_empty_bucket_has_one_token_after_its_time_and_never_more_than_it_began_with() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start, FILLING);
        for _ in 0..3 {
            assert_eq!(bucket.wait(start, FILLING), None);
            bucket.take(start, FILLING);
        }
        assert_eq!(bucket.wait(start, FILLING), Some(FILLING.every));
        let nearly = start + FILLING.every - Duration::from_nanos(1);
        assert_eq!(bucket.wait(nearly, FILLING), Some(Duration::from_nanos(1)));
        let now = start + FILLING.every;
        assert_eq!(bucket.wait(now, FILLING), None);
        bucket.take(now, FILLING);
        assert_eq!(bucket.wait(now, FILLING), Some(FILLING.every));
        let later = start + Duration::from_hours(1_000_000);
        for _ in 0..3 {
            bucket.take(later, FILLING);
        }
        assert!(bucket.wait(later, FILLING).is_some());
        bucket.give_back(FILLING);
        assert_eq!(bucket.wait(later, FILLING), None);
    }

    #[test]
    fn taking_a_token_does_not_lose_the_time_towards_the_next() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start, FILLING);
        (0..3).for_each(|_| bucket.take(start, FILLING));
        let now = start + FILLING.every * 3 / 2;
        bucket.take(now, FILLING);
        assert_eq!(bucket.wait(now, FILLING), Some(FILLING.every / 2));
    }
}
