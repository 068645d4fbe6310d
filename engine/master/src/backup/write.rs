//! Writing a backup, while a master uses the database or not.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use braidcast_media::LibraryId;
use braidcast_media::pack::sync_parent;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use zeroize::Zeroizing;

use super::partial::Partial;
use super::{APPLICATION_ID, APPLICATION_ID_AT, BackupError, FORMAT, digest, files, unfinished};
use crate::clock;
use crate::config::MasterConfig;
use crate::db::BUSY_TIMEOUT;
use crate::identity;
use crate::limits::RESERVE_BYTES;
use crate::room;
use crate::state_dir::{at, private};

/// What a backup is called before it is whole: nobody else calls a file so.
pub(super) const PARTIAL_SUFFIX: &str = ".braidcast-partial";

/// What a backup holds.
#[derive(Debug)]
pub struct Written {
    /// The library; `None` if no master of this version has started on it yet.
    pub library: Option<LibraryId>,
    /// How many videos.
    pub videos: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Files of the state folder that are not there, and so not in the backup: those that flags place elsewhere.
    pub absent: Vec<PathBuf>,
}

/// Writes a backup of the state folder of `config` to `file`, whole or not at all. Replaces a backup, and no other
/// file. The file holds content keys and the key of the certificate authority: only its owner may read it.
///
/// # Errors
/// [`BackupError`].
pub async fn write(config: &MasterConfig, file: &Path) -> Result<Written, BackupError> {
    unfinished::check(config)?;
    let database = config.database_path();
    let bytes = match fs::metadata(&database) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::NoDatabase { path: database });
        }
        Err(error) => return Err(at(&database)(error).into()),
    };
    check_target(file)?;
    check_room(file, bytes + RESERVE_BYTES)?;
    let partial = Partial::beside(file)?;
    let written = fill(config, &database, partial.path()).await?;
    let place = || {
        partial.place(file)?;
        sync_parent(file)?;
        fs::metadata(file)
    };
    let bytes = place().map_err(at(file))?.len();
    Ok(Written { bytes, ..written })
}

/// Makes the backup in the empty file `partial`.
async fn fill(config: &MasterConfig, database: &Path, partial: &Path) -> Result<Written, BackupError> {
    copy(database, partial).await?;
    let failed = query_error(partial);
    let mut contents = Vec::new();
    let mut absent = Vec::new();
    for (name, path) in files(config) {
        match fs::read(&path) {
            Ok(bytes) => contents.push((name, Zeroizing::new(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => absent.push(path),
            Err(error) => return Err(at(&path)(error).into()),
        }
    }
    let mut backup = connect_alone(partial).await.map_err(&failed)?;
    let described = describe(&mut backup, &contents).await.map_err(&failed)?;
    backup.close().await.map_err(&failed)?;
    digest::append(partial).await.map_err(at(partial))?;
    let (library, videos) = described;
    Ok(Written { library, videos, bytes: 0, absent })
}

/// Copies the database at `from`, as it is at this moment, to the empty file `to`.
pub(super) async fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = query_error(from);
    let mut source = connect(from).await.map_err(&failed)?;
    let target = to.to_str().ok_or_else(|| failed(sqlx::Error::Configuration("its path is not UTF-8".into())))?;
    let copied = sqlx::query("VACUUM INTO ?").bind(target).execute(&mut source).await;
    copied.map_err(|error| copy_error(from, to, error))?;
    source.close().await.map_err(&failed)
}

/// Names the disk that is full, which is the one that is written to.
fn copy_error(from: &Path, to: &Path, source: sqlx::Error) -> BackupError {
    if let (Some(SQLITE_FULL), Ok(length), Ok((path, free))) =
        (sqlite_code(&source), fs::metadata(from).map(|file| file.len()), room_for(to))
    {
        return BackupError::DiskFull { path, needed: length, free };
    }
    BackupError::Copy { from: from.to_owned(), to: to.to_owned(), source }
}

/// Opens a database that is there, and leaves its journal mode as it is.
pub(super) async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(path).connect().await
}

/// Opens a database that nobody else has, and that is of no use before it is whole: it keeps its journal in memory.
pub(super) async fn connect_alone(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(path).journal_mode(SqliteJournalMode::Memory).connect().await
}

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT).disable_statement_logging()
}

