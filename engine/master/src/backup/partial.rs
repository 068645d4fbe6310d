//! A backup before it is whole: one program at a time writes it, and what a crash left of one is removed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::BackupError;
use super::write::{PARTIAL_SUFFIX, make_empty, remove_rest};
use crate::state_dir::{FileId, at};

/// The file that a backup is written to, under a name that nobody else gives a file. Removed when it is dropped.
///
/// Whoever writes it holds a lock (flock) on it, and only the holder of the lock on the file that has the name may remove
/// or replace that file.
pub(super) struct Partial {
    path: PathBuf,
    /// Until it has another name: somebody else may have begun a file of this one.
    stands: bool,
    _locked: File,
}

impl Partial {
    /// An empty file beside the place where the backup is to stand.
    ///
    /// # Errors
    /// [`BackupError::Busy`] while another program writes a backup to `file`.
    pub(super) fn beside(file: &Path) -> Result<Self, BackupError> {
        let mut path = file.as_os_str().to_owned();
        path.push(PARTIAL_SUFFIX);
        let path = PathBuf::from(path);
        // Held until the new file is locked, so that nobody else takes that for what a crash left.
        let _rest = match open(&path) {
            Ok(rest) => Some(lock(rest, &path, file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(at(&path)(error).into()),
        };
        make_empty(&path)?;
        let _locked = lock(open(&path).map_err(at(&path))?, &path, file)?;
        Ok(Self { path, stands: true, _locked })
    }

    /// Where it stands.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it the name of the backup.
    pub(super) fn place(mut self, file: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, file)?;
        self.stands = false;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.stands {
            remove_rest(&self.path);
        }
    }
}

/// Opens a file and follows no link.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// Locks what was opened as `path`, if that has the name still.
fn lock(opened: File, path: &Path, backup: &Path) -> Result<File, BackupError> {
    let busy = || BackupError::Busy { path: backup.to_owned() };
    match opened.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => return Err(at(path)(error).into()),
    }
    let is_same = FileId::at(path).ok() == FileId::of(&opened).ok();
    if is_same { Ok(opened) } else { Err(busy()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two that wrote one backup shared one unfinished file: one put the other's half in the place of a good backup, and
    /// said that it was done.
    #[test]
    fn one_program_at_a_time_writes_a_backup_and_what_a_crash_left_is_removed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join("x.backup");
        fs::write(&file, "good").expect("written");
        let first = Partial::beside(&file).expect("nobody else writes");
        fs::write(first.path(), "better").expect("written");
        assert!(matches!(Partial::beside(&file), Err(BackupError::Busy { path }) if path == file));
        let path = first.path().to_owned();
        first.place(&file).expect("placed");
        assert_eq!(fs::read_to_string(&file).expect("there"), "better");
        assert!(!path.exists());

        fs::write(&path, "left by a crash").expect("written");
        let second = Partial::beside(&file).expect("nobody writes that");
        assert_eq!(fs::metadata(second.path()).expect("there").len(), 0);
        drop(second);
        assert!(!path.exists() && fs::read_to_string(&file).expect("there") == "better");
    }

    #[test]
    fn a_link_in_the_place_of_the_unfinished_file_is_not_followed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (file, other) = (dir.path().join("x.backup"), dir.path().join("other"));
        fs::write(&other, "kept").expect("written");
        std::os::unix::fs::symlink(&other, dir.path().join(format!("x.backup{PARTIAL_SUFFIX}"))).expect("linked");
        assert!(matches!(Partial::beside(&file), Err(BackupError::State(_))));
        assert_eq!(fs::read_to_string(&other).expect("there"), "kept");
    }
}
