//! The frames of one answer: which, where their bytes stand, and what vouches for them.

use std::ops::RangeInclusive;

use braidcast_media::StreamId;
use braidcast_media::frames::{FRAME_ENTRY_BYTES, FrameEntry};
use braidcast_media::layout::EXTENT_BYTES;
use braidcast_proto::v1;

use crate::distribution::index::{Frames, IndexError, IndexReader};
use crate::distribution::search;
use crate::distribution::window::Look;
use crate::errors::ServiceError;
use crate::film::Film;
use crate::library::Asset;
use crate::limits::{REORDER_FRAMES_MAX, SPAN_EXTENTS_MAX, SPAN_FRAMES_MAX};
use crate::origin::Origin;

/// Frames in decode order whose extents one answer can hold.
#[derive(Debug)]
pub(crate) struct Span {
    frames: RangeInclusive<u64>,
    /// The last of them is the track's last.
    pub(crate) reaches_end: bool,
    /// The stream that they stand in.
    stream: StreamId,
    /// From the first byte of the first to the last byte of the last; nothing if none has any bytes.
    pub(crate) extents: Option<RangeInclusive<u32>>,
    pub(crate) labels: Labels,
    entries: Vec<u8>,
    extent_hashes: Vec<u8>,
    picture_start: Option<u64>,
}

impl Span {
    /// Reads what an answer can hold of a part of a film. Touches the disk: not for the threads that serve calls.
    pub(crate) fn read(origin: &Origin, asset: &Asset, film: &Film, look: &Look) -> Result<Self, ServiceError> {
        let index = IndexReader::new(asset, film, origin.open(asset.id)?);
        let span = match look {
            Look::Frames(frames) => Self::of_frames(&index, film, frames),
            Look::Pictures { start, end } => Self::of_pictures(&index, film, *start, *end),
        };
        span.map_err(|problem| match problem {
            IndexError::Io(source) => ServiceError::Io { path: origin.path(asset.id), source },
            problem => ServiceError::Index { name: asset.name.to_string(), asset: asset.id, problem },
        })
    }

    /// Reads as much of `frames` as an answer can hold.
    fn of_frames(index: &IndexReader<'_>, film: &Film, frames: &RangeInclusive<u64>) -> Result<Self, IndexError> {
        let last = (*frames.end()).min(frames.start() + SPAN_FRAMES_MAX - 1);
        let Frames { first, mut bytes, mut entries } = index.frames(&(*frames.start()..=last))?;
        let (count, extents) = cut(first, &entries)?;
        entries.truncate(count);
        bytes.truncate(count * FRAME_ENTRY_BYTES);
        let last = first + count as u64 - 1;
        let stream = film.stream();
        let extent_hashes = match &extents {
            Some(extents) => index.hashes(stream, extents)?,
            None => Vec::new(),
        };
        Ok(Self {
            frames: first..=last,
            reaches_end: last + 1 == film.track().frames,
            stream,
            extents,
            labels: Labels::new(first, &entries),
            entries: bytes,
            extent_hashes,
            picture_start: None,
        })
    }

    /// Reads the frames that the pictures shown from `start` to `end` need, as many of them as an answer can hold.
    fn of_pictures(index: &IndexReader<'_>, film: &Film, start: i64, end: Option<i64>) -> Result<Self, IndexError> {
        let count = film.track().frames;
        let key = search::key_frame(index, start, count)?;
        let first = key.map_or(0, |key| u64::from(key.frame));
        let last = match end {
            Some(end) => last_shown(index, &(first..=count - 1), end)?,
            None => count - 1,
        };
        let span = Self::of_frames(index, film, &(first..=last))?;
        if key.is_some() && !span.begins_with_key() {
            return Err(IndexError::NoKey { frame: first });
        }
        Ok(Self { picture_start: Some(key.map_or(0, |key| u64::from(key.picture))), ..span })
    }

