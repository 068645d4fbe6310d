//! A decoded frame's planes, and colour conversion.

use std::ptr;
use std::slice;

use ffmpeg_next::ffi;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::software::scaling::{Context, Flags};

/// FFmpeg's component of a pixel format: where its samples stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Component {
    /// Which plane.
    pub plane: usize,
    /// Bytes from one pixel's sample to the next one's.
    pub step: usize,
    /// Bits of a sample.
    pub depth: usize,
}

/// What FFmpeg knows of a pixel format.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub name: &'static str,
    pub components: Vec<Component>,
    pub log2_chroma_width: u8,
    pub log2_chroma_height: u8,
    flags: u64,
}

impl Description {
    /// Nothing for formats without samples in memory, and for [`Pixel::None`].
    pub(crate) fn of(format: Pixel) -> Option<Self> {
        let descriptor = format.descriptor()?;
        // SAFETY: a descriptor points into FFmpeg's static table.
        let fields = unsafe { &*descriptor.as_ptr() };
        let components = fields.comp.iter().take(usize::from(fields.nb_components)).map(|component| {
            let positive = |number: i32| usize::try_from(number).unwrap_or(0);
            Component {
                plane: positive(component.plane),
                step: positive(component.step),
                depth: positive(component.depth),
            }
        });
        Some(Self {
            name: descriptor.name(),
            components: components.collect(),
            log2_chroma_width: fields.log2_chroma_w,
            log2_chroma_height: fields.log2_chroma_h,
            flags: fields.flags,
        })
    }

    /// Whether its samples are little-endian integers of whole bytes: no palette, no bit stream, no floats, nothing in a
    /// graphics card's memory.
    pub(crate) fn is_plain(&self) -> bool {
        const OTHERS: i32 = ffi::AV_PIX_FMT_FLAG_BE
            | ffi::AV_PIX_FMT_FLAG_PAL
            | ffi::AV_PIX_FMT_FLAG_BITSTREAM
            | ffi::AV_PIX_FMT_FLAG_HWACCEL
            | ffi::AV_PIX_FMT_FLAG_BAYER
            | ffi::AV_PIX_FMT_FLAG_FLOAT;
        self.flags & u64::from(OTHERS.cast_unsigned()) == 0
    }

    /// Whether its components are red, green and blue, so that none is subsampled.
    pub(crate) fn is_rgb(&self) -> bool {
        self.flags & u64::from(ffi::AV_PIX_FMT_FLAG_RGB.cast_unsigned()) != 0
    }
}

/// The bytes of one plane and its stride; nothing unless the frame has that much memory there.
///
/// The slice begins with the first row and ends with the last byte of the last row.
pub(crate) fn plane(frame: &Video, index: usize, row_bytes: usize, rows: usize) -> Option<(usize, &[u8])> {
    if index >= ffi::AV_NUM_DATA_POINTERS as usize || rows == 0 {
        return None;
    }
    // SAFETY: the pointer is to the frame that is borrowed.
    let pointer = unsafe { frame.as_ptr() };
    // SAFETY: as above: the frame lives as long as it is borrowed, and nothing changes it meanwhile.
    let fields = unsafe { &*pointer };
    let stride = usize::try_from(fields.linesize[index]).ok().filter(|&stride| stride >= row_bytes)?;
    let bytes = stride.checked_mul(rows - 1)?.checked_add(row_bytes)?;
    let start = fields.data[index];
    // SAFETY: the call only looks for the buffer that the plane's pointer points into; it changes nothing.
    let buffer = unsafe { ffi::av_frame_get_plane_buffer(pointer.cast_mut(), index as i32).as_ref() }?;
    let before = (start as usize).checked_sub(buffer.data as usize)?;
    if start.is_null() || before.checked_add(bytes)? > buffer.size {
        return None;
    }
    // SAFETY: `bytes` from `start` on lie within the buffer, as just checked; the frame holds a reference to the
    // buffer, and a decoder that shares it with the frame does not write to a picture that it has given out.
    Some((stride, unsafe { slice::from_raw_parts(start, bytes) }))
}

