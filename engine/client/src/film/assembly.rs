//! Frames cut from verified extents, in decode order.

use std::collections::{BTreeMap, VecDeque};

use braidcast_media::ExtentNo;
use braidcast_media::frames::FrameEntry;
use braidcast_media::layout::EXTENT_BYTES;

use super::Frame;
use crate::control::{extent_of, last_byte};
use crate::engine::Returns;
use crate::sink::Lent;

/// The frames that are known, and the extents of them that have come. An extent's buffer goes back to the engine as soon
/// as no frame needs it.
pub(super) struct Assembly {
    returns: Returns,
    /// Number of the first of `entries`.
    next: u64,
    entries: VecDeque<FrameEntry>,
    extents: BTreeMap<ExtentNo, Lent>,
}

impl Assembly {
    pub(super) fn new(returns: Returns) -> Self {
        Self { returns, next: 0, entries: VecDeque::new(), extents: BTreeMap::new() }
    }

    /// Whether all frames that are known were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Frames that are known and were not taken.
    pub(super) fn frames(&self) -> usize {
        self.entries.len()
    }

    /// Frames from number `first` on, which follow those that are known.
    pub(super) fn add_span(&mut self, first: u64, entries: &[FrameEntry]) {
        if self.entries.is_empty() {
            self.next = first;
        }
        debug_assert_eq!(self.next + self.entries.len() as u64, first);
        self.entries.extend(entries);
        self.drop_unneeded();
    }

    /// An extent has come.
    pub(super) fn add_extent(&mut self, extent: Lent) {
        let number = extent.key.extent;
        let wanted = self.needed().is_some_and(|(first, last)| (first..=last).contains(&number));
        let obsolete = if wanted { self.extents.insert(number, extent) } else { Some(extent) };
        if let Some(obsolete) = obsolete {
            self.returns.give_back(obsolete.buffer);
        }
    }

    /// Forgets all frames and extents.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        for (_, extent) in std::mem::take(&mut self.extents) {
            self.returns.give_back(extent.buffer);
        }
    }

    /// The next frame, if all of its extents have come.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        let entry = *self.entries.front()?;
        let data = self.cut(&entry)?;
        self.entries.pop_front();
        let number = self.next;
        self.next += 1;
        self.drop_unneeded();
        Some(Frame { number, entry, data })
    }

    /// The first and the last extent of the frames that are known. Those between are not all needed.
    fn needed(&self) -> Option<(ExtentNo, ExtentNo)> {
        let (first, last) = (self.entries.front()?, self.entries.back()?);
        Some((extent_of(first.offset), extent_of(last_byte(last))))
    }

    fn cut(&self, entry: &FrameEntry) -> Option<Vec<u8>> {
        let (first, last) = (extent_of(entry.offset), extent_of(last_byte(entry)));
        if (first.0..=last.0).any(|number| !self.extents.contains_key(&ExtentNo(number))) {
            return None;
        }
        let mut data = Vec::with_capacity(entry.size as usize);
        for (number, extent) in self.extents.range(first..=last) {
            let start = u64::from(number.0) * EXTENT_BYTES as u64;
            let from = entry.offset.saturating_sub(start) as usize;
            let to = ((entry.end() - start) as usize).min(extent.bytes);
            data.extend_from_slice(&extent.buffer[from..to.max(from)]);
        }
        Some(data)
    }

    /// Gives back what no known frame needs. While none is known the last extents stay: the next frame may begin there.
    fn drop_unneeded(&mut self) {
        let Some((first, _)) = self.needed() else { return };
        while let Some(entry) = self.extents.first_entry()
            && *entry.key() < first
        {
            self.returns.give_back(entry.remove().buffer);
        }
    }
}