/// Makes an empty file that only its owner may read. One that a crash left behind may have another mode, and a journal
/// that SQLite would roll back into the new file.
pub(super) fn make_empty(path: &Path) -> Result<(), BackupError> {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    remove_if_there(Path::new(&journal))?;
    remove_if_there(path)?;
    private().write(true).create_new(true).open(path).map_err(at(path))?;
    Ok(())
}

async fn describe(
    backup: &mut SqliteConnection,
    contents: &[(&'static str, Zeroizing<Vec<u8>>)],
) -> Result<(Option<LibraryId>, u64), sqlx::Error> {
    let library = identity::of_database(&mut *backup).await?;
    let videos: i64 = sqlx::query_scalar("SELECT count(*) FROM assets").fetch_one(&mut *backup).await?;
    sqlx::query("CREATE TABLE backup_info (format INTEGER NOT NULL, library_id BLOB, made_at INTEGER NOT NULL) STRICT")
        .execute(&mut *backup)
        .await?;
    sqlx::query("CREATE TABLE backup_files (name TEXT NOT NULL PRIMARY KEY, contents BLOB NOT NULL) STRICT")
        .execute(&mut *backup)
        .await?;
    sqlx::query("INSERT INTO backup_info (format, library_id, made_at) VALUES (?, ?, ?)")
        .bind(FORMAT)
        .bind(library.map(|id| id.0.to_vec()))
        .bind(clock::unix_s_signed())
        .execute(&mut *backup)
        .await?;
    for (name, bytes) in contents {
        sqlx::query("INSERT INTO backup_files (name, contents) VALUES (?, ?)")
            .bind(name)
            .bind(&bytes[..])
            .execute(&mut *backup)
            .await?;
    }
    set_application_id(backup, APPLICATION_ID).await?;
    Ok((library, videos.unsigned_abs()))
}

/// PRAGMAs take no parameters.
pub(super) async fn set_application_id(connection: &mut SqliteConnection, id: u32) -> Result<(), sqlx::Error> {
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA application_id = {id}"));
    sqlx::query(pragma).execute(connection).await.map(|_| ())
}

/// Refuses to replace anything but a backup.
fn check_target(file: &Path) -> Result<(), BackupError> {
    match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at(file)(error).into()),
        Ok(open) if is_backup(&open) => Ok(()),
        Ok(_) => Err(BackupError::Occupied { path: file.to_owned() }),
    }
}

/// Whether a file says of itself that it is a backup.
pub(crate) fn is_backup(file: &File) -> bool {
    let (mut magic, mut id) = ([0; 16], [0; 4]);
    let read = file.read_exact_at(&mut magic, 0).and_then(|()| file.read_exact_at(&mut id, APPLICATION_ID_AT));
    read.is_ok() && &magic == b"SQLite format 3\0" && u32::from_be_bytes(id) == APPLICATION_ID
}

/// Refuses a file of `needed` bytes that does not fit on the disk where it is to be.
pub(super) fn check_room(file: &Path, needed: u64) -> Result<(), BackupError> {
    let (path, free) = room_for(file)?;
    if free < needed { Err(BackupError::DiskFull { path, needed, free }) } else { Ok(()) }
}

/// The folder of `file`, and what is free there.
fn room_for(file: &Path) -> Result<(PathBuf, u64), BackupError> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((dir.to_owned(), room::free_bytes(dir).map_err(at(dir))?))
}

fn remove_if_there(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error).into()),
        _ => Ok(()),
    }
}

/// Removes a file that did not become whole. What went wrong before is the error to tell of.
pub(super) fn remove_rest(path: &Path) {
    let _ = remove_if_there(path);
}

/// Names the file in an error of SQLite.
pub(super) fn query_error(path: &Path) -> impl Fn(sqlx::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::Query { path: path.clone(), source }
}

/// <https://www.sqlite.org/rescode.html#full>
const SQLITE_FULL: u32 = 13;

/// The kind of an error of SQLite, without what is added to it.
pub(super) fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
