//! Frames cut from extents, in decode order: from verified ones, and where they are waited for from early pieces.

use std::collections::{BTreeMap, VecDeque};

use braidcast_media::ExtentNo;
use braidcast_media::frames::FrameEntry;
use braidcast_media::layout::EXTENT_BYTES;

use super::Frame;
use super::early::{self, parts_of};
use crate::control::{extent_of, last_byte};
use crate::engine::Returns;
use crate::fetcher::{EarlyPart, EarlyPiece};
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
    /// Bytes of extents that are not verified yet, by extent and place in it. No more than was asked for.
    early: BTreeMap<(ExtentNo, usize), EarlyPiece>,
    /// Frames before this one were asked for early.
    early_end: u64,
    /// Pieces that were asked for and have not come.
    early_due: usize,
}

impl Assembly {
    pub(super) fn new(returns: Returns) -> Self {
        Self {
            returns,
            next: 0,
            entries: VecDeque::new(),
            reach: 0,
            extents: BTreeMap::new(),
            early: BTreeMap::new(),
            early_end: 0,
            early_due: 0,
        }
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

    /// `parts` were asked for early, on behalf of frames before number `end`.
    pub(super) fn on_early_asked(&mut self, end: u64, parts: usize) {
        self.early_end = end;
        self.early_due = parts;
    }

    /// An extent has come.
    pub(super) fn add_extent(&mut self, extent: Lent) {
        let number = extent.key.extent;
        let wanted = match self.needed() {
            Some((first, last)) => (first..=last).contains(&number),
            // All that is known was taken early, and the next frame may begin in this one, which is not fetched again.
            None => self.reach > 0 && number <= extent_of(self.reach),
        };
        self.early.retain(|(early, _), _| *early != number);
        let obsolete = if wanted { self.extents.insert(number, extent) } else { Some(extent) };
        if let Some(obsolete) = obsolete {
            self.returns.give_back(obsolete.buffer);
        }
    }

    /// Bytes of an extent have come that is not verified yet.
    pub(super) fn add_early(&mut self, piece: EarlyPiece) {
        self.early_due = self.early_due.saturating_sub(1);
        let is_ahead = self.entries.front().is_some_and(|front| end_of(&piece.part) > front.offset);
        if is_ahead && !self.extents.contains_key(&piece.part.extent) {
            self.early.insert((piece.part.extent, piece.part.bytes.start), piece);
        }
    }

    /// The next frame is waited for: asks for it and those after it, `frames` at most, as early as they can be had,
    /// unless they were asked for before.
    pub(super) fn ask_early(&mut self, frames: usize) {
        if self.next < self.early_end || self.entries.is_empty() {
            return;
        }
        let (count, mut parts) = early::ask(self.entries.iter().take(frames));
        parts.retain(|part| !self.extents.contains_key(&part.extent));
        if !parts.is_empty() {
            self.on_early_asked(self.next + count as u64, parts.len());
            self.returns.want_early(parts);
        }
    }

    /// Forgets all frames and extents.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.reach = 0;
        self.early.clear();
        self.early_end = 0;
        self.early_due = 0;
        for (_, extent) in std::mem::take(&mut self.extents) {
            self.returns.give_back(extent.buffer);
        }
    }

    /// The next frame, if all of its bytes have come.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        let entry = *self.entries.front()?;
        let (data, verified) = self.cut(&entry)?;
        self.entries.pop_front();
        let number = self.next;
        self.next += 1;
        if self.next == self.early_end && self.early_due > 0 {
            // What comes now is not waited for.
            self.early_due = 0;
            self.returns.want_early(Vec::new());
        }
        self.drop_unneeded();
        Some(Frame { number, entry, data, verified })
    }

    /// The first and the last extent of the frames that are known. Those between are not all needed.
    fn needed(&self) -> Option<(ExtentNo, ExtentNo)> {
        let first = self.entries.front()?;
        Some((extent_of(first.offset), extent_of(self.reach)))
    }

    /// The bytes of a frame, and whether all of them are verified.
    fn cut(&self, entry: &FrameEntry) -> Option<(Vec<u8>, bool)> {
        if parts_of(entry).any(|part| self.bytes(&part).is_none()) {
            return None;
        }
        let mut data = Vec::with_capacity(entry.size as usize);
        let mut verified = true;
        for part in parts_of(entry) {
            data.extend_from_slice(self.bytes(&part)?);
            verified &= self.extents.contains_key(&part.extent);
        }
        Some((data, verified))
    }

    fn bytes(&self, part: &EarlyPart) -> Option<&[u8]> {
        match self.extents.get(&part.extent) {
            Some(extent) => extent.buffer[..extent.bytes].get(part.bytes.clone()),
            None => self.early.get(&(part.extent, part.bytes.start))?.data.get(..part.bytes.len()),
        }
    }

    /// Gives back what no known frame needs. While none is known the last extents stay: the next frame may begin there.
    fn drop_unneeded(&mut self) {
        let Some((first, _)) = self.needed() else { return };
        while let Some(entry) = self.extents.first_entry()
            && *entry.key() < first
        {
            self.returns.give_back(entry.remove().buffer);
        }
        let from = self.entries.front().map_or(0, |front| front.offset);
        self.early.retain(|_, piece| end_of(&piece.part) > from);
    }
}

