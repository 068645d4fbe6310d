//! What other threads leave for a shard. Every queue is bounded and taken without a lock.

use std::net::SocketAddr;

use braidcast_io::Waker;
use braidcast_media::AssetId;
use braidcast_transport::limits::PULL_BYTES;
use crossbeam::queue::ArrayQueue;

use crate::limits::{AWAITED_MAX, FORWARDED_MAX};

/// One shard's mailbox.
pub(crate) struct Mailbox {
    waker: Waker,
    forwarded: ArrayQueue<Forwarded>,
    warmed: ArrayQueue<Warmed>,
}

/// A PULL that reached a shard other than the one that made its handle.
pub(crate) struct Forwarded {
    pub(crate) from: SocketAddr,
    pub(crate) pull: [u8; PULL_BYTES],
}

/// A helper is done with an extent.
#[derive(Clone, Copy)]
pub(crate) struct Warmed {
    pub(crate) asset: AssetId,
    pub(crate) extent: u32,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker) -> Self {
        Self { waker, forwarded: ArrayQueue::new(FORWARDED_MAX), warmed: ArrayQueue::new(AWAITED_MAX) }
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Leaves a PULL; says whether there was room.
    pub(crate) fn forward(&self, forwarded: Forwarded) -> bool {
        let taken = self.forwarded.push(forwarded).is_ok();
        self.waker.wake();
        taken
    }

    /// Tells that an extent that this shard asked for is done.
    ///
    /// # Panics
    /// If more extents are done than a shard may ask for at a time.
    pub(crate) fn on_warmed(&self, warmed: Warmed) {
        assert!(self.warmed.push(warmed).is_ok(), "a shard awaits at most {AWAITED_MAX} extents");
        self.waker.wake();
    }

    pub(crate) fn poll_forwarded(&self) -> Option<Forwarded> {
        self.forwarded.pop()
    }

    pub(crate) fn poll_warmed(&self) -> Option<Warmed> {
        self.warmed.pop()
    }
}
