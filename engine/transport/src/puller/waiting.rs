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

    /// Whether the server has said that it takes no PULLs at the moment: it is busy, or the ticket has expired.
    pub fn is_refused(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until) || self.is_expired()
    }

    /// Whether the server has said that the session's ticket has expired.
    pub fn is_expired(&self) -> bool {
        self.connection.current.as_ref().is_some_and(|open| open.expired)
    }

    /// When the PULLs were sent that are not complete and that no END spoke of, in order.
    pub fn waiting_since(&self) -> impl Iterator<Item = Instant> {
        self.waiting().map(|pull| pull.stamp.sent_at)
    }

    /// What is missing of those of them that were sent before then.
    pub fn sent_before(&self, then: Instant) -> impl Iterator<Item = (StreamId, Vec<Run>)> {
        let late = self.waiting().filter(move |pull| pull.stamp.sent_at <= then);
        late.map(|pull| (pull.stream, pull.missing_runs()))
    }

    /// Whether a chunk was asked for and neither arrived nor was given up.
    pub fn is_asked(&self, stream: StreamId, chunk: ChunkNo) -> bool {
        self.pulls.iter().any(|pull| pull.find(stream, chunk).is_some())
    }

    fn waiting(&self) -> impl Iterator<Item = &Outstanding> {
        self.pulls.iter().filter(|pull| pull.phase == Phase::Waiting && !pull.is_complete())
    }
}
