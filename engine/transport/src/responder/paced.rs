//! Answers whose trains are spaced to the rate that their PULL named.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Request;

/// The answers of one shard that have trains to send, by when the next of each is due. `T` is what the caller needs to
/// send them. Its bound is the caller's: [`Paced::len`].
pub struct Paced<T> {
    due: BTreeMap<(Instant, u64), Train<T>>,
    pushed: u64,
}

/// The next train of an answer.
#[derive(Debug)]
pub struct Train<T> {
    /// Of which PULL it is.
    pub request: Request,
    /// What the caller gave.
    pub content: T,
    /// Which of the chunks that are sent for the PULL, counted from 0.
    pub chunks: Range<u16>,
    total: u16,
    at: Instant,
}

impl<T> Train<T> {
    /// Whether END goes with it.
    pub fn is_last(&self) -> bool {
        self.chunks.end == self.total
    }
}

impl<T> Default for Paced<T> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), pushed: 0 }
    }
}

impl<T> Paced<T> {
    /// Answers that have trains to send.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Takes an answer of `total` chunks whose trains [`Paced::poll_due`] gives from [`Request::start_at`] on.
    pub fn push(&mut self, request: Request, total: u16, content: T) {
        let at = request.start_at;
        let chunks = 0..request.train_chunks.min(total);
        self.insert(Train { request, content, chunks, total, at });
    }

    /// The next train that is due. [`Paced::resume`] takes it back once it is sent.
    pub fn poll_due(&mut self, now: Instant) -> Option<Train<T>> {
        let first = self.due.first_entry().filter(|first| first.key().0 <= now)?;
        let mut train = first.remove();
        train.request.started_at.get_or_insert(now);
        Some(train)
    }

    /// A train was sent: the one behind it is due when this one's time at the rate is over.
    pub fn resume(&mut self, mut train: Train<T>) {
        if train.is_last() {
            return;
        }
        let sent = train.chunks.end - train.chunks.start;
        train.at += train.request.chunk_time * u32::from(sent);
        let from = train.chunks.end;
        train.chunks = from..(from + train.request.train_chunks).min(train.total);
        self.insert(train);
    }

    /// When to call [`Paced::poll_due`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    fn insert(&mut self, train: Train<T>) {
        self.pushed += 1;
        self.due.insert((train.at, self.pushed), train);
    }
}

/// When the next PULL of a session may be answered.
#[derive(Debug, Default)]
pub(super) struct Slots {
    next_at: Option<Instant>,
}

impl Slots {
    /// Takes the time that `chunks` need, and says when it begins; or how much too long that would be from now.
    pub(super) fn take(
        &mut self,
        now: Instant,
        chunks: u16,
        chunk_time: Duration,
        wait_max: Duration,
    ) -> Result<Instant, Duration> {
        let start = self.next_at.map_or(now, |at| at.max(now));
        let wait = start - now;
        if wait > wait_max {
            return Err(wait - wait_max);
        }
        self.next_at = Some(start + chunk_time * u32::from(chunks));
        Ok(start)
    }
}

#[cfg(test)]
mod tests {
    use braidcast_media::{AssetId, Run, StreamId};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn request(start_at: Instant, sequence: u32, chunks: u16) -> Request {
        Request {
            to: ([127, 0, 0, 1], 9).into(),
            handle: 1,
            sequence,
            asset: AssetId(1),
            stream: StreamId::ORIGINAL,
            runs: [Run::new(0, chunks)].into_iter().collect(),
            received_at: start_at,
            start_at,
            train_chunks: 4,
            chunk_time: MS,
            started_at: None,
        }
    }

    #[test]
    fn trains_of_an_answer_come_at_the_rate_and_the_last_one_is_told() {
        let (mut paced, start) = (Paced::default(), Instant::now());
        paced.push(request(start, 1, 10), 10, ());
        let mut sent = Vec::new();
        for ms in 0..12 {
            while let Some(train) = paced.poll_due(start + MS * ms) {
                sent.push((ms, train.chunks.clone(), train.is_last()));
                assert_eq!(train.request.started_at, Some(start));
                paced.resume(train);
            }
        }
        assert_eq!(sent, [(0, 0..4, false), (4, 4..8, false), (8, 8..10, true)]);
        assert!(paced.is_empty());
    }

    #[test]
    fn a_late_caller_catches_up() {
        let (mut paced, start) = (Paced::default(), Instant::now());
        paced.push(request(start, 1, 10), 10, ());
        let mut trains = 0;
        while let Some(train) = paced.poll_due(start + MS * 8) {
            trains += 1;
            paced.resume(train);
        }
        assert_eq!(trains, 3);
    }

    #[test]
    fn pulls_that_come_bunched_together_are_answered_one_after_the_other() {
        let (mut slots, now) = (Slots::default(), Instant::now());
        assert_eq!(slots.take(now, 10, MS, MS * 15), Ok(now));
        assert_eq!(slots.take(now, 10, MS, MS * 15), Ok(now + MS * 10));
        assert_eq!(slots.take(now, 10, MS, MS * 15), Err(MS * 5));
        assert_eq!(slots.take(now + MS * 5, 10, MS, MS * 15), Ok(now + MS * 20));
        assert_eq!(slots.take(now + MS * 500, 10, MS, MS * 15), Ok(now + MS * 500), "time that was not used is gone");
    }
}
