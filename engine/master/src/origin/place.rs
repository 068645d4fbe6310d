//! What stands in the place of an asset's pack. Anything that is not this very pack is moved aside and never overwritten:
//! it may be the only copy of another video.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use braidcast_media::AssetId;
use braidcast_media::hashes::{self, Hash};
use braidcast_media::pack::{PackHeader, sync_parent};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};

use super::Origin;
use super::survey::{has_header, header_bytes};
use crate::limits::ASIDE_NAMES_MAX;

/// Where the asset's id stands in a header (PROTOCOL.md, section 6), and where it ends.
const ASSET_AT: usize = 8;
const ASSET_END: usize = 16;

/// What was found in the place of a pack.
#[derive(Debug)]
pub(crate) enum Place {
    Free,
    /// A file that names this asset. Its bytes may be damaged.
    Own(File),
    /// Something else, in words.
    Other(String),
}

/// Where something was moved to that stood in the place of another asset's pack.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// It is the pack of this asset and stands in its place now.
    Home(AssetId),
    /// It waits among the orphans.
    Aside(PathBuf),
}

impl Origin {
    /// Looks at what stands in the place of the pack of `asset`.
    ///
    /// # Errors
    /// It is there and cannot be opened or read, or the origin's folder is not in its place.
    pub(crate) fn place(&self, asset: AssetId) -> io::Result<Place> {
        self.check_in_place()?;
        // Opening a pipe for reading would wait for a writer.
        let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(self.path(asset));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Free),
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
                return Ok(Place::Other("a symbolic link that leads back to itself".to_owned()));
            }
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Place::Other(if metadata.is_dir() { "a folder" } else { "no regular file" }.to_owned()));
        }
        match names(&file, asset) {
            Ok(true) => return Ok(Place::Own(file)),
            Err(error) if !is_of_medium(&error) => return Err(error),
            Ok(false) | Err(_) => {}
        }
        Ok(Place::Other(match header(&file)? {
            Some((other, _)) => format!("the pack of asset {other}"),
            None => "a file that does not name this asset".to_owned(),
        }))
    }

    /// Moves aside what stands in the place of the pack of `asset` and is not that pack: home, if it is the very pack
    /// that the row of another asset `wants` and that one's place is free, else to the orphans. `None`: nothing is in
    /// the way.
    ///
    /// # Errors
    /// It cannot be read or moved.
    pub(crate) fn clear_place(
        &self,
        asset: AssetId,
        wants: &dyn Fn(AssetId) -> Option<Hash>,
    ) -> io::Result<Option<Moved>> {
        let from = self.path(asset);
        match self.place(asset)? {
            Place::Own(_) => return Ok(None),
            // A symbolic link to nothing is in the way all the same.
            Place::Free if fs::symlink_metadata(&from).is_err() => return Ok(None),
            Place::Free | Place::Other(_) => {}
        }
        let found = if from.is_file() { header(&File::open(&from)?)? } else { None };
        if let Some((other, hash)) = found
            && wants(other) == Some(hash)
            && rename_to_free(&from, &self.path(other))?
        {
            tracing::warn!(%asset, %other, "a pack stood in the place of another one, and was moved to its own");
            return Ok(Some(Moved::Home(other)));
        }
        let to = self.make_orphan(&from, found.map_or(asset, |(other, _)| other))?;
        tracing::warn!(%asset, path = %to.display(), "what stood in the place of a pack was moved here");
        Ok(Some(Moved::Aside(to)))
    }

    /// Moves a file to the orphans as a pack of `asset`; gives its path there. Nothing that stands there is overwritten.
    ///
    /// # Errors
    /// It cannot be moved.
    pub(super) fn make_orphan(&self, from: &Path, asset: AssetId) -> io::Result<PathBuf> {
        self.make_orphans_dir()?;
        let first = self.orphan_path(asset);
        for number in 0..ASIDE_NAMES_MAX {
            let to = numbered(&first, number);
            if rename_to_free(from, &to)? {
                return Ok(to);
            }
        }
        Err(io::Error::new(ErrorKind::AlreadyExists, format!("{} and all names like it are taken", first.display())))
    }

    /// Takes the pack of `asset` back from the orphans, if one stands there with the header of this BLAKE3 and its
    /// place is free; tells whether it did.
    ///
    /// # Errors
    /// The orphan cannot be read or moved, or the origin's folder is not in its place.
    pub(crate) fn reclaim(&self, asset: AssetId, header_hash: &Hash) -> io::Result<bool> {
        self.check_in_place()?;
        let from = self.orphan_path(asset);
        Ok(from.is_file() && has_header(&from, header_hash)? && rename_to_free(&from, &self.path(asset))?)
    }
}

