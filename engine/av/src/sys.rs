//! Every line of `unsafe` code: what `ffmpeg-next` has no safe call for.
//!
//! - [`container`]: opening a file, and what a demuxer says of a stream
//! - [`packet`]: flags and side data of packets
//! - [`parameters`]: codec parameters out of and into FFmpeg's structure
//! - [`picture`]: a decoded frame's planes, and colour conversion
//!
//! Numbers of FFmpeg's enumerations that a file or a message can set are read and written as integers, never as Rust
//! enumerations, for which an unknown number would be undefined behaviour.

pub(crate) mod container;
pub(crate) mod packet;
pub(crate) mod parameters;
pub(crate) mod picture;
