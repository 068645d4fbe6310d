//! A rate that all shards of a server keep to together, without a lock.
//!
//! Each shard has a share of it for each session that it serves, on a virtual clock of its own that runs ahead by the
//! time that each answer takes at that share (the generic cell rate algorithm, ITU-T I.371, annex A). A second clock,
//! common to all, tells what the shards leave: any of them may borrow it (as classes do in a hierarchical token
//! bucket: tc-htb(8)).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::limits::{TOTAL_RATE_BURST, TOTAL_RATE_SPARE_AFTER};

/// The rate and what all shards have taken of it.
#[derive(Debug)]
pub(crate) struct TotalRate {
    bytes_s: u64,
    start: Instant,
    /// When all that was taken will have left at that rate, in nanoseconds from `start`.
    busy_until_ns: AtomicU64,
    /// Sessions of all shards that have asked lately.
    sessions: AtomicU64,
    /// Those of them that wait.
    waiting: AtomicU64,
}

impl TotalRate {
    /// At most `bytes_s` bytes a second; at least 1.
    pub(crate) fn new(bytes_s: u64) -> Self {
        let [busy_until_ns, sessions, waiting] = [0, 0, 0].map(AtomicU64::new);
        Self { bytes_s: bytes_s.max(1), start: Instant::now(), busy_until_ns, sessions, waiting }
    }

    /// How long `bytes` take when nothing else is sent.
    fn time_of(&self, bytes: u64) -> Duration {
        Duration::from_nanos((u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_s)) as u64)
    }
}

/// What one shard may take of a [`TotalRate`].
#[derive(Debug)]
pub(crate) struct Share {
    rate: Arc<TotalRate>,
    /// Sessions of this shard that have asked lately.
    sessions: u64,
    waiting: u64,
    /// When what this shard has taken of its own will have left, in nanoseconds from the rate's start.
    busy_until_ns: u64,
}

impl Share {
    /// The share of a shard without sessions.
    pub(crate) fn new(rate: Arc<TotalRate>) -> Self {
        Self { rate, sessions: 0, waiting: 0, busy_until_ns: 0 }
    }

    /// Sessions that have a share here, and those that wait.
    #[cfg(test)]
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.sessions, self.waiting)
    }

    /// Sets for how many sessions the shard is to have a share, and how many of them wait.
    pub(crate) fn set_sessions(&mut self, sessions: u64, waiting: u64) {
        change(&self.rate.sessions, &mut self.sessions, sessions);
        change(&self.rate.waiting, &mut self.waiting, waiting);
    }

    /// How long `bytes` take one of the sessions that wait.
    pub(crate) fn time_for_one(&self, bytes: u64) -> Duration {
        self.rate.time_of(bytes.saturating_mul(self.waiting_of_all()))
    }

    /// How long `bytes` take this shard beside the others that wait.
    pub(crate) fn time_for_all(&self, bytes: u64) -> Duration {
        self.rate.time_of(bytes.saturating_mul(self.waiting_of_all()) / self.waiting.max(1))
    }

    /// How long `bytes` take at the share of this shard.
    fn time_of(&self, bytes: u64) -> Duration {
        self.rate.time_of(bytes.saturating_mul(self.sessions_of_all()) / self.sessions.max(1))
    }

    /// Takes the time that `bytes` need.
    ///
    /// # Errors
    /// When to ask again: nothing is taken.
    pub(crate) fn take(&mut self, now: Instant, bytes: u64) -> Result<(), Instant> {
        let now_ns = ns(now.saturating_duration_since(self.rate.start));
        let earliest_ns = now_ns.saturating_sub(ns(TOTAL_RATE_BURST));
        let needed_ns = ns(self.rate.time_of(bytes));
        let busy_until = &self.rate.busy_until_ns;
        let take = |before: u64| Some(before.max(earliest_ns).saturating_add(needed_ns));
        let own_ns = self.busy_until_ns.max(earliest_ns);
        if own_ns <= now_ns {
            self.busy_until_ns = own_ns.saturating_add(ns(self.time_of(bytes)));
            let _ = busy_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            return Ok(());
        }
        // Others are given the time to wake for what is theirs.
        let spare_from_ns = |before: u64| before.saturating_add(ns(TOTAL_RATE_SPARE_AFTER));
        let borrow = |before| take(before).filter(|_| spare_from_ns(before) <= now_ns);
        match busy_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, borrow) {
            Ok(_) => Ok(()),
            Err(before) => Err(self.rate.start + Duration::from_nanos(own_ns.min(spare_from_ns(before)))),
        }
    }

    fn sessions_of_all(&self) -> u64 {
        self.rate.sessions.load(Ordering::Relaxed).max(self.sessions).max(1)
    }

    fn waiting_of_all(&self) -> u64 {
        self.rate.waiting.load(Ordering::Relaxed).max(self.waiting).max(1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set_sessions(0, 0);
    }
}

