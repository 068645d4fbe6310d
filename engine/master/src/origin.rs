//! The durable copy of every pack: a folder with one `ID.pack` each.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use braidcast_media::pack::{PARTIAL_SUFFIX, PackError, PackWriter, sync_parent};
use braidcast_media::{AssetId, PackLayout};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use crate::errors::ServiceError;
use crate::state_dir::{StateError, at};

const PACK_SUFFIX: &str = ".pack";

/// The folder of packs. Its calls touch the disk: not for the threads that serve calls.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    dir: PathBuf,
}

impl Origin {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where the pack of `asset` stands.
    pub(crate) fn path(&self, asset: AssetId) -> PathBuf {
        self.dir.join(format!("{asset}{PACK_SUFFIX}"))
    }

    /// Removes what a crash left behind: packs half written, and whole ones that are not in `known`. Other files are
    /// left alone. Gives the assets in `known` that have no pack.
    pub(crate) fn sweep(&self, known: &HashSet<AssetId>) -> Result<HashSet<AssetId>, StateError> {
        let mut missing = known.clone();
        for entry in fs::read_dir(&self.dir).map_err(at(&self.dir))? {
            let path = entry.map_err(at(&self.dir))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let left_behind = match name.strip_suffix(PACK_SUFFIX).map(str::parse::<AssetId>) {
                Some(Ok(asset)) => !missing.remove(&asset),
                _ => name.ends_with(&format!("{PACK_SUFFIX}.{PARTIAL_SUFFIX}")),
            };
            if left_behind {
                fs::remove_file(&path).map_err(at(&path))?;
                tracing::info!(path = %path.display(), "removed what an interrupted publish left behind");
            }
        }
        Ok(missing)
    }

    /// Refuses what does not fit at the moment. Only [`Origin::create`] makes sure.
    pub(crate) fn check_room(&self, needed: u64) -> Result<(), ServiceError> {
        let free = self.free_bytes()?;
        if free < needed { Err(self.full(needed, free)) } else { Ok(()) }
    }

    /// Starts a pack, with everything that will be written to it reserved on the disk. The holes between the pack's
    /// streams stay holes: they would take 600 KB for a file of 1 KB.
    pub(crate) fn create(&self, asset: AssetId, layout: PackLayout) -> Result<PackWriter, ServiceError> {
        let needed = layout.disk_bytes();
        // Some file systems reserve all that is left before they find that it is not enough.
        self.check_room(needed)?;
        let writer = PackWriter::create(&self.path(asset), asset, layout).map_err(|e| self.refusal(e, needed))?;
        match reserve(&writer) {
            Ok(()) => Ok(writer),
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

    /// Removes a pack that the database does not name any more. What cannot be removed is swept at the next start.
    pub(crate) fn remove(&self, asset: AssetId) {
        let path = self.path(asset);
        match fs::remove_file(&path).and_then(|()| sync_parent(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a pack cannot be removed; the next start tries again");
            }
            _ => {}
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
        ServiceError::DiskFull { path: self.dir.clone(), needed, free }
    }

    fn free_bytes(&self) -> Result<u64, ServiceError> {
        free_bytes(&self.dir).map_err(|source| ServiceError::Io { path: self.dir.clone(), source })
    }
}

/// Reserves the parts of the pack that will be written. They end within the file's length, which stays as it is.
fn reserve(writer: &PackWriter) -> Result<(), Errno> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    for (offset, bytes) in writer.layout().used_parts() {
        fallocate(writer.file(), FallocateFlags::empty(), signed(offset), signed(bytes))?;
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = statvfs(dir)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> (tempfile::TempDir, Origin) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let origin = Origin::new(dir.path().to_owned());
        (dir, origin)
    }

    #[test]
    fn the_sweep_removes_leftovers_and_nothing_else() {
        let (dir, origin) = origin();
        let (kept, orphan, missing) = (AssetId(1), AssetId(2), AssetId(3));
        for asset in [kept, orphan] {
            fs::write(origin.path(asset), "pack").expect("written");
        }
        let partial = dir.path().join(format!("{missing}.pack.partial"));
        let foreign = dir.path().join("notes.partial");
        for path in [&partial, &foreign] {
            fs::write(path, "x").expect("written");
        }
        assert_eq!(origin.sweep(&HashSet::from([kept, missing])).expect("sweeps"), HashSet::from([missing]));
        assert!(origin.path(kept).exists() && foreign.exists());
        assert!(!origin.path(orphan).exists() && !partial.exists());
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
