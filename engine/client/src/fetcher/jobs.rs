//! What is to be fetched, in order.

use std::sync::Arc;

use braidcast_media::hashes::Hash;
use braidcast_media::{ExtentNo, StreamLayout};

use crate::window::{ExtentKey, Job};

/// Extents of one stream that are to be fetched, lowest first.
#[derive(Clone, Debug)]
pub struct JobList {
    stream: StreamLayout,
    /// The extent that the first of `hashes` and of `have` speak of.
    first: u32,
    hashes: Arc<[Hash]>,
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

    /// As many extents of `stream` from `first` on as there are hashes, but for those in `have` (may be empty).
    ///
    /// # Panics
    /// If the stream ends before.
    pub fn part(stream: StreamLayout, first: ExtentNo, hashes: Arc<[Hash]>, have: Arc<[bool]>) -> Self {
        assert!(first.0 as usize + hashes.len() <= stream.extents() as usize);
        let mut list = Self { stream, first: first.0, hashes, have, next: 0 };
        list.skip();
        list
    }

    /// Whether there is no next job.
    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.hashes.len()
    }

    /// The next job, if there is one; it stays the next.
    pub(super) fn peek(&self, generation: u32) -> Option<Job> {
        let hash = *self.hashes.get(self.next)?;
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
