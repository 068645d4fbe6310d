//! What stands in the state folder when a server starts.

use std::collections::HashMap;
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
pub(super) fn take_in(folder: &Folder, open_packs: &Arc<OpenPacks>) -> io::Result<HashMap<AssetId, Entry>> {
    let mut entries = HashMap::new();
    let mut misnamed = Vec::new();
    for (asset, stage) in folder.packs()? {
        match open_pack(folder, open_packs, asset, stage) {
            Ok(pack) => drop(entries.insert(asset, Entry::found(pack, stage))),
            // Out of the way at first: of two files that were swapped each has the other's name.
            Err(PackFault::OtherAsset { found }) => {
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
