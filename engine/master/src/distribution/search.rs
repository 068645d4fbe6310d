//! From times to frames: binary searches over the indexes, as pure functions of what a reader gives.
//!
//! ```text
//! key frames    k0 .......... k1 .......... k2        in the order of frames and of times
//!                                  ^ start            k1 is the last that is shown no later: decoding begins there
//! frames        I B B P B B P B B I B B P             decode times never decrease, presentation times do
//!                             ^ end                   the last shown no later stands near the last decoded by then
//! ```
//! An index that lies gives an error or any frames of the track; it gives no others, and takes no longer.

use std::ops::RangeInclusive;

use braidcast_media::frames::{FrameEntry, KEY_ENTRIES_PER_CHUNK, KeyEntry};

use crate::distribution::index::IndexError;

/// Where key entries come from.
pub(crate) trait KeyIndex {
    /// How many chunks there are.
    fn chunks(&self) -> u64;
    /// The entries of a chunk.
    fn chunk(&self, chunk: u64) -> Result<Vec<KeyEntry>, IndexError>;
}

/// The last key frame that is shown at `time` or before; nothing before the first. `frames` is the track's count.
pub(crate) fn key_frame(index: &impl KeyIndex, time: i64, frames: u64) -> Result<Option<KeyEntry>, IndexError> {
    let (mut low, mut high) = (0, index.chunks());
    if high == 0 {
        return Ok(None);
    }
    // The entries of chunk `low`, and the first of chunk `high`.
    let mut entries = checked(index, low, frames)?;
    let mut above: Option<KeyEntry> = None;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let found = checked(index, middle, frames)?;
        let (Some(first), Some(last)) = (found.first().copied(), found.last()) else { break };
        if !entries.last().is_none_or(|before| follows(before, &first)) {
            return Err(IndexError::KeyOrder { key: middle * KEY_ENTRIES_PER_CHUNK });
        }
        if !above.is_none_or(|above| follows(last, &above)) {
            return Err(IndexError::KeyOrder { key: high * KEY_ENTRIES_PER_CHUNK });
        }
        if first.pts <= time {
            (low, entries) = (middle, found);
        } else {
            (high, above) = (middle, Some(first));
        }
    }
    let shown = entries.partition_point(|entry| entry.pts <= time);
    Ok(shown.checked_sub(1).map(|last| entries[last]))
}

fn checked(index: &impl KeyIndex, chunk: u64, frames: u64) -> Result<Vec<KeyEntry>, IndexError> {
    let entries = index.chunk(chunk)?;
    let mut before: Option<&KeyEntry> = None;
    for (key, entry) in (chunk * KEY_ENTRIES_PER_CHUNK..).zip(&entries) {
        let KeyEntry { frame, picture, .. } = *entry;
        if u64::from(frame) >= frames || u64::from(picture) > frames {
            return Err(IndexError::KeyOutside { key, frame, picture, frames });
        }
        if !before.is_none_or(|before| follows(before, entry)) {
            return Err(IndexError::KeyOrder { key });
        }
        before = Some(entry);
    }
    Ok(entries)
}

fn follows(before: &KeyEntry, entry: &KeyEntry) -> bool {
    before.frame < entry.frame && before.picture <= entry.picture && before.pts <= entry.pts
}

