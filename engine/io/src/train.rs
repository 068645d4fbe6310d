//! What one send carries.

use std::io;
use std::net::SocketAddr;

use arrayvec::ArrayVec;

use crate::limits::{REGIONS_PER_TRAIN_MAX, SENDFILE_BYTES_MIN, TAIL_BYTES_MAX, TRAIN_BYTES_MAX};
use crate::mapped::Region;

/// Up to eight file regions and a short tail for one destination, in one send, which the kernel cuts into datagrams
/// of the socket's segment size:
/// ```text
/// | region 0            | region 1   | ... | tail |
/// | segment | segment | segment | segment | short |
/// ```
/// The tail is a datagram of its own only if the regions together are a multiple of the segment size.
#[derive(Debug, Clone)]
pub struct Train {
    to: SocketAddr,
    regions: ArrayVec<Region, REGIONS_PER_TRAIN_MAX>,
    tail: ArrayVec<u8, TAIL_BYTES_MAX>,
    bytes: usize,
    /// To be sent packet by packet, whatever the destination's record says.
    pub(crate) plain: bool,
    /// To be copied by the kernel, even where others are read by the network card.
    pub(crate) copied: bool,
    /// Bytes sent already; only packet by packet does this stop halfway.
    pub(crate) sent_bytes: usize,
}

/// A piece of a train.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    Region(&'a Region),
    Bytes(&'a [u8]),
}

impl Part<'_> {
    /// Address and length, for the kernel alone.
    pub(crate) fn raw(self) -> (*const u8, usize) {
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
        Self {
            to,
            regions: ArrayVec::new(),
            tail: ArrayVec::new(),
            bytes: 0,
            plain: false,
            copied: false,
            sent_bytes: 0,
        }
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
        if self.regions.is_full() && self.tail.is_empty() {
            return Err(TrainError::TooManyRegions);
        }
        self.grow(region.len())?;
        self.regions.push(region);
        Ok(())
    }

    /// Adds the last bytes.
    ///
    /// # Errors
    /// [`TrainError::TailLength`], [`TrainError::TooLong`], [`TrainError::AfterTail`]; the train is as before.
    pub fn push_tail(&mut self, bytes: &[u8]) -> Result<(), TrainError> {
        let Some(tail) = ArrayVec::try_from(bytes).ok().filter(|tail| !tail.is_empty()) else {
            return Err(TrainError::TailLength { bytes: bytes.len() });
        };
        self.grow(bytes.len())?;
        self.tail = tail;
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
        &self.tail
    }

    /// The regions in order.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter()
    }

    /// Whether all regions are long enough to be sent by reference; no if there is none.
    pub(crate) fn has_long_regions(&self) -> bool {
        !self.regions.is_empty() && self.regions.iter().all(|region| region.len() >= SENDFILE_BYTES_MIN)
    }

    /// Takes the regions away, each once `send` has sent it.
    ///
    /// # Errors
    /// The first of `send`; its region is still there.
    pub(crate) fn take_regions(&mut self, mut send: impl FnMut(&Region) -> io::Result<()>) -> io::Result<()> {
        while let Some(region) = self.regions.first() {
            send(region)?;
            self.bytes -= region.len();
            self.regions.remove(0);
        }
        Ok(())
    }

    /// The regions and the tail.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let tail = (!self.tail.is_empty()).then_some(Part::Bytes(&self.tail));
        self.regions.iter().map(Part::Region).chain(tail)
    }

    fn grow(&mut self, by: usize) -> Result<(), TrainError> {
        if !self.tail.is_empty() {
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
