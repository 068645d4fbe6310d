//! The thread that decodes: frames of the film in, pictures in the order in which they are shown out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use braidcast_av::{Decoder, Picture, Received};
use braidcast_client::film::{FilmError, FilmInfo, Frame, FrameStream, Next, SeekPoint};

use crate::head::Head;
use crate::places::Places;
use crate::queue::Queue;
use crate::{Counters, PlayError, ShownPicture};

/// How long the thread waits for a frame before it looks around. A frame, a seek and the end wake it at once.
const WAIT: Duration = Duration::from_secs(1);
/// How long it waits before it decodes with one thread what the others hold back.
const HEAD_WAIT: Duration = Duration::from_millis(5);
/// Times this close are the same, in seconds: what a picture says of its time leads back to that picture.
const SAME_TIME: f64 = 1e-9;

/// See the module's description.
pub(crate) struct Decoding {
    stream: FrameStream,
    decoder: Decoder,
    head: Head,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    /// Of which seek the pictures are.
    seek: u64,
    places: Places,
    landing: Option<Landing>,
}

/// A seek on its way: from a key frame to the picture that was asked for.
struct Landing {
    seconds: f64,
    /// Pictures shown before the key frame are of no use: they need frames before it. Nothing until it has come.
    from: Option<i64>,
    /// The last picture that is not shown after the time that was asked for.
    held: Option<ShownPicture>,
}

impl Decoding {
    pub(crate) fn new(
        stream: FrameStream,
        decoder: Decoder,
        info: Arc<FilmInfo>,
        queue: Arc<Queue>,
        counters: Arc<Counters>,
    ) -> Self {
        let head = Head::new(Arc::clone(&info), decoder.threads());
        Self { stream, decoder, head, queue, counters, seek: 0, places: Places::new(info), landing: None }
    }

    pub(crate) fn run(mut self) {
        let _guard = PanicGuard(Arc::clone(&self.queue));
        if let Err(error) = self.decode() {
            self.queue.fail(error);
        }
    }

    fn decode(&mut self) -> Result<(), PlayError> {
        // Frames that have come already are not worth decoding once nobody takes pictures.
        while !self.queue.is_closed() {
            let wait = if self.head.has_frames() { HEAD_WAIT } else { WAIT };
            match self.stream.next(wait) {
                Ok(Next::Frame(frame)) => self.take_frame(frame)?,
                Ok(Next::Seeked(point)) => self.start_landing(point),
                Ok(Next::End) => {
                    self.finish()?;
                    if !self.queue.wait_for_seek(self.seek) {
                        return Ok(());
                    }
                }
                Ok(Next::Waiting) => self.decode_head()?,
                // What the decoder holds back may be wrong, too.
                Err(error @ FilmError::Misled { .. }) => {
                    self.queue.drop_pictures();
                    return Err(error.into());
                }
                Err(error) => {
                    // The pictures that the decoder holds back are complete.
                    self.finish_pictures()?;
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn start_landing(&mut self, point: SeekPoint) {
        // The thread that seeks may not have come to telling the queue.
        self.queue.start_seek(point.seek);
        self.decoder.flush();
        self.head.restart();
        self.seek = point.seek;
        self.places.restart(point.pictures_before);
        self.landing = Some(Landing { seconds: point.seconds, from: None, held: None });
    }

    fn take_frame(&mut self, frame: Frame) -> Result<(), PlayError> {
        if let Some(landing) = &mut self.landing
            && landing.from.is_none()
        {
            // From the film's first frame on every picture is shown that the decoder gives.
            let first = if frame.number == 0 { None } else { frame.entry.shown_at() };
            landing.from = Some(first.unwrap_or(i64::MIN));
        }
        while !self.decoder.send(&frame.entry, &frame.data)? {
            self.take_pictures()?;
        }
        count(&self.counters.frames, 1);
        self.places.on_sent(&frame);
        self.head.keep(frame);
        self.take_pictures()?;
        self.counters.decode_errors.store(self.decoder.errors(), Ordering::Relaxed);
        Ok(())
    }

    fn take_pictures(&mut self) -> Result<(), PlayError> {
        while let Received::Picture(picture) = self.decoder.receive()? {
            if !self.head.has_shown() {
                self.on_picture(picture);
            }
        }
        Ok(())
    }

    /// Nothing comes at the moment: pictures that threads hold back are shown.
    fn decode_head(&mut self) -> Result<(), PlayError> {
        for picture in self.head.decode()? {
            self.on_picture(picture);
        }
        Ok(())
    }

    /// The film has ended: what the decoder and a seek hold back is shown.
    fn finish(&mut self) -> Result<(), PlayError> {
        self.finish_pictures()?;
        self.queue.end(self.seek);
        Ok(())
    }

    fn finish_pictures(&mut self) -> Result<(), PlayError> {
        self.decoder.send_end()?;
        self.take_pictures()?;
        if let Some(held) = self.landing.take().and_then(|landing| landing.held) {
            self.put(held);
        }
        Ok(())
    }

    fn on_picture(&mut self, picture: Picture) {
        let pts = picture.pts();
        let is_before = |landing: &Landing| landing.from.zip(pts).is_some_and(|(from, pts)| pts < from);
        if self.landing.as_ref().is_some_and(is_before) {
            return;
        }
        let (index, time) = self.places.place(pts);
        let shown = ShownPicture { index, pts, time, key_frame: picture.key_frame(), picture };
        let Some(landing) = &mut self.landing else { return self.put(shown) };
        if shown.time <= landing.seconds + SAME_TIME {
            landing.held = Some(shown);
            return;
        }
        if let Some(held) = self.landing.take().and_then(|landing| landing.held) {
            self.put(held);
        }
        self.put(shown);
    }

    fn put(&self, picture: ShownPicture) {
        if self.queue.put(self.seek, picture) {
            count(&self.counters.pictures, 1);
        }
    }
}

/// Tells whoever takes pictures of a panic: nothing would come any more.
struct PanicGuard(Arc<Queue>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(PlayError::Panicked);
        }
    }
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
