//! What happens to copies that the master does not want any more, or that turn out to be of no use.
//!
//! A whole copy may be the last one in the world. It is deleted only because a person removed the video, or to make room
//! for a copy that the master wants. What was whole and is of no use as it stands is set aside.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use braidcast_media::AssetId;
use braidcast_proto::v1::{DropReason, Refusal};
use tracing::{error, info, warn};

use super::guard::{Guard, TooMuch};
use super::opening::owner;
use super::{Entry, Keeper, open_pack};
use crate::folder::{Aside, Stage};
use crate::limits;
use crate::pack::{Pack, PackFault};

/// What protects copies from wrong orders.
#[derive(Debug, Default)]
pub(super) struct Protection {
    pub(super) guard: Guard,
    /// Orders that were not followed, and that the master has not been told of yet.
    refusals: Vec<Refusal>,
    /// Files that were set aside, and how many bytes each takes on the disk.
    pub(super) aside: BTreeMap<Aside, u64>,
    /// The master has not been told on this stream how many those are.
    aside_untold: bool,
}

impl Protection {
    /// With the files that an earlier process has set aside.
    pub(super) fn with_aside(aside: BTreeMap<Aside, u64>) -> Self {
        Self { aside, ..Self::default() }
    }

    /// Bytes of the files that were set aside.
    pub(super) fn aside_bytes(&self) -> u64 {
        self.aside.values().sum()
    }

    /// What an operator is told of the copies that were set aside; nothing if there are none.
    pub(super) fn aside_line(&self, dir: &Path) -> Option<String> {
        let (copies, bytes) = (self.aside.len(), self.aside_bytes());
        (copies > 0).then(|| {
            format!(
                "{copies} copies of {bytes} bytes stand aside in {}: each was damaged, or its name was another's; they go \
                 when room is needed, so move away what you want to keep",
                dir.display()
            )
        })
    }

    /// Notes, for the next report, that an order about `asset` was not followed.
    pub(super) fn refuse(&mut self, asset: AssetId, reason: String) {
        if self.refusals.iter().any(|refusal| refusal.asset == asset.0 && refusal.reason == reason) {
            return;
        }
        warn!(%asset, reason, "an order of the master was not followed, to protect a copy");
        if self.refusals.len() < limits::REFUSALS_MAX {
            self.refusals.push(Refusal { asset: asset.0, reason });
        }
    }
}

/// What a server does with an order to drop a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// A person removed the video.
    Delete,
    /// Only a part is lost, if the guard allows it.
    DeleteIfAllowed,
    /// The copy is served until its room is needed.
    Spare,
    /// The copy is whole, and nobody says why it is to go.
    Refuse,
}

fn judge(reason: DropReason, is_whole: bool) -> Verdict {
    match (reason, is_whole) {
        (DropReason::Removed, _) => Verdict::Delete,
        (DropReason::Surplus, true) => Verdict::Spare,
        (DropReason::Unspecified, true) => Verdict::Refuse,
        (DropReason::Surplus | DropReason::Unspecified, false) => Verdict::DeleteIfAllowed,
    }
}

impl Keeper {
    /// Follows the master's order to drop the copy of `asset`, as far as `reason` allows it.
    pub(crate) fn drop_asset(&self, asset: AssetId, reason: DropReason) {
        let mut entries = self.lock();
        let is_whole = entries.get(&asset).and_then(|entry| entry.pack.as_ref()).is_some_and(|pack| pack.is_whole());
        match judge(reason, is_whole) {
            Verdict::Delete => {
                self.delete(&mut entries, asset);
                self.delete_aside_of(asset);
                info!(%asset, "dropped, because the video was removed");
            }
            Verdict::DeleteIfAllowed => self.delete_part(&mut entries, asset),
            Verdict::Spare => {
                if let Some(entry) = entries.get_mut(&asset).filter(|entry| entry.spare.is_none()) {
                    entry.spare = Some(Instant::now());
                    entry.order = None;
                    info!(%asset, "other servers hold it often enough; it is served here until its room is needed");
                }
            }
            Verdict::Refuse => {
                let reason = "the master ordered a whole copy to be dropped and did not say why; the copy is kept";
                self.protection().refuse(asset, reason.to_owned());
            }
        }
        self.on_change(asset);
    }

