//! Chunks that are late: asked for once more, of a source that has nothing else to do.
//!
//! A source that falls silent is given up after a time-out of 200 ms at least. At the end of a download, and where a
//! film's window is full, the others have nothing to do meanwhile, and what is late is what everybody waits for: then one
//! of them is asked for it, too. Nobody helps who is late himself, or further away than the wait was.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use braidcast_media::layout::CHUNKS_PER_EXTENT;
use braidcast_media::{ChunkNo, Run, StreamId};
use braidcast_transport::packet::Runs;

use super::Fetcher;
use super::source::{Source, State};
use crate::planner::{Piece, SourceNo};

/// Least time after which an answer is late: a busy host may take so long for it.
const LATE_MIN: Duration = Duration::from_millis(25);
/// Round trips after which an answer is late: one to come in, and as long a wait in a full queue.
const LATE_ROUND_TRIPS: u32 = 2;

impl Source {
    /// How long an answer may take before it is late.
    fn patience(&self) -> Option<Duration> {
        self.puller.rtt().map(|rtt| (rtt * LATE_ROUND_TRIPS).max(LATE_MIN))
    }

    /// When what it was asked for is late, in order; nothing of it was told as lost.
    fn late_at(&self) -> impl Iterator<Item = Instant> {
        let patience = self.patience().filter(|_| self.state == State::Up);
        patience.into_iter().flat_map(|patience| self.puller.waiting_since().map(move |since| since + patience))
    }

    /// Whether something that it was asked for is late.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.puller.is_silent() || self.late_at().next().is_some_and(|at| at <= now)
    }
}

impl Fetcher {
    /// When something that was not late when time last passed will be; nothing if there is nobody else to ask for it.
    pub(super) fn late_deadline(&self) -> Option<Instant> {
        if self.sources.iter().filter(|source| source.state == State::Up).count() < 2 {
            return None;
        }
        let is_ahead = |at: &Instant| self.passed_at.is_none_or(|passed| passed < *at);
        self.sources.iter().filter_map(|source| source.late_at().find(is_ahead)).min()
    }

    /// What `helper`, which has nothing else to do, is to be asked for because another is late with it: at most `capacity`
    /// chunks that were not asked of anybody else but such as are late, too.
    pub(super) fn take_late(&mut self, now: Instant, helper: SourceNo, capacity: u32) -> Option<(StreamId, Runs)> {
        let source = &self.sources[usize::from(helper.0)];
        let distance = source.puller.rtt().filter(|_| !source.is_late(now))?;
        for late in self.sources.iter().filter(|late| late.state == State::Up && late.number != helper) {
            let Some(patience) = late.patience().filter(|patience| *patience >= distance) else { continue };
            for (stream, missing) in late.puller.sent_before(now.checked_sub(patience)?) {
                let is_free = |chunk: &ChunkNo| {
                    let is_to_come = |source: &Source| !source.is_late(now) || source.number == helper;
                    let mut others = self.sources.iter().filter(|source| is_to_come(source));
                    !others.any(|source| source.puller.is_asked(stream, *chunk))
                };
                let pieces = missing.into_iter().flat_map(|run| self.window.still_missing(stream, run));
                let chunks = pieces.filter(|piece| piece.is_for(helper)).flat_map(|piece| piece.run.chunks());
                let runs = first_runs(chunks.filter(is_free).take(capacity as usize));
                if !runs.is_empty() {
                    return Some((stream, runs));
                }
            }
        }
        None
    }

    /// Plans what of a piece no source is asked for; the rest is planned when it is told as lost.
    pub(super) fn plan_unasked(&mut self, piece: Piece) {
        let is_asked = |chunk| self.sources.iter().any(|source| source.puller.is_asked(piece.stream, chunk));
        let free = piece.run.chunks().filter(|chunk| !is_asked(*chunk));
        // At most every second chunk of an extent begins a run.
        let runs: ArrayVec<Run, { CHUNKS_PER_EXTENT as usize / 2 }> = first_runs(free);
        for run in runs {
            self.planner.add(Piece { run, ..piece });
        }
    }
}

/// Chunks as runs, as long as there is room for these.
fn first_runs<const N: usize>(chunks: impl Iterator<Item = ChunkNo>) -> ArrayVec<Run, N> {
    let mut runs = ArrayVec::<Run, N>::new();
    for chunk in chunks {
        let is_full = runs.is_full();
        match runs.last_mut() {
            Some(last) if last.end() == u64::from(chunk.0) => last.count += 1,
            _ if is_full => break,
            _ => runs.push(Run { first: chunk, count: 1 }),
        }
    }
    runs
}
