//! Pauses between attempts.

use std::time::Duration;

/// Doubles from a first pause to a longest one, each shortened at random by up to a half, so that servers that lost
/// their master together do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The pause before the next attempt.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        let mut random = [0];
        // Without randomness the pause is merely not shortened.
        let _ = aws_lc_rs::rand::fill(&mut random);
        pause - pause.mul_f64(f64::from(random[0]) / 512.0)
    }

    /// An attempt went well: the next pause is the first again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        for whole_ms in [100, 200, 400, 400] {
            let pause = backoff.next_pause();
            assert!(pause <= Duration::from_millis(whole_ms) && pause >= Duration::from_millis(whole_ms / 2));
        }
        backoff.reset();
        assert!(backoff.next_pause() <= Duration::from_millis(100));
    }
}