    /// A heartbeat begins: the master says anew which copies are spare, and hears anew what stands aside.
    pub(crate) fn on_heartbeat(&self) {
        for entry in self.lock().values_mut() {
            entry.spare = None;
        }
        self.protection().aside_untold = true;
    }

    /// Orders that were not followed and that the master has not been told of, as many as a report takes.
    pub(crate) fn take_refusals(&self) -> Vec<Refusal> {
        let mut protection = self.protection();
        // The first of a report: the master shows the last one, which is about an order if there was any.
        let untold = std::mem::take(&mut protection.aside_untold);
        let aside = if untold { protection.aside_line(&self.folder.aside_dir()) } else { None };
        let aside = aside.map(|reason| Refusal { asset: NO_ASSET, reason });
        let refusals = &mut protection.refusals;
        let count = refusals.len().min(limits::REPORT_REFUSALS_MAX);
        aside.into_iter().chain(refusals.drain(..count)).collect()
    }

    /// `pack` could not be used. If its file is of no use any more, it is filled anew; see [`Keeper::on_ruined`].
    pub(crate) fn on_fault(self: &Arc<Self>, pack: &Arc<Pack>, fault: &PackFault) {
        if fault.is_ruin() || !pack.has_its_length() {
            self.on_ruined(pack);
        }
    }

    /// The file of `pack` may be of no use any more. If it was cut short or its header has changed, a copy that was
    /// whole is set aside, and the pack is filled anew. A file that cannot be read just now is left as it is.
    pub(crate) fn on_ruined(self: &Arc<Self>, pack: &Arc<Pack>) {
        let Some(stage) = self.lock().get(&pack.asset()).filter(|entry| entry.has(pack)).map(|entry| entry.stage)
        else {
            return;
        };
        match open_pack(&self.folder, &self.open_packs, pack.asset(), stage) {
            Ok(found) if found.header_hash() == pack.header_hash() => return,
            Err(fault) if !fault.is_ruin() => {
                warn!(asset = %pack.asset(), %fault, "a pack cannot be read just now; it is kept");
                return;
            }
            Ok(_) | Err(_) => {}
        }
        let mut entries = self.lock();
        let stands = |entry: &&mut Entry| entry.has(pack) && entry.stage == stage;
        if let Some(entry) = entries.get_mut(&pack.asset()).filter(stands) {
            warn!(asset = %pack.asset(), "the pack's file was damaged from outside; filling it anew");
            entry.stop_fill();
            self.put_away(pack.asset(), entry);
            self.go_on_filling(entry);
            self.on_change(pack.asset());
        }
    }

    /// Takes a pack out of service whose file cannot be filled further: a copy that was whole is set aside, a part is
    /// deleted.
    pub(super) fn put_away(&self, asset: AssetId, entry: &mut Entry) {
        let was_whole = entry.stage == Stage::Whole;
        self.take_down(asset, entry);
        if was_whole {
            self.set_aside(asset);
        } else if let Err(error) = self.folder.remove_pack(asset) {
            error!(%asset, %error, "cannot remove a part of a pack from the state folder");
        }
    }

    /// Takes a pack off the shelf. Sends under way keep the pages that they refer to.
    fn take_down(&self, asset: AssetId, entry: &mut Entry) {
        if let Some(pack) = entry.pack.take() {
            pack.retire();
            self.used_bytes.fetch_sub(pack.layout().disk_bytes(), Ordering::Relaxed);
        }
        entry.stage = Stage::Filling;
        entry.checked = false;
        entry.spare = None;
        self.shelf.update(|catalogue| drop(catalogue.packs.remove(&asset)));
    }

