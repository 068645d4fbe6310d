//! Copies that are out of service and kept: `STATE/aside/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use braidcast_media::AssetId;
use braidcast_media::pack::sync_parent;

use super::{Folder, Stage, disk_bytes};

/// A copy that was set aside. Those of one asset are numbered, so that none takes the place of another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Aside {
    pub(crate) asset: AssetId,
    number: u32,
}

impl Aside {
    /// The copy of `asset` that is numbered so.
    pub(crate) const fn new(asset: AssetId, number: u32) -> Self {
        Self { asset, number }
    }

    fn file_name(self) -> String {
        let (asset, suffix) = (self.asset, Stage::Whole.suffix());
        match self.number {
            0 => format!("{asset}.{suffix}"),
            number => format!("{asset}.{number}.{suffix}"),
        }
    }

    /// Reads a name in exactly the form that [`Aside::file_name`] writes.
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let asset = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().unwrap_or(0);
        Some(Self { asset, number }).filter(|aside| aside.file_name() == name)
    }
}

impl Folder {
    /// Where copies stand once they were set aside.
    pub(crate) fn aside_dir(&self) -> PathBuf {
        self.path().join(ASIDE_DIR)
    }

    /// Moves the file of `asset` in `stage` out of service, as a copy of `owner`; says what it is now and how many bytes
    /// it takes on the disk. The folder's lock keeps everyone out who could take the name meanwhile.
    pub(crate) fn set_aside(&self, asset: AssetId, stage: Stage, owner: AssetId) -> io::Result<(Aside, u64)> {
        fs::create_dir_all(self.aside_dir())?;
        for number in 0..=u32::MAX {
            let aside = Aside::new(owner, number);
            let path = self.aside_path(aside);
            if !is_free(&path)? {
                continue;
            }
            fs::rename(self.pack_path(asset, stage), &path)?;
            sync_parent(&path)?;
            return Ok((aside, disk_bytes(&fs::metadata(&path)?)));
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Gives a copy that was set aside the name of its asset's pack in `stage`, unless there is a pack of that asset;
    /// says whether it did.
    pub(crate) fn take_back(&self, aside: Aside, stage: Stage) -> io::Result<bool> {
        for taken in [Stage::Whole, Stage::Filling] {
            if !is_free(&self.pack_path(aside.asset, taken))? {
                return Ok(false);
            }
        }
        let path = self.pack_path(aside.asset, stage);
        fs::rename(self.aside_path(aside), &path)?;
        sync_parent(&path)?;
        Ok(true)
    }

    /// The copies that were set aside, and how many bytes each takes on the disk.
    pub(crate) fn aside(&self) -> io::Result<BTreeMap<Aside, u64>> {
        let entries = match fs::read_dir(self.aside_dir()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let entry = entry?;
            if let Some(aside) = entry.file_name().to_str().and_then(Aside::parse) {
                found.insert(aside, disk_bytes(&entry.metadata()?));
            }
        }
        Ok(found)
    }

    /// Removes a copy that was set aside.
    pub(crate) fn remove_aside(&self, aside: Aside) -> io::Result<()> {
        fs::remove_file(self.aside_path(aside))
    }

    fn aside_path(&self, aside: Aside) -> PathBuf {
        self.aside_dir().join(aside.file_name())
    }
}

fn is_free(path: &std::path::Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

const ASIDE_DIR: &str = "aside";

#[cfg(test)]
mod tests {
    use super::*;

    const ASSET: AssetId = AssetId(0xaa);

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = Folder::open(dir.path()).expect("free folder");
        (dir, folder)
    }

    #[test]
    fn a_pack_that_was_set_aside_is_no_pack_of_the_folder_and_is_found_again() {
        let (_dir, folder) = folder();
        assert!(folder.aside().expect("no such folder yet").is_empty());
        fs::write(folder.pack_path(ASSET, Stage::Whole), b"12345").expect("written");
        let (aside, bytes) = folder.set_aside(ASSET, Stage::Whole, ASSET).expect("moved");
        assert!(folder.packs().expect("readable folder").is_empty());
        assert_eq!(folder.aside().expect("readable folder"), BTreeMap::from([(aside, bytes)]));
        folder.remove_aside(aside).expect("removed");
        assert!(folder.aside().expect("readable folder").is_empty());
    }

    #[test]
    fn a_copy_that_is_set_aside_takes_the_place_of_none_that_was_before() {
        let (_dir, folder) = folder();
        for content in ["first", "second", "third"] {
            fs::write(folder.pack_path(ASSET, Stage::Whole), content).expect("written");
            folder.set_aside(ASSET, Stage::Whole, ASSET).expect("moved");
        }
        let found = folder.aside().expect("readable folder");
        let texts = found.keys().map(|aside| fs::read_to_string(folder.aside_path(*aside)).expect("there"));
        assert_eq!(texts.collect::<Vec<_>>(), ["first", "second", "third"]);
    }

    #[test]
    fn a_copy_is_taken_back_only_if_its_name_is_free() {
        let (_dir, folder) = folder();
        fs::write(folder.pack_path(AssetId(1), Stage::Whole), "misnamed").expect("written");
        let (aside, _) = folder.set_aside(AssetId(1), Stage::Whole, ASSET).expect("moved");
        for stage in [Stage::Whole, Stage::Filling] {
            fs::write(folder.pack_path(ASSET, stage), "there before").expect("written");
            assert!(!folder.take_back(aside, Stage::Whole).expect("looked at"));
            fs::remove_file(folder.pack_path(ASSET, stage)).expect("there");
        }
        assert!(folder.take_back(aside, Stage::Whole).expect("moved"));
        assert_eq!(fs::read_to_string(folder.pack_path(ASSET, Stage::Whole)).expect("there"), "misnamed");
    }

    #[test]
    fn other_names_are_no_copies() {
        for number in [0, 1, 10, u32::MAX] {
            let aside = Aside::new(ASSET, number);
            assert_eq!(Aside::parse(&aside.file_name()), Some(aside));
        }
        for name in ["aa.pack", "00000000000000aa", "00000000000000aa.0.pack", "00000000000000aa.01.pack", "x.1.pack"] {
            assert_eq!(Aside::parse(name), None, "{name}");
        }
    }
}
