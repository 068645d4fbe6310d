//! The file of a download: reserved, filled in any order, taken up again, and named at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use braidcast_media::hashes::{self, Hash};
use braidcast_media::layout::EXTENT_BYTES;
use braidcast_media::{ExtentNo, StreamLayout};
use rustix::fs::{
    FallocateFlags, FlockOperation, SeekFrom as Place, fallocate, flock, fstat, fstatfs, fstatvfs, ftruncate,
};
use rustix::io::Errno;

use super::{DownloadError, PARTIAL_SUFFIX, Target};
use crate::sink::{Positioned, Sink};

/// Where the bytes go.
pub(super) struct Output {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    /// A partial file that takes its name at the end.
    Partial {
        file: Arc<File>,
        partial: PathBuf,
    },
    /// Something that is no regular file.
    Special {
        file: File,
    },
    Stdout,
}

impl Output {
    /// Opens the target and reserves `bytes` on the disk, or sees that they are free. An earlier attempt's partial file is
    /// taken up.
    pub(super) fn open(target: &Target, bytes: u64) -> Result<Self, DownloadError> {
        let path = match target {
            Target::Stdout => return Ok(Self { path: "standard output".into(), kind: Kind::Stdout }),
            Target::Path(path) => path.clone(),
        };
        let at = |path: &Path, source| DownloadError::Output { path: path.to_owned(), source };
        let existing = fs::metadata(&path).ok();
        if existing.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(at(&path, io::ErrorKind::IsADirectory.into()));
        }
        if existing.is_some_and(|found| !found.is_file()) {
            let file = OpenOptions::new().write(true).open(&path).map_err(|error| at(&path, error))?;
            return Ok(Self { path, kind: Kind::Special { file } });
        }
        let mut partial = path.clone().into_os_string();
        partial.push(PARTIAL_SUFFIX);
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&partial);
        let file = file.map_err(|error| at(&partial, error))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(DownloadError::InUse { path: partial });
        }
        reserve(&file, &partial, bytes)?;
        Ok(Self { path, kind: Kind::Partial { file: Arc::new(file), partial } })
    }

    /// Whether what is fetched stays for a next attempt.
    pub(super) fn is_resumable(&self) -> bool {
        matches!(self.kind, Kind::Partial { .. })
    }

    /// What the engine writes to.
    pub(super) fn sink(&mut self) -> io::Result<Sink> {
        Ok(match &self.kind {
            Kind::Partial { file, .. } => Sink::File(Positioned::new(Arc::clone(file))),
            Kind::Special { file } => Sink::ordered(Box::new(file.try_clone()?)),
            // The descriptor itself: Rust's standard output would look for line ends in the film.
            Kind::Stdout => Sink::ordered(Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))),
        })
    }

    /// Whether the partial file holds nothing yet.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        match &self.kind {
            Kind::Partial { file, .. } => Ok(next_written(file, 0)?.is_none()),
            _ => Ok(true),
        }
    }

    /// Which extents the partial file already holds, by their hashes: nothing else about it is trusted.
    pub(super) async fn verified_extents(
        &self,
        stream: StreamLayout,
        hashes: Arc<[Hash]>,
    ) -> Result<Vec<bool>, DownloadError> {
        let Kind::Partial { file, partial } = &self.kind else {
            return Ok(vec![false; stream.extents() as usize]);
        };
        let (file, partial) = (Arc::clone(file), partial.clone());
        tokio::task::spawn_blocking(move || verified(&file, stream, &hashes))
            .await
            .map_err(|_| DownloadError::Interrupted)?
            .map_err(|source| DownloadError::Output { path: partial, source })
    }

    /// Gives the file its name. Says where it stands, if it is a file.
    pub(super) fn finish(self) -> Result<Option<PathBuf>, DownloadError> {
        let Kind::Partial { partial, .. } = &self.kind else { return Ok(None) };
        fs::rename(partial, &self.path).map_err(|error| self.error(error))?;
        Ok(Some(self.path))
    }

    /// Names the file in an error.
    pub(super) fn error(&self, source: io::Error) -> DownloadError {
        let path = match &self.kind {
            Kind::Partial { partial, .. } => partial.clone(),
            Kind::Special { .. } | Kind::Stdout => self.path.clone(),
        };
        DownloadError::Output { path, source }
    }
}

