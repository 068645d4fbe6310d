//! The folder that a master keeps its state in: private, and used by one master at a time.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use braidcast_media::pack::sync_parent;
use zeroize::Zeroizing;

use crate::config::MasterConfig;
use crate::limits::JOIN_TOKEN_BYTES_MIN;
use crate::random;

/// Holds the folder for as long as it lives; the system lets go of it when the process dies in any way.
pub(crate) struct StateDir {
    _lock: File,
    _origin: File,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or folder cannot be made, read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Two masters over one database would undo each other's work.
    #[error("{path} is in use by another master: stop that one, or give this one a state folder of its own")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The files may be those of two databases.
    #[error(
        "a restore of {backup} into {state_dir} was interrupted. Nothing was changed since: run `braidcast restore {backup} \
         --state {state_dir}` again. To go back instead, give the newest files that end in .before-restore-TIME their own \
         names again, and then delete {mark}"
    )]
    RestoreUnfinished {
        /// The backup that was to be put in place.
        backup: String,
        /// The folder.
        state_dir: PathBuf,
        /// The file that says so.
        mark: PathBuf,
    },
    /// A token that could be guessed.
    #[error(
        "{path}: the join token is {found} bytes long and must be at least {JOIN_TOKEN_BYTES_MIN}: \
         remove the file to have a new one drawn"
    )]
    ShortJoinToken {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: usize,
    },
}

impl StateDir {
    /// Makes what is absent and takes the folder.
    pub(crate) fn open(config: &MasterConfig) -> Result<Self, StateError> {
        for dir in [config.state_dir.clone(), config.origin_path()] {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(at(&dir))?;
        }
        let path = config.lock_path();
        let lock = private().write(true).create(true).truncate(false).open(&path).map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock, _origin: lock_origin(&config.origin_path())? }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse { path: config.state_dir.clone() }),
            Err(TryLockError::Error(source)) => Err(StateError::Io { path, source }),
        }
    }
}

/// The folder of packs itself is locked, too: two state folders may share it by a link or a mount, and each master would
/// take the other's packs for strangers. A file system that locks no folders goes without.
fn lock_origin(dir: &Path) -> Result<File, StateError> {
    let folder = File::open(dir).map_err(at(dir))?;
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => Err(StateError::InUse { path: dir.to_owned() }),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(folder),
    }
}

/// The token in `path`, drawn first if there is no such file.
pub(crate) fn join_token(path: &Path) -> Result<Zeroizing<String>, StateError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let token = Zeroizing::new(random::draw_hex::<32>());
            write_private(path, format!("{}\n", *token).as_bytes())?;
            return Ok(token);
        }
        Err(source) => return Err(StateError::Io { path: path.to_owned(), source }),
    };
    let token = Zeroizing::new(text.trim().to_owned());
    if token.len() < JOIN_TOKEN_BYTES_MIN {
        return Err(StateError::ShortJoinToken { path: path.to_owned(), found: token.len() });
    }
    Ok(token)
}

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, contents: &[u8]) -> Result<(), StateError> {
    write_whole(path, contents, 0o600)
}

/// Writes a file that anybody may read, whole or not at all.
pub(crate) fn write_public(path: &Path, contents: &[u8]) -> Result<(), StateError> {
    write_whole(path, contents, 0o644)
}

fn write_whole(path: &Path, contents: &[u8], mode: u32) -> Result<(), StateError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let write = || {
        // One that a crash left behind may have another mode.
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    write().map_err(at(path))
}

/// Which file or folder of which mounted file system stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// # Errors
    /// Nothing stands at `path`.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }

    /// Of an open file.
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Options for a file that only its owner may read.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Names the file in an error of the system.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_serves_one_master_at_a_time() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let config = MasterConfig { state_dir: dir.path().join("state"), ..MasterConfig::default() };
        let first = StateDir::open(&config).expect("first");
        assert!(matches!(StateDir::open(&config), Err(StateError::InUse { .. })));
        drop(first);
        StateDir::open(&config).expect("after the first has gone");
    }

    #[test]
    fn two_state_folders_that_share_an_origin_serve_one_master_at_a_time() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let [first, second] =
            ["a", "b"].map(|name| MasterConfig { state_dir: dir.path().join(name), ..MasterConfig::default() });
        let held = StateDir::open(&first).expect("first");
        fs::create_dir(&second.state_dir).expect("made");
        std::os::unix::fs::symlink(first.origin_path(), second.origin_path()).expect("linked");
        let error = StateDir::open(&second).map(|_| ()).expect_err("the origin is in use").to_string();
        assert!(error.contains("origin"), "{error}");
        drop(held);
        StateDir::open(&second).expect("after the first has gone");
    }

    #[test]
    fn a_join_token_is_drawn_once_and_private() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("join-token");
        let drawn = join_token(&path).expect("drawn");
        assert_eq!(drawn, join_token(&path).expect("read"));
        assert!(drawn.len() >= JOIN_TOKEN_BYTES_MIN);
        let mode = fs::metadata(&path).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_join_token_of_one_byte_too_few_is_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("join-token");
        fs::write(&path, "x".repeat(JOIN_TOKEN_BYTES_MIN)).expect("written");
        assert!(join_token(&path).is_ok());
        fs::write(&path, "x".repeat(JOIN_TOKEN_BYTES_MIN - 1) + "\n").expect("written");
        assert!(matches!(join_token(&path), Err(StateError::ShortJoinToken { .. })));
    }
}
