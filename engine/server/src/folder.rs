//! The state folder: packs, the server's id, and the lock that keeps a second server out.
//!
//! ```text
//! STATE/server-id          the id that the master gave
//! STATE/library-id         the library whose copies stand here: that of the first Join
//! STATE/lock               locked while a server runs
//! STATE/ASSET.pack         a pack, whole and checked
//! STATE/ASSET.filling      a pack on its way; every extent in it is hashed again before it counts
//! STATE/aside/ASSET.pack   a copy that was whole and is not served: it is damaged, or was under another asset's name;
//!                          first to go when room is needed. Further ones of the asset are ASSET.1.pack and so on
//! ```

mod aside;

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use braidcast_media::pack::sync_parent;
use braidcast_media::{AssetId, LibraryId};

use crate::error::ServerError;

pub(crate) use aside::Aside;

/// The state folder of a running server.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    /// Held for its lock, which the system releases however the process ends.
    _lock: File,
}

/// Whether a pack is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// `ASSET.pack`
    Whole,
    /// `ASSET.filling`
    Filling,
}

impl Stage {
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Whole => "pack",
            Self::Filling => "filling",
        }
    }
}

impl Folder {
    /// Opens the folder, makes it if it is missing, and locks it.
    pub(crate) fn open(dir: &Path) -> Result<Self, ServerError> {
        let at = |path: &Path, source| ServerError::State { path: path.to_owned(), source };
        fs::create_dir_all(dir).map_err(|source| at(dir, source))?;
        let path = dir.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| at(&path, source))?;
        match lock.try_lock() {
            Ok(()) => Self { dir: dir.to_owned(), _lock: lock }.with_room_aside(),
            Err(TryLockError::WouldBlock) => Err(ServerError::StateInUse { path: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(at(&path, source)),
        }
    }

    fn with_room_aside(self) -> Result<Self, ServerError> {
        let path = self.aside_dir();
        if path.exists() && !path.is_dir() {
            return Err(ServerError::StateFile { path, reason: "it is no folder".to_owned(), remedy: ASIDE_REMEDY });
        }
        Ok(self)
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Where the pack of `asset` stands in this stage.
    pub(crate) fn pack_path(&self, asset: AssetId, stage: Stage) -> PathBuf {
        self.dir.join(format!("{asset}.{}", stage.suffix()))
    }

    /// Every pack in the folder. A pack that is both whole and being filled counts as whole; the other file goes.
    pub(crate) fn packs(&self) -> io::Result<Vec<(AssetId, Stage)>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.dir)? {
            let Some((asset, stage)) = entry?.file_name().to_str().and_then(parse_name) else {
                continue;
            };
            match found.get(&asset) {
                None => drop(found.insert(asset, stage)),
                Some(_) => {
                    found.insert(asset, Stage::Whole);
                    fs::remove_file(self.pack_path(asset, Stage::Filling))?;
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Gives a pack the name of another stage, durably.
    pub(crate) fn move_pack(&self, asset: AssetId, from: Stage, to: Stage) -> io::Result<()> {
        self.rename_pack(asset, from, to)?;
        sync_parent(&self.pack_path(asset, to))
    }

    /// Gives a pack the name of another stage, which it may lose again when the system goes down.
    pub(crate) fn rename_pack(&self, asset: AssetId, from: Stage, to: Stage) -> io::Result<()> {
        fs::rename(self.pack_path(asset, from), self.pack_path(asset, to))
    }

    /// Removes the files of `asset`, in whatever stage.
    pub(crate) fn remove_pack(&self, asset: AssetId) -> io::Result<()> {
        for stage in [Stage::Whole, Stage::Filling] {
            match fs::remove_file(self.pack_path(asset, stage)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The id that the master gave; nothing before the first Join.
    pub(crate) fn server_id(&self) -> Result<Option<String>, ServerError> {
        let bad = |reason: String| self.bad_file(SERVER_ID_FILE, reason, SERVER_ID_REMEDY);
        let id = self.read_id(SERVER_ID_FILE).map_err(|error| bad(error.to_string()))?;
        // What masters take.
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        match id {
            Some(id) if !id.chars().all(is_allowed) => Err(bad("it holds no id of a server".to_owned())),
            id => Ok(id),
        }
    }

    /// Keeps the server's id for the next start.
    pub(crate) fn keep_server_id(&self, id: &str) -> io::Result<()> {
        self.keep_id(SERVER_ID_FILE, id)
    }

    /// The library whose copies stand here; `None` before the first Join.
    pub(crate) fn library_id(&self) -> Result<Option<LibraryId>, ServerError> {
        let bad = |reason: String| self.bad_file(LIBRARY_ID_FILE, reason, LIBRARY_ID_REMEDY);
        let id = self.read_id(LIBRARY_ID_FILE).map_err(|error| bad(error.to_string()))?;
        id.map(|id| id.parse()).transpose().map_err(|error: braidcast_media::LibraryIdError| bad(error.to_string()))
    }

    fn bad_file(&self, name: &str, reason: String, remedy: &'static str) -> ServerError {
        ServerError::StateFile { path: self.dir.join(name), reason, remedy }
    }

    /// Keeps the library's id for ever.
    pub(crate) fn keep_library_id(&self, id: LibraryId) -> io::Result<()> {
        self.keep_id(LIBRARY_ID_FILE, &id.to_string())
    }

    fn read_id(&self, name: &str) -> io::Result<Option<String>> {
        match fs::read_to_string(self.dir.join(name)) {
            Ok(id) => Ok(Some(id.trim().to_owned()).filter(|id| !id.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn keep_id(&self, name: &str, id: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        let partial = self.dir.join(format!("{name}.partial"));
        let mut file = File::create(&partial)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        sync_parent(&path)
    }

    /// Bytes that the file system has left for this process.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.dir)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }
}

/// What a file takes on the disk, without its holes.
fn disk_bytes(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

/// Reads `ASSET.STAGE` in exactly the form that [`Folder::pack_path`] writes.
fn parse_name(name: &str) -> Option<(AssetId, Stage)> {
    let (id, suffix) = name.split_once('.')?;
    let asset = id.parse::<AssetId>().ok().filter(|asset| asset.to_string() == id)?;
    let stage = [Stage::Whole, Stage::Filling].into_iter().find(|stage| stage.suffix() == suffix)?;
    Some((asset, stage))
}

const LOCK_FILE: &str = "lock";
const SERVER_ID_FILE: &str = "server-id";
const LIBRARY_ID_FILE: &str = "library-id";
const SERVER_ID_REMEDY: &str = "delete it, and the master gives this server a new id at its next start";
const LIBRARY_ID_REMEDY: &str = "put back the id of the library whose copies stand here; if the master has that library, \
     delete the file, and the server takes the id over at its next start";
const ASIDE_REMEDY: &str = "move it away: damaged copies are set aside in a folder of this name";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_kept_out_until_the_first_is_gone() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let first = Folder::open(dir.path()).expect("free folder");
        assert!(matches!(Folder::open(dir.path()), Err(ServerError::StateInUse { .. })));
        drop(first);
        assert!(Folder::open(dir.path()).is_ok());
    }

    #[test]
    fn packs_are_found_by_name_and_strangers_left_alone() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = Folder::open(dir.path()).expect("free folder");
        for name in [
            "00000000000000aa.pack",
            "00000000000000bb.filling",
            "00000000000000cc.pack",
            "00000000000000cc.filling",
            "dd.pack",
            "notes.txt",
        ] {
            File::create(dir.path().join(name)).expect("new file");
        }
        assert_eq!(
            folder.packs().expect("readable folder"),
            [(AssetId(0xaa), Stage::Whole), (AssetId(0xbb), Stage::Filling), (AssetId(0xcc), Stage::Whole)]
        );
        assert!(!dir.path().join("00000000000000cc.filling").exists());
        assert!(dir.path().join("dd.pack").exists() && dir.path().join("notes.txt").exists());
    }

    #[test]
    fn the_server_id_is_kept() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = Folder::open(dir.path()).expect("free folder");
        assert_eq!(folder.server_id().expect("readable folder"), None);
        folder.keep_server_id("s-1").expect("writable folder");
        folder.keep_server_id("s-2").expect("writable folder");
        assert_eq!(folder.server_id().expect("readable folder").as_deref(), Some("s-2"));
        assert_eq!(folder.library_id().expect("readable folder"), None);
        folder.keep_library_id(LibraryId([7; 16])).expect("writable folder");
        assert_eq!(folder.library_id().expect("readable folder"), Some(LibraryId([7; 16])));
        fs::write(dir.path().join("library-id"), "seven").expect("writable folder");
        assert!(folder.library_id().expect_err("no id").to_string().contains("library-id"));
    }

    #[test]
    fn what_is_wrong_with_a_small_file_names_the_file_and_the_remedy() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = Folder::open(dir.path()).expect("free folder");
        for bad in [&b"two words"[..], b"\xFF\xFE"] {
            fs::write(dir.path().join("server-id"), bad).expect("writable folder");
            let said = folder.server_id().expect_err("no id").to_string();
            assert!(said.contains("server-id") && said.contains("delete it"), "{said}");
        }
        fs::write(dir.path().join("library-id"), "seven").expect("writable folder");
        let said = folder.library_id().expect_err("no id").to_string();
        assert!(said.contains("library-id") && said.contains("put back"), "{said}");
        drop(folder);
        fs::write(dir.path().join("aside"), "a file").expect("writable folder");
        let said = Folder::open(dir.path()).expect_err("no folder").to_string();
        assert!(said.contains("aside") && said.contains("move it away"), "{said}");
    }
}
