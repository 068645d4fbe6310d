//! FFmpeg at the edge of Braidcast: what a publisher learns of a film, and how a player decodes it.
//!
//! A publisher runs the program `braidcast-probe` on a file. It makes the film's description and its two indexes, and
//! where access units do not lie in the file in one piece, the stream of access units. A player has nothing but these:
//! it reads entries of the index, fetches their bytes and gives both to a [`Decoder`]. No player ever reads a container.
//!
//! ```text
//! publisher   file -> braidcast-probe -> ProbeReport { Film, stream 1, stream 2 } and stream 4
//! player      Track, entries, bytes -> Decoder -> Picture -> planes, or Converter -> rgb24
//! ```
//!
//! - [`probe`]: what the program does; [`probe::program`] is its `main`, and [`probe::cage`] keeps a hostile file from
//!   taking the machine
//! - [`decode`]: pictures out of access units
//! - [`picture`]: a picture's planes
//! - [`convert`]: pictures in other colours
//! - [`limits`]: every bound
//!
//! All `unsafe` code is in the private module `sys`. FFmpeg itself is C code that reads what anybody may have
//! published: the probe runs in a process of its own, and a player decodes only the codecs of [`limits::VIDEO_CODECS`].
#![deny(unsafe_code)]

pub mod convert;
pub mod decode;
pub mod limits;
pub mod picture;
pub mod probe;
#[allow(unsafe_code)]
mod sys;

use std::sync::Once;

pub use convert::{ConvertError, Converter, PixelFormat, yuv420p_bytes};
pub use decode::{DecodeError, Decoder, Received, TrackError};
pub use picture::{Picture, PictureError, Plane, Samples};

/// Makes FFmpeg ready: its errors have texts, and it writes nothing to standard error.
fn initialize() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails in no version: it registers what versions before 4.0 had to register.
        let _always_ok = ffmpeg_next::init();
        ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Quiet);
    });
}
