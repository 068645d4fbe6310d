//! A decoded picture, and its planes as slices.

use std::fmt;

use ffmpeg_next::frame::Video;
use ffmpeg_next::picture::Type;

use crate::sys;
use crate::sys::picture::Description;

/// A decoded picture. It holds a reference to the decoder's memory, so nothing was copied.
///
/// The decoder gets the memory back when the picture is dropped: whoever keeps pictures keeps their memory.
pub struct Picture {
    frame: Video,
    description: Description,
    key: bool,
}

/// One plane of a picture: rows of samples, little-endian where they have two bytes.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// Pixels of a row, in this plane: half the picture's width in the chroma of 4:2:0, say.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Samples of a pixel: 1 in a planar format, 3 in `rgb24`, 2 in the chroma of `nv12`.
    pub components: usize,
    /// Bytes of a sample: 1 or 2.
    pub sample_bytes: usize,
    /// Bytes from a row's first to the next row's first: at least [`Plane::row_bytes`].
    pub stride: usize,
    /// From the first byte of the first row to the last byte of the last.
    pub data: &'a [u8],
}

/// A copy of a plane's samples, row by row, with nothing between the rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Samples {
    /// Of 8 bits.
    Bytes(Vec<u8>),
    /// Of 9 to 16 bits.
    Words(Vec<u16>),
}

/// Why a decoded picture's samples cannot be given.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PictureError {
    /// Samples that are no whole little-endian bytes, or of which several pixels share one in a packed plane.
    #[error("pictures of the pixel format `{0}` are not given out; only whole samples of 8 to 16 bits are")]
    Format(String),
    /// The decoder gave less memory than size and format claim.
    #[error("plane {plane} of a decoded picture ({width} x {height}, {format}) is not all there")]
    Memory {
        /// Which plane, from 0.
        plane: usize,
        /// Width of the picture in pixels.
        width: u32,
        /// Height of the picture in pixels.
        height: u32,
        /// FFmpeg's name of the pixel format.
        format: String,
    },
}

impl Picture {
    /// Nothing for a frame of no known format.
    pub(crate) fn new(frame: Video) -> Option<Self> {
        let description = Description::of(frame.format())?;
        let key = frame.is_key();
        Some(Self { frame, description, key })
    }

    pub(crate) fn frame(&self) -> &Video {
        &self.frame
    }

    /// In pixels.
    pub fn width(&self) -> u32 {
        self.frame.width()
    }

    /// In pixels.
    pub fn height(&self) -> u32 {
        self.frame.height()
    }

    /// FFmpeg's name of the pixel format.
    pub fn format(&self) -> &str {
        self.description.name
    }

    /// When it is shown, in units of the track's time base: as the container has it or else as FFmpeg guesses it.
    pub fn pts(&self) -> Option<i64> {
        self.frame.pts().or_else(|| self.frame.timestamp())
    }

    /// Whether decoding can begin at it.
    pub fn key_frame(&self) -> bool {
        self.key
    }

    /// How it was encoded, as FFmpeg's letter: `I`, `P`, `B`, `S` (a sprite of MPEG-4), `i`, `p`, `b` (SI, SP, BI), or `?`.
    pub fn picture_type(&self) -> char {
        match self.frame.kind() {
            Type::None => '?',
            Type::I => 'I',
            Type::P => 'P',
            Type::B => 'B',
            Type::S => 'S',
            Type::SI => 'i',
            Type::SP => 'p',
            Type::BI => 'b',
        }
    }

    /// Bytes of memory that it keeps alive.
    pub fn bytes(&self) -> usize {
        sys::picture::buffer_bytes(&self.frame)
    }

    /// Its planes in FFmpeg's order: Y, U, V for YUV, and G, B, R for planar RGB; a packed format has one.
    ///
    /// # Errors
    /// [`PictureError`].
    pub fn planes(&self) -> Result<Vec<Plane<'_>>, PictureError> {
        self.shapes()?.into_iter().enumerate().map(|(index, shape)| self.plane(index, shape)).collect()
    }

    /// Size and kind of each plane, its data still empty.
    fn shapes(&self) -> Result<Vec<Plane<'_>>, PictureError> {
        let other = || PictureError::Format(self.format().to_owned());
        let components = &self.description.components;
        let planes = components.iter().map(|component| component.plane + 1).max().unwrap_or(0);
        if planes == 0 || !self.description.is_plain() {
            return Err(other());
        }
        let shape = |plane: usize| {
            let inside = || components.iter().enumerate().filter(move |(_, component)| component.plane == plane);
            let (first, component) = inside().next().ok_or_else(other)?;
            let sample_bytes = component.depth.div_ceil(8);
            let same = inside().all(|(_, other)| other.step == component.step && other.depth == component.depth);
            if !same || !(1..=2).contains(&sample_bytes) || component.step % sample_bytes != 0 || component.step == 0 {
                return Err(other());
            }
            // FFmpeg's components 1 and 2 are the chroma; 3 is an alpha channel of full size.
            let chroma = (first == 1 || first == 2) && !self.description.is_rgb();
            let size = |length: u32, log2: u8| {
                let log2 = if chroma { u32::from(log2) } else { 0 };
                (u64::from(length).div_ceil(1 << log2)) as usize
            };
            Ok(Plane {
                width: size(self.width(), self.description.log2_chroma_width),
                height: size(self.height(), self.description.log2_chroma_height),
                components: component.step / sample_bytes,
                sample_bytes,
                stride: 0,
                data: &[],
            })
        };
        (0..planes).map(shape).collect()
    }

    fn plane(&self, index: usize, shape: Plane<'_>) -> Result<Plane<'_>, PictureError> {
        let missing = || PictureError::Memory {
            plane: index,
            width: self.width(),
            height: self.height(),
            format: self.format().to_owned(),
        };
        let found = sys::picture::plane(&self.frame, index, shape.row_bytes(), shape.height);
        let (stride, data) = found.ok_or_else(missing)?;
        Ok(Plane {
            width: shape.width,
            height: shape.height,
            components: shape.components,
            sample_bytes: shape.sample_bytes,
            stride,
            data,
        })
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picture")
            .field("width", &self.width())
            .field("height", &self.height())
            .field("format", &self.format())
            .field("pts", &self.pts())
            .finish_non_exhaustive()
    }
}

impl<'a> Plane<'a> {
    /// Bytes of a row that are samples.
    pub fn row_bytes(&self) -> usize {
        self.width * self.components * self.sample_bytes
    }

    /// The rows, without what stands between them.
    pub fn rows(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let row_bytes = self.row_bytes();
        self.data.chunks(self.stride.max(1)).map(move |row| &row[..row_bytes])
    }

    /// A copy of the samples.
    pub fn samples(&self) -> Samples {
        let plane_bytes = self.height * self.row_bytes();
        if self.sample_bytes == 1 {
            let mut bytes = Vec::with_capacity(plane_bytes);
            self.rows().for_each(|row| bytes.extend_from_slice(row));
            return Samples::Bytes(bytes);
        }
        let mut words = Vec::with_capacity(plane_bytes / 2);
        for row in self.rows() {
            words.extend(row.as_chunks().0.iter().map(|&word| u16::from_le_bytes(word)));
        }
        Samples::Words(words)
    }
}
