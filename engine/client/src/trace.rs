//! Traces: what a fetcher did and when, as a file of [`Record`]s, one JSON object a line.
//!
//! The fetcher makes the records ([`crate::fetcher::Fetcher::poll_record`]), a thread writes them, and whoever reads
//! them takes [`Record`] itself, so that both sides agree on every field.
//!
//! **The first line is a [`Record::Trace`], which names the version of the format; the last is a [`Record::End`] unless
//! the process was killed or the disk was full.** Lines between are in the order of what they tell, but for
//! [`Record::Stall`], which is written once a stall has lasted long enough to be one. Times are seconds from the start
//! of the trace.

mod record;
pub(crate) mod writer;

pub use record::{
    Cause, End, Extent, Failed, Fetched, Header, List, Lost, Opened, Record, Sample, Seek, Skipped, Source, Stall,
    Unreachable, VERSION, WindowSample,
};
pub(crate) use record::{milliseconds, seconds};