/// Of `st_blocks`, whatever a file system's own are.
const STAT_BLOCK_BYTES: u64 = 512;
/// Of `tmpfs`, from `<linux/magic.h>`.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Reserves `bytes` for the file. In memory that takes long, 0.1 s for 2 GB (`perf sched`, by hand), in which nothing is
/// fetched: there it is only looked whether they are free.
fn allocate(file: &File, bytes: u64) -> rustix::io::Result<()> {
    let disk = fstatfs(file)?;
    if disk.f_type as i64 != TMPFS_MAGIC {
        return fallocate(file, FallocateFlags::empty(), 0, bytes);
    }
    let present = fstat(file)?.st_blocks as u64 * STAT_BLOCK_BYTES;
    // One without a bound has no blocks.
    let is_bounded = disk.f_blocks > 0;
    if is_bounded && free(file)?.saturating_add(present) < bytes { Err(Errno::NOSPC) } else { ftruncate(file, bytes) }
}

/// Bytes that the disk of the file has left.
fn free(file: &File) -> rustix::io::Result<u64> {
    fstatvfs(file).map(|disk| disk.f_bavail * disk.f_frsize)
}

/// Gives the file its length, and the disk the chance to say that it is full before anything is fetched.
fn reserve(file: &File, path: &Path, bytes: u64) -> Result<(), DownloadError> {
    let at = |source| DownloadError::Output { path: path.to_owned(), source };
    let found = file.metadata().map_err(at)?.len();
    if found > bytes {
        file.set_len(bytes).map_err(at)?;
    }
    if bytes == 0 {
        return Ok(());
    }
    match allocate(file, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::NOSPC) => {
            if found == 0 {
                // Nothing was in it, and nothing will be.
                let _ = fs::remove_file(path);
            }
            let free = free(file).unwrap_or(0);
            Err(DownloadError::DiskFull { path: path.to_owned(), free, needed: bytes })
        }
        // Some file systems cannot reserve: a full disk is found later there.
        Err(Errno::OPNOTSUPP) => file.set_len(bytes).map_err(at),
        Err(error) => Err(at(error.into())),
    }
}

fn verified(file: &File, stream: StreamLayout, hashes: &[Hash]) -> io::Result<Vec<bool>> {
    let mut have = vec![false; hashes.len()];
    let mut buffer = vec![0; EXTENT_BYTES];
    let mut extent = 0;
    while let Some(written) = next_written(file, extent)? {
        if written >= stream.extents() {
            break;
        }
        let bytes = stream.extent_bytes(ExtentNo(written));
        file.read_exact_at(&mut buffer[..bytes], u64::from(written) * EXTENT_BYTES as u64)?;
        have[written as usize] = hashes::hash(&buffer[..bytes]) == hashes[written as usize];
        extent = written + 1;
    }
    let mut start = file;
    start.seek(SeekFrom::Start(0))?;
    Ok(have)
}

/// The first extent from `extent` on that is not wholly a hole of the file.
fn next_written(file: &File, extent: u32) -> io::Result<Option<u32>> {
    let from = u64::from(extent) * EXTENT_BYTES as u64;
    match rustix::fs::seek(file, Place::Data(from)) {
        Ok(at) => Ok(u32::try_from(at / EXTENT_BYTES as u64).ok()),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(rustix::io::Errno::INVAL) => Ok((from < file.metadata()?.len()).then_some(extent)),
        Err(error) => Err(error.into()),
    }
}
