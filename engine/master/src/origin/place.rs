//! What stands in the place of an asset's pack. The file's name and the database say whose pack it is; its header may be
//! damaged, and alone decides nothing. A file that cannot be told to be another asset's pack is this one's, damaged, and
//! stays until a whole pack takes its place. What is not known to be this very pack is moved aside and never overwritten:
//! it may be the only copy of a video.

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
use super::survey::{header_bytes, is_whole};
use crate::limits::ASIDE_NAMES_MAX;

/// Where the asset's id stands in a header (PROTOCOL.md, section 6), and where it ends.
const ASSET_AT: usize = 8;
const ASSET_END: usize = 16;

/// What was found in the place of a pack.
#[derive(Debug)]
pub(crate) enum Place {
    Free,
    /// A file whose header shows that it is this asset's pack. Its bytes may be damaged.
    Own(File),
    /// A file whose header does not show whose pack it is, or names another asset; why, in words.
    Unrecognised(String),
    /// Something that is no file, and so nobody's pack, in words.
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
    /// Looks at what stands in the place of the pack of `asset`, whose header has the BLAKE3 `own`.
    ///
    /// # Errors
    /// It is there and cannot be opened or read, or the origin's folder is not in its place.
    pub(crate) fn place(&self, asset: AssetId, own: &Hash) -> io::Result<Place> {
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
        match is_own(&file, asset, own) {
            Ok(true) => return Ok(Place::Own(file)),
            Err(error) if is_of_medium(&error) => return Ok(Place::Unrecognised(format!("its header: {error}"))),
            Err(error) => return Err(error),
            Ok(false) => {}
        }
        Ok(Place::Unrecognised(match header(&file)? {
            Some((other, _)) => format!("its header names asset {other}"),
            None => format!("it does not begin with a header, and is {} bytes long", metadata.len()),
        }))
    }

    /// Moves away what stands in the place of the pack of `asset` and is known not to be that pack: what is no file, and
    /// the very pack that the row of another asset `wants`. Such a pack goes home if its place is free; all else goes to
    /// the orphans. `None`: nothing was moved.
    ///
    /// # Errors
    /// It cannot be read or moved.
    pub(crate) fn clear_place(
        &self,
        asset: AssetId,
        own: &Hash,
        wants: &dyn Fn(AssetId) -> Option<Hash>,
    ) -> io::Result<Option<Moved>> {
        let from = self.path(asset);
        let owner = match self.place(asset, own)? {
            Place::Own(_) => return Ok(None),
            Place::Free if !is_there(&from) => return Ok(None),
            // A symbolic link to nothing is in the way all the same.
            Place::Free | Place::Other(_) => asset,
            Place::Unrecognised(_) => match pack_of_row(&from, wants)? {
                None => return Ok(None),
                Some(other) if rename_to_free(&from, &self.path(other))? => {
                    tracing::warn!(%asset, %other, "a pack stood in the place of another one, and was moved to its own");
                    return Ok(Some(Moved::Home(other)));
                }
                Some(other) => other,
            },
        };
        self.move_aside(asset, owner).map(Some)
    }

    /// Moves to the orphans whatever stands in the place of the pack of `asset` and does not show that it is this pack: a
    /// whole one is about to take its place.
    ///
    /// # Errors
    /// It cannot be read or moved.
    pub(crate) fn make_way(&self, asset: AssetId, own: &Hash) -> io::Result<Option<Moved>> {
        match self.place(asset, own)? {
            Place::Own(_) => Ok(None),
            Place::Free if !is_there(&self.path(asset)) => Ok(None),
            Place::Free | Place::Unrecognised(_) | Place::Other(_) => self.move_aside(asset, asset).map(Some),
        }
    }