/// Bytes of memory that the frame keeps alive.
pub(crate) fn buffer_bytes(frame: &Video) -> usize {
    // SAFETY: the pointer is to the frame that is borrowed.
    let pointer = unsafe { frame.as_ptr() };
    // SAFETY: as above: the frame lives as long as it is borrowed, and nothing changes it meanwhile.
    let buffers = unsafe { &(*pointer).buf };
    // SAFETY: each is null or a buffer that the frame holds a reference to.
    let size = |&buffer: &*mut ffi::AVBufferRef| unsafe { buffer.as_ref() }.map_or(0, |buffer| buffer.size);
    buffers.iter().map(size).sum()
}

/// A conversion from one pixel format to another at one size, in swscale's defaults.
pub(crate) struct Scaler(Context);

// SAFETY: a context of swscale is bound to no thread; `&mut self` keeps two from using it at once.
unsafe impl Send for Scaler {}

impl Scaler {
    pub(crate) fn new(from: Pixel, to: Pixel, width: u32, height: u32) -> Option<Self> {
        Context::get(from, width, height, to, width, height, Flags::BICUBIC).ok().map(Self)
    }

    /// Fills `out` with the picture; false if `frame` is not what the conversion was made for, or `out` has no memory.
    pub(crate) fn run(&mut self, frame: &Video, out: &mut Video) -> bool {
        if out.planes() == 0 {
            *out = Video::new(self.0.output().format, self.0.output().width, self.0.output().height);
        }
        // SAFETY: looks at the first pointer of a frame that is borrowed.
        let unallocated = unsafe { out.is_empty() };
        !unallocated && self.0.run(frame, out).is_ok()
    }

    /// Writes the picture, packed in one plane, into `out` without a copy.
    ///
    /// swscale may write past a row's end up to the next multiple of its vector width. So the width has to be a
    /// multiple of [`Self::WIDTH_STEP`]; false if it is not, or if `out` is too short, and nothing was written.
    pub(crate) fn run_into(&mut self, frame: &Video, out: &mut [u8], stride: usize, row_bytes: usize) -> bool {
        let (width, height) = (self.0.input().width, self.0.input().height);
        let same = frame.format() == self.0.input().format && frame.width() == width && frame.height() == height;
        let bytes = stride.checked_mul((height as usize).saturating_sub(1)).and_then(|n| n.checked_add(row_bytes));
        let fits = bytes.is_some_and(|bytes| bytes <= out.len()) && stride >= row_bytes;
        let Ok(stride) = i32::try_from(stride) else { return false };
        if !same || !fits || !width.is_multiple_of(Self::WIDTH_STEP) {
            return false;
        }
        let planes = [out.as_mut_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut()];
        let strides = [stride, 0, 0, 0];
        // SAFETY: the pointer is to the frame that is borrowed.
        let pointer = unsafe { frame.as_ptr() };
        // SAFETY: as above: the frame lives as long as it is borrowed, and nothing changes it meanwhile.
        let source = unsafe { &*pointer };
        // SAFETY: the pointer is to the context that is borrowed for writing.
        let context = unsafe { self.0.as_mut_ptr() };
        // SAFETY: the source is a frame of the format and size that the context was made for, and the caller has seen
        // that its planes are all there; the target has `height` rows of `row_bytes` each, `stride` apart, and rows of
        // this width end where swscale's vectors end. Arrays of four pointers and strides are what it reads at most.
        unsafe {
            ffi::sws_scale(
                context,
                source.data.as_ptr().cast(),
                source.linesize.as_ptr(),
                0,
                height.cast_signed(),
                planes.as_ptr(),
                strides.as_ptr(),
            )
        };
        true
    }

    /// Widths of which swscale's vectors leave nothing over, in pixels.
    pub(crate) const WIDTH_STEP: u32 = 64;
}
