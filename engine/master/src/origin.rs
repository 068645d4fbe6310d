//! The durable copy of every pack: a folder with one `ID.pack` each.
//!
//! Only [`Origin::remove`] and [`Origin::remove_orphan`], which a person asks for, delete a whole pack; a start
//! ([`Origin::sweep`]) deletes one only if a person removed its video before.

mod anchor;
mod marks;
mod orphans;
pub(crate) mod place;
mod survey;
mod sweep;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use braidcast_media::pack::{PackError, PackWriter, sync_parent};
use braidcast_media::{AssetId, PackLayout};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::errors::ServiceError;
use crate::limits::RESERVE_BYTES;
use crate::origin::anchor::Anchor;
use crate::room::{Disk, free_bytes, is_full};

pub(crate) use orphans::Orphan;
pub(crate) use survey::{Mismatch, Survey};

const PACK_SUFFIX: &str = ".pack";

/// The folder of packs. Its calls touch the disk: not for the threads that serve calls.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    dir: PathBuf,
    /// `None` until [`Origin::anchor`] was called.
    anchor: Arc<Mutex<Option<Anchor>>>,
}

impl Origin {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, anchor: Arc::default() }
    }

    /// Where the pack of `asset` stands.
    pub(crate) fn path(&self, asset: AssetId) -> PathBuf {
        self.dir.join(format!("{asset}{PACK_SUFFIX}"))
    }

    /// Refuses what does not fit at the moment. Only [`Origin::create`] makes sure.
    pub(crate) fn check_room(&self, needed: u64) -> Result<(), ServiceError> {
        let free = self.free_bytes()?;
        if free < needed { Err(self.full(needed, free)) } else { Ok(()) }
    }

    /// Room that packs leave to the database, if it is on the same disk. The origin's may be mounted at any time.
    fn left_to_database(&self) -> u64 {
        let device = |dir: &Path| Disk::of(dir).ok().map(|disk| disk.device);
        let shared = self.dir.parent().is_some_and(|state| device(state) == device(&self.dir));
        if shared { RESERVE_BYTES } else { 0 }
    }

    /// Starts a pack, with everything that will be written to it reserved on the disk. The holes between the pack's
    /// streams stay holes: they would take 600 KB for a file of 1 KB.
    pub(crate) fn create(&self, asset: AssetId, layout: PackLayout) -> Result<PackWriter, ServiceError> {
        let needed = layout.disk_bytes();
        // Some file systems reserve all that is left before they find that it is not enough.
        self.check_room(needed)?;
        let writer = PackWriter::create(&self.path(asset), asset, layout).map_err(|e| self.refusal(e, needed))?;
        match reserve(&writer) {
            Ok(()) => match self.free_bytes_of_disk()? {
                // Another pack was quicker to reserve the same room.
                free if free < self.left_to_database() => {
                    drop(writer);
                    Err(self.full(needed, self.free_bytes()?))
                }
                _ => Ok(writer),
            },
            // A file system that cannot reserve is written to as far as it goes.
            Err(Errno::EOPNOTSUPP) => Ok(writer),
            Err(errno) => {
                let source = io::Error::from(errno);
                // Free first what was reserved, so that the message tells the truth.
                drop(writer);
                Err(self.refusal(PackError::Io { path: self.path(asset), source }, needed))
            }
        }
    }

    /// Opens a pack for reading.
    pub(crate) fn open(&self, asset: AssetId) -> Result<File, ServiceError> {
        let path = self.path(asset);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(ServiceError::PackLost(asset)),
            Err(source) => Err(ServiceError::Io { path, source }),
        }
    }

    /// Removes a pack that the database does not name any more. What cannot be removed is swept at the next start. A whole
    /// pack that stands under its name and is another asset's is no part of what was removed: it becomes an orphan.
    pub(crate) fn remove(&self, asset: AssetId) {
        let path = self.path(asset);
        if let Err(error) = self.check_in_place() {
            tracing::warn!(path = %path.display(), %error, "a pack cannot be removed; a start with its disk does it");
            return;
        }
        if let Some(other) = place::pack_of_other(&path, asset) {
            match self.make_orphan(&path, other) {
                Ok(to) => {
                    tracing::warn!(%asset, %other, to = %to.display(), "the pack of another asset was moved here");
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "the pack of another asset cannot be moved");
                }
            }
        } else if let Err(error) = fs::remove_file(&path).and_then(|()| sync_parent(&path))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a pack cannot be removed; the next start tries again");
        }
        if let Err(error) = self.unmark(asset) {
            tracing::warn!(path = %path.display(), %error, "the mark of a removed pack cannot be removed");
        }
    }

    /// What to answer to a publisher whose pack of `needed` bytes met this error.
    pub(crate) fn refusal(&self, error: PackError, needed: u64) -> ServiceError {
        match error {
            PackError::Io { source, .. } if is_full(&source) => match self.free_bytes() {
                Ok(free) => self.full(needed, free),
                Err(error) => error,
            },
            PackError::Io { path, source } => ServiceError::Io { path, source },
            error @ PackError::Extent(_) => ServiceError::Damaged(error),
            error @ (PackError::ExtentLength { .. }
            | PackError::Incomplete { .. }
            | PackError::Header(_)
            | PackError::OtherAsset) => ServiceError::Pack(error),
        }
    }

    fn full(&self, needed: u64, free: u64) -> ServiceError {
        ServiceError::DiskFull { path: self.dir.clone(), needed, free, kept: self.left_to_database() }
    }

    /// Bytes that packs may take.
    fn free_bytes(&self) -> Result<u64, ServiceError> {
        self.check_in_place().map_err(|_| ServiceError::OriginGone { path: self.dir.clone() })?;
        Ok(self.free_bytes_of_disk()?.saturating_sub(self.left_to_database()))
    }

    fn free_bytes_of_disk(&self) -> Result<u64, ServiceError> {
        free_bytes(&self.dir).map_err(|source| ServiceError::Io { path: self.dir.clone(), source })
    }
}

