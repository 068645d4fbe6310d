//! Whether the database's file is still the one that the master has open.
//!
//! A file that is moved away or deleted stays open, and takes whatever is written to it: all of that would be gone with
//! this process. So changes are refused, and what the database holds is written to a file that can take its place.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::SqlitePool;

use crate::errors::ServiceError;
use crate::findings::{Finding, Findings};
use crate::limits::RESERVE_CHECK_INTERVAL;
use crate::state_dir::private;

const TOPIC: &str = "database";

/// The file that was opened.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    path: PathBuf,
    /// Device and inode.
    opened: (u64, u64),
}

impl DatabaseFile {
    /// Remembers the file that stands at `path`.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn at(path: PathBuf) -> io::Result<Self> {
        let opened = number(&path)?;
        Ok(Self { path, opened })
    }

    fn is_in_place(&self) -> bool {
        number(&self.path).is_ok_and(|found| found == self.opened)
    }

    /// Refuses changes that would be lost.
    pub(crate) fn check(&self) -> Result<(), ServiceError> {
        if self.is_in_place() {
            return Ok(());
        }
        Err(ServiceError::DatabaseGone { path: self.path.clone(), rescued: self.rescued() })
    }

    /// Where the content of a database goes whose file is gone.
    fn rescued(&self) -> PathBuf {
        self.path.with_added_extension("rescued")
    }

    /// Looks for the file now and then, for as long as it is polled.
    pub(crate) async fn run(self: Arc<Self>, pool: SqlitePool, findings: Arc<Findings>) {
        let mut is_told = false;
        loop {
            tokio::time::sleep(RESERVE_CHECK_INTERVAL).await;
            match self.check() {
                Ok(()) => {
                    findings.set(TOPIC, Vec::new());
                    is_told = false;
                }
                Err(refusal) if !is_told => {
                    let done =
                        self.rescue(&pool).await.map_or_else(|e| format!("; that failed: {e}"), |()| String::new());
                    let why = format!("{refusal}{done}");
                    tracing::error!("{why}");
                    findings.set(TOPIC, vec![Finding::failure(TOPIC, why)]);
                    is_told = true;
                }
                Err(_) => {}
            }
        }
    }

    async fn rescue(&self, pool: &SqlitePool) -> Result<(), ServiceError> {
        let rescued = self.rescued();
        // Made here for its mode: SQLite fills an empty file, and none that holds something.
        let made = private().write(true).create(true).truncate(true).open(&rescued);
        made.map_err(|source| ServiceError::Io { path: rescued.clone(), source })?;
        sqlx::query("VACUUM INTO ?").bind(rescued.to_string_lossy().into_owned()).execute(pool).await?;
        Ok(())
    }
}

fn number(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db;

    #[tokio::test]
    async fn what_a_database_holds_is_written_out_when_its_file_is_gone() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("master.db");
        let pool = db::open(&path).await.expect("opens");
        let file = DatabaseFile::at(path.clone()).expect("it is there");
        sqlx::query("INSERT INTO settings (name, value) VALUES ('x', x'01')").execute(&pool).await.expect("writes");
        file.check().expect("it is in its place");
        fs::remove_file(&path).expect("removed");
        for put in ["nothing", "another file"] {
            if put == "another file" {
                fs::write(&path, "x").expect("written");
            }
            let refused = file.check().expect_err(put);
            assert!(refused.to_string().contains("master.db.rescued"), "{refused}");
        }
        file.rescue(&pool).await.expect("writes it out");
        let rescued = dir.path().join("master.db.rescued");
        assert_eq!(fs::metadata(&rescued).expect("there").mode() & 0o777, 0o600);
        let again = db::open(&rescued).await.expect("is a database");
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM settings WHERE name = 'x'")
            .fetch_one(&again)
            .await
            .expect("reads");
        assert_eq!(count, 1);
    }
}
