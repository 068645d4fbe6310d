//! Which bytes are asked for before their extents are verified: those of the next frames, within bounds.

use braidcast_media::ExtentNo;
use braidcast_media::frames::FrameEntry;
use braidcast_media::layout::EXTENT_BYTES;

use crate::control::extent_of;
use crate::fetcher::EarlyPart;

/// How much of the film is asked for early: the pictures that a decoder holds back are in it, and enough to begin with.
pub(super) const EARLY_SECONDS: f64 = 1.0;
/// Bytes that are asked for early at most. A frame that is larger waits for its extents, of which it has most.
const EARLY_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Frames that are asked for early at most.
const EARLY_FRAMES_MAX: usize = 128;

/// The parts to ask for on behalf of the first of `entries`, and of how many of them.
pub(super) fn ask<'a>(entries: impl Iterator<Item = &'a FrameEntry>) -> (usize, Vec<EarlyPart>) {
    let (mut bytes, mut frames, mut parts) = (0, 0, Vec::new());
    for entry in entries.take(EARLY_FRAMES_MAX) {
        bytes += u64::from(entry.size);
        if bytes > EARLY_BYTES_MAX {
            break;
        }
        frames += 1;
        parts.extend(parts_of(entry));
    }
    (frames, parts)
}

/// A frame's bytes by the extents that they stand in.
pub(super) fn parts_of(entry: &FrameEntry) -> impl Iterator<Item = EarlyPart> + use<> {
    let (offset, end) = (entry.offset, entry.end());
    let (first, last) = (extent_of(offset), extent_of(end.max(offset + 1) - 1));
    (first.0..=last.0).filter_map(move |number| {
        let start = u64::from(number) * EXTENT_BYTES as u64;
        let from = offset.saturating_sub(start) as usize;
        let to = (end - start).min(EXTENT_BYTES as u64) as usize;
        (from < to).then_some(EarlyPart { extent: ExtentNo(number), bytes: from..to })
    })
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const EXTENT: u64 = EXTENT_BYTES as u64;

    fn entry(offset: u64, size: u64) -> FrameEntry {
        FrameEntry { offset, size: size as u32, ..FrameEntry::default() }
    }

    fn parts(offset: u64, size: u64) -> Vec<(u32, Range<usize>)> {
        parts_of(&entry(offset, size)).map(|part| (part.extent.0, part.bytes)).collect()
    }

    #[test]
    fn a_frame_is_split_where_extents_meet() {
        assert_eq!(parts(EXTENT - 1, 1), [(0, EXTENT_BYTES - 1..EXTENT_BYTES)]);
        assert_eq!(
            parts(EXTENT - 1, EXTENT + 2),
            [(0, EXTENT_BYTES - 1..EXTENT_BYTES), (1, 0..EXTENT_BYTES), (2, 0..1)]
        );
        assert_eq!(parts(EXTENT, 0), []);
    }

    #[test]
    fn no_more_is_asked_for_than_the_bounds_allow() {
        let small = vec![entry(0, 1); EARLY_FRAMES_MAX + 1];
        assert_eq!(ask(small.iter()).0, EARLY_FRAMES_MAX);
        let half = EARLY_BYTES_MAX / 2;
        assert_eq!(ask([entry(0, half), entry(half, half), entry(2 * half, 1)].iter()).0, 2);
        assert_eq!(ask([entry(0, EARLY_BYTES_MAX + 1)].iter()), (0, Vec::new()));
    }
}
