//! What a source still owes, for whoever could ask another for it.

use std::time::Instant;

use braidcast_media::{ChunkNo, Run, StreamId};

use super::Puller;
use super::outstanding::{Outstanding, Phase};

impl Puller {
    /// Whether PULLs have run into their time-out, and nothing has come since.
    pub fn is_silent(&self) -> bool {
        self.timeouts > 0
    }

    /// When the oldest PULL of which nothing was told was sent.
    pub fn waits_since(&self) -> Option<Instant> {
        let mut waiting = self.pulls.iter().filter(|pull| pull.phase == Phase::Waiting && !pull.is_complete());
        waiting.next().map(|pull| pull.stamp.sent_at)
    }

    /// Whether a chunk was asked for and neither arrived nor was given up.
    pub fn is_asked(&self, stream: StreamId, chunk: ChunkNo) -> bool {
        self.pulls.iter().any(|pull| pull.find(stream, chunk).is_some())
    }

    /// The oldest PULL of which nothing was told, unless [`Puller::on_doubled`] was called for it: when it was sent, and
    /// what of it is missing.
    pub fn oldest_single(&self) -> Option<(Instant, StreamId, Vec<Run>)> {
        let index = self.oldest_single_index()?;
        let pull = &self.pulls[index];
        Some((pull.stamp.sent_at, pull.stream, pull.missing_runs()))
    }

    /// What [`Puller::oldest_single`] gives is asked of another source, too.
    pub fn on_doubled(&mut self) {
        if let Some(index) = self.oldest_single_index() {
            self.pulls[index].is_doubled = true;
        }
    }

    fn oldest_single_index(&self) -> Option<usize> {
        let is_single = |pull: &Outstanding| pull.phase == Phase::Waiting && !pull.is_doubled && !pull.is_complete();
        self.pulls.iter().position(is_single)
    }
}
