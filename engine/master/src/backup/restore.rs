//! Putting a backup in place of what a state folder holds.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use braidcast_media::LibraryId;
use braidcast_media::pack::sync_parent;
use sqlx::Connection;

use super::read::Backup;
use super::write::{check_room, connect_alone, copy, make_empty, query_error, remove_rest, set_application_id};
use super::{BackupError, CA_CERTIFICATE, files};
use crate::clock;
use crate::config::MasterConfig;
use crate::identity::{self, SettleError};
use crate::limits::DATABASE_START_BYTES;
use crate::origin::Origin;
use crate::state_dir::{StateDir, at, write_private, write_public};

/// What was put in place.
#[derive(Debug)]
pub struct Restored {
    /// The library; `None` if the backup is of a folder that no master of this version has started on.
    pub library: Option<LibraryId>,
    /// When the backup was made, as a Unix time in seconds.
    pub made_at: u64,
    /// Every bit of the backup was checked; not so in one that was made before backups had a digest.
    pub has_digest: bool,
    /// How many videos it knows.
    pub videos: usize,
    /// How many of their packs stand in the origin.
    pub packs: usize,
    /// The backup knows videos, and none of their packs is in the origin: the disk is not mounted, or the packs are lost.
    /// The master does not start before the packs are there or a person has decided (`--adopt-origin`), unless the
    /// origin held the library's id already.
    pub origin_empty: bool,
    /// How many packs of the origin the backup does not know: the next start makes them orphans.
    pub unknown: usize,
    /// Files that stood in the way, by the names that they have now.
    pub moved: Vec<PathBuf>,
    /// Files that are in place now.
    pub written: Vec<PathBuf>,
}

/// Puts the backup `file` in place in the state folder of `config`, which no master may use meanwhile. What it replaces
/// keeps its contents under another name. Interrupted at any moment, it may be run again.
///
/// # Errors
/// [`BackupError`]; if the backup is not right or not this folder's, nothing was changed.
pub async fn restore(config: &MasterConfig, file: &Path) -> Result<Restored, BackupError> {
    let backup = Backup::open(file).await?;
    let _held = StateDir::open(config)?;
    let origin_file = config.origin_path().join(identity::ORIGIN_FILE);
    check_library(config, file, &backup, &origin_file)?;
    let database = config.database_path();
    check_room(&database, fs::metadata(file).map_err(at(file))?.len() + DATABASE_START_BYTES)?;
    let ready = prepare(file, &database).await?;
    // What is moved aside keeps a master from making a new database: a restore that ends here does no harm.
    let place = |moved| rename(&ready, &database).map(|()| moved);
    let placed = move_aside(config, &database, &backup).and_then(place);
    let moved = placed.inspect_err(|_| remove_rest(&ready))?;
    let mut written = vec![database];
    for (name, path) in files(config) {
        let Some((_, contents)) = backup.files.iter().find(|(known, _)| known == name) else { continue };
        let write = if name == CA_CERTIFICATE { write_public } else { write_private };
        write(&path, contents)?;
        written.push(path);
    }
    let origin = Origin::new(config.origin_path());
    let survey = origin.survey(&backup.rows)?;
    let unknown = survey.unknown();
    let packs = survey.packs - unknown;
    // An empty folder may be the place where the origin's disk is not mounted. Its id is what tells a master that the
    // packs are here: without it, the master does not start before the disk is there or a person says that it is lost.
    let origin_empty = packs == 0 && !backup.rows.is_empty();
    if let Some(library) = backup.library.filter(|_| !origin_empty) {
        identity::write(&origin_file, library)?;
        written.push(origin_file);
    }
    let Backup { library, made_at, rows, has_digest, .. } = backup;
    let videos = rows.len();
    Ok(Restored { library, made_at, has_digest, videos, packs, origin_empty, unknown, moved, written })
}

fn check_library(config: &MasterConfig, file: &Path, backup: &Backup, origin_file: &Path) -> Result<(), BackupError> {
    let found = match identity::read(origin_file) {
        Ok(found) => found,
        // An id that cannot be read says no more than none: the packs decide.
        Err(SettleError::Identity(_)) => None,
        Err(SettleError::State(error)) => return Err(error.into()),
        Err(SettleError::Query(source)) => return Err(query_error(origin_file)(source)),
    };
    match (backup.library, found) {
        (Some(backup), Some(found)) if backup != found => {
            Err(BackupError::OtherLibrary { path: file.to_owned(), backup, origin: config.origin_path(), found })
        }
        (_, None) => check_packs(config, file, backup),
        _ => Ok(()),
    }
}

