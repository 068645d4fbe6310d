//! Marks beside packs that were found unsound: a start must not take such a pack for sound because its length and
//! header are right.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use braidcast_media::AssetId;
use braidcast_media::pack::sync_parent;

use super::{Origin, pack_asset};
use crate::state_dir::{StateError, at};

/// Suffix of a mark, after the name of its pack.
const UNSOUND: &str = "unsound";

impl Origin {
    /// Marks the pack of `asset` as unsound, durably.
    pub(crate) fn mark(&self, asset: AssetId) -> io::Result<()> {
        self.check_in_place()?;
        let path = self.mark_path(asset);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(_) => sync_parent(&path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes the mark away, if there is one.
    pub(crate) fn unmark(&self, asset: AssetId) -> io::Result<()> {
        let path = self.mark_path(asset);
        match fs::remove_file(&path) {
            Ok(()) => sync_parent(&path),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The assets whose packs are marked.
    pub(crate) fn marked(&self) -> Result<Vec<AssetId>, StateError> {
        let mut marked = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(at(&self.dir))? {
            let path = entry.map_err(at(&self.dir))?.path();
            if path.extension().is_some_and(|suffix| suffix == UNSOUND) {
                marked.extend(pack_asset(&path.with_extension("")));
            }
        }
        Ok(marked)
    }

    fn mark_path(&self, asset: AssetId) -> PathBuf {
        self.path(asset).with_added_extension(UNSOUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::tests::{origin, write_pack};

    #[test]
    fn a_mark_stays_until_it_is_taken_away_or_its_pack_is_removed() {
        let (dir, origin) = origin();
        let (one, two) = (AssetId(1), AssetId(2));
        write_pack(&origin.path(one), one);
        fs::write(dir.path().join("notes.unsound"), "x").expect("written");
        for asset in [one, one, two] {
            origin.mark(asset).expect("marks");
        }
        let mut marked = origin.marked().expect("reads");
        marked.sort_unstable();
        assert_eq!(marked, [one, two]);
        origin.unmark(two).expect("takes it away");
        origin.unmark(two).expect("there is none");
        assert_eq!(origin.marked().expect("reads"), [one]);
        origin.remove(one);
        assert_eq!(origin.marked().expect("reads"), []);
    }
}
