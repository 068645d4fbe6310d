//! Which heals are under way, and who is asked next. Pure: `now` is passed in.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use braidcast_media::AssetId;

use crate::healing::condition::Request;
use crate::limits::{HEAL_FAILED_MAX, HEAL_ORIGIN_RETRY, HEAL_RETRY, HEAL_SAME_SERVER_AFTER, HEALS_MAX, PUSH_IDLE_MAX};

/// The heals of a master.
#[derive(Default)]
pub(crate) struct Heals {
    active: HashMap<AssetId, Heal>,
    failed: HashMap<AssetId, Failures>,
}

/// How a heal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Healed,
    /// The server sent nothing, or nothing of use.
    ServerFailed,
    /// The origin's disk did not take what the server sent, which is not the server's fault.
    OriginFailed,
}

/// One asset that a server was ordered to send.
struct Heal {
    server_id: String,
    request: Request,
    ordered_at: Instant,
    /// The server has begun to send; how long that may take is bounded by its call.
    is_claimed: bool,
}

/// The heals of an asset that failed.
#[derive(Default)]
struct Failures {
    /// Servers that failed, at most [`HEAL_FAILED_MAX`], and when each last did.
    servers: HashMap<String, Instant>,
    /// Nothing of this asset is asked for before this.
    next: Option<Instant>,
}

impl Heals {
    /// Whether a heal of `asset` is under way.
    pub(crate) fn is_active(&self, asset: AssetId) -> bool {
        self.active.contains_key(&asset)
    }