    /// For the answer.
    pub(crate) fn into_message(self) -> v1::FrameSpan {
        v1::FrameSpan {
            frame_start: *self.frames.start(),
            frame_end: *self.frames.end(),
            entries: self.entries,
            stream: self.stream.0.into(),
            extent_hashes: self.extent_hashes,
            picture_start: self.picture_start,
        }
    }

    fn begins_with_key(&self) -> bool {
        self.entries.first_chunk().is_some_and(|entry| FrameEntry::from_bytes(entry).key)
    }
}

/// The last of `frames` that is shown at `time` or before. It stands near the last that is decoded by then: before it
/// where decoding is ahead of showing, behind it where the container's decode times are not in order.
fn last_shown(index: &IndexReader<'_>, frames: &RangeInclusive<u64>, time: i64) -> Result<u64, IndexError> {
    let read = |frame| index.frames(&(frame..=frame)).map(|frames| frames.entries[0]);
    let decoded = search::last_decoded(frames, time, read)?;
    let first = decoded.saturating_sub(REORDER_FRAMES_MAX).max(*frames.start());
    let near = index.frames(&(first..=(decoded + REORDER_FRAMES_MAX).min(*frames.end())))?;
    Ok(search::last_shown(&near.entries, time).map_or(decoded, |last| first + last as u64))
}

/// How many of `entries`, the first of which is that of frame `first`, lie within the extents of one answer, and these
/// extents.
fn cut(first: u64, entries: &[FrameEntry]) -> Result<(usize, Option<RangeInclusive<u32>>), IndexError> {
    let mut extents: Option<RangeInclusive<u32>> = None;
    for (n, entry) in entries.iter().enumerate() {
        let Some(own) = extents_of(entry) else { continue };
        let joined = match &extents {
            Some(before) => *before.start()..=*before.end().max(own.end()),
            None => own,
        };
        if joined.end() - joined.start() >= SPAN_EXTENTS_MAX {
            // At least one frame in an answer, so that whoever asks on comes to an end.
            if extents.is_none() {
                return Err(IndexError::FrameTooLong { frame: first + n as u64, bytes: entry.size });
            }
            return Ok((n, extents));
        }
        extents = Some(joined);
    }
    Ok((entries.len(), extents))
}

/// The extents that a frame has bytes in.
fn extents_of(entry: &FrameEntry) -> Option<RangeInclusive<u32>> {
    let extent = |byte: u64| (byte / EXTENT_BYTES as u64) as u32;
    (entry.size > 0).then(|| extent(entry.offset)..=extent(entry.end() - 1))
}

/// Which frames have bytes where.
#[derive(Debug)]
pub(crate) struct Labels(Vec<Place>);

#[derive(Debug)]
struct Place {
    frame: u64,
    offset: u64,
    /// The end of this frame or of one before it, whichever is later.
    end: u64,
}

impl Labels {
    fn new(first: u64, entries: &[FrameEntry]) -> Self {
        let mut end = 0;
        let place = |(frame, entry): (u64, &FrameEntry)| {
            end = entry.end().max(end);
            Place { frame, offset: entry.offset, end }
        };
        Self((first..).zip(entries).filter(|(_, entry)| entry.size > 0).map(place).collect())
    }