    fn set_aside(&self, asset: AssetId) {
        // The file may have been exchanged for that of another asset: an order to remove this one is none for that.
        let owner = match open_pack(&self.folder, &self.open_packs, asset, Stage::Whole) {
            Err(PackFault::OtherAsset { found }) => {
                owner(asset, found, self.folder.pack_path(found, Stage::Whole).exists())
            }
            Ok(_) | Err(_) => asset,
        };
        match self.folder.set_aside(asset, Stage::Whole, owner) {
            Ok((aside, bytes)) => {
                warn!(%asset, ?aside, dir = %self.folder.aside_dir().display(), "set a copy aside");
                let mut protection = self.protection();
                protection.aside.insert(aside, bytes);
                protection.aside_untold = true;
            }
            // Somebody deleted the file.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => error!(%asset, %error, "cannot set a damaged copy aside"),
        }
    }

    fn delete_part(&self, entries: &mut HashMap<AssetId, Entry>, asset: AssetId) {
        let Some(entry) = entries.get(&asset) else { return };
        let bytes = entry.disk_bytes();
        if let Err(refused) = self.allow(&[bytes]) {
            return self.protection().refuse(asset, format!("the part of a copy is kept: {refused}"));
        }
        self.delete(entries, asset);
        info!(%asset, "dropped what was held of it");
    }

    /// Asks the guard whether copies of these sizes may be deleted, all of them or none.
    pub(super) fn allow(&self, sizes: &[u64]) -> Result<(), TooMuch> {
        let mut protection = self.protection();
        let held = self.used_bytes().saturating_add(protection.aside_bytes());
        protection.guard.allow(Instant::now(), sizes, held)
    }

    /// Deletes the copy of `asset`, whole or not.
    pub(super) fn delete(&self, entries: &mut HashMap<AssetId, Entry>, asset: AssetId) {
        let Some(mut entry) = entries.remove(&asset) else { return };
        entry.stop_fill();
        self.take_down(asset, &mut entry);
        if let Err(error) = self.folder.remove_pack(asset) {
            error!(%asset, %error, "cannot remove a pack from the state folder");
        }
        self.on_change(asset);
    }

    /// Deletes the copies of `asset` that were set aside.
    fn delete_aside_of(&self, asset: AssetId) {
        let of_asset: Vec<Aside> =
            self.protection().aside.keys().filter(|aside| aside.asset == asset).copied().collect();
        for aside in of_asset {
            self.delete_aside(aside);
        }
    }

    /// Deletes a copy that was set aside.
    pub(super) fn delete_aside(&self, aside: Aside) {
        if self.protection().aside.remove(&aside).is_none() {
            return;
        }
        if let Err(error) = self.folder.remove_aside(aside) {
            error!(?aside, %error, "cannot remove a pack that was set aside");
        }
    }
}

/// The asset of a refusal that is about none: its reason says it all.
const NO_ASSET: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_copy_is_deleted_only_if_the_video_was_removed() {
        assert_eq!(judge(DropReason::Removed, true), Verdict::Delete);
        assert_eq!(judge(DropReason::Surplus, true), Verdict::Spare);
        assert_eq!(judge(DropReason::Unspecified, true), Verdict::Refuse);
    }

    #[test]
    fn a_part_is_deleted_but_without_a_removal_the_guard_is_asked() {
        assert_eq!(judge(DropReason::Removed, false), Verdict::Delete);
        assert_eq!(judge(DropReason::Surplus, false), Verdict::DeleteIfAllowed);
        assert_eq!(judge(DropReason::Unspecified, false), Verdict::DeleteIfAllowed);
    }

    #[test]
    fn refusals_are_bounded_and_told_once_each() {
        let mut protection = Protection::default();
        for asset in 0..2 * limits::REFUSALS_MAX as u64 {
            protection.refuse(AssetId(asset), "why".to_owned());
            protection.refuse(AssetId(asset), "why".to_owned());
        }
        assert_eq!(protection.refusals.len(), limits::REFUSALS_MAX);
    }
}