/// Whether a pack file says that it is of `asset`. Eight random bytes that match are no accident; a file whose name is
/// damaged counts as another's, which costs a whole heal and no pack.
pub(crate) fn names(file: &File, asset: AssetId) -> io::Result<bool> {
    let mut start = [0; ASSET_END];
    match file.read_exact_at(&mut start, 0) {
        Ok(()) => Ok(start[ASSET_AT..] == asset.0.to_be_bytes()),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the medium has lost the bytes that were to be read.
pub(crate) fn is_of_medium(error: &io::Error) -> bool {
    const MEDIUM: [Errno; 4] = [Errno::EIO, Errno::EUCLEAN, Errno::EBADMSG, Errno::ENODATA];
    error.raw_os_error().is_some_and(|code| MEDIUM.contains(&Errno::from_raw(code)))
}

/// The asset that the file's header names and the header's BLAKE3. `None`: the file does not begin with a header.
fn header(file: &File) -> io::Result<Option<(AssetId, Hash)>> {
    let bytes = match header_bytes(file) {
        Err(error) if is_of_medium(&error) => None,
        bytes => bytes?,
    };
    let Some(bytes) = bytes else { return Ok(None) };
    Ok(PackHeader::parse(&bytes).ok().map(|header| (header.asset, hashes::hash(&bytes))))
}

/// The `n`th name for a file: its own, then with a number behind it.
pub(super) fn numbered(path: &Path, n: usize) -> PathBuf {
    let mut name: OsString = path.into();
    if n > 0 {
        name.push(format!(".{n}"));
    }
    name.into()
}

/// Renames durably; `false`: something stands at `to`.
pub(super) fn rename_to_free(from: &Path, to: &Path) -> io::Result<bool> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => {}
        Err(Errno::EEXIST | Errno::ENOTEMPTY) => return Ok(false),
        // A file system that does not know the flag: one master at a time writes to this folder.
        Err(Errno::EINVAL | Errno::ENOSYS) if fs::symlink_metadata(to).is_ok() => return Ok(false),
        Err(Errno::EINVAL | Errno::ENOSYS) => fs::rename(from, to)?,
        Err(errno) => return Err(errno.into()),
    }
    sync_parent(from)?;
    sync_parent(to)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::tests::{origin, write_pack};

    const ONE: AssetId = AssetId(1);
    const TWO: AssetId = AssetId(2);

    #[test]
    fn a_pack_in_the_place_of_another_goes_home_if_it_is_wanted_there_and_is_never_overwritten() {
        let (_dir, origin) = origin();
        let hash = write_pack(&origin.path(ONE), TWO);
        let pack = fs::read(origin.path(ONE)).expect("read");
        assert!(matches!(origin.place(ONE), Ok(Place::Other(words)) if words.contains(&TWO.to_string())));
        let wants = |asset| (asset == TWO).then_some(hash);
        assert_eq!(origin.clear_place(ONE, &wants).expect("moves"), Some(Moved::Home(TWO)));
        assert_eq!(fs::read(origin.path(TWO)).expect("read"), pack);
        assert!(matches!(origin.place(ONE), Ok(Place::Free)) && matches!(origin.place(TWO), Ok(Place::Own(_))));
        assert_eq!(origin.clear_place(TWO, &wants).expect("its own"), None);
    }

    #[test]
    fn what_has_no_home_waits_among_the_orphans_beside_what_is_there_and_comes_back_from_there() {
        let (_dir, origin) = origin();
        let hash = write_pack(&origin.path(TWO), TWO);
        let unwanted = |_| None;
        for n in 0..3 {
            fs::copy(origin.path(TWO), origin.path(ONE)).expect("copied");
            let moved = origin.clear_place(ONE, &unwanted).expect("moves");
            assert_eq!(moved, Some(Moved::Aside(numbered(&origin.orphan_path(TWO), n))));
        }
        let full = fs::read(origin.path(TWO)).expect("read");
        assert!((0..3).all(|n| fs::read(numbered(&origin.orphan_path(TWO), n)).expect("kept") == full));
        assert!(!origin.reclaim(TWO, &hash).expect("its place is taken"));
        fs::remove_file(origin.path(TWO)).expect("removed");
        assert!(!origin.reclaim(TWO, &[9; 32]).expect("another header"));
        assert!(origin.reclaim(TWO, &hash).expect("takes it back") && origin.path(TWO).exists());
    }

    #[test]
    fn folders_links_to_themselves_and_other_files_are_moved_aside() {
        let (_dir, origin) = origin();
        let put: [fn(&Path); 4] = [
            |path| fs::create_dir(path).expect("made"),
            |path| std::os::unix::fs::symlink(path, path).expect("linked"),
            |path| fs::write(path, vec![0; 100_000]).expect("written"),
            |path| fs::write(path, []).expect("written"),
        ];
        for put in put {
            put(&origin.path(ONE));
            assert!(matches!(origin.place(ONE), Ok(Place::Other(_))));
            assert!(matches!(origin.clear_place(ONE, &|_| None), Ok(Some(Moved::Aside(_)))));
            assert!(matches!(origin.place(ONE), Ok(Place::Free)));
        }
    }
}
