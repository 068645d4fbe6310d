//! Room for what the master wants held: which copies go for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use braidcast_media::AssetId;
use tracing::info;

use super::{Entry, Keeper};
use crate::fill::FillError;
use crate::folder::Aside;
use crate::order::Order;

/// What a fill needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// Bytes of the capacity.
    capacity: u64,
    /// Bytes that will be written.
    disk: u64,
    /// The disk took no more, whatever it says is free: at least one copy has to go.
    is_refused: bool,
}

impl Need {
    /// What a pack of so many bytes needs that is not begun yet.
    pub(super) fn of_new(bytes: u64) -> Self {
        Self { capacity: bytes, disk: bytes, is_refused: false }
    }

    /// How many bytes have to become free beside those that the disk has, and how many of them for the capacity. `left`: of
    /// the capacity.
    fn short(self, left: Option<u64>, free: u64) -> (u64, u64) {
        let over_capacity = left.map_or(0, |left| self.capacity.saturating_sub(left));
        (over_capacity.max(self.disk.saturating_sub(free)).max(self.is_refused.into()), over_capacity)
    }
}

/// A copy that may be deleted to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// Of no use as it stands.
    Aside(Aside),
    /// Held more often than is wanted.
    Spare(AssetId),
}

/// The copies to delete so that `short` bytes become free, in the order in which they go: first what was set aside,
/// then spare copies, the one first that has been spare for longest. `None` if all of them are not enough.
fn victims(short: u64, candidates: &[(Victim, u64)]) -> Option<Vec<(Victim, u64)>> {
    let (mut picked, mut freed) = (Vec::new(), 0_u64);
    for &(victim, bytes) in candidates {
        if freed >= short {
            break;
        }
        freed = freed.saturating_add(bytes);
        picked.push((victim, bytes));
    }
    (freed >= short).then_some(picked)
}

/// The smallest copy that is enough by itself.
fn single_victim(short: u64, candidates: &[(Victim, u64)]) -> Option<(Victim, u64)> {
    candidates.iter().filter(|(_, bytes)| *bytes >= short).min_by_key(|(_, bytes)| *bytes).copied()
}

/// What may be deleted, in the order in which it goes.
fn candidates(aside: &BTreeMap<Aside, u64>, mut spare: Vec<(Instant, AssetId, u64)>) -> Vec<(Victim, u64)> {
    spare.sort_unstable();
    let aside = aside.iter().map(|(aside, bytes)| (Victim::Aside(*aside), *bytes));
    aside.chain(spare.into_iter().map(|(_, asset, bytes)| (Victim::Spare(asset), bytes))).collect()
}

impl Keeper {
    /// Bytes of packs that this server can still take. Copies that go when room is needed count as free.
    pub(crate) fn free_bytes(&self) -> u64 {
        let entries = self.lock();
        let (used, spare) = (self.used_bytes(), spare_bytes(&entries));
        drop(entries);
        let on_disk = self.folder.free_bytes().unwrap_or(0);
        let on_disk = on_disk.saturating_add(spare).saturating_add(self.protection().aside_bytes());
        match self.bounds.capacity_bytes {
            Some(capacity) => capacity.saturating_sub(used.saturating_sub(spare)).min(on_disk),
            None => on_disk,
        }
    }

    /// The disk refused to take more of the pack that `order` asks for: makes room for the rest of it, or says why there is
    /// none. What goes is never in vain: the fill goes on at once.
    pub(crate) fn on_disk_full(&self, order: &Arc<Order>) -> Result<(), FillError> {
        let mut entries = self.lock();
        let entry = entries.get(&order.asset).filter(|entry| entry.stands(order));
        let disk = entry.and_then(|entry| entry.pack.as_ref()).map_or(0, |pack| pack.missing_bytes());
        self.make_room(&mut entries, order.asset, Need { capacity: 0, disk, is_refused: true })
    }

