//! What a viewer has asked for and lacks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use braidcast_transport::limits::CHUNKS_PER_PULL_MAX;

/// PULLs of which chunks are missing, in the order of their chunks. A lost chunk stays with its first PULL when it is
/// asked for again, so a reply takes as long as its slowest chunk. The window of the puller bounds how many there are.
#[derive(Debug, Default)]
pub(crate) struct Asked(VecDeque<Pull>);

/// One PULL.
#[derive(Clone, Copy, Debug)]
struct Pull {
    first: u64,
    /// Bit i: chunk `first + i` has not come.
    missing: u64,
    sent_at: Instant,
}

const _: () = assert!((CHUNKS_PER_PULL_MAX as u32) < u64::BITS);

impl Asked {
    /// Asks for chunks behind all that were asked for before.
    pub(crate) fn push(&mut self, now: Instant, first: u64, count: u16) {
        self.0.push_back(Pull { first, missing: (1 << count) - 1, sent_at: now });
    }

    /// The first chunk of the oldest PULL.
    pub(crate) fn first(&self) -> Option<u64> {
        self.0.front().map(|pull| pull.first)
    }

    /// Whether a chunk was asked for and lacks.
    pub(crate) fn is_missing(&self, chunk: u64) -> bool {
        self.find(chunk).is_some()
    }

    /// A chunk has come. Tells how long the reply took if it is whole now.
    pub(crate) fn on_arrived(&mut self, now: Instant, chunk: u64) -> Option<Duration> {
        let (at, bit) = self.find(chunk)?;
        let pull = &mut self.0[at];
        pull.missing &= !bit;
        if pull.missing != 0 {
            return None;
        }
        self.0.remove(at).map(|pull| now.saturating_duration_since(pull.sent_at))
    }

    /// How many chunks below `end` lack.
    pub(crate) fn missing_before(&self, end: u64) -> u64 {
        let below = |pull: &Pull| {
            (0..u64::BITS).filter(|bit| pull.missing >> bit & 1 == 1 && pull.first + u64::from(*bit) < end).count()
        };
        self.0.iter().map(|pull| below(pull) as u64).sum()
    }

    fn find(&self, chunk: u64) -> Option<(usize, u64)> {
        let at = self.0.partition_point(|pull| pull.first <= chunk).checked_sub(1)?;
        let place = u32::try_from(chunk - self.0[at].first).ok()?;
        let bit = 1_u64.checked_shl(place)?;
        (self.0[at].missing & bit != 0).then_some((at, bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_lasts_until_its_last_chunk() {
        let now = Instant::now();
        let later = now + Duration::from_millis(7);
        let mut asked = Asked::default();
        asked.push(now, 10, 3);
        asked.push(later, 13, 2);
        assert_eq!(asked.on_arrived(later, 12), None);
        assert_eq!(asked.on_arrived(later, 12), None, "once is enough");
        assert_eq!(asked.on_arrived(later, 10), None);
        assert_eq!(asked.on_arrived(later, 11), Some(Duration::from_millis(7)));
        assert_eq!(asked.first(), Some(13));
    }

    #[test]
    fn what_was_not_asked_for_is_not_missing() {
        let now = Instant::now();
        let mut asked = Asked::default();
        assert!(!asked.is_missing(0));
        asked.push(now, 10, 3);
        asked.push(now, 200, 52);
        let missing: Vec<u64> = (0..400).filter(|chunk| asked.is_missing(*chunk)).collect();
        assert_eq!(missing, (10..13).chain(200..252).collect::<Vec<_>>());
        assert_eq!(asked.missing_before(12), 2);
        assert_eq!(asked.missing_before(252), 55);
        asked.on_arrived(now, 11);
        assert_eq!(asked.missing_before(12), 1);
    }
}
