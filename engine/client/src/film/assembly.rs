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
    /// The last byte of any of them. Frames may overlap: the last frame need not reach as far as one before it.
    reach: u64,
    extents: BTreeMap<ExtentNo, Lent>,
}

impl Assembly {
    pub(super) fn new(returns: Returns) -> Self {
        Self { returns, next: 0, entries: VecDeque::new(), reach: 0, extents: BTreeMap::new() }
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
        self.reach = entries.iter().map(last_byte).fold(self.reach, u64::max);
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
        self.reach = 0;
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
        let first = self.entries.front()?;
        Some((extent_of(first.offset), extent_of(self.reach)))
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

#[cfg(test)]
mod tests {
    use braidcast_io::Selector;
    use braidcast_media::StreamId;
    use crossbeam::channel::Receiver;

    use super::*;
    use crate::engine::Command;
    use crate::window::ExtentKey;

    const EXTENT: u64 = EXTENT_BYTES as u64;

    fn assembly() -> (Assembly, Receiver<Command>) {
        let selector = Selector::new().expect("a descriptor");
        let (returns, returned) = Returns::apart(&selector);
        (Assembly::new(returns), returned)
    }

    fn entry(offset: u64, size: u64) -> FrameEntry {
        FrameEntry { offset, size: size as u32, ..FrameEntry::default() }
    }

    /// An extent whose bytes are all its number.
    fn extent(number: u32) -> Lent {
        let key = ExtentKey { stream: StreamId::ORIGINAL, extent: ExtentNo(number) };
        Lent { key, bytes: EXTENT_BYTES, buffer: vec![number as u8; EXTENT_BYTES].into_boxed_slice() }
    }

    fn numbers(assembly: &mut Assembly) -> Vec<u64> {
        std::iter::from_fn(|| assembly.next_frame()).map(|frame| frame.number).collect()
    }

    #[test]
    fn a_frame_is_cut_across_extents_once_all_of_them_have_come() {
        let (mut assembly, returned) = assembly();
        assembly.add_span(7, &[entry(EXTENT - 2, 3), entry(EXTENT + 1, 1), entry(2 * EXTENT, 1)]);
        assembly.add_extent(extent(1));
        assert!(assembly.next_frame().is_none());
        assembly.add_extent(extent(0));
        let frame = assembly.next_frame().expect("both are there");
        assert_eq!((frame.number, &frame.data[..]), (7, &[0, 0, 1][..]));
        assert_eq!(returned.len(), 1, "extent 0 is needed no more");
        assert_eq!(numbers(&mut assembly), [8]);
        assert_eq!(returned.len(), 2, "the next frame begins behind extent 1");
    }

    /// The reach of the frames was once taken for that of the last: the extents of a longer one before it were sent
    /// back, and the film stood still without an error.
    #[test]
    fn a_frame_that_reaches_beyond_those_after_it_keeps_its_extents() {
        let (mut assembly, returned) = assembly();
        assembly.add_span(0, &[entry(0, 3 * EXTENT), entry(1, 1)]);
        for number in 0..3 {
            assembly.add_extent(extent(number));
        }
        assert_eq!(returned.len(), 0);
        assert_eq!(numbers(&mut assembly), [0, 1]);
    }

    #[test]
    fn an_extent_that_two_windows_share_is_kept_between_them() {
        let (mut assembly, returned) = assembly();
        assembly.add_span(0, &[entry(0, 10)]);
        assembly.add_extent(extent(0));
        assert_eq!(numbers(&mut assembly), [0]);
        assert_eq!(returned.len(), 0, "the next frame may begin there");
        assembly.add_span(1, &[entry(10, 10), entry(EXTENT, 1)]);
        assert_eq!(numbers(&mut assembly), [1]);
    }

    #[test]
    fn what_no_frame_needs_goes_back_at_once_whether_it_is_late_or_twice_there_or_obsolete() {
        let (mut assembly, returned) = assembly();
        assembly.add_extent(extent(5));
        assert_eq!(returned.len(), 1, "no frame is known");
        assembly.add_span(0, &[entry(EXTENT, 10), entry(3 * EXTENT, 10)]);
        for number in [0, 4] {
            assembly.add_extent(extent(number));
        }
        assert_eq!(returned.len(), 3, "before the first and behind the last");
        for _ in 0..2 {
            assembly.add_extent(extent(1));
        }
        assert_eq!(returned.len(), 4, "twice there");
        assembly.clear();
        assert_eq!(returned.len(), 5, "a seek makes all obsolete");
        assert!(assembly.is_empty() && assembly.next_frame().is_none());
    }
}
