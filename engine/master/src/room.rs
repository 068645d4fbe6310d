//! Room on a disk.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

/// A disk, and what of it is free for this user.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// A folder on it.
    pub(crate) dir: PathBuf,
    /// Its number.
    pub(crate) device: u64,
    pub(crate) free: u64,
    pub(crate) total: u64,
}

impl Disk {
    /// The disk of the folder `dir`.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let stat = statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
        let (free, total) = (bytes(stat.blocks_available()), bytes(stat.blocks()));
        Ok(Self { dir: dir.to_owned(), device: fs::metadata(dir)?.dev(), free, total })
    }
}

/// Bytes that are free for this user on the disk of `dir`.
pub(crate) fn free_bytes(dir: &Path) -> io::Result<u64> {
    Disk::of(dir).map(|disk| disk.free)
}

/// Whether an error of the system says that a disk, or somebody's share of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
