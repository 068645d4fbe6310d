//! How much this server deletes without an order that says that a person removed the video.
//!
//! A master with the wrong database, or with a fault, can order a whole library to be dropped within seconds. The guard
//! bounds what such orders can do in a minute, so that a person has time to see the reports and to stop it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Counts what was deleted within the last [`GUARD_WINDOW`] and refuses what would be too much.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Oldest first; deletions within [`SPAN_LENGTH`] share one.
    spans: VecDeque<Span>,
}

/// Deletions that followed each other closely.
#[derive(Debug)]
struct Span {
    first: Instant,
    last: Instant,
    copies: u64,
    bytes: u64,
}

/// A deletion that the guard does not allow. Reads on from "is kept:".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "without it this server would have deleted {copies} copies within a minute, {bytes} of {held} bytes, which is more \
     than a tenth of what it holds; only copies of removed videos go faster"
)]
pub(crate) struct TooMuch {
    /// Copies that would have been deleted, these included.
    copies: u64,
    /// Their bytes.
    bytes: u64,
    /// Bytes that the server held before the first of them was deleted.
    held: u64,
}

impl Guard {
    /// Counts the deletion of copies of these sizes, where `held` bytes are held at this moment, or refuses all of it.
    /// What takes no room does not count.
    ///
    /// One copy a minute is always allowed: a server with few large copies could make no room otherwise.
    pub(super) fn allow(&mut self, now: Instant, sizes: &[u64], held: u64) -> Result<(), TooMuch> {
        let (bytes, deletions) = (
            sizes.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes)),
            sizes.iter().filter(|&&bytes| bytes > 0).count() as u64,
        );
        if deletions == 0 {
            return Ok(());
        }
        self.spans.retain(|span| now.saturating_duration_since(span.last) < GUARD_WINDOW);
        let before: u64 = self.spans.iter().map(|span| span.bytes).sum();
        let copies = self.spans.iter().map(|span| span.copies).sum::<u64>() + deletions;
        let (deleted, held) = (before.saturating_add(bytes), held.saturating_add(before));
        if copies > 1 && deleted > held / GUARD_PART {
            return Err(TooMuch { copies, bytes: deleted, held });
        }
        self.count(now, deletions, bytes);
        Ok(())
    }

    fn count(&mut self, now: Instant, deletions: u64, bytes: u64) {
        match self.spans.back_mut() {
            Some(span) if now.saturating_duration_since(span.first) < SPAN_LENGTH => {
                span.last = now;
                span.copies += deletions;
                span.bytes = span.bytes.saturating_add(bytes);
            }
            _ => self.spans.push_back(Span { first: now, last: now, copies: deletions, bytes }),
        }
    }
}

/// How long a deletion counts.
const GUARD_WINDOW: Duration = Duration::from_secs(60);
/// One part in so many of what is held may be deleted within [`GUARD_WINDOW`].
const GUARD_PART: u64 = 10;
/// Deletions that are counted as one entry, which bounds the memory of the guard to some sixty entries.
const SPAN_LENGTH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_tenth_may_be_deleted_within_a_minute_and_a_byte_more_may_not() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        assert_eq!(guard.allow(now, &[60], 1_000), Ok(()));
        assert_eq!(guard.allow(now, &[41], 940), Err(TooMuch { copies: 2, bytes: 101, held: 1_000 }));
        assert_eq!(guard.allow(now, &[40], 940), Ok(()), "what was refused does not count");
        assert!(guard.allow(now, &[1], 900).is_err());
    }

    #[test]
    fn one_copy_may_be_any_part_of_all_and_the_second_may_not() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        assert_eq!(guard.allow(now, &[900], 1_000), Ok(()));
        assert_eq!(guard.allow(now, &[100], 100), Err(TooMuch { copies: 2, bytes: 1_000, held: 1_000 }));
    }

    #[test]
    fn of_several_copies_together_all_may_go_or_none() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        assert_eq!(guard.allow(now, &[60, 41], 1_000), Err(TooMuch { copies: 2, bytes: 101, held: 1_000 }));
        assert_eq!(guard.allow(now, &[60, 0, 40], 1_000), Ok(()), "what was refused does not count");
        assert!(guard.allow(now, &[1], 900).is_err());
    }

    #[test]
    fn the_minute_slides() {
        let (mut guard, start) = (Guard::default(), Instant::now());
        for second in 0..10 {
            assert_eq!(guard.allow(after(start, f64::from(second) * 5.0), &[10], 1_000 - 10), Ok(()));
        }
        assert!(guard.allow(after(start, 59.9), &[10], 900).is_err());
        assert_eq!(guard.allow(after(start, 60.0), &[10], 910), Ok(()), "the first of them is a minute ago");
        assert!(guard.allow(after(start, 60.1), &[10], 900).is_err());
    }

    #[test]
    fn the_guard_remembers_no_more_than_a_minute_has_seconds() {
        let (mut guard, start) = (Guard::default(), Instant::now());
        for deletion in 0..100_000_u32 {
            let now = after(start, f64::from(deletion) / 500.0);
            assert_eq!(guard.allow(now, &[1], 1_000_000), Ok(()));
            assert!(guard.spans.len() <= 62, "{} entries", guard.spans.len());
        }
    }
}
