//! PULLs that were sent and are not done.

use std::time::Instant;

use braidcast_media::{ChunkNo, Run, StreamId};

use super::Loss;
use super::delivery::Stamp;
use crate::limits::CHUNKS_PER_PULL_MAX;
use crate::packet::{End, Runs};

const _: () = assert!(CHUNKS_PER_PULL_MAX as u32 <= u64::BITS);

/// One PULL and which of its chunks are still missing.
pub(super) struct Outstanding {
    /// Which session it was sealed for.
    pub(super) session: u32,
    pub(super) sequence: u32,
    pub(super) stream: StreamId,
    pub(super) runs: Runs,
    /// Bit i: the i-th chunk of the runs, in order, has not come.
    missing: u64,
    /// How things stood when it was sent.
    pub(super) stamp: Stamp,
    /// Chunks of it were asked of this source before and may still come for that.
    pub(super) is_repeated: bool,
    pub(super) first_data_at: Option<Instant>,
    pub(super) phase: Phase,
}

/// How far the answer to a PULL has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is known yet; given up when the source has been silent for too long.
    Waiting,
    /// What has not come by then is lost, for this reason.
    Closing(Instant, Loss),
}

/// What became of an older PULL, as far as an END tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It tells nothing of it.
    Unknown,
    /// The server has not seen it, though it has seen later ones.
    Unseen,
    /// It was answered, and its END was lost or overtaken.
    Answered,
    /// A later one was answered, and nothing is told of this one: it is beyond the bitmap's reach, or of an old session.
    Passed,
}

impl Outstanding {
    pub(super) fn new(session: u32, sequence: u32, stream: StreamId, runs: Runs, stamp: Stamp) -> Self {
        let chunks: u32 = runs.iter().map(|run| u32::from(run.count)).sum();
        debug_assert!((1..=u64::BITS).contains(&chunks));
        Self {
            session,
            sequence,
            stream,
            runs,
            missing: u64::MAX >> (u64::BITS - chunks),
            stamp,
            is_repeated: false,
            first_data_at: None,
            phase: Phase::Waiting,
        }
    }

    /// Place of a missing chunk in this PULL.
    pub(super) fn find(&self, stream: StreamId, chunk: ChunkNo) -> Option<u32> {
        if stream != self.stream {
            return None;
        }
        let mut before = 0;
        for run in &self.runs {
            let offset = chunk.0.wrapping_sub(run.first.0);
            if offset < u32::from(run.count) {
                let place = before + offset;
                return (self.missing >> place & 1 == 1).then_some(place);
            }
            before += u32::from(run.count);
        }
        None
    }

    pub(super) fn arrived(&mut self, place: u32) {
        self.missing &= !(1 << place);
    }

    pub(super) fn missing_chunks(&self) -> u32 {
        self.missing.count_ones()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Strikes the missing chunks that lie in `runs`, and gives them: a server may list what nobody asked it for.
    pub(super) fn strike(&mut self, runs: &[Run]) -> Vec<Run> {
        let holds = |run: &Run, chunk: ChunkNo| (u64::from(run.first.0)..run.end()).contains(&chunk.0.into());
        let listed = self.chunks().filter(|(_, chunk)| runs.iter().any(|run| holds(run, *chunk)));
        let struck = self.missing & listed.fold(0, |places, (place, _)| places | 1 << place);
        self.missing &= !struck;
        self.runs_of(struck)
    }

    /// The missing chunks as runs.
    pub(super) fn missing_runs(&self) -> Vec<Run> {
        self.runs_of(self.missing)
    }

    /// What an END of session `tag` tells of this PULL, which it does not answer; `newest`: no session is newer.
    pub(super) fn fate(&self, tag: u32, newest: bool, end: &End) -> Fate {
        if self.phase != Phase::Waiting {
            return Fate::Unknown;
        }
        if self.session != tag {
            return if newest { Fate::Passed } else { Fate::Unknown };
        }
        match end.highest.checked_sub(self.sequence) {
            Some(below @ 1..=64) if end.seen >> (below - 1) & 1 == 0 => Fate::Unseen,
            Some(below @ 1..=32) if end.waiting >> (below - 1) & 1 == 1 => Fate::Unknown,
            Some(1..=32) => Fate::Answered,
            Some(1..) if self.sequence < end.sequence => Fate::Passed,
            _ => Fate::Unknown,
        }
    }

    /// Whether a chunk of `runs` is still missing here.
    pub(super) fn overlaps(&self, stream: StreamId, runs: &[Run]) -> bool {
        stream == self.stream
            && runs.iter().flat_map(|run| run.chunks()).any(|chunk| self.find(stream, chunk).is_some())
    }

    /// All chunks that were asked for, with their places.
    fn chunks(&self) -> impl Iterator<Item = (u32, ChunkNo)> {
        (0..).zip(self.runs.iter().flat_map(|run| run.chunks()))
    }

    fn runs_of(&self, places: u64) -> Vec<Run> {
        let mut out: Vec<Run> = Vec::new();
        for (place, chunk) in self.chunks() {
            if places >> place & 1 == 0 {
                continue;
            }
            match out.last_mut() {
                Some(last) if last.end() == u64::from(chunk.0) => last.count += 1,
                _ => out.push(Run { first: chunk, count: 1 }),
            }
        }
        out
    }
}
