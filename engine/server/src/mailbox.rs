//! What helpers leave for a shard, in a bounded queue that is taken without a lock.

use braidcast_io::Waker;
use braidcast_media::AssetId;
use crossbeam::queue::ArrayQueue;

use crate::limits::AWAITED_MAX;

/// One shard's mailbox.
pub(crate) struct Mailbox {
    waker: Waker,
    warmed: ArrayQueue<Warmed>,
}

/// A helper is done with an extent.
#[derive(Clone, Copy)]
pub(crate) struct Warmed {
    pub(crate) asset: AssetId,
    pub(crate) extent: u32,
    /// The pack could not be opened: whoever waits is told to ask again later.
    pub(crate) failed: bool,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker) -> Self {
        Self { waker, warmed: ArrayQueue::new(AWAITED_MAX) }
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Tells that an extent that this shard asked for is done.
    ///
    /// # Panics
    /// If more extents are done than a shard may ask for at a time.
    pub(crate) fn on_warmed(&self, warmed: Warmed) {
        assert!(self.warmed.push(warmed).is_ok(), "a shard awaits at most {AWAITED_MAX} extents");
        self.waker.wake();
    }

    pub(crate) fn poll_warmed(&self) -> Option<Warmed> {
        self.warmed.pop()
    }
}
