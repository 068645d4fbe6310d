//! Whether the database's file is still the one that the master has open.
//!
//! A file that is moved away or deleted stays open, and takes whatever is written to it: all of that would be gone with
//! this process. So changes are refused, and what the database holds is written to a file that can take its place.

use std::fs;
use std::iter;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use sqlx::{Connection, SqliteConnection, SqlitePool};

use crate::errors::ServiceError;
use crate::findings::{Finding, Findings};
use crate::limits::RESERVE_CHECK_INTERVAL;
use crate::state_dir::{FileId, private};
use crate::sync::lock;

const TOPIC: &str = "database";

/// The file that was opened.
pub(crate) struct DatabaseFile {
    path: PathBuf,
    opened: FileId,
    /// A connection that is kept for writing out what the database holds: the pool may have none that is idle then, and
    /// one that it opens anew holds whatever stands at the path. `None` once it was closed.
    held: tokio::sync::Mutex<Option<SqliteConnection>>,
    /// Where the content of the database was written to since its file is gone.
    rescued: Mutex<Option<PathBuf>>,
}

impl DatabaseFile {
    /// Remembers the file that stands at `path`, which `pool` has just opened.
    ///
    /// # Errors
    /// There is none, or there is no connection to it.
    pub(crate) async fn open(pool: &SqlitePool, path: PathBuf) -> Result<Self, sqlx::Error> {
        let opened = FileId::at(&path)?;
        let held = pool.acquire().await?.detach();
        Ok(Self { path, opened, held: tokio::sync::Mutex::new(Some(held)), rescued: Mutex::default() })
    }

    /// Closes its connection. What belongs to the pool is closed by the pool.
    pub(crate) async fn close(&self) {
        if let Some(held) = self.held.lock().await.take()
            && let Err(error) = held.close().await
        {
            tracing::warn!(path = %self.path.display(), %error, "a connection to the database was not closed well");
        }
    }

    /// Refuses changes that would be lost.
    pub(crate) fn check(&self) -> Result<(), ServiceError> {
        if FileId::at(&self.path).is_ok_and(|found| found == self.opened) {
            return Ok(());
        }
        let remedy = match &*lock(&self.rescued) {
            Some(rescued) => format!(
                "What the database held was written to {}: if the file is lost, stop the master, and move that one to its \
                 place",
                rescued.display()
            ),
            None => "Do not stop the master before it has written out what the database held: `braidcast doctor` tells"
                .into(),
        };
        Err(ServiceError::DatabaseGone { path: self.path.clone(), remedy })
    }

    /// Looks for the file now and then, for as long as it is polled.
    pub(crate) async fn run(self: Arc<Self>, findings: Arc<Findings>) {
        loop {
            tokio::time::sleep(RESERVE_CHECK_INTERVAL).await;
            if self.check().is_ok() {
                *lock(&self.rescued) = None;
                findings.set(TOPIC, Vec::new());
                continue;
            }
            let is_done = lock(&self.rescued).is_some();
            let failed = if is_done { None } else { self.rescue().await.err() };
            if let Err(refusal) = self.check() {
                let failed = failed.map(|error| format!("; writing it out failed: {error}")).unwrap_or_default();
                let why = format!("{refusal}{failed}");
                if !is_done {
                    tracing::error!("{why}");
                }
                findings.set(TOPIC, vec![Finding::failure(TOPIC, why)]);
            }
        }
    }

    /// Writes out what the open database holds, into a file that does not exist yet.
    async fn rescue(&self) -> Result<(), ServiceError> {
        let mut held = self.held.lock().await;
        let held = held.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        let rescued = self.free_name();
        let at = |source| ServiceError::Io { path: rescued.clone(), source };
        // Made here for its mode: SQLite fills an empty file.
        private().write(true).create_new(true).open(&rescued).map_err(at)?;
        let written = sqlx::query("VACUUM INTO ?").bind(rescued.to_string_lossy().into_owned()).execute(held).await;
        if let Err(error) = written {
            let _ = fs::remove_file(&rescued);
            return Err(error.into());
        }
        *lock(&self.rescued) = Some(rescued);
        Ok(())
    }

    /// One that was written out before is kept.
    fn free_name(&self) -> PathBuf {
        let first = self.path.with_added_extension("rescued");
        let numbered = (1_u32..).map(|number| first.with_added_extension(number.to_string()));
        let mut names = iter::once(first.clone()).chain(numbered);
        names.find(|name| fs::symlink_metadata(name).is_err()).unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::db;

    #[tokio::test]
    async fn what_a_database_holds_is_written_out_when_its_file_is_gone() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("master.db");
        let pool = db::open(&path).await.expect("opens");
        let file = DatabaseFile::open(&pool, path.clone()).await.expect("it is there");
        sqlx::query("INSERT INTO settings (name, value) VALUES ('x', x'01')").execute(&pool).await.expect("writes");
        file.check().expect("it is in its place");
        fs::remove_file(&path).expect("removed");
        for put in ["nothing", "another file"] {
            if put == "another file" {
                fs::write(&path, "x").expect("written");
            }
            let refused = file.check().expect_err(put);
            assert!(refused.to_string().contains("Do not stop the master"), "{refused}");
        }
        // The pool has no idle connection: one that it opens would hold the other file, and that was once written out.
        pool.close().await;
        file.rescue().await.expect("writes it out");
        assert!(file.check().expect_err("still gone").to_string().contains("master.db.rescued"));
        let rescued = dir.path().join("master.db.rescued");
        assert_eq!(fs::metadata(&rescued).expect("there").mode() & 0o777, 0o600);
        let again = db::open(&rescued).await.expect("is a database");
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM settings WHERE name = 'x'")
            .fetch_one(&again)
            .await
            .expect("reads");
        assert_eq!(count, 1);
        file.close().await;
        assert!(file.rescue().await.is_err());
    }
}