    /// Whether as many heals are under way as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.active.len() >= HEALS_MAX
    }

    /// Which of `holders` is asked for `asset` now. `None`: nobody, because too much is under way, because the last heal
    /// failed a moment ago, or because there is nobody else.
    pub(crate) fn choose(&self, now: Instant, asset: AssetId, holders: &[String]) -> Option<String> {
        if self.is_full() || self.is_active(asset) {
            return None;
        }
        let Some(Failures { servers, next }) = self.failed.get(&asset) else {
            return holders.first().cloned();
        };
        if next.is_some_and(|next| now < next) {
            return None;
        }
        // One that has not failed comes first, then the one that failed longest ago.
        let chosen = holders.iter().min_by_key(|holder| servers.get(*holder))?;
        let may_try = servers.get(chosen).is_none_or(|at| now >= *at + HEAL_SAME_SERVER_AFTER);
        may_try.then(|| chosen.clone())
    }

    /// `server_id` was ordered to send what `request` says.
    pub(crate) fn begin(&mut self, now: Instant, asset: AssetId, server_id: String, request: Request) {
        self.active.insert(asset, Heal { server_id, request, ordered_at: now, is_claimed: false });
    }

    /// What `server_id` was asked to send of `asset`; only once.
    pub(crate) fn claim(&mut self, asset: AssetId, server_id: &str) -> Option<Request> {
        let heal = self.active.get_mut(&asset).filter(|heal| heal.server_id == server_id && !heal.is_claimed)?;
        heal.is_claimed = true;
        Some(heal.request.clone())
    }

    /// The push of `asset` has ended.
    pub(crate) fn end(&mut self, now: Instant, asset: AssetId, outcome: Outcome) {
        let Some(heal) = self.active.remove(&asset) else { return };
        if outcome == Outcome::Healed {
            self.failed.remove(&asset);
            return;
        }
        let failures = self.failed.entry(asset).or_default();
        if outcome == Outcome::OriginFailed {
            failures.next = Some(now + HEAL_ORIGIN_RETRY);
            return;
        }
        failures.next = Some(now + HEAL_RETRY);
        if failures.servers.len() < HEAL_FAILED_MAX || failures.servers.contains_key(&heal.server_id) {
            failures.servers.insert(heal.server_id, now);
        }
    }

    /// Gives up the heals whose servers have not begun to send in time; says whose those are.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(AssetId, String)> {
        let late = |heal: &Heal| !heal.is_claimed && now >= heal.ordered_at + PUSH_IDLE_MAX;
        let late: Vec<_> = self
            .active
            .iter()
            .filter(|(_, heal)| late(heal))
            .map(|(asset, heal)| (*asset, heal.server_id.clone()))
            .collect();
        for (asset, _) in &late {
            self.end(now, *asset, Outcome::ServerFailed);
        }
        late
    }

    /// Forgets the failures of assets that are not among `unsound` any more.
    pub(crate) fn retain(&mut self, unsound: &HashSet<AssetId>) {
        self.failed.retain(|asset, _| unsound.contains(asset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSET: AssetId = AssetId(1);

    fn request() -> Request {
        Request { is_whole: false, header: true, extents: vec![] }
    }

    fn holders(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn only_the_server_that_was_asked_may_push_and_only_once() {
        let (mut heals, now) = (Heals::default(), Instant::now());
        assert_eq!(heals.claim(ASSET, "s1"), None);
        heals.begin(now, ASSET, "s1".to_owned(), request());
        assert_eq!(heals.claim(ASSET, "s2"), None);
        assert_eq!(heals.claim(AssetId(2), "s1"), None);
        assert_eq!(heals.claim(ASSET, "s1"), Some(request()));
        assert_eq!(heals.claim(ASSET, "s1"), None);
    }

    #[test]
    fn after_a_failure_another_server_is_asked_and_the_same_one_only_much_later() {
        let (mut heals, now) = (Heals::default(), Instant::now());
        let both = holders(&["s1", "s2"]);
        assert_eq!(heals.choose(now, ASSET, &both).as_deref(), Some("s1"));
        heals.begin(now, ASSET, "s1".to_owned(), request());
        assert_eq!(heals.choose(now, ASSET, &both), None, "one at a time");
        heals.end(now, ASSET, Outcome::ServerFailed);
        assert_eq!(heals.choose(now, ASSET, &both), None);
        assert_eq!(heals.choose(now + HEAL_RETRY, ASSET, &both).as_deref(), Some("s2"));
        let alone = holders(&["s1"]);
        assert_eq!(heals.choose(now + HEAL_RETRY, ASSET, &alone), None);
        assert_eq!(heals.choose(now + HEAL_SAME_SERVER_AFTER, ASSET, &alone).as_deref(), Some("s1"));
        heals.retain(&HashSet::new());
        assert_eq!(heals.choose(now, ASSET, &alone).as_deref(), Some("s1"), "it was sound in between");
    }

    #[test]
    fn a_third_server_is_asked_before_two_that_failed_are_asked_again() {
        let (mut heals, start) = (Heals::default(), Instant::now());
        let all = holders(&["s1", "s2", "s3"]);
        let mut asked = Vec::new();
        for turn in 0..3 {
            let now = start + turn * HEAL_RETRY;
            asked.push(heals.choose(now, ASSET, &all).expect("one that has not failed"));
            heals.begin(now, ASSET, asked[turn as usize].clone(), request());
            heals.end(now, ASSET, Outcome::ServerFailed);
        }
        assert_eq!(asked, all);
        assert_eq!(heals.choose(start + 3 * HEAL_RETRY, ASSET, &all), None);
        let later = start + HEAL_SAME_SERVER_AFTER;
        assert_eq!(heals.choose(later, ASSET, &all).as_deref(), Some("s1"), "it failed longest ago");
    }

    #[test]
    fn what_the_origins_disk_refuses_is_not_charged_to_the_server() {
        let (mut heals, now) = (Heals::default(), Instant::now());
        let alone = holders(&["s1"]);
        heals.begin(now, ASSET, "s1".to_owned(), request());
        heals.end(now, ASSET, Outcome::OriginFailed);
        assert_eq!(heals.choose(now + HEAL_RETRY, ASSET, &alone), None);
        assert_eq!(heals.choose(now + HEAL_ORIGIN_RETRY, ASSET, &alone).as_deref(), Some("s1"));
    }

    #[test]
    fn heals_are_bounded() {
        let (mut heals, now) = (Heals::default(), Instant::now());
        let holders = holders(&["s1"]);
        for asset in 0..HEALS_MAX as u64 {
            assert!(heals.choose(now, AssetId(asset), &holders).is_some());
            heals.begin(now, AssetId(asset), "s1".to_owned(), request());
        }
        assert_eq!(heals.choose(now, AssetId(999), &holders), None);
        heals.end(now, AssetId(0), Outcome::Healed);
        assert!(heals.choose(now, AssetId(999), &holders).is_some());
    }

    #[test]
    fn a_server_that_does_not_begin_to_send_is_given_up() {
        let (mut heals, now) = (Heals::default(), Instant::now());
        heals.begin(now, ASSET, "s1".to_owned(), request());
        heals.begin(now, AssetId(2), "s1".to_owned(), request());
        heals.claim(AssetId(2), "s1");
        assert!(heals.expire(now + PUSH_IDLE_MAX - std::time::Duration::from_millis(1)).is_empty());
        assert_eq!(heals.expire(now + PUSH_IDLE_MAX), [(ASSET, "s1".to_owned())]);
        assert!(heals.is_active(AssetId(2)) && !heals.is_active(ASSET));
    }
}