    /// Makes room for what the pack of `wanted` needs, or says why there is none.
    pub(super) fn make_room(
        &self,
        entries: &mut HashMap<AssetId, Entry>,
        wanted: AssetId,
        need: Need,
    ) -> Result<(), FillError> {
        let used = self.used_bytes();
        let taken = used.saturating_add(self.protection().aside_bytes());
        let path = self.folder.path();
        let free = self.folder.free_bytes().map_err(|error| FillError::disk(path, error.into()))?;
        let left = self.bounds.capacity_bytes.map(|capacity| capacity.saturating_sub(taken));
        let (short, over_capacity) = need.short(left, free);
        if short == 0 {
            return Ok(());
        }
        let candidates = |may_go: &dyn Fn(&Entry) -> bool| {
            let spare = entries.iter().filter(|(asset, entry)| **asset != wanted && may_go(entry));
            let spare = spare.filter_map(|(asset, entry)| Some((entry.spare?, *asset, entry.disk_bytes())));
            candidates(&self.protection().aside, spare.collect())
        };
        if victims(short, &candidates(&|_| true)).is_none() {
            return Err(match self.bounds.capacity_bytes {
                Some(capacity) if over_capacity > 0 => FillError::Capacity { needed: need.capacity, used, capacity },
                _ => FillError::DiskFull { path: path.to_owned(), needed: need.disk, free },
            });
        }
        let (now, spare_for) = (Instant::now(), self.bounds.spare_for);
        let candidates = candidates(&|entry| entry.may_go(now, spare_for));
        let Some(victims) = victims(short, &candidates).filter(|_| self.is_heard()) else {
            return Err(FillError::TooEarly { asset: wanted, seconds: spare_for.as_secs() });
        };
        for (victim, bytes) in self.allowed(wanted, short, victims, &candidates)? {
            match victim {
                Victim::Aside(aside) => self.delete_aside(aside),
                Victim::Spare(asset) => self.delete(entries, asset),
            }
            info!(?victim, bytes, %wanted, "deleted to make room");
        }
        Ok(())
    }

    /// Asks the guard for all of `victims`, so that none goes in vain. One copy a minute may always go: if all are too
    /// much, one that is enough by itself does.
    fn allowed(
        &self,
        wanted: AssetId,
        short: u64,
        victims: Vec<(Victim, u64)>,
        candidates: &[(Victim, u64)],
    ) -> Result<Vec<(Victim, u64)>, FillError> {
        let sizes: Vec<u64> = victims.iter().map(|(_, bytes)| *bytes).collect();
        let Err(refused) = self.allow(&sizes) else { return Ok(victims) };
        match single_victim(short, candidates).filter(|(_, bytes)| self.allow(&[*bytes]).is_ok()) {
            Some(single) => Ok(vec![single]),
            None => {
                let reason = format!("no room was made for it, and another copy is kept: {refused}");
                self.protection().refuse(wanted, reason);
                Err(FillError::Guarded { asset: wanted, refused })
            }
        }
    }
}

fn spare_bytes(entries: &HashMap<AssetId, Entry>) -> u64 {
    entries.values().filter(|entry| entry.spare.is_some()).map(Entry::disk_bytes).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ASIDE: Victim = Victim::Aside(Aside::new(AssetId(9), 0));

    /// 50 bytes that were set aside, and two spare copies of 100, of which the second has been spare for longer.
    fn three_candidates() -> Vec<(Victim, u64)> {
        let start = Instant::now();
        let spare = vec![(start + Duration::from_secs(1), AssetId(1), 100), (start, AssetId(2), 100)];
        candidates(&BTreeMap::from([(Aside::new(AssetId(9), 0), 50)]), spare)
    }

    #[test]
    fn what_was_set_aside_goes_first_and_no_more_goes_than_is_needed() {
        let all = three_candidates();
        let older = (Victim::Spare(AssetId(2)), 100);
        assert_eq!(victims(0, &all), Some(vec![]));
        assert_eq!(victims(50, &all), Some(vec![(ASIDE, 50)]));
        assert_eq!(victims(51, &all), Some(vec![(ASIDE, 50), older]));
    }

    #[test]
    fn nothing_goes_if_all_of_it_would_not_be_enough() {
        let all = three_candidates();
        assert_eq!(victims(250, &all).map(|victims| victims.len()), Some(3));
        assert_eq!(victims(251, &all), None);
    }

    #[test]
    fn a_disk_that_took_no_more_needs_a_copy_to_go_whatever_it_says_is_free() {
        let refused = Need { capacity: 0, disk: 70, is_refused: true };
        assert_eq!(refused.short(None, 100), (1, 0));
        assert_eq!(refused.short(Some(0), 50), (20, 0), "the capacity was counted when the pack was begun");
        let new = Need::of_new(70);
        assert_eq!(new.short(None, 70), (0, 0));
        assert_eq!(new.short(Some(60), 70), (10, 10));
        assert_eq!(new.short(Some(60), 50), (20, 10));
    }

    #[test]
    fn the_smallest_copy_that_is_enough_by_itself_is_found() {
        let all = three_candidates();
        assert_eq!(single_victim(50, &all), Some((ASIDE, 50)));
        assert_eq!(single_victim(51, &all), Some((Victim::Spare(AssetId(2)), 100)));
        assert_eq!(single_victim(101, &all), None);
    }
}
