//! The mark of a restore that has begun: while it stands, the state folder holds parts of two databases, so no master
//! starts on it and no backup of it is written. A restore that is run again goes on where the last one was interrupted.

use std::fs;
use std::io;
use std::path::Path;

use braidcast_media::pack::sync_parent;

use crate::config::MasterConfig;
use crate::state_dir::{StateError, at, write_private};

/// File in the state folder.
const FILE: &str = "restore-unfinished";

/// What the mark says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// What the names of files end in that were moved aside.
    pub(super) tag: String,
    /// The backup that was to be put in place, as it was named.
    backup: String,
}

/// Marks the folder, durably, before its first file is moved.
pub(super) fn begin(config: &MasterConfig, backup: &Path, tag: &str) -> Result<(), StateError> {
    // The folder of the command that is told to be run again may be another one.
    let backup = std::path::absolute(backup).unwrap_or_else(|_| backup.to_owned());
    write_private(&config.state_dir.join(FILE), format!("{tag}\n{}\n", backup.display()).as_bytes())
}

/// Takes the mark away, durably, after the last file was written.
pub(super) fn end(config: &MasterConfig) -> Result<(), StateError> {
    let path = config.state_dir.join(FILE);
    fs::remove_file(&path).and_then(|()| sync_parent(&path)).map_err(at(&path))
}

/// The mark of a restore that was interrupted. `None`: there is none.
pub(super) fn read(config: &MasterConfig) -> Result<Option<Unfinished>, StateError> {
    let path = config.state_dir.join(FILE);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(&path)(error)),
    };
    let (tag, backup) = text.trim_end().split_once('\n').unwrap_or(("", "FILE"));
    Ok(Some(Unfinished { tag: tag.to_owned(), backup: backup.to_owned() }))
}

/// Refuses a folder on which a restore was interrupted.
pub(crate) fn check(config: &MasterConfig) -> Result<(), StateError> {
    let Some(Unfinished { backup, .. }) = read(config)? else { return Ok(()) };
    let (state_dir, mark) = (config.state_dir.clone(), config.state_dir.join(FILE));
    Err(StateError::RestoreUnfinished { backup, state_dir, mark })
}
