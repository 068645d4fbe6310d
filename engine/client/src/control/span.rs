//! The frames of a distribution: the part of the master's answer that players use, checked once.

use braidcast_media::frames::{self, FrameEntry};
use braidcast_media::hashes::{self, Hash};
use braidcast_media::layout::EXTENT_BYTES;
use braidcast_media::{ExtentNo, PackLayout, StreamId};
use braidcast_proto::v1;

/// Frames of a film in decode order, and all that it takes to fetch and check them.
#[derive(Clone, Debug)]
pub struct FrameSpan {
    /// Number of the first frame in decode order.
    pub first: u64,
    /// Their entries, at least one. Offsets never decrease and lie within `stream`.
    pub entries: Vec<FrameEntry>,
    /// The stream that they stand in: 0 or 4. The ranges of the answer speak of it.
    pub stream: StreamId,
    /// The extent where the first frame begins.
    pub first_extent: ExtentNo,
    /// BLAKE3 of the plain extents from `first_extent` to the one where the last frame ends.
    pub extent_hashes: Vec<Hash>,
    /// Pictures shown before the first frame, where decoding may begin with it.
    pub pictures_before: Option<u64>,
}

impl FrameSpan {
    /// Number of the frame after the last.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn check(span: v1::FrameSpan, layout: &PackLayout) -> Result<Self, String> {
        let entries = frames::parse_frames(&span.entries).ok_or("the frame index is cut off")?;
        let count = span.frame_end.checked_sub(span.frame_start).and_then(|last| last.checked_add(1));
        if entries.is_empty() || count != Some(entries.len() as u64) {
            return Err(format!(
                "it names frames {} to {} and holds {} of them",
                span.frame_start,
                span.frame_end,
                entries.len()
            ));
        }
        let stream = match span.stream {
            0 => StreamId::ORIGINAL,
            4 => StreamId::ACCESS_UNITS,
            other => return Err(format!("its frames stand in stream {other}")),
        };
        let bytes = layout.stream(stream).ok_or_else(|| format!("the asset has no stream {stream}"))?.bytes;
        check_entries(&entries, span.frame_start, bytes)?;
        let first_extent = extent_of(entries[0].offset);
        let last_extent = entries.iter().map(|entry| extent_of(last_byte(entry))).max().unwrap_or(first_extent);
        let extent_hashes = hashes::parse_list(&span.extent_hashes).ok_or("the extents' hashes are cut off")?;
        let needed = last_extent.0 - first_extent.0 + 1;
        if extent_hashes.len() != needed as usize {
            return Err(format!(
                "it holds hashes of {} extents, and its frames stand in {needed}",
                extent_hashes.len()
            ));
        }
        Ok(Self {
            first: span.frame_start,
            entries,
            stream,
            first_extent,
            extent_hashes,
            pictures_before: span.picture_start,
        })
    }
}

/// The extent of its stream that holds a byte.
///
/// # Panics
/// If the byte lies beyond any stream.
pub(crate) fn extent_of(byte: u64) -> ExtentNo {
    ExtentNo(u32::try_from(byte / EXTENT_BYTES as u64).expect("within a stream"))
}

/// The last byte of a frame, or where it would begin if it has none.
pub(crate) fn last_byte(entry: &FrameEntry) -> u64 {
    entry.offset + u64::from(entry.size).saturating_sub(1)
}

/// The index was written by a publisher: it may say anything.
fn check_entries(entries: &[FrameEntry], first: u64, stream_bytes: u64) -> Result<(), String> {
    let mut before = 0;
    for (entry, number) in entries.iter().zip(first..) {
        if entry.end() > stream_bytes || entry.offset >= stream_bytes {
            return Err(format!("frame {number} ends at byte {} of {stream_bytes}", entry.end()));
        }
        if entry.size > frames::FRAME_BYTES_MAX {
            return Err(format!("frame {number} has {} bytes", entry.size));
        }
        if entry.offset < before {
            return Err(format!("frame {number} stands before the one that it follows"));
        }
        before = entry.offset;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use braidcast_media::StreamLayout;

    use super::*;

    fn layout() -> PackLayout {
        let stream = |id, bytes| StreamLayout { id, bytes };
        let streams = vec![stream(StreamId::ORIGINAL, 1_000_000), stream(StreamId::ACCESS_UNITS, 400_000)];
        PackLayout::of_asset(streams).expect("short")
    }

    fn entry(offset: u64, size: u32) -> FrameEntry {
        FrameEntry { offset, size, dts: Some(0), ..FrameEntry::default() }
    }

    fn span(entries: &[FrameEntry], hashes: usize, stream: u32) -> v1::FrameSpan {
        v1::FrameSpan {
            frame_start: 7,
            frame_end: 7 + entries.len() as u64 - 1,
            entries: entries.iter().flat_map(|entry| entry.to_bytes().expect("it fits")).collect(),
            stream,
            extent_hashes: vec![3; hashes * 32],
            picture_start: Some(5),
        }
    }

    #[test]
    fn frames_stand_in_the_extents_from_the_first_byte_to_the_last() {
        let entries = [entry(307_199, 1), entry(307_200, 10), entry(600_000, 14_400)];
        let checked = FrameSpan::check(span(&entries, 2, 0), &layout()).expect("two extents, to the last byte");
        assert_eq!((checked.first_extent, checked.end()), (ExtentNo(0), 10));
        let longer = [entries[0], entries[1], entry(600_000, 14_401)];
        assert!(FrameSpan::check(span(&longer, 2, 0), &layout()).is_err(), "one byte more needs a third");
        assert!(FrameSpan::check(span(&longer, 3, 0), &layout()).is_ok());
    }

    #[test]
    fn an_index_that_lies_is_refused() {
        let ok = [entry(0, 5), entry(5, 5)];
        assert!(FrameSpan::check(span(&ok, 1, 4), &layout()).is_ok());
        let refused = |entries: &[FrameEntry], hashes, stream| {
            FrameSpan::check(span(entries, hashes, stream), &layout()).is_err()
        };
        assert!(refused(&ok, 2, 4) && refused(&ok, 0, 4), "hashes");
        assert!(refused(&ok, 1, 1) && refused(&ok, 1, 3), "streams that hold no frames");
        assert!(refused(&[entry(5, 5), entry(4, 5)], 1, 4), "backwards");
        assert!(refused(&[entry(399_990, 11)], 1, 4), "past the end");
        assert!(refused(&[entry(400_000, 0)], 1, 4), "at the end");
        assert!(refused(&[entry(0, frames::FRAME_BYTES_MAX + 1)], 1, 0), "too long");
        let mut wrong = span(&ok, 1, 4);
        wrong.frame_end = u64::MAX;
        assert!(FrameSpan::check(wrong.clone(), &layout()).is_err());
        wrong.frame_end = 6;
        assert!(FrameSpan::check(wrong, &layout()).is_err());
        let mut none = span(&ok, 1, 4);
        none.entries.clear();
        assert!(FrameSpan::check(none, &layout()).is_err());
    }
}
