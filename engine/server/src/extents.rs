//! A set of extents of one pack that every shard reads and helpers change, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which extents of a pack have some property; extents are numbered within the pack.
#[derive(Debug)]
pub(crate) struct ExtentSet {
    words: Box<[AtomicU64]>,
    extents: u32,
}

impl ExtentSet {
    /// None of `extents` extents.
    pub(crate) fn empty(extents: u32) -> Self {
        let words = (0..extents.div_ceil(u64::BITS)).map(|_| AtomicU64::new(0)).collect();
        Self { words, extents }
    }

    /// All of `extents` extents.
    pub(crate) fn full(extents: u32) -> Self {
        let set = Self::empty(extents);
        for extent in 0..extents {
            set.insert(extent);
        }
        set
    }

    /// Takes `extent` in. What the caller did to its bytes before is seen by whoever finds it in the set.
    pub(crate) fn insert(&self, extent: u32) {
        let (word, bit) = self.place(extent);
        word.fetch_or(bit, Ordering::Release);
    }

    /// Puts `extent` out; says whether it was in.
    pub(crate) fn remove(&self, extent: u32) -> bool {
        let (word, bit) = self.place(extent);
        word.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// Whether `extent` is in the set; an extent that the pack has not never is.
    pub(crate) fn contains(&self, extent: u32) -> bool {
        if extent >= self.extents {
            return false;
        }
        let (word, bit) = self.place(extent);
        word.load(Ordering::Acquire) & bit != 0
    }

    /// How many extents are in the set.
    pub(crate) fn count(&self) -> u32 {
        self.words.iter().map(|word| word.load(Ordering::Acquire).count_ones()).sum()
    }

    /// Puts every extent out.
    pub(crate) fn clear(&self) {
        for word in &self.words {
            word.store(0, Ordering::Release);
        }
    }

    /// The first run of at most `extents_max` extents at or after `from` that are not in the set, as
    /// `first..end`.
    pub(crate) fn first_gap(&self, from: u32, extents_max: u32) -> Option<std::ops::Range<u32>> {
        let first = (from..self.extents).find(|&extent| !self.contains(extent))?;
        let end = first.saturating_add(extents_max).min(self.extents);
        let end = (first..end).find(|&extent| self.contains(extent)).unwrap_or(end);
        Some(first..end)
    }

    fn place(&self, extent: u32) -> (&AtomicU64, u64) {
        assert!(extent < self.extents, "extent {extent} of a pack of {}", self.extents);
        (&self.words[(extent / u64::BITS) as usize], 1 << (extent % u64::BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_go_in_and_out_across_words() {
        let set = ExtentSet::empty(130);
        for extent in [0, 63, 64, 129] {
            assert!(!set.contains(extent));
            set.insert(extent);
            assert!(set.contains(extent));
        }
        assert_eq!(set.count(), 4);
        assert!(set.remove(64));
        assert!(!set.remove(64));
        assert_eq!(set.count(), 3);
        assert!(!set.contains(130) && !set.contains(u32::MAX));
        set.clear();
        assert_eq!(set.count(), 0);
        assert_eq!(ExtentSet::full(130).count(), 130);
        assert_eq!(ExtentSet::full(0).count(), 0);
    }

    #[test]
    fn gaps_end_at_held_extents_at_the_bound_and_at_the_end() {
        let set = ExtentSet::empty(10);
        set.insert(0);
        set.insert(4);
        assert_eq!(set.first_gap(0, 100), Some(1..4));
        assert_eq!(set.first_gap(2, 100), Some(2..4));
        assert_eq!(set.first_gap(4, 100), Some(5..10));
        assert_eq!(set.first_gap(4, 2), Some(5..7));
        assert_eq!(ExtentSet::full(10).first_gap(0, 1), None);
    }
}
