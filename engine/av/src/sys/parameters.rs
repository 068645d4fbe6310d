//! Codec parameters out of and into FFmpeg's structure: the two directions side by side, so that what a publisher
//! reads a player sets.

use std::ffi::{CStr, CString};
use std::mem;
use std::slice;

use braidcast_proto::v1;
use ffmpeg_next::codec::{Context, Id, Parameters};
use ffmpeg_next::ffi::{self, AVCodecParameters, AVMediaType, AVRational, AVSampleFormat};
use ffmpeg_next::{Error, media};

/// Bytes of zeros that decoders want behind a decoder configuration.
const PADDING_BYTES: usize = ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize;
const OUT_OF_MEMORY: Error = Error::Other { errno: ffmpeg_next::error::ENOMEM };

/// What the parameters say of a track; nothing for a stream that is none, or of a codec that FFmpeg does not know.
pub(crate) fn describe(parameters: &Parameters) -> Option<v1::Track> {
    let kind = match parameters.medium() {
        media::Type::Video => v1::track::Kind::Video,
        media::Type::Audio => v1::track::Kind::Audio,
        media::Type::Subtitle => v1::track::Kind::Subtitle,
        media::Type::Unknown | media::Type::Data | media::Type::Attachment => return None,
    };
    let codec = parameters.id();
    if codec == Id::None {
        return None;
    }
    // SAFETY: the pointer is to the parameters that are borrowed, or that their owner keeps alive.
    let pointer = unsafe { parameters.as_ptr() };
    // SAFETY: as above, and nothing changes them while they are borrowed.
    let fields = unsafe { &*pointer };
    Some(v1::Track {
        kind: kind.into(),
        codec: codec.name().to_owned(),
        codec_tag: fields.codec_tag,
        codec_descriptions: vec![extradata(fields)],
        profile: fields.profile,
        level: fields.level,
        bit_rate: fields.bit_rate.max(0).cast_unsigned(),
        bits_per_coded_sample: fields.bits_per_coded_sample,
        bits_per_raw_sample: fields.bits_per_raw_sample,
        video: (kind == v1::track::Kind::Video).then(|| video(fields)),
        audio: (kind == v1::track::Kind::Audio).then(|| audio(fields)),
        ..v1::Track::default()
    })
}

/// The parameters of a video track, as [`describe`] read them.
///
/// # Errors
/// [`Error::DecoderNotFound`] for a codec that FFmpeg has no name for; `ENOMEM`.
pub(crate) fn for_decoder(track: &v1::Track, video: &v1::VideoTrack) -> Result<Parameters, Error> {
    let mut parameters = Parameters::new();
    // SAFETY: the pointer is to the parameters that this function owns.
    let pointer = unsafe { parameters.as_mut_ptr() };
    // SAFETY: allocated by FFmpeg and nobody else's, unless null.
    let fields = unsafe { pointer.as_mut() }.ok_or(OUT_OF_MEMORY)?;
    fields.codec_type = AVMediaType::AVMEDIA_TYPE_VIDEO;
    fields.codec_id = codec_id(&track.codec).ok_or(Error::DecoderNotFound)?.into();
    fields.codec_tag = track.codec_tag;
    fields.profile = track.profile;
    fields.level = track.level;
    fields.bit_rate = track.bit_rate.try_into().unwrap_or(0);
    fields.bits_per_coded_sample = track.bits_per_coded_sample;
    fields.bits_per_raw_sample = track.bits_per_raw_sample;
    fields.width = video.width.cast_signed();
    fields.height = video.height.cast_signed();
    fields.format = pixel_format(&video.pixel_format);
    fields.video_delay = video.reorder.cast_signed();
    if let Some(ratio) = &video.sample_aspect_ratio {
        fields.sample_aspect_ratio = AVRational { num: ratio.numerator, den: ratio.denominator };
    }
    set_number(&mut fields.field_order, video.field_order);
    set_number(&mut fields.color_range, video.color_range);
    set_number(&mut fields.color_primaries, video.color_primaries);
    set_number(&mut fields.color_trc, video.color_transfer);
    set_number(&mut fields.color_space, video.color_matrix);
    set_number(&mut fields.chroma_location, video.chroma_location);
    set_extradata(fields, track.codec_descriptions.first().map_or(&[], Vec::as_slice))?;
    Ok(parameters)
}

/// Sets the most pixels of a picture that the decoder may allocate.
pub(crate) fn limit_pixels(context: &mut Context, pixels: u64) {
    // SAFETY: the pointer is to the context that is borrowed for writing; it is not open yet, so no thread reads it.
    let pointer = unsafe { context.as_mut_ptr() };
    // SAFETY: as above; the field is a number that FFmpeg compares with.
    unsafe { (*pointer).max_pixels = pixels.cast_signed() };
}

fn video(fields: &AVCodecParameters) -> v1::VideoTrack {
    let ratio = fields.sample_aspect_ratio;
    v1::VideoTrack {
        width: fields.width.max(0).cast_unsigned(),
        height: fields.height.max(0).cast_unsigned(),
        pixel_format: pixel_format_name(fields.format),
        sample_aspect_ratio: Some(v1::Rational { numerator: ratio.num, denominator: ratio.den }),
        reorder: fields.video_delay.max(0).cast_unsigned(),
        color_range: number(&fields.color_range),
        color_primaries: number(&fields.color_primaries),
        color_transfer: number(&fields.color_trc),
        color_matrix: number(&fields.color_space),
        chroma_location: number(&fields.chroma_location),
        field_order: number(&fields.field_order),
        ..v1::VideoTrack::default()
    }
}