    fn move_aside(&self, asset: AssetId, owner: AssetId) -> io::Result<Moved> {
        let to = self.make_orphan(&self.path(asset), owner)?;
        tracing::warn!(%asset, path = %to.display(), "what stood in the place of a pack was moved here");
        Ok(Moved::Aside(to))
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

    /// Takes the pack of `asset` back from the orphans, if one stands there whole, with the header of this BLAKE3, and its
    /// place is free; tells whether it did.
    ///
    /// # Errors
    /// The orphan cannot be moved, or the origin's folder is not in its place.
    pub(crate) fn reclaim(&self, asset: AssetId, header_hash: &Hash) -> io::Result<bool> {
        self.check_in_place()?;
        let is_ours = |path: &PathBuf| is_whole(path, header_hash).unwrap_or(false);
        match self.orphan_paths(asset).into_iter().find(is_ours) {
            Some(from) => rename_to_free(&from, &self.path(asset)),
            None => Ok(false),
        }
    }
}

/// Whether a pack file shows that it is the pack of `asset`, whose header has the BLAKE3 `own`: it names the asset, which
/// eight random bytes do by no accident, or nothing but the name in its header is damaged.
pub(crate) fn is_own(file: &File, asset: AssetId, own: &Hash) -> io::Result<bool> {
    let id = asset.0.to_be_bytes();
    let mut start = [0; ASSET_END];
    match file.read_exact_at(&mut start, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
        read => read?,
    }
    if start[ASSET_AT..] == id {
        return Ok(true);
    }
    let named = header_bytes(file)?.map(|mut bytes| {
        bytes[ASSET_AT..ASSET_END].copy_from_slice(&id);
        hashes::hash(&bytes)
    });
    Ok(named.is_some_and(|hash| hash == *own))
}

/// The asset whose very pack stands at `path`: its row `wants` the header that the file begins with. `None`: no row does.
pub(super) fn pack_of_row(path: &Path, wants: &dyn Fn(AssetId) -> Option<Hash>) -> io::Result<Option<AssetId>> {
    if !path.is_file() {
        return Ok(None);
    }
    let found = header(&File::open(path)?)?;
    Ok(found.filter(|(asset, hash)| wants(*asset) == Some(*hash)).map(|(asset, _)| asset))
}

/// The asset that the file at `path` says that it is the whole pack of, if that is not `asset`.
pub(super) fn pack_of_other(path: &Path, asset: AssetId) -> Option<AssetId> {
    let (other, hash) =
        Some(path).filter(|path| path.is_file()).and_then(|path| header(&File::open(path).ok()?).ok()?)?;
    (other != asset && is_whole(path, &hash).unwrap_or(false)).then_some(other)
}

/// Whether anything stands at `path`, a symbolic link to nothing included.
pub(super) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
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
    use crate::identity::Rows;
    use crate::origin::tests::{origin, write_pack};

    const ONE: AssetId = AssetId(1);
    const TWO: AssetId = AssetId(2);
    /// The BLAKE3 of a header that no pack of these tests has.
    const OWN: Hash = [1; 32];
    /// Where the hashes begin in the header of a pack with two streams.
    const HEADER_HASHES_AT: usize = 24 + 2 * 24;

    #[test]
    fn a_pack_in_the_place_of_another_goes_home_if_it_is_wanted_there_and_is_never_overwritten() {
        let (_dir, origin) = origin();
        let hash = write_pack(&origin.path(ONE), TWO);
        let pack = fs::read(origin.path(ONE)).expect("read");
        assert!(matches!(origin.place(ONE, &OWN), Ok(Place::Unrecognised(words)) if words.contains(&TWO.to_string())));
        let wants = |asset| (asset == TWO).then_some(hash);
        assert_eq!(origin.clear_place(ONE, &OWN, &wants).expect("moves"), Some(Moved::Home(TWO)));
        assert_eq!(fs::read(origin.path(TWO)).expect("read"), pack);
        assert!(matches!(origin.place(ONE, &OWN), Ok(Place::Free)));
        assert!(matches!(origin.place(TWO, &hash), Ok(Place::Own(_))));
        assert_eq!(origin.clear_place(TWO, &hash, &wants).expect("its own"), None);
    }

