//! How a download stands, and how it went.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::fetcher::{Snapshot, SourceSnapshot};

/// How a download stands.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Bytes of the file that are there and verified, those of an earlier attempt included.
    pub bytes_done: u64,
    /// Bytes of the file.
    pub bytes_total: u64,
    /// The servers, in the order in which they were first named.
    pub sources: Vec<SourceProgress>,
}

/// One server's part.
#[derive(Clone, Debug)]
pub struct SourceProgress {
    /// Where it serves.
    pub address: SocketAddr,
    /// Payload bytes taken from it.
    pub bytes: u64,
    /// What it delivers at the moment.
    pub bytes_per_s: f64,
    /// "greeting", "up", "down" or "banned".
    pub state: &'static str,
}

impl Progress {
    pub(super) fn new(snapshot: &Snapshot, bytes_total: u64, resumed_bytes: u64) -> Self {
        let sources = snapshot.sources.iter().map(|source| SourceProgress {
            address: source.address,
            bytes: source.bytes,
            bytes_per_s: source.bytes_per_s,
            state: source.state,
        });
        Self { bytes_done: snapshot.written_bytes + resumed_bytes, bytes_total, sources: sources.collect() }
    }
}

/// How a download went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The name under which it was published.
    pub name: String,
    /// Where it stands; nothing where it went to no file.
    pub path: Option<PathBuf>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Of these, bytes that an earlier attempt had fetched.
    pub resumed_bytes: u64,
    /// From the call to the last byte written.
    pub elapsed: Duration,
    /// Every extent's hash was checked against the master's roots.
    pub verified: bool,
    /// Payload received beyond the file's and its hash list's own.
    pub redundant_bytes: u64,
    /// New lists that the master gave because of a report.
    pub redistributions: u32,
    /// The servers, in the order in which they were first named.
    pub sources: Vec<SourceReport>,
}

/// One server's part.
#[derive(Clone, Debug)]
pub struct SourceReport {
    /// Where it serves.
    pub address: SocketAddr,
    /// Payload bytes taken from it.
    pub bytes: u64,
    /// Chunks asked for that did not come.
    pub lost: u64,
    /// Packets that did not open.
    pub rejected: u64,
    /// It failed at some time.
    pub failed: bool,
}

impl From<&SourceSnapshot> for SourceReport {
    fn from(source: &SourceSnapshot) -> Self {
        Self {
            address: source.address,
            bytes: source.bytes,
            lost: source.lost,
            rejected: source.rejected,
            failed: source.ever_failed,
        }
    }
}
