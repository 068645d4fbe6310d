//! Chunks that are late: asked for once more, of a source that has nothing else to do.
//!
//! A source that falls silent is given up after a time-out of 200 ms at least. At the end of a download, and where a
//! film's window is full, the others have nothing to do meanwhile, and what is late is what everybody waits for: then one
//! of them is asked for it, too. Each PULL is doubled once, and only by who is not further away than the wait was.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use braidcast_media::{ChunkNo, Run, StreamId};
use braidcast_transport::limits::CHUNKS_PER_PULL_MAX;
use braidcast_transport::packet::Runs;

use super::Fetcher;
use super::source::{Source, State};
use crate::planner::SourceNo;

/// Least time after which an answer is late: a busy host may take so long for it.
const LATE_MIN: Duration = Duration::from_millis(25);
/// Round trips after which an answer is late: one to come in, and as long a wait in a full queue.
const LATE_ROUND_TRIPS: u32 = 2;

/// What is asked of two sources at a time.
#[derive(Debug, Default)]
pub(super) struct Doubled {
    /// Chunks that neither of the two has given or given up.
    chunks: HashSet<(StreamId, ChunkNo)>,
    /// When time last passed: what was late by then has been looked at.
    looked_at: Option<Instant>,
}

impl Doubled {
    /// Time has passed, and whoever has nothing to do has his turn next.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.looked_at = Some(now);
    }

    /// A chunk has come.
    pub(super) fn on_arrived(&mut self, stream: StreamId, chunk: ChunkNo) {
        if !self.chunks.is_empty() {
            self.chunks.remove(&(stream, chunk));
        }
    }

    /// One source has given up a run. Gives what does not come from the other either.
    pub(super) fn on_lost(&mut self, stream: StreamId, run: Run) -> ArrayVec<Run, { CHUNKS_PER_PULL_MAX as usize }> {
        if self.chunks.is_empty() {
            return ArrayVec::from_iter([run]);
        }
        let mut lost = ArrayVec::new();
        for chunk in run.chunks().filter(|chunk| !self.chunks.remove(&(stream, *chunk))) {
            append(&mut lost, chunk);
        }
        lost
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
    }
}

/// Adds a chunk to runs that are in order.
///
/// # Panics
/// If it begins another run, and there is no room for that.
pub(super) fn append<const N: usize>(runs: &mut ArrayVec<Run, N>, chunk: ChunkNo) {
    match runs.last_mut() {
        Some(last) if last.end() == u64::from(chunk.0) => last.count += 1,
        _ => runs.push(Run { first: chunk, count: 1 }),
    }
}

impl Source {
    /// How long an answer may take before it is late.
    fn patience(&self) -> Option<Duration> {
        self.puller.rtt().map(|rtt| (rtt * LATE_ROUND_TRIPS).max(LATE_MIN))
    }

    /// Whether something that it was asked for is late, be it asked of another or not.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let patience = self.patience().unwrap_or(Duration::MAX);
        let is_overdue = |since: Instant| now.saturating_duration_since(since) > patience;
        self.puller.is_silent() || self.puller.waits_since().is_some_and(is_overdue)
    }

    /// When the oldest PULL that was not doubled is late.
    fn late_at(&self) -> Option<Instant> {
        let (sent_at, ..) = self.puller.oldest_single().filter(|_| self.state == State::Up)?;
        Some(sent_at + self.patience()?)
    }
}

impl Fetcher {
    /// When something that is not late yet will be; nothing if there is nobody else to ask for it.
    pub(super) fn late_deadline(&self) -> Option<Instant> {
        let is_ahead = |at: &Instant| self.doubled.looked_at.is_none_or(|looked| looked < *at);
        let deadlines = self.sources.iter().filter_map(Source::late_at).filter(is_ahead);
        deadlines.min().filter(|_| self.sources.len() > 1)
    }

    /// What `helper`, which has nothing else to do, is to be asked for because another is late with it.
    pub(super) fn take_late(&mut self, now: Instant, helper: SourceNo, capacity: u32) -> Option<(StreamId, Runs)> {
        let distance = self.sources[usize::from(helper.0)].puller.rtt()?;
        loop {
            let others = self.sources.iter_mut().filter(|source| source.number != helper);
            let late = others.filter(|source| source.patience().is_some_and(|patience| patience >= distance));
            let late = late.filter_map(|source| Some((source.late_at()?, source))).min_by_key(|(at, _)| *at);
            let (_, late) = late.filter(|(at, _)| *at <= now)?;
            let (_, stream, missing) = late.puller.oldest_single()?;
            late.puller.on_doubled();
            let runs = self.double(helper, stream, &missing, capacity);
            if !runs.is_empty() {
                return Some((stream, runs));
            }
        }
    }

    /// What of `missing` the window lacks and `helper` may be asked for, at most `capacity` chunks of it.
    fn double(&mut self, helper: SourceNo, stream: StreamId, missing: &[Run], capacity: u32) -> Runs {
        let mut runs = Runs::new();
        let pieces = missing.iter().flat_map(|run| self.window.still_missing(stream, *run));
        let pieces = pieces.filter(|piece| piece.is_for(helper));
        for chunk in pieces.flat_map(|piece| piece.run.chunks()).take(capacity as usize) {
            if self.doubled.chunks.contains(&(stream, chunk)) {
                continue;
            }
            if runs.is_full() {
                break;
            }
            append(&mut runs, chunk);
            self.doubled.chunks.insert((stream, chunk));
        }
        runs
    }
}
