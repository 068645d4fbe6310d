//! The database: one SQLite file. Each noun keeps its own queries; this opens the file and brings it up to date.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqlSafeStr, SqlitePool};

use crate::backup;
use crate::database;
use crate::limits::DATABASE_START_BYTES;
use crate::room;
use crate::state_dir::{StateError, at, private};

const CONNECTIONS: u32 = 4;
/// How long a statement waits for one of another connection or process.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Version of the newest database that this program knows.
pub(crate) fn newest_migration() -> i64 {
    migrator().iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The file cannot be made.
    #[error(transparent)]
    State(#[from] StateError),
    /// SQLite does not take it.
    #[error(
        "{path}: {source}. If the file is damaged, stop the master and put a snapshot in its place: `braidcast restore \
         FILE`; the daily ones are in the folder of --backup-dir"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// There is no room for the files that SQLite keeps beside it.
    #[error(
        "the disk of {dir} is full: {free} bytes are free, and the database needs {needed} to start; make room, and start \
         the master again. That says nothing against the database",
        needed = DATABASE_START_BYTES
    )]
    Full {
        /// The state folder.
        dir: PathBuf,
        /// Bytes that are free.
        free: u64,
    },
    /// A person has put a backup in the database's place.
    #[error(
        "{path} is a backup and no database: move it away, and run `braidcast restore FILE` with it; a restore also puts \
         the master's keys back that the backup holds"
    )]
    Backup {
        /// Where the database should be.
        path: PathBuf,
    },
    /// It was written by a later version, or a migration fails.
    #[error("{path} cannot be brought up to date: {source}; was it written by a later version of the master?")]
    Migrate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: MigrateError,
    },
}

/// Opens the database at `path`, making it if it is absent.
pub(crate) async fn open(path: &Path) -> Result<SqlitePool, DbError> {
    // Made here for its mode, which SQLite copies to the files that it keeps beside it.
    let file = private().read(true).append(true).create(true).open(path).map_err(at(path))?;
    // Before SQLite opens it: that alone changes bytes which a backup's digest covers.
    if backup::is_backup(&file) {
        return Err(DbError::Backup { path: path.to_owned() });
    }
    drop(file);
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // A publisher that was told "done" finds its video after a power cut too; NORMAL would not promise that.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = pool_options().connect_with(options).await.map_err(|source| refusal(path, source))?;
    check(&pool).await.map_err(|source| refusal(path, source))?;
    migrator().run(&pool).await.map_err(|source| match source {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) if is_out_of_room(path, &source) => {
            refusal(path, source)
        }
        source => DbError::Migrate { path: path.to_owned(), source },
    })?;
    Ok(pool)
}

/// A pool that uses no connection again whose transaction may not have ended: where COMMIT fails, as on a full disk, SQLite
/// has rolled back by itself, the ROLLBACK that follows fails too, and sqlx takes the transaction for open ever after. What
/// began on such a connection later would be a savepoint in no transaction, or in one that nobody commits.
///
/// Connections stay open while they are idle: one that is opened anew takes whatever stands at the path by then.
pub(crate) fn pool_options() -> SqlitePoolOptions {
    let options = SqlitePoolOptions::new().max_connections(CONNECTIONS);
    options.idle_timeout(None).max_lifetime(None).after_release(|connection, _| {
        Box::pin(async move {
            // The rollback of a transaction that was dropped is under way; the answer to a ping comes after it.
            connection.ping().await?;
            Ok(!connection.is_in_transaction())
        })
    })
}

/// Why a database cannot be opened: what SQLite says, or that its disk is full.
fn refusal(path: &Path, source: sqlx::Error) -> DbError {
    if is_out_of_room(path, &source) {
        let (dir, free) = room_beside(path);
        return DbError::Full { dir: dir.to_owned(), free };
    }
    DbError::Open { path: path.to_owned(), source }
}

fn is_out_of_room(path: &Path, error: &sqlx::Error) -> bool {
    database::is_full(error, || room_beside(path).1)
}

/// The folder of a database, and the bytes that are free there.
fn room_beside(path: &Path) -> (&Path, u64) {
    let dir = path.parent().unwrap_or(path);
    (dir, room::free_bytes(dir).unwrap_or(u64::MAX))
}

/// Finds out whether the file is damaged, before anything is written to it.
async fn check(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(pool).await?;
    if verdict == "ok" { Ok(()) } else { Err(sqlx::Error::Decode(verdict.into())) }
}

/// What brings any version of the database up to date: the files in `migrations`, by their numbers.
pub(crate) fn migrator() -> Migrator {
    const FILES: &[(i64, &str, &str)] = &include!(concat!(env!("OUT_DIR"), "/migrations.rs"));
    let migration = |&(version, what, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, what.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(FILES.iter().map(migration).collect())
}

/// The value of a setting, which becomes `fresh` if it has none yet.
pub(crate) async fn setting_or(pool: &SqlitePool, name: &str, fresh: &[u8]) -> Result<Vec<u8>, sqlx::Error> {
    sqlx::query("INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")
        .bind(name)
        .bind(fresh)
        .execute(pool)
        .await?;
    sqlx::query_scalar("SELECT value FROM settings WHERE name = ?").bind(name).fetch_one(pool).await
}