    #[test]
    fn a_pack_whose_home_is_taken_waits_among_the_orphans_beside_what_is_there_and_comes_back_from_there() {
        let (_dir, origin) = origin();
        let hash = write_pack(&origin.path(TWO), TWO);
        let wants = |asset| (asset == TWO).then_some(hash);
        for n in 0..3 {
            fs::copy(origin.path(TWO), origin.path(ONE)).expect("copied");
            let moved = origin.clear_place(ONE, &OWN, &wants).expect("moves");
            assert_eq!(moved, Some(Moved::Aside(numbered(&origin.orphan_path(TWO), n))));
        }
        let full = fs::read(origin.path(TWO)).expect("read");
        assert!((0..3).all(|n| fs::read(numbered(&origin.orphan_path(TWO), n)).expect("kept") == full));
        assert!(!origin.reclaim(TWO, &hash).expect("its place is taken"));
        fs::remove_file(origin.path(TWO)).expect("removed");
        assert!(!origin.reclaim(TWO, &[9; 32]).expect("another header"));
        assert!(origin.reclaim(TWO, &hash).expect("takes it back") && origin.path(TWO).exists());
    }

    /// The header of a pack names its asset; when that name rots, the pack must not pass for another asset's.
    #[test]
    fn a_pack_whose_header_rots_stays_in_its_place_until_a_whole_one_takes_it() {
        let flip = |path: &Path, byte: usize| {
            let mut pack = fs::read(path).expect("read");
            pack[byte] ^= 1;
            fs::write(path, pack).expect("written");
        };
        let unreadable = |path: &Path| fs::write(path, vec![0; 100_000]).expect("written");
        type Damaging<'a> = &'a dyn Fn(&Path);
        let damages: [(Damaging<'_>, bool); 6] = [
            (&|path| flip(path, ASSET_AT), true),
            (&|path| flip(path, HEADER_HASHES_AT), true),
            (&|path| (ASSET_AT..ASSET_END).for_each(|byte| flip(path, byte)), true),
            (&|path| [ASSET_AT, HEADER_HASHES_AT].into_iter().for_each(|byte| flip(path, byte)), false),
            (&unreadable, false),
            (&|path| fs::write(path, []).expect("written"), false),
        ];
        for (number, (damage, is_own)) in damages.into_iter().enumerate() {
            let (_dir, origin) = origin();
            let hash = write_pack(&origin.path(ONE), ONE);
            damage(&origin.path(ONE));
            let damaged = fs::read(origin.path(ONE)).expect("read");
            match origin.place(ONE, &hash).expect("reads") {
                Place::Own(_) => assert!(is_own, "{number}"),
                Place::Unrecognised(reason) => assert!(!is_own && !reason.is_empty(), "{number}: {reason}"),
                found => panic!("{number}: {found:?}"),
            }
            let wants = |asset| (asset == ONE).then_some(hash);
            assert_eq!(origin.clear_place(ONE, &hash, &wants).expect("looks"), None, "{number}");
            let sweep = origin.sweep(&Rows::from([(ONE, hash)]), |_| false);
            assert!(sweep.expect("sweeps").is_empty(), "{number}: it is not lost");
            assert_eq!(origin.orphans().expect("lists").1, 0, "{number}");
            assert_eq!(fs::read(origin.path(ONE)).expect("in its place"), damaged, "{number}");
            let moved = origin.make_way(ONE, &hash).expect("moves");
            let aside = (!is_own).then(|| Moved::Aside(origin.orphan_path(ONE)));
            assert_eq!(moved, aside, "{number}: under the asset that its file's name says");
        }
    }

    #[test]
    fn folders_and_links_to_themselves_are_moved_aside() {
        let (_dir, origin) = origin();
        let put: [fn(&Path); 2] = [
            |path| fs::create_dir(path).expect("made"),
            |path| std::os::unix::fs::symlink(path, path).expect("linked"),
        ];
        for put in put {
            put(&origin.path(ONE));
            assert!(matches!(origin.place(ONE, &OWN), Ok(Place::Other(_))));
            assert!(matches!(origin.clear_place(ONE, &OWN, &|_| None), Ok(Some(Moved::Aside(_)))));
            assert!(matches!(origin.place(ONE, &OWN), Ok(Place::Free)));
        }
    }
}
