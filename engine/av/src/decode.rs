//! Pictures out of the access units of one video track, without a container.
//!
//! A player drives it so, until [`Received::End`]:
//!
//! 1. **[`Decoder::send`] the next access unit; if it was not taken, keep it for the next round.**
//! 2. **[`Decoder::receive`] until it says [`Received::NeedsInput`].**
//! 3. **After the last access unit: [`Decoder::send_end`], once.**

mod check;

use std::fmt;

use braidcast_media::frames::FrameEntry;
use braidcast_proto::v1;
use ffmpeg_next::codec::{self, threading};
use ffmpeg_next::decoder::Opened;
use ffmpeg_next::error::{EAGAIN, ENOMEM};
use ffmpeg_next::frame::Video;
use ffmpeg_next::packet::Flags;
use ffmpeg_next::{Error, Packet, Rational};

pub use self::check::TrackError;
pub(crate) use self::check::{check_codec, check_descriptions, check_size};
use crate::limits::{ACCESS_UNIT_BYTES_MAX, ERRORS_IN_A_ROW_MAX, PIXELS_MAX, THREADS_MAX};
use crate::picture::Picture;
use crate::sys;

/// A decoder of one video track, with FFmpeg's frame threads. Dropped, it waits for them.
pub struct Decoder {
    opened: Opened,
    descriptions: Vec<Vec<u8>>,
    /// The description that the decoder has, by number.
    description: usize,
    errors: u64,
    ended: bool,
    threads: usize,
}

/// What [`Decoder::receive`] has.
#[derive(Debug)]
pub enum Received {
    /// The next picture, in the order in which they are shown.
    Picture(Picture),
    /// None before another access unit is sent.
    NeedsInput,
    /// None after [`Decoder::send_end`], until [`Decoder::flush`].
    End,
}

/// Why decoding cannot go on. Access units that are broken are skipped and counted instead: [`Decoder::errors`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The track's description does not hold together.
    #[error("the film's description of its video track is wrong: {0}")]
    Track(#[from] TrackError),
    /// FFmpeg has no decoder for it, as it is installed here.
    #[error("this FFmpeg has no decoder for `{codec}`: {reason}")]
    Open {
        /// FFmpeg's name of the codec.
        codec: String,
        /// FFmpeg's words.
        reason: String,
    },
    /// An entry of the frame index names a codec description that the track does not have.
    #[error("the frame index names codec description {number}, and the track has {count}")]
    Description {
        /// The number.
        number: u8,
        /// How many the track has.
        count: usize,
    },
    /// The bytes are not those of the entry, or too many.
    #[error(
        "an access unit of {bytes} bytes was given where the frame index has {size}; at most {ACCESS_UNIT_BYTES_MAX}"
    )]
    Size {
        /// Bytes given.
        bytes: usize,
        /// Bytes by the index.
        size: u32,
    },
    /// More was sent after the end.
    #[error("the decoder was told of the film's end; `flush` it before more is sent")]
    Ended,
    /// No memory.
    #[error("not enough memory to decode; keep fewer pictures or use fewer threads")]
    OutOfMemory,
    /// Nothing but errors.
    #[error("{ERRORS_IN_A_ROW_MAX} access units one after the other could not be decoded; the last: {0}")]
    Broken(String),
}

impl Decoder {
    /// Opens a decoder for `track`, which may have come from a network: every field is checked.
    ///
    /// `threads` decode at a time, each a picture of its own; 0 for one per core. At most
    /// [`THREADS_MAX`]. Each holds a picture back.
    ///
    /// # Errors
    /// [`DecodeError::Track`], [`DecodeError::Open`], [`DecodeError::OutOfMemory`].
    pub fn new(track: &v1::Track, threads: usize) -> Result<Self, DecodeError> {
        crate::initialize();
        let checked = check::check(track)?;
        let failed = |error: Error| match error {
            Error::Other { errno: ENOMEM } => DecodeError::OutOfMemory,
            error => DecodeError::Open { codec: track.codec.clone(), reason: error.to_string() },
        };
        let parameters = sys::parameters::for_decoder(track, checked.video).map_err(failed)?;
        let found = codec::decoder::find(parameters.id()).ok_or_else(|| failed(Error::DecoderNotFound))?;
        let mut context = codec::Context::from_parameters(parameters).map_err(failed)?;
        let mut threading = threading::Config::kind(threading::Type::Frame);
        threading.count = count_threads(threads);
        context.set_threading(threading);
        sys::parameters::limit_pixels(&mut context, PIXELS_MAX);
        let mut decoder = context.decoder();
        decoder.set_packet_time_base(Rational::new(checked.time_base.0, checked.time_base.1));
        Ok(Self {
            opened: decoder.open_as(found).map_err(failed)?,
            threads: threading.count,
            descriptions: track.codec_descriptions.clone(),
            description: 0,
            errors: 0,
            ended: false,
        })
    }

