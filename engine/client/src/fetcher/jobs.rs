//! What is to be fetched, in order.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use braidcast_media::hashes::Hash;
use braidcast_media::{ExtentNo, StreamId, StreamLayout};

use crate::window::{Expected, ExtentKey, Job};

/// What the extents must hash to.
#[derive(Clone, Debug)]
enum Hashes {
    Known(Arc<[Hash]>),
    /// To come; of so many extents.
    Awaited(usize),
    /// Whatever comes and opens is taken; of so many extents.
    Unchecked(usize),
}

/// Extents of one stream that are to be fetched, lowest first. Clones share what is left: each extent is given once, to
/// whichever asks, unless it is given back.
#[derive(Clone, Debug)]
pub struct JobList {
    stream: StreamLayout,
    /// The extent that the first of `hashes` and of `have` speak of.
    first: u32,
    hashes: Hashes,
    /// Extents that need not be fetched.
    have: Arc<[bool]>,
    left: Arc<Left>,
}

/// What of a list is left to be taken. Extents are counted from the list's first.
#[derive(Debug, Default)]
struct Left {
    /// Is to be fetched, or beyond the last.
    next: AtomicUsize,
    /// Before `next`, taken by those who gave them back.
    returned: Mutex<BTreeSet<usize>>,
    /// Of `returned`, so that nobody need lock it while it is empty.
    returned_count: AtomicUsize,
}

impl Left {
    fn returned(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_returned(&self) -> Option<usize> {
        if self.returned_count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut returned = self.returned();
        let first = returned.pop_first();
        self.returned_count.store(returned.len(), Ordering::Release);
        first
    }

    fn give_back(&self, extents: impl Iterator<Item = usize>) {
        let mut returned = self.returned();
        returned.extend(extents);
        self.returned_count.store(returned.len(), Ordering::Release);
    }
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
        Self::starting(stream, ExtentNo(0), Hashes::Awaited(stream.extents() as usize), Arc::new([]))
    }

    /// All extents of `stream`, but for those in `have` (by extent; may be empty). None of them is hashed.
    pub fn unchecked(stream: StreamLayout, have: Arc<[bool]>) -> Self {
        Self::starting(stream, ExtentNo(0), Hashes::Unchecked(stream.extents() as usize), have)
    }

    /// As many extents of `stream` from `first` on as there are hashes, but for those in `have` (may be empty).
    ///
    /// # Panics
    /// If the stream ends before.
    pub fn part(stream: StreamLayout, first: ExtentNo, hashes: Arc<[Hash]>, have: Arc<[bool]>) -> Self {
        assert!(first.0 as usize + hashes.len() <= stream.extents() as usize);
        Self::starting(stream, first, Hashes::Known(hashes), have)
    }

    fn starting(stream: StreamLayout, first: ExtentNo, hashes: Hashes, have: Arc<[bool]>) -> Self {
        let list = Self { stream, first: first.0, hashes, have, left: Arc::default() };
        list.left.next.store(list.missing_from(0), Ordering::Relaxed);
        list
    }

    /// Whether there is no next job.
    pub(super) fn is_empty(&self) -> bool {
        self.left.next.load(Ordering::Relaxed) >= self.len() && self.left.returned_count.load(Ordering::Acquire) == 0
    }

    /// The extent of the next job; one past the last where there is none.
    pub(crate) fn next_extent(&self) -> ExtentNo {
        let next = self.left.next.load(Ordering::Relaxed).min(self.len());
        let returned = self.left.returned().first().copied();
        ExtentNo(self.first + returned.map_or(next, |returned| returned.min(next)) as u32)
    }

    /// Extents that were taken are to be fetched by others; those of other lists are left out.
    pub fn give_back(&self, extents: &[ExtentKey]) {
        let own = extents.iter().filter(|key| key.stream == self.stream.id && key.extent.0 >= self.first);
        let places = own.map(|key| (key.extent.0 - self.first) as usize);
        self.left.give_back(places.filter(|place| *place < self.len()));
    }

    /// Which stream.
    pub(crate) fn stream(&self) -> StreamId {
        self.stream.id
    }

    /// The hashes of all extents of a stream have become known.
    pub(crate) fn set_hashes(&mut self, stream: StreamId, hashes: &Arc<[Hash]>) {
        if self.stream.id == stream && matches!(self.hashes, Hashes::Awaited(_)) {
            self.hashes = Hashes::Known(Arc::clone(hashes));
        }
    }

    /// Takes the next job, if there is one.
    pub(crate) fn take(&self, generation: u32) -> Option<Job> {
        let after = |next: usize| (next < self.len()).then(|| self.missing_from(next + 1));
        let from_cursor = || self.left.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).ok();
        let taken = self.left.take_returned().or_else(from_cursor)?;
        let hash = match &self.hashes {
            Hashes::Known(hashes) => Expected::Hash(*hashes.get(taken)?),
            Hashes::Awaited(_) => Expected::Awaited,
            Hashes::Unchecked(_) => Expected::Unchecked,
        };
        let extent = ExtentNo(self.first + taken as u32);
        Some(Job {
            key: ExtentKey { stream: self.stream.id, extent },
            chunks: self.stream.extent_chunks(extent),
            bytes: self.stream.extent_bytes(extent),
            hash,
            generation,
        })
    }

    /// Extents that it speaks of.
    fn len(&self) -> usize {
        match &self.hashes {
            Hashes::Known(hashes) => hashes.len(),
            Hashes::Awaited(extents) | Hashes::Unchecked(extents) => *extents,
        }
    }

    /// The first extent from `index` on that is to be fetched.
    fn missing_from(&self, index: usize) -> usize {
        let held = self.have.iter().skip(index).take_while(|have| **have).count();
        index + held
    }
}

#[cfg(test)]
mod tests {
    use braidcast_media::PackLayout;
    use braidcast_media::layout::EXTENT_BYTES;

    use super::*;

    #[test]
    fn clones_share_what_is_left_and_give_each_extent_once() {
        let layout = PackLayout::of_file(6 * EXTENT_BYTES as u64).expect("short");
        let stream = *layout.stream(StreamId::ORIGINAL).expect("every asset has one");
        let have = [true, false, false, true, false, true];
        let one = JobList::new(stream, vec![[0; 32]; 6].into(), Arc::new(have));
        let other = one.clone();
        assert_eq!(one.next_extent(), ExtentNo(1));
        let taken = [&one, &other, &one].map(|list| list.take(0).map(|job| job.key.extent.0));
        assert_eq!(taken, [Some(1), Some(2), Some(4)]);
        assert!(one.is_empty() && other.is_empty() && other.take(0).is_none());
        assert_eq!(other.next_extent(), ExtentNo(6));

        let key = |stream, extent| ExtentKey { stream, extent: ExtentNo(extent) };
        let (own, others) = (StreamId::ORIGINAL, StreamId::PLAIN_HASHES);
        one.give_back(&[key(own, 4), key(own, 2), key(others, 1), key(own, 6)]);
        assert!(!other.is_empty());
        assert_eq!(other.next_extent(), ExtentNo(2));
        let taken = [&other, &one, &one].map(|list| list.take(0).map(|job| job.key.extent.0));
        assert_eq!(taken, [Some(2), Some(4), None]);
        assert!(one.is_empty());
    }
}
