//! Types of the control plane, generated from `proto/braidcast/v1`.
//!
//! The `.proto` files are the reference: every service lists its status codes
//! and what the caller does next. The data plane is in `PROTOCOL.md` beside
//! them and does not use these types.
#![forbid(unsafe_code)]

/// What the messages are encoded with.
pub use prost;

/// Package `braidcast.v1`.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod v1 {
    tonic::include_proto!("braidcast.v1");
}

/// The longest list of videos that the master sends and clients take: 250,000 films of common descriptions, or 40,000 of
/// the longest.
pub const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The largest message that either side sends but for lists of videos: one extent and its frame.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
