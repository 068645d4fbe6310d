//! What a start does about packs that have no row, and rows that have no pack.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use braidcast_media::AssetId;
use braidcast_media::pack::PARTIAL_SUFFIX;

use super::place::pack_of_row;
use super::{Origin, PACK_SUFFIX, pack_asset};
use crate::identity::Rows;
use crate::state_dir::{StateError, at};

impl Origin {
    /// Removes packs that are half written, and whole ones that a person removed (`is_removed`). A whole pack that the
    /// database does not know otherwise becomes an orphan; an orphan that it knows again is taken back. So is the very
    /// pack of a row that has none, under whichever of these names it stands. Other files are left alone. Gives the
    /// assets in `rows` that have no pack.
    pub(crate) fn sweep(
        &self,
        rows: &Rows,
        is_removed: impl Fn(AssetId) -> bool,
    ) -> Result<HashSet<AssetId>, StateError> {
        let mut missing: HashSet<AssetId> = rows.keys().copied().collect();
        let mut unknown = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(at(&self.dir))? {
            let path = entry.map_err(at(&self.dir))?.path();
            if is_partial(&path) {
                fs::remove_file(&path).map_err(at(&path))?;
                tracing::info!(path = %path.display(), "removed what an interrupted publish left behind");
                continue;
            }
            let Some(asset) = pack_asset(&path) else { continue };
            if !missing.remove(&asset) {
                unknown.push((asset, path));
            }
        }
        for (asset, path) in unknown {
            // One that cannot be read is nobody's that could be told.
            let pack_of = pack_of_row(&path, &|asset| rows.get(&asset).copied()).unwrap_or_default();
            match pack_of {
                Some(other) if missing.contains(&other) || is_removed(asset) => self.set_aside(&path, other),
                _ if is_removed(asset) => {
                    fs::remove_file(&path).map_err(at(&path))?;
                    tracing::info!(path = %path.display(), "removed the pack of a video that was removed");
                }
                _ => self.set_aside(&path, asset),
            }
        }
        missing.retain(|asset| !self.take_back(*asset, rows));
        Ok(missing)
    }

    /// Moves a pack of `asset` out of the way. One that cannot be moved harms nobody where it is.
    fn set_aside(&self, from: &Path, asset: AssetId) {
        match self.make_orphan(from, asset) {
            Ok(to) => tracing::warn!(
                path = %to.display(),
                "a pack whose name the database does not know was moved here; `braidcast orphans` lists such packs"
            ),
            Err(error) => tracing::error!(path = %from.display(), %error, "an unknown pack cannot be moved to orphans"),
        }
    }

    /// Takes an orphan back whose row is there again; tells whether the asset has its pack now.
    fn take_back(&self, asset: AssetId, rows: &Rows) -> bool {
        let Some(hash) = rows.get(&asset) else { return false };
        let (taken, to) = (self.reclaim(asset, hash), self.path(asset));
        match &taken {
            Ok(true) => tracing::info!(path = %to.display(), "took back a pack that the database knows again"),
            Ok(false) => {}
            Err(error) => tracing::error!(path = %to.display(), %error, "an orphan cannot be taken back"),
        }
        taken.unwrap_or(false)
    }
}

fn is_partial(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.ends_with(&format!("{PACK_SUFFIX}.{PARTIAL_SUFFIX}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::tests::{origin, write_pack};

    #[test]
    fn a_start_removes_partial_packs_and_what_a_person_removed_and_nothing_else() {
        let (dir, origin) = origin();
        let (kept, unknown, removed, missing) = (AssetId(1), AssetId(2), AssetId(3), AssetId(4));
        let hash = write_pack(&origin.path(kept), kept);
        for asset in [unknown, removed] {
            write_pack(&origin.path(asset), asset);
        }
        let partial = dir.path().join(format!("{missing}.pack.partial"));
        let foreign = ["notes.partial", "2.pack", "library-id"].map(|name| dir.path().join(name));
        for path in foreign.iter().chain([&partial]) {
            fs::write(path, "x").expect("written");
        }
        let rows = Rows::from([(kept, hash), (missing, [0; 32])]);
        let lost = origin.sweep(&rows, |asset| asset == removed).expect("sweeps");
        assert_eq!(lost, HashSet::from([missing]));
        assert!(origin.path(kept).exists() && foreign.iter().all(|path| path.exists()));
        assert!(!partial.exists() && !origin.path(removed).exists() && !origin.orphan_path(removed).exists());
        assert!(!origin.path(unknown).exists() && origin.orphan_path(unknown).exists());
    }

    #[test]
    fn a_pack_that_stands_under_the_name_of_a_removed_or_unknown_asset_goes_home_or_is_kept() {
        let (_dir, origin) = origin();
        let (lost, sound, removed, unknown) = (AssetId(1), AssetId(2), AssetId(3), AssetId(4));
        let rows = Rows::from([
            (lost, write_pack(&origin.path(unknown), lost)),
            (sound, write_pack(&origin.path(sound), sound)),
        ]);
        fs::copy(origin.path(sound), origin.path(removed)).expect("copied");
        let pack = fs::read(origin.path(sound)).expect("read");
        assert_eq!(origin.sweep(&rows, |asset| asset == removed).expect("sweeps"), HashSet::new());
        assert!(origin.path(lost).exists() && !origin.path(unknown).exists());
        assert_eq!(fs::read(origin.orphan_path(sound)).expect("no copy is deleted"), pack);
    }

    #[test]
    fn an_orphan_comes_back_with_its_row_and_only_under_its_own_header() {
        let (_dir, origin) = origin();
        let (ours, other) = (AssetId(1), AssetId(2));
        let hash = write_pack(&origin.path(ours), ours);
        write_pack(&origin.path(other), other);
        assert_eq!(origin.sweep(&Rows::new(), |_| false).expect("sweeps"), HashSet::new());
        let rows = Rows::from([(ours, hash), (other, [9; 32])]);
        assert_eq!(origin.sweep(&rows, |_| false).expect("sweeps"), HashSet::from([other]));
        assert!(origin.path(ours).exists() && !origin.orphan_path(ours).exists());
        assert!(!origin.path(other).exists() && origin.orphan_path(other).exists());
    }

    #[test]
    fn a_broken_pack_never_takes_the_place_of_an_orphan_that_is_whole() {
        let (_dir, origin) = origin();
        let asset = AssetId(1);
        let hash = write_pack(&origin.path(asset), asset);
        origin.sweep(&Rows::new(), |_| false).expect("makes an orphan");
        let whole = fs::read(origin.orphan_path(asset)).expect("the orphan");
        fs::write(origin.path(asset), &whole[..whole.len() / 2]).expect("a copy that was cut short");
        origin.sweep(&Rows::new(), |_| false).expect("makes another");
        assert_eq!(origin.orphan_paths(asset).len(), 2);
        assert_eq!(origin.orphans().expect("lists").1, 2);
        origin.sweep(&Rows::from([(asset, hash)]), |_| false).expect("takes the whole one back");
        assert_eq!(fs::read(origin.path(asset)).expect("it is back"), whole);
        fs::rename(origin.path(asset), origin.orphan_path(asset)).expect("away again");
        let bytes = whole.len() + whole.len() / 2;
        assert_eq!(origin.remove_orphan(asset).expect("removes both"), Some(bytes as u64));
        assert!(origin.orphan_paths(asset).is_empty());
    }
}