fn audio(fields: &AVCodecParameters) -> v1::AudioTrack {
    v1::AudioTrack {
        sample_rate: fields.sample_rate.max(0).cast_unsigned(),
        channels: fields.ch_layout.nb_channels.max(0).cast_unsigned(),
        channel_layout: channel_layout(fields),
        sample_format: sample_format_name(fields.format),
        frame_size: fields.frame_size.max(0).cast_unsigned(),
        block_align: fields.block_align.max(0).cast_unsigned(),
        initial_padding: fields.initial_padding.max(0).cast_unsigned(),
    }
}

fn extradata(fields: &AVCodecParameters) -> Vec<u8> {
    match usize::try_from(fields.extradata_size) {
        Ok(bytes) if bytes > 0 && !fields.extradata.is_null() => {
            // SAFETY: FFmpeg keeps `extradata_size` bytes there, initialised, as long as the parameters live.
            unsafe { slice::from_raw_parts(fields.extradata, bytes) }.to_vec()
        }
        _ => Vec::new(),
    }
}

fn set_extradata(fields: &mut AVCodecParameters, description: &[u8]) -> Result<(), Error> {
    if description.is_empty() {
        return Ok(());
    }
    let size = i32::try_from(description.len()).map_err(|_| OUT_OF_MEMORY)?;
    // SAFETY: an allocation, zeroed, that FFmpeg frees together with the parameters.
    let place = unsafe { ffi::av_mallocz(description.len() + PADDING_BYTES) }.cast::<u8>();
    if place.is_null() {
        return Err(OUT_OF_MEMORY);
    }
    // SAFETY: `place` has that many bytes and the padding, just allocated, so the two do not overlap.
    unsafe { place.copy_from_nonoverlapping(description.as_ptr(), description.len()) };
    fields.extradata = place;
    fields.extradata_size = size;
    Ok(())
}

fn codec_id(name: &str) -> Option<Id> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name ends with a zero; what is found is static.
    let descriptor = unsafe { ffi::avcodec_descriptor_get_by_name(name.as_ptr()).as_ref() }?;
    Some(descriptor.id.into())
}

/// -1, FFmpeg's number of an unknown format, for a name that it does not know.
fn pixel_format(name: &str) -> i32 {
    CString::new(name).map_or(-1, |name| {
        // SAFETY: the name ends with a zero, and the call keeps nothing of it.
        unsafe { ffi::av_get_pix_fmt(name.as_ptr()) as i32 }
    })
}

/// Empty for a number that FFmpeg knows no format of.
fn pixel_format_name(number: i32) -> String {
    let known = 0..ffi::AVPixelFormat::AV_PIX_FMT_NB as i32;
    if !known.contains(&number) {
        return String::new();
    }
    // SAFETY: FFmpeg numbers its formats without a gap from 0, as the range above has it; the bindings were made from
    // the headers of the library that is linked.
    let format = unsafe { mem::transmute::<i32, ffi::AVPixelFormat>(number) };
    // SAFETY: takes any number; what it gives is static or null.
    static_text(unsafe { ffi::av_get_pix_fmt_name(format) })
}

/// Empty for a number that FFmpeg knows no format of.
fn sample_format_name(number: i32) -> String {
    let known = 0..AVSampleFormat::AV_SAMPLE_FMT_NB as i32;
    if !known.contains(&number) {
        return String::new();
    }
    // SAFETY: FFmpeg numbers its sample formats without a gap from 0, as the range above has it.
    let format = unsafe { mem::transmute::<i32, AVSampleFormat>(number) };
    // SAFETY: takes any number; what it gives is static or null.
    static_text(unsafe { ffi::av_get_sample_fmt_name(format) })
}

/// Longest name of a channel layout that is kept, with the zero at its end.
const LAYOUT_BYTES: usize = 128;

fn channel_layout(fields: &AVCodecParameters) -> String {
    let mut name = [0_u8; LAYOUT_BYTES];
    let place = name.as_mut_ptr().cast();
    // SAFETY: the layout belongs to the parameters and was initialised with them; `place` has as many bytes as it says.
    let length = unsafe { ffi::av_channel_layout_describe(&raw const fields.ch_layout, place, LAYOUT_BYTES) };
    if length <= 0 {
        return String::new();
    }
    CStr::from_bytes_until_nul(&name).map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

fn static_text(pointer: *const std::ffi::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the callers give names from FFmpeg's static tables, which end with a zero.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// The number in the place of an enumeration, which a file can set to one that the enumeration does not have.
fn number<T>(field: &T) -> u32 {
    const { assert!(size_of::<T>() == size_of::<u32>()) };
    // SAFETY: the same size, as asserted, and C's enumerations have no padding.
    unsafe { mem::transmute_copy(field) }
}

/// Puts a number in the place of an enumeration, for FFmpeg's own code, to which every number is one.
fn set_number<T>(field: &mut T, number: u32) {
    const { assert!(size_of::<T>() == size_of::<u32>() && align_of::<T>() == align_of::<u32>()) };
    // SAFETY: the same size and alignment, as asserted; no code of ours reads the field as the enumeration.
    unsafe { std::ptr::from_mut(field).cast::<u32>().write(number) };
}
