//! Room on the disk that the database alone may take: packs, logs and other programs can fill the rest to the last
//! byte, and people can still sign in and remove videos.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::posix_fallocate;

use crate::findings::{Finding, Findings};
use crate::limits::{DATABASE_START_BYTES, LITTLE_ROOM_BYTES_MAX, RESERVE_BYTES, RESERVE_CHECK_INTERVAL};
use crate::room::{self, Disk};
use crate::state_dir::private;

const FILE: &str = "reserve";
const TOPIC: &str = "disk";

/// A file of [`RESERVE_BYTES`] in the state folder. It goes when the database needs its room, and is made again when
/// the disk has room for twice as much.
#[derive(Debug)]
pub(crate) struct Reserve {
    dir: PathBuf,
    path: PathBuf,
    held: AtomicBool,
}

impl Reserve {
    /// The reserve of the state folder `dir`. Gives its room up at once if the disk has none in which SQLite could make
    /// the files that it keeps beside a database.
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join(FILE);
        // By its blocks: a copy that was made with holes has the length and not the room.
        let held = fs::metadata(&path).is_ok_and(|metadata| metadata.blocks() * 512 >= RESERVE_BYTES);
        let reserve = Self { dir: dir.to_owned(), path, held: AtomicBool::new(held) };
        if reserve.free_bytes() < DATABASE_START_BYTES {
            reserve.give_up();
        }
        reserve.take_if_there_is_room();
        reserve
    }

    /// Frees the room for the database; tells whether there was any to free.
    pub(crate) fn give_up(&self) -> bool {
        if !self.held.swap(false, Ordering::AcqRel) {
            return false;
        }
        match fs::remove_file(&self.path) {
            Ok(()) => {
                tracing::error!(disk = %self.dir.display(), "the disk is full: the database goes on in its reserve");
                true
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the reserve cannot be given up");
                false
            }
        }
    }

    /// Bytes that are free beside the reserve; none if the system does not say.
    pub(crate) fn free_bytes(&self) -> u64 {
        room::free_bytes(&self.dir).unwrap_or_default()
    }

    /// The folder whose disk this is about.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the reserve again after there is room, and says what is wrong with the disks of the state folder and of
    /// `origin`, for as long as it is polled.
    pub(crate) async fn run(self: Arc<Self>, origin: PathBuf, findings: Arc<Findings>) {
        loop {
            self.take_if_there_is_room();
            findings.set(TOPIC, self.findings(&origin));
            tokio::time::sleep(RESERVE_CHECK_INTERVAL).await;
        }
    }

    /// Twice the room: else the reserve itself would leave the disk as full as it was.
    fn take_if_there_is_room(&self) {
        if self.held.load(Ordering::Acquire) || self.free_bytes() < 2 * RESERVE_BYTES {
            return;
        }
        match self.make() {
            Ok(()) => self.held.store(true, Ordering::Release),
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "the reserve cannot be made"),
        }
    }

    fn make(&self) -> io::Result<()> {
        let file = private().write(true).create(true).truncate(true).open(&self.path)?;
        let length = i64::try_from(RESERVE_BYTES).expect("a few megabytes");
        posix_fallocate(&file, 0, length).map_err(io::Error::from).inspect_err(|_| {
            // What was reserved of it helps nobody.
            let _ = fs::remove_file(&self.path);
        })
    }

    fn findings(&self, origin: &Path) -> Vec<Finding> {
        let state = Disk::of(&self.dir).ok();
        let origin =
            Disk::of(origin).ok().filter(|disk| state.as_ref().is_none_or(|state| disk.device != state.device));
        let held = self.held.load(Ordering::Acquire);
        let of_state = state.and_then(|disk| judge(&disk, held));
        of_state.into_iter().chain(origin.and_then(|disk| judge(&disk, true))).collect()
    }
}

/// What is to be said of a disk. `reserved`: the database has not had to go to its reserve.
fn judge(disk: &Disk, reserved: bool) -> Option<Finding> {
    let Disk { dir, free, total, .. } = disk;
    let what = format!("disk of {}", dir.display());
    if !reserved && *free >= 2 * RESERVE_BYTES {
        let why = format!("the database's reserve, {FILE}, cannot be made there; see the master's log");
        return Some(Finding::warning(what, why));
    }
    if !reserved {
        let wanted = 2 * RESERVE_BYTES;
        let why = format!(
            "full, or nearly so: the database has no reserve left, which is made again once {wanted} bytes are free; \
             {free} were free a moment ago: remove videos or, where that is refused, other files, or enlarge the disk"
        );
        return Some(Finding::failure(what, why));
    }
    let little = (total / 20).min(LITTLE_ROOM_BYTES_MAX);
    let why = || format!("{free} of {total} bytes are free; remove videos or enlarge the disk before it is full");
    (*free < little).then(|| Finding::warning(what, why()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_reserve_takes_its_room_and_gives_it_up_once() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let reserve = Reserve::open(dir.path());
        let metadata = fs::metadata(dir.path().join(FILE)).expect("the reserve");
        assert!(metadata.blocks() * 512 >= RESERVE_BYTES);
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(reserve.give_up() && !reserve.give_up());
        assert!(!dir.path().join(FILE).exists());
        reserve.take_if_there_is_room();
        assert!(reserve.give_up(), "there is room again");
    }

    #[test]
    fn a_reserve_that_is_there_is_taken_over_and_a_broken_one_is_made_anew() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join(FILE);
        drop(Reserve::open(dir.path()));
        assert!(Reserve::open(dir.path()).give_up());
        fs::write(&path, "short").expect("written");
        drop(Reserve::open(dir.path()));
        assert_eq!(fs::metadata(&path).expect("the reserve").len(), RESERVE_BYTES);
    }

    #[test]
    fn little_room_is_a_warning_and_a_reserve_in_use_is_a_failure() {
        let disk = |free, total| Disk { dir: "/state".into(), device: 1, free, total };
        let severity = |disk: &Disk, reserved| judge(disk, reserved).map(|finding| finding.severity);
        use braidcast_proto::v1::Severity;
        assert_eq!(severity(&disk(50, 1_000), true), None);
        assert_eq!(severity(&disk(49, 1_000), true), Some(Severity::Warning));
        assert_eq!(severity(&disk(900, 1_000), false), Some(Severity::Failure));
        let huge = 1_000 * LITTLE_ROOM_BYTES_MAX;
        assert_eq!(severity(&disk(LITTLE_ROOM_BYTES_MAX, huge), true), None);
        assert_eq!(severity(&disk(LITTLE_ROOM_BYTES_MAX - 1, huge), true), Some(Severity::Warning));
    }
}
