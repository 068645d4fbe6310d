//! Whole packs that the database does not know: kept apart until a person decides.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use braidcast_media::AssetId;
use braidcast_media::hashes::Hash;
use braidcast_media::pack::sync_parent;

use super::place::{is_there, numbered, pack_of_row};
use super::{Origin, PACK_SUFFIX, pack_asset};
use crate::errors::ServiceError;
use crate::limits::{ASIDE_NAMES_MAX, ORPHANS_LISTED};

/// Folder of the origin where they stand.
const ORPHANS: &str = "orphans";

/// A pack that the database does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    /// The asset that its name says.
    pub(crate) asset: AssetId,
    /// Its length.
    pub(crate) bytes: u64,
    /// When it was written, as a Unix time in seconds.
    pub(crate) written_at: u64,
}

impl Origin {
    /// Where the pack of `asset` stands while the database does not know it.
    pub(super) fn orphan_path(&self, asset: AssetId) -> PathBuf {
        self.orphans_dir().join(format!("{asset}{PACK_SUFFIX}"))
    }

    /// The packs of `asset` among the orphans: the first has the pack's own name, further ones a number behind it.
    pub(super) fn orphan_paths(&self, asset: AssetId) -> Vec<PathBuf> {
        let first = self.orphan_path(asset);
        let further = (1..ASIDE_NAMES_MAX).map(|number| numbered(&first, number)).take_while(|path| is_there(path));
        Some(first.clone()).filter(|path| is_there(path)).into_iter().chain(further).collect()
    }

    fn orphans_dir(&self) -> PathBuf {
        self.dir.join(ORPHANS)
    }

    pub(super) fn make_orphans_dir(&self) -> io::Result<()> {
        let dir = self.orphans_dir();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        sync_parent(&dir)
    }

    /// The orphans in the order of their assets, the first [`ORPHANS_LISTED`] of them, and how many there are.
    pub(crate) fn orphans(&self) -> Result<(Vec<Orphan>, usize), ServiceError> {
        let dir = self.orphans_dir();
        let at = |source| ServiceError::Io { path: dir.clone(), source };
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
            entries => entries.map_err(at)?,
        };
        let mut orphans = Vec::new();
        for entry in entries {
            let entry = entry.map_err(at)?;
            let Some(asset) = orphan_asset(&entry.path()) else { continue };
            let metadata = entry.metadata().map_err(at)?;
            let modified = metadata.modified().map_err(at)?;
            let written_at = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            orphans.push(Orphan { asset, bytes: metadata.len(), written_at });
        }
        let total = orphans.len();
        orphans.sort_unstable_by_key(|orphan| orphan.asset);
        orphans.truncate(ORPHANS_LISTED);
        Ok((orphans, total))
    }

    /// The asset whose pack may stand among the orphans of `asset`: that asset itself, or one whose row `wants` the header
    /// that one of these files begins with, if that asset `needs` it.
    pub(crate) fn orphan_needed_by(
        &self,
        asset: AssetId,
        needs: &dyn Fn(AssetId) -> bool,
        wants: &dyn Fn(AssetId) -> Option<Hash>,
    ) -> Result<Option<AssetId>, ServiceError> {
        if needs(asset) {
            return Ok(Some(asset));
        }
        for path in self.orphan_paths(asset) {
            let other = pack_of_row(&path, wants).map_err(|source| ServiceError::Io { path, source })?;
            if let Some(other) = other.filter(|other| needs(*other)) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// Whether there is an orphan of `asset`.
    pub(crate) fn has_orphan(&self, asset: AssetId) -> bool {
        !self.orphan_paths(asset).is_empty()
    }

    /// Deletes the orphans of an asset, as a person has asked; gives their length, and `None` if there is none.
    pub(crate) fn remove_orphan(&self, asset: AssetId) -> Result<Option<u64>, ServiceError> {
        self.check_in_place().map_err(|_| ServiceError::OriginGone { path: self.dir.clone() })?;
        let mut removed = None;
        // The last number goes first: what is left is found again if this is interrupted.
        for path in self.orphan_paths(asset).into_iter().rev() {
            let remove = || {
                let bytes = fs::metadata(&path)?.len();
                fs::remove_file(&path)?;
                sync_parent(&path)?;
                Ok::<u64, io::Error>(bytes)
            };
            let bytes = remove().map_err(|source| ServiceError::Io { path: path.clone(), source })?;
            removed = Some(removed.unwrap_or(0) + bytes);
        }
        Ok(removed)
    }
}

/// The asset of the orphan at `path`, if it has an orphan's name.
fn orphan_asset(path: &Path) -> Option<AssetId> {
    let is_number = path.extension().is_some_and(|end| end.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    if is_number { pack_asset(&path.with_extension("")) } else { pack_asset(path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Rows;
    use crate::origin::tests::{origin, write_pack};

    #[test]
    fn orphans_are_listed_and_removed_one_by_one() {
        let (_dir, origin) = origin();
        assert_eq!(origin.orphans().expect("no folder yet"), (Vec::new(), 0));
        for asset in [AssetId(2), AssetId(1)] {
            write_pack(&origin.path(asset), asset);
        }
        origin.sweep(&Rows::new(), |_| false).expect("sweeps");
        let (orphans, total) = origin.orphans().expect("lists");
        assert_eq!(orphans.iter().map(|orphan| orphan.asset).collect::<Vec<_>>(), [AssetId(1), AssetId(2)]);
        assert!(total == 2 && orphans.iter().all(|orphan| orphan.bytes > 0 && orphan.written_at > 0));
        assert_eq!(origin.remove_orphan(AssetId(1)).expect("removes"), Some(orphans[0].bytes));
        assert_eq!(origin.remove_orphan(AssetId(1)).expect("is gone"), None);
        assert_eq!(origin.orphans().expect("lists").1, 1);
    }
}
