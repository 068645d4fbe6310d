//! The first pictures after a start, sooner than a decoder with threads gives them.
//!
//! Each of its threads holds a picture back until frames for the others have come: with eight, the first picture waits for
//! the frames of a quarter of a second. So while frames come slowly, a second decoder with one thread is given the same
//! frames, and its pictures are shown. Once the first decoder gives pictures the second one is dropped, and those that
//! were shown are skipped. Where frames come fast it decodes nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use braidcast_av::{DecodeError, Decoder, Picture, Received};
use braidcast_client::film::{FilmInfo, Frame};

/// Frames that are kept for it at most: those of all threads, and as many as codecs reorder.
const FRAMES_MAX: usize = braidcast_av::limits::THREADS_MAX + 16;
/// Their bytes at most.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// See the module's description.
pub(crate) struct Head {
    info: Arc<FilmInfo>,
    /// The other decoder has threads.
    is_useful: bool,
    is_over: bool,
    decoder: Option<Decoder>,
    /// What the other decoder was given and this one was not.
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Pictures that were shown and that the other decoder has not given yet.
    ahead: usize,
}

impl Head {
    /// For a decoder with so many threads.
    pub(crate) fn new(info: Arc<FilmInfo>, threads: usize) -> Self {
        let is_useful = threads > 1;
        Self { info, is_useful, is_over: !is_useful, decoder: None, frames: VecDeque::new(), bytes: 0, ahead: 0 }
    }

    /// A seek: all begins anew.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.is_over = !self.is_useful;
        self.ahead = 0;
    }

    /// The other decoder was given a frame.
    pub(crate) fn keep(&mut self, frame: Frame) {
        if self.is_over {
            return;
        }
        self.bytes += frame.data.len();
        self.frames.push_back(frame);
        if self.frames.len() > FRAMES_MAX || self.bytes > BYTES_MAX {
            self.stop();
        }
    }

    /// Whether there is something to decode while nothing else comes.
    pub(crate) fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Decodes a frame, and gives the pictures that it brings out.
    ///
    /// # Errors
    /// [`DecodeError`]; what cannot be decoded is the other decoder's to tell.
    pub(crate) fn decode(&mut self) -> Result<Vec<Picture>, DecodeError> {
        let Some(frame) = self.frames.pop_front() else { return Ok(Vec::new()) };
        self.bytes -= frame.data.len();
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new(&self.info.video, 1)?),
        };
        let mut pictures = Vec::new();
        loop {
            let taken = decoder.send(&frame.entry, &frame.data)?;
            while let Received::Picture(picture) = decoder.receive()? {
                pictures.push(picture);
            }
            if taken {
                self.ahead += pictures.len();
                return Ok(pictures);
            }
        }
    }

    /// The other decoder has given a picture. Whether it was shown already.
    pub(crate) fn has_shown(&mut self) -> bool {
        self.stop();
        let shown = self.ahead > 0;
        self.ahead -= usize::from(shown);
        shown
    }

    fn stop(&mut self) {
        self.is_over = true;
        self.decoder = None;
        self.frames.clear();
        self.bytes = 0;
    }
}