/// Changes a shard's own part of a sum over all shards.
fn change(sum: &AtomicU64, own: &mut u64, to: u64) {
    // Most often nothing has changed, and the sum lies in other cores' caches, too.
    if to != *own {
        // Wraps where it gets less, and back with it.
        sum.fetch_add(to.wrapping_sub(*own), Ordering::Relaxed);
        *own = to;
    }
}

fn ns(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Bytes that each of `shards` takes in a second when it asks for `bytes` at a time, each `every`, as often as it is
    /// let, of 1,000,000 in all.
    fn taken(shards: &[(u64, u64, Duration)]) -> Vec<u64> {
        let rate = Arc::new(TotalRate::new(1_000_000));
        let mut taken: Vec<_> = shards.iter().map(|_| (Share::new(Arc::clone(&rate)), 0)).collect();
        for ((share, _), &(sessions, ..)) in taken.iter_mut().zip(shards) {
            share.set_sessions(sessions, sessions);
        }
        for tick in 0..10_000 {
            let now = rate.start + MS * tick / 10;
            for ((share, total), &(_, bytes, every)) in taken.iter_mut().zip(shards) {
                let looks = (MS * tick / 10).as_nanos().is_multiple_of(every.as_nanos());
                while looks && share.take(now, bytes).is_ok() {
                    *total += bytes;
                }
            }
        }
        let all: u64 = taken.iter().map(|(_, total)| total).sum();
        let bursts = 1_000_000 * (TOTAL_RATE_BURST * shards.len() as u32).as_millis() as u64 / 1_000;
        assert!((980_000..=1_000_000 + bursts).contains(&all), "{all} of 1,000,000");
        taken.into_iter().map(|(_, total)| total).collect()
    }

    fn assert_near(taken: &[u64], shares: &[u64]) {
        let near = |(&taken, &share): (&u64, &u64)| taken.abs_diff(share) <= 40_000;
        assert!(taken.iter().zip(shares).all(near), "{taken:?}, not {shares:?}");
    }

    #[test]
    fn shards_share_by_sessions_however_long_their_answers_are_and_however_seldom_they_look() {
        let often = MS / 10;
        assert_near(&taken(&[(1, 1_000, often), (1, 100, often)]), &[500_000; 2]);
        assert_near(&taken(&[(3, 100, often), (1, 1_000, often)]), &[750_000, 250_000]);
        assert_near(&taken(&[(1, 1_000, often), (1, 1_000, MS * 4)]), &[500_000; 2]);
    }

    #[test]
    fn what_a_shard_leaves_others_may_take() {
        let often = MS / 10;
        // 1,000 bytes each 10 ms.
        assert_near(&taken(&[(1, 1_000, often), (1, 1_000, Duration::from_secs(2))]), &[990_000, 10_000]);
        let rate = Arc::new(TotalRate::new(1_000_000));
        let [mut asks, mut rests] = [0; 2].map(|_| Share::new(Arc::clone(&rate)));
        asks.set_sessions(1, 1);
        rests.set_sessions(9, 0);
        drop(rests);
        assert_eq!(asks.time_of(1_000), MS, "who is gone has no share");
    }

    #[test]
    fn who_is_not_let_hears_when_it_will_be() {
        let rate = Arc::new(TotalRate::new(1_000_000));
        let mut share = Share::new(Arc::clone(&rate));
        share.set_sessions(1, 1);
        let now = rate.start + MS * 100;
        while share.take(now, 1_000).is_ok() {}
        let due = share.take(now, 1_000).expect_err("all was taken");
        assert!(due > now && due <= now + MS, "{:?}", due - now);
        assert_eq!(share.take(due, 1_000), Ok(()));
    }
}
