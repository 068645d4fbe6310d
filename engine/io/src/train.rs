//! What one send carries.

use std::net::SocketAddr;

use crate::limits::{REGIONS_PER_TRAIN_MAX, TAIL_BYTES_MAX, TRAIN_BYTES_MAX};
use crate::mapped::Region;

/// Up to eight file regions and a short tail for one destination, in one send, which the kernel cuts into datagrams
/// of the socket's segment size:
/// ```text
/// | region 0            | region 1   | ... | tail |
/// | segment | segment | segment | segment | short |
/// ```
/// The tail is a datagram of its own only if the regions together are a multiple of the segment size.
#[derive(Debug)]
pub struct Train {
    to: SocketAddr,
    parts: Vec<Part>,
    bytes: usize,
    has_tail: bool,
    /// To be sent packet by packet, whatever the destination's record says.
    pub(crate) plain: bool,
    /// Bytes sent already; only packet by packet does this stop halfway.
    pub(crate) sent_bytes: usize,
}

/// A piece of memory that the kernel reads. Its address stays the same when the value is moved.
#[derive(Debug)]
pub(crate) enum Part {
    Region(Region),
    Bytes(Box<[u8]>),
}

impl Part {
    /// Address and length, for the kernel alone.
    pub(crate) fn raw(&self) -> (*const u8, usize) {
        match self {
            Self::Region(region) => (region.address(), region.len()),
            Self::Bytes(bytes) => (bytes.as_ptr(), bytes.len()),
        }
    }
}

/// A train cannot take more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    /// There are as many regions as one send takes.
    #[error("a train takes at most {REGIONS_PER_TRAIN_MAX} regions")]
    TooManyRegions,
    /// It would not fit into one send.
    #[error("a train of {bytes} bytes is longer than the {TRAIN_BYTES_MAX} that one send can carry")]
    TooLong {
        /// Its length with the piece that was to be added.
        bytes: usize,
    },
    /// A tail is for small packets.
    #[error("a tail holds 1 to {TAIL_BYTES_MAX} bytes, not {bytes}")]
    TailLength {
        /// Its length.
        bytes: usize,
    },
    /// The tail is the end.
    #[error("nothing can follow the tail of a train")]
    AfterTail,
}

impl Train {
    /// An empty train. Pushing it into an outbox is allowed and sends nothing.
    pub fn new(to: SocketAddr) -> Self {
        Self { to, parts: Vec::new(), bytes: 0, has_tail: false, plain: false, sent_bytes: 0 }
    }

    /// One datagram.
    ///
    /// # Errors
    /// [`TrainError::TailLength`].
    pub fn datagram(to: SocketAddr, bytes: &[u8]) -> Result<Self, TrainError> {
        let mut train = Self::new(to);
        train.push_tail(bytes)?;
        Ok(train)
    }

    /// Adds file bytes.
    ///
    /// # Errors
    /// [`TrainError::TooManyRegions`], [`TrainError::TooLong`], [`TrainError::AfterTail`]; the train is as before.
    pub fn push_region(&mut self, region: Region) -> Result<(), TrainError> {
        if self.parts.len() == REGIONS_PER_TRAIN_MAX {
            return Err(if self.has_tail { TrainError::AfterTail } else { TrainError::TooManyRegions });
        }
        self.grow(region.len())?;
        self.parts.push(Part::Region(region));
        Ok(())
    }

    /// Adds the last bytes.
    ///
    /// # Errors
    /// [`TrainError::TailLength`], [`TrainError::TooLong`], [`TrainError::AfterTail`]; the train is as before.
    pub fn push_tail(&mut self, bytes: &[u8]) -> Result<(), TrainError> {
        if bytes.is_empty() || bytes.len() > TAIL_BYTES_MAX {
            return Err(TrainError::TailLength { bytes: bytes.len() });
        }
        self.grow(bytes.len())?;
        self.parts.push(Part::Bytes(bytes.into()));
        self.has_tail = true;
        Ok(())
    }

    /// Destination.
    pub fn to(&self) -> SocketAddr {
        self.to
    }

    /// Length of all pieces in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The tail, or an empty slice.
    pub fn tail(&self) -> &[u8] {
        match self.parts.last() {
            Some(Part::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }

    /// The regions in order.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.parts.iter().filter_map(|part| match part {
            Part::Region(region) => Some(region),
            Part::Bytes(_) => None,
        })
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Lends the pieces to a ring, which gives them back with [`Train::put_parts`].
    pub(crate) fn take_parts(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts)
    }

    pub(crate) fn put_parts(&mut self, parts: Vec<Part>) {
        self.parts = parts;
    }

    fn grow(&mut self, by: usize) -> Result<(), TrainError> {
        if self.has_tail {
            return Err(TrainError::AfterTail);
        }
        let bytes = self.bytes.saturating_add(by);
        if bytes > TRAIN_BYTES_MAX {
            return Err(TrainError::TooLong { bytes });
        }
        self.bytes = bytes;
        Ok(())
    }
}
