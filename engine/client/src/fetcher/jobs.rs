//! What is to be fetched, in order.

use std::sync::Arc;

use braidcast_media::hashes::Hash;
use braidcast_media::{ExtentNo, StreamId, StreamLayout};

use crate::window::{ExtentKey, Job};

/// What the extents must hash to.
#[derive(Clone, Debug)]
enum Hashes {
    Known(Arc<[Hash]>),
    /// To come; of so many extents.
    Awaited(usize),
}

/// Extents of one stream that are to be fetched, lowest first.
#[derive(Clone, Debug)]
pub struct JobList {
    stream: StreamLayout,
    /// The extent that the first of `hashes` and of `have` speak of.
    first: u32,
    hashes: Hashes,
    /// Extents that need not be fetched.
    have: Arc<[bool]>,
    /// Counted from `first`.
    next: usize,
}

impl JobList {
    /// All extents of `stream`, whose hashes are `hashes`, but for those in `have` (by extent; may be empty).
    ///
    /// # Panics
    /// If there is not one hash per extent.
    pub fn new(stream: StreamLayout, hashes: Arc<[Hash]>, have: Arc<[bool]>) -> Self {
        assert_eq!(hashes.len(), stream.extents() as usize);
        Self::part(stream, ExtentNo(0), hashes, have)
    }

    /// All extents of `stream`, whose hashes [`super::Fetcher::set_hashes`] will tell. None of them is handed on before.
    pub fn awaiting_hashes(stream: StreamLayout) -> Self {
        Self { stream, first: 0, hashes: Hashes::Awaited(stream.extents() as usize), have: Arc::new([]), next: 0 }
    }

    /// As many extents of `stream` from `first` on as there are hashes, but for those in `have` (may be empty).
    ///
    /// # Panics
    /// If the stream ends before.
    pub fn part(stream: StreamLayout, first: ExtentNo, hashes: Arc<[Hash]>, have: Arc<[bool]>) -> Self {
        assert!(first.0 as usize + hashes.len() <= stream.extents() as usize);
        let mut list = Self { stream, first: first.0, hashes: Hashes::Known(hashes), have, next: 0 };
        list.skip();
        list
    }

    /// Whether there is no next job.
    pub(super) fn is_empty(&self) -> bool {
        let extents = match &self.hashes {
            Hashes::Known(hashes) => hashes.len(),
            Hashes::Awaited(extents) => *extents,
        };
        self.next >= extents
    }

    /// The hashes of all extents of a stream have become known.
    pub(super) fn set_hashes(&mut self, stream: StreamId, hashes: &Arc<[Hash]>) {
        if self.stream.id == stream && matches!(self.hashes, Hashes::Awaited(_)) {
            self.hashes = Hashes::Known(Arc::clone(hashes));
        }
    }

    /// The next job, if there is one; it stays the next.
    pub(super) fn peek(&self, generation: u32) -> Option<Job> {
        if self.is_empty() {
            return None;
        }
        let hash = match &self.hashes {
            Hashes::Known(hashes) => hashes.get(self.next).copied(),
            Hashes::Awaited(_) => None,
        };
        let extent = ExtentNo(self.first + self.next as u32);
        Some(Job {
            key: ExtentKey { stream: self.stream.id, extent },
            chunks: self.stream.extent_chunks(extent),
            bytes: self.stream.extent_bytes(extent),
            hash,
            generation,
        })
    }

    /// Goes on to the one after.
    pub(super) fn advance(&mut self) {
        self.next += 1;
        self.skip();
    }

    fn skip(&mut self) {
        while self.have.get(self.next).copied().unwrap_or(false) {
            self.next += 1;
        }
    }
}
