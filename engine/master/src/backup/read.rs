//! Reading a backup, and checking that it is whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use braidcast_media::LibraryId;
use sqlx::{Connection, SqliteConnection};
use zeroize::Zeroizing;

use super::digest::{self, Verdict};
use super::write::{connect, is_backup, query_error, sqlite_code};
use super::{BackupError, CA_CERTIFICATE, CA_KEY, FORMAT, JOIN_TOKEN};
use crate::db;
use crate::identity;
use crate::limits::JOIN_TOKEN_BYTES_MIN;
use crate::state_dir::at;
use crate::tls;

/// A backup that was checked.
pub(super) struct Backup {
    pub(super) library: Option<LibraryId>,
    /// When it was made, as a Unix time in seconds.
    pub(super) made_at: u64,
    /// Files of the state folder, by their names.
    pub(super) files: Vec<(String, Zeroizing<Vec<u8>>)>,
    /// Every bit was checked; not so in a backup that was made before backups had a digest.
    pub(super) has_digest: bool,
    /// The assets that it knows.
    pub(super) rows: identity::Rows,
}

impl Backup {
    /// Reads the backup at `path`.
    pub(super) async fn open(path: &Path) -> Result<Self, BackupError> {
        let no_backup = |problem: &str| BackupError::NoBackup { path: path.to_owned(), problem: problem.to_owned() };
        let file = File::open(path).map_err(at(path))?;
        if !is_backup(&file) {
            return Err(no_backup(
                "it does not say so; `braidcast backup FILE` and the master's snapshots make such files",
            ));
        }
        let damaged =
            |problem: &dyn ToString| BackupError::Damaged { path: path.to_owned(), problem: problem.to_string() };
        let verdict = digest::check(path).await.map_err(at(path))?;
        if verdict == Verdict::Wrong {
            return Err(damaged(&"its content is not the one that was written"));
        }
        if let Some(problem) = cut_off(&file).map_err(at(path))? {
            return Err(damaged(&problem));
        }
        let failed = |source| if is_of_system(&source) { query_error(path)(source) } else { damaged(&source) };
        let mut connection = connect(path).await.map_err(failed)?;
        let checked = check(&mut connection).await.map_err(failed)?;
        if let Err(problem) = checked {
            return Err(match problem {
                Problem::Damaged(problem) => damaged(&problem),
                Problem::Later(what) => BackupError::Later { path: path.to_owned(), what },
            });
        }
        let mut backup = read(&mut connection).await.map_err(failed)?;
        connection.close().await.map_err(failed)?;
        backup.has_digest = verdict == Verdict::Sound;
        match check_files(&backup) {
            Err(problem) => Err(damaged(&problem)),
            Ok(()) => Ok(backup),
        }
    }
}

/// Says so if the file is shorter than the header of its database says.
fn cut_off(file: &File) -> io::Result<Option<String>> {
    let (mut page_bytes, mut pages) = ([0; 2], [0; 4]);
    file.read_exact_at(&mut page_bytes, PAGE_BYTES_AT)?;
    file.read_exact_at(&mut pages, PAGES_AT)?;
    let page_bytes = match u16::from_be_bytes(page_bytes) {
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    let (bytes, expected) = (file.metadata()?.len(), u64::from(u32::from_be_bytes(pages)) * page_bytes);
    Ok((bytes < expected).then(|| format!("{bytes} of at least {expected} bytes are there")))
}

// Where SQLite's header has them (https://www.sqlite.org/fileformat.html, section 1.3).
const PAGE_BYTES_AT: u64 = 16;
const PAGES_AT: u64 = 28;

/// Whether an error is about the disk, the system or another process, and not about what the file holds.
fn is_of_system(error: &sqlx::Error) -> bool {
    // PERM, BUSY, LOCKED, NOMEM, IOERR, FULL, CANTOPEN, AUTH (https://www.sqlite.org/rescode.html).
    const OF_SYSTEM: [u32; 8] = [3, 5, 6, 7, 10, 13, 14, 23];
    match error {
        sqlx::Error::Database(_) => sqlite_code(error).is_some_and(|code| OF_SYSTEM.contains(&code)),
        sqlx::Error::Io(_) => true,
        _ => false,
    }
}

enum Problem {
    Damaged(String),
    Later(String),
}

/// Checks all that can be checked without packs.
async fn check(connection: &mut SqliteConnection) -> Result<Result<(), Problem>, sqlx::Error> {
    let verdict: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut *connection).await?;
    if verdict != "ok" {
        return Ok(Err(Problem::Damaged(verdict)));
    }
    let format: i64 = sqlx::query_scalar("SELECT max(format) FROM backup_info").fetch_one(&mut *connection).await?;
    if format > FORMAT {
        return Ok(Err(Problem::Later(format!("format {format}; this program knows {FORMAT}"))));
    }
    let migration: i64 =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut *connection).await?;
    let known = db::newest_migration();
    if migration > known {
        return Ok(Err(Problem::Later(format!("database version {migration}; this program knows {known}"))));
    }
    let wrong: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM assets WHERE length(content_key) <> 16 OR length(header_hash) <> 32)
              + (SELECT count(*) FROM servers WHERE length(key) <> 32)
              + (SELECT count(*) FROM settings WHERE name = 'token_key' AND length(value) <> 32)
              + (SELECT count(*) FROM backup_info
                 WHERE library_id IS NOT (SELECT value FROM settings WHERE name = 'library_id'))",
    )
    .fetch_one(connection)
    .await?;
    if wrong > 0 {
        return Ok(Err(Problem::Damaged(format!("{wrong} of its keys or ids have the wrong length"))));
    }
    Ok(Ok(()))
}

async fn read(connection: &mut SqliteConnection) -> Result<Backup, sqlx::Error> {
    let library = identity::of_database(&mut *connection).await?;
    let made_at: i64 = sqlx::query_scalar("SELECT made_at FROM backup_info").fetch_one(&mut *connection).await?;
    let files: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT name, contents FROM backup_files").fetch_all(&mut *connection).await?;
    let files = files.into_iter().map(|(name, contents)| (name, Zeroizing::new(contents))).collect();
    let rows = identity::rows(connection).await?;
    Ok(Backup { library, made_at: made_at.unsigned_abs(), files, has_digest: false, rows })
}

/// Says what is wrong with the files: a master would not start with them.
fn check_files(backup: &Backup) -> Result<(), String> {
    let file = |wanted| backup.files.iter().find(|(name, _)| name == wanted).map(|(_, contents)| contents);
    match (file(CA_CERTIFICATE), file(CA_KEY)) {
        (Some(certificate), Some(key)) => tls::check_ca(certificate, key)?,
        (None, None) => {}
        _ => return Err("it holds one half of the certificate authority only".into()),
    }
    match file(JOIN_TOKEN) {
        Some(token) if token.trim_ascii().len() < JOIN_TOKEN_BYTES_MIN => Err("its join token is too short".into()),
        _ => Ok(()),
    }
}