    /// Gives it the next access unit in decode order: `data` are the bytes that `entry` points to.
    ///
    /// False: it was not taken, since pictures have to be received first; send the same again then.
    ///
    /// # Errors
    /// [`DecodeError::Description`], [`DecodeError::Size`], [`DecodeError::Ended`], [`DecodeError::OutOfMemory`].
    pub fn send(&mut self, entry: &FrameEntry, data: &[u8]) -> Result<bool, DecodeError> {
        if self.ended {
            return Err(DecodeError::Ended);
        }
        if data.len() > ACCESS_UNIT_BYTES_MAX || data.len() != entry.size as usize {
            return Err(DecodeError::Size { bytes: data.len(), size: entry.size });
        }
        if data.is_empty() {
            // To FFmpeg an empty access unit would be the end of the film.
            self.errors += 1;
            return Ok(true);
        }
        let packet = self.packet(entry, data)?;
        match self.opened.send_packet(&packet) {
            Ok(()) => {}
            Err(Error::Other { errno: EAGAIN }) => return Ok(false),
            Err(Error::Eof) => return Err(DecodeError::Ended),
            Err(Error::Other { errno: ENOMEM }) => return Err(DecodeError::OutOfMemory),
            Err(_broken) => self.errors += 1,
        }
        self.description = usize::from(entry.codec);
        Ok(true)
    }

    /// Tells it that nothing follows, so that it gives the pictures that it holds back.
    ///
    /// # Errors
    /// [`DecodeError::OutOfMemory`]; none if it was told before.
    pub fn send_end(&mut self) -> Result<(), DecodeError> {
        self.ended = true;
        match self.opened.send_eof() {
            Err(Error::Other { errno: ENOMEM }) => Err(DecodeError::OutOfMemory),
            // Told before, or an access unit before it was broken, which `receive` will come upon.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes the next picture out.
    ///
    /// # Errors
    /// [`DecodeError::OutOfMemory`], [`DecodeError::Broken`].
    pub fn receive(&mut self) -> Result<Received, DecodeError> {
        let mut last = Error::InvalidData;
        for _ in 0..ERRORS_IN_A_ROW_MAX {
            let mut frame = Video::empty();
            match self.opened.receive_frame(&mut frame) {
                Ok(()) => match Picture::new(frame) {
                    Some(picture) => return Ok(Received::Picture(picture)),
                    None => self.errors += 1,
                },
                Err(Error::Other { errno: EAGAIN }) => return Ok(Received::NeedsInput),
                Err(Error::Eof) => return Ok(Received::End),
                Err(Error::Other { errno: ENOMEM }) => return Err(DecodeError::OutOfMemory),
                Err(error) => {
                    self.errors += 1;
                    last = error;
                }
            }
        }
        Err(DecodeError::Broken(last.to_string()))
    }

    /// Forgets all that was sent, for a seek: the next access unit has to be a key frame.
    pub fn flush(&mut self) {
        self.opened.flush();
        self.ended = false;
    }

    /// Threads that decode at a time; each but the first holds a picture back.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Access units that were skipped so far because they could not be decoded.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    fn packet(&self, entry: &FrameEntry, data: &[u8]) -> Result<Packet, DecodeError> {
        let number = usize::from(entry.codec);
        let count = self.descriptions.len();
        let description =
            self.descriptions.get(number).ok_or(DecodeError::Description { number: entry.codec, count })?;
        let mut packet = Packet::new(data.len());
        packet
            .data_mut()
            .filter(|place| place.len() == data.len())
            .ok_or(DecodeError::OutOfMemory)?
            .copy_from_slice(data);
        packet.set_pts(entry.pts);
        packet.set_dts(entry.dts);
        packet.set_duration(i64::from(entry.duration));
        let flag = |set: bool, flag: Flags| if set { flag } else { Flags::empty() };
        packet.set_flags(flag(entry.key, Flags::KEY) | flag(entry.discard, sys::packet::DISCARD));
        if number != self.description {
            sys::packet::set_description(&mut packet, description).map_err(|_| DecodeError::OutOfMemory)?;
        }
        Ok(packet)
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("errors", &self.errors).field("ended", &self.ended).finish_non_exhaustive()
    }
}

fn count_threads(wanted: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    if wanted == 0 { cores().min(THREADS_MAX) } else { wanted.min(THREADS_MAX) }
}
