//! Numbers that must not be mixed up.

use std::fmt;
use std::str::FromStr;

use crate::layout::CHUNKS_PER_EXTENT;

/// One version of a published video; drawn at random by the master.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AssetId(pub u64);

impl fmt::Display for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssetId({self})")
    }
}

impl FromStr for AssetId {
    type Err = std::num::ParseIntError;

    fn from_str(hex: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(hex, 16).map(Self)
    }
}

/// Which stream of an asset (PROTOCOL.md, section 1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamId(pub u8);

impl StreamId {
    /// The published file, byte for byte.
    pub const ORIGINAL: Self = Self(0);
    /// The frame index.
    pub const FRAMES: Self = Self(1);
    /// The key-frame index.
    pub const KEY_FRAMES: Self = Self(2);
    /// BLAKE3 of every plain extent of the other streams.
    pub const PLAIN_HASHES: Self = Self(3);
    /// Access units end to end, where the original does not keep them contiguous.
    pub const ACCESS_UNITS: Self = Self(4);
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of a chunk within its stream, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ChunkNo(pub u32);

impl ChunkNo {
    /// The extent that holds this chunk.
    pub const fn extent(self) -> ExtentNo {
        ExtentNo(self.0 / CHUNKS_PER_EXTENT)
    }

    /// Place of this chunk in its extent, 0 to 255.
    pub const fn index_in_extent(self) -> usize {
        (self.0 % CHUNKS_PER_EXTENT) as usize
    }
}

impl fmt::Display for ChunkNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of an extent within its stream, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ExtentNo(pub u32);

impl ExtentNo {
    /// The first chunk of this extent.
    ///
    /// # Panics
    /// If the extent lies beyond 32-bit chunk numbers; no [`crate::StreamLayout`] has such an extent.
    pub const fn first_chunk(self) -> ChunkNo {
        assert!(self.0 <= u32::MAX / CHUNKS_PER_EXTENT);
        ChunkNo(self.0 * CHUNKS_PER_EXTENT)
    }
}

impl fmt::Display for ExtentNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Consecutive chunks of one stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Run {
    /// The first chunk.
    pub first: ChunkNo,
    /// How many chunks; a run on the wire holds at least one.
    pub count: u16,
}

impl Run {
    /// A run of `count` chunks from `first`.
    pub const fn new(first: u32, count: u16) -> Self {
        Self { first: ChunkNo(first), count }
    }

    /// The chunk numbers of the run, in order.
    pub fn chunks(self) -> impl Iterator<Item = ChunkNo> {
        let first = u64::from(self.first.0);
        (first..first + u64::from(self.count)).map_while(|n| u32::try_from(n).ok()).map(ChunkNo)
    }

    /// One past the last chunk; 64 bits because a hostile run may reach past 32.
    pub const fn end(self) -> u64 {
        self.first.0 as u64 + self.count as u64
    }
}