/// Where a part ends in its stream.
fn end_of(part: &EarlyPart) -> u64 {
    u64::from(part.extent.0) * EXTENT_BYTES as u64 + part.bytes.end as u64
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

    /// Once it was given back for want of a known frame that needs it, and the film waited for it for ever.
    #[test]
    fn an_extent_whose_known_frames_were_all_taken_early_is_kept_for_the_next_window() {
        let (mut assembly, returned) = assembly();
        assembly.add_span(0, &[entry(10, 20)]);
        assembly.add_early(piece(0, 10..30));
        assert_eq!(assembly.next_frame().map(|frame| frame.verified), Some(false));
        assembly.add_extent(extent(0));
        assert_eq!(returned.len(), 0, "the next frame may begin in it");
        assembly.add_span(1, &[entry(30, 20)]);
        assert_eq!(assembly.next_frame().map(|frame| frame.number), Some(1));
        assembly.clear();
        let before = returned.len();
        assembly.add_extent(extent(0));
        assert_eq!(returned.len(), before + 1, "what comes late after a seek is not kept");
    }

    /// Bytes of an extent that are all its number.
    fn piece(number: u32, bytes: std::ops::Range<usize>) -> EarlyPiece {
        let data = vec![number as u8; bytes.len()];
        EarlyPiece { part: EarlyPart { extent: ExtentNo(number), bytes }, data }
    }

    #[test]
    fn a_frame_that_was_given_early_is_not_given_again_when_its_extent_comes() {
        let (mut assembly, returned) = assembly();
        assembly.add_span(0, &[entry(0, 10), entry(10, 10), entry(20, 10)]);
        assembly.add_early(piece(0, 10..20));
        assert!(assembly.next_frame().is_none(), "decode order");
        assembly.add_early(piece(0, 0..10));
        let early = [assembly.next_frame(), assembly.next_frame()].map(|frame| frame.expect("it has come"));
        assert_eq!(
            early.map(|frame| (frame.number, frame.data.len(), frame.verified)),
            [(0, 10, false), (1, 10, false)]
        );
        assert!(assembly.next_frame().is_none());
        assembly.add_extent(extent(0));
        let frame = assembly.next_frame().expect("its extent is there");
        assert_eq!((frame.number, frame.verified), (2, true));
        assert!(assembly.next_frame().is_none() && returned.is_empty());
    }

    #[test]
    fn a_frame_is_cut_from_a_verified_extent_and_an_early_piece_of_the_next() {
        let (mut assembly, _returned) = assembly();
        assembly.add_span(0, &[entry(EXTENT - 2, 3)]);
        assembly.add_early(piece(1, 0..1));
        assembly.add_extent(extent(0));
        let frame = assembly.next_frame().expect("all of it is there");
        assert_eq!((&frame.data[..], frame.verified), (&[0, 0, 1][..], false));
    }

    #[test]
    fn early_pieces_of_before_a_seek_and_of_what_is_verified_are_dropped() {
        let (mut assembly, _returned) = assembly();
        assembly.add_span(0, &[entry(0, 10), entry(EXTENT, 10)]);
        assembly.add_early(piece(0, 0..10));
        assembly.clear();
        assembly.add_span(40, &[entry(5 * EXTENT, 10), entry(6 * EXTENT, 10)]);
        assembly.add_early(piece(1, 0..10));
        assert!(assembly.early.is_empty(), "the seek went further");
        assembly.add_extent(extent(5));
        assembly.add_early(piece(5, 0..10));
        assembly.add_early(piece(6, 0..10));
        assert_eq!(assembly.early.len(), 1, "extent 5 is verified");
        assert_eq!(numbers(&mut assembly), [40, 41]);
    }

    #[test]
    fn the_next_frames_are_asked_for_once_and_no_more_once_they_were_taken() {
        let (mut assembly, told) = assembly();
        assembly.add_span(0, &[entry(0, 10), entry(EXTENT - 5, 10), entry(2 * EXTENT, 10)]);
        assembly.add_extent(extent(0));
        for _ in 0..2 {
            assembly.ask_early(2);
        }
        let asked = |told: &Receiver<Command>| match told.try_recv() {
            Ok(Command::WantEarly(parts)) => Some(parts),
            _ => None,
        };
        assert_eq!(asked(&told), Some(vec![piece(1, 0..5).part]), "what is verified is there");
        assert_eq!(asked(&told), None);
        assembly.add_extent(extent(1));
        assert_eq!(numbers(&mut assembly), [0, 1]);
        assert_eq!(asked(&told), Some(Vec::new()), "it came verified: nothing is waited for");
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
