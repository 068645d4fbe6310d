//! What is to be fetched, in order.

use std::sync::Arc;

use braidcast_media::hashes::Hash;
use braidcast_media::{ExtentNo, StreamLayout};

use crate::window::{ExtentKey, Job};

/// The extents of one stream that are to be fetched, lowest first.
#[derive(Clone, Debug)]
pub(crate) struct JobList {
    stream: StreamLayout,
    hashes: Arc<[Hash]>,
    /// Extents that need not be fetched.
    have: Arc<[bool]>,
    next: u32,
}

impl JobList {
    /// All extents of `stream`, whose hashes are `hashes`, but for those in `have` (by extent; may be empty).
    ///
    /// # Panics
    /// If there is not one hash per extent.
    pub(crate) fn new(stream: StreamLayout, hashes: Arc<[Hash]>, have: Arc<[bool]>) -> Self {
        assert_eq!(hashes.len(), stream.extents() as usize);
        let mut list = Self { stream, hashes, have, next: 0 };
        list.skip();
        list
    }

    /// The next job, if there is one; it stays the next.
    pub(crate) fn peek(&self) -> Option<Job> {
        let hash = *self.hashes.get(self.next as usize)?;
        let extent = ExtentNo(self.next);
        Some(Job {
            key: ExtentKey { stream: self.stream.id, extent },
            chunks: self.stream.extent_chunks(extent),
            bytes: self.stream.extent_bytes(extent),
            hash,
        })
    }

    /// Goes on to the one after.
    pub(crate) fn advance(&mut self) {
        self.next += 1;
        self.skip();
    }

    fn skip(&mut self) {
        while self.have.get(self.next as usize).copied().unwrap_or(false) {
            self.next += 1;
        }
    }
}