/// An origin without an id is this library's if it is empty or holds a pack of it.
fn check_packs(config: &MasterConfig, file: &Path, backup: &Backup) -> Result<(), BackupError> {
    let survey = Origin::new(config.origin_path()).survey(&backup.rows)?;
    if survey.packs > 0 && survey.matching == 0 {
        let (path, origin, packs) = (file.to_owned(), config.origin_path(), survey.packs);
        return Err(BackupError::ForeignPacks { path, origin, packs });
    }
    Ok(())
}

/// Makes the database of the backup anew beside the place where it will stand, whole and durable.
async fn prepare(file: &Path, database: &Path) -> Result<PathBuf, BackupError> {
    let ready = suffixed(database, ".restoring");
    make_empty(&ready)?;
    fill(file, &ready).await.inspect_err(|_| remove_rest(&ready))?;
    Ok(ready)
}

async fn fill(file: &Path, ready: &Path) -> Result<(), BackupError> {
    copy(file, ready).await?;
    let failed = query_error(ready);
    let mut connection = connect_alone(ready).await.map_err(&failed)?;
    for drop in ["DROP TABLE backup_info", "DROP TABLE backup_files", "VACUUM"] {
        sqlx::query(drop).execute(&mut connection).await.map_err(&failed)?;
    }
    set_application_id(&mut connection, 0).await.map_err(&failed)?;
    connection.close().await.map_err(&failed)?;
    File::open(ready).and_then(|file| file.sync_all()).map_err(at(ready))?;
    Ok(())
}

/// Gives other names to the files that the backup replaces, none of which stands yet: the file that stood in the way of
/// one restore must survive the next one, in the same second or by a clock that was set back. A write-ahead log goes with
/// its database: beside another one SQLite would take it for that one's.
fn move_aside(config: &MasterConfig, database: &Path, backup: &Backup) -> Result<Vec<PathBuf>, BackupError> {
    let now = UNIX_EPOCH + Duration::from_secs(clock::unix_s());
    let time = humantime::format_rfc3339_seconds(now).to_string().replace([':', '-'], "");
    let pairs = (0_u32..)
        .map(|number| if number == 0 { time.clone() } else { format!("{time}-{number}") })
        .map(|tag| moves(config, database, backup, &tag))
        .find(|pairs| pairs.iter().all(|(_, to)| fs::symlink_metadata(to).is_err()))
        .unwrap_or_default();
    let mut moved = Vec::new();
    for (from, to) in pairs {
        match fs::rename(&from, &to) {
            Ok(()) => moved.push(to),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&from)(error).into()),
        }
    }
    Ok(moved)
}

/// What is moved where. The log comes first: interrupted after it, the database still has its name and is moved later.
fn moves(config: &MasterConfig, database: &Path, backup: &Backup, tag: &str) -> Vec<(PathBuf, PathBuf)> {
    let aside = |path: &Path| suffixed(path, &format!(".before-restore-{tag}"));
    let of_database =
        ["-wal", "-shm", ""].map(|suffix| (suffixed(database, suffix), suffixed(&aside(database), suffix)));
    let in_backup = |name: &str| backup.files.iter().any(|(known, _)| known == name);
    let of_files = files(config).into_iter().filter(|(name, _)| in_backup(name)).map(|(_, path)| path);
    of_database.into_iter().chain(of_files.map(|path| (path.clone(), aside(&path)))).collect()
}

fn rename(from: &Path, to: &Path) -> Result<(), BackupError> {
    fs::rename(from, to).and_then(|()| sync_parent(to)).map_err(at(to))?;
    Ok(())
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_restore_that_fails_half_way_leaves_nothing_of_its_own() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (file, database) = (dir.path().join("x.backup"), dir.path().join("master.db"));
        fs::write(&file, "no database").expect("written");
        let error = prepare(&file, &database).await.expect_err("there is nothing to copy");
        assert!(error.to_string().contains("x.backup"), "{error}");
        let names: Vec<_> =
            fs::read_dir(dir.path()).expect("lists").map(|entry| entry.expect("entry").path()).collect();
        assert_eq!(names, [file]);
    }
}
