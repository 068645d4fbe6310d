//! The database as the stores use it: reads go to the pool, and every write through [`Database::write`], which knows
//! what to do on a full disk.

use std::sync::Arc;

use sqlx::SqlitePool;

use crate::database_file::DatabaseFile;
use crate::errors::ServiceError;
use crate::limits::{DATABASE_START_BYTES, RESERVE_BYTES};
use crate::reserve::Reserve;

/// The database of a master that runs. Clones share it.
#[derive(Clone)]
pub(crate) struct Database {
    pool: SqlitePool,
    /// `None`: a full disk is only reported.
    reserve: Option<Arc<Reserve>>,
    /// `None`: nobody looks whether the file is still there.
    file: Option<Arc<DatabaseFile>>,
}

impl From<SqlitePool> for Database {
    fn from(pool: SqlitePool) -> Self {
        Self { pool, reserve: None, file: None }
    }
}

impl Database {
    /// The database in `pool`, which may take the room of `reserve` when its disk is full, and is not changed while `file`
    /// is not in its place.
    pub(crate) fn new(pool: SqlitePool, reserve: Arc<Reserve>, file: Arc<DatabaseFile>) -> Self {
        Self { pool, reserve: Some(reserve), file: Some(file) }
    }

    /// For reading, and for the transactions within a [`Database::write`].
    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Does `work`, which changes the database in one transaction. On a full disk the reserve is given up and `work`
    /// done once more; if that does not help, the refusal names the disk.
    pub(crate) async fn write<T, E, F>(&self, work: impl Fn() -> F) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, E>>,
        ServiceError: From<E>,
    {
        self.file.as_deref().map_or(Ok(()), DatabaseFile::check)?;
        let outcome = work().await.map_err(ServiceError::from);
        let Some(reserve) = self.reserve.as_deref().filter(|reserve| met_full_disk(&outcome, reserve)) else {
            return outcome;
        };
        let outcome = if reserve.give_up() { work().await.map_err(ServiceError::from) } else { outcome };
        if met_full_disk(&outcome, reserve) {
            let (path, free) = (reserve.dir().to_owned(), reserve.free_bytes());
            return Err(ServiceError::DatabaseFull { path, needed: RESERVE_BYTES, free });
        }
        outcome
    }
}

/// Whether a write failed because the disk is full.
fn met_full_disk<T>(outcome: &Result<T, ServiceError>, reserve: &Reserve) -> bool {
    match outcome {
        Err(ServiceError::Database(error)) => is_full(error, || reserve.free_bytes()),
        _ => false,
    }
}

// Result codes of SQLite (https://www.sqlite.org/rescode.html); the lowest byte of an extended one is its kind.
const SQLITE_IOERR: u32 = 10;
const SQLITE_FULL: u32 = 13;
const SQLITE_CANTOPEN: u32 = 14;

/// Whether SQLite ran out of disk. It says so plainly when it writes, and speaks of input and output when it cannot
/// enlarge the files that it keeps beside the database.
pub(crate) fn is_full(error: &sqlx::Error, free_bytes: impl FnOnce() -> u64) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
    match code.map(|code| code & 0xff) {
        Some(SQLITE_FULL) => true,
        Some(SQLITE_IOERR | SQLITE_CANTOPEN) => free_bytes() < DATABASE_START_BYTES,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::db;

    /// A database that may not grow is what a full disk is to SQLite: it answers SQLITE_FULL.
    async fn full(dir: &tempfile::TempDir) -> SqlitePool {
        let pool = db::open(&dir.path().join("db")).await.expect("opens");
        pool.close().await;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("db"));
        let one = db::pool_options().max_connections(1);
        one.connect_with(options.pragma("max_page_count", "1")).await.expect("opens")
    }

    /// Where COMMIT fails, SQLite may have rolled back by itself. sqlx then took the transaction for open ever after, and what
    /// came later on that connection was answered and never committed.
    #[tokio::test]
    async fn a_connection_whose_transaction_ended_by_itself_is_not_used_again() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("db");
        db::open(&path).await.expect("opens").close().await;
        let options = || sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let one = db::pool_options().max_connections(1).connect_with(options()).await.expect("opens");
        let put = "INSERT INTO settings (name, value) VALUES (?, x'00')";
        let mut broken = one.begin().await.expect("begins");
        sqlx::query(put).bind("lost").execute(&mut *broken).await.expect("writes");
        sqlx::query("ROLLBACK").execute(&mut *broken).await.expect("as SQLite does on a full disk");
        broken.commit().await.expect_err("there is no transaction");
        // As a savepoint, which is what it would be, its end would leave a transaction open.
        let mut undone = one.begin().await.expect("begins");
        sqlx::query(put).bind("undone").execute(&mut *undone).await.expect("writes");
        undone.rollback().await.expect("rolls back");

        let mut good = one.begin().await.expect("begins");
        sqlx::query(put).bind("kept").execute(&mut *good).await.expect("writes");
        good.commit().await.expect("commits");
        let other = db::pool_options().connect_with(options()).await.expect("opens");
        let names: Vec<String> =
            sqlx::query_scalar("SELECT name FROM settings").fetch_all(&other).await.expect("reads");
        assert_eq!(names, ["kept"]);
        sqlx::query(put).bind("more").execute(&other).await.expect("nobody holds the lock");
    }

    async fn file(pool: &SqlitePool, dir: &tempfile::TempDir) -> Arc<DatabaseFile> {
        Arc::new(DatabaseFile::open(pool, dir.path().join("db")).await.expect("it is there"))
    }

    async fn fill(pool: &SqlitePool) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT INTO settings (name, value) VALUES ('x', zeroblob(1000000))").execute(pool).await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_write_on_a_full_disk_is_tried_once_more_in_the_reserve_and_then_refused_with_the_disk() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let pool = full(&dir).await;
        let reserve = Arc::new(Reserve::open(dir.path()));
        let database = Database::new(pool.clone(), Arc::clone(&reserve), file(&pool, &dir).await);
        let tries = Cell::new(0);
        let work = || {
            tries.set(tries.get() + 1);
            fill(database.pool())
        };
        let error = database.write(work).await.expect_err("full");
        assert!(matches!(&error, ServiceError::DatabaseFull { path, .. } if path == dir.path()), "{error}");
        assert_eq!(tries.get(), 2);
        assert!(!dir.path().join("reserve").exists() && !reserve.give_up());
    }

    #[tokio::test]
    async fn a_write_that_the_reserve_makes_room_for_succeeds_and_other_errors_leave_the_reserve() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let pool = full(&dir).await;
        let database = Database::new(pool.clone(), Arc::new(Reserve::open(dir.path())), file(&pool, &dir).await);
        let refused = database.write(async || Err::<(), _>(ServiceError::LoginsBusy)).await;
        assert!(matches!(refused, Err(ServiceError::LoginsBusy)) && dir.path().join("reserve").exists());
        let work = || async { if dir.path().join("reserve").exists() { fill(database.pool()).await } else { Ok(()) } };
        database.write(work).await.expect("the second try");
    }
}
