//! The place of each picture in its film: number and time.
//!
//! Pictures come out of the decoder in the order in which they are shown, so they are counted from a key frame on
//! whose number the index tells. A container without presentation times, as AVI, tells it in decode order only; there
//! each picture has the decode time of the frame that brought it out, and that frame's number leads to the picture's.

use std::collections::VecDeque;
use std::sync::Arc;

use braidcast_client::film::{FilmInfo, Frame};

/// Frames that a decoder may hold back, those of its threads included, and some to spare.
const SENT_MAX: usize = 128;

/// See the module's description.
pub(crate) struct Places {
    info: Arc<FilmInfo>,
    /// Pictures shown before the next one.
    next: u64,
    /// Time of the last one, in seconds from the film's first.
    last: Option<f64>,
    /// Decode times and numbers of the frames sent last, where they are needed.
    sent: VecDeque<(i64, u64)>,
}

impl Places {
    pub(crate) fn new(info: Arc<FilmInfo>) -> Self {
        Self { info, next: 0, last: None, sent: VecDeque::new() }
    }

    /// A seek led to a key frame before which, as the index tells, so many pictures are shown.
    pub(crate) fn restart(&mut self, pictures_before: u64) {
        self.next = pictures_before;
        self.last = None;
        self.sent.clear();
    }

    /// The decoder was given a frame.
    pub(crate) fn on_sent(&mut self, frame: &Frame) {
        if let (Some(_), Some(dts)) = (self.info.held_back, frame.entry.dts) {
            self.sent.truncate(SENT_MAX - 1);
            self.sent.push_front((dts, frame.number));
        }
    }

    /// Number and time, in seconds, of the next picture, which has this presentation time.
    pub(crate) fn place(&mut self, pts: Option<i64>) -> (u64, f64) {
        let index = self.found(pts).unwrap_or(self.next);
        let after_last = || self.last.map_or(0.0, |last| last + self.info.picture_seconds());
        let time = pts.map_or_else(after_last, |pts| self.info.seconds(pts));
        self.next = index + 1;
        self.last = Some(time);
        (index, time)
    }

    fn found(&self, pts: Option<i64>) -> Option<u64> {
        let (held_back, pts) = (self.info.held_back?, pts?);
        let (_, number) = self.sent.iter().find(|(dts, _)| *dts == pts)?;
        number.checked_sub(held_back.into())
    }
}
