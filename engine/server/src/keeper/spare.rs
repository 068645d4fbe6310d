//! When a copy that is held more often than is wanted may go.
//!
//! Until it does it may be the last one: the origin or another server can lose its own after the master called this one
//! spare. So the master has time to ask for it again, and none goes while the master cannot.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use braidcast_media::AssetId;

use super::{Entry, Keeper};

/// The heartbeat stream stands for as long as this lives.
pub(crate) struct Heard(Arc<Keeper>);

impl Drop for Heard {
    fn drop(&mut self) {
        self.0.is_heard.store(false, Ordering::Release);
    }
}

/// Keeps a copy from being deleted to make room, because the origin is being healed from it.
#[derive(Debug)]
pub(crate) struct Pin {
    _of_entry: Arc<()>,
}

impl Keeper {
    /// The master accepted the heartbeat stream.
    pub(crate) fn on_heard(self: &Arc<Self>) -> Heard {
        self.is_heard.store(true, Ordering::Release);
        Heard(Arc::clone(self))
    }

    /// Pins the copy of `asset`, if there is one. If it is spare, the time for which it must have been begins anew.
    pub(crate) fn pin(&self, asset: AssetId) -> Option<Pin> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&asset)?;
        entry.spare = entry.spare.map(|_| Instant::now());
        Some(Pin { _of_entry: Arc::clone(&entry.pins) })
    }

    /// Whether spare copies may go at all.
    pub(super) fn is_heard(&self) -> bool {
        self.is_heard.load(Ordering::Acquire)
    }
}

impl Entry {
    /// Whether the copy, if it is spare, may go now.
    pub(super) fn may_go(&self, now: Instant, spare_for: Duration) -> bool {
        let is_pinned = Arc::strong_count(&self.pins) > 1;
        !is_pinned && self.spare.is_some_and(|since| now.saturating_duration_since(since) >= spare_for)
    }
}
