//! How things stand.

use std::net::SocketAddr;

use super::Fetcher;

/// How things stand.
#[derive(Clone, Default, Debug)]
pub struct Snapshot {
    /// Plain bytes of the fetcher's own stream that are verified and written, or lent.
    pub written_bytes: u64,
    /// Payload that was taken from the network, for whatever stream.
    pub accepted_bytes: u64,
    /// Payload that was not needed.
    pub unwanted_bytes: u64,
    /// The sources, in the order in which they were first named.
    pub sources: Vec<SourceSnapshot>,
}

/// One source of a [`Snapshot`].
#[derive(Clone, Debug)]
pub struct SourceSnapshot {
    /// Where it serves.
    pub address: SocketAddr,
    /// Payload bytes taken from it.
    pub bytes: u64,
    /// What it delivers at the moment; 0 before it was measured.
    pub bytes_per_s: f64,
    /// Chunks asked for that did not come.
    pub lost: u64,
    /// Packets that did not open.
    pub rejected: u64,
    /// It failed at some time.
    pub ever_failed: bool,
    /// "greeting", "up", "down" or "banned".
    pub state: &'static str,
}

impl Snapshot {
    /// How things stand here and in another lane of the same download together.
    pub(crate) fn with(mut self, other: Self) -> Self {
        self.written_bytes += other.written_bytes;
        self.accepted_bytes += other.accepted_bytes;
        self.unwanted_bytes += other.unwanted_bytes;
        for theirs in other.sources {
            match self.sources.iter_mut().find(|ours| ours.address == theirs.address) {
                Some(ours) => {
                    ours.bytes += theirs.bytes;
                    ours.bytes_per_s += theirs.bytes_per_s;
                    ours.lost += theirs.lost;
                    ours.rejected += theirs.rejected;
                    ours.ever_failed |= theirs.ever_failed;
                }
                None => self.sources.push(theirs),
            }
        }
        self
    }
}

impl Fetcher {
    /// How things stand.
    pub fn snapshot(&self) -> Snapshot {
        let sources = self.sources.iter().map(|source| {
            let counters = source.puller.counters();
            SourceSnapshot {
                address: source.address,
                bytes: counters.accepted_bytes,
                bytes_per_s: source.bytes_per_s.unwrap_or(0.0),
                lost: counters.lost_chunks,
                rejected: counters.rejected,
                ever_failed: source.ever_failed,
                state: source.state.name(),
            }
        });
        let sources: Vec<_> = sources.collect();
        Snapshot {
            written_bytes: self.written_bytes,
            accepted_bytes: sources.iter().map(|source| source.bytes).sum(),
            unwanted_bytes: self.sources.iter().map(|source| source.puller.counters().unwanted_bytes).sum(),
            sources,
        }
    }
}
