//! Assets whose durable copy somebody has reason to doubt, and that are checked at once.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Instant;

use braidcast_media::AssetId;
use tokio::sync::Notify;

use crate::limits::{SUSPECT_PAUSE, SUSPECTS_MAX};
use crate::sync::lock;

/// A queue of assets to check. An asset that was checked a moment ago is not checked again: its servers may repeat
/// themselves.
#[derive(Default)]
pub(crate) struct Suspicions {
    queue: Mutex<Queue>,
    added: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<AssetId>,
    /// When each was last suspected.
    seen: HashMap<AssetId, Instant>,
}

impl Suspicions {
    /// Has the durable copy of `asset` checked, unless that was done a moment ago.
    pub(crate) fn suspect(&self, now: Instant, asset: AssetId) {
        if self.is_due(now, asset) {
            lock(&self.queue).waiting.push_back(asset);
            self.added.notify_one();
        }
    }

    /// Whether `asset` may be checked now; the next check is due after [`SUSPECT_PAUSE`].
    pub(crate) fn is_due(&self, now: Instant, asset: AssetId) -> bool {
        let mut queue = lock(&self.queue);
        let recent = |at: &Instant| now.saturating_duration_since(*at) < SUSPECT_PAUSE;
        if queue.seen.get(&asset).is_some_and(recent) {
            return false;
        }
        if queue.seen.len() >= SUSPECTS_MAX {
            queue.seen.retain(|_, at| recent(at));
        }
        if queue.seen.len() >= SUSPECTS_MAX {
            // Whoever suspects it will say so again.
            return false;
        }
        queue.seen.insert(asset, now);
        true
    }

    /// Waits for the next asset to check.
    pub(crate) async fn next(&self) -> AssetId {
        loop {
            if let Some(asset) = lock(&self.queue).waiting.pop_front() {
                return asset;
            }
            self.added.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_is_due_again_after_a_pause() {
        let (suspicions, now) = (Suspicions::default(), Instant::now());
        assert!(suspicions.is_due(now, AssetId(1)));
        assert!(suspicions.is_due(now, AssetId(2)));
        assert!(!suspicions.is_due(now + SUSPECT_PAUSE / 2, AssetId(1)));
        assert!(suspicions.is_due(now + SUSPECT_PAUSE, AssetId(1)));
    }

    #[test]
    fn a_flood_of_suspicions_is_bounded() {
        let (suspicions, now) = (Suspicions::default(), Instant::now());
        for asset in 0..2 * SUSPECTS_MAX as u64 {
            suspicions.suspect(now, AssetId(asset));
        }
        assert_eq!(lock(&suspicions.queue).waiting.len(), SUSPECTS_MAX);
        assert!(suspicions.is_due(now + SUSPECT_PAUSE, AssetId(u64::MAX)));
    }

    #[tokio::test]
    async fn what_is_suspected_is_given_in_turn() {
        let suspicions = Suspicions::default();
        for asset in [1, 2, 1] {
            suspicions.suspect(Instant::now(), AssetId(asset));
        }
        assert_eq!((suspicions.next().await, suspicions.next().await), (AssetId(1), AssetId(2)));
    }
}
