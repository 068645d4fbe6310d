//! Whether the origin's folder is still the one that the master started with.
//!
//! A disk can be unmounted, or vanish, while the master runs. What is written after that lands in the folder that the
//! disk was mounted on, fills another disk, and is hidden as soon as the origin's disk is mounted again.

use std::io;

use braidcast_media::LibraryId;

use super::Origin;
use crate::identity::{self, ORIGIN_FILE};
use crate::state_dir::FileId;
use crate::sync::lock;

/// The folder that the master started with.
#[derive(Debug)]
pub(super) struct Anchor {
    /// Whose packs it holds.
    library: LibraryId,
    folder: FileId,
}

/// Another folder stands in the place of the origin's.
#[derive(Debug, thiserror::Error)]
#[error("not the folder that the master started with: mount the origin's disk there again")]
pub(crate) struct NotInPlace;

impl Origin {
    /// Takes the folder that is there now for that of `library`: another one is refused from now on.
    ///
    /// # Errors
    /// The folder is not there.
    pub(crate) fn anchor(&self, library: LibraryId) -> io::Result<()> {
        *lock(&self.anchor) = Some(Anchor { library, folder: FileId::at(&self.dir)? });
        Ok(())
    }

    /// Looks whether the folder is still the one that the master started with. A disk that is mounted anew may have
    /// another number: then the file with the library's id tells.
    ///
    /// # Errors
    /// It is another one, or none: [`NotInPlace`].
    pub(crate) fn check_in_place(&self) -> io::Result<()> {
        let mut anchor = lock(&self.anchor);
        // Before the start is through, and in `braidcast restore`, no folder is known yet.
        let Some(anchor) = anchor.as_mut() else { return Ok(()) };
        let not_in_place = || io::Error::other(NotInPlace);
        let found = FileId::at(&self.dir).map_err(|_| not_in_place())?;
        if found != anchor.folder {
            match identity::read(&self.dir.join(ORIGIN_FILE)) {
                Ok(Some(library)) if library == anchor.library => anchor.folder = found,
                _ => return Err(not_in_place()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use braidcast_media::library_id::LIBRARY_ID_BYTES;
    use braidcast_media::{AssetId, PackLayout};

    use super::*;
    use crate::errors::ServiceError;
    use crate::origin::place::Place;
    use crate::origin::tests::write_pack;

    const OURS: LibraryId = LibraryId([1; LIBRARY_ID_BYTES]);
    const OTHER: LibraryId = LibraryId([2; LIBRARY_ID_BYTES]);

    fn names(dir: &Path) -> Vec<std::ffi::OsString> {
        fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect()
    }

    /// A disk that is unmounted leaves another folder in its place; one that is mounted anew may have another number.
    #[test]
    fn nothing_is_written_to_a_folder_in_the_origins_place_until_it_is_back() {
        let parent = tempfile::tempdir().expect("temporary folder");
        let (dir, away) = (parent.path().join("origin"), parent.path().join("away"));
        fs::create_dir(&dir).expect("made");
        identity::write(&dir.join(ORIGIN_FILE), OURS).expect("written");
        let (origin, asset) = (Origin::new(dir.clone()), AssetId(1));
        let hash = write_pack(&origin.path(asset), asset);
        origin.anchor(OURS).expect("it is there");
        let layout = || PackLayout::of_file(1_000).expect("short");

        fs::rename(&dir, &away).expect("away");
        for put in ["nothing", "an empty folder", "another library's"] {
            if put == "an empty folder" {
                fs::create_dir(&dir).expect("made");
            } else if put == "another library's" {
                identity::write(&dir.join(ORIGIN_FILE), OTHER).expect("written");
            }
            let refused = origin.create(AssetId(2), layout()).expect_err("not in place");
            assert!(matches!(&refused, ServiceError::OriginGone { path } if *path == dir), "{put}: {refused}");
            assert!(origin.check_room(1).is_err() && origin.mark(asset).is_err(), "{put}");
            assert!(origin.place(asset, &hash).is_err() && origin.make_way(asset, &hash).is_err(), "{put}");
            assert!(origin.reclaim(asset, &hash).is_err() && origin.remove_orphan(asset).is_err(), "{put}");
            origin.remove(asset);
        }
        assert_eq!(names(&dir), [ORIGIN_FILE]);

        fs::remove_dir_all(&dir).expect("removed");
        fs::rename(&away, &dir).expect("back");
        assert!(
            matches!(origin.place(asset, &hash), Ok(Place::Own(_))),
            "what was removed meanwhile is swept at the next start"
        );

        // The same library in a folder with another number.
        fs::rename(&dir, &away).expect("away");
        fs::create_dir(&dir).expect("made");
        for name in names(&away) {
            fs::copy(away.join(&name), dir.join(&name)).expect("copied");
        }
        assert!(origin.create(AssetId(2), layout()).is_ok());
    }
}
