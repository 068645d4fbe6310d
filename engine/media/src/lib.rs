//! Plain data of Braidcast: what an asset is made of and how it is laid out.
//!
//! Nothing here opens a socket, reads a clock or draws a random number. The
//! layouts are those of `proto/PROTOCOL.md`; disk and wire are the same bytes.
//!
//! - [`layout`]: sizes, and where a chunk of a stream stands
//! - [`chunk`]: sealing and opening one chunk
//! - [`seal`]: a file turned into the extents of a pack
//! - [`pack`]: a pack's header, and a pack written so that it appears whole
//! - [`frames`]: the frame index and the key-frame index
//! - [`hashes`]: the two hash lists and what vouches for them
//! - [`library_id`]: which library packs belong to
//! - [`ticket`]: what a master gives a client to greet one server with
#![forbid(unsafe_code)]

pub mod chunk;
pub mod frames;
pub mod hashes;
pub mod ids;
pub mod layout;
pub mod library_id;
pub mod pack;
pub mod seal;
pub mod ticket;

pub use chunk::{ContentKey, Opener, Sealer};
pub use ids::{AssetId, ChunkNo, ExtentNo, Run, StreamId};
pub use layout::{PackLayout, StreamLayout};
pub use library_id::{LibraryId, LibraryIdError};
