//! Why a backup is not written or not put in place.

use std::path::PathBuf;

use braidcast_media::LibraryId;

use crate::identity::IdentityError;
use crate::state_dir::StateError;

/// A backup was not written, or not put in place.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written, or a master uses the folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is nothing to copy.
    #[error("{path} does not exist: name the master's state folder with --state")]
    NoDatabase {
        /// Where the database should be.
        path: PathBuf,
    },
    /// SQLite cannot read or write a file, or finds it damaged.
    #[error("{path}: {source}")]
    Query {
        /// Which file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// A database is not copied to where it should be.
    #[error("{from} cannot be copied to {to}: {source}")]
    Copy {
        /// What is read.
        from: PathBuf,
        /// What is written.
        to: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The disk could not hold it.
    #[error(
        "{path} is full: the backup needs {needed} bytes there, and {free} are free; remove files or choose another disk"
    )]
    DiskFull {
        /// Which folder.
        path: PathBuf,
        /// The size of the database, and what is left free for it.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// Another program writes the same backup.
    #[error("another `braidcast backup` writes {path}: wait for it, or choose another name")]
    Busy {
        /// The backup.
        path: PathBuf,
    },
    /// Something else stands where the backup is to be written.
    #[error("{path} exists and is no backup of braidcast: choose another name")]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// The origin holds packs, and none of them is in the backup.
    #[error(
        "{origin} holds {packs} packs, and {path} knows none of them: restore the backup of that library, or put this \
         one into an empty state folder"
    )]
    ForeignPacks {
        /// The backup that was to be put in place.
        path: PathBuf,
        /// The origin's folder.
        origin: PathBuf,
        /// How many packs stand there.
        packs: usize,
    },
    /// It cannot be restored from.
    #[error("{path} is no backup of braidcast: {problem}")]
    NoBackup {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// It was a backup once.
    #[error("{path} is damaged or cut off ({problem}): take another backup")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// It is newer than this program.
    #[error("{path} was written by a later version of braidcast ({what}): restore it with that version")]
    Later {
        /// Which file.
        path: PathBuf,
        /// What is newer.
        what: String,
    },
    /// Its packs are not the ones that stand in the folder.
    #[error(
        "{path} is a backup of library {backup}, and {origin} holds library {found}: restore into another state folder, \
         or the backup that belongs to this one"
    )]
    OtherLibrary {
        /// Which file.
        path: PathBuf,
        /// Its library.
        backup: LibraryId,
        /// The origin's folder.
        origin: PathBuf,
        /// Its library.
        found: LibraryId,
    },
    /// The origin's id cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}
