//! Pictures in the colours that a program wants, by swscale in its defaults: bicubic, and the matrix of ITU-R BT.601
//! whatever the film says. That is what OpenCV and PyAV give.

use std::fmt;

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;

use crate::picture::{Picture, PictureError};
use crate::sys;
use crate::sys::picture::Scaler;

/// A packed format of 8 bits a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PixelFormat {
    /// Red, green, blue.
    Rgb24,
    /// Blue, green, red: OpenCV's order.
    Bgr24,
    /// Luminance.
    Gray8,
}

impl PixelFormat {
    /// Bytes of a pixel.
    pub fn pixel_bytes(self) -> usize {
        match self {
            Self::Rgb24 | Self::Bgr24 => 3,
            Self::Gray8 => 1,
        }
    }

    fn pixel(self) -> Pixel {
        match self {
            Self::Rgb24 => Pixel::RGB24,
            Self::Bgr24 => Pixel::BGR24,
            Self::Gray8 => Pixel::GRAY8,
        }
    }
}

/// Why a picture was not converted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConvertError {
    /// The picture is not all there.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// swscale has no conversion from this format.
    #[error("FFmpeg converts no picture of {width} x {height} from {from} to {to}")]
    Format {
        /// Format of the picture.
        from: String,
        /// Format that was asked for.
        to: &'static str,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// What the caller gave does not hold the picture.
    #[error("the picture needs {needed} bytes with rows {stride} bytes apart, and there is room for {room}")]
    Room {
        /// Bytes needed; [`usize::MAX`] where rows would overlap.
        needed: usize,
        /// Bytes there.
        room: usize,
        /// The stride that was asked for.
        stride: usize,
    },
}

/// Converts pictures; it keeps what swscale prepared as long as size and formats stay the same.
#[derive(Default)]
pub struct Converter {
    cached: Option<Cached>,
}

struct Cached {
    key: (Pixel, Pixel, u32, u32),
    scaler: Scaler,
    /// For widths of which swscale's vectors leave something over; unallocated until then.
    scratch: Video,
}

impl Converter {
    /// One that has nothing prepared.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the picture into `out`, rows `stride` bytes apart. Bytes between the rows stay as they are.
    ///
    /// # Errors
    /// [`ConvertError`]: `out` may have been written to only if swscale failed half way.
    pub fn convert_into(
        &mut self,
        picture: &Picture,
        format: PixelFormat,
        out: &mut [u8],
        stride: usize,
    ) -> Result<(), ConvertError> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let row_bytes = width * format.pixel_bytes();
        check_room(out.len(), row_bytes, height, stride)?;
        check_source(picture)?;
        let cached = self.prepare(picture, format.pixel(), name(format))?;
        if cached.scaler.run_into(picture.frame(), out, stride, row_bytes) {
            return Ok(());
        }
        cached.scale(picture, name(format))?;
        copy_plane(&cached.scratch, 0, row_bytes, height, out, stride, picture)
    }

    /// Writes the picture as planar YUV with chroma of half width and height, 8 bits: Y, then U, then V, without bytes
    /// between the rows or planes. `out` needs [`yuv420p_bytes`]. A picture of that format is copied as it is.
    ///
    /// # Errors
    /// [`ConvertError`].
    pub fn convert_yuv420p(&mut self, picture: &Picture, out: &mut [u8]) -> Result<(), ConvertError> {
        let needed = yuv420p_bytes(picture.width(), picture.height());
        if out.len() < needed {
            return Err(ConvertError::Room { needed, room: out.len(), stride: picture.width() as usize });
        }
        check_source(picture)?;
        let as_it_is = matches!(picture.format(), "yuv420p" | "yuvj420p");
        let frame = if as_it_is {
            picture.frame()
        } else {
            let cached = self.prepare(picture, Pixel::YUV420P, "yuv420p")?;
            cached.scale(picture, "yuv420p")?;
            &cached.scratch
        };
        let mut rest = out;
        for plane in 0..3 {
            let half = |length: u32| if plane == 0 { length as usize } else { length.div_ceil(2) as usize };
            let (width, height) = (half(picture.width()), half(picture.height()));
            let (here, behind) = rest.split_at_mut(width * height);
            copy_plane(frame, plane, width, height, here, width, picture)?;
            rest = behind;
        }
        Ok(())
    }

    fn prepare(&mut self, picture: &Picture, to: Pixel, to_name: &'static str) -> Result<&mut Cached, ConvertError> {
        let key = (picture.frame().format(), to, picture.width(), picture.height());
        let same = self.cached.take().filter(|cached| cached.key == key);
        let cached = match same {
            Some(cached) => cached,
            None => {
                let scaler = Scaler::new(key.0, key.1, key.2, key.3).ok_or_else(|| refused(picture, to_name))?;
                Cached { key, scaler, scratch: Video::empty() }
            }
        };
        Ok(self.cached.insert(cached))
    }
}

impl fmt::Debug for Converter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Converter").field("prepared", &self.cached.as_ref().map(|cached| cached.key)).finish()
    }
}

impl Cached {
    fn scale(&mut self, picture: &Picture, to: &'static str) -> Result<(), ConvertError> {
        if self.scaler.run(picture.frame(), &mut self.scratch) { Ok(()) } else { Err(refused(picture, to)) }
    }
}

/// Bytes of a picture as [`Converter::convert_yuv420p`] writes it.
pub fn yuv420p_bytes(width: u32, height: u32) -> usize {
    let chroma = width.div_ceil(2) as usize * height.div_ceil(2) as usize;
    width as usize * height as usize + 2 * chroma
}

/// swscale reads what format and size claim. Formats that are not given as planes are FFmpeg's own matter.
fn check_source(picture: &Picture) -> Result<(), ConvertError> {
    match picture.planes() {
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn check_room(room: usize, row_bytes: usize, rows: usize, stride: usize) -> Result<(), ConvertError> {
    let needed = stride.checked_mul(rows.saturating_sub(1)).and_then(|n| n.checked_add(row_bytes));
    match needed {
        Some(needed) if needed <= room && stride >= row_bytes => Ok(()),
        Some(needed) if stride >= row_bytes => Err(ConvertError::Room { needed, room, stride }),
        _ => Err(ConvertError::Room { needed: usize::MAX, room, stride }),
    }
}

/// Copies `rows` of `row_bytes` each; `out` has room for them, `stride` apart.
fn copy_plane(
    frame: &Video,
    plane: usize,
    row_bytes: usize,
    rows: usize,
    out: &mut [u8],
    stride: usize,
    picture: &Picture,
) -> Result<(), ConvertError> {
    let (from_stride, from) =
        sys::picture::plane(frame, plane, row_bytes, rows).ok_or_else(|| refused(picture, "a plane of bytes"))?;
    for (from, to) in from.chunks(from_stride).zip(out.chunks_mut(stride)) {
        to[..row_bytes].copy_from_slice(&from[..row_bytes]);
    }
    Ok(())
}

fn refused(picture: &Picture, to: &'static str) -> ConvertError {
    ConvertError::Format { from: picture.format().to_owned(), to, width: picture.width(), height: picture.height() }
}

fn name(format: PixelFormat) -> &'static str {
    match format {
        PixelFormat::Rgb24 => "rgb24",
        PixelFormat::Bgr24 => "bgr24",
        PixelFormat::Gray8 => "gray8",
    }
}
