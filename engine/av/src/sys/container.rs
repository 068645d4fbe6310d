//! Opening a file, and what a demuxer says of a stream.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;

use ffmpeg_next::ffi;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::{Disposition, Stream};
use ffmpeg_next::{Dictionary, Error, format};

use crate::limits::FORMATS;

/// Bytes of zeros that FFmpeg wants behind the beginning of a file that it is asked about.
const PROBE_PADDING_BYTES: usize = ffi::AVPROBE_PADDING_SIZE as usize;

/// Opens `file` with a demuxer of [`FORMATS`] and lets it look at the first frames.
///
/// FFmpeg sees the open file and not its name: so a name can be no address, no pattern and no list of files, and the
/// demuxer reads the same bytes as whoever else holds `file`.
///
/// # Errors
/// As FFmpeg says; `EINVAL` for a format that is not among [`FORMATS`].
pub(crate) fn open(file: &File) -> Result<Input, Error> {
    let options: Dictionary<'_> = [("format_whitelist", FORMATS), ("protocol_whitelist", "file")].iter().collect();
    format::input_with_dictionary(&format!("file:/proc/self/fd/{}", file.as_raw_fd()), options)
}

/// FFmpeg's short and long name of the format that begins with `head`, be it one of [`FORMATS`] or not.
pub(crate) fn guess(head: &[u8]) -> Option<(String, String)> {
    let mut padded = Vec::with_capacity(head.len() + PROBE_PADDING_BYTES);
    padded.extend_from_slice(head);
    padded.resize(head.len() + PROBE_PADDING_BYTES, 0);
    let data = ffi::AVProbeData {
        filename: c"".as_ptr(),
        buf: padded.as_mut_ptr(),
        buf_size: i32::try_from(head.len()).ok()?,
        mime_type: ptr::null(),
    };
    let mut score = 0;
    // SAFETY: `data` describes `padded`, which is that long and has the padding behind it, and a file name that ends
    // with a zero; both live past the call, which keeps neither. The format found is static, or there is none.
    let format = unsafe { ffi::av_probe_input_format3(&raw const data, 1, &raw mut score).as_ref() }?;
    Some((text(format.name), text(format.long_name)))
}

/// Whether the stream is a picture on the cover, not a track.
pub(crate) fn is_cover(stream: &Stream<'_>) -> bool {
    stream.disposition().contains(Disposition::ATTACHED_PIC)
}

/// A text that the container has about the stream, whatever is not UTF-8 replaced.
pub(crate) fn metadata(stream: &Stream<'_>, key: &CStr) -> Option<String> {
    // SAFETY: the pointer is that of a stream of an open container, which `stream` borrows.
    let pointer = unsafe { stream.as_ptr() };
    // SAFETY: as above: the stream lives as long as `stream`, and nothing changes it meanwhile.
    let dictionary = unsafe { (*pointer).metadata };
    // SAFETY: a dictionary may be null, the key ends with a zero, and the entry found, if any, belongs to the dictionary.
    let entry = unsafe { ffi::av_dict_get(dictionary, key.as_ptr(), ptr::null(), 0).as_ref() }?;
    Some(text(entry.value))
}

/// A text of FFmpeg's; empty where there is none.
fn text(pointer: *const std::ffi::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: texts in FFmpeg's structures end with a zero and live as long as the structure, which the callers hold.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_string_lossy().into_owned()
}
