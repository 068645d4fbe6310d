//! Small files that hold secrets: readable by their owner alone, and replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Mode of a file that holds a secret.
pub const PRIVATE_MODE: u32 = 0o600;

/// Puts `contents` at `path` with mode 0600, so that a reader finds the old contents or the new, never a mixture.
/// Folders on the way are not made.
///
/// # Errors
/// What the system says of the folder or of the temporary file in it.
pub fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    replace(path, contents, File::sync_all)
}

/// The same for what may be lost if the machine goes down: nothing waits for the disk.
pub(crate) fn write_cache(path: &Path, contents: &[u8]) -> io::Result<()> {
    replace(path, contents, |_| Ok(()))
}

fn replace(path: &Path, contents: &[u8], sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let partial = partial_path(path);
    // A file left by a process that died with this id may be wider open than 0600, or a link: never write through it.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_MODE).open(&partial)?;
    let written = file.write_all(contents).and_then(|()| sync(&file)).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_wide_open_file_is_replaced_by_a_private_one() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("secret");
        fs::write(&path, "old").expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("own file");

        write(&path, b"new").expect("writable");

        assert_eq!(fs::read(&path).expect("readable"), b"new");
        assert_eq!(fs::metadata(&path).expect("exists").permissions().mode() & 0o777, PRIVATE_MODE);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let error = write(&dir.path().join("none/secret"), b"x").expect_err("no folder");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
