//! Flags and side data of packets.

use std::slice;

use ffmpeg_next::ffi::{self, AVPacketSideDataType};
use ffmpeg_next::packet::{Flags, Mut, Ref};
use ffmpeg_next::{Error, Packet};

/// Decode it, and drop what comes out: an edit list cuts it off.
pub(crate) const DISCARD: Flags = Flags::from_bits_retain(ffi::AV_PKT_FLAG_DISCARD);

/// Its flags, with those that `ffmpeg-next` has no name for.
pub(crate) fn flags(packet: &Packet) -> Flags {
    // SAFETY: the pointer is to the packet that is borrowed.
    Flags::from_bits_retain(unsafe { (*packet.as_ptr()).flags })
}

/// Adds a new decoder configuration, in force from this packet on.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn set_description(packet: &mut Packet, description: &[u8]) -> Result<(), Error> {
    let kind = AVPacketSideDataType::AV_PKT_DATA_NEW_EXTRADATA;
    // SAFETY: the packet is borrowed for writing and valid; the call allocates and keeps nothing of ours.
    let place = unsafe { ffi::av_packet_new_side_data(packet.as_mut_ptr(), kind, description.len()) };
    if place.is_null() {
        return Err(Error::Other { errno: ffmpeg_next::error::ENOMEM });
    }
    // SAFETY: `place` has `description.len()` bytes, just allocated, so the two do not overlap.
    unsafe { place.copy_from_nonoverlapping(description.as_ptr(), description.len()) };
    Ok(())
}

/// The bytes of a piece of side data.
pub(crate) fn side_data(packet: &Packet, kind: AVPacketSideDataType) -> Option<&[u8]> {
    let mut bytes = 0;
    // SAFETY: the pointer is to the packet that is borrowed; `bytes` is written only.
    let place = unsafe { ffi::av_packet_get_side_data(packet.as_ptr(), kind, &raw mut bytes) };
    if place.is_null() {
        return None;
    }
    // SAFETY: FFmpeg keeps that many bytes there as long as the packet, which is borrowed for as long as the slice.
    Some(unsafe { slice::from_raw_parts(place, bytes) })
}
