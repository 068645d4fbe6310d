//! What stands in the state folder when a server starts.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use braidcast_media::AssetId;
use tracing::warn;

use super::{Entry, open_pack};
use crate::folder::{Folder, Stage};
use crate::open_packs::OpenPacks;
use crate::pack::PackFault;

/// Opens every pack in `folder`. A file that is no pack that can be used is set aside if it has the name of a whole one.
/// A sound pack that stands under another asset's name gets its own, if that is free; a person may have swapped files.
/// One whose header's name is damaged is a damaged copy like others ([`owner`]).
pub(super) fn take_in(folder: &Folder, open_packs: &Arc<OpenPacks>) -> io::Result<HashMap<AssetId, Entry>> {
    let mut entries = HashMap::new();
    let mut misnamed = Vec::new();
    let packs = folder.packs()?;
    let names: HashSet<AssetId> = packs.iter().map(|(asset, _)| *asset).collect();
    for (asset, stage) in packs {
        match open_pack(folder, open_packs, asset, stage) {
            Ok(pack) => drop(entries.insert(asset, Entry::found(pack, stage))),
            // Out of the way at first: of two files that were swapped each has the other's name.
            Err(PackFault::OtherAsset { found }) if owner(asset, found, names.contains(&found)) == found => {
                warn!(%asset, %found, "a copy stands under the name of another asset");
                misnamed.push((folder.set_aside(asset, stage, found)?.0, stage));
            }
            Err(fault) if !fault.is_ruin() => {
                warn!(%asset, %fault, "cannot open a pack in the state folder; it is left there");
            }
            Err(fault) if stage == Stage::Whole => {
                warn!(%asset, %fault, "setting a damaged copy aside; it is filled again when the master wants it");
                folder.set_aside(asset, stage, asset)?;
            }
            Err(fault) => {
                warn!(%asset, %fault, "removing a damaged part of a copy; it is filled again when the master wants it");
                folder.remove_pack(asset)?;
            }
        }
    }
    for (aside, stage) in misnamed {
        let asset = aside.asset;
        if !folder.take_back(aside, stage)? {
            warn!(%asset, "its own name is taken: the copy stays aside");
            continue;
        }
        match open_pack(folder, open_packs, asset, stage) {
            Ok(pack) => {
                warn!(%asset, "gave a copy its own name back");
                entries.insert(asset, Entry::found(pack, stage));
            }
            Err(fault) => warn!(%asset, %fault, "cannot open a pack in the state folder; it is left there"),
        }
    }
    Ok(entries)
}

/// Whose copy a file is that stands under the name of `asset` and whose header names `found`. Ids are random: two that
/// differ in one byte are one id, of which a byte is damaged, and the file's name is right. If the other name stands in
/// the folder, too (`is_name`), both are ids, and a person has swapped files.
pub(super) fn owner(asset: AssetId, found: AssetId, is_name: bool) -> AssetId {
    let differ = (asset.0 ^ found.0).to_be_bytes().iter().filter(|byte| **byte != 0).count();
    if differ <= 1 && !is_name { asset } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_names_almost_the_same_asset_is_damaged_and_names_no_other() {
        let (asset, rotten, other) = (AssetId(0x0123_4567_89ab_cdef), AssetId(0x0123_45a8_89ab_cdef), AssetId(7));
        assert_eq!(owner(asset, rotten, false), asset);
        assert_eq!(owner(asset, rotten, true), rotten);
        assert_eq!(owner(asset, other, false), other);
    }
}
