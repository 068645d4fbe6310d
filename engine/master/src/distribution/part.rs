//! The part of a video that an answer is about.

use std::ops::RangeInclusive;

use braidcast_media::{PackLayout, StreamId};
use braidcast_proto::v1;

use crate::distribution::plan::PlannedRange;
use crate::distribution::span::Span;

/// Extents, and of a film the frames in them.
#[derive(Debug)]
pub(crate) enum Part {
    /// Of stream 0.
    File {
        /// Nothing of an empty file.
        extents: Option<RangeInclusive<u32>>,
        /// All that the file has.
        count: u32,
    },
    /// Of the stream that the frames stand in.
    Film(Span),
}

impl Part {
    pub(crate) fn of_file(layout: &PackLayout, extents: Option<RangeInclusive<u32>>) -> Self {
        Self::File { extents, count: original_extents(layout) }
    }

    /// What there is to fetch.
    pub(crate) fn extents(&self) -> Option<&RangeInclusive<u32>> {
        match self {
            Self::File { extents, .. } => extents.as_ref(),
            Self::Film(span) => span.extents.as_ref(),
        }
    }

    /// Whether the video ends with these ranges, which may be cut where a file is long. Those of a span never are.
    pub(crate) fn reaches_end(&self, ranges: &[PlannedRange]) -> bool {
        match self {
            Self::File { count, .. } => ranges.last().map_or(0, |range| range.extents.end() + 1) == *count,
            Self::Film(span) => span.reaches_end,
        }
    }

    /// A range with the numbers of its frames.
    pub(crate) fn range(&self, PlannedRange { extents, hosts }: PlannedRange) -> v1::Range {
        let (extent_start, extent_end) = (u64::from(*extents.start()), u64::from(*extents.end()));
        let (frame_start, frame_end) = match self {
            Self::File { .. } => (extent_start, extent_end),
            Self::Film(span) => span.labels.of(&extents),
        };
        v1::Range { extent_start, extent_end, frame_start, frame_end, hosts }
    }

    /// For the answer.
    pub(crate) fn into_frames(self) -> Option<v1::FrameSpan> {
        match self {
            Self::File { .. } => None,
            Self::Film(span) => Some(span.into_message()),
        }
    }
}

/// Extents of the published file.
pub(crate) fn original_extents(layout: &PackLayout) -> u32 {
    layout.stream(StreamId::ORIGINAL).map_or(0, |stream| stream.extents())
}
