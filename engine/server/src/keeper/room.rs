//! Room for what the master wants held: which copies go for it.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use braidcast_media::AssetId;
use tracing::info;

use super::{Entry, Keeper};
use crate::fill::FillError;

/// A copy that may be deleted to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// Of no use as it stands.
    Aside(AssetId),
    /// Held more often than is wanted.
    Spare(AssetId),
}

/// The copies to delete so that `short` bytes become free, in the order in which they go: first what was set aside,
/// then spare copies, the one first that has been spare for longest. `None` if all of them are not enough.
fn victims(
    short: u64,
    aside: &BTreeMap<AssetId, u64>,
    mut spare: Vec<(Instant, AssetId, u64)>,
) -> Option<Vec<(Victim, u64)>> {
    spare.sort_unstable();
    let aside = aside.iter().map(|(asset, bytes)| (Victim::Aside(*asset), *bytes));
    let spare = spare.into_iter().map(|(_, asset, bytes)| (Victim::Spare(asset), bytes));
    let (mut picked, mut freed) = (Vec::new(), 0_u64);
    for (victim, bytes) in aside.chain(spare) {
        if freed >= short {
            break;
        }
        freed = freed.saturating_add(bytes);
        picked.push((victim, bytes));
    }
    (freed >= short).then_some(picked)
}

impl Keeper {
    /// Bytes of packs that this server can still take. Copies that go when room is needed count as free.
    pub(crate) fn free_bytes(&self) -> u64 {
        let entries = self.lock();
        let (used, spare) = (self.used_bytes(), spare_bytes(&entries));
        drop(entries);
        let on_disk = self.folder.free_bytes().unwrap_or(0);
        let on_disk = on_disk.saturating_add(spare).saturating_add(self.protection().aside_bytes());
        match self.capacity_bytes {
            Some(capacity) => capacity.saturating_sub(used.saturating_sub(spare)).min(on_disk),
            None => on_disk,
        }
    }

    /// Makes room for `needed` bytes of the pack of `wanted`, or says why there is none.
    pub(super) fn make_room(
        &self,
        entries: &mut HashMap<AssetId, Entry>,
        wanted: AssetId,
        needed: u64,
    ) -> Result<(), FillError> {
        let used = self.used_bytes();
        let taken = used.saturating_add(self.protection().aside_bytes());
        let over_capacity =
            self.capacity_bytes.map_or(0, |capacity| needed.saturating_sub(capacity.saturating_sub(taken)));
        let path = self.folder.path();
        let free = self.folder.free_bytes().map_err(|error| FillError::disk(path, error.into()))?;
        let short = over_capacity.max(needed.saturating_sub(free));
        if short == 0 {
            return Ok(());
        }
        let spare = entries.iter().filter(|(asset, _)| **asset != wanted);
        let spare = spare.filter_map(|(asset, entry)| Some((entry.spare?, *asset, entry.disk_bytes()))).collect();
        let Some(victims) = victims(short, &self.protection().aside, spare) else {
            return Err(match self.capacity_bytes {
                Some(capacity) if over_capacity > 0 => FillError::Capacity { needed, used, capacity },
                _ => FillError::DiskFull { path: path.to_owned(), needed, free },
            });
        };
        for (victim, bytes) in victims {
            if let Err(refused) = self.allow(bytes) {
                let asset = wanted;
                self.protection()
                    .refuse(asset, format!("no room was made for it, and another copy is kept: {refused}"));
                return Err(FillError::Guarded { asset, refused });
            }
            match victim {
                Victim::Aside(asset) => self.delete_aside(asset),
                Victim::Spare(asset) => self.delete(entries, asset),
            }
            info!(?victim, bytes, %wanted, "deleted to make room");
        }
        Ok(())
    }
}

fn spare_bytes(entries: &HashMap<AssetId, Entry>) -> u64 {
    entries.values().filter(|entry| entry.spare.is_some()).map(Entry::disk_bytes).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spare(start: Instant) -> Vec<(Instant, AssetId, u64)> {
        // The second has been spare for longer.
        vec![(start + Duration::from_secs(1), AssetId(1), 100), (start, AssetId(2), 100)]
    }

    #[test]
    fn what_was_set_aside_goes_first_and_no_more_goes_than_is_needed() {
        let aside = BTreeMap::from([(AssetId(9), 50)]);
        let start = Instant::now();
        let (aside_copy, older) = ((Victim::Aside(AssetId(9)), 50), (Victim::Spare(AssetId(2)), 100));
        assert_eq!(victims(0, &aside, spare(start)), Some(vec![]));
        assert_eq!(victims(50, &aside, spare(start)), Some(vec![aside_copy]));
        assert_eq!(victims(51, &aside, spare(start)), Some(vec![aside_copy, older]));
    }

    #[test]
    fn nothing_goes_if_all_of_it_would_not_be_enough() {
        let start = Instant::now();
        assert_eq!(victims(200, &BTreeMap::new(), spare(start)).map(|victims| victims.len()), Some(2));
        assert_eq!(victims(201, &BTreeMap::new(), spare(start)), None);
    }
}
