//! PULLs that were sent and are not done.

use std::time::Instant;

use braidcast_media::{ChunkNo, Run, StreamId};

use super::Loss;
use crate::limits::CHUNKS_PER_PULL_MAX;
use crate::packet::Runs;

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
    pub(super) sent_at: Instant,
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

impl Outstanding {
    pub(super) fn new(session: u32, sequence: u32, stream: StreamId, runs: Runs, sent_at: Instant) -> Self {
        let chunks: u32 = runs.iter().map(|run| u32::from(run.count)).sum();
        debug_assert!((1..=u64::BITS).contains(&chunks));
        Self {
            session,
            sequence,
            stream,
            runs,
            missing: u64::MAX >> (u64::BITS - chunks),
            sent_at,
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

    /// Strikes the chunks of `run` that were asked for from the missing ones, and gives how many that were.
    pub(super) fn strike(&mut self, run: Run) -> u32 {
        let before = self.missing_chunks();
        for chunk in run.chunks().take(usize::from(CHUNKS_PER_PULL_MAX)) {
            if let Some(place) = self.find(self.stream, chunk) {
                self.arrived(place);
            }
        }
        before - self.missing_chunks()
    }

    /// The missing chunks as runs.
    pub(super) fn missing_runs(&self) -> Vec<Run> {
        let mut out: Vec<Run> = Vec::new();
        let chunks = self.runs.iter().flat_map(|run| run.chunks());
        for (place, chunk) in chunks.enumerate() {
            if self.missing >> place & 1 == 0 {
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
