//! The plain hash list (stream 3) and the roots that the master keeps of it.
//!
//! ```text
//! master: roots       BLAKE3 of each extent of stream 3
//!   stream 3          BLAKE3 of each extent of streams 0, 1, 2, 4, in this order
//!     the extents     of the film
//! ```
//! One extent of stream 3 vouches for 9,600 extents, 2.9 GB of film.

use crate::ids::{ExtentNo, StreamId};
use crate::layout::{HASH_BYTES, PackLayout};

/// A BLAKE3 hash.
pub type Hash = [u8; HASH_BYTES];

/// BLAKE3 of `bytes`.
pub fn hash(bytes: &[u8]) -> Hash {
    *blake3::hash(bytes).as_bytes()
}

/// Cuts a list of hashes, as it stands in a file or a message; nothing if it does not divide.
pub fn parse_list(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    rest.is_empty().then(|| hashes.to_vec())
}

/// Which hash of stream 3 vouches for `extent` of `stream`; nothing for stream 3 itself and what does not exist.
pub fn index_in_list(layout: &PackLayout, stream: StreamId, extent: ExtentNo) -> Option<u64> {
    if stream == StreamId::PLAIN_HASHES {
        return None;
    }
    let found = layout.stream(stream).filter(|s| extent.0 < s.extents())?;
    let before: u64 = layout
        .streams()
        .iter()
        .filter(|s| s.id != StreamId::PLAIN_HASHES && s.id < found.id)
        .map(|s| u64::from(s.extents()))
        .sum();
    Some(before + u64::from(extent.0))
}