/// The last of `frames` that is decoded at `time` or before, or the first of all. Reads 33 entries at most.
pub(crate) fn last_decoded(
    frames: &RangeInclusive<u64>,
    time: i64,
    mut read: impl FnMut(u64) -> Result<FrameEntry, IndexError>,
) -> Result<u64, IndexError> {
    let (mut low, mut high) = (*frames.start(), frames.end() + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let entry = read(middle)?;
        // A frame without any time comes with those before it.
        if entry.dts.or(entry.pts).is_none_or(|decoded| decoded <= time) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The last of `entries` that is shown at `time` or before.
pub(crate) fn last_shown(entries: &[FrameEntry], time: i64) -> Option<usize> {
    entries.iter().rposition(|entry| entry.shown_at().is_some_and(|shown| shown <= time))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    struct Keys {
        entries: Vec<KeyEntry>,
        read: RefCell<Vec<u64>>,
    }

    impl KeyIndex for Keys {
        fn chunks(&self) -> u64 {
            (self.entries.len() as u64).div_ceil(KEY_ENTRIES_PER_CHUNK)
        }

        fn chunk(&self, chunk: u64) -> Result<Vec<KeyEntry>, IndexError> {
            self.read.borrow_mut().push(chunk);
            let chunks: Vec<_> = self.entries.chunks(KEY_ENTRIES_PER_CHUNK as usize).collect();
            Ok(chunks[chunk as usize].to_vec())
        }
    }

    fn keys(entries: Vec<KeyEntry>) -> Keys {
        Keys { entries, read: RefCell::default() }
    }

    /// A key frame each 12 frames, shown in steps of 10 from 100 on.
    fn regular(count: u32) -> Keys {
        let entry = |n: u32| KeyEntry { frame: n * 12, picture: n * 12, pts: 100 + i64::from(n) * 120 };
        keys((0..count).map(entry).collect())
    }

    #[test]
    fn the_key_frame_of_a_time_is_the_last_shown_by_then() {
        let index = regular(1_000);
        let frame = |time| key_frame(&index, time, 12_000).expect("honest").map(|key| key.frame);
        assert_eq!(frame(99), None);
        assert_eq!((frame(100), frame(219), frame(220)), (Some(0), Some(0), Some(12)));
        assert_eq!((frame(100 + 999 * 120), frame(i64::MAX), frame(i64::MIN)), (Some(11_988), Some(11_988), None));
        assert_eq!(key_frame(&keys(vec![]), 5, 10).expect("honest"), None);
    }

    #[test]
    fn a_search_reads_few_chunks() {
        let index = regular(75 * 1_000);
        key_frame(&index, 4_000_000, u64::MAX).expect("honest");
        assert!(index.read.borrow().len() <= 11, "{:?}", index.read.borrow());
    }

    #[test]
    fn key_frames_out_of_order_are_found_out() {
        for (n, change) in [
            (3, KeyEntry { frame: 24, picture: 36, pts: 460 }),
            (3, KeyEntry { frame: 36, picture: 23, pts: 460 }),
            (3, KeyEntry { frame: 36, picture: 36, pts: 339 }),
        ] {
            let mut index = regular(10);
            index.entries[n] = change;
            let found = key_frame(&index, 0, 120);
            assert!(matches!(found, Err(IndexError::KeyOrder { key: 3 })), "{found:?}");
        }
        // The lie stands between two chunks.
        let mut index = regular(150);
        index.entries[75..].iter_mut().for_each(|entry| entry.frame -= 800);
        let found = key_frame(&index, 0, 1_800);
        assert!(matches!(found, Err(IndexError::KeyOrder { key: 75 })), "{found:?}");
        let mut index = regular(225);
        index.entries[150..].iter_mut().for_each(|entry| entry.pts = 100);
        let found = key_frame(&index, i64::MAX, 2_700);
        assert!(matches!(found, Err(IndexError::KeyOrder { key: 150 })), "{found:?}");
    }

    #[test]
    fn key_frames_beyond_the_track_are_found_out() {
        let index = regular(10);
        assert!(key_frame(&index, 0, 109).is_ok());
        assert!(matches!(key_frame(&index, 0, 108), Err(IndexError::KeyOutside { key: 9, frame: 108, .. })));
    }

    fn entry(times: (Option<i64>, Option<i64>)) -> FrameEntry {
        FrameEntry { pts: times.0, dts: times.1, ..FrameEntry::default() }
    }

    proptest! {
        #[test]
        fn binary_search_agrees_with_a_look_at_every_key(
            steps in prop::collection::vec((1_u32..9, 0_u32..9, 0_i64..50), 1..400), time in -10_i64..12_000,
        ) {
            let mut at = KeyEntry { frame: 0, picture: 0, pts: 0 };
            let entries: Vec<_> = steps.iter().map(|(frame, picture, pts)| {
                at = KeyEntry { frame: at.frame + frame, picture: at.picture + picture, pts: at.pts + pts };
                at
            }).collect();
            let plainly = entries.iter().rfind(|entry| entry.pts <= time).copied();
            prop_assert_eq!(key_frame(&keys(entries), time, 1 << 32).expect("honest"), plainly);
        }

        #[test]
        fn any_key_index_gives_a_frame_of_the_track_or_an_error(
            entries in prop::collection::vec((0_u32..200, 0_u32..200, -50_i64..50), 0..300), time in -60_i64..60,
        ) {
            let entries: Vec<_> =
                entries.into_iter().map(|(frame, picture, pts)| KeyEntry { frame, picture, pts }).collect();
            if let Ok(Some(found)) = key_frame(&keys(entries), time, 150) {
                prop_assert!(found.frame < 150 && found.pts <= time);
            }
        }

        #[test]
        fn the_last_decoded_agrees_with_a_look_at_every_frame(
            steps in prop::collection::vec(0_i64..5, 1..200), from in 0_usize..200, time in -5_i64..600,
        ) {
            let mut at = 0;
            let times: Vec<_> = steps.iter().map(|step| { at += step; at }).collect();
            let from = from % times.len();
            let read = |n: u64| Ok(entry((Some(-9), Some(times[n as usize]))));
            let found = last_decoded(&(from as u64..=times.len() as u64 - 1), time, read).expect("reads");
            let plainly = times.iter().rposition(|decoded| *decoded <= time).unwrap_or(0).max(from);
            prop_assert_eq!(found, plainly as u64);
        }

        #[test]
        fn any_times_give_a_frame_within_bounds_after_few_reads(
            start in 0_u64..1 << 31, count in 1_u64..1 << 31, time: i64, seed: i64,
        ) {
            let frames = start..=start + count - 1;
            let mut reads = 0;
            let found = last_decoded(&frames, time, |n| {
                reads += 1;
                assert!(frames.contains(&n));
                let any = seed.wrapping_mul(n.cast_signed()) >> 3;
                Ok(entry(if any % 3 == 0 { (None, None) } else { (Some(any), None) }))
            });
            prop_assert!(frames.contains(&found.expect("reads")) && reads <= 33);
        }

        #[test]
        fn the_last_shown_is_no_later_and_all_behind_it_are(
            times in prop::collection::vec(prop::option::of(-20_i64..20), 0..100), time in -25_i64..25,
        ) {
            let entries: Vec<_> = times.iter().map(|pts| entry((*pts, None))).collect();
            let later = |pts: &Option<i64>| pts.is_none_or(|pts| pts > time);
            match last_shown(&entries, time) {
                Some(last) => prop_assert!(!later(&times[last]) && times[last + 1..].iter().all(later)),
                None => prop_assert!(times.iter().all(later)),
            }
        }
    }
}