    /// The first and the last frame with bytes in these extents; between two frames, the next one.
    pub(crate) fn of(&self, extents: &RangeInclusive<u32>) -> (u64, u64) {
        let start = u64::from(*extents.start()) * EXTENT_BYTES as u64;
        let end = (u64::from(*extents.end()) + 1) * EXTENT_BYTES as u64;
        // Both numbers never decrease from place to place.
        let first = self.0.partition_point(|place| place.end <= start);
        let last = self.0.partition_point(|place| place.offset < end).saturating_sub(1).max(first);
        let frame = |n: usize| self.0.get(n).or(self.0.last()).map_or(0, |place| place.frame);
        (frame(first), frame(last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXTENT: u64 = EXTENT_BYTES as u64;

    fn entries(places: &[(u64, u32)]) -> Vec<FrameEntry> {
        places.iter().map(|&(offset, size)| FrameEntry { offset, size, ..FrameEntry::default() }).collect()
    }

    #[test]
    fn extents_reach_from_the_first_byte_to_the_last() {
        let cut = |places: &[(u64, u32)]| cut(5, &entries(places)).expect("short frames");
        assert_eq!(cut(&[(EXTENT, 1)]), (1, Some(1..=1)));
        assert_eq!(cut(&[(EXTENT - 1, 1), (2 * EXTENT, 0)]), (2, Some(0..=0)));
        assert_eq!(cut(&[(EXTENT - 1, 2)]), (1, Some(0..=1)));
        assert_eq!(cut(&[(0, 0), (3 * EXTENT, 5)]), (2, Some(3..=3)), "an empty frame has no bytes to fetch");
        assert_eq!(cut(&[(0, 0), (9, 0)]), (2, None));
        assert_eq!(cut(&[(0, 3 * EXTENT as u32), (1, 1)]), (2, Some(0..=2)), "one frame within another");
    }

    #[test]
    fn frames_beyond_the_extents_of_an_answer_are_left_to_the_next() {
        let last = u64::from(SPAN_EXTENTS_MAX) * EXTENT - 1;
        let cut = |places: &[(u64, u32)]| cut(5, &entries(places));
        assert_eq!(cut(&[(0, 1), (last, 1)]).expect("just fits"), (2, Some(0..=SPAN_EXTENTS_MAX - 1)));
        assert_eq!(cut(&[(0, 1), (7, 0), (last, 2), (last + 2, 1)]).expect("cut"), (2, Some(0..=0)));
        assert!(matches!(cut(&[(0, 0), (1, u32::MAX)]), Err(IndexError::FrameTooLong { frame: 6, bytes: u32::MAX })));
    }

    #[test]
    fn labels_name_the_frames_with_bytes_in_a_range_or_the_next_one() {
        let labels = Labels::new(10, &entries(&[(5, 10), (20, 0), (EXTENT - 1, 2), (3 * EXTENT, EXTENT as u32 * 2)]));
        assert_eq!(labels.of(&(0..=0)), (10, 12));
        assert_eq!(labels.of(&(1..=1)), (12, 12));
        assert_eq!(labels.of(&(2..=2)), (13, 13), "no frame has bytes there");
        assert_eq!(labels.of(&(1..=2)), (12, 12));
        assert_eq!(labels.of(&(3..=4)), (13, 13));
        assert_eq!(labels.of(&(0..=4)), (10, 13));
    }

    proptest! {
        #[test]
        fn labels_agree_with_a_look_at_every_frame(
            frames in prop::collection::vec((0_u64..3 * EXTENT, 0_u32..2 * EXTENT as u32), 1..60),
            first in 0_u64..1 << 32, run in 1_u32..20,
        ) {
            let mut free = 0;
            let places: Vec<_> = frames.into_iter().map(|(gap, size)| {
                let offset = free + gap;
                free = offset + u64::from(size);
                (offset, size)
            }).collect();
            let entries = entries(&places);
            let (count, extents) = cut(first, &entries).expect("short frames");
            prop_assert_eq!(count, entries.len());
            let Some(extents) = extents else { return Ok(()) };
            let labels = Labels::new(first, &entries);
            for start in extents.clone().step_by(run as usize) {
                let range = start..=(start + run - 1).min(*extents.end());
                let (from, to) = (u64::from(start) * EXTENT, (u64::from(*range.end()) + 1) * EXTENT);
                let mut within = (first..).zip(&places).filter(|(_, (offset, size))| {
                    *size > 0 && *offset < to && offset + u64::from(*size) > from
                }).map(|(frame, _)| frame);
                let plainly = match within.next() {
                    Some(first) => (first, within.last().unwrap_or(first)),
                    None => {
                        let next = (first..).zip(&places).find(|(_, (offset, size))| *size > 0 && *offset >= to);
                        let (frame, _) = next.expect("the window ends with a frame");
                        (frame, frame)
                    }
                };
                prop_assert_eq!(labels.of(&range), plainly);
            }
        }
    }
}