/// The asset whose whole pack stands at `path`, if that is a pack's name as this program writes it.
fn pack_asset(path: &Path) -> Option<AssetId> {
    let name = path.file_name()?.to_str()?;
    let asset: AssetId = name.strip_suffix(PACK_SUFFIX)?.parse().ok()?;
    (name == format!("{asset}{PACK_SUFFIX}")).then_some(asset)
}

/// Reserves the parts of the pack that will be written. They end within the file's length, which stays as it is.
fn reserve(writer: &PackWriter) -> Result<(), Errno> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    for (offset, bytes) in writer.layout().used_parts() {
        fallocate(writer.file(), FallocateFlags::empty(), signed(offset), signed(bytes))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use braidcast_media::hashes::{self, Hash};
    use braidcast_media::pack::PackHeader;

    use super::*;

    pub(super) fn origin() -> (tempfile::TempDir, Origin) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let origin = Origin::new(dir.path().to_owned());
        (dir, origin)
    }

    /// Writes a small pack, and gives the BLAKE3 of its header.
    pub(super) fn write_pack(path: &Path, asset: AssetId) -> Hash {
        let layout = PackLayout::of_file(1_000).expect("short");
        let mut writer = PackWriter::create(path, asset, layout.clone()).expect("created");
        let mut sealed_hashes = Vec::new();
        for extent in 0..layout.extents() {
            let sealed = vec![asset.0 as u8; layout.sealed_bytes(extent)];
            writer.write_extent(extent, &sealed).expect("written");
            sealed_hashes.push(hashes::hash(&sealed));
        }
        let header = PackHeader { asset, layout, sealed_hashes }.to_bytes();
        writer.finish(&header).expect("whole");
        hashes::hash(&header)
    }

    #[test]
    fn only_the_names_that_this_program_writes_are_packs() {
        assert_eq!(pack_asset(Path::new("/o/00000000000000ff.pack")), Some(AssetId(255)));
        for name in
            ["ff.pack", "+0000000000000ff.pack", "00000000000000FF.pack", "00000000000000ff.pack.partial", ".pack"]
        {
            assert_eq!(pack_asset(Path::new(name)), None, "{name}");
        }
    }

    #[test]
    fn the_whole_pack_of_another_asset_outlives_the_removal_of_the_one_whose_name_it_has() {
        let (_dir, origin) = origin();
        let (removed, other) = (AssetId(1), AssetId(2));
        for (bytes_lost, is_kept) in [(0, true), (1, false)] {
            write_pack(&origin.path(removed), other);
            let file = File::options().write(true).open(origin.path(removed)).expect("opens");
            let bytes = file.metadata().expect("a file").len();
            file.set_len(bytes - bytes_lost).expect("cut");
            origin.remove(removed);
            assert!(!origin.path(removed).exists());
            assert_eq!(origin.remove_orphan(other).expect("looks"), is_kept.then_some(bytes));
        }
    }

    #[test]
    fn a_pack_that_does_not_fit_is_refused_with_the_bytes_needed_and_leaves_no_trace() {
        let (dir, origin) = origin();
        let free = origin.free_bytes().expect("a file system");
        let layout = PackLayout::of_file(free + (1 << 30)).expect("shorter than a stream can be");
        let needed = layout.disk_bytes();
        let error = origin.create(AssetId(1), layout).expect_err("more than is free");
        assert!(matches!(&error, ServiceError::DiskFull { needed: said, .. } if *said == needed), "{error}");
        assert_eq!(fs::read_dir(dir.path()).expect("folder").count(), 0);
    }

    #[test]
    fn all_that_will_be_written_is_on_the_disk_from_the_start_and_no_hole_is() {
        use std::os::unix::fs::MetadataExt;
        let (_dir, origin) = origin();
        for (asset, bytes) in [(AssetId(1), 1_000), (AssetId(2), 1_000_000)] {
            let layout = PackLayout::of_file(bytes).expect("short");
            let (length, needed) = (layout.pack_bytes(), layout.disk_bytes());
            let writer = origin.create(asset, layout).expect("fits");
            let metadata = writer.file().metadata().expect("a file");
            assert_eq!(metadata.len(), length);
            let on_disk = metadata.blocks() * 512;
            assert!((needed..needed + 4_096).contains(&on_disk), "{on_disk} bytes where {needed} are needed");
        }
    }

    #[test]
    fn room_is_checked_against_the_disk() {
        let (_dir, origin) = origin();
        assert!(origin.check_room(0).is_ok());
        assert!(matches!(origin.check_room(u64::MAX), Err(ServiceError::DiskFull { needed: u64::MAX, .. })));
    }
}
